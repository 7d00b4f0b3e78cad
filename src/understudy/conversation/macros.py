"""`{{macros}}` in the texts of cards and lorebooks.

They are expanded in those texts only, once; the result is not expanded again, so a display name or
a message that looks like a macro stays unchanged.
"""

import hashlib
import re
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from random import Random

import structlog

_MAX_DEPTH = 10
_MAX_INPUT = 256 * 1024
_MAX_OUTPUT = 64 * 1024
_TOKEN = re.compile(r"\\\{\\\{|\\\}\\\}|\{\{|\}\}|<(?:user|bot|char)>", re.IGNORECASE)
_TRIM = "\x00"
_TRIMMED = re.compile(r"\s*\x00\s*")
_ANGLED = {"<user>": "user", "<bot>": "char", "<char>": "char"}
_LEGACY = re.compile(r"\s*([A-Za-z_]+)\s*(?:::|[:\s])(.*)\Z", re.DOTALL)
_NAME = re.compile(r"\s*([A-Za-z_]+)\s*\Z")
_HIDDEN = re.compile(r"\{\{\s*hidden_key\s*:{1,2}([^{}]*)\}\}", re.IGNORECASE)
_DICE = re.compile(r"\s*(\d{0,3})d?(\d{1,6})\s*([+-]\s*\d{1,6})?\s*\Z", re.IGNORECASE)
_UTC = re.compile(r"\s*time_utc\s*([+-]\s*\d{1,2}(?::?\d{2})?)\s*\Z", re.IGNORECASE)
_MAX_VARIABLES = 200
_MAX_VARIABLE = 10_000
_DROPPED = {"input", "ismobile", "charprefix", "banned", "lastswipeid", "currentswipeid"}


@dataclass(frozen=True, slots=True)
class MacroScene:
    """The values that macros can insert."""

    values: Mapping[str, str]
    """By lower-case name: `char`, `user`, `description`, `lastmessage`, …"""
    now: datetime
    """With its time zone."""
    random: Random
    """One per reply."""
    seed: str
    """Of the conversation: `{{pick}}` chooses the same value every time."""
    outlets: Mapping[str, str] = field(default_factory=dict)
    greetings: Sequence[str] = ()
    variables: MutableMapping[str, str] = field(default_factory=dict)
    """Of the conversation: written by `setvar`, read by `getvar`."""


class _Frame:
    """An open `{{`: its start and the parts collected since."""

    __slots__ = ("_room", "parts", "start")

    def __init__(self, start: int) -> None:
        self.start = start
        self.parts: list[tuple[str, bool]] = []
        """(text, whether it is literal)"""
        self._room = _MAX_OUTPUT

    def add(self, text: str, *, literal: bool) -> None:
        """Truncates at the output limit here and not at the end: a card of some kilobytes may name
        a long text of its own thousands of times."""
        self.parts.append((text[: self._room], literal))
        self._room = max(0, self._room - len(text))


def expand(text: str, scene: MacroScene) -> str:
    """`text` with its macros replaced, inner ones first; unknown ones stay as they are."""
    if len(text) > _MAX_INPUT or not _TOKEN.search(text):
        return text
    frames = [_Frame(0)]
    at = 0
    for token in _TOKEN.finditer(text):
        if token.start() > at:
            frames[-1].add(text[at : token.start()], literal=True)
        at = token.end()
        _process_token(token[0], token.start(), text, frames, scene)
    frames[-1].add(text[at:], literal=True)
    while len(frames) > 1:  # opened and never closed: plain text
        unclosed = frames.pop()
        for part, literal in (("{{", True), *unclosed.parts):
            frames[-1].add(part, literal=literal)
    joined = "".join(part for part, _ in frames[0].parts)
    return _TRIMMED.sub("", joined)


def hidden_keys(text: str) -> str:
    """The texts of `{{hidden_key: …}}`: not in prompts, but scanned for lore keys."""
    return " ".join(match[1].strip() for match in _HIDDEN.finditer(text[:_MAX_INPUT]))


def plain(value: str) -> str:
    """A name made safe for texts that may be expanded: one line, no braces."""
    return " ".join(value.replace("{{", "").replace("}}", "").replace(_TRIM, "").split())


def _process_token(
    token: str, start: int, text: str, frames: list[_Frame], scene: MacroScene
) -> None:
    top = frames[-1]
    if token == "{{":
        if len(frames) > _MAX_DEPTH:
            top.add(token, literal=True)
        else:
            frames.append(_Frame(start))
    elif token == "}}":
        if len(frames) == 1:
            top.add(token, literal=True)
        else:
            frames.pop()
            raw = text[top.start : start + 2]
            frames[-1].add(_evaluate(top, raw, scene), literal=False)
    elif token.startswith("\\"):
        top.add(token.replace("\\", ""), literal=False)
    else:
        top.add(scene.values.get(_ANGLED[token.lower()], token), literal=False)


def _evaluate(frame: _Frame, raw: str, scene: MacroScene) -> str:
    name, arguments = _parse(frame)
    if name == "//":
        return ""
    known = scene.values.get(name)
    if known is not None and not arguments:
        return known.replace(_TRIM, "")
    function = _FUNCTIONS.get(name)
    if function is None:
        if _is_dropped(name):
            return ""
        _report_unknown(name)
        return raw
    try:
        return function(scene, arguments, raw)
    except (ValueError, IndexError, OverflowError):
        return raw


@lru_cache(maxsize=1000)
def _report_unknown(name: str) -> None:
    """Once per name."""
    if name:
        structlog.get_logger().info("macro.unknown", macro=name[:40])


def _is_dropped(name: str) -> bool:
    return name in _DROPPED or name.startswith("instruct")


def _parse(frame: _Frame) -> tuple[str, list[str]]:
    """The macro's lower-case name and its arguments. Only literal separators count: an inserted
    value that contains `::` is one argument."""
    pieces = [""]
    for part, literal in frame.parts:
        first, *rest = part.split("::") if literal else [part]
        pieces[-1] += first
        pieces += rest
    if pieces[0].lstrip().startswith("//"):
        return "//", []
    if zone := _UTC.match(pieces[0]):
        return "time", [zone[1]]
    name = _NAME.match(pieces[0])
    if name is not None:
        return name[1].lower(), [piece.strip() for piece in pieces[1:]]
    legacy = _LEGACY.match("::".join(pieces))
    return (legacy[1].lower(), [legacy[2].strip()]) if legacy else ("", [])


_Function = Callable[[MacroScene, list[str], str], str]


def _choices(arguments: list[str]) -> list[str]:
    if len(arguments) > 1:
        return arguments
    hidden = arguments[0].replace("\\,", "\x01")
    return [choice.strip().replace("\x01", ",") for choice in hidden.split(",")]


def _random(scene: MacroScene, arguments: list[str], _raw: str) -> str:
    return scene.random.choice(_choices(arguments))


def _pick(scene: MacroScene, arguments: list[str], raw: str) -> str:
    digest = hashlib.sha256(f"{scene.seed}\n{raw}".encode()).digest()
    choices = _choices(arguments)
    return choices[int.from_bytes(digest[:8]) % len(choices)]


def _roll(scene: MacroScene, arguments: list[str], _raw: str) -> str:
    dice = _DICE.match(arguments[0])
    if dice is None:
        raise ValueError("no dice")
    count, sides = int(dice[1] or 1), int(dice[2])
    if "d" not in arguments[0].lower():  # `{{roll:6}}` is one die of six sides
        count, sides = 1, int(arguments[0])
    bonus = int((dice[3] or "0").replace(" ", ""))
    return str(sum(scene.random.randint(1, sides) for _ in range(count)) + bonus)


def _time(scene: MacroScene, arguments: list[str], _raw: str) -> str:
    return _zoned(scene.now, arguments).strftime("%H:%M")


def _zoned(now: datetime, arguments: list[str]) -> datetime:
    if not arguments:
        return now
    offset = arguments[0].upper().removeprefix("UTC").replace("_", "").replace(" ", "")
    hours, _, minutes = offset.partition(":")
    signed = timedelta(hours=float(hours or 0))
    spare = timedelta(minutes=int(minutes or 0))
    return now.astimezone(timezone(signed - spare if hours.startswith("-") else signed + spare))


# Format tokens of moment.js, which cards use; longest first. Text in brackets is literal.
_MOMENT: dict[str, Callable[[datetime], str]] = {
    "YYYY": lambda now: f"{now:%Y}",
    "MMMM": lambda now: f"{now:%B}",
    "dddd": lambda now: f"{now:%A}",
    "MMM": lambda now: f"{now:%b}",
    "ddd": lambda now: f"{now:%a}",
    "YY": lambda now: f"{now:%y}",
    "MM": lambda now: f"{now:%m}",
    "DD": lambda now: f"{now:%d}",
    "Do": lambda now: _ordinal(now.day),
    "HH": lambda now: f"{now:%H}",
    "hh": lambda now: f"{now:%I}",
    "mm": lambda now: f"{now:%M}",
    "ss": lambda now: f"{now:%S}",
    "M": lambda now: str(now.month),
    "D": lambda now: str(now.day),
    "H": lambda now: str(now.hour),
    "h": lambda now: str(now.hour % 12 or 12),
    "A": lambda now: f"{now:%p}",
    "a": lambda now: f"{now:%p}".lower(),
}
_MOMENT_TOKEN = re.compile(rf"\[([^\]]*)\]|{'|'.join(_MOMENT)}")


def _ordinal(day: int) -> str:
    ending = "th" if 10 < day < 14 else {1: "st", 2: "nd", 3: "rd"}.get(day % 10, "th")
    return f"{day}{ending}"


def _datetime_format(scene: MacroScene, arguments: list[str], _raw: str) -> str:
    def formatted(token: re.Match[str]) -> str:
        return _MOMENT[token[0]](scene.now) if token[1] is None else token[1]

    return _MOMENT_TOKEN.sub(formatted, "::".join(arguments))


def duration_in_words(seconds: float) -> str:
    """As moment.js says it: `a few seconds`, `5 minutes`, `an hour`."""
    if seconds < 45:
        return "a few seconds"
    for size, one, many in _UNITS:
        count = round(seconds / size)
        if count <= 1:
            return one
        if many == "days" or count * size < _LIMITS[many]:
            return f"{count} {many}"
    raise AssertionError("days have no limit")


_UNITS = ((60, "a minute", "minutes"), (3600, "an hour", "hours"), (86_400, "a day", "days"))
_LIMITS = {"minutes": 45 * 60, "hours": 22 * 3600}


def _set_variable(scene: MacroScene, arguments: list[str], _raw: str) -> str:
    name, value = arguments[0], "::".join(arguments[1:])
    if name in scene.variables or len(scene.variables) < _MAX_VARIABLES:
        scene.variables[name] = value[:_MAX_VARIABLE]
    return ""


def _greeting(scene: MacroScene, arguments: list[str], _raw: str) -> str:
    return scene.greetings[int(arguments[0]) if arguments else 0]


_FUNCTIONS: dict[str, _Function] = {
    "newline": lambda *_: "\n",
    "space": lambda *_: " ",
    "noop": lambda *_: "",
    "trim": lambda *_: _TRIM,
    "comment": lambda *_: "",
    "hidden_key": lambda *_: "",
    "time": _time,
    "date": lambda scene, *_: scene.now.strftime("%B %d, %Y").replace(" 0", " "),
    "weekday": lambda scene, *_: scene.now.strftime("%A"),
    "isotime": lambda scene, *_: scene.now.strftime("%H:%M"),
    "isodate": lambda scene, *_: scene.now.strftime("%Y-%m-%d"),
    "datetimeformat": _datetime_format,
    "random": _random,
    "pick": _pick,
    "roll": _roll,
    "reverse": lambda _, arguments, __: "::".join(arguments)[::-1],
    "outlet": lambda scene, arguments, _: scene.outlets.get(arguments[0], ""),
    "charfirstmessage": _greeting,
    "setvar": _set_variable,
    "getvar": lambda scene, arguments, _: scene.variables.get(arguments[0], ""),
}
