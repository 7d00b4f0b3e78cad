"""The order that was chosen for a reply."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("replies", sa.Column("order_name", sa.Text(), nullable=True))
