"""Speaker names in transcripts, protected against impersonation.

In a channel with several people a message becomes `Name: text`. Only the first line of a message
starts at the left margin; further lines are indented, so a line break cannot imitate a speaker.
"""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping

from understudy.conversation.messages import Author

_NAME_CHARS = 32
_ROLE_WORDS = {"system", "assistant", "user", "developer", "tool", "human", "ai", "bot", "model"}
_INDENT = "  "
QUOTE = "[replying to "
QUOTE_END = '"]\n'
"""A stored message that begins with QUOTE quotes what it replies to, up to the first QUOTE_END."""


def safe_name(name: str) -> str:
    """A display name on one line, without colons, control or invisible characters."""
    normalized = unicodedata.normalize("NFKC", name)
    visible = "".join(c if _visible(c) else " " for c in normalized).replace(":", " ")
    return " ".join(visible.split())[:_NAME_CHARS].strip() or "Someone"


def speaker_names(authors: Iterable[Author], bot_name: str) -> dict[str, str]:
    """Author id → name in the transcript. A name that is not unique, is the bot's or a role of the
    chat format, or contains `#` gets a suffix derived from the id, which is stable."""
    names: dict[str, str] = {}
    ids_by_name: dict[str, set[str]] = {}
    for author in authors:
        names[author.id] = safe_name(author.name)
        ids_by_name.setdefault(_folded(names[author.id]), set()).add(author.id)
    reserved = _ROLE_WORDS | {_folded(bot_name)}
    return {
        author_id: f"{name}#{_mark(author_id)}"
        if _folded(name) in reserved or "#" in name or len(ids_by_name[_folded(name)]) > 1
        else name
        for author_id, name in names.items()
    }


def spoken(name: str, text: str) -> str:
    """One message of the transcript."""
    return f"{name}: {indented(text)}"


def indented(text: str) -> str:
    return f"\n{_INDENT}".join(text.splitlines())


def quoting(name: str, words: str) -> str:
    """The lines above a message that replies to another one."""
    inside = words.replace('"]', '" ]')
    return f'{QUOTE}{name}: "{inside}"]'


def unquoted(text: str) -> str:
    """A message without its quotation."""
    _, end, own = text.partition(QUOTE_END)
    return own if end and text.startswith(QUOTE) else text


def own_text(text: str, bot_name: str, names: Mapping[str, str]) -> str:
    """The bot's own part of a model's output: without its name in front, and cut where the model
    writes a turn of another speaker."""
    words = re.sub(rf"\A\s*{re.escape(bot_name)}\s*:\s*", "", text, flags=re.IGNORECASE)
    return words[: _turn_of_another(words, bot_name, names.values())].rstrip()


def is_cut(text: str, bot_name: str, names: Mapping[str, str]) -> bool:
    """Whether `own_text` leaves out a turn of another speaker."""
    words = re.sub(rf"\A\s*{re.escape(bot_name)}\s*:\s*", "", text, flags=re.IGNORECASE)
    return _turn_of_another(words, bot_name, names.values()) < len(words)


_LABEL = re.compile(r"([^\s:*#>|`~-][^:\n]{0,40}?) ?:(?=\s|\Z)(.*)")
_FENCE = re.compile(r"\s{0,3}(`{3,}|~{3,})")
_SENTENCE_ENDS = (".", "!", "?", "…", "。", "！", "？", '"', "”", "*")
_PROSE_WORDS = 4


def _turn_of_another(text: str, bot_name: str, names: Iterable[str]) -> int:
    """Where a turn of another speaker begins, or the length of the text.

    A turn begins with `Name: ` and prose, at the left margin, after the first line. A labelled line
    is no turn in code, in a list that a line ending with a colon announces, and among other labels
    (`Step 2:`) that are no speakers.
    """
    speakers = {name.casefold() for name in names}
    if not speakers:
        return len(text)
    fence, at, previous = "", 0, ""
    listed = _has_other_labels(text, speakers | {bot_name.casefold()})
    for number, line in enumerate(text.splitlines(keepends=True)):
        label = _LABEL.match(line)
        if (marker := _FENCE.match(line)) and (not fence or marker[1].startswith(fence)):
            fence = "" if fence else marker[1]
        elif (
            number and not (fence or listed or previous.endswith(":")) and _is_turn(label, speakers)
        ):
            return at
        at, previous = at + len(line), line.strip() or previous
    return len(text)


def _is_turn(label: re.Match[str] | None, speakers: set[str]) -> bool:
    return label is not None and label[1].casefold() in speakers and _is_prose(label[2])


def _has_other_labels(text: str, speakers: set[str]) -> bool:
    labels = (_LABEL.match(line) for line in text.splitlines()[1:])
    return any(label and label[1].casefold() not in speakers for label in labels)


def _is_prose(text: str) -> bool:
    words = text.split()
    return len(words) >= _PROSE_WORDS or text.rstrip().endswith(_SENTENCE_ENDS)


def _folded(name: str) -> str:
    return name.casefold()


def _mark(author_id: str) -> str:
    return hashlib.blake2s(author_id.encode(), digest_size=2).hexdigest()


def _visible(character: str) -> bool:
    # C: control, format and surrogates; Z: separators, line separators among them.
    return unicodedata.category(character)[0] not in "CZ"
