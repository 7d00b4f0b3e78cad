"""The inbox in the database: stored messages, claims, leases and results."""

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    RowMapping,
    ScalarSelect,
    and_,
    func,
    or_,
    select,
    union,
    update,
)

# PostgreSQL's INSERT compiles for SQLite too; the reverse does not.
from understudy.conversation.inbox import (
    MESSAGE_STATE,
    Batch,
    BatchResult,
    BatchState,
    Channel,
    Claim,
    Decision,
    PendingWork,
    Postponement,
    RegenerateClaim,
    Sent,
    StoredMessage,
)
from understudy.conversation.messages import Inbound
from understudy.storage import inbox_rows, note_rows, search_index
from understudy.storage import inbox_statements as st
from understudy.storage.conversations import SqlConversations
from understudy.storage.coordination import DatabaseClock
from understudy.storage.database import Database, channel_key
from understudy.storage.erasure import carried_by
from understudy.storage.history import parts_of
from understudy.storage.ledger_statements import insert_replies
from understudy.storage.summaries import drop_covering
from understudy.storage.tables import FREE, LIVE, SETTLED, batches, messages
from understudy.storage.volatile_text import MessageText, VolatileTexts, text_within, with_text

V = TypeVar("V")


class SqlInbox(SqlConversations):
    """The InboxStore of one process, in SQL of both dialects; `owner` is unique among the running
    processes."""

    def __init__(
        self,
        database: Database,
        owner: str,
        *,
        persist: bool = True,
        clock: DatabaseClock | None = None,
    ) -> None:
        super().__init__(database, None if persist else VolatileTexts())
        self._owner = owner
        self._clock = clock or DatabaseClock()

    async def add(self, inbound: Inbound, decision: Decision, now: float) -> bool:
        row = inbox_rows.message_row(inbound, decision, now)
        if self._volatile is not None:
            row |= inbox_rows.NO_TEXT
        new = await self._store_message(row, channel_key(Channel.of(inbound.place)))
        if new and self._volatile is not None:
            self._volatile[inbound.place.platform, inbound.message_id] = text_within(inbound)
        return new

    async def _store_message(self, row: dict[str, object], key: int) -> bool:
        """Whether it is new. `key` is that of its channel."""
        values = st.prefixed(row) | {"channel_key": key}

        def work(connection: Connection) -> bool:
            added = st.ADD.run(connection, values).first()
            if added is not None:
                search_index.add(connection, row | {"seq": added[0]})
            return added is not None

        return await self._db.write(work)

    async def work(self, channel: Channel) -> PendingWork:
        here = {"platform": channel.platform, "channel_id": channel.id}

        def work(connection: Connection) -> PendingWork:
            waiting = st.FREE_HERE.run(connection, here).mappings().all()
            found = st.LIVE_HERE.run(connection, here).mappings().all()
            members = self._members(connection, [row["id"] for row in found])
            shift = self._clock.offset
            return PendingWork(
                self._to_stored(waiting),
                tuple(inbox_rows.batch(row, members[row["id"]], shift) for row in found),
            )

        return await self._db.read(work)

    async def claim(self, claim: Claim, now: float) -> Batch | None:
        row = self._batch_row(claim, now)
        found = await self._store_claim(claim, row)
        if not found:
            return None
        return Batch(
            id=claim.batch_id,
            reply_id=claim.reply_id,
            nonce=claim.nonce,
            state=BatchState.CLAIMED,
            directed=claim.directed,
            messages=self._to_stored(found),
            attempt=1,
            lease_until=claim.lease_until,
            created_at=now,
        )

    async def _store_claim(self, claim: Claim, row: dict[str, object]) -> Sequence[RowMapping]:
        """The claimed messages in order; empty where one of them was not free."""
        wanted = {"seqs": claim.seqs, **st.prefixed({"id": claim.batch_id})}

        def work(connection: Connection) -> Sequence[RowMapping]:
            claimed = connection.execute(st.CLAIM_MESSAGES, wanted).mappings()
            found = sorted(claimed, key=lambda row: row["seq"])
            if not found or len(found) != len(claim.seqs):
                connection.rollback()
                return ()
            place = {"platform": found[0]["platform"], "channel_id": found[0]["channel_id"]}
            st.ADD_BATCH.run(connection, row | place)
            return found

        return await self._db.write(work)

    def _batch_row(self, claim: Claim, now: float) -> dict[str, object]:
        return {
            "id": claim.batch_id,
            "reply_id": claim.reply_id,
            "nonce": claim.nonce,
            "state": BatchState.CLAIMED,
            "directed": claim.directed,
            "owner": self._owner,
            "attempt": 1,
            "lease_until": claim.lease_until + self._clock.offset,
            "created_at": now,
            "offline_ids": "[]",
            "replaces": "[]",
        }

    async def reclaim(self, batch_id: str, lease_until: float, now: float) -> Batch | None:
        shift = self._clock.offset
        crashed = and_(batches.c.state == BatchState.CLAIMED, batches.c.lease_until <= now + shift)
        due = and_(
            batches.c.state == BatchState.WAITING,
            func.coalesce(batches.c.retry_at, 0) <= now + shift,
        )

        def work(connection: Connection) -> Batch | None:
            moved = self._move(
                connection,
                and_(batches.c.id == batch_id, or_(crashed, due)),
                BatchState.CLAIMED,
                owner=self._owner,
                attempt=batches.c.attempt + 1,
                lease_until=lease_until + shift,
            )
            return self._batch(connection, batch_id) if moved else None

        return await self._db.write(work)

    async def renew(self, batch_id: str, lease_until: float) -> bool:
        until = lease_until + self._clock.offset
        values = self._mine(batch_id) | {"until": until}
        return await self._db.write_one(lambda on: st.RENEW.run(on, values).first() is not None)

    async def release(self, batch_id: str) -> None:
        await self.renew(batch_id, 0.0)

    async def postpone(self, batch_id: str, wait: Postponement) -> bool:
        values = self._mine(batch_id) | {
            "to_state": BatchState.WAITING,
            "to_retry_at": wait.retry_at + self._clock.offset,
            "to_offline_ids": inbox_rows.packed(wait.offline_message_ids),
        }

        def work(connection: Connection) -> bool:
            if st.POSTPONE.run(connection, values).first() is None:
                return False
            self._move_members(connection, batch_id, BatchState.WAITING)
            if wait.record is not None:
                insert_replies(connection, (wait.record,))
            return True

        return await self._db.write(work)

    async def settle(self, batch_id: str, ending: BatchResult, now: float) -> bool:
        values = self._mine(batch_id) | {"to_state": ending.state}

        def work(connection: Connection) -> bool:
            batch = st.END.run(connection, values).mappings().one_or_none()
            if batch is None:
                return False
            members = self._move_members(connection, batch_id, ending.state)
            if ending.sent is not None:
                self._add_reply(connection, batch, members, ending.sent, now)
            if ending.record is not None:
                insert_replies(connection, (ending.record,))
            return True

        return await self._db.write(work)

    async def reopen(self, reply_id: str, claim: RegenerateClaim) -> Batch | None:
        batch_id = select(messages.c.batch_id).where(messages.c.reply_id == reply_id)
        stopped = and_(batches.c.reply_id == reply_id, batches.c.state == BatchState.IGNORED)

        def work(connection: Connection) -> Batch | None:
            replaces = tuple(connection.scalars(parts_of(reply_id)).all())
            moved = self._move(
                connection,
                and_(or_(batches.c.id == batch_id.scalar_subquery(), stopped), SETTLED),
                BatchState.CLAIMED,
                reply_id=claim.reply_id,
                nonce=claim.nonce,
                owner=self._owner,
                attempt=1,
                lease_until=claim.lease_until + self._clock.offset,
                retry_at=None,
                offline_ids="[]",
                replaces=inbox_rows.packed(replaces),
                continues=claim.continues,
            )
            return self._batch(connection, moved["id"]) if moved else None

        return await self._db.write(work)

    async def unfinished(self, now: float, orphaned_before: float) -> tuple[Channel, ...]:
        shift = self._clock.offset
        due = or_(
            and_(batches.c.state == BatchState.CLAIMED, batches.c.lease_until <= now + shift),
            and_(batches.c.state == BatchState.WAITING, batches.c.retry_at <= now + shift),
        )
        left = select(batches.c.platform, batches.c.channel_id).where(LIVE, due)
        orphans = (
            select(messages.c.platform, messages.c.channel_id)
            .where(FREE, messages.c.arrived_at < orphaned_before)
            # Nearly every message is old, but few are free.
            .with_hint(messages, "INDEXED BY messages_free", "sqlite")
        )
        due_or_orphaned = union(left, orphans)
        found = await self._db.read(lambda connection: connection.execute(due_or_orphaned).all())
        return tuple(Channel(platform, channel_id) for platform, channel_id in found)

    async def edit(self, inbound: Inbound) -> str | None:
        platform = inbound.place.platform
        text = self._volatile and self._volatile[platform, inbound.message_id]
        if self._volatile is not None and text:
            edited = replace(text_within(inbound), name=text.name)
            self._volatile[platform, inbound.message_id] = edited

        def work(connection: Connection) -> str | None:
            changes = and_(_message(platform, inbound.message_id), messages.c.text != inbound.text)
            drop_covering(connection, changes)
            note_rows.drop_proposals_from(connection, changes)
            edited = connection.execute(
                update(messages)
                .where(_message(platform, inbound.message_id), messages.c.text.is_not(None))
                .values(**inbox_rows.text_columns(inbound))
                .returning(messages)
            )
            for row in edited.mappings():
                search_index.replace(connection, row)
            return self._live_batch(connection, platform, inbound.message_id)

        return await self._db.write(work)

    async def delete(self, platform: str, message_id: str) -> str | None:
        gone = or_(_message(platform, message_id), carried_by(platform, message_id))
        # Replies to it come later in its channel, which limits the rows to search.
        quoting = and_(
            messages.c.platform == platform,
            messages.c.channel_id
            == select(messages.c.channel_id).where(gone).limit(1).scalar_subquery(),
            messages.c.position
            > select(messages.c.position).where(gone).limit(1).scalar_subquery(),
            messages.c.reply_to == message_id,
        )
        await self._erase(gone, quoting, replies_too=False)
        return await self._db.read(lambda on: self._live_batch(on, platform, message_id))

    def _mine(self, batch_id: str) -> dict[str, object]:
        """The parameters of `MINE`."""
        return {"of_batch": batch_id, "of_owner": self._owner}

    def _move(
        self,
        connection: Connection,
        where: ColumnElement[bool],
        state: BatchState,
        **values: object,
    ) -> RowMapping | None:
        """Move a batch and its messages to a state; None when `where` finds no batch."""
        moved = connection.execute(
            update(batches).where(where).values(state=state, **values).returning(batches)
        )
        row: RowMapping | None = moved.mappings().one_or_none()
        if row is not None:
            self._move_members(connection, row["id"], state)
        return row

    def _move_members(
        self, connection: Connection, batch_id: str, state: BatchState
    ) -> Sequence[RowMapping]:
        values = {"of_batch": batch_id, "to_state": MESSAGE_STATE[state]}
        return st.MOVE_MEMBERS.run(connection, values).mappings().all()

    def _add_reply(
        self,
        connection: Connection,
        batch: RowMapping,
        members: Sequence[RowMapping],
        reply: Sent,
        now: float,
    ) -> None:
        """Store the reply right after the message it answers, and replace an earlier one."""
        if inbox_rows.unpacked(batch["replaces"]):
            replaced = and_(messages.c.batch_id == batch["id"], messages.c.role == "assistant")
            drop_covering(connection, replaced)
            search_index.remove(connection, replaced)
        if reply.keeps_versions:
            st.SUPERSEDE.run(connection, {"of_batch": batch["id"]})
        else:
            for earlier in st.DROP_REPLY.run(connection, {"of_batch": batch["id"]}).scalars().all():
                st.DROP_PARTS.run(connection, {"of_reply": earlier})
        answered = [row["seq"] for row in members if self._has_text(row)]
        # A message that was erased while it was being answered gets no stored reply.
        if answered:
            row = inbox_rows.reply_row(batch, reply, max(answered), now)
            if self._volatile is not None:
                text = MessageText(reply.author.name, reply.text, thoughts=reply.thoughts)
                self._volatile[batch["platform"], f"reply:{batch['reply_id']}"] = text
                row |= inbox_rows.NO_TEXT
            row["seq"] = st.ADD_REPLY.run(connection, row).one()[0]
            search_index.add(connection, row)
        carried = {"platform": batch["platform"], "reply_id": batch["reply_id"]}
        for part, message_id in enumerate(reply.message_ids):
            st.ADD_PART.run(connection, {**carried, "message_id": message_id, "part": part})

    def _has_text(self, row: RowMapping) -> bool:
        if self._volatile is None:
            return row["text"] is not None
        return self._volatile[row["platform"], row["message_id"]] is not None

    def _batch(self, connection: Connection, batch_id: str) -> Batch:
        found = connection.execute(select(batches).where(batches.c.id == batch_id))
        members = self._members(connection, [batch_id])
        return inbox_rows.batch(found.mappings().one(), members[batch_id], self._clock.offset)

    def _members(
        self, connection: Connection, batch_ids: Sequence[str]
    ) -> dict[str, list[StoredMessage]]:
        members: dict[str, list[StoredMessage]] = {batch_id: [] for batch_id in batch_ids}
        if batch_ids:
            for row in connection.execute(st.MEMBERS, {"batch_ids": batch_ids}).mappings():
                members[row["batch_id"]] += self._to_stored((row,))
        return members

    def _to_stored(self, found: Sequence[RowMapping]) -> tuple[StoredMessage, ...]:
        """The rows as messages, without those whose text was erased."""
        if self._volatile is None:
            return tuple(inbox_rows.stored(row) for row in found if row["text"] is not None)
        found_messages = []
        for row in found:
            text = self._volatile[row["platform"], row["message_id"]]
            if text is not None:
                message = inbox_rows.stored(row)
                inbound = with_text(message.inbound, text)
                found_messages.append(replace(message, inbound=inbound))
        return tuple(found_messages)

    def _live_batch(self, connection: Connection, platform: str, message_id: str) -> str | None:
        found: str | None = connection.scalar(
            select(batches.c.id)
            .join(messages, messages.c.batch_id == batches.c.id)
            .where(_message(platform, message_id), batches.c.state.in_(("claimed", "waiting")))
        )
        return found


def _first(column: Column[V], where: ColumnElement[bool]) -> ScalarSelect[V]:
    return select(column).where(where).limit(1).scalar_subquery()


def _message(platform: str, message_id: str) -> ColumnElement[bool]:
    return and_(messages.c.platform == platform, messages.c.message_id == message_id)
