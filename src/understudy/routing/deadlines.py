"""How the time of a request is split among its candidates. Pure: times come in, seconds go out."""

from dataclasses import dataclass

from understudy.routing.candidate import Limits

MIN_SHARE_S = 3.0
"""What each later usable candidate keeps of the time to the first visible text."""
_FLOOR_S = 1.0
_PROBE_S = 8.0


@dataclass(frozen=True, slots=True)
class Deadline:
    """Limits of a whole request, counted from when it was accepted."""

    commit_s: float = 45.0
    """To the first visible text of any attempt."""
    total_s: float = 180.0


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of one attempt in seconds from its dispatch."""

    first_token_s: float
    visible_s: float
    """To the first visible text."""
    idle_s: float
    total_s: float

    def after(self, queued_s: float) -> "Budget":
        """What is left of it after time in the queue, which only the request's deadlines count."""
        if not queued_s:
            return self
        visible_s = max(self.visible_s - queued_s, 0.0)
        return Budget(
            first_token_s=min(self.first_token_s, visible_s),
            visible_s=visible_s,
            idle_s=self.idle_s,
            total_s=max(self.total_s - queued_s, 0.0),
        )


def budget(
    limits: Limits, *, remaining_s: float, total_s: float, later: int, probe: bool = False
) -> Budget:
    """What one attempt may spend.

    `remaining_s` is left until visible text must have come, `total_s` until the request must have
    ended, and `later` usable candidates come after this one.
    """
    kept = max(remaining_s - MIN_SHARE_S * later, min(_FLOOR_S, remaining_s))
    own = min(limits.first_token_s, _PROBE_S) if probe else limits.first_token_s
    alone = later == 0 and not limits.strict
    return Budget(
        first_token_s=kept if alone else min(own, kept),
        visible_s=kept,
        idle_s=limits.idle_s,
        total_s=min(limits.total_s, total_s),
    )
