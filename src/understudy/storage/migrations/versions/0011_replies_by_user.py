"""No query reads the replies of one user, so their index only costs time and space."""

from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.drop_index("replies_by_user", table_name="replies")
