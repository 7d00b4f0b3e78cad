"""Summaries, notes, the search index, and what a reply was for."""

import sqlalchemy as sa
from alembic import op

from understudy.storage.search_index import index_all
from understudy.storage.tables import SEARCH_DDL

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "summaries",
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("channel_id", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("first", number, nullable=False),
        sa.Column("through", number, nullable=False),
        sa.Column("compacted", number, nullable=False),
        sa.Column("pending", number, nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("made_at", sa.Float(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("leased_until", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("platform", "channel_id"),
    )
    op.create_table(
        "summary_authors",
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("channel_id", sa.Text(), nullable=False),
        sa.Column("author_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("platform", "channel_id", "author_id"),
    )
    op.create_index("summary_authors_by_author", "summary_authors", ["platform", "author_id"])
    op.create_table(
        "notes",
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("author_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("made_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("platform", "scope", "author_id", "number"),
    )
    op.execute("ALTER TABLE replies ADD COLUMN purpose TEXT NOT NULL DEFAULT 'reply'")
    for statement in SEARCH_DDL[op.get_bind().dialect.name]:
        op.execute(statement)
    index_all(op.get_bind())
