"""Telling systemd how the bot is: ready, alive, stopping. Does nothing under anything else."""

import asyncio
import os
import socket
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress


def notify(message: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send one message of sd_notify(3); False where nobody listens for it."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    # A leading @ stands for a name that is in no file system.
    name = f"\0{address[1:]}" if address.startswith("@") else address
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as speaker:
        speaker.sendto(message.encode(), name)
        return True
    return False


def watchdog_every_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """How often to give a sign of life: twice within systemd's limit; `None` where it has none."""
    try:
        limit_us = int(environ["WATCHDOG_USEC"])
    except (KeyError, ValueError):
        return None
    if environ.get("WATCHDOG_PID") not in (None, str(os.getpid())):
        return None
    return limit_us / 2e6 if limit_us > 0 else None


@asynccontextmanager
async def as_service(environ: Mapping[str, str] = os.environ) -> AsyncGenerator[None]:
    """Entered once everything runs. The signs of life come from the event loop itself, so they
    stop when it hangs."""
    notify("READY=1", environ)
    every_s = watchdog_every_s(environ)
    beating = None if every_s is None else asyncio.create_task(_beat(every_s, environ))
    try:
        yield
    finally:
        notify("STOPPING=1", environ)
        if beating is not None:
            beating.cancel()
            await asyncio.wait({beating})


async def _beat(every_s: float, environ: Mapping[str, str]) -> None:
    while True:
        notify("WATCHDOG=1", environ)
        await asyncio.sleep(every_s)
