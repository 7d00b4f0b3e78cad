"""Drops summaries whose lines change. Each function is part of the caller's transaction."""

from sqlalchemy import ColumnElement, Connection, and_, delete, func, or_, select, tuple_, update

from understudy.conversation.inbox import Channel
from understudy.storage.tables import messages, summaries, summary_authors

_here = tuple_(summaries.c.platform, summaries.c.channel_id)


def drop_covering(connection: Connection, where: ColumnElement[bool]) -> None:
    """Drop every summary that covers one of these messages, or is being made of it."""
    changed = (
        select(messages.c.platform, messages.c.channel_id, func.min(messages.c.position))
        .where(where)
        .group_by(messages.c.platform, messages.c.channel_id)
    )
    for platform, channel_id, first in connection.execute(changed).all():
        covers = or_(summaries.c.through >= first, summaries.c.pending >= first)
        _drop(connection, and_(is_of(Channel(platform, channel_id)), covers))


def drop_of_author(connection: Connection, platform: str, author_id: str) -> None:
    """Drop every summary that covers a line of this person, stored or not."""
    covered = select(summary_authors.c.platform, summary_authors.c.channel_id).where(
        summary_authors.c.platform == platform, summary_authors.c.author_id == author_id
    )
    _drop(connection, _here.in_(covered))
    by_author = and_(
        messages.c.platform == platform,
        messages.c.author_id == author_id,
        messages.c.role == "user",
    )
    drop_covering(connection, by_author)


def drop_of_channel(connection: Connection, channel: Channel) -> bool:
    """False where there is none."""
    return _drop(connection, is_of(channel))


def drop_before(connection: Connection, before: float) -> None:
    """Delete the summaries that were made before then: of conversations that have ended."""
    _drop(connection, summaries.c.made_at < before)


def is_of(channel: Channel) -> ColumnElement[bool]:
    return and_(summaries.c.platform == channel.platform, summaries.c.channel_id == channel.id)


def _drop(connection: Connection, where: ColumnElement[bool]) -> bool:
    dropped = connection.execute(
        select(summaries.c.platform, summaries.c.channel_id, summaries.c.through).where(where)
    ).all()
    # The row stays: its version makes the store of a summary of the old lines fail.
    connection.execute(
        update(summaries)
        .where(where)
        .values(
            text="", first=0, through=0, compacted=0, pending=0, version=summaries.c.version + 1
        )
    )
    for platform, channel_id, _ in dropped:
        connection.execute(
            delete(summary_authors).where(
                summary_authors.c.platform == platform,
                summary_authors.c.channel_id == channel_id,
            )
        )
    return any(through > 0 for *_, through in dropped)
