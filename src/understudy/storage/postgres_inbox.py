"""The inbox on PostgreSQL: claims and results as single statements.

A statement costs a round trip to the server, and BEGIN and COMMIT are two more. Changes of one
statement see the state before it, so none of them may touch a row twice.
"""

from collections.abc import Sequence

from sqlalchemy import (
    ARRAY,
    BigInteger,
    ColumnElement,
    Connection,
    RowMapping,
    Text,
    all_,
    any_,
    bindparam,
    delete,
    func,
    literal,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert

from understudy.conversation.inbox import MESSAGE_STATE, BatchResult, Claim
from understudy.storage import inbox_rows, search_index
from understudy.storage.inbox import SqlInbox
from understudy.storage.inbox_statements import (
    ADD_MESSAGE,
    BATCH_ROW,
    CLAIM_MESSAGE,
    MINE,
    PLACE,
    REPLY_ROW,
    parameters,
    prefixed,
)
from understudy.storage.ledger_statements import insert_replies
from understudy.storage.sql_functions import new_seq
from understudy.storage.statements import Statement
from understudy.storage.tables import FREE, batches, messages, search_words, sent

_free = (
    select(messages.c.seq)
    .where(messages.c.seq == any_(bindparam("seqs", type_=ARRAY(BigInteger))), FREE)
    .order_by(messages.c.seq)
    # Rows that another process is claiming are left to it.
    .with_for_update(skip_locked=True)
    .cte("free")
)
_all_free = select(func.count()).select_from(_free).scalar_subquery() == bindparam(
    "count", type_=BigInteger
)
_claimed_here = (
    CLAIM_MESSAGE.where(messages.c.seq.in_(select(_free.c.seq)), _all_free)
    .returning(messages)
    .cte("claimed")
)
_batch = (
    insert(batches)
    .from_select(
        [*PLACE, *BATCH_ROW],
        select(*(_claimed_here.c[name] for name in PLACE), *parameters(batches, BATCH_ROW)).limit(
            1
        ),
    )
    .returning(batches.c.id)
    .cte("batch")
)
_CLAIM = Statement(select(_claimed_here).add_cte(_batch).order_by(_claimed_here.c.seq))
"""On PostgreSQL it is this one, which claims all messages or none: the `prefixed` batch, `seqs` and
`count`."""


_words: ColumnElement[str] = func.array_to_tsvector(
    func.string_to_array(bindparam("words", type_=Text), " ")
)
_has_words = bindparam("words", type_=Text) != ""


_added = ADD_MESSAGE.cte("added")
_indexed = (
    insert(search_words)
    .from_select(["rowid", "words"], select(_added.c.seq, _words).where(_has_words))
    .returning(search_words.c.rowid)
    .cte("indexed")
)
_ADD = Statement(select(_added.c.seq).add_cte(_indexed))

_ended = (
    update(batches)
    # A reply that is regenerated needs more.
    .where(*MINE, batches.c.replaces == "[]")
    .values(state=bindparam("to_state"))
    .returning(batches)
    .cte("ended")
)
_members = (
    update(messages)
    .where(messages.c.batch_id == _ended.c.id, messages.c.role == "user")
    .values(state=bindparam("member_state"))
    .returning(messages.c.seq, messages.c.text)
    .cte("members")
)
_dropped = (
    delete(messages)
    .where(messages.c.batch_id == _ended.c.id, messages.c.role == "assistant")
    .returning(messages.c.seq, messages.c.reply_id)
    .cte("dropped")
)
_unindexed = (
    delete(search_words)
    .where(search_words.c.rowid.in_(select(_dropped.c.seq)))
    .returning(search_words.c.rowid)
    .cte("unindexed")
)
_part_ids = bindparam("part_ids", type_=ARRAY(Text))
_dropped_parts = (
    delete(sent)
    # The same message may carry the new reply too.
    .where(sent.c.reply_id.in_(select(_dropped.c.reply_id)), sent.c.message_id != all_(_part_ids))
    .returning(sent.c.part)
    .cte("dropped_parts")
)
_answered = (
    select(func.max(_members.c.seq).label("position"))
    # A message that was erased while it was being answered gets no stored reply.
    .where(_members.c.text.is_not(None))
    .subquery("answered")
)
_FROM_BATCH = ("position", "platform", "message_id", "channel_id", "batch_id", "reply_id")
_GIVEN = [name for name in REPLY_ROW if name not in _FROM_BATCH]
_reply = (
    insert(messages)
    .from_select(
        ["seq", *_FROM_BATCH, *_GIVEN],
        select(
            new_seq(),
            _answered.c.position,
            _ended.c.platform,
            literal("reply:") + _ended.c.reply_id,
            _ended.c.channel_id,
            _ended.c.id,
            _ended.c.reply_id,
            *parameters(messages, _GIVEN),
        ).where(_answered.c.position.is_not(None)),
    )
    .returning(messages.c.seq)
    .cte("reply")
)
_ids = (
    func.unnest(_part_ids).table_valued("id", with_ordinality="place", name="ids").render_derived()
)
_add_parts = insert(sent).from_select(
    ["platform", "message_id", "reply_id", "part"],
    select(_ended.c.platform, _ids.c.id, _ended.c.reply_id, _ids.c.place - 1),
)
_parts = (
    _add_parts.on_conflict_do_update(
        index_elements=["platform", "message_id"],
        set_={"reply_id": _add_parts.excluded.reply_id, "part": _add_parts.excluded.part},
    )
    .returning(sent.c.part)
    .cte("parts")
)
_END_WITH_REPLY = Statement(
    select(
        _ended.c.platform,
        _ended.c.channel_id,
        select(_reply.c.seq).scalar_subquery().label("seq"),
    ).add_cte(_members, _dropped, _unindexed, _dropped_parts, _parts)
)


class PostgresInbox(SqlInbox):
    """Does the same as its base class in fewer statements."""

    async def _store_message(self, row: dict[str, object], key: int) -> bool:
        values = prefixed(row) | {"channel_key": key, "words": search_index.words_of_row(row)}
        return await self._db.write_one(lambda on: _ADD.run(on, values).first() is not None)

    async def _store_claim(self, claim: Claim, row: dict[str, object]) -> Sequence[RowMapping]:
        values = prefixed(row) | {"seqs": list(claim.seqs), "count": len(claim.seqs)}
        return await self._db.write_one(lambda on: _CLAIM.run(on, values).mappings().all())

    async def settle(self, batch_id: str, ending: BatchResult, now: float) -> bool:
        if ending.sent is None or self._volatile is not None:
            return await super().settle(batch_id, ending, now)
        record, reply = ending.record, inbox_rows.reply_columns(ending.sent, now)
        values = self._mine(batch_id) | {
            "to_state": ending.state,
            "member_state": MESSAGE_STATE[ending.state],
            "part_ids": list(ending.sent.message_ids),
            **prefixed(reply),
        }

        def work(connection: Connection) -> bool:
            stored = _END_WITH_REPLY.run(connection, values).mappings().first()
            if stored is None:
                return False
            if stored["seq"] is not None:
                search_index.add(connection, {**reply, **stored})
            if record is not None:
                insert_replies(connection, (record,))
            return True

        if await self._db.write(work):
            return True
        return await super().settle(batch_id, ending, now)
