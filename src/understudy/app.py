"""The composition root: the only module that knows every room.

Starting goes from the inside out: storage, ledger, router, conversation, then the platforms that
let people in. Shutting down lets running replies end first, and then goes the other way.
"""

import asyncio
import os
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import structlog

from understudy.config.load import Config, load_config
from understudy.conversation.message_router import MessageRouter
from understudy.conversation.persona import Personas
from understudy.conversation.preferences import Preferences
from understudy.conversation.surroundings import Surroundings, new_id
from understudy.errors import ConfigError
from understudy.llm.prices import PriceBook
from understudy.observability.ledger_queue import LedgerQueue
from understudy.observability.log_observer import LogObserver
from understudy.observability.logs import Logs
from understudy.routing.attempts import AttemptObserver
from understudy.routing.in_force import RouterInForce
from understudy.routing.router import Instruments
from understudy.storage.database import Database, database_path
from understudy.storage.ledger import SqlLedger
from understudy.storage.opened import Opened, open_storage

_LOG = structlog.get_logger()
GRACE_S = 20.0
"""How long replies that run at shutdown may still take."""
_AT_START = ("web.enabled", "web.host", "web.port", "gateway.enabled", "gateway.host")


@asynccontextmanager
async def models(
    config: Config, observers: Sequence[AttemptObserver], *, prices: PriceBook | None = None
) -> AsyncGenerator[RouterInForce]:
    """Only the model servers: what `ask` needs."""
    tools = Instruments(observers=observers, prices=prices or PriceBook())
    in_force = RouterInForce(config, tools)
    try:
        yield in_force
    finally:
        await in_force.aclose()
