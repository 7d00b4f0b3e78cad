"""The first schema: inbox, preferences and ledger."""

import sqlalchemy as sa
from alembic import op

_ROW_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

revision = "0001"
down_revision = None


def _where(condition: str) -> dict[str, sa.TextClause]:
    """The condition of a partial index, for both databases."""
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    _inbox()
    _preferences()
    _ledger()


def _inbox() -> None:
    op.create_table(
        "batches",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("channel_id", sa.Text(), nullable=False),
        sa.Column("reply_id", sa.Text(), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("directed", sa.Boolean(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lease_until", sa.Float(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("retry_at", sa.Float(), nullable=True),
        sa.Column("offline_ids", sa.Text(), nullable=False),
        sa.Column("replaces", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "batches_live",
        "batches",
        ["platform", "channel_id"],
        unique=False,
        sqlite_where=sa.text("state IN ('claimed', 'waiting')"),
        postgresql_where=sa.text("state IN ('claimed', 'waiting')"),
    )
    op.create_index("batches_old", "batches", ["created_at"], unique=False)
    op.create_table(
        "messages",
        sa.Column("seq", _ROW_NUMBER, nullable=False),
        sa.Column("position", _ROW_NUMBER, nullable=False),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("channel_id", sa.Text(), nullable=False),
        sa.Column("parent_id", sa.Text(), nullable=True),
        sa.Column("guild_id", sa.Text(), nullable=True),
        sa.Column("private", sa.Boolean(), nullable=False),
        sa.Column("age_restricted", sa.Boolean(), nullable=False),
        sa.Column("author_id", sa.Text(), nullable=False),
        sa.Column("author_name", sa.Text(), nullable=False),
        sa.Column("author_is_bot", sa.Boolean(), nullable=False),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("images", sa.Text(), nullable=True),
        sa.Column("notes", sa.Text(), nullable=True),
        sa.Column("addressed", sa.Text(), nullable=True),
        sa.Column("to_others", sa.Boolean(), nullable=False),
        sa.Column("reply_to", sa.Text(), nullable=True),
        sa.Column("sent_at", sa.Float(), nullable=False),
        sa.Column("arrived_at", sa.Float(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("directed", sa.Boolean(), nullable=False),
        sa.Column("batch_id", sa.Text(), nullable=True),
        sa.Column("reply_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("platform", "message_id", name="messages_seen"),
    )
    op.create_index(
        "messages_free",
        "messages",
        ["platform", "channel_id", "seq"],
        unique=False,
        sqlite_where=sa.text("state = 'pending' AND batch_id IS NULL"),
        postgresql_where=sa.text("state = 'pending' AND batch_id IS NULL"),
    )
    op.create_index(
        "messages_lines", "messages", ["platform", "channel_id", "position", "seq"], unique=False
    )
    op.create_index(
        "messages_of_batch",
        "messages",
        ["batch_id"],
        unique=False,
        sqlite_where=sa.text("batch_id IS NOT NULL"),
        postgresql_where=sa.text("batch_id IS NOT NULL"),
    )
    op.create_index(
        "messages_of_parent",
        "messages",
        ["platform", "parent_id"],
        unique=False,
        sqlite_where=sa.text("parent_id IS NOT NULL"),
        postgresql_where=sa.text("parent_id IS NOT NULL"),
    )
    op.create_index(
        "messages_of_reply",
        "messages",
        ["reply_id"],
        unique=False,
        sqlite_where=sa.text("reply_id IS NOT NULL"),
        postgresql_where=sa.text("reply_id IS NOT NULL"),
    )
    op.create_index("messages_old", "messages", ["arrived_at"], unique=False)
    op.create_table(
        "sent",
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("message_id", sa.Text(), nullable=False),
        sa.Column("reply_id", sa.Text(), nullable=False),
        sa.Column("part", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("platform", "message_id"),
    )
    op.create_index("sent_of_reply", "sent", ["reply_id"], unique=False)


def _preferences() -> None:
    op.create_table(
        "channels",
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("channel_id", sa.Text(), nullable=False),
        sa.Column("reset_seq", _ROW_NUMBER, server_default="0", nullable=False),
        sa.Column("muted_until", sa.Float(), server_default="0", nullable=False),
        sa.Column("persona", sa.Text(), nullable=True),
        sa.Column("lore", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("platform", "channel_id"),
    )
    op.create_table(
        "opt_outs",
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("author_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("platform", "author_id"),
    )


def _ledger() -> None:
    op.create_table(
        "replies",
        sa.Column("run", _ROW_NUMBER, nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("ts", sa.Float(), nullable=False),
        sa.Column("sink", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("offline_reason", sa.Text(), nullable=True),
        sa.Column("retry_at", sa.Float(), nullable=True),
        sa.Column("winner", sa.Integer(), nullable=True),
        sa.Column("t_first_visible_ms", sa.Integer(), nullable=True),
        sa.Column("t_total_ms", sa.Integer(), nullable=False),
        sa.Column("channel", sa.Text(), nullable=False),
        sa.Column("user", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("run"),
        sa.UniqueConstraint("request_id", "ts", name="replies_once"),
    )
    op.create_index("replies_by_time", "replies", ["ts"], unique=False)
    op.create_index("replies_by_user", "replies", ["user", "ts"], unique=False)
    op.create_table(
        "attempts",
        sa.Column("run", _ROW_NUMBER, nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("ts", sa.Float(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("of_max", sa.Integer(), nullable=False),
        sa.Column("sink", sa.Text(), nullable=False),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("label", sa.Text(), nullable=False),
        sa.Column("engine", sa.Text(), nullable=False),
        sa.Column("endpoint_host", sa.Text(), nullable=False),
        sa.Column("key_ref", sa.Text(), nullable=True),
        sa.Column("model_requested", sa.Text(), nullable=False),
        sa.Column("model_served", sa.Text(), nullable=True),
        sa.Column("upstream_id", sa.Text(), nullable=True),
        sa.Column("role", sa.Text(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=False),
        sa.Column("phase", sa.Text(), nullable=False),
        sa.Column("next", sa.Text(), nullable=False),
        sa.Column("skip_reason", sa.Text(), nullable=True),
        sa.Column("error_class", sa.Text(), nullable=True),
        sa.Column("http_status", sa.Integer(), nullable=True),
        sa.Column("provider_code", sa.Text(), nullable=True),
        sa.Column("error_digest", sa.Text(), nullable=True),
        sa.Column("error_text", sa.Text(), nullable=True),
        sa.Column("retry_after_s", sa.Float(), nullable=True),
        sa.Column("committed", sa.Boolean(), nullable=False),
        sa.Column("visible_chars", sa.Integer(), nullable=False),
        sa.Column("finish_reason", sa.Text(), nullable=True),
        sa.Column("t_queue_ms", sa.Integer(), nullable=False),
        sa.Column("t_connect_ms", sa.Integer(), nullable=True),
        sa.Column("t_headers_ms", sa.Integer(), nullable=True),
        sa.Column("t_first_output_ms", sa.Integer(), nullable=True),
        sa.Column("t_first_visible_ms", sa.Integer(), nullable=True),
        sa.Column("t_total_ms", sa.Integer(), nullable=False),
        sa.Column("budget_ms", sa.Integer(), nullable=False),
        sa.Column("reused_connection", sa.Boolean(), nullable=False),
        sa.Column("keepalives", sa.Integer(), nullable=False),
        sa.Column("bad_frames", sa.Integer(), nullable=False),
        sa.Column("max_gap_ms", sa.Integer(), nullable=False),
        sa.Column("input_tokens", sa.Integer(), nullable=True),
        sa.Column("output_tokens", sa.Integer(), nullable=True),
        sa.Column("reasoning_tokens", sa.Integer(), nullable=True),
        sa.Column("cache_read_tokens", sa.Integer(), nullable=True),
        sa.Column("cache_write_tokens", sa.Integer(), nullable=True),
        sa.Column("usage_source", sa.Text(), nullable=True),
        sa.Column("reported_cost_usd", sa.Float(), nullable=True),
        sa.Column("cost_usd", sa.Float(), nullable=True),
        sa.Column("cost_source", sa.Text(), nullable=False),
        sa.Column("maybe_billed", sa.Boolean(), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("degraded", sa.Text(), nullable=False),
        sa.Column("breaker_scope", sa.Text(), nullable=True),
        sa.Column("breaker_before", sa.Text(), nullable=True),
        sa.Column("breaker_after", sa.Text(), nullable=True),
        sa.Column("breaker_hold_s", sa.Float(), nullable=True),
        sa.Column("held_until", sa.Float(), nullable=True),
        sa.Column("config_rev", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["run"], ["replies.run"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run", "attempt"),
    )
    op.create_index("attempts_by_time", "attempts", ["ts"], unique=False)
