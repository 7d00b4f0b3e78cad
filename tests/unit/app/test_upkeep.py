"""Of several processes on one database, one deletes what is old."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from io import StringIO
from pathlib import Path

from understudy.app.bot import Bot, open_bot
from understudy.config.load import parse_config
from understudy.config.settings import Logging
from understudy.observability.logs import Logs


@asynccontextmanager
async def process(folder: Path, *, shared: bool = True) -> AsyncGenerator[Bot]:
    config = parse_config(f'storage: {{url: "sqlite:///{folder / "bot.db"}"}}', {})
    async with open_bot(config, Logs(Logging(), StringIO()), shared=shared) as bot:
        yield bot


async def test_one_of_two_processes_does_the_upkeep_and_the_other_takes_over(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as first, process(tmp_path) as other:
        assert other.does_upkeep()
        # Which one began does not matter; the second waits.
        newer = await first.enter_async_context(process(tmp_path))
        assert not newer.does_upkeep()

        assert other.upkeep is not None
        assert newer.storage is not None
        await other.upkeep.release()
        await newer.storage.coordinator.refresh()

        assert (other.does_upkeep(), newer.does_upkeep()) == (False, True)


async def test_a_process_alone_does_it_itself(tmp_path: Path) -> None:
    async with process(tmp_path, shared=False) as bot:
        assert bot.does_upkeep()
