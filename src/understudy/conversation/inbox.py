"""The inbox: which messages were seen, what became of them, and who works on them now.

A message is `pending` until a batch claims it; it ends as `answered`, `ignored` or `failed`.
A batch is claimed under a lease; while it waits for a late answer its messages are `pending`
again, but they stay its own. The same rows are the conversation's memory.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol

from understudy.conversation.messages import Author, ImageRef, Inbound, Place
from understudy.routing.records import ReplyRecord

LEASE_S = 30.0
RENEW_EVERY_S = 10.0


class MessageState(StrEnum):
    PENDING = "pending"
    CLAIMED = "claimed"
    ANSWERED = "answered"
    IGNORED = "ignored"
    FAILED = "failed"


class BatchState(StrEnum):
    CLAIMED = "claimed"
    """Somebody works on it, as long as its lease runs."""
    WAITING = "waiting"
    """Every provider failed; it is tried again at `retry_at`."""
    ANSWERED = "answered"
    IGNORED = "ignored"
    """Cancelled by a person, or its trigger was deleted."""
    FAILED = "failed"


MESSAGE_STATE: dict[BatchState, MessageState] = {
    BatchState.CLAIMED: MessageState.CLAIMED,
    BatchState.WAITING: MessageState.PENDING,
    BatchState.ANSWERED: MessageState.ANSWERED,
    BatchState.IGNORED: MessageState.IGNORED,
    BatchState.FAILED: MessageState.FAILED,
}


@dataclass(frozen=True, slots=True)
class Channel:
    """Where a conversation is; the unit of batching, memory and locking."""

    platform: str
    id: str

    @staticmethod
    def of(place: Place) -> "Channel":
        return Channel(place.platform, place.channel_id)


@dataclass(frozen=True, slots=True)
class Decision:
    """What participation made of a message."""

    answer: bool
    reason: str
    """Why, as one constant word; logged for every message."""
    directed: bool = False
    """Gets a reply of its own; otherwise it waits for the channel's interval."""


@dataclass(frozen=True, slots=True)
class StoredMessage:
    """A message of the inbox. `seq` is the order in which messages were stored."""

    seq: int
    inbound: Inbound
    arrived_at: float
    """Wall clock."""
    directed: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """The messages that one reply answers."""

    id: str
    reply_id: str
    nonce: str
    state: BatchState
    directed: bool
    messages: tuple[StoredMessage, ...]
    """In order; deleted ones are gone, so it can be empty."""
    attempt: int
    """Counts how often it was taken up."""
    lease_until: float
    created_at: float
    retry_at: float | None = None
    offline_message_ids: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    """The messages of the earlier reply, while that is made anew."""


def can_retake(batch: Batch, now: float) -> bool:
    """Whether nobody works on it and its time has come."""
    if batch.state is BatchState.CLAIMED:
        return batch.lease_until <= now
    return batch.state is BatchState.WAITING and (batch.retry_at or 0.0) <= now


def is_late(batch: Batch) -> bool:
    """Whether it is being tried again after every provider had failed."""
    return batch.retry_at is not None


def is_recovering(batch: Batch) -> bool:
    """Whether this run repeats one that a crash interrupted."""
    return batch.state is BatchState.CLAIMED and batch.attempt > 1 and not is_late(batch)


@dataclass(frozen=True, slots=True)
class PendingWork:
    """All that is still to do in one channel."""

    waiting: tuple[StoredMessage, ...] = ()
    """Messages to answer that no batch has claimed, in order."""
    batches: tuple[Batch, ...] = ()
    """Claimed and waiting ones, whoever holds them."""


@dataclass(frozen=True, slots=True)
class Claim:
    batch_id: str
    reply_id: str
    nonce: str
    seqs: tuple[int, ...]
    directed: bool
    lease_until: float


@dataclass(frozen=True, slots=True)
class RegenerateClaim:
    """A claim of a batch that was answered before."""

    reply_id: str
    nonce: str
    lease_until: float


@dataclass(frozen=True, slots=True)
class Postponement:
    """Why and until when a batch is put off. The record's attempts are stored with it."""

    retry_at: float
    offline_message_ids: tuple[str, ...] = ()
    record: ReplyRecord | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """A reply that a platform has shown."""

    text: str
    message_ids: tuple[str, ...]
    """The platform's ids of the messages that carry it; the first one stands for all."""
    author: Author
    """Whom the bot spoke as."""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """How a batch ended. The record's attempts are stored in the same transaction."""

    state: BatchState
    sent: Sent | None = None
    record: ReplyRecord | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One message of a conversation's memory, a person's or the bot's own."""

    seq: int
    position: int
    """Where it stands: its own `seq`; of a reply, the `seq` of the message it answers."""
    role: Literal["user", "assistant"]
    message_id: str
    author: Author
    text: str
    at: float
    images: tuple[ImageRef, ...] = ()
    state: MessageState = MessageState.ANSWERED
    reply_id: str | None = None
    """Of the bot's own messages."""
    record: ReplyRecord | None = None
    """How a reply came to be; only `transcript` fills it."""


@dataclass(frozen=True, slots=True)
class Overview:
    """A conversation in a list of conversations."""

    channel: Channel
    title: str
    """The beginning of its first message."""
    last_at: float


@dataclass(frozen=True, slots=True)
class Watermark:
    """Up to where a channel was read."""

    place: Place
    message_id: str


class InboxStore(Protocol):
    """Keeps messages, batches and replies. One object belongs to one running process.

    Every call is one transaction. Where several processes share a database, exactly one of them
    wins each `add`, `claim` and `retake`. All calls raise StorageError when the database cannot
    be used; then nothing of that call was stored.
    """

    async def add(self, inbound: Inbound, decision: Decision, now: float) -> bool:
        """Store a message, `pending` or `ignored`; False when it is known already, and then
        nothing is changed."""
        ...

    async def work(self, channel: Channel) -> PendingWork: ...

    async def claim(self, claim: Claim, now: float) -> Batch | None:
        """Make a batch of exactly these messages; None when any of them is not free any more."""
        ...

    async def retake(self, batch_id: str, lease_until: float, now: float) -> Batch | None:
        """Take up a batch whose lease ran out or whose `retry_at` has come, `attempt` counted on;
        None when it is neither."""
        ...

    async def renew(self, batch_id: str, lease_until: float) -> bool:
        """False when the batch is not claimed by this process any more."""
        ...

    async def release(self, batch_id: str) -> None:
        """Give up the lease at once, so that anybody can retake the batch."""
        ...

    async def postpone(self, batch_id: str, wait: Postponement) -> bool:
        """Let a claimed batch wait; False when it is not claimed by this process any more."""
        ...

    async def settle(self, batch_id: str, ending: BatchResult, now: float) -> bool:
        """End a claimed batch for good. False when this process does not hold it any more; then
        nothing is stored."""
        ...

    async def reopen(self, reply_id: str, claim: RegenerateClaim) -> Batch | None:
        """Claim the answered batch of that reply once more, to replace the reply; None when there
        is no such reply, or it was replaced already."""
        ...

    async def unfinished(self, now: float, orphaned_before: float) -> tuple[Channel, ...]:
        """Channels with expired leases, with batches whose `retry_at` has come, or with messages
        older than `orphaned_before` that nobody took up."""
        ...

    async def history(self, channel: Channel, until_seq: int, limit: int) -> tuple[Line, ...]:
        """The newest `limit` lines up to the message `until_seq`, oldest first. A reply stands
        right after the message it answers; replies to `until_seq` itself are left out, and so is
        what was forgotten, reset or replaced."""
        ...

    async def edit(self, inbound: Inbound) -> str | None:
        """Take over the new text and pictures of a known message; the id of the live batch that
        holds it."""
        ...

    async def delete(self, platform: str, message_id: str) -> str | None:
        """Forget a message's text; an unclaimed one becomes `ignored`. The id of the live batch
        that holds it. Of a message of the bot, the reply that it carries is forgotten."""
        ...

    async def transcript(
        self, channel: Channel, limit: int, before_seq: int | None = None
    ) -> tuple[Line, ...]:
        """For people to read: the newest lines, oldest first, replies with their records."""
        ...

    async def reply_at(self, platform: str, message_id: str) -> str | None:
        """Which reply a message of the bot carries."""
        ...

    async def parts(self, reply_id: str) -> tuple[str, ...]:
        """The platform's ids of the messages that carry a reply, in their order."""
        ...

    async def last_reply(self, channel: Channel) -> str | None: ...

    async def overviews(self, platform: str, parent_id: str) -> tuple[Overview, ...]:
        """The conversations of one parent (on the web: of one browser), newest first."""
        ...

    async def watermarks(self, platform: str, since: float) -> tuple[Watermark, ...]:
        """The newest stored message of each channel that had any since then: from where to catch
        up after a gap."""
        ...

    async def reset(self, channel: Channel) -> None:
        """Start the conversation afresh: nothing before this is put into a prompt again."""
        ...

    async def forget_author(self, platform: str, author_id: str) -> int:
        """Forget the texts and the name of one person, and the replies to them; the number of
        messages."""
        ...

    async def delete_channel(self, channel: Channel) -> None:
        """Forget a whole conversation; the ids stay, so that nothing is answered twice."""
        ...

    async def prune(self, before: float) -> int:
        """Delete settled messages, batches and replies older than `before`."""
        ...
