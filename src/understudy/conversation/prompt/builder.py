"""Builds the prompt of one reply for each candidate, so that it fits its context.

Priority: the system text, then the current batch, then the newest history.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from understudy.conversation.inbox import Line
from understudy.conversation.lore.placement import Insert
from understudy.conversation.messages import Author, ImageRef
from understudy.conversation.prompt.persona_prompt import PersonaPrompt
from understudy.conversation.speakers import safe_name, speaker_names, spoken
from understudy.conversation.tokens import image_tokens, prompt_budget, text_tokens
from understudy.llm.messages import ChatRequest, ImagePart, Message, Part, Role, TextPart
from understudy.routing.prompt_fitting import MESSAGE_TOKENS
from understudy.routing.request import Fit, Prompt

_CURRENT_LEAST_TOKENS = 64
_CUT_MARK = "\n[…]\n"
_PART_SHARE = 0.03
_PART_LEAST_TOKENS = 32
"""The oldest message is cut rather than dropped where this much of the room would stay empty."""


@dataclass(frozen=True, slots=True)
class Depicted:
    """Images as one candidate can take them."""

    parts: tuple[Part, ...]
    degraded: bool = False
    """Whether an image of the current batch had to be put into words."""


Depict = Callable[[Sequence[ImageRef], Fit, bool], Depicted]
"""(images of one message, candidate, whether the message is being answered now)"""


def in_words(images: Sequence[ImageRef], _fit: Fit, _current: bool) -> Depicted:  # noqa: FBT001
    """Every image as a placeholder, for a bot without vision."""
    return Depicted(tuple(TextPart(f"[image: {safe_name(image.name)}]") for image in images))


@dataclass(frozen=True, slots=True)
class PromptSource:
    """All that a prompt is made of."""

    stage: Callable[[Fit], PersonaPrompt]
    """Everything but the conversation, for one candidate."""
    bot_name: str
    lines: tuple[Line, ...]
    """In order; the last one is being answered."""
    current: frozenset[int]
    """The `seq`s of the lines that are being answered."""
    shared: bool
    """Whether several people can speak here, so that lines need names."""
    most_tokens: int
    depict: Depict = in_words
    opening: frozenset[int] = frozenset()
    """The `seq`s of the lines that are kept before the newest history."""

    @property
    def authors(self) -> tuple[Author, ...]:
        return tuple(line.author for line in self.lines if line.role == "user")


@dataclass(frozen=True, slots=True)
class _Turn:
    role: Role
    parts: tuple[Part, ...]
    tokens: int
    images: int
    image_tokens: int
    degraded: bool


def build_prompt(source: PromptSource, fit: Fit) -> Prompt:
    """The request for one candidate, with its estimated cost."""
    staging = source.stage(fit)
    inserts = tuple((insert.depth, _inserted(insert, fit)) for insert in staging.inserts)
    last = [_said("user", f"[{staging.last}]", fit)] if staging.last else []
    system = _said("system", staging.system, fit)
    fixed = [system, *last, *(turn for _, turn in inserts)]
    room = prompt_budget(fit, source.most_tokens) - sum(turn.tokens for turn in fixed)
    turns, trimmed = _turns(source, fit, max(room, _CURRENT_LEAST_TOKENS))
    room -= sum(turn.tokens for turn in turns)
    system, examples = _with_examples(system, staging.examples, fit, room)
    said = [system, *_among(turns, inserts), *last]
    return Prompt(
        request=ChatRequest(messages=tuple(_merged(said))),
        input_tokens=sum(turn.tokens for turn in said),
        images=sum(turn.images for turn in turns),
        degraded=("images",) if any(turn.degraded for turn in turns) else (),
        trimmed=trimmed or examples < len(staging.examples),
        image_tokens=sum(turn.image_tokens for turn in turns),
    )


def _said(role: Role, text: str, fit: Fit) -> _Turn:
    return _measured(role, (TextPart(text),), fit, degraded=False)


def _inserted(insert: Insert, fit: Fit) -> _Turn:
    """Many chat templates refuse a system message in the middle: it goes in brackets."""
    if insert.role == "system":
        return _said("user", f"[{insert.text}]", fit)
    return _said(insert.role, insert.text, fit)


def _among(turns: Sequence[_Turn], inserts: Sequence[tuple[int, _Turn]]) -> list[_Turn]:
    """The turns with each insert at its depth, at the start if deeper than the history."""
    placed = list(turns)
    for depth, insert in sorted(inserts, key=lambda item: -item[0]):
        placed.insert(max(0, len(turns) - depth) + len(placed) - len(turns), insert)
    return placed


def _with_examples(
    system: _Turn, examples: Sequence[str], fit: Fit, room: int
) -> tuple[_Turn, int]:
    """Add as many whole blocks of example dialogue as there is room for; return their number."""
    text = "".join(part.text for part in system.parts if isinstance(part, TextPart))
    added = 0
    for example in examples:
        block = f"\n\nExample dialogue:\n{example}"
        room -= text_tokens(block, fit.tokens_per_char)
        if room < 0:
            break
        text += block
        added += 1
    return _said("system", text, fit), added


def _turns(source: PromptSource, fit: Fit, room: int) -> tuple[list[_Turn], bool]:
    """Select what is being answered, and as much of the newest history as there is room for.

    Also returns whether anything was left out or cut.
    """
    names = speaker_names(source.authors, source.bot_name) if source.shared else {}
    turns = {line.seq: _turn(line, source, fit, names) for line in source.lines}
    kept = {seq: turns[seq] for seq in source.current if seq in turns}
    left = room - sum(turn.tokens for turn in kept.values())
    if left < 0:
        return _shortened([kept[seq] for seq in turns if seq in kept], fit, room), True
    for line in source.lines:
        if line.seq in source.opening and turns[line.seq].tokens <= left // 2:
            kept[line.seq] = turns[line.seq]
            left -= turns[line.seq].tokens
    trimmed = False
    for line in reversed(source.lines):
        turn = turns[line.seq]
        if line.seq in kept:
            continue
        if turn.tokens > left:
            trimmed = True
            if turn.role == "user" and left >= max(_PART_LEAST_TOKENS, room * _PART_SHARE):
                kept[line.seq] = _cut_turn(turn, fit, left)
            break
        left -= turn.tokens
        kept[line.seq] = turn
    ordered = [kept[line.seq] for line in source.lines if line.seq in kept]
    # Some chat templates refuse a conversation that the assistant begins.
    start = next(i for i, turn in enumerate(ordered) if turn.role == "user")
    return ordered[start:], trimmed


def _turn(line: Line, source: PromptSource, fit: Fit, names: dict[str, str]) -> _Turn:
    text = line.text
    if line.role == "user" and source.shared:
        text = spoken(names[line.author.id], line.text)
    shown = Depicted(())
    if line.images:
        shown = source.depict(line.images, fit, line.seq in source.current)
    return _measured(line.role, (TextPart(text), *shown.parts), fit, degraded=shown.degraded)


def _measured(role: Role, parts: tuple[Part, ...], fit: Fit, *, degraded: bool) -> _Turn:
    images = [part for part in parts if isinstance(part, ImagePart)]
    seen = sum(image_tokens(image.width, image.height, fit.model) for image in images)
    words = sum(text_tokens(p.text, fit.tokens_per_char) for p in parts if isinstance(p, TextPart))
    return _Turn(role, parts, words + seen + MESSAGE_TOKENS, len(images), seen, degraded)


def _shortened(turns: Sequence[_Turn], fit: Fit, room: int) -> list[_Turn]:
    """Too long by itself: the newest messages that fit whole, and of the next one its two ends."""
    kept: list[_Turn] = []
    for turn in reversed(turns):
        if turn.tokens > room:
            if room > MESSAGE_TOKENS + _CURRENT_LEAST_TOKENS // 2:
                kept.append(_cut_turn(turn, fit, room))
            break
        kept.append(turn)
        room -= turn.tokens
    return kept[::-1]


def _cut_turn(turn: _Turn, fit: Fit, room: int) -> _Turn:
    pictures = tuple(part for part in turn.parts if isinstance(part, ImagePart))
    text = "\n".join(part.text for part in turn.parts if isinstance(part, TextPart))
    seen = sum(image_tokens(picture.width, picture.height, fit.model) for picture in pictures)
    spare = room - MESSAGE_TOKENS - seen
    if spare < _CURRENT_LEAST_TOKENS // 2:
        cut = TextPart(_two_ends(text, fit, room - MESSAGE_TOKENS))
        return _measured(turn.role, (cut,), fit, degraded=bool(pictures))
    cut = TextPart(_two_ends(text, fit, spare))
    return _measured(turn.role, (cut, *pictures), fit, degraded=turn.degraded)


def _two_ends(text: str, fit: Fit, tokens: int) -> str:
    if text_tokens(text, fit.tokens_per_char) <= tokens:
        return text
    spare = tokens - text_tokens(_CUT_MARK, fit.tokens_per_char)
    keep = len(text)
    while keep > 1:
        head, tail = text[: keep // 2], text[len(text) - keep // 2 :]
        if text_tokens(head, fit.tokens_per_char) + text_tokens(tail, fit.tokens_per_char) < spare:
            return f"{head}{_CUT_MARK}{tail}"
        keep = keep * 9 // 10
    return _CUT_MARK


def _merged(turns: Sequence[_Turn]) -> list[Message]:
    """Neighbours of one role in one message: many chat templates insist on taking turns."""
    messages: list[Message] = []
    for turn in turns:
        if messages and messages[-1].role == turn.role:
            parts = (*messages.pop().parts, TextPart("\n"), *turn.parts)
        else:
            parts = turn.parts
        messages.append(Message(turn.role, _joined(parts)))
    return messages


def _joined(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Neighbouring texts as one part, because many servers take only one."""
    joined: list[Part] = []
    for part in parts:
        if isinstance(part, TextPart) and joined and isinstance(joined[-1], TextPart):
            before = joined.pop()
            assert isinstance(before, TextPart)
            gap = "" if before.text.endswith("\n") or part.text.startswith("\n") else " "
            joined.append(TextPart(before.text + gap + part.text))
        else:
            joined.append(part)
    return tuple(joined)
