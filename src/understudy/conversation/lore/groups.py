"""Inclusion groups: of mutually exclusive entries, one is selected per pass."""

from collections.abc import Collection, Sequence
from random import Random
from typing import Protocol, TypeVar

from understudy.conversation.lore.book import Entry
from understudy.conversation.lore.matching import Hit


class Grouped(Protocol):
    """What the selection needs; sorted sticky first, then by descending order."""

    @property
    def entry(self) -> Entry: ...

    @property
    def hit(self) -> Hit | None: ...


_G = TypeVar("_G", bound=Grouped)


def pick_from_groups(
    candidates: Sequence[_G], *, active: Collection[str], scoring: bool, random: Random
) -> list[_G]:
    """The selected entries of `candidates`; `active` groups have an active entry already."""
    lost: set[_G] = set()
    grouped = [w for w in candidates if w.entry.groups]
    for group in dict.fromkeys(name for w in grouped for name in w.entry.groups):
        members = [w for w in grouped if group in w.entry.groups and w not in lost]
        winners = _winners(members, active=group in active, scoring=scoring, random=random)
        lost.update(set(members).difference(winners))
    return [w for w in candidates if w not in lost]


def _winners(members: list[_G], *, active: bool, scoring: bool, random: Random) -> list[_G]:
    sticky = [m for m in members if m.hit is None and m.entry.sticky]
    if sticky:
        return sticky
    if active:
        return []
    members = _best_scored(members, scoring=scoring)
    if len(members) < 2:
        return members
    overriding = [m for m in members if m.entry.group_override]
    if overriding:
        return [max(overriding, key=lambda m: m.entry.order)]
    return random.choices(members, [m.entry.group_weight for m in members])


def _best_scored(members: list[_G], *, scoring: bool) -> list[_G]:
    def scored(member: _G) -> bool:
        own = member.entry.group_scoring
        return scoring if own is None else own

    if not any(map(scored, members)):
        return members
    best = max(m.hit.score if m.hit else 0 for m in members)
    return [m for m in members if not scored(m) or (m.hit and m.hit.score == best)]
