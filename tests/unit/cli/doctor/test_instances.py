"""`doctor` names instances of one database that run with different configurations."""

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from postgres_server import KINDS, database_location
from understudy.cli.doctor.instances import different_configurations
from understudy.config.load import Config, parse_config
from understudy.storage.coordination import Coordinator, coordinated
from understudy.storage.database import Database


@pytest.fixture(params=KINDS)
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[str]:
    with database_location(request.param, tmp_path) as location:
        yield location if isinstance(location, str) else f"sqlite:///{location}"


def config_at(url: str) -> Config:
    return parse_config(f'storage: {{url: "{url}"}}', {})


async def start(stack: AsyncExitStack, url: str, *revisions: str) -> list[Coordinator]:
    database = await Database.open(url)
    stack.push_async_callback(database.aclose)
    return [await stack.enter_async_context(coordinated(database, rev)) for rev in revisions]


async def test_without_a_running_instance_there_is_nothing_to_say(url: str) -> None:
    assert await different_configurations(config_at(url)) == ()


async def test_instances_with_one_configuration_are_fine(url: str) -> None:
    async with AsyncExitStack() as stack:
        await start(stack, url, "rev-a", "rev-a")

        assert await different_configurations(config_at(url)) == ()


async def test_instances_with_different_configurations_are_named(url: str) -> None:
    config = config_at(url)
    async with AsyncExitStack() as stack:
        one, other = await start(stack, url, "rev-a", config.rev)

        (check,) = await different_configurations(config)

    assert not check.ok
    assert f"{one.id} with rev-a" in check.advice
    assert f"{other.id} with {config.rev} (this file)" in check.advice


async def test_an_instance_that_reloads_its_configuration_is_seen_with_the_new_one(
    url: str,
) -> None:
    async with AsyncExitStack() as stack:
        one, _ = await start(stack, url, "rev-a", "rev-b")
        one.config_rev = "rev-b"
        await one.refresh()

        assert await different_configurations(config_at(url)) == ()


async def test_a_server_that_cannot_be_reached_is_a_problem() -> None:
    (check,) = await different_configurations(
        config_at("postgresql+psycopg://bot@127.0.0.1:1/understudy")
    )

    assert not check.ok
    assert "cannot be used" in check.advice
