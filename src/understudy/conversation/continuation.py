"""Continuing a reply that broke off: what is kept of it, and how the rest is joined to it."""

INSTRUCTION = (
    "Your last message broke off. Continue it exactly where it ends: write only what follows, "
    "and repeat nothing of it."
)
_OVERLAP_LEAST, _OVERLAP_MOST = 12, 400
"""Characters that a model may repeat at the start of its continuation."""


def kept_start(text: str) -> str:
    """The text up to its last whole word: models continue with a word, not in the middle of one."""
    whole = text.rstrip()
    if whole != text or not whole or not whole[-1].isalnum():
        return text
    cut = max(whole.rfind(" "), whole.rfind("\n"))
    return text if cut <= 0 else text[: cut + 1]


def joined(start: str, rest: str) -> str:
    """Both as one text, without what the rest repeats of the start."""
    rest = rest[_repeated(start, rest) :]
    if start[-1:].isspace():
        return start + rest.lstrip()
    separated = not rest or rest[0].isspace() or not rest[0].isalnum()
    return start + rest if separated else f"{start} {rest}"


def _repeated(start: str, rest: str) -> int:
    """How many characters at the beginning of `rest` are the end of `start`."""
    ends = start.rstrip()
    for length in range(min(len(ends), len(rest), _OVERLAP_MOST), _OVERLAP_LEAST - 1, -1):
        if ends.endswith(rest[:length]):
            return length
    return 0
