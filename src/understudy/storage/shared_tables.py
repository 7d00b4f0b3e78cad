"""The tables by which the processes of one database know of each other.

They hold nothing that must survive: each process writes its part again. Times are the database's
clock, in seconds since the epoch.
"""

from sqlalchemy import DDL, Boolean, Column, Float, Index, Table, Text, event

from understudy.storage.tables import metadata

instances = Table(
    "instances",
    metadata,
    Column("id", Text, primary_key=True),
    Column("started_at", Float, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("config_rev", Text, nullable=False),
)
"""The processes that use this database. Times by the database's clock."""

roles = Table(
    "roles",
    metadata,
    Column("name", Text, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("until", Float, nullable=False),
)
"""Work that one instance does for all, under a lease."""

cooldowns = Table(
    "cooldowns",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("until", Float, nullable=False),
    Column("cause", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("leased_until", Float, nullable=False),
    Column("changed_at", Float, nullable=False),
    Index("cooldowns_changed", "changed_at"),
)
"""Open cooldowns that instances share; a closed one has `until` 0. Times by the database's
clock."""

quotas = Table(
    "quotas",
    metadata,
    Column("scope", Text, primary_key=True),
    Column("window", Text, primary_key=True),
    Column("used", Float, nullable=False),
    Column("ends_at", Float, nullable=False),
    Index("quotas_old", "ends_at"),
)
"""What a user, a key or all together used in one window of time, reservations included."""

frames = Table(
    "frames",
    metadata,
    Column("reply_id", Text, primary_key=True),
    Column("channel_id", Text, nullable=False),
    Column("after_id", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("ended", Boolean, nullable=False),
    Column("owner", Text, nullable=False),
    Column("changed_at", Float, nullable=False),
    Index("frames_changed", "changed_at"),
)
"""Text of replies on the page while an instance writes them. Lost with a crash of PostgreSQL: the
inbox has the finished replies."""

event.listen(
    frames,
    "after_create",
    DDL("ALTER TABLE frames SET UNLOGGED").execute_if(dialect="postgresql"),  # type: ignore[no-untyped-call]
)

stops = Table(
    "stops",
    metadata,
    Column("reply_id", Text, primary_key=True),
    Column("asked_at", Float, nullable=False),
)
"""Replies that an instance is to stop, asked for at another one."""
