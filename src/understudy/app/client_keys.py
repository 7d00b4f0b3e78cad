"""Keys of the gateway that are made, limited and revoked while the program runs."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from understudy.config.settings import Gateway as GatewaySettings
from understudy.config.settings import GatewayKey
from understudy.errors import ConfigError
from understudy.gateway.auth import make_key
from understudy.routing.client_keys import ClientKeyStore, KeyLimitValues, StoredKey

_UNMATCHED = "0" * 64
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}")


class ClientKeys:
    """The stored keys as this process knows them, and changes of them.

    `notify` makes other processes of the database read them again.
    """

    def __init__(
        self, store: ClientKeyStore, wall: Callable[[], float], notify: Callable[[], None]
    ) -> None:
        self._store = store
        self._wall = wall
        self._notify = notify
        self.stored: tuple[StoredKey, ...] = ()
        self.revision = 0
        """Changes with `stored`."""

    async def refresh(self) -> None:
        """Read the keys again. Raises StorageError."""
        stored = await self._store.load()
        if stored != self.stored:
            self.stored = stored
            self.revision += 1

    async def make(
        self, name: str, limits: KeyLimitValues, configured: Sequence[GatewayKey]
    ) -> str:
        """Make a key and return it; only its SHA-256 is stored.

        Raises ConfigError for a name that is taken or not usable, and StorageError.
        """
        if not _NAME.fullmatch(name):
            raise ConfigError("A name has up to 63 letters, digits, spaces, '.', '_' and '-'.")
        await self.refresh()
        active = [key.name for key in self.stored if key.revoked_at is None]
        if name in active or any(key.name == name for key in configured):
            raise ConfigError(f"There is a key {name!r} already.")
        made = make_key()
        await self._put(StoredKey(name, made.sha256, self._wall(), limits=limits))
        return made.key

    async def limit(self, name: str, limits: KeyLimitValues) -> None:
        """Replace the limits of a key. Raises ConfigError and StorageError."""
        await self._put(replace(await self._active(name), limits=limits))

    async def revoke(self, name: str) -> None:
        """Refuse a key from now on. Raises ConfigError and StorageError."""
        await self._put((await self._active(name)).revoked(self._wall()))

    async def _active(self, name: str) -> StoredKey:
        await self.refresh()
        for key in self.stored:
            if key.name == name and key.revoked_at is None:
                return key
        raise ConfigError(f"There is no key {name!r} that was made here and is not revoked.")

    async def _put(self, key: StoredKey) -> None:
        await self._store.put(key)
        await self.refresh()
        self._notify()


def with_client_keys(settings: GatewaySettings, stored: Sequence[StoredKey]) -> GatewaySettings:
    """The settings with the stored keys; a key of the configuration wins over one of its name.

    Revoking the last key must not open the gateway to programs without one, as it is while there
    was never a key. So a key that no value matches stays.
    """
    taken = {key.name for key in settings.keys}
    more = [
        key.as_configured() for key in stored if key.revoked_at is None and key.name not in taken
    ]
    keys = (*settings.keys, *more)
    if stored and not keys:
        keys = (GatewayKey(name="revoked", sha256=_UNMATCHED),)
    return settings.model_copy(update={"keys": keys})
