"""What one batch asks of the ModelRouter: its lines, who speaks, and the request made of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

from understudy.conversation.dependencies import Dependencies
from understudy.conversation.inbox import Batch, Channel, Line, MessageState, StoredMessage
from understudy.conversation.lore.effects import Kept
from understudy.conversation.lore.scene import Spoken
from understudy.conversation.messages import Author, ImageRef, Inbound, Place
from understudy.conversation.personas.registry import Persona
from understudy.conversation.prompt.builder import PromptSource, build_prompt
from understudy.conversation.prompt.persona_prompt import ConversationSnapshot, PersonaPromptBuilder
from understudy.conversation.speakers import own_words, safe_name, speaker_names
from understudy.routing.records import Origin
from understudy.routing.request import ReplyEnded, ReplyRequest, SinkKind

ME = "understudy"
"""The author id of the bot's own lines."""


@dataclass(slots=True)
class RequestBuilder:
    batch: Batch
    out: Dependencies
    persona: Persona
    names: dict[str, str] = field(default_factory=dict)
    stage: PersonaPromptBuilder | None = None

    @staticmethod
    def of(batch: Batch, out: Dependencies) -> "RequestBuilder":
        place = batch.messages[-1].inbound.place
        return RequestBuilder(
            batch, out, out.personas().at(place, out.preferences.now.persona(place))
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

    async def ask(self, shown: Callable[[], bool]) -> ReplyRequest:
        """Read the history up to the batch, and make the request that follows from it."""
        lines = await self._lines()
        shared = not self.place.private
        people = [line.author for line in lines if line.role == "user"]
        self.names = speaker_names(people, self.persona.name) if shared else {}
        sight = await self.out.look(self.batch.messages, lines)
        self.stage = await self._stage(lines)
        source = PromptSource(
            stage=self.stage.set,
            bot_name=self.persona.name,
            lines=lines,
            current=frozenset(message.seq for message in self.batch.messages),
            shared=shared,
            most_tokens=self.out.settings().conversation.max_prompt_tokens,
            depict=sight.depict,
        )
        return ReplyRequest(
            id=self.batch.reply_id,
            sink=self.place.platform,
            kind=SinkKind.EDITABLE,
            build=partial(build_prompt, source),
            images=len(sight.parts),
            origin=self.origin,
            queue_key=self.place.channel_id,
            shown=shown,
            may_spend=self.out.may_spend,
            last_user_text=self.trigger.text,
            previous_reply=_last(lines, "assistant"),
        )

    async def reread(self) -> None:
        """Take over what was edited or deleted since the batch was claimed."""
        work = await self.out.store.work(Channel.of(self.place))
        for batch in work.batches:
            if batch.id == self.batch.id and batch.messages:
                self.batch = batch

    def own_words(self, text: str) -> str:
        return own_words(text, self.persona.name, self.names)

    def notes(self, ended: ReplyEnded) -> tuple[str, ...]:
        """Short remarks for the person, shown beside the reply."""
        notes = [note for message in self.batch.messages for note in message.inbound.notes]
        if "images" in ended.degraded:
            notes.append("I couldn't look at the picture itself.")
        winner = ended.record.winner
        marked = self.out.settings().conversation.fallback_marker
        if marked and winner is not None and winner.attempt > 1:
            notes.append(f"answered by {winner.label}")
        return tuple(dict.fromkeys(notes))

    async def answered(self) -> None:
        """The reply stands: what its lore set going goes on from here."""
        if self.stage is not None and self.stage.lore_set_going is not None:
            effects, count = self.stage.lore_set_going
            kept = Kept(effects, count, self.batch.messages[-1].seq)
            await self.out.effects.keep_effects(self.place.platform, self.place.channel_id, kept)

    async def _stage(self, lines: tuple[Line, ...]) -> PersonaPromptBuilder:
        personas = self.out.personas()
        place = self.place
        part = personas.part(self.persona, place)
        kept = Kept()
        if part.books:
            kept = await self.out.effects.effects(place.platform, place.channel_id)
        moment = ConversationSnapshot(
            lines=tuple(Spoken(safe_name(x.author.name), x.text) for x in lines),
            last_from={
                "user": _last(lines, "user"),
                "char": _last(lines, "assistant"),
            },
            user=self.trigger.author.name,
            group=tuple(dict.fromkeys(x.author.name for x in lines if x.role == "user")),
            now=datetime.fromtimestamp(self.out.now(), UTC),
            seed=self.batch.reply_id,
            conversation=f"{place.platform}:{place.channel_id}",
            message_count=kept.message_count + sum(x.seq > kept.last_seq for x in lines),
            reply_count=sum(x.role == "assistant" for x in lines),
            effects=kept.effects,
        )
        most = self.out.settings().conversation.max_prompt_tokens
        return PersonaPromptBuilder(part, moment, personas.rules, self.out.patterns, most)

    async def _lines(self) -> tuple[Line, ...]:
        limit = self.out.settings().conversation.history_messages + len(self.batch.messages)
        last = self.batch.messages[-1].seq
        history = await self.out.store.history(Channel.of(self.place), last, limit)
        known = {line.seq for line in history}
        missed = (line_of(m) for m in self.batch.messages if m.seq not in known)
        return tuple(sorted((*missed, *history), key=lambda x: (x.position, x.seq)))


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
        state=MessageState.CLAIMED,
    )
