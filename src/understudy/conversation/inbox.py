"""The inbox: messages, the batches that claim them, and the replies; its storage interface.

A message is `pending` until a batch claims it; it ends as `answered`, `ignored` or `failed`.
A batch is claimed under a lease; while it waits for a late answer its messages are `pending`
again but stay assigned to it. The same rows are the conversation's history.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Literal, Protocol

from understudy.conversation.messages import AttachedText, Author, ImageRef, Inbound, Place
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
    """A process works on it until its lease runs out."""
    WAITING = "waiting"
    """Every provider failed; it is retried at `retry_at`."""
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
    """The channel of a conversation; the unit of batching, history and locking."""

    platform: str
    id: str

    @staticmethod
    def of(place: Place) -> "Channel":
        return Channel(place.platform, place.channel_id)


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether a message is answered, and why."""

    answer: bool
    reason: str
    """A constant word; logged for every message."""
    directed: bool = False
    """Gets its own reply; otherwise it waits for the channel's interval."""
    retry_at: float | None = None
    """Wall clock at which the rate limit that refused the message admits one again."""


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
    """In order, without deleted ones, so it can be empty."""
    attempt: int
    """How often it was claimed."""
    lease_until: float
    created_at: float
    retry_at: float | None = None
    offline_message_ids: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()
    """The messages of the earlier reply, while it is regenerated."""
    continues: bool = False
    """The reply begins with the text of the earlier one."""


def can_reclaim(batch: Batch, now: float) -> bool:
    """Whether its lease has run out, or its retry is due."""
    if batch.state is BatchState.CLAIMED:
        return batch.lease_until <= now
    return batch.state is BatchState.WAITING and (batch.retry_at or 0.0) <= now


def is_late(batch: Batch) -> bool:
    """Whether it is retried after every provider had failed."""
    return batch.retry_at is not None


def is_recovering(batch: Batch) -> bool:
    """Whether this run repeats one that a crash interrupted."""
    return batch.state is BatchState.CLAIMED and batch.attempt > 1 and not is_late(batch)


@dataclass(frozen=True, slots=True)
class PendingWork:
    """The open work of one channel."""

    waiting: tuple[StoredMessage, ...] = ()
    """Messages to answer that no batch has claimed, in order."""
    batches: tuple[Batch, ...] = ()
    """Claimed and waiting batches of all processes."""


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
    continues: bool = False


@dataclass(frozen=True, slots=True)
class Postponement:
    """Until when a batch is postponed. The record's attempts are stored with it."""

    retry_at: float
    offline_message_ids: tuple[str, ...] = ()
    record: ReplyRecord | None = None


@dataclass(frozen=True, slots=True)
class Thoughts:
    """A model's reasoning before its reply."""

    text: str
    seconds: float | None = None
    """How long it took, where that is known."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A reply that a platform has shown."""

    text: str
    message_ids: tuple[str, ...]
    """The platform's ids of the messages that carry it; the first identifies the reply."""
    author: Author
    """The bot under the persona's name."""
    thoughts: Thoughts | None = None
    keeps_versions: bool = False
    """The reply that this one replaces stays stored, as another version."""


@dataclass(frozen=True, slots=True)
class BatchResult:
    """How a batch ended. The record's attempts are stored in the same transaction."""

    state: BatchState
    sent: Sent | None = None
    record: ReplyRecord | None = None


@dataclass(frozen=True, slots=True)
class Line:
    """One message of a conversation's history, a person's or the bot's own."""

    seq: int
    position: int
    """Sort key: its own `seq`; of a reply, the `seq` of the message it answers."""
    role: Literal["user", "assistant"]
    message_id: str
    author: Author
    text: str
    at: float
    images: tuple[ImageRef, ...] = ()
    files: tuple[AttachedText, ...] = ()
    state: MessageState = MessageState.ANSWERED
    reply_id: str | None = None
    """Of the bot's own messages. `transcript` also fills it for a person's message whose reply was
    stopped before its first text."""
    record: ReplyRecord | None = None
    """The record of a reply; filled by `transcript` only."""
    thoughts: Thoughts | None = None
    versions: tuple[str, ...] = ()
    """Ids of all versions of a reply, oldest first; filled by `transcript` only."""


@dataclass(frozen=True, slots=True)
class Overview:
    """A conversation in a list of conversations."""

    channel: Channel
    title: str
    """Its given title, else the beginning of its first message."""
    last_at: float


@dataclass(frozen=True, slots=True)
class Watermark:
    """The newest message of a channel that was read."""

    place: Place
    message_id: str


class InboxStore(Protocol):
    """Stores messages, batches and replies. One object belongs to one running process.

    Every call is one transaction. Where several processes share a database, exactly one of them
    wins each `add`, `claim` and `reclaim`. All calls raise StorageError when the database cannot
    be used; then nothing of that call was stored.
    """

    async def add(self, inbound: Inbound, decision: Decision, now: float) -> bool:
        """Store a message, `pending` or `ignored`; False when it is known already, and then
        nothing is changed."""
        ...

    async def work(self, channel: Channel) -> PendingWork: ...

    async def claim(self, claim: Claim, now: float) -> Batch | None:
        """Make a batch of exactly these messages; None when any of them is claimed already."""
        ...

    async def reclaim(self, batch_id: str, lease_until: float, now: float) -> Batch | None:
        """Claim a batch whose lease ran out or whose `retry_at` has come, and increment `attempt`;
        None when neither is the case."""
        ...

    async def renew(self, batch_id: str, lease_until: float) -> bool:
        """False when the batch is not claimed by this process any more."""
        ...

    async def release(self, batch_id: str) -> None:
        """End the lease at once, so that any process can reclaim the batch."""
        ...

    async def postpone(self, batch_id: str, wait: Postponement) -> bool:
        """Let a claimed batch wait; False when it is not claimed by this process any more."""
        ...

    async def settle(self, batch_id: str, ending: BatchResult, now: float) -> bool:
        """End a claimed batch for good. False when this process does not hold it any more; then
        nothing is stored."""
        ...

    async def reopen(self, reply_id: str, claim: RegenerateClaim) -> Batch | None:
        """Claim the settled batch of that reply once more, to replace the reply; None when there
        is no such reply, or it was replaced already. A reply that was stopped before its first
        text counts too."""
        ...

    async def unfinished(self, now: float, orphaned_before: float) -> tuple[Channel, ...]:
        """Channels with expired leases, with batches whose `retry_at` has come, or with messages
        older than `orphaned_before` that no process has claimed."""
        ...

    async def history(self, channel: Channel, until_seq: int, limit: int) -> tuple[Line, ...]:
        """The newest `limit` lines up to the message `until_seq`, oldest first. A reply comes
        right after the message it answers; replies to `until_seq` itself are left out, as are
        deleted, reset and replaced lines."""
        ...

    async def edit(self, inbound: Inbound) -> str | None:
        """Store the new text and images of a known message; returns the id of the open batch that
        contains it."""
        ...

    async def delete(self, platform: str, message_id: str) -> str | None:
        """Delete a message's text; an unclaimed one becomes `ignored`. Returns the id of the open
        batch that contains it. For a message of the bot, the reply that it carries is deleted."""
        ...

    async def transcript(
        self, channel: Channel, limit: int, before_seq: int | None = None
    ) -> tuple[Line, ...]:
        """For display: the newest lines, oldest first, replies with their records."""
        ...

    async def knows(self, channel: Channel) -> bool:
        """Whether any message of the channel was ever stored and is not pruned yet."""
        ...

    async def reply_at(self, platform: str, message_id: str) -> str | None:
        """Which reply a message of the bot carries."""
        ...

    async def channel_of_reply(self, reply_id: str) -> Channel | None:
        """Where a reply was given; None when it is unknown."""
        ...

    async def parts(self, reply_id: str) -> tuple[str, ...]:
        """The platform's ids of the messages that carry a reply, in their order."""
        ...

    async def last_reply(self, channel: Channel) -> str | None: ...

    async def reply_line(self, reply_id: str) -> Line | None:
        """A stored reply, of any version."""
        ...

    async def choose_version(self, channel: Channel, reply_id: str) -> bool:
        """Show this version of its reply and use it in prompts. False when there is no such
        version, or when another one is being generated."""
        ...

    async def add_past(self, place: Place, lines: Sequence[Line], now: float) -> bool:
        """Store lines with new ids as the past of a conversation; False when it has one already.
        A reply answers the person's line before it."""
        ...

    async def title(self, channel: Channel) -> str | None:
        """The title that was given."""
        ...

    async def set_title(self, channel: Channel, title: str, *, replace: bool) -> bool:
        """Give a title; without `replace` only a first one. False when there is one already."""
        ...

    async def overviews(self, platform: str, parent_id: str) -> tuple[Overview, ...]:
        """The conversations of one parent (on the web: of one browser), newest first."""
        ...

    async def watermarks(self, platform: str, since: float) -> tuple[Watermark, ...]:
        """The newest stored message of each channel that had any since then: from where to catch
        up after a gap."""
        ...

    async def recent_people(self, platform: str, since: float, limit: int) -> tuple[str, ...]:
        """The ids of people who addressed the bot outside private places since then, the latest
        first."""
        ...

    async def reset(self, channel: Channel) -> None:
        """Exclude everything before now from future prompts."""
        ...

    async def forget_author(self, platform: str, author_id: str) -> int:
        """Delete the texts and the name of one person, and the replies to them; returns the number
        of messages."""
        ...

    async def delete_channel(self, channel: Channel) -> None:
        """Delete a whole conversation; ids stay, so that no message is answered twice."""
        ...

    async def prune(self, before: float) -> int:
        """Delete settled messages, batches and replies older than `before`."""
        ...
