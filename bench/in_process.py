"""One reply after another inside this process: plain aiohttp, or the ModelRouter on top of it.

    python bench/in_process.py aiohttp|router

Prints the median microseconds of a whole reply that comes in one chunk, and in a hundred.
"""

import asyncio
import itertools
import json
import os
import pathlib
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

import aiohttp
import msgspec
from subjects import MESSAGES
from subjects import ROUTES as ROUTE_WORDS

from understudy.app.bot import open_bot
from understudy.config.load import load_config
from understudy.llm.messages import ChatRequest, Message, TextPart
from understudy.observability.logs import Logs
from understudy.routing.request import HeldSink, Prompt, ReplyRequest

COUNTS = {"ok": 1500, "tokens": 300}
ROUTES = json.loads(os.environ["BENCH_ROUTES"])
Ask = Callable[[str], Awaitable[int]]
"""Ask one route for a reply; returns its tokens."""


async def through_aiohttp(measure: Callable[[Ask], Awaitable[None]]) -> None:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def ask(route: str) -> int:
            body = {"model": "bench-model", "stream": False, "messages": MESSAGES}
            async with session.post(
                f"{ROUTES[route][0]}/v1/chat/completions",
                data=msgspec.json.encode(body),
                headers={"Content-Type": "application/json"},
            ) as response:
                return msgspec.json.decode(await response.read())["usage"]["total_tokens"]

        await measure(ask)


async def through_router(measure: Callable[[Ask], Awaitable[None]]) -> None:
    """The bot's own router, with its ledger and its logs."""
    config = load_config(pathlib.Path(os.environ["BENCH_CONFIG"]), os.environ)
    request = ChatRequest(
        tuple(Message(m["role"], (TextPart(m["content"]),)) for m in MESSAGES), max_tokens=200
    )
    numbers = itertools.count()
    with pathlib.Path(os.devnull).open("w") as log:  # noqa: ASYNC230 - /dev/null
        async with open_bot(config, Logs(config.settings.logging, log)) as bot:

            async def ask(route: str) -> int:
                wanted = ReplyRequest(
                    id=f"bench-{next(numbers)}",
                    sink="gateway",
                    build=lambda _fit: Prompt(request, input_tokens=40),
                    order=(ROUTE_WORDS[route][0],),
                )
                usage = (await bot.models.reply(wanted, HeldSink())).record.usage
                return usage.input_tokens + usage.output_tokens

            await measure(ask)


async def timed(ask: Ask, route: str) -> float:
    took = []
    for _ in range(COUNTS[route]):
        began = time.perf_counter()
        tokens = await ask(route)
        took.append(time.perf_counter() - began)
        assert tokens == 224, tokens
    return round(statistics.median(took) * 1e6, 1)


async def measure(ask: Ask) -> None:
    await timed(ask, "ok")
    print(json.dumps({"whole": await timed(ask, "ok"), "tokens": await timed(ask, "tokens")}))


SUBJECTS = {"aiohttp": through_aiohttp, "router": through_router}

if __name__ == "__main__":
    asyncio.run(SUBJECTS[sys.argv[1]](measure))
