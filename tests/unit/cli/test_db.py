"""`understudy db` as its user runs it."""

import asyncio
from pathlib import Path

import pytest

from command import understudy
from understudy.storage.database import Database


def made(folder: Path) -> Path:
    async def make() -> None:
        await (await Database.open(folder / "understudy.db")).aclose()

    asyncio.run(make())
    return folder / "understudy.db"


@pytest.mark.slow
def test_a_backup_is_made_checked_and_restored(tmp_path: Path) -> None:
    path = made(tmp_path)
    backup = understudy("db", "backup", "copy.db", folder=tmp_path)
    for part in tmp_path.glob("understudy.db*"):
        part.unlink()
    (tmp_path / "copy.db").rename(path)

    checked = understudy("db", "check", folder=tmp_path)
    assert (backup.returncode, checked.returncode) == (0, 0)
    assert "stop the bot and copy it back" in backup.stdout
    assert "is intact" in checked.stdout


@pytest.mark.slow
def test_a_damaged_database_is_told_with_a_way_out_and_a_code_of_its_own(tmp_path: Path) -> None:
    path = made(tmp_path)
    with path.open("r+b") as file:
        file.write(b"no database any more")

    checked = understudy("db", "check", folder=tmp_path)
    assert checked.returncode != 0
    assert "restore a backup" in checked.stderr
    assert "Traceback" not in checked.stderr


@pytest.mark.slow
def test_migrate_creates_the_database_and_copy_moves_it(tmp_path: Path) -> None:
    migrated = understudy("db", "migrate", folder=tmp_path)
    copied = understudy(
        "db", "copy", "--from", "sqlite:///understudy.db", "--to", "sqlite:///new.db",
        folder=tmp_path,
    )  # fmt: skip

    assert (migrated.returncode, copied.returncode) == (0, 0)
    assert "has version" in migrated.stdout
    assert "Set storage.url to the new database" in copied.stdout
    assert (tmp_path / "new.db").is_file()


@pytest.mark.slow
def test_a_database_is_not_copied_onto_itself_or_from_nowhere(tmp_path: Path) -> None:
    itself = understudy(
        "db", "copy", "--from", "sqlite:///a.db", "--to", "sqlite:///b.db", folder=tmp_path
    )

    assert itself.returncode != 0
    assert "no database at a.db" in itself.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_sqlite_file_needs_no_vacuum(tmp_path: Path) -> None:
    done = understudy("db", "vacuum", folder=tmp_path)

    assert done.returncode == 2
    assert "overwritten at once" in done.stderr
