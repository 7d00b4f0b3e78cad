"""The versions of replies: which there are, and which is shown."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from sqlalchemy import Connection, RowMapping, and_, select, update

from understudy.conversation.inbox import Channel, Line
from understudy.storage import search_index
from understudy.storage.summaries import drop_covering
from understudy.storage.tables import SETTLED, batches, messages

Versions = Mapping[str, tuple[str, ...]]
"""Ids of all versions, oldest first, by the id of each of them."""


def read_versions(connection: Connection, found: Sequence[RowMapping]) -> Versions:
    """The versions of those replies among the rows that have several."""
    batch_ids = {row["batch_id"] for row in found if row["role"] == "assistant"} - {None}
    if not batch_ids:
        return {}
    chosen = (
        select(messages.c.batch_id, messages.c.reply_id)
        .where(messages.c.batch_id.in_(batch_ids), messages.c.role == "assistant")
        .order_by(messages.c.seq)
    )
    of_batch: dict[str, list[str]] = {}
    for batch_id, reply_id in connection.execute(chosen):
        of_batch.setdefault(batch_id, []).append(reply_id)
    return {
        reply_id: tuple(versions)
        for versions in of_batch.values()
        if len(versions) > 1
        for reply_id in versions
    }


def with_versions(lines: Sequence[Line], versions: Versions) -> tuple[Line, ...]:
    if not versions:
        return tuple(lines)
    return tuple(replace(line, versions=versions.get(line.reply_id or "", ())) for line in lines)


def choose_version(connection: Connection, channel: Channel, reply_id: str) -> bool:
    settled = select(batches.c.id).where(SETTLED)
    batch_id = connection.scalar(
        select(messages.c.batch_id).where(
            messages.c.platform == channel.platform,
            messages.c.channel_id == channel.id,
            messages.c.reply_id == reply_id,
            messages.c.batch_id.in_(settled),
        )
    )
    if batch_id is None:
        return False
    versions = and_(messages.c.batch_id == batch_id, messages.c.role == "assistant")
    drop_covering(connection, versions)
    search_index.remove(connection, versions)
    changed = connection.execute(
        update(messages)
        .where(versions)
        .values(superseded=messages.c.reply_id != reply_id)
        .returning(messages)
    )
    for row in changed.mappings().all():
        if not row["superseded"]:
            search_index.add(connection, row)
    return True
