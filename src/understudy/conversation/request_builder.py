"""Builds the ModelRouter request of one batch from history, persona and images."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache, partial

import structlog

from understudy.conversation.continuation import joined, kept_start
from understudy.conversation.dependencies import Dependencies
from understudy.conversation.follow_ups import Answered
from understudy.conversation.inbox import Batch, Channel, Line, MessageState, StoredMessage
from understudy.conversation.lore.effects import StoredEffects
from understudy.conversation.lore.scene import Spoken, Why
from understudy.conversation.messages import Author, ImageRef, Inbound, Place
from understudy.conversation.orders import ChosenOrder, Order, order_for
from understudy.conversation.personas.registry import Persona
from understudy.conversation.prompt.builder import PromptSource, build_prompt
from understudy.conversation.prompt.memory_sections import notes_text
from understudy.conversation.prompt.persona_prompt import ConversationSnapshot, PersonaPromptBuilder
from understudy.conversation.remembered import KeptHistory
from understudy.conversation.speakers import is_cut, own_text, safe_name, speaker_names
from understudy.conversation.surroundings import with_surroundings
from understudy.routing.records import Origin
from understudy.routing.request import ReplyEnded, ReplyRequest

_log = structlog.get_logger()
ME = "understudy"
"""Author id of the bot's own lines."""
_CUT = "cut: the model went on as another person"


@dataclass(slots=True)
class RequestBuilder:
    batch: Batch
    dependencies: Dependencies
    persona: Persona
    names: dict[str, str] = field(default_factory=dict)
    prompt_builder: PersonaPromptBuilder | None = None
    order: Order = None
    """Of the latest request."""
    kept: KeptHistory | None = None
    """Of the latest prompt; None where nothing was left out."""
    _beyond: int | None = None
    """Position of the newest line older than the loaded history."""
    start: str = ""
    """The beginning of the reply, where it continues one that broke off."""

    @staticmethod
    def of(batch: Batch, dependencies: Dependencies) -> "RequestBuilder":
        place = batch.messages[-1].inbound.place
        return RequestBuilder(
            batch,
            dependencies,
            dependencies.personas().at(place, dependencies.preferences.now.persona(place)),
        )

    @property
    def trigger(self) -> Inbound:
        return self.batch.messages[-1].inbound

    @property
    def place(self) -> Place:
        return self.trigger.place

    @property
    def me(self) -> Author:
        return Author(ME, self.persona.name, is_bot=True)

    @property
    def user(self) -> str:
        return f"{self.place.platform}:{self.trigger.author.id}"

    @property
    def origin(self) -> Origin:
        return Origin(f"{self.place.platform}:{self.place.channel_id}", self.user)

    @property
    def author_ids(self) -> frozenset[str]:
        return frozenset(message.inbound.author.id for message in self.batch.messages)

    @property
    def images(self) -> tuple[ImageRef, ...]:
        return tuple(i for message in self.batch.messages for i in message.inbound.images)

    async def build(self) -> ReplyRequest:
        """Load the history up to the batch and build the request."""
        # The reads overlap: the first token waits for both.
        remembered, history = await asyncio.gather(
            self.dependencies.memory.remember(self.batch.messages), self._lines()
        )
        stored = self._uncompacted(history, remembered.compacted)
        lines, opening = await self._surrounded(stored)
        if self.batch.continues:
            self.start = await self._broken_off()
        shared = not self.place.private
        people = [line.author for line in lines if line.role == "user"]
        self.names = speaker_names(people, self.persona.name) if shared else {}
        images_of_prompt = await self.dependencies.select_images(self.batch.messages, lines)
        self.prompt_builder = await self._prompt_builder(lines, notes_text(remembered))
        await self.prompt_builder.prepare()
        source = PromptSource(
            stage=self.prompt_builder.build,
            bot_name=self.persona.name,
            lines=lines,
            current=frozenset(message.seq for message in self.batch.messages),
            opening=opening,
            shared=shared,
            most_tokens=self.dependencies.settings().conversation.max_prompt_tokens,
            depict=images_of_prompt.depict,
            remembered=remembered,
            stage_with=self.prompt_builder.build,
            selected=partial(self._selected, stored),
            start=self.start,
        )
        order = self._order()
        self.order = None if order is None else order.entries
        return ReplyRequest(
            id=self.batch.reply_id,
            sink=self.place.platform,
            build=partial(build_prompt, source),
            images=len(images_of_prompt.parts),
            origin=self.origin,
            order=self.order,
            order_name="" if order is None else str(order),
            queue_key=self.place.channel_id,
            may_spend=self.dependencies.may_spend,
            last_user_text=self.trigger.text,
            previous_reply=self.start or _last(lines, "assistant"),
        )

    async def _broken_off(self) -> str:
        """What is kept of the reply that this one continues."""
        store = self.dependencies.store
        shown = next(iter(self.batch.replaces), "")
        reply_id = await store.reply_at(self.place.platform, shown)
        line = await store.reply_line(reply_id) if reply_id else None
        return kept_start(line.text) if line else ""

    def _order(self) -> ChosenOrder | None:
        """The order for this reply; None: as configured."""
        parts = self.dependencies
        return order_for(
            self.place,
            self.trigger.author,
            parts.settings(),
            parts.preferences.now,
            parts.orders(),
        )

    async def reload(self) -> None:
        """Reload messages that were edited or deleted since the batch was claimed."""
        work = await self.dependencies.store.work(Channel.of(self.place))
        for batch in work.batches:
            if batch.id == self.batch.id and batch.messages:
                self.batch = batch

    def own_text(self, text: str) -> str:
        own = own_text(text, self.persona.name, self.names)
        return joined(self.start, own) if self.start and own else own

    def notes(self, ended: ReplyEnded) -> tuple[str, ...]:
        """Short notes shown below the reply."""
        notes = [note for message in self.batch.messages for note in message.inbound.notes]
        if "images" in ended.degraded:
            notes.append("The model could not see the picture.")
        if is_cut(ended.text, self.persona.name, self.names):
            notes.append(_CUT)
        winner = ended.record.winner
        marked = self.dependencies.settings().conversation.fallback_marker
        if marked and winner is not None and winner.attempt > 1:
            notes.append(f"answered by {winner.label}")
        return tuple(dict.fromkeys(notes))

    def answered(self, text: str) -> Answered:
        """The reply of this text, with what it answers."""
        me = self.trigger.author.id
        return Answered(
            self.batch.messages,
            text,
            frozenset(name for author_id, name in self.names.items() if author_id != me),
            order=self.order,
            again=bool(self.batch.replaces),
        )

    async def save_effects(self) -> None:
        """Save the timed lore effects of a delivered reply."""
        if self.prompt_builder is not None and self.prompt_builder.latest is not None:
            for skipped in self.prompt_builder.latest.lore.skipped:
                if skipped.why is Why.BUDGET and skipped.entry.constant:
                    _report_over_budget(skipped.book.name, skipped.entry.title or skipped.entry.uid)
        if self.prompt_builder is not None and self.prompt_builder.lore_effects is not None:
            effects, count = self.prompt_builder.lore_effects
            stored = StoredEffects(effects, count, self.batch.messages[-1].seq)
            await self.dependencies.effects.save_effects(
                self.place.platform, self.place.channel_id, stored
            )

    async def _prompt_builder(self, lines: tuple[Line, ...], notes: str) -> PersonaPromptBuilder:
        personas = self.dependencies.personas()
        place = self.place
        texts = personas.texts(self.persona, place)
        stored = StoredEffects()
        if texts.books:
            stored = await self.dependencies.effects.effects(place.platform, place.channel_id)
        conversation = f"{place.platform}:{place.channel_id}"
        snapshot = ConversationSnapshot(
            lines=tuple(Spoken(safe_name(x.author.name), x.text) for x in lines),
            last_from={
                "user": _last(lines, "user"),
                "char": _last(lines, "assistant"),
            },
            user=self.trigger.author.name,
            group=tuple(dict.fromkeys(x.author.name for x in lines if x.role == "user")),
            now=datetime.fromtimestamp(self.dependencies.now(), UTC),
            seed=self.batch.reply_id,
            conversation=conversation,
            message_count=stored.message_count + sum(x.seq > stored.last_seq for x in lines),
            reply_count=sum(x.role == "assistant" for x in lines),
            effects=stored.effects,
            variables=self.dependencies.variables.setdefault(conversation, {}),
            idle_s=_idle_s(lines, self.batch.messages),
            notes=notes,
        )
        most = self.dependencies.settings().conversation.max_prompt_tokens
        return PersonaPromptBuilder(
            texts, snapshot, personas.rules, self.dependencies.patterns, most
        )

    async def _surrounded(self, lines: tuple[Line, ...]) -> tuple[tuple[Line, ...], frozenset[int]]:
        """The history with what the platform adds, and the numbers of the added opening."""
        source = self.dependencies.context_sources.get(self.place.platform)
        if source is None:
            return lines, frozenset()
        batch = [message.inbound for message in self.batch.messages]
        found = await source.surroundings(self.place, batch, lines)
        return with_surroundings(lines, found, self.me)

    async def _lines(self) -> tuple[Line, ...]:
        limit = self.dependencies.settings().conversation.history_messages + len(
            self.batch.messages
        )
        last = self.batch.messages[-1].seq
        history = await self.dependencies.store.history(Channel.of(self.place), last, limit + 1)
        # One more than wanted, to know whether there are older ones.
        self._beyond = history[0].position if len(history) > limit else None
        history = history[-limit:]
        known = {line.seq for line in history}
        missed = (line_of(m) for m in self.batch.messages if m.seq not in known)
        return tuple(sorted((*missed, *history), key=lambda x: (x.position, x.seq)))

    def _uncompacted(self, lines: tuple[Line, ...], through: int) -> tuple[Line, ...]:
        """Without what a summary has replaced."""
        current = {message.seq for message in self.batch.messages}
        return tuple(x for x in lines if x.position > through or x.seq in current)

    def _selected(self, lines: tuple[Line, ...], seqs: frozenset[int]) -> None:
        """Note which lines a prompt has: the latest one is that of the candidate which answers."""
        left_out = [x.position for x in lines if x.seq not in seqs]
        newest = max(left_out, default=self._beyond)
        inside = [x.position for x in lines if x.seq in seqs and x.position > (newest or 0)]
        self.kept = None
        if newest is not None and inside:
            middle = inside[len(inside) // 2]
            self.kept = KeptHistory(Channel.of(self.place), newest, max(newest, middle), self.order)


@lru_cache(maxsize=1000)
def _report_over_budget(book: str, entry: str) -> None:
    """Once per entry: an entry that is meant for every prompt did not fit this one."""
    _log.warning("lore.over_budget", book=book, entry=entry)


def _idle_s(lines: tuple[Line, ...], batch: tuple[StoredMessage, ...]) -> float | None:
    """Between the batch and the user's message before it."""
    current = {message.seq for message in batch}
    before = [x.at for x in lines if x.role == "user" and x.seq not in current]
    return max(0.0, batch[0].inbound.sent_at - before[-1]) if before else None


def _last(lines: tuple[Line, ...], role: str) -> str:
    return next((x.text for x in reversed(lines) if x.role == role), "")


def line_of(stored: StoredMessage) -> Line:
    inbound = stored.inbound
    return Line(
        seq=stored.seq,
        position=stored.seq,
        role="user",
        message_id=inbound.message_id,
        author=inbound.author,
        text=inbound.text,
        at=inbound.sent_at,
        images=inbound.images,
        files=inbound.files,
        state=MessageState.CLAIMED,
    )
