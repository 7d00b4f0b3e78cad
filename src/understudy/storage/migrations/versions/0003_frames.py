"""Text of replies on the page while an instance writes them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "frames",
        sa.Column("reply_id", sa.Text(), nullable=False),
        sa.Column("channel_id", sa.Text(), nullable=False),
        sa.Column("after_id", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("ended", sa.Boolean(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("changed_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("reply_id"),
    )
    op.create_index("frames_changed", "frames", ["changed_at"])
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE frames SET UNLOGGED")
