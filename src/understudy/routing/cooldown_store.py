"""Persists cooldowns of rejected keys and empty accounts across restarts.

They are written to a file at shutdown and restored once at the next start, unless the
configuration or a key has changed meanwhile, which may have fixed them.
"""

import asyncio
import hashlib
import secrets
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import structlog

from understudy.config.load import Config
from understudy.config.providers import ModelSettings
from understudy.errors import NOT_JSON, ErrorClass
from understudy.files import write_file
from understudy.routing.candidates import ScopeKey
from understudy.routing.cooldown import Cooldown, CooldownBoard
from understudy.routing.failure_policy import RULES

_log = structlog.get_logger()
_KEPT = frozenset((ErrorClass.AUTH, ErrorClass.QUOTA))


class _Kept(msgspec.Struct, frozen=True):
    key: ScopeKey
    until: float
    """Wall clock."""
    cause: ErrorClass


class _Page(msgspec.Struct, frozen=True):
    salt: bytes
    seal: bytes
    """Digest of the configuration and its keys, to detect a change."""
    holds: tuple[_Kept, ...]


class CooldownStore:
    """The file of cooldowns, owned by the code that opens and closes the router."""

    def __init__(
        self,
        file: Path,
        board: CooldownBoard,
        clock: Callable[[], float],
        wall: Callable[[], float],
    ) -> None:
        self._file = file
        self._board = board
        self._clock = clock
        self._wall = wall

    async def recall(self, config: Config) -> None:
        """Load the file and delete it."""
        page = await asyncio.to_thread(self._take)
        if page is None or page.seal != _seal(config, page.salt):
            return
        now, wall = self._clock(), self._wall()
        for kept in page.holds:
            left_s = min(kept.until - wall, RULES[kept.cause].cap_s)
            if kept.cause in _KEPT and left_s > 0:
                self._board.restore(Cooldown(kept.key, now + left_s, kept.cause))

    async def keep(self, config: Config) -> None:
        """Write the cooldowns that only the operator can end."""
        now, wall = self._clock(), self._wall()
        holds = tuple(
            _Kept(hold.key, wall + hold.until - now, hold.cause)
            for hold in self._board.holds(now)
            if hold.cause in _KEPT and hold.until > now
        )
        if holds:
            salt = secrets.token_bytes(16)
            await asyncio.to_thread(self._write, _Page(salt, _seal(config, salt), holds))

    def _take(self) -> _Page | None:
        with suppress(OSError, *NOT_JSON):
            data = self._file.read_bytes()
            self._file.unlink()
            return msgspec.json.decode(data, type=_Page)
        return None

    def _write(self, page: _Page) -> None:
        try:
            write_file(self._file, msgspec.json.encode(page), private=True)
        except OSError as error:
            _log.warning("holds.not_kept", file=str(self._file), error=error.strerror)


def _seal(config: Config, salt: bytes) -> bytes:
    parts = (config.rev, *_keys(config.settings.model))
    return hashlib.blake2b("\0".join(parts).encode(), key=salt, digest_size=16).digest()


def _keys(model: ModelSettings) -> Iterator[str]:
    known = (model.openrouter, model.chutes, model.nanogpt, model.local)
    for server in (*known, *model.servers.values()):
        yield from (keyed.secret or "" for keyed in server.each_key())
