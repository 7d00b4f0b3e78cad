"""Checks the invariants of a run from outside the process and against the ledger."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from chaos.ledger_check import Entry, LedgerCounts
from chaos.observations import Call, Question
from understudy.platforms.discord.rendering import CUT_OFF

_CUT = f"-# {CUT_OFF}"


@dataclass(frozen=True, slots=True)
class Answer:
    """A message of the bot other than the offline message."""

    message_id: int
    question: int | None
    """None where it replies to nothing that was asked."""
    content: str

    @property
    def text(self) -> str:
        return "\n".join(line for line in self.content.splitlines() if not line.startswith("-# "))

    @property
    def cut_off(self) -> bool:
        return _CUT in self.content


@dataclass(frozen=True, slots=True)
class Evidence:
    questions: Mapping[int, Question]
    answers: Sequence[Answer]
    calls: Sequence[Call]
    ledger: LedgerCounts
    interrupted: Mapping[Entry, int] = field(default_factory=dict)
    """Calls of replies that ran at a kill and were not recorded by then."""
    unrecorded: Sequence[str] = ()
    """What was missing in the ledger at a kill or a stop, although its reply had ended."""


@dataclass(frozen=True, slots=True)
class Verdict:
    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    violations: tuple[str, ...]

    @property
    def clean(self) -> bool:
        return not (self.lost or self.doubled or self.violations)


def check(seen: Evidence) -> Verdict:
    times = Counter(answer.question for answer in seen.answers)
    return Verdict(
        tuple(f"q{number}" for number in seen.questions if not times[number]),
        tuple(f"q{number}" for number in seen.questions if times[number] > 1),
        (
            *_wrong_texts(seen),
            *_wrong_prompts(seen),
            *_wrong_order(seen),
            *_wrong_ledger(seen),
            *seen.unrecorded,
        ),
    )


def _wrong_texts(seen: Evidence) -> Iterator[str]:
    """A reply is what one call said: all of it, or where that broke off a marked beginning."""
    calls = _by_question(seen.calls)
    for answer in seen.answers:
        if answer.question is None:
            yield f"said without being asked: {answer.content!r}"
        elif not any(_is_from(answer, call) for call in calls[answer.question]):
            yield f"q{answer.question} was answered by a text of no call: {answer.content!r}"


def _is_from(answer: Answer, call: Call) -> bool:
    text, said = answer.text.strip(), call.text.strip()
    if answer.cut_off or not call.whole or call.faulted:
        return bool(text) and said.startswith(text) and (answer.cut_off or call.faulted)
    return text == said


def _wrong_prompts(seen: Evidence) -> Iterator[str]:
    """A prompt tells the conversation in order, with the replies that people saw."""
    shown = {answer.question: answer.text.strip() for answer in seen.answers}
    for call in seen.calls:
        name = f"the prompt for q{call.question}"
        numbers = [options.question for options in call.prompt]
        if numbers != sorted(set(numbers)) or numbers[-1] != call.question:
            yield f"{name} tells {numbers}"
        for options in call.prompt:
            if options.reply is not None and options.reply.strip() != shown.get(options.question):
                yield f"{name} has q{options.question} answered by {options.reply!r}"


def _wrong_order(seen: Evidence) -> Iterator[str]:
    """Of one person in one channel, the older question is taken up first."""
    newest: dict[tuple[str, str], int] = {}
    met: set[int] = set()
    for call in seen.calls:
        if call.question in met:
            continue
        met.add(call.question)
        question = seen.questions[call.question]
        lane = question.channel, question.author
        if newest.get(lane, -1) > question.number:
            yield f"q{question.number} was taken up after q{newest[lane]}"
        newest[lane] = max(newest.get(lane, -1), question.number)


def _wrong_ledger(seen: Evidence) -> Iterator[str]:
    for upstream, times in seen.ledger.upstream.items():
        if times > 1:
            yield f"{upstream} is recorded {times} times"
    called = Counter((call.server, call.question) for call in seen.calls)
    for entry in called.keys() | seen.ledger.sure.keys():
        yield from _balance(entry, called[entry], seen.ledger, seen.interrupted.get(entry, 0))


def _balance(entry: Entry, called: int, ledger: LedgerCounts, interrupted: int) -> Iterator[str]:
    name = f"q{entry[1]} at {entry[0]}"
    if ledger.sure[entry] > called:
        yield f"{name}: {called} calls, but {ledger.sure[entry]} recorded"
    if missing(entry, called, ledger) > interrupted:
        most = ledger.most(entry)
        yield f"{name}: {called} calls, but {most} recorded, {interrupted} interrupted"


def missing(entry: Entry, called: int, ledger: LedgerCounts) -> int:
    return max(0, called - ledger.most(entry))


def _by_question(calls: Iterable[Call]) -> dict[int, list[Call]]:
    found: dict[int, list[Call]] = defaultdict(list)
    for call in calls:
        found[call.question].append(call)
    return found
