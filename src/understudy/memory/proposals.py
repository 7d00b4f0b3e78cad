"""Proposes notes about people whom the bot has answered; a person's confirmation stores one.

After a reply a model is asked, in the background, for a note about its asker, made of that person's
own messages. At most one request per person and server is made in five minutes; messages within
them are looked at together by the next one.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial

import structlog

from understudy.conversation.follow_ups import Answered
from understudy.conversation.inbox import Channel, StoredMessage
from understudy.conversation.orders import Order
from understudy.conversation.speakers import unquoted
from understudy.memory.background import BackgroundModels, GaveWay, ModelRules
from understudy.memory.proposal_request import note_of, proposal_prompt
from understudy.memory.store import MemoryStore, NoteScope, Proposal, Source
from understudy.routing.records import ReplyOutcome

PURPOSE = "note"
LIFETIME_S = 24 * 3600.0
_PAUSE_S = 300.0
_TIDY_S = 3600.0
_QUEUE_LIMIT = 200
_MOST_MESSAGES = 6
"""Of one person, for one request."""
_LEAST_BYTES = 12
"""Of UTF-8: shorter messages say nothing that lasts."""
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ProposalRules:
    """The settings of one moment."""

    enabled: bool = False
    models: ModelRules = field(default_factory=ModelRules)


ShowProposal = Callable[[Proposal, Answered], Awaitable[None]]
"""Shows the proposal to its person alone. What it raises is logged."""


@dataclass(slots=True)
class _Person:
    """What one person has said since the last request about them."""

    answered: Answered
    messages: list[StoredMessage]


class NoteProposer:
    """Owns the background task; closed with `aclose`."""

    def __init__(
        self,
        store: MemoryStore,
        models: BackgroundModels,
        rules: Callable[[Order], ProposalRules],
        new_id: Callable[[], str],
        now: Callable[[], float],
    ) -> None:
        self._store = store
        self._models = models
        self._rules = rules
        self._new_id = new_id
        self._now = now
        self.show: MutableMapping[str, ShowProposal] = {}
        """By platform; platforms add themselves."""
        self._people: OrderedDict[NoteScope, _Person] = OrderedDict()
        self._asked_at: dict[NoteScope, float] = {}
        self._due: OrderedDict[NoteScope, None] = OrderedDict()
        self._work_there = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: asyncio.Task[None] | None = None

    def follow_up(self, answered: Answered) -> None:
        """Schedule a look at what the person has written; returns at once."""
        place, author = answered.place, answered.author
        if not self._rules(answered.order).enabled or author.is_bot or answered.again:
            return
        said = [m for m in answered.messages if m.inbound.author.id == author.id and _says(m)]
        if place.platform not in self.show or not said:
            return
        scope = NoteScope.of(place, author.id)
        person = self._people.setdefault(scope, _Person(answered, []))
        person.answered = answered
        person.messages = [*person.messages, *said][-_MOST_MESSAGES:]
        if len(self._people) > _QUEUE_LIMIT:
            dropped, _ = self._people.popitem(last=False)
            self._due.pop(dropped, None)
        if self._now() - self._asked_at.get(scope, -_PAUSE_S) >= _PAUSE_S:
            self._schedule(scope)

    async def idle(self) -> None:
        """Wait until nothing is scheduled."""
        await self._idle.wait()

    async def aclose(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})

    def _schedule(self, scope: NoteScope) -> None:
        self._due[scope] = None
        self._idle.clear()
        self._work_there.set()
        if self._task is None:
            self._task = asyncio.create_task(self._work(), name="proposals")

    async def _work(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_TIDY_S):
                    await self._work_there.wait()
            try:
                await self._store.drop_expired_proposals(self._now())
                if self._due:
                    await self._propose_next()
            except Exception as error:  # noqa: BLE001 - the root of this task
                _log.warning("proposal.failed", error=type(error).__name__)
                self._due.clear()
            if not self._due:
                self._work_there.clear()
                self._idle.set()

    async def _propose_next(self) -> None:
        scope = next(iter(self._due))
        models = self._rules(self._people[scope].answered.order).models
        if models.gives_way:
            await self._models.until_quiet()
        # It may have been dropped meanwhile.
        person = self._people.pop(scope, None)
        self._due.pop(scope, None)
        if person is None:
            return
        try:
            await self._propose(scope, person, models)
        except GaveWay:
            self._people.setdefault(scope, person)
            self._due[scope] = None

    async def _propose(self, scope: NoteScope, person: _Person, models: ModelRules) -> None:
        notes = [note.text for note in (await self._store.notes([scope])).get(scope, ())]
        texts = [_text(message) for message in person.messages]
        channel = Channel.of(person.answered.place)
        ended = await self._models.generate(
            channel, PURPOSE, partial(proposal_prompt, texts, notes), models
        )
        self._asked(scope)
        reply_id = ended.record.request_id
        note = None
        if ended.record.outcome is ReplyOutcome.DELIVERED:
            note = note_of(ended.text, texts, notes, person.answered.others)
        if note is None:
            _log.info("proposal.none", reply_id=reply_id)
            return
        now = self._now()
        proposal = Proposal(self._new_id(), scope, note, now, now + LIFETIME_S)
        sources = [Source(message.seq, message.inbound.text) for message in person.messages]
        if await self._store.add_proposal(proposal, sources):
            _log.info("proposal.made", reply_id=reply_id)
            await self._show(proposal, person.answered)
        else:
            _log.info("proposal.outdated", reply_id=reply_id)

    async def _show(self, proposal: Proposal, answered: Answered) -> None:
        if (show := self.show.get(answered.place.platform)) is not None:
            await show(proposal, answered)

    def _asked(self, scope: NoteScope) -> None:
        now = self._now()
        recent = {one: at for one, at in self._asked_at.items() if now - at < _PAUSE_S}
        self._asked_at = {**recent, scope: now}


def _text(message: StoredMessage) -> str:
    return unquoted(message.inbound.text).strip()


def _says(message: StoredMessage) -> bool:
    return len(_text(message).encode()) >= _LEAST_BYTES
