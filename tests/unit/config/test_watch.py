from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from understudy.config.watch import stamp, watch_config


@pytest.mark.slow
async def test_a_change_before_the_watch_began_is_not_missed(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("one")
    known = stamp(file)
    file.write_text("and two")

    async with aclosing(watch_config(file, known)) as changes:
        await anext(changes)


@pytest.mark.slow
async def test_replacing_the_file_and_saving_the_dotenv_are_changes(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("one")

    async with aclosing(watch_config(file, stamp(file))) as changes:
        (tmp_path / "new").write_text("another")
        (tmp_path / "new").replace(file)
        await anext(changes)
        (tmp_path / ".env").write_text("A=1")
        await anext(changes)


async def test_a_folder_that_the_system_cannot_watch_is_polled(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("a: 1")
    known, asked = stamp(file), []

    async def watch(
        folder: Path, names: tuple[str, ...], *, polling: bool
    ) -> AsyncIterator[object]:
        asked.append(polling)
        if not polling:
            raise OSError(28, "no watches left")
        file.write_text("a: 22")
        yield None

    changes = [change async for change in watch_config(file, known, watch)]

    assert (asked, changes) == ([False, True], [None])
