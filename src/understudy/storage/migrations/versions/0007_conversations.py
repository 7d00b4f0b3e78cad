"""Versions of replies, stored reasoning, titles, the chosen server of a conversation."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.add_column(
        "messages",
        sa.Column("superseded", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.add_column("messages", sa.Column("thoughts", sa.Text(), nullable=True))
    op.add_column("messages", sa.Column("thought_s", sa.Float(), nullable=True))
    op.add_column("messages", sa.Column("record_id", sa.Text(), nullable=True))
    op.add_column(
        "batches",
        sa.Column("continues", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.add_column("channels", sa.Column("title", sa.Text(), nullable=True))
    op.add_column("channels", sa.Column("candidate", sa.Text(), nullable=True))
