"""Messages to systemd, over a real socket."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from understudy.app.systemd import notify, service_notifications, watchdog_interval_s
from waiting import LIMIT_S


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.setblocking(False)
        yield listener


async def received(systemd: socket.socket) -> str:
    async with asyncio.timeout(LIMIT_S):
        return (await asyncio.get_running_loop().sock_recv(systemd, 100)).decode()


async def test_a_service_reports_ready_alive_and_stopping(systemd: socket.socket) -> None:
    environ = {"NOTIFY_SOCKET": systemd.getsockname(), "WATCHDOG_USEC": "20000000"}

    async with service_notifications(environ):
        ready, alive = await received(systemd), await received(systemd)

    assert (ready, alive, await received(systemd)) == ("READY=1", "WATCHDOG=1", "STOPPING=1")


def test_without_systemd_no_message_is_sent() -> None:
    assert not notify("READY=1", {})
    assert not notify("READY=1", {"NOTIFY_SOCKET": "/nowhere/notify"})


@pytest.mark.parametrize(
    ("environ", "interval_s"),
    [
        ({}, None),
        ({"WATCHDOG_USEC": "60000000"}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 30.0),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_watchdog_messages_come_twice_within_the_limit(
    environ: dict[str, str], interval_s: float | None
) -> None:
    assert watchdog_interval_s(environ) == interval_s
