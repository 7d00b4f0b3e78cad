"""Notifies systemd: ready, alive, stopping. Does nothing without systemd."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager, suppress


def notify(message: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send one message of sd_notify(3); False without a notification socket."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address or sys.platform == "win32":
        return False
    # A leading @ denotes an abstract socket name.
    name = f"\0{address[1:]}" if address.startswith("@") else address
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as connection:
        connection.sendto(message.encode(), name)
        return True
    return False


def watchdog_interval_s(environ: Mapping[str, str] = os.environ) -> float | None:
    """The interval of watchdog messages: half of systemd's limit; None without a limit."""
    try:
        limit_us = int(environ["WATCHDOG_USEC"])
    except (KeyError, ValueError):
        return None
    if environ.get("WATCHDOG_PID") not in (None, str(os.getpid())):
        return None
    return limit_us / 2e6 if limit_us > 0 else None


@asynccontextmanager
async def service_notifications(
    environ: Mapping[str, str] = os.environ, *, stopping: bool = True
) -> AsyncGenerator[None]:
    """Entered once everything runs. The event loop sends the watchdog messages, so they stop
    when it hangs. `stopping` says whether the process ends after it."""
    notify("READY=1", environ)
    interval_s = watchdog_interval_s(environ)
    watchdog = (
        None if interval_s is None else asyncio.create_task(_send_watchdog(interval_s, environ))
    )
    try:
        yield
    finally:
        if stopping:
            notify("STOPPING=1", environ)
        if watchdog is not None:
            watchdog.cancel()
            await asyncio.wait({watchdog})


async def _send_watchdog(interval_s: float, environ: Mapping[str, str]) -> None:
    while True:
        notify("WATCHDOG=1", environ)
        await asyncio.sleep(interval_s)
