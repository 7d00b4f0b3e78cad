"""Keys of personas: derived from names in any script, and unique in a folder."""

import re
import unicodedata
from collections.abc import Collection

_MAX_CHARS = 40
_RESERVED = frozenset(
    ("con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10)))
)
"""Windows opens a device for these names, whatever ending follows."""


def key_of(name: str) -> str:
    """The key for a name: its letters and digits of all scripts, or the names of its symbols."""
    words = "".join(c if _is_part_of_word(c) else " " for c in _normalized(name)).split()
    if not words:
        symbols = " ".join(unicodedata.name(c, "") for c in name if _is_symbol(c))
        words = re.sub(r"[^a-z0-9]+", " ", symbols.lower()).split()
    key = "-".join(words)[:_MAX_CHARS].strip("-") or "persona"
    return f"{key}-persona" if key in _RESERVED else key


def is_valid_key(key: str) -> bool:
    """Whether a key that a person has chosen can be a file name."""
    fits = 0 < len(key) <= _MAX_CHARS and _normalized(key) not in _RESERVED
    return fits and all(_is_part_of_word(c) or c in "_-" for c in key)


def free_key(key: str, taken: Collection[str]) -> str:
    """The key itself, or with the first number that makes it unique, regardless of case."""
    folded = {_normalized(other) for other in taken}
    candidates = (key if n == 1 else f"{key}-{n}" for n in range(1, len(folded) + 2))
    return next(k for k in candidates if _normalized(k) not in folded)


def same_key(one: str, other: str) -> bool:
    """Some file systems compare names regardless of case and normalisation."""
    return _normalized(one) == _normalized(other)


def _normalized(text: str) -> str:
    return unicodedata.normalize("NFC", unicodedata.normalize("NFKC", text).casefold())


def _is_part_of_word(character: str) -> bool:
    # Marks (M) are vowels in Hindi and Thai.
    return unicodedata.category(character)[0] in "LNM"


def _is_symbol(character: str) -> bool:
    return unicodedata.category(character) in ("So", "Sm", "Sk")
