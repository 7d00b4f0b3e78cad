"""What one batch asks of the ModelRouter: its lines, who speaks, and the request made of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from understudy.conversation.delivery import Author, ImageRef, Inbound, Place
from understudy.conversation.inbox import Batch, Channel, Line, MessageState, Stored
from understudy.conversation.persona import Persona
from understudy.conversation.prompt import PromptSource, build_prompt
from understudy.conversation.speakers import own_words, speaker_names
from understudy.conversation.surroundings import Surroundings
from understudy.routing.attempts import Origin
from understudy.routing.request import ReplyEnded, ReplyRequest, SinkKind

ME = "understudy"
"""The author id of the bot's own lines."""


@dataclass(slots=True)
class Question:
    batch: Batch
    out: Surroundings
    persona: Persona
    names: dict[str, str] = field(default_factory=dict)

    @staticmethod
    def of(batch: Batch, out: Surroundings) -> "Question":
        place = batch.messages[-1].inbound.place
        return Question(batch, out, out.personas().at(place, _chosen(place, out)))

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
    def images(self) -> tuple[ImageRef, ...]:
        return tuple(i for message in self.batch.messages for i in message.inbound.images)

    async def ask(self, shown: Callable[[], bool]) -> ReplyRequest:
        """Read the history up to the batch, and make the request that follows from it."""
        lines = await self._lines()
        shared = not self.place.private
        people = [line.author for line in lines if line.role == "user"]
        self.names = speaker_names(people, self.persona.name) if shared else {}
        sight = await self.out.look(self.batch.messages, lines)
        source = PromptSource(
            system=self.persona.system(shared=shared),
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
            fair_key=self.place.channel_id,
            shown=shown,
            may_spend=self.out.may_spend,
            last_user_text=self.trigger.text,
            previous_reply=next((x.text for x in reversed(lines) if x.role == "assistant"), ""),
        )

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

    async def _lines(self) -> tuple[Line, ...]:
        limit = self.out.settings().conversation.history_messages + len(self.batch.messages)
        last = self.batch.messages[-1].seq
        history = await self.out.store.history(Channel.of(self.place), last, limit)
        known = {line.seq for line in history}
        missed = (line_of(m) for m in self.batch.messages if m.seq not in known)
        return tuple(sorted((*missed, *history), key=lambda x: (x.position, x.seq)))


def line_of(stored: Stored) -> Line:
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


def _chosen(place: Place, out: Surroundings) -> str | None:
    """What people chose for this channel, or for the one this thread hangs on."""
    wishes = out.preferences.now
    chosen = wishes.channel(Channel.of(place)).persona
    if chosen is None and place.parent_id is not None:
        chosen = wishes.channel(Channel(place.platform, place.parent_id)).persona
    return chosen
