"""Builds the prompt of one reply for each candidate, so that it fits its context.

What it keeps, in this order: the guard and the persona, what is being answered, notes, the recent
history, lore, excerpts of earlier messages, the summary, older history, examples of the persona.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from understudy.conversation.continuation import INSTRUCTION
from understudy.conversation.inbox import Line
from understudy.conversation.lore.placement import Insert
from understudy.conversation.messages import Author, ImageRef
from understudy.conversation.prompt.attached_files import shown_file
from understudy.conversation.prompt.memory_sections import (
    excerpts_section,
    notes_section,
    summary_section,
)
from understudy.conversation.prompt.persona_prompt import PersonaPrompt
from understudy.conversation.remembered import NOTHING, Remembered
from understudy.conversation.speakers import safe_name, speaker_names, spoken
from understudy.conversation.tokens import image_tokens, prompt_budget, text_tokens
from understudy.llm.messages import ChatRequest, ImagePart, Message, Part, Role, TextPart
from understudy.routing.prompt_fitting import MESSAGE_TOKENS
from understudy.routing.request import Fit, Prompt

_CURRENT_LEAST_TOKENS = 64
_BEGINS = "[The conversation begins.]"
_CUT_MARK = "\n[…]\n"
_RECENT_SHARE = 0.25
"""Of the budget: history that nothing remembered takes the place of."""
_NEWEST_SHARE = 0.5
"""The same for the newest message and its reply."""
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
    remembered: Remembered = NOTHING
    stage_with: Callable[[Fit, int], PersonaPrompt] | None = None
    """As `stage`, with at most so many tokens of lore."""
    selected: Callable[[frozenset[int]], None] = lambda _: None
    """Called with the `seq`s of the lines in each prompt that is built."""
    start: str = ""
    """The beginning of a reply that broke off and is to be continued."""

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


@dataclass(frozen=True, slots=True)
class _History:
    """The selected messages of the conversation, in order."""

    turns: tuple[_Turn, ...]
    seqs: frozenset[int]
    current_from: int
    """Where what is being answered begins."""
    trimmed: bool
    """Whether anything was left out or cut."""


@dataclass(frozen=True, slots=True)
class _Recalled:
    """The sections of what is remembered; each is empty or one turn."""

    notes: tuple[_Turn, ...] = ()
    excerpts: tuple[_Turn, ...] = ()
    summary: tuple[_Turn, ...] = ()
    shared: bool = False

    @property
    def tokens(self) -> int:
        return _total((*self.notes, *self.excerpts, *self.summary))

    @property
    def first(self) -> tuple[_Turn, ...]:
        """What precedes the history, because it seldom changes: servers reuse what they have read
        of a prompt up to the first change. Notes of a channel change with the person who asks."""
        return self.summary if self.shared else (*self.summary, *self.notes)

    @property
    def late(self) -> tuple[_Turn, ...]:
        """What follows the history."""
        return (*self.notes, *self.excerpts) if self.shared else self.excerpts


@dataclass(frozen=True, slots=True)
class _Room:
    """Tokens for the conversation and what is remembered."""

    tokens: int
    recent: int
    """Of these, for the recent history."""


def build_prompt(source: PromptSource, fit: Fit) -> Prompt:
    """The request for one candidate, with its estimated cost."""
    budget = prompt_budget(fit, source.most_tokens)
    turns = _all_turns(source, fit)
    recent = _recent(source, turns, budget)
    staging = _staged(source, fit, budget - _needed(source, fit, turns, budget) - recent)
    inserts = [(insert.depth, _inserted(insert, fit)) for insert in staging.inserts]
    last = [_said("user", f"[{staging.last}]", fit)] if staging.last else []
    if source.start:
        last += [_said("assistant", source.start, fit), _said("user", INSTRUCTION, fit)]
    system = _said("system", staging.system, fit)
    room = budget - _total([system, *last, *(turn for _, turn in inserts)])
    recalled = _recalled(source, fit, turns, _Room(room, recent))
    least = 0 if recalled.tokens else _CURRENT_LEAST_TOKENS
    spare = max(room - recalled.tokens, least)
    history = _history(source, fit, turns, spare, opened=bool(recalled.first))
    system, examples = _with_examples(
        system, staging.examples, fit, room - recalled.tokens - _total(history.turns)
    )
    begins = history.turns[0].role == "assistant" and not recalled.first
    opening = [_said("user", _BEGINS, fit)] if begins else []
    now_at = len(history.turns) - history.current_from
    inserts += [(now_at, turn) for turn in recalled.late]
    conversation = _among(history.turns, inserts)
    said = [system, *recalled.first, *opening, *conversation, *last]
    source.selected(history.seqs)
    return Prompt(
        request=ChatRequest(messages=tuple(_merged(said))),
        input_tokens=_total(said),
        images=sum(turn.images for turn in history.turns),
        degraded=("images",) if any(turn.degraded for turn in history.turns) else (),
        trimmed=history.trimmed or examples < len(staging.examples),
        image_tokens=sum(turn.image_tokens for turn in history.turns),
    )


def _staged(source: PromptSource, fit: Fit, room: int) -> PersonaPrompt:
    """The persona's texts, with less lore where they would exceed the room."""
    staging = source.stage(fit)
    lore = sum(activated.tokens for activated in staging.lore.activated)
    if not lore or source.stage_with is None:
        return staging
    turns = [_said("system", staging.system, fit), *(_inserted(i, fit) for i in staging.inserts)]
    excess = _total(turns) - room
    return source.stage_with(fit, max(0, lore - excess)) if excess > 0 else staging


def _needed(source: PromptSource, fit: Fit, turns: Mapping[int, _Turn], budget: int) -> int:
    """Tokens of what is kept before lore and recent history: what is being answered, and notes."""
    current = _total(turns[seq] for seq in source.current if seq in turns)
    notes = notes_section(source.remembered, budget - current, _cost(fit))
    return current + (_cost(fit)(notes) if notes else 0)


def _recent(source: PromptSource, turns: Mapping[int, _Turn], budget: int) -> int:
    """Tokens of the newest history that is kept before anything that is remembered."""
    tokens, has_question = 0, False
    for line in reversed(source.lines):
        if line.seq in source.current:
            continue
        longer = tokens + turns[line.seq].tokens
        # A reply without the message that it answers could not begin a prompt.
        if longer > budget * (_RECENT_SHARE if has_question else _NEWEST_SHARE):
            return tokens or int(min(longer, budget * _NEWEST_SHARE))
        tokens, has_question = longer, has_question or line.role == "user"
    return tokens


def _recalled(source: PromptSource, fit: Fit, turns: Mapping[int, _Turn], room: _Room) -> _Recalled:
    """The sections that fit beside what is being answered and, but for notes, the recent
    history."""
    remembered, cost = source.remembered, _cost(fit)
    spare = room.tokens - _total(turns[seq] for seq in source.current if seq in turns)
    if remembered is NOTHING or spare <= 0:
        return _Recalled()

    def section(text: str) -> tuple[_Turn, ...]:
        return (_said("user", text, fit),) if text else ()

    notes = section(notes_section(remembered, spare, cost))
    room_left = room.tokens - _total(notes)
    opened = bool(notes) and not source.shared
    kept = _history(source, fit, turns, room_left, opened=opened).seqs
    spare -= _total(notes) + room.recent
    fresh = [line for line in remembered.excerpts if line.seq not in kept]
    most = min(spare, remembered.excerpt_tokens)
    excerpts = section(excerpts_section(fresh, most, cost))
    if _whole(source, kept):
        return _Recalled(notes, excerpts, shared=source.shared)
    summary = section(summary_section(remembered, spare - _total(excerpts), cost))
    return _Recalled(notes, excerpts, summary, shared=source.shared)


def _cost(fit: Fit) -> Callable[[str], int]:
    """Tokens of a section that is a turn of its own."""
    return lambda text: text_tokens(text, fit.tokens_per_char) + MESSAGE_TOKENS


def _whole(source: PromptSource, kept: frozenset[int]) -> bool:
    """Whether the kept lines reach back to the first line that the summary covers."""
    stored = (line.position for line in source.lines if line.seq in kept and line.seq > 0)
    return min(stored, default=0) <= source.remembered.summary_first


def _total(turns: Iterable[_Turn]) -> int:
    return sum(turn.tokens for turn in turns)


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


def _all_turns(source: PromptSource, fit: Fit) -> dict[int, _Turn]:
    """Every message of the conversation as a turn, by `seq`."""
    names = speaker_names(source.authors, source.bot_name) if source.shared else {}
    return {line.seq: _turn(line, source, fit, names) for line in source.lines}


def _history(
    source: PromptSource, fit: Fit, turns: Mapping[int, _Turn], room: int, *, opened: bool
) -> _History:
    """Select what is being answered, and as much of the newest history as there is room for.
    `opened` says that the text of a user precedes it."""
    kept = {seq: turns[seq] for seq in source.current if seq in turns}
    left = room - _total(kept.values())
    if left < 0:
        short = _shortened([kept[seq] for seq in turns if seq in kept], fit, room)
        return _History(tuple(short), frozenset(kept), 0, trimmed=True)
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
    ordered = [seq for seq in turns if seq in kept]
    # Some chat templates refuse a conversation that the assistant begins.
    users = (i for i, seq in enumerate(ordered) if kept[seq].role == "user")
    start = 0 if opened or _is_greeting(source.lines[0], ordered) else next(users)
    seqs = ordered[start:]
    current_from = next(i for i, seq in enumerate(seqs) if seq in source.current)
    return _History(tuple(kept[seq] for seq in seqs), frozenset(seqs), current_from, trimmed)


def _is_greeting(line: Line, kept: Sequence[int]) -> bool:
    """Whether the prompt begins with a line of the bot that answers no message."""
    return line.role == "assistant" and 0 < line.position == line.seq == kept[0]


def _turn(line: Line, source: PromptSource, fit: Fit, names: dict[str, str]) -> _Turn:
    current = line.seq in source.current
    text = "\n".join(filter(None, (line.text, *(shown_file(f, current) for f in line.files))))
    if line.role == "user" and source.shared:
        text = spoken(names[line.author.id], text)
    shown = Depicted(())
    if line.images:
        shown = source.depict(line.images, fit, current)
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
