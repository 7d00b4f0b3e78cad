"""Keys of the gateway that are made while the program runs."""

import asyncio
from pathlib import Path

import pytest

from understudy.app.client_keys import ClientKeys, with_client_keys
from understudy.config.settings import Gateway, GatewayKey
from understudy.errors import ConfigError, RequestRefused
from understudy.gateway.auth import Access
from understudy.routing.client_keys import KeyLimitValues, StoredKey
from understudy.storage.stores import Stores, open_storage
from waiting import LIMIT_S

NOW = 1_790_000_000.0
NONE = KeyLimitValues()


def keys_of(stores: Stores) -> ClientKeys:
    return ClientKeys(stores.client_keys, lambda: NOW, stores.coordinator.notify)


def admits(keys: ClientKeys, key: str = "") -> bool:
    headers = {b"authorization": f"Bearer {key}".encode(), b"host": b"127.0.0.1"}
    try:
        Access(with_client_keys(Gateway(), keys.stored).keys).admit("127.0.0.1", headers)
    except RequestRefused:
        return False
    return True


async def test_another_process_knows_a_made_and_a_revoked_key_soon(tmp_path: Path) -> None:
    file = tmp_path / "bot.db"
    async with (
        asyncio.timeout(LIMIT_S),
        open_storage(file, persist=True) as here,
        open_storage(file, persist=True, interval_s=0.05) as there,
    ):
        mine, other = keys_of(here), keys_of(there)
        read = asyncio.Event()

        async def refresh() -> None:
            await other.refresh()
            read.set()

        there.coordinator.refreshers.append(refresh)
        key = await mine.make("notes", NONE, ())
        while not other.stored:
            read.clear()
            await read.wait()
        admitted = admits(other, key)
        await mine.revoke("notes")
        while other.stored[0].revoked_at is None:
            read.clear()
            await read.wait()

        assert admitted
        assert not admits(other, key)
        assert not admits(other)


async def test_a_name_in_use_is_refused_and_a_revoked_one_is_free_again(tmp_path: Path) -> None:
    async with open_storage(tmp_path / "bot.db", persist=True) as stores:
        keys = keys_of(stores)
        configured = [GatewayKey(name="file", sha256="0" * 64)]
        first = await keys.make("notes", NONE, configured)
        for name in ("notes", "file", "", "a/b", "x" * 64):
            with pytest.raises(ConfigError):
                await keys.make(name, NONE, configured)
        await keys.revoke("notes")
        second = await keys.make("notes", NONE, configured)

        assert admits(keys, second)
        assert not admits(keys, first)


def test_a_key_of_the_configuration_wins_over_a_stored_one_of_its_name() -> None:
    settings = Gateway(keys=(GatewayKey(name="a", sha256="1" * 64),))

    merged = with_client_keys(
        settings, [StoredKey("a", "2" * 64, NOW), StoredKey("b", "3" * 64, 0)]
    )

    assert [(key.name, key.sha256) for key in merged.keys] == [("a", "1" * 64), ("b", "3" * 64)]


def test_without_any_key_the_settings_are_as_they_were() -> None:
    assert with_client_keys(Gateway(), ()).keys == ()
