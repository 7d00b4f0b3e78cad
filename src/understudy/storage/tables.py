"""The tables that are kept: inbox with history, preferences, memory, and the usage ledger.

`schema` says how to change them. Times are wall clock, in seconds since the epoch. No table holds a
key or a prompt; error texts are stored only with `debug.error_text`.
"""

from sqlalchemy import (
    DDL,
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TextClause,
    UniqueConstraint,
    event,
    false,
    text,
)

metadata = MetaData()

# Literals: SQLite uses a partial index only for a query with the same condition.
FREE = text("state = 'pending' AND batch_id IS NULL")
"""Messages to answer that no batch has claimed."""
LIVE = text("state IN ('claimed', 'waiting')")
"""Batches that are not settled."""
SETTLED = text("state NOT IN ('claimed', 'waiting')")

# Only INTEGER makes a column SQLite's row number.
_RowNumber = BigInteger().with_variant(Integer, "sqlite")


def _partial_index(name: str, *columns: str, where: TextClause) -> Index:
    return Index(name, *columns, sqlite_where=where, postgresql_where=where)


messages = Table(
    "messages",
    metadata,
    Column("seq", _RowNumber, primary_key=True),
    Column("position", _RowNumber, nullable=False),
    Column("role", Text, nullable=False),
    Column("platform", Text, nullable=False),
    Column("message_id", Text, nullable=False),
    Column("channel_id", Text, nullable=False),
    Column("parent_id", Text),
    Column("guild_id", Text),
    Column("private", Boolean, nullable=False),
    Column("age_restricted", Boolean, nullable=False),
    Column("author_id", Text, nullable=False),
    Column("author_name", Text, nullable=False),
    Column("author_is_bot", Boolean, nullable=False),
    # NULL: erased, never stored, or empty.
    Column("text", Text),
    Column("images", Text),
    Column("notes", Text),
    Column("addressed", Text),
    Column("to_others", Boolean, nullable=False),
    Column("reply_to", Text),
    Column("sent_at", Float, nullable=False),
    Column("arrived_at", Float, nullable=False),
    Column("state", Text, nullable=False),
    Column("directed", Boolean, nullable=False),
    Column("batch_id", Text),
    Column("reply_id", Text),
    Column("files", Text),
    # Only of replies: another version of the reply is shown and goes into prompts.
    Column("superseded", Boolean, nullable=False, server_default=false()),
    # The model's reasoning, and how long it took. Erased with the text.
    Column("thoughts", Text),
    Column("thought_s", Float),
    # Of a reply that was copied from another conversation: the reply whose record it shows.
    Column("record_id", Text),
    UniqueConstraint("platform", "message_id", name="messages_seen"),
    Index("messages_lines", "platform", "channel_id", "position", "seq"),
    _partial_index("messages_of_batch", "batch_id", where=text("batch_id IS NOT NULL")),
    _partial_index("messages_of_reply", "reply_id", where=text("reply_id IS NOT NULL")),
    _partial_index(
        "messages_of_parent", "platform", "parent_id", where=text("parent_id IS NOT NULL")
    ),
    _partial_index("messages_free", "platform", "channel_id", "seq", where=FREE),
    Index("messages_old", "arrived_at"),
)
"""What people wrote, and what the bot answered (`role` is `assistant`)."""

batches = Table(
    "batches",
    metadata,
    Column("id", Text, primary_key=True),
    Column("platform", Text, nullable=False),
    Column("channel_id", Text, nullable=False),
    Column("reply_id", Text, nullable=False),
    Column("nonce", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("directed", Boolean, nullable=False),
    Column("owner", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("lease_until", Float, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("retry_at", Float),
    Column("offline_ids", Text, nullable=False),
    Column("replaces", Text, nullable=False),
    # Whether the reply continues the one that it replaces.
    Column("continues", Boolean, nullable=False, server_default=false()),
    _partial_index("batches_live", "platform", "channel_id", where=LIVE),
    Index("batches_old", "created_at"),
)

sent = Table(
    "sent",
    metadata,
    Column("platform", Text, primary_key=True),
    Column("message_id", Text, primary_key=True),
    Column("reply_id", Text, nullable=False),
    Column("part", Integer, nullable=False),
    Index("sent_of_reply", "reply_id"),
)
"""Which of the platform's messages carry which reply."""

channels = Table(
    "channels",
    metadata,
    Column("platform", Text, primary_key=True),
    Column("channel_id", Text, primary_key=True),
    Column("reset_seq", _RowNumber, nullable=False, server_default="0"),
    Column("muted_until", Float, nullable=False, server_default="0"),
    Column("persona", Text),
    # JSON: the timed effects of lorebook entries.
    Column("lore", Text),
    # Made by a model from the first messages, or given by a person.
    Column("title", Text),
    # The provider or the provider/model that a person chose to be asked first.
    Column("candidate", Text),
)

opt_outs = Table(
    "opt_outs",
    metadata,
    Column("platform", Text, primary_key=True),
    Column("author_id", Text, primary_key=True),
)

replies = Table(
    "replies",
    metadata,
    Column("run", _RowNumber, primary_key=True),
    Column("request_id", Text, nullable=False),
    Column("ts", Float, nullable=False),
    Column("sink", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("offline_reason", Text),
    Column("retry_at", Float),
    # The number of the attempt whose text was delivered.
    Column("winner", Integer),
    Column("t_first_visible_ms", Integer),
    Column("t_total_ms", Integer, nullable=False),
    Column("channel", Text, nullable=False),
    Column("user", Text, nullable=False),
    # What it was for: a reply to people or clients, or work of the bot such as a summary.
    Column("purpose", Text, nullable=False, server_default="reply"),
    # The order that was chosen for it, and by whom; NULL for the usual one.
    Column("order_name", Text),
    UniqueConstraint("request_id", "ts", name="replies_once"),
    Index("replies_by_time", "ts"),
)
"""One row per run of a reply: a late answer is a second run."""

attempts = Table(
    "attempts",
    metadata,
    Column("run", ForeignKey("replies.run", ondelete="CASCADE"), primary_key=True),
    Column("attempt", Integer, primary_key=True),
    Column("ts", Float, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("of_max", Integer, nullable=False),
    Column("sink", Text, nullable=False),
    Column("provider", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("engine", Text, nullable=False),
    Column("endpoint_host", Text, nullable=False),
    Column("key_ref", Text),
    Column("model_requested", Text, nullable=False),
    Column("model_served", Text),
    Column("upstream_id", Text),
    Column("role", Text, nullable=False),
    Column("outcome", Text, nullable=False),
    Column("phase", Text, nullable=False),
    Column("next", Text, nullable=False),
    Column("skip_reason", Text),
    Column("error_class", Text),
    Column("http_status", Integer),
    Column("provider_code", Text),
    Column("error_digest", Text),
    Column("error_text", Text),
    Column("retry_after_s", Float),
    Column("committed", Boolean, nullable=False),
    Column("visible_chars", Integer, nullable=False),
    Column("finish_reason", Text),
    Column("t_queue_ms", Integer, nullable=False),
    Column("t_connect_ms", Integer),
    Column("t_headers_ms", Integer),
    Column("t_first_output_ms", Integer),
    Column("t_first_visible_ms", Integer),
    Column("t_total_ms", Integer, nullable=False),
    Column("budget_ms", Integer, nullable=False),
    Column("reused_connection", Boolean, nullable=False),
    Column("keepalives", Integer, nullable=False),
    Column("bad_frames", Integer, nullable=False),
    Column("max_gap_ms", Integer, nullable=False),
    # All NULL where the server reported no usage and none was estimated.
    Column("input_tokens", Integer),
    Column("output_tokens", Integer),
    Column("reasoning_tokens", Integer),
    Column("cache_read_tokens", Integer),
    Column("cache_write_tokens", Integer),
    Column("usage_source", Text),
    Column("reported_cost_usd", Float),
    Column("cost_usd", Float),
    Column("cost_source", Text, nullable=False),
    Column("maybe_billed", Boolean, nullable=False),
    Column("images", Integer, nullable=False),
    Column("degraded", Text, nullable=False),
    Column("breaker_scope", Text),
    Column("breaker_before", Text),
    Column("breaker_after", Text),
    Column("breaker_hold_s", Float),
    Column("held_until", Float),
    Column("config_rev", Text, nullable=False),
    Index("attempts_by_time", "ts"),
)
"""One row per attempt, skips included."""

summaries = Table(
    "summaries",
    metadata,
    Column("platform", Text, primary_key=True),
    Column("channel_id", Text, primary_key=True),
    # Empty where there is none.
    Column("text", Text, nullable=False),
    # Positions of the first and last line that it covers.
    Column("first", _RowNumber, nullable=False),
    Column("through", _RowNumber, nullable=False),
    # Lines up to here are no longer in prompts.
    Column("compacted", _RowNumber, nullable=False),
    # How far the summary that is being made reaches.
    Column("pending", _RowNumber, nullable=False),
    # Incremented whenever a covered line changes: a summary made of older lines is not stored.
    Column("version", Integer, nullable=False),
    Column("made_at", Float, nullable=False),
    Column("owner", Text, nullable=False),
    Column("leased_until", Float, nullable=False),
)
"""What a model made of the oldest lines of each conversation."""

summary_authors = Table(
    "summary_authors",
    metadata,
    Column("platform", Text, primary_key=True),
    Column("channel_id", Text, primary_key=True),
    Column("author_id", Text, primary_key=True),
    Index("summary_authors_by_author", "platform", "author_id"),
)
"""Whose lines a summary covers, also when the lines are no longer stored."""

notes = Table(
    "notes",
    metadata,
    Column("platform", Text, primary_key=True),
    # The server's id, or empty for direct messages.
    Column("scope", Text, primary_key=True),
    Column("author_id", Text, primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("text", Text, nullable=False),
    Column("made_at", Float, nullable=False),
)
"""What people asked the bot to remember."""

proposals = Table(
    "proposals",
    metadata,
    Column("platform", Text, primary_key=True),
    # As in `notes`.
    Column("scope", Text, primary_key=True),
    Column("author_id", Text, primary_key=True),
    Column("id", Text, nullable=False),
    Column("text", Text, nullable=False),
    # The `seq` of the first message that it is made of.
    Column("since_seq", _RowNumber, nullable=False),
    Column("made_at", Float, nullable=False),
    Column("expires_at", Float, nullable=False),
)
"""Notes that a model proposes; they are in no prompt before their person confirms them."""

# Outside `metadata`: on SQLite it is a virtual table, whose own tables SQLite creates.
search_words = Table(
    "search_words",
    MetaData(),
    # The `seq` of the message; on SQLite the name of every table's row number.
    Column("rowid", BigInteger, primary_key=True),
    Column("words", Text),
)
"""Words of the stored messages, for full-text search."""

SEARCH_DDL = {
    "sqlite": (
        "CREATE VIRTUAL TABLE search_words USING fts5("
        "words, detail=none, columnsize=0, tokenize=\"ascii tokenchars '_'\")",
    ),
    "postgresql": (
        "CREATE TABLE search_words (rowid BIGINT PRIMARY KEY, words TSVECTOR NOT NULL)",
        "CREATE INDEX search_words_index ON search_words USING gin (words)",
    ),
}
for _dialect, _statements in SEARCH_DDL.items():
    for _statement in _statements:
        event.listen(
            messages,
            "after_create",
            DDL(_statement).execute_if(dialect=_dialect),  # type: ignore[no-untyped-call]
        )

gateway_keys = Table(
    "gateway_keys",
    metadata,
    Column("name", Text, primary_key=True),
    Column("sha256", Text, nullable=False),
    Column("created_at", Float, nullable=False),
    Column("revoked_at", Float),
    Column("requests_per_minute", Integer),
    Column("requests_per_day", Integer),
    Column("tokens_per_minute", BigInteger),
    Column("tokens_per_day", BigInteger),
)
"""Keys of the gateway that were made on the operator's page; revoked ones stay."""

COPIED = (
    messages,
    batches,
    sent,
    channels,
    opt_outs,
    replies,
    attempts,
    summaries,
    summary_authors,
    notes,
    proposals,
    gateway_keys,
)
"""What `db copy` copies, referenced tables first. The search index is made again."""
