"""Access levels: tokens, signed session cookies, one-time login links, free access on loopback."""

import hashlib
import hmac
import os
import secrets
from collections.abc import Awaitable, Callable, Mapping
from enum import IntEnum
from pathlib import Path

from understudy.config.settings import Web
from understudy.errors import ConfigError
from understudy.network import is_direct, is_loopback

SESSION_COOKIE = "understudy_session"
SESSION_S = 30 * 24 * 3600
LINK_S = 3600


class Level(IntEnum):
    """What a caller may do; each level includes the ones below."""

    ANONYMOUS = 0
    CHAT = 1
    OPERATOR = 2


UseOnce = Callable[[str, float], Awaitable[bool]]
"""(name, wall clock until which it matters) → whether this is its first use."""


class Access:
    """Checks tokens, sessions and login codes. `clock` is the wall clock.

    With `use_once`, login codes of other processes with the same token are good here too; without
    it, they end with this process.
    """

    def __init__(
        self,
        *,
        operator_token: str,
        chat_token: str | None,
        free_chat: bool,
        clock: Callable[[], float],
        use_once: UseOnce | None = None,
    ) -> None:
        self._tokens = {Level.OPERATOR: operator_token}
        if chat_token:
            self._tokens[Level.CHAT] = chat_token
        self._free_chat = free_chat and not chat_token
        self._clock = clock
        self._start = "" if use_once else secrets.token_hex(16)
        self._use_once = use_once or _OwnUses().use_once

    def new_link_code(self) -> str:
        """A code that logs one browser in as operator, once, within `LINK_S`."""
        name, until = secrets.token_urlsafe(24), int(self._clock()) + LINK_S
        return f"{name}.{until}.{self._link_signature(name, until)}"

    async def redeem(self, code: str) -> Level:
        """Raises StorageError where uses are stored and cannot be."""
        try:
            name, end, signature = code.split(".")
            until = int(end)
        except ValueError:
            return Level.ANONYMOUS
        good = hmac.compare_digest(signature.encode(), self._link_signature(name, until).encode())
        if not good or until <= self._clock() or not await self._use_once(name, until):
            return Level.ANONYMOUS
        return Level.OPERATOR

    def _link_signature(self, name: str, until: int) -> str:
        key = self._tokens[Level.OPERATOR].encode()
        text = f"link {self._start} {name} {until}".encode()
        return hmac.new(key, text, hashlib.sha256).hexdigest()

    def check_token(self, token: str) -> Level:
        """The access level of a typed or bearer token."""
        given = token.encode()
        levels = (
            level
            for level, known in self._tokens.items()
            if hmac.compare_digest(given, known.encode())
        )
        return max(levels, default=Level.ANONYMOUS)

    def session(self, level: Level) -> str:
        """A cookie value for this level, valid for `SESSION_S` or until its token changes."""
        until = int(self._clock()) + SESSION_S
        return f"{level.value}.{until}.{self._signature(level, until)}"

    def level_of(self, peer: str, headers: Mapping[str, str], cookies: Mapping[str, str]) -> Level:
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.check_token(token.strip())
        level = self._session_level(cookies.get(SESSION_COOKIE, ""))
        if level is Level.ANONYMOUS and self.is_free(peer, headers):
            return Level.CHAT
        return level

    def is_free(self, peer: str, headers: Mapping[str, str]) -> bool:
        """Whether this machine may use the chat without a token, and the request is from it."""
        return self._free_chat and is_direct(peer, headers)

    def _session_level(self, cookie: str) -> Level:
        try:
            number, until, signature = cookie.split(".")
            level, ends = Level(int(number)), int(until)
        except ValueError:
            return Level.ANONYMOUS
        if level not in self._tokens or ends <= self._clock():
            return Level.ANONYMOUS
        good = hmac.compare_digest(signature.encode(), self._signature(level, ends).encode())
        return level if good else Level.ANONYMOUS

    def _signature(self, level: Level, until: int) -> str:
        key = self._tokens[level].encode()
        return hmac.new(key, f"session {level.value} {until}".encode(), hashlib.sha256).hexdigest()


class _OwnUses:
    """What was used in this process. Its names are signed, so it grows with real links alone."""

    def __init__(self) -> None:
        self._names: set[str] = set()

    async def use_once(self, name: str, _until: float) -> bool:
        is_first = name not in self._names
        self._names.add(name)
        return is_first


def check_host(web: Web) -> None:
    """Raises ConfigError where other machines could reach the page without a token."""
    if not is_loopback(web.host) and web.token is None:
        raise ConfigError(
            f"web.host is {web.host}, which other machines can reach, but web.token is not set.\n"
            "Set web.token (or UNDERSTUDY_WEB_TOKEN) to a long random text, "
            "or set web.host back to 127.0.0.1."
        )


def load_operator_token(web: Web, token_file: Path) -> str:
    """The configured token, else the one in the file, else a new one that is written there.

    Raises ConfigError where the file is no text file.
    """
    if web.token is not None:
        return web.token.get_secret_value()
    try:
        if stored := token_file.read_text("utf-8").strip():
            return stored
        token_file.unlink()
    except FileNotFoundError:
        pass
    except (OSError, UnicodeDecodeError):
        raise ConfigError(
            f"{token_file} cannot be read as a token. Delete it, and a new token is made; "
            "or set web.token."
        ) from None
    return _new_token(token_file)


def _new_token(token_file: Path) -> str:
    """Write a new token, or read the one that another process has written meanwhile."""
    token = secrets.token_urlsafe(32)
    written = token_file.with_name(f"{token_file.name}-{secrets.token_hex(4)}")
    handle = os.open(written, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(handle, "w") as file:
            file.write(token + "\n")
        # Unlike a rename, this fails where the file exists, and it never shows a part of it.
        token_file.hardlink_to(written)
    except FileExistsError:
        return token_file.read_text("utf-8").strip()
    except OSError:
        # A file system without links.
        written.replace(token_file)
    finally:
        written.unlink(missing_ok=True)
    return token
