"""Finds words in texts of any script: for lore keys, for the bot's name, and for search.

Text and key are compared normalised (`normalized`). Where a word begins and ends depends on the
script of the key's first and last character:

| script | start of the key | end of the key |
|---|---|---|
| alphabets (Latin, Cyrillic, Greek, Devanagari, …) and digits | start of a word | end of a word |
| Hangul | start of a word | anywhere: particles follow |
| Han, kana, Thai, Lao, Khmer, Myanmar | anywhere, never inside a character | the same |
| Hebrew, Arabic | start of a word, or after its usual prefixes | end of a word |
| others (symbols, emoji) | anywhere | anywhere |

A character of another row does not continue a word: `Alice` is found in `今天Alice来了`.
UAX #29 alone does not do: it has no boundaries inside Korean, Chinese and Thai phrases.
"""

import unicodedata
from enum import Enum
from functools import lru_cache
from itertools import pairwise

import regex

_SPACELESS = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}\u30fc"
_ALPHABET = regex.compile(
    rf"[[\p{{L}}\p{{N}}\p{{M}}]--[{_SPACELESS}\p{{Hangul}}\p{{Hebrew}}\p{{Arabic}}]]", regex.V1
)
_WORD = regex.compile(rf"{_ALPHABET.pattern}+(?:_+{_ALPHABET.pattern}+)*", regex.V1)
_IN_SCRIPT = {
    name: regex.compile(pattern)
    for name, pattern in (
        ("spaceless", f"[{_SPACELESS}]"),
        ("hangul", r"\p{Hangul}"),
        ("hebrew", r"\p{Hebrew}"),
        ("arabic", r"\p{Arabic}"),
    )
}
# Conjunctions, prepositions and articles that are written together with the word.
_HEBREW_PREFIXES = regex.compile(r"[והבכלמש]{1,4}")
_ARABIC_PREFIXES = regex.compile(r"[وف]?(?:لل|[بكلس]?(?:ال)?)")
_QUOTES = {"‘": "'", "’": "'", "ʼ": "'", "‚": "'", "“": '"', "”": '"', "„": '"', "«": '"', "»": '"'}
# Zero-width characters, soft hyphens, variation selectors; vowel signs of Hebrew and Arabic, which
# most texts leave out, and the Arabic tatweel.
_REMOVED = (
    [0x00AD, 0x034F, 0x0640, 0x0670, 0x2060, 0xFE0E, 0xFE0F, 0xFEFF]
    + [*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x064B, 0x0653)]
    + [code for code in range(0x0591, 0x05C8) if unicodedata.category(chr(code)) == "Mn"]
)
_REPLACED: dict[int, str | None] = {
    **dict.fromkeys(_REMOVED),
    **{ord(typographic): plain for typographic, plain in _QUOTES.items()},
}


_MAX_PREFIX = 4
_MAX_WORD = 64
_CHARACTER = regex.compile(r".\p{M}*", regex.DOTALL)
_RUN = regex.compile(
    rf"{_WORD.pattern}|(?:[{_SPACELESS}]\p{{M}}*)+|(?:\p{{Hangul}}\p{{M}}*)+"
    r"|(?:\p{Hebrew}\p{M}*)+|(?:\p{Arabic}\p{M}*)+|[\p{So}\p{Sk}--[\x00-\x7f]]",
    regex.V1,
)


class _Kind(Enum):
    ALPHABET = "alphabet"
    HANGUL = "hangul"
    SPACELESS = "spaceless"
    HEBREW = "hebrew"
    ARABIC = "arabic"
    OTHER = "other"


def normalized(text: str, *, fold: bool = True) -> str:
    """The text as it is compared: NFKC, plain quotes, without invisible characters, white space
    as single spaces; `fold` ignores case."""
    if not text.isascii():
        text = unicodedata.normalize("NFKC", text).translate(_REPLACED)
    if fold:
        text = (
            unicodedata.normalize("NFKC", text.casefold()) if not text.isascii() else text.lower()
        )
    return " ".join(text.split())


def words_in(text: str) -> frozenset[str]:
    """The alphabetic words of a normalised text."""
    return frozenset(_WORD.findall(text))


def is_alphabetic_word(key: str) -> bool:
    """Whether a normalised key occurs in a text exactly when it is one of `words_in`."""
    return _WORD.fullmatch(key) is not None


def search_words(text: str) -> frozenset[str]:
    """The words under which full-text search finds a text of any script.

    Alphabets: whole words. Han, kana, Hangul, Thai and the like: every character, and every two
    neighbours, because their words have no boundaries. Hebrew and Arabic: words with and without
    the prefixes that are written together with them. Symbols and emoji: each one.
    """
    found: set[str] = set()
    for run in _RUN.finditer(normalized(text)):
        found.update(_words_of_run(run[0]))
    return frozenset(word[:_MAX_WORD] for word in found)


def _words_of_run(run: str) -> list[str]:
    kind = _kind(run[0])
    if kind in (_Kind.SPACELESS, _Kind.HANGUL):
        characters = _CHARACTER.findall(run)
        pairs = [a + b for a, b in pairwise(characters)]
        return characters + pairs
    if kind in (_Kind.HEBREW, _Kind.ARABIC):
        prefixes = _HEBREW_PREFIXES if kind is _Kind.HEBREW else _ARABIC_PREFIXES
        begins = range(1, min(len(run) - 1, _MAX_PREFIX + 1))
        return [run, *(run[i:] for i in begins if prefixes.fullmatch(run, 0, i))]
    return [run]


def has_word(text: str, key: str) -> bool:
    """Whether the key occurs as a word; both normalised."""
    if not key:
        return False
    at = text.find(key)
    while at >= 0:
        if _starts_word(text, at) and _ends_word(text, at + len(key)):
            return True
        at = text.find(key, at + 1)
    return False


def _starts_word(text: str, at: int) -> bool:
    kind = _kind(text[at])
    if kind in (_Kind.ALPHABET, _Kind.HANGUL):
        return not _continues(text, at - 1, -1, kind)
    if kind in (_Kind.HEBREW, _Kind.ARABIC):
        begin = at
        while begin > 0 and _kind(text[begin - 1]) is kind:
            begin -= 1
        prefixes = _HEBREW_PREFIXES if kind is _Kind.HEBREW else _ARABIC_PREFIXES
        return begin == at or prefixes.fullmatch(text, begin, at) is not None
    return True


def _ends_word(text: str, end: int) -> bool:
    kind = _kind(text[end - 1])
    if kind in (_Kind.ALPHABET, _Kind.HEBREW, _Kind.ARABIC):
        return not _continues(text, end, 1, kind)
    if kind is _Kind.SPACELESS and end < len(text):
        # A vowel sign or tone mark is part of the character before it.
        return not unicodedata.category(text[end]).startswith("M")
    return True


def _continues(text: str, at: int, step: int, kind: _Kind) -> bool:
    """Whether the word goes on at this place; underscores do so only between letters."""
    while 0 <= at < len(text) and text[at] == "_":
        at += step
    return 0 <= at < len(text) and _kind(text[at]) is kind


@lru_cache(maxsize=4096)
def _kind(character: str) -> _Kind:
    if _ALPHABET.match(character):
        return _Kind.ALPHABET
    for name, pattern in _IN_SCRIPT.items():
        if pattern.match(character):
            return _Kind(name)
    return _Kind.OTHER
