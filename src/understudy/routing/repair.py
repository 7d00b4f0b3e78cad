"""One more attempt at the same candidate, with something changed."""

from dataclasses import dataclass

from understudy.routing.candidate import Candidate
from understudy.routing.records import AttemptRole


@dataclass(frozen=True, slots=True)
class Repair:
    candidate: Candidate
    role: AttemptRole
    wait_s: float = 0.0
    shrink: float = 1.0
    """For a prompt that turned out too long: the share of it to keep."""
    max_tokens: int | None = None
