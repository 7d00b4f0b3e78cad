"""Judges a run of the cluster from what people, a key and a dead server saw."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

STREAK = 3
"""Failures that open the cooldown of a server."""
_APART_S = 3.0
"""Shorter than any cooldown: calls further apart belong to different probes."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply as its channel shows it."""

    channel: str
    answers: str
    """The question's message id."""


@dataclass(frozen=True, slots=True)
class Verdict:
    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    disordered: tuple[str, ...]
    """Questions that were answered before an earlier one of their channel."""
    wrong: tuple[str, ...] = ()
    """Limits that did not hold, in sentences."""

    @property
    def ok(self) -> bool:
        return not (self.lost or self.doubled or self.disordered or self.wrong)


def judge(asked: Sequence[str], replies: Sequence[Reply], wrong: Sequence[str] = ()) -> Verdict:
    """`asked` in the order of the questions, `replies` in the order of their first message."""
    counts = Counter(reply.answers for reply in replies)
    place = {question: number for number, question in enumerate(asked)}
    latest: dict[str, int] = {}
    disordered = []
    for reply in replies:
        number = place.get(reply.answers, -1)
        if number < latest.get(reply.channel, -1):
            disordered.append(reply.answers)
        latest[reply.channel] = max(number, latest.get(reply.channel, -1))
    return Verdict(
        tuple(question for question in asked if counts[question] == 0),
        tuple(question for question, count in counts.items() if count > 1),
        tuple(disordered),
        tuple(wrong),
    )


def wrong_quota(answered: int, refused: int, limit: int) -> list[str]:
    """`refused` shows that the limit was reached."""
    if answered > limit:
        return [f"a key with {limit} requests got {answered} answers"]
    return [] if refused else [f"a key with {limit} requests was never refused: {answered} answers"]


def wrong_calls(calls: Sequence[float], instances: int) -> list[str]:
    """Calls of a dead server, in seconds: at first the streak of one instance and one call of each
    before all leave it out, later single probes."""
    bursts: list[list[float]] = []
    for at in sorted(calls):
        if bursts and at - bursts[-1][-1] < _APART_S:
            bursts[-1].append(at)
        else:
            bursts.append([at])
    most = [STREAK + instances, *[1] * len(bursts)]
    return [
        f"a dead server was called {len(burst)} times within {burst[-1] - burst[0]:.1f} s, "
        f"{burst[0] - bursts[0][0]:.0f} s after the first call; at most {limit} are right"
        for burst, limit in zip(bursts, most, strict=False)
        if len(burst) > limit
    ] or ([] if bursts else ["the dead server was never called"])
