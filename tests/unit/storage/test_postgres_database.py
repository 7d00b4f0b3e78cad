"""PostgreSQL: schema, migrations at the same time, lost connections, and text it cannot hold."""

import asyncio
import os
import sys
from collections.abc import Iterator
from functools import partial

import psutil
import psycopg
import pytest
from sqlalchemy import Connection, create_engine, inspect, select, text

from conversation_driver import ANN, LOUNGE, message
from postgres_server import PrivateServer, libpq_url, new_database, shared_server
from understudy.conversation.inbox import Channel, Decision
from understudy.errors import StorageError
from understudy.storage.database import Database, channel_key, storage_url
from understudy.storage.inbox import SqlInbox
from understudy.storage.inbox_rows import message_row
from understudy.storage.inbox_statements import ADD, prefixed
from understudy.storage.migrate import upgrade
from understudy.storage.postgres_database import PostgresDatabase
from understudy.storage.postgres_maintenance import check
from understudy.storage.schema import metadata
from understudy.storage.tables import messages

pytestmark = pytest.mark.slow
ANSWER = Decision(answer=True, reason="dm", directed=True)


@pytest.fixture
def url() -> Iterator[str]:
    with new_database(shared_server()) as created:
        yield created


def opted_out(connection: Connection) -> int:
    found: int = connection.execute(text("SELECT count(*) FROM opt_outs")).scalar_one()
    return found


def insert_opt_out(connection: Connection) -> None:
    connection.execute(text("INSERT INTO opt_outs VALUES ('discord', '1')"))


def schema_of(url: str) -> dict[str, object]:
    engine = create_engine(storage_url(url))
    found = inspect(engine)
    schema: dict[str, object] = {
        table: (
            [(c["name"], str(c["type"]), c["nullable"]) for c in found.get_columns(table)],
            sorted((i["name"] or "", str(i)) for i in found.get_indexes(table)),
            found.get_pk_constraint(table)["constrained_columns"],
        )
        for table in metadata.tables
    }
    engine.dispose()
    return schema


async def test_migrations_lead_to_the_schema_of_a_new_database(url: str) -> None:
    await (await Database.open(url)).aclose()
    with new_database(shared_server()) as other:
        engine = create_engine(storage_url(other))
        with engine.begin() as connection:
            upgrade(connection)
        engine.dispose()
        migrated = schema_of(other)

    assert migrated == schema_of(url)


async def test_processes_that_start_together_create_the_schema_once(url: str) -> None:
    databases = await asyncio.gather(*(Database.open(url) for _ in range(4)))

    health = await check(databases[0])
    for database in databases:
        await database.aclose()
    assert health.problems == ()
    assert health.rows["messages"] == 0


async def test_work_runs_again_after_its_connection_was_terminated(url: str) -> None:
    database = await Database.open(url)
    runs = 0

    def work(connection: Connection) -> None:
        nonlocal runs
        runs += 1
        insert_opt_out(connection)
        if runs == 1:
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            with psycopg.connect(libpq_url(url), autocommit=True) as other:
                other.execute("SELECT pg_terminate_backend(%s)", (pid,))
            connection.execute(text("SELECT 1"))

    await database.write(work)

    assert (runs, await database.read(opted_out)) == (2, 1)
    await database.aclose()


async def test_a_failed_transaction_stores_nothing(url: str) -> None:
    def work(connection: Connection) -> None:
        insert_opt_out(connection)
        raise RuntimeError

    database = await Database.open(url)
    with pytest.raises(RuntimeError):
        await database.write(work)

    assert await database.read(opted_out) == 0
    await database.aclose()


@pytest.mark.slow
async def test_work_waits_for_a_server_that_restarts() -> None:
    server = PrivateServer(16)
    database = await Database.open(server.url)
    await asyncio.to_thread(server.stop)
    try:
        waiting = asyncio.create_task(database.write(insert_opt_out))
        await asyncio.to_thread(server.start)
        await waiting
        assert await database.read(opted_out) == 1
    finally:
        await database.aclose()
        await asyncio.to_thread(server.close)


async def test_the_error_of_a_wrong_database_names_it_without_the_password() -> None:
    url = storage_url(shared_server()).set(database="absent", password="hunter2")

    database = PostgresDatabase.connect(url, retry_for_s=0.0)
    with pytest.raises(StorageError) as caught:
        await database.read(opted_out)
    await database.aclose()
    assert "absent" in str(caught.value)
    assert "hunter2" not in str(caught.value)


async def test_text_with_nul_is_stored_without_it(url: str) -> None:
    database = await Database.open(url)
    inbox = SqlInbox(database, "one")

    assert await inbox.add(message("m1", "a\0b", ANN, LOUNGE), ANSWER, 100.0)

    (waiting,) = (await inbox.work(Channel.of(LOUNGE))).waiting
    assert waiting.inbound.text == "a\N{REPLACEMENT CHARACTER}b"
    await database.aclose()


async def test_numbers_of_a_channel_are_committed_in_order(url: str) -> None:
    database = await Database.open(url)
    seen: list[int] = []

    def store(connection: Connection, number: int) -> None:
        row = message_row(message(f"m{number}", "hi", ANN, LOUNGE), ANSWER, 100.0)
        values = prefixed(row) | {"channel_key": channel_key(Channel.of(LOUNGE))}
        seq = ADD.run(connection, values).one()[0]
        assert isinstance(seq, int)
        # A second writer that could draw a number now would commit before this one.
        connection.execute(text("SELECT pg_sleep(0.01)"))
        seen.append(seq)

    await asyncio.gather(*(database.write(partial(store, number=n)) for n in range(8)))

    assert seen == sorted(seen)
    places = select(messages.c.seq, messages.c.position).order_by(messages.c.seq)
    stored = await database.read(lambda on: list(on.execute(places)))
    assert [tuple(row) for row in stored] == [(seq, seq) for seq in seen]
    await database.aclose()


async def test_a_private_server_ends_with_a_test_run_that_is_killed() -> None:
    program = (
        "import time; from postgres_server import PrivateServer; server = PrivateServer();"
        " print(server.pid, flush=True); time.sleep(600)"
    )
    owner = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=asyncio.subprocess.PIPE,
    )
    assert owner.stdout is not None
    server = psutil.Process(int(await owner.stdout.readline()))

    owner.kill()
    await owner.wait()

    await asyncio.to_thread(server.wait, 30)
    assert not server.is_running()
