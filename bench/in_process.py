"""One reply after another inside this process: plain aiohttp, or the ModelRouter on top of it.

    python bench/in_process.py aiohttp|router

Prints the median microseconds of a whole reply that comes in one chunk, and in a hundred.
"""

import asyncio
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable

import aiohttp
import msgspec
from subjects import MESSAGES

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


SUBJECTS = {"aiohttp": through_aiohttp}

if __name__ == "__main__":
    asyncio.run(SUBJECTS[sys.argv[1]](measure))
