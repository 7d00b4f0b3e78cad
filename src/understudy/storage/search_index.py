"""The full-text index of stored messages: FTS5 on SQLite, `tsvector` on PostgreSQL.

Words are made in Python (`conversation.words`), the same on both. A row's words also name its
channel and its parent, so that one search reads only what belongs to that conversation. Each
function is part of the caller's transaction, so that the index never has text that is erased.
"""

import hashlib
from collections.abc import Sequence
from functools import cache

from sqlalchemy import (
    ColumnElement,
    Connection,
    RowMapping,
    bindparam,
    delete,
    select,
    text,
)

from understudy.conversation.inbox import Channel
from understudy.conversation.speakers import unquoted
from understudy.conversation.words import search_words as words_of
from understudy.memory.store import COMMON
from understudy.storage.statements import Statement
from understudy.storage.tables import messages, opt_outs, search_words

_BATCH = 500
_MAX_WORDS = 2000
_ADD = {
    "sqlite": Statement(text("INSERT INTO search_words (rowid, words) VALUES (:seq, :words)")),
    "postgresql": Statement(
        text(
            "INSERT INTO search_words (rowid, words)"
            " VALUES (:seq, array_to_tsvector(string_to_array(:words, ' ')))"
        )
    ),
}
# A migration indexes by these names too: no column that a later migration adds is read.
_INDEXED = tuple(
    messages.c[name] for name in ("seq", "platform", "channel_id", "parent_id", "text")
)
_DELETE_ONE = delete(search_words).where(search_words.c.rowid == bindparam("seq"))
_MERGE_PAGES = 500
_MATCH = {
    "sqlite": "search_words MATCH :{}",
    "postgresql": "words @@ CAST(:{} AS tsquery)",
}
_JOINED = {
    "sqlite": "group_concat(rowid)",
    "postgresql": "string_agg(CAST(rowid AS text), ',')",
}
_MAX = 2**62
"""Above every `seq`."""


def add(connection: Connection, row: RowMapping | dict[str, object]) -> None:
    """Index a row of `messages`; one without text is left out."""
    if words := words_of_row(row):
        _ADD[connection.dialect.name].run(connection, {"seq": row["seq"], "words": words})


def words_of_row(row: RowMapping | dict[str, object]) -> str:
    """The words of a row of `messages`, with its places; empty where it has no text."""
    if not row["text"]:
        return ""
    place = [channel_place(Channel(str(row["platform"]), str(row["channel_id"])))]
    if row.get("parent_id"):
        place.append(parent_place(str(row["platform"]), str(row["parent_id"])))
    # What a message quotes belongs to another one.
    words = sorted(words_of(unquoted(str(row["text"]))))[:_MAX_WORDS]
    return " ".join([*place, *words])


def replace(connection: Connection, row: RowMapping) -> None:
    """Index a row whose text has changed."""
    connection.execute(_DELETE_ONE, {"seq": row["seq"]})
    add(connection, row)


def remove(connection: Connection, where: ColumnElement[bool]) -> None:
    """Remove the messages that `where` selects."""
    gone = delete(search_words).where(search_words.c.rowid.in_(select(messages.c.seq).where(where)))
    connection.execute(gone)


def index_all(connection: Connection) -> None:
    """Index every stored message that is not in the index; opted-out people's are left out."""
    out = select(opt_outs.c.author_id).where(opt_outs.c.platform == messages.c.platform)
    last = -1
    while True:
        rows = (
            connection.execute(
                select(*_INDEXED)
                .where(
                    messages.c.seq > last,
                    messages.c.text.is_not(None),
                    messages.c.author_id.not_in(out),
                    messages.c.seq.not_in(select(search_words.c.rowid)),
                )
                .order_by(messages.c.seq)
                .limit(_BATCH)
            )
            .mappings()
            .all()
        )
        for row in rows:
            add(connection, row)
        if len(rows) < _BATCH:
            return
        last = rows[-1]["seq"]


def optimize(connection: Connection) -> None:
    """Rewrite SQLite's index, so that no page of it holds words of removed messages."""
    if connection.dialect.name == "sqlite":
        connection.execute(text("INSERT INTO search_words (search_words) VALUES ('optimize')"))


def merge_some(connection: Connection) -> None:
    """A bounded part of `optimize`, for regular maintenance."""
    if connection.dialect.name == "sqlite":
        merge = "INSERT INTO search_words (search_words, rank) VALUES ('merge', :pages)"
        connection.execute(text(merge), {"pages": -_MERGE_PAGES})


def newest_with(
    connection: Connection, words: Sequence[str], limit: int, *, prefix: str = ""
) -> tuple[int, ...]:
    """The `seq`s of the newest messages that contain all of `words` (the first one is a place) and
    a word that begins with `prefix`, newest first."""
    dialect = connection.dialect.name
    wanted = {"wanted": _query(dialect, words, prefix), "until": _MAX, "limit": limit}
    return tuple(row.rowid for row in _newest(dialect).run(connection, wanted))


def newest_of_each(
    connection: Connection, place: str, words: Sequence[str], until: int
) -> dict[str, list[int]]:
    """For each word the `seq`s of the newest COMMON messages of the place with it, up to `until`,
    newest first."""
    found: dict[str, list[int]] = {word: [] for word in words}
    if words:
        dialect = connection.dialect.name
        values: dict[str, object] = {"until": until, "limit": COMMON}
        for number, word in enumerate(words):
            values[_parameter(number)] = _query(dialect, [place, word], "")
        for row in _newest_of_each(dialect, len(words)).run(connection, values).all():
            found[words[row.number]] = sorted(map(int, row.seqs.split(",")), reverse=True)
    return found


@cache
def _newest(dialect: str) -> Statement:
    return Statement(text(_search(dialect, "wanted")))


@cache
def _newest_of_each(dialect: str, count: int) -> Statement:
    """One statement for so many searches: one for each takes three times as long. One row for each
    word: SQLite's driver gives up the interpreter lock at every row."""
    joined = _JOINED[dialect]
    searches = (
        f"SELECT {number} AS number, {joined} AS seqs FROM ({_search(dialect, _parameter(number))})"  # noqa: S608 - no value
        f" AS search_{number} HAVING count(*) > 0"
        for number in range(count)
    )
    return Statement(text(" UNION ALL ".join(searches)))


def _search(dialect: str, parameter: str) -> str:
    return (
        f"SELECT rowid FROM search_words WHERE {_MATCH[dialect].format(parameter)}"  # noqa: S608 - no value
        " AND rowid <= :until ORDER BY rowid DESC LIMIT :limit"
    )


def _parameter(number: int) -> str:
    return f"wanted_{number}"


def _query(dialect: str, words: Sequence[str], prefix: str) -> str:
    # Words consist of letters, digits, marks and symbols: nothing in them ends a quotation.
    if dialect == "sqlite":
        return " AND ".join([*(f'"{word}"' for word in words), *([f'"{prefix}"*'] * bool(prefix))])
    return " & ".join([*(f"'{word}'" for word in words), *([f"'{prefix}':*"] * bool(prefix))])


def channel_place(channel: Channel) -> str:
    """The place of one channel's messages."""
    return "channel_" + _digest(channel.platform, channel.id)


def parent_place(platform: str, parent_id: str) -> str:
    """The place of the messages of all channels with this parent."""
    return "parent_" + _digest(platform, parent_id)


def _digest(platform: str, place_id: str) -> str:
    return hashlib.blake2b(f"{platform}\0{place_id}".encode(), digest_size=8).hexdigest()
