"""Opening the database file: permissions, migrations, transactions and errors."""

import asyncio
import re
import stat
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from alembic import command
from sqlalchemy import Connection, create_engine, inspect, text

from sample_records import NOON, answered, attempt, failed, reply, skipped
from understudy.conversation.inbox import Channel
from understudy.errors import ErrorClass, HoldScope, StorageError
from understudy.routing.records import BreakerChange, SkipReason
from understudy.storage.database import Database, sqlite_path
from understudy.storage.ledger_statements import insert_replies, read_replies
from understudy.storage.memory import SqlMemory
from understudy.storage.migrate import configuration, newest, upgrade
from understudy.storage.schema import HEAD, SHARED, metadata
from understudy.storage.tables import COPIED, replies
from waiting import LIMIT_S


def insert_opt_out(author_id: str) -> Callable[[Connection], object]:
    insert = text("INSERT INTO opt_outs VALUES ('discord', :id)")
    return lambda connection: connection.execute(insert, {"id": author_id})


def opted_out(connection: Connection) -> list[str]:
    found = connection.execute(text("SELECT author_id FROM opt_outs ORDER BY rowid"))
    return [row[0] for row in found]


async def test_the_file_and_its_companions_are_readable_by_their_owner_only(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "data" / "bot.db")
    await database.write(insert_opt_out("1"))
    modes = {f.name: stat.S_IMODE(f.stat().st_mode) for f in (tmp_path / "data").iterdir()}
    await database.aclose()

    assert modes
    assert set(modes.values()) == {0o600}


async def test_a_new_file_gets_the_schema_that_the_migrations_lead_to(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "made.db")
    await database.aclose()
    migrated = create_engine(f"sqlite:///{tmp_path / 'migrated.db'}")
    with migrated.begin() as connection:
        upgrade(connection)
    made = create_engine(f"sqlite:///{tmp_path / 'made.db'}")

    assert newest() == HEAD
    tables = {name for name in inspect(made).get_table_names() if "search_words" not in name}
    assert tables == {*metadata.tables, "alembic_version"}
    with made.connect() as one, migrated.connect() as other:
        schema = text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name")
        words = [{n: _words(s) for n, s in c.execute(schema)} for c in (one, other)]
    made.dispose()
    migrated.dispose()
    assert words[0] == words[1]


def _words(schema: str) -> list[str]:
    """Without their order: SQLite writes an added column after the constraints."""
    return sorted(re.findall(r"[\w'<>=]+", schema))


async def test_an_older_database_is_upgraded_when_it_is_opened(tmp_path: Path) -> None:
    old = create_engine(f"sqlite:///{tmp_path / 'old.db'}")
    with old.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
    old.dispose()

    database = await Database.open(tmp_path / "old.db")
    assert await database.read(lambda on: on.scalar(text("SELECT count(*) FROM messages"))) == 0
    await database.aclose()


async def test_messages_of_an_older_database_are_searchable_after_the_upgrade(
    tmp_path: Path,
) -> None:
    old = create_engine(f"sqlite:///{tmp_path / 'old.db'}")
    config = configuration()
    with old.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0003")
        for seq, author in ((1, "ann"), (2, "out")):
            values = {"seq": seq, "author": author, "text": f"apple {seq}"}
            connection.execute(_OLD_MESSAGE, values)
        insert_opt_out("out")(connection)
    old.dispose()

    database = await Database.open(tmp_path / "old.db")
    hits = await SqlMemory(database, "one").search(Channel("discord", "c1"), "apple", 10)
    await database.aclose()

    assert [hit.line.text for hit in hits] == ["apple 1"]


_OLD_MESSAGE = text(
    "INSERT INTO messages (seq, position, role, platform, message_id, channel_id, private,"
    " age_restricted, author_id, author_name, author_is_bot, text, to_others, sent_at, arrived_at,"
    " state, directed) VALUES (:seq, :seq, 'user', 'discord', 'm' || :seq, 'c1', 0, 0, :author,"
    " 'Ann', 0, :text, 0, 1, 1, 'ignored', 0)"
)


async def test_a_database_of_a_newer_version_is_not_changed(tmp_path: Path) -> None:
    new = create_engine(f"sqlite:///{tmp_path / 'new.db'}")
    with new.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32))"))
        connection.execute(text("INSERT INTO alembic_version VALUES ('9999')"))
    new.dispose()

    with pytest.raises(StorageError, match="install a newer version"):
        await Database.open(tmp_path / "new.db")


async def test_the_error_names_a_file_that_is_no_database(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("dear diary, " * 200)

    with pytest.raises(StorageError, match=r"notes\.txt .*move it away"):
        await Database.open(path)


async def test_a_folder_instead_of_a_file_is_an_error_with_advice(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"set storage\.url"):
        await Database.open(tmp_path)


@pytest.mark.parametrize(
    "url", ["sqlite://", "nonsense", "mysql://host/db", "sqlite:///", "postgresql+asyncpg://h/d"]
)
def test_only_sqlite_and_postgresql_urls_are_accepted(url: str) -> None:
    with pytest.raises(StorageError, match=r"sqlite:///understudy\.db"):
        sqlite_path(url)


def test_the_url_names_the_file() -> None:
    assert sqlite_path("sqlite:////var/lib/bot.db") == Path("/var/lib/bot.db")
    assert sqlite_path("postgresql+psycopg://bot@host/bot") is None


async def test_a_failed_transaction_stores_nothing(tmp_path: Path) -> None:
    def work(connection: Connection) -> None:
        insert_opt_out("lost")(connection)
        raise RuntimeError

    database = await Database.open(tmp_path / "bot.db")
    with pytest.raises(RuntimeError):
        await database.write(work)

    await database.write(insert_opt_out("kept"))
    assert await database.read(opted_out) == ["kept"]
    await database.aclose()


async def test_a_statement_that_fails_is_a_storage_error(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "bot.db")
    with pytest.raises(StorageError, match="no such table: nowhere"):
        await database.read(lambda on: on.exec_driver_sql("SELECT 1 FROM nowhere"))
    await database.aclose()


async def test_work_that_has_begun_finishes_after_its_caller_is_cancelled(tmp_path: Path) -> None:
    begun, may_finish = threading.Event(), threading.Event()

    def work(connection: Connection) -> None:
        begun.set()
        may_finish.wait(LIMIT_S)
        insert_opt_out("begun")(connection)

    database = await Database.open(tmp_path / "bot.db")
    running = asyncio.create_task(database.write(work))
    await asyncio.to_thread(begun.wait, 10)
    waiting = asyncio.create_task(database.write(insert_opt_out("not begun")))
    await asyncio.sleep(0)
    for task in (running, waiting):
        task.cancel()
    await asyncio.wait({running, waiting})
    may_finish.set()

    await database.write(insert_opt_out("later"))
    assert await database.read(opted_out) == ["begun", "later"]
    await database.aclose()


async def test_writers_of_one_process_take_turns_and_readers_do_not_wait_for_them(
    tmp_path: Path,
) -> None:
    may_finish = threading.Event()

    def slow(connection: Connection) -> None:
        insert_opt_out("first")(connection)
        may_finish.wait(LIMIT_S)

    database = await Database.open(tmp_path / "bot.db")
    writing = asyncio.gather(database.write(slow), database.write(insert_opt_out("second")))
    try:
        assert await database.read(opted_out) == []
    finally:
        may_finish.set()
    await writing

    assert await database.read(opted_out) == ["first", "second"]
    await database.aclose()


async def test_records_come_back_as_they_were_stored_and_only_once(tmp_path: Path) -> None:
    breaker = BreakerChange(HoldScope.MODEL, "closed", "open", 10.0)
    stored = reply(
        skipped("local", SkipReason.NO_KEY),
        failed("openrouter", ErrorClass.RATE_LIMITED, attempt=2, breaker=breaker, held_until=NOON),
        answered("chutes", attempt=3, degraded=("images",)),
    )
    offline = reply(attempt(request_id="r2"), request_id="r2", winner=None)
    database = await Database.open(tmp_path / "bot.db")
    await database.write(lambda on: insert_replies(on, (stored, offline)))
    await database.write(lambda on: insert_replies(on, (stored,)))
    found = await database.read(lambda on: read_replies(on, replies.c.request_id == "r1"))
    await database.aclose()

    assert found == (stored,)


def test_every_table_is_copied_or_filled_again_by_the_processes_that_run() -> None:
    assert {*COPIED, *SHARED} == set(metadata.tables.values())
    assert not {*COPIED} & {*SHARED}
