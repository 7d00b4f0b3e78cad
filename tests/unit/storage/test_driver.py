"""SQLite on a thread of its own, as SQLAlchemy's aiosqlite dialect expects it."""

import asyncio
from pathlib import Path

import pytest

from understudy.errors import StorageError
from understudy.storage.database import Database
from understudy.storage.driver import Connection


async def test_a_cancelled_write_is_rolled_back_and_the_next_one_goes_through(
    tmp_path: Path,
) -> None:
    database = await Database.open(tmp_path / "bot.db")
    inside = asyncio.Event()

    async def interrupted() -> None:
        async with database.write() as connection:
            await connection.exec_driver_sql("INSERT INTO opt_outs VALUES ('discord', 'lost')")
            inside.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(interrupted())
    await inside.wait()
    task.cancel()
    await asyncio.wait({task})
    async with database.write() as connection:
        await connection.exec_driver_sql("INSERT INTO opt_outs VALUES ('discord', 'kept')")
    async with database.read() as connection:
        found = (await connection.exec_driver_sql("SELECT author_id FROM opt_outs")).all()
    await database.aclose()

    assert [row[0] for row in found] == ["kept"]


async def test_a_statement_that_fails_is_a_storage_error(tmp_path: Path) -> None:
    database = await Database.open(tmp_path / "bot.db")
    with pytest.raises(StorageError, match="no such table: nowhere"):
        async with database.read() as connection:
            await connection.exec_driver_sql("SELECT 1 FROM nowhere")
    await database.aclose()


async def test_a_closed_connection_says_so(tmp_path: Path) -> None:
    connection = await Connection(str(tmp_path / "bot.db"), (), 1.0)
    await connection.close()
    await connection.close()

    with pytest.raises(ValueError, match="closed"):
        await connection.commit()


async def test_a_stopped_connection_lets_go_of_the_file(tmp_path: Path) -> None:
    connection = await Connection(str(tmp_path / "bot.db"), (), 1.0)
    connection.stop()

    with pytest.raises(ValueError, match="closed"):
        await connection.rollback()
