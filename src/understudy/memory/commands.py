"""What people do with the memory, the same on every platform: texts in, texts out."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from understudy.conversation.inbox import Channel
from understudy.conversation.orders import Order
from understudy.memory.store import MAX_NOTES_CHARS, Hit, MemoryStore, NoteScope, Proposal
from understudy.memory.summarizer import Summarizer

_NONE = "I store no texts, so I have no memory (`conversation.persist`)."
_RECENT = 4
"""Lines that `/compact` leaves as they are."""
_MOST_HITS = 10
_HIT_CHARS = 200
_FULL = (
    f"There is no room for that: your notes here may have {MAX_NOTES_CHARS:,} characters together. "
    "Delete one first."
)


YES, NO = "yes", "no"
"""After `/remember`: the answers to a proposal."""
_NO_PROPOSAL = "There is no note to confirm: it was answered, has expired, or its message is gone."


def forgotten_text(messages: int) -> str:
    """For a person whose stored texts were deleted."""
    return f"Done. I deleted the text of {messages} of your messages, your notes, and your name."


def proposal_line(proposal: Proposal) -> str:
    """The proposal for its person, with how to answer it by a command."""
    return f"May I remember this? “{proposal.text}” /remember {YES} or /remember {NO}"


class MemoryCommands:
    """Raises StorageError where the database cannot be used."""

    def __init__(
        self,
        store: MemoryStore | None,
        summarizer: Summarizer | None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._summarizer = summarizer
        self._now = now

    async def remember(self, scope: NoteScope, text: str) -> str:
        if self._store is None:
            return _NONE
        note = " ".join(text.split())
        if not note:
            return "There is nothing to remember: write the note after the command."
        if note.casefold() in (YES, NO):
            proposal = await self._store.proposal(scope, self._now())
            return await self.answer(scope, proposal.id if proposal else "", yes=note == YES)
        return await self._add(scope, note)

    async def proposal(self, scope: NoteScope) -> Proposal | None:
        """The note that a model proposes and this person has not confirmed."""
        return None if self._store is None else await self._store.proposal(scope, self._now())

    async def answer(self, person: NoteScope, proposal_id: str, *, yes: bool) -> str:
        """Store or drop a proposal, which only its person can do; a server's is stored there."""
        if self._store is None:
            return _NONE
        taken = await self._store.take_proposal(
            person.platform, person.author_id, proposal_id, self._now()
        )
        if taken is None:
            return _NO_PROPOSAL
        return await self._add(taken.scope, taken.text) if yes else "I do not remember it."

    async def _add(self, scope: NoteScope, note: str) -> str:
        assert self._store is not None
        stored = await self._store.add_note(scope, note, self._now())
        return _FULL if stored is None else f"I remember that as note {stored.number}."

    async def notes(self, scope: NoteScope) -> str:
        if self._store is None:
            return _NONE
        notes = (await self._store.notes([scope])).get(scope, ())
        where = "on this server" if scope.server else "in our private chats"
        lines = [f"I have no notes of yours {where}."]
        if notes:
            lines = [f"Your notes {where}:", *(f"{note.number}. {note.text}" for note in notes)]
        if (proposal := await self.proposal(scope)) is not None:
            lines.append(proposal_line(proposal))
        return "\n".join(lines)

    async def forget_note(self, scope: NoteScope, number: int) -> str:
        if self._store is None:
            return _NONE
        deleted = await self._store.delete_note(scope, number)
        return f"I forgot note {number}." if deleted else f"You have no note {number} here."

    async def summary(self, channel: Channel) -> str:
        if self._store is None:
            return _NONE
        summary = await self._store.summary(channel)
        if not summary.text:
            return "I have no summary of this conversation."
        made = datetime.fromtimestamp(summary.made_at, UTC)
        return (
            f"My summary of the earlier conversation ({made:%Y-%m-%d %H:%M} UTC):\n{summary.text}"
        )

    async def forget_summary(self, channel: Channel) -> str:
        if self._store is None:
            return _NONE
        if await self._store.forget_summary(channel):
            return "I forgot my summary of this conversation."
        return "I have no summary of this conversation."

    async def compact(self, channel: Channel, order: Order = None) -> str:
        """Replace all but the newest lines by a summary, in prompts; nothing is deleted. `order` is
        the one chosen for the conversation."""
        if self._store is None or self._summarizer is None:
            return _NONE
        earlier = await self._store.summary(channel)
        before = await self._store.position_before(channel, _RECENT)
        outcome = await self._summarizer.compact(channel, before, order)
        if (await self._store.summary(channel)).compacted > earlier.compacted:
            return "Done: in my prompts a summary replaces the earlier messages from now on."
        if outcome.complete:
            return "There is nothing to compact."
        return "I could not make a summary now. The conversation is as before."

    async def search(
        self, channel: Channel, query: str, link: Callable[[Hit], str] = lambda _: ""
    ) -> str:
        """`link` is added to each line that is found."""
        if self._store is None:
            return _NONE
        hits = await self._store.search(channel, query, _MOST_HITS)
        if not hits:
            return "I found nothing."
        return "\n".join(_hit(hit) + link(hit) for hit in hits)


def _hit(hit: Hit) -> str:
    line = hit.line
    when = datetime.fromtimestamp(line.at, UTC)
    text = " ".join(line.text.split())
    shown = text if len(text) <= _HIT_CHARS else text[:_HIT_CHARS] + " …"
    return f"{when:%Y-%m-%d %H:%M}, {line.author.name}: {shown}"
