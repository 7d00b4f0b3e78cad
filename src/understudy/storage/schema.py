"""The whole schema: the tables of both modules, and the newest migration.

A changed table needs a migration and a new `HEAD`; a test compares the two ways to the same schema.
"""

from understudy.storage import shared_tables, tables

HEAD = "0011"
"""The newest migration."""

metadata = tables.metadata
SHARED = (
    shared_tables.instances,
    shared_tables.roles,
    shared_tables.cooldowns,
    shared_tables.quotas,
    shared_tables.frames,
    shared_tables.stops,
)
"""Filled again by the processes that run; the other tables are kept and copied."""
