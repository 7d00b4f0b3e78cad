"""Serves the gateway of a bot."""

import asyncio
import secrets
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from functools import lru_cache
from random import Random
from weakref import WeakSet

import structlog

from understudy.app.bot import GRACE_S, Bot
from understudy.app.client_keys import with_client_keys
from understudy.app.file_limits import divide_files, open_file_limit
from understudy.app.workers import Worker
from understudy.config.load import Config
from understudy.config.settings import Gateway as GatewaySettings
from understudy.gateway.app import Gateway
from understudy.gateway.key_limits import KeyLimits
from understudy.gateway.reply_call import Source
from understudy.http_server.auth_throttle import AuthFailures, failures_of_one
from understudy.http_server.exchange import Exchange, Receiver
from understudy.http_server.server import WebServer
from understudy.http_server.state import ClientLimits
from understudy.routing.quotas import Unit

_LAST_WORDS_S = 2
"""For sending why a reply ended, once the grace is over."""
_log = structlog.get_logger()


class _ReloadableGateway:
    """Passes each request to the gateway of the current configuration."""

    def __init__(self, bot: Bot, worker: Worker) -> None:
        self._bot = bot
        self._worker = worker
        self._limits = KeyLimits()
        self._failures = AuthFailures(failures=failures_of_one(worker.count))
        self._current: tuple[Config, Gateway] | None = None
        self._revision = 0
        """Of the stored keys in `_current`."""
        self._created: WeakSet[Gateway] = WeakSet()
        if bot.guard.shared is None:
            bot.observers.append(self._limits)
        else:
            self._limits.reserve = bot.guard.charge
            self._limits.expected_tokens = lambda: bot.guard.expect(Unit.TOKENS)

    def __call__(self, exchange: Exchange) -> Receiver | None:
        return self.current()(exchange)

    def current(self) -> Gateway:
        keys = self._bot.client_keys
        revision = 0 if keys is None else keys.revision
        if (
            self._current is None
            or self._current[0] is not self._bot.config
            or self._revision != revision
        ):
            self._revision = revision
            self._current = (self._bot.config, self._gateway())
            self._created.add(self._current[1])
        return self._current[1]

    def end_replies(self) -> None:
        """End all replies, those under an earlier configuration included."""
        for created in tuple(self._created):
            created.end_replies()

    def _gateway(self) -> Gateway:
        candidates = self._bot.models.router.candidates
        names = [c.name.rstrip("/") for c in candidates if c.off is None]
        usable = {name.partition("/")[0] for name in names}
        source = Source(
            self._bot.prompts.reply,
            tuple(names),
            self._bot.guard.may_spend,
            frozenset(c.name.partition("/")[0] for c in candidates) - usable,
        )
        configured = self._bot.settings()
        named = configured.gateway.model_copy(update={"orders": configured.orders})
        settings = share_of(named, self._worker)
        settings = limited_by_open_files(settings, open_file_limit())
        keys = self._bot.client_keys
        stored = () if keys is None else keys.stored
        settings = with_client_keys(settings, stored)
        return Gateway(settings, source, self._limits, failures=self._failures, new_id=request_id)


def share_of(settings: GatewaySettings, worker: Worker) -> GatewaySettings:
    """One worker's part of what all workers may hold at a time."""
    return settings.model_copy(
        update={
            "max_requests": worker.share_of(settings.max_requests),
            "max_held_bytes": worker.share_of(settings.max_held_bytes),
        }
    )


def limited_by_open_files(settings: GatewaySettings, files: int) -> GatewaySettings:
    """Limit `max_requests` to what the open-file limit allows."""
    most = divide_files(files).requests
    if settings.max_requests <= most:
        return settings
    _log.warning("gateway.few_files", max_requests=most, open_files=files)
    return settings.model_copy(update={"max_requests": most})


class RunningGateway:
    """A gateway that listens."""

    def __init__(self, server: WebServer, end_replies: Callable[[], None]) -> None:
        self.url = f"{server.url}/v1"
        self._server = server
        self._end_replies = end_replies
        self._timer: asyncio.TimerHandle | None = None

    def begin_shutdown(self) -> None:
        """Accept no more requests; those that run have `GRACE_S` to end by themselves."""
        self._server.stop_accepting()
        if self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(GRACE_S, self._end_replies)

    def stopped(self) -> None:
        if self._timer is not None:
            self._timer.cancel()


_ALPHABET = "234567abcdefghijklmnopqrstuvwxyz"
_PAIRS = [a + b for a in _ALPHABET for b in _ALPHABET]
_random_bits = Random(secrets.randbits(256)).getrandbits  # noqa: S311
"""Ids of requests need not be secret, and the system's generator costs a system call each."""


@lru_cache(maxsize=4)
def _letters_of(second: int) -> str:
    return f"{_PAIRS[second >> 20 & 1023]}{_PAIRS[second >> 10 & 1023]}{_PAIRS[second & 1023]}"


def request_id(wall: Callable[[], float] = time.time) -> str:
    """Return 16 lower-case letters and digits: the time in 1/1024 s, which repeats after 34 years,
    then 40 random bits.

    Ids that increase are stored side by side in the database; in a large one, random ids need a
    page each.
    """
    now, left, right = int(wall() * 1024), _random_bits(20), _random_bits(20)
    return (
        f"{_letters_of(now >> 10)}{_PAIRS[now & 1023]}{_PAIRS[left & 1023]}{_PAIRS[left >> 10]}"
        f"{_PAIRS[right & 1023]}{_PAIRS[right >> 10]}"
    )


@asynccontextmanager
async def gateway(bot: Bot, worker: Worker) -> AsyncGenerator[RunningGateway]:
    """Serve the gateway. Raises ConfigError."""
    settings = bot.settings().gateway
    reloadable = _ReloadableGateway(bot, worker)
    reloadable.current()
    limits = ClientLimits(
        connections=divide_files(open_file_limit()).clients, grace_s=GRACE_S + _LAST_WORDS_S
    )
    async with WebServer(
        reloadable,
        settings.host,
        settings.port,
        setting="gateway.port",
        limits=limits,
        reuse_port=worker.shares_ports,
    ) as server:
        running = RunningGateway(server, reloadable.end_replies)
        try:
            yield running
        finally:
            running.begin_shutdown()
    running.stopped()
