"""Converts messages, batches and lines to rows and back."""

from collections.abc import Sequence
from typing import Literal

import msgspec
from sqlalchemy import RowMapping

from understudy.conversation.inbox import (
    Batch,
    BatchState,
    Channel,
    Decision,
    Line,
    MessageState,
    Sent,
    StoredMessage,
    Thoughts,
)
from understudy.conversation.messages import (
    Addressed,
    AttachedText,
    Author,
    ImageRef,
    Inbound,
    Place,
)
from understudy.routing.records import ReplyRecord

NO_TEXT: dict[str, object] = {
    "text": None,
    "images": None,
    "files": None,
    "notes": None,
    "thoughts": None,
    "author_name": "",
}
"""The columns of a message whose text is erased or was never stored."""


LINE = (
    *("seq", "position", "role", "platform", "message_id", "reply_to", "author_id", "author_name"),
    *("author_is_bot", "text", "sent_at", "images", "files", "state", "reply_id", "thoughts"),
    *("thought_s", "record_id"),
)
"""The columns that `line` and its callers need."""


def message_row(inbound: Inbound, decision: Decision, now: float) -> dict[str, object]:
    """All columns but `seq` and `position`."""
    at, author = inbound.place, inbound.author
    return {
        "role": "user",
        "platform": at.platform,
        "message_id": inbound.message_id,
        "channel_id": at.channel_id,
        "parent_id": at.parent_id,
        "guild_id": at.guild_id,
        "private": at.private,
        "age_restricted": at.age_restricted,
        "author_id": author.id,
        "author_name": author.name,
        "author_is_bot": author.is_bot,
        **text_columns(inbound),
        "addressed": inbound.addressed,
        "to_others": inbound.to_others,
        "reply_to": inbound.reply_to,
        "sent_at": inbound.sent_at,
        "arrived_at": now,
        "state": MessageState.PENDING if decision.answer else MessageState.IGNORED,
        "directed": decision.directed,
    }


def text_columns(inbound: Inbound) -> dict[str, object]:
    """The columns that an edit changes."""
    return {
        "text": inbound.text,
        "images": packed(inbound.images) if inbound.images else None,
        "files": packed(inbound.files) if inbound.files else None,
        "notes": packed(inbound.notes) if inbound.notes else None,
    }


def reply_row(batch_row: RowMapping, sent: Sent, position: int, now: float) -> dict[str, object]:
    """The bot's own line, after the message at `position`."""
    return reply_columns(sent, now) | {
        "position": position,
        "platform": batch_row["platform"],
        "message_id": f"reply:{batch_row['reply_id']}",
        "channel_id": batch_row["channel_id"],
        "batch_id": batch_row["id"],
        "reply_id": batch_row["reply_id"],
    }


def reply_columns(sent: Sent, now: float) -> dict[str, object]:
    """Those that do not come from the batch; `reply_to` holds the id under which the platform
    shows the reply."""
    return {
        "role": "assistant",
        "private": False,
        "age_restricted": False,
        "author_id": sent.author.id,
        "author_name": sent.author.name,
        "author_is_bot": True,
        "text": sent.text,
        "thoughts": sent.thoughts.text if sent.thoughts else None,
        "thought_s": sent.thoughts.seconds if sent.thoughts else None,
        "to_others": False,
        "reply_to": next(iter(sent.message_ids), None),
        "sent_at": now,
        "arrived_at": now,
        "state": MessageState.ANSWERED,
        "directed": False,
    }


def past_row(place: Place, line: Line, seq: int, now: float) -> dict[str, object]:
    """A line that was copied or imported; `batch_id` is empty."""
    is_reply = line.role == "assistant"
    return {
        "seq": seq,
        "position": seq,
        "role": line.role,
        "platform": place.platform,
        "message_id": f"reply:{line.reply_id}" if is_reply else line.message_id,
        "channel_id": place.channel_id,
        "parent_id": None if is_reply else place.parent_id,
        "private": not is_reply and place.private,
        "age_restricted": False,
        "author_id": line.author.id,
        "author_name": line.author.name,
        "author_is_bot": is_reply,
        "text": line.text,
        "images": packed(line.images) if line.images else None,
        "files": packed(line.files) if line.files else None,
        "thoughts": line.thoughts.text if line.thoughts else None,
        "thought_s": line.thoughts.seconds if line.thoughts else None,
        "to_others": False,
        "reply_to": line.reply_id if is_reply else None,
        "sent_at": line.at,
        "arrived_at": now,
        "state": MessageState.ANSWERED,
        "directed": not is_reply,
        "batch_id": None,
        "reply_id": line.reply_id if is_reply else None,
        "record_id": line.record.request_id if line.record else None,
    }


def past_batch(channel: Channel, reply: Line, now: float) -> dict[str, object]:
    """The settled batch of a reply that was copied or imported."""
    return {
        "id": reply.reply_id,
        "platform": channel.platform,
        "channel_id": channel.id,
        "reply_id": reply.reply_id,
        "nonce": reply.reply_id,
        "state": BatchState.ANSWERED,
        "directed": True,
        "owner": "",
        "attempt": 1,
        "lease_until": 0.0,
        "created_at": now,
        "offline_ids": "[]",
        "replaces": "[]",
        "continues": False,
    }


def past_sent(channel: Channel, reply: Line) -> dict[str, object]:
    return {
        "platform": channel.platform,
        "message_id": reply.reply_id,
        "reply_id": reply.reply_id,
        "part": 0,
    }


def stored(row: RowMapping) -> StoredMessage:
    return StoredMessage(row["seq"], _inbound(row), row["arrived_at"], bool(row["directed"]))


def line(row: RowMapping, record: ReplyRecord | None = None) -> Line:
    role: Literal["user", "assistant"] = "user" if row["role"] == "user" else "assistant"
    return Line(
        seq=row["seq"],
        position=row["position"],
        role=role,
        message_id=row["message_id"] if role == "user" else row["reply_to"] or "",
        author=_author(row),
        text=row["text"] or "",
        at=row["sent_at"],
        images=_images(row),
        files=_files(row),
        state=MessageState(row["state"]),
        reply_id=row["reply_id"],
        record=record,
        thoughts=Thoughts(row["thoughts"], row["thought_s"]) if row["thoughts"] else None,
    )


def batch(row: RowMapping, messages: Sequence[StoredMessage], shift: float) -> Batch:
    """`shift` is how far the database's clock is ahead of this process's."""
    return Batch(
        id=row["id"],
        reply_id=row["reply_id"],
        nonce=row["nonce"],
        state=BatchState(row["state"]),
        directed=bool(row["directed"]),
        messages=tuple(messages),
        attempt=row["attempt"],
        lease_until=row["lease_until"] - shift,
        created_at=row["created_at"],
        retry_at=None if row["retry_at"] is None else row["retry_at"] - shift,
        offline_message_ids=unpacked(row["offline_ids"]),
        replaces=unpacked(row["replaces"]),
        continues=bool(row["continues"]),
    )


def place(row: RowMapping) -> Place:
    return Place(
        platform=row["platform"],
        channel_id=row["channel_id"],
        parent_id=row["parent_id"],
        guild_id=row["guild_id"],
        private=bool(row["private"]),
        age_restricted=bool(row["age_restricted"]),
    )


def packed(value: object) -> str:
    return msgspec.json.encode(value).decode()


def unpacked(text: str | None) -> tuple[str, ...]:
    return msgspec.json.decode(text, type=tuple[str, ...]) if text else ()


def _inbound(row: RowMapping) -> Inbound:
    return Inbound(
        message_id=row["message_id"],
        place=place(row),
        author=_author(row),
        text=row["text"] or "",
        sent_at=row["sent_at"],
        addressed=None if row["addressed"] is None else Addressed(row["addressed"]),
        to_others=bool(row["to_others"]),
        reply_to=row["reply_to"],
        images=_images(row),
        files=_files(row),
        notes=unpacked(row["notes"]),
    )


def _author(row: RowMapping) -> Author:
    return Author(row["author_id"], row["author_name"], is_bot=bool(row["author_is_bot"]))


def _files(row: RowMapping) -> tuple[AttachedText, ...]:
    if not row["files"]:
        return ()
    return msgspec.json.decode(row["files"], type=tuple[AttachedText, ...])


def _images(row: RowMapping) -> tuple[ImageRef, ...]:
    return msgspec.json.decode(row["images"], type=tuple[ImageRef, ...]) if row["images"] else ()
