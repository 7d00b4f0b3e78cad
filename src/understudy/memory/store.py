"""What is remembered, and the interface of its storage."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from understudy.conversation.inbox import Channel, Line
from understudy.conversation.messages import Place

MAX_NOTES_CHARS = 1500
"""Of one person's notes in one scope, together."""
COMMON = 40
"""A word that this many lines of a channel have says nothing about one of them."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What a model made of the oldest lines of one conversation."""

    text: str = ""
    first: int = 0
    """Position of the first covered line."""
    through: int = 0
    """Position of the last covered line; 0 where there is no summary."""
    compacted: int = 0
    """Lines up to this position are left out of prompts."""
    made_at: float = 0.0


@dataclass(frozen=True, slots=True)
class SummaryClaim:
    """The right to write the summary of one conversation, until its lease ends."""

    channel: Channel
    summary: Summary
    """The one to continue."""
    version: int


@dataclass(frozen=True, slots=True)
class NoteScope:
    """One person's notes in one server, or in direct messages (`server` is empty)."""

    platform: str
    server: str
    author_id: str

    @staticmethod
    def of(place: Place, author_id: str) -> "NoteScope":
        return NoteScope(place.platform, place.guild_id or "", author_id)


@dataclass(frozen=True, slots=True)
class Note:
    number: int
    """Counts up within its scope; a deleted number is used again only after the highest."""
    text: str
    made_at: float


@dataclass(frozen=True, slots=True)
class Proposal:
    """A note that a model proposes and its person has not confirmed."""

    id: str
    scope: NoteScope
    text: str
    made_at: float
    expires_at: float


@dataclass(frozen=True, slots=True)
class Source:
    """A message that a proposal is made of."""

    seq: int
    text: str


@dataclass(frozen=True, slots=True)
class Found:
    """The newest lines with one word."""

    word: str
    seqs: tuple[int, ...]
    """Newest first."""


def _no_lines(found: Sequence[Found]) -> Sequence[int]:  # noqa: ARG001
    return ()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is read for one prompt."""

    channel: Channel
    scopes: tuple[NoteScope, ...] = ()
    words: tuple[str, ...] = ()
    until: int = 0
    """`seq` of the newest line in which words are looked for."""
    choose: Callable[[Sequence[Found]], Sequence[int]] = _no_lines
    """The `seq`s of the lines to read of those that were found."""


@dataclass(frozen=True, slots=True)
class Recollection:
    summary: Summary
    notes: dict[NoteScope, tuple[Note, ...]]
    """As `MemoryStore.notes` returns them."""
    found: tuple[Found, ...] = ()
    """For each word the newest COMMON lines of the channel with it."""
    lines: tuple[Line, ...] = ()
    """The chosen ones that are still stored, in the order of the choice."""


@dataclass(frozen=True, slots=True)
class Family:
    """All channels with one parent: on the web, the conversations of one browser."""

    platform: str
    parent_id: str


@dataclass(frozen=True, slots=True)
class Hit:
    """A line that a search found, with its channel."""

    channel: Channel
    line: Line


class MemoryStore(Protocol):
    """Stores summaries and notes, and searches the stored messages.

    Summaries, proposals, notes and the search index never hold text of messages that are deleted,
    forgotten or opted out: the store removes it in the transaction that removes the message. All
    calls raise StorageError when the database cannot be used.
    """

    async def summary(self, channel: Channel) -> Summary: ...

    async def recollect(self, wanted: Wanted) -> Recollection:
        """Everything that one prompt needs, in one call."""
        ...

    async def claim_summary(
        self, channel: Channel, now: float, lease_s: float
    ) -> SummaryClaim | None:
        """Claim the right to write a channel's summary; None while another process has it."""
        ...

    async def position_before(self, channel: Channel, recent: int) -> int:
        """Position of the newest line before the `recent` newest ones; 0 where there is none."""
        ...

    async def lines_to_summarize(
        self, claim: SummaryClaim, before: int, limit: int
    ) -> tuple[Line, ...]:
        """The oldest lines that the summary does not cover, up to the position `before`, without
        those of opted-out people and the replies to them. Until the claim ends, a change to any of
        them makes `save_summary` fail."""
        ...

    async def save_summary(
        self, claim: SummaryClaim, summary: Summary, author_ids: Sequence[str]
    ) -> bool:
        """Store it and end the claim; False when a line that it is made of has changed since, or
        the claim was lost, and then nothing is stored."""
        ...

    async def release_summary(self, claim: SummaryClaim) -> None:
        """End the claim without a new summary."""
        ...

    async def forget_summary(self, channel: Channel) -> bool:
        """Delete a channel's summary; False when there is none. One that is being made is not
        stored."""
        ...

    async def notes(self, scopes: Sequence[NoteScope]) -> dict[NoteScope, tuple[Note, ...]]:
        """The notes of each scope, oldest first; scopes without notes are absent."""
        ...

    async def add_note(self, scope: NoteScope, text: str, now: float) -> Note | None:
        """Store a note; None when the scope would exceed MAX_NOTES_CHARS."""
        ...

    async def delete_note(self, scope: NoteScope, number: int) -> bool:
        """False when there is no such note."""
        ...

    async def add_proposal(self, proposal: Proposal, sources: Sequence[Source]) -> bool:
        """Store a proposal instead of an earlier one in its scope. False, and nothing is stored,
        where a source has changed or is deleted, its person has opted out, or the notes of the
        scope would exceed MAX_NOTES_CHARS. It goes with its sources when they change."""
        ...

    async def proposal(self, scope: NoteScope, now: float) -> Proposal | None:
        """The one of this scope that has not expired."""
        ...

    async def take_proposal(
        self, platform: str, author_id: str, proposal_id: str, now: float
    ) -> Proposal | None:
        """Delete a person's proposal and return it; None where it is gone or has expired."""
        ...

    async def drop_expired_proposals(self, now: float) -> None: ...

    async def search(self, where: Channel | Family, query: str, limit: int) -> tuple[Hit, ...]:
        """The newest lines with all words of the query; of the last one its beginning is
        enough."""
        ...
