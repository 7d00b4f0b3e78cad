"""Recall: which earlier lines match what is asked.

A word counts the more, the fewer lines of the channel have it; one that very many have counts
nothing, so that no list of common words of any language is needed.
"""

import math
from collections.abc import Iterable, Sequence

from understudy.conversation.words import search_words
from understudy.memory.store import COMMON, Found

_MOST_WORDS = 8
_MOST_EXCERPTS = 8
_WEAKEST = 0.5
"""Of the best line's score."""


def words_to_find(texts: Iterable[str]) -> tuple[str, ...]:
    """The longest words of what is asked: they tell most."""
    words = {word for text in texts for word in search_words(text)}
    # Single characters of Han and the like are parts of the pairs that are found too.
    longer = {word for word in words if len(word) > 1} or words
    return tuple(sorted(longer, key=lambda word: (-len(word), word))[:_MOST_WORDS])


def best_lines(found: Sequence[Found], known: Iterable[int]) -> tuple[int, ...]:
    """The `seq`s of the lines with the highest scores, best first; without the `known` ones."""
    left_out = set(known)
    scores: dict[int, float] = {}
    for one in found:
        weight = math.log(COMMON / max(1, len(one.seqs)))
        for seq in one.seqs:
            if seq not in left_out:
                scores[seq] = scores.get(seq, 0.0) + weight
    best = max(scores.values(), default=0.0)
    if best <= 0:
        return ()
    good = [seq for seq, score in scores.items() if score >= best * _WEAKEST]
    good.sort(key=lambda seq: (-scores[seq], -seq))
    return tuple(good[:_MOST_EXCERPTS])
