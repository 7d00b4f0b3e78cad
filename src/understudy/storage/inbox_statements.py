"""The statements of the inbox that run for every message."""

from collections.abc import Iterable, Mapping

from sqlalchemy import (
    BigInteger,
    BindParameter,
    ColumnElement,
    Table,
    bindparam,
    delete,
    select,
    true,
    update,
)

# PostgreSQL's INSERT compiles for SQLite too; the reverse does not.
from sqlalchemy.dialects.postgresql import insert

from understudy.conversation.inbox import BatchState, MessageState
from understudy.storage.sql_functions import new_seq, new_seq_in
from understudy.storage.statements import Statement
from understudy.storage.tables import FREE, LIVE, batches, messages, sent

USER_ROW = (
    *("role", "platform", "message_id", "channel_id", "parent_id", "guild_id", "private"),
    *("age_restricted", "author_id", "author_name", "author_is_bot", "text", "images", "files"),
    *("notes", "addressed", "to_others", "reply_to", "sent_at", "arrived_at", "state", "directed"),
)
REPLY_ROW = (
    *("position", "role", "platform", "message_id", "channel_id", "private", "age_restricted"),
    *("author_id", "author_name", "author_is_bot", "text", "to_others", "reply_to", "sent_at"),
    *("arrived_at", "state", "directed", "batch_id", "reply_id", "thoughts", "thought_s"),
)
BATCH_ROW = (
    *("id", "reply_id", "nonce", "state", "directed", "owner", "attempt", "lease_until"),
    *("created_at", "offline_ids", "replaces"),
)
PLACE = ("platform", "channel_id")
_PREFIX = "new_"


def prefixed(row: Mapping[str, object]) -> dict[str, object]:
    """A row as the parameters of `ADD` and `CLAIM`."""
    return {f"{_PREFIX}{name}": value for name, value in row.items()}


def parameters(table: Table, columns: Iterable[str]) -> list[BindParameter[object]]:
    """SQLAlchemy reserves the names of the columns, so these have a prefix."""
    return [bindparam(f"{_PREFIX}{name}", type_=table.c[name].type) for name in columns]


def _here(table: Table) -> list[ColumnElement[bool]]:
    return [table.c[name] == bindparam(name) for name in PLACE]


_key: BindParameter[int] = bindparam("channel_key", type_=BigInteger)
_number = select(new_seq_in(_key).label("seq")).subquery("number")
ADD_MESSAGE = (
    insert(messages)
    .from_select(
        ["seq", "position", *USER_ROW],
        # Without WHERE, SQLite reads ON CONFLICT as the condition of a join.
        select(_number.c.seq, _number.c.seq, *parameters(messages, USER_ROW)).where(true()),
    )
    .on_conflict_do_nothing(index_elements=["platform", "message_id"])
    .returning(messages.c.seq)
)
ADD = Statement(ADD_MESSAGE)
"""A person's message, as `prefixed` makes it, and `channel_key`."""

FREE_HERE = Statement(select(messages).where(*_here(messages), FREE).order_by(messages.c.seq))
LIVE_HERE = Statement(select(batches).where(*_here(batches), LIVE))

_wanted = messages.alias("wanted")
CLAIM_MESSAGE = update(messages).values(
    state=MessageState.CLAIMED.value, batch_id=bindparam(f"{_PREFIX}id")
)
CLAIM_MESSAGES = CLAIM_MESSAGE.where(
    messages.c.seq.in_(
        select(_wanted.c.seq).where(_wanted.c.seq.in_(bindparam("seqs", expanding=True)), FREE)
    )
).returning(messages)
ADD_BATCH = Statement(insert(batches), (*PLACE, *BATCH_ROW))
MINE = (
    batches.c.id == bindparam("of_batch"),
    batches.c.owner == bindparam("of_owner"),
    batches.c.state == BatchState.CLAIMED.value,
)
RENEW = Statement(
    update(batches).where(*MINE).values(lease_until=bindparam("until")).returning(batches.c.id)
)
MEMBERS = (
    select(messages)
    .where(
        messages.c.batch_id.in_(bindparam("batch_ids", expanding=True)), messages.c.role == "user"
    )
    .order_by(messages.c.seq)
)
MOVE_MEMBERS = Statement(
    update(messages)
    .where(messages.c.batch_id == bindparam("of_batch"), messages.c.role == "user")
    .values(state=bindparam("to_state"))
    .returning(messages.c.seq, messages.c.platform, messages.c.message_id, messages.c.text)
)
END = Statement(
    update(batches)
    .where(*MINE)
    .values(state=bindparam("to_state"))
    .returning(
        batches.c.id,
        batches.c.platform,
        batches.c.channel_id,
        batches.c.reply_id,
        batches.c.replaces,
    )
)
POSTPONE = Statement(
    update(batches)
    .where(*MINE)
    .values(
        state=bindparam("to_state"),
        retry_at=bindparam("to_retry_at"),
        offline_ids=bindparam("to_offline_ids"),
    )
    .returning(batches.c.id)
)
DROP_REPLY = Statement(
    delete(messages)
    .where(messages.c.batch_id == bindparam("of_batch"), messages.c.role == "assistant")
    .returning(messages.c.reply_id)
)
SUPERSEDE = Statement(
    update(messages)
    .where(messages.c.batch_id == bindparam("of_batch"), messages.c.role == "assistant")
    .values(superseded=true())
)
DROP_PARTS = Statement(delete(sent).where(sent.c.reply_id == bindparam("of_reply")))
ADD_REPLY = Statement(insert(messages).values(seq=new_seq()).returning(messages.c.seq), REPLY_ROW)
_add_part = insert(sent)
ADD_PART = Statement(
    _add_part.on_conflict_do_update(
        index_elements=["platform", "message_id"],
        set_={"reply_id": _add_part.excluded.reply_id, "part": _add_part.excluded.part},
    ),
    ("platform", "message_id", "reply_id", "part"),
)
