"""Checking the database, and copying it while it is in use."""

import sqlite3
import stat
from pathlib import Path

import pytest
from sqlalchemy import text

from understudy.errors import StorageError
from understudy.storage.database import Database
from understudy.storage.maintenance import back_up, check


async def create_database(path: Path) -> Database:
    database = await Database.open(path)
    await database.write(
        lambda on: on.execute(text("INSERT INTO opt_outs VALUES ('discord', '1')"))
    )
    return database


async def test_a_sound_database_is_counted(tmp_path: Path) -> None:
    database = await create_database(tmp_path / "bot.db")
    health = check(tmp_path / "bot.db")
    await database.aclose()

    assert health.problems == ()
    assert health.rows["opt_outs"] == 1
    assert health.size > 0


async def test_a_backup_of_a_running_bot_is_whole_private_and_can_be_opened(
    tmp_path: Path,
) -> None:
    database = await create_database(tmp_path / "bot.db")
    back_up(tmp_path / "bot.db", tmp_path / "copy.db")
    await database.aclose()

    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600
    assert check(tmp_path / "copy.db").rows["opt_outs"] == 1
    restored = await Database.open(tmp_path / "copy.db")
    count = text("SELECT count(*) FROM opt_outs")
    assert await restored.read(lambda on: on.scalar(count)) == 1
    await restored.aclose()


async def test_a_backup_never_overwrites(tmp_path: Path) -> None:
    database = await create_database(tmp_path / "bot.db")
    (tmp_path / "copy.db").write_text("mine")

    with pytest.raises(StorageError, match="exists already"):
        back_up(tmp_path / "bot.db", tmp_path / "copy.db")
    await database.aclose()

    assert (tmp_path / "copy.db").read_text() == "mine"


async def test_a_damaged_file_is_named_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "bot.db").write_bytes(b"not a database at all" * 100)

    with pytest.raises(StorageError, match="restore a backup"):
        check(tmp_path / "bot.db")


async def test_missing_tables_and_versions_are_problems(tmp_path: Path) -> None:
    await (await create_database(tmp_path / "bot.db")).aclose()
    connection = sqlite3.connect(tmp_path / "bot.db")
    connection.executescript("DROP TABLE sent; UPDATE alembic_version SET version_num = '0000'")
    connection.close()

    problems = check(tmp_path / "bot.db").problems

    assert "the table sent is missing" in problems
    assert any(problem.startswith("its version is 0000") for problem in problems)


def test_a_database_that_is_not_there_is_no_crash(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no database"):
        check(tmp_path / "bot.db")


@pytest.mark.parametrize("there", [None, b"no database " * 1_000])
def test_a_failed_backup_leaves_no_file(there: bytes | None, tmp_path: Path) -> None:
    if there is not None:
        (tmp_path / "bot.db").write_bytes(there)

    with pytest.raises(StorageError):
        back_up(tmp_path / "bot.db", tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


async def test_a_folder_of_any_name_is_backed_up_whole(tmp_path: Path) -> None:
    path = tmp_path / "bot #1 100%?" / "bot.db"
    await (await create_database(path)).aclose()

    back_up(path, tmp_path / "copy.db")

    assert check(tmp_path / "copy.db").rows["opt_outs"] == 1
    assert check(path).problems == ()
    assert [found.name for found in tmp_path.iterdir() if found.name.startswith("bot")] == [
        "bot #1 100%?"
    ]


async def test_a_database_of_a_newer_version_is_not_to_be_started_with_this_one(
    tmp_path: Path,
) -> None:
    database = await create_database(tmp_path / "bot.db")
    await database.write(lambda on: on.execute(text("UPDATE alembic_version SET version_num='9'")))
    await database.aclose()

    [problem] = check(tmp_path / "bot.db").problems
    assert "install a newer one" in problem
