"""Rows 1, 2, 8, 10 and 11: clients that send, hold or ask too much."""

import socket
import threading
import time
from collections.abc import Callable
from urllib.parse import urlsplit

from attack.client import Browser, ask, ask_gateway
from attack.program import TOKEN, Program
from attack.row import Scene

_LINES = b"X-T: a\r\n" * 8_000
_CHUNK = (
    b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"
)
_FLOOD_BYTES = 100_000_000
_FLOOD_S = 4.0
_PIPELINED = 250
_UPLOADS = 24
_UPLOAD_BYTES = 45_000_000
_STREAMS = 1100
_GUESS_S = 3.0
_GUESSERS = 6
_GATEWAY_KEY = "sk-understudy-key-of-the-attack-suite"


def _connect(url: str, *, source: str = "127.0.0.1", timeout_s: float = 10.0) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection(
        (parts.hostname or "", parts.port or 80), timeout_s, source_address=(source, 0)
    )


def _together(*works: Callable[[], object]) -> None:
    threads = [threading.Thread(target=work) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def trailers(scene: Scene) -> None:
    """A chunked body, and after its last chunk header lines without end."""
    sent: list[int] = []

    def flood(sock: socket.socket, path: bytes) -> None:
        count, ends = 0, time.monotonic() + _FLOOD_S
        try:
            sock.sendall(_CHUNK % path)
            while count < _FLOOD_BYTES and time.monotonic() < ends:
                sock.sendall(_LINES)
                count += len(_LINES)
        except OSError:
            pass
        sent.append(count)

    with scene.program() as (program, _):
        page = scene.open.enter_context(_connect(program.page))
        gateway = scene.open.enter_context(_connect(program.gateway))
        _together(lambda: flood(page, b"/login"), lambda: flood(gateway, b"/v1/chat/completions"))
    scene.add({"sent_mb": max(sent) / 1e6})


def pipelining(scene: Scene) -> None:
    """250 connections that ask for a large file again and again, and never read."""
    asked = b"GET /static/base.css HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 500
    models = b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * 500

    def press(socks: list[tuple[socket.socket, bytes]]) -> None:
        ends = time.monotonic() + _FLOOD_S
        while time.monotonic() < ends:
            for sock, request in socks:
                try:
                    sock.send(request)
                except BlockingIOError:
                    continue
                except OSError:
                    continue
            time.sleep(0.005)

    with scene.program() as (program, _):
        socks = []
        for at in range(_PIPELINED):
            url, request = (program.gateway, models) if at % 5 == 0 else (program.page, asked)
            sock = scene.open.enter_context(_connect(url))
            sock.setblocking(False)
            socks.append((sock, request))
        press(socks)
        scene.add({"others_refused": float(ask_gateway(program.gateway, "Hello?").status != 200)})


def unfinished_uploads(scene: Scene) -> None:
    """24 messages to the page, each of 45 MB less its last byte."""
    part = b" " * 1_000_000

    def upload(program: Program, sock: socket.socket) -> None:
        parts = urlsplit(program.page)
        head = (
            f"POST /api/chats/conversation-1/messages HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"Cookie: understudy_browser={'b' * 24}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {_UPLOAD_BYTES}\r\n\r\n"
        )
        try:
            sock.settimeout(_FLOOD_S)
            sock.sendall(head.encode())
            for _ in range(_UPLOAD_BYTES // len(part) - 1):
                sock.sendall(part)
        except OSError:
            return

    with scene.program() as (program, _):
        socks = [scene.open.enter_context(_connect(program.page)) for _ in range(_UPLOADS)]
        _together(*(lambda sock=sock: upload(program, sock) for sock in socks))
        scene.add({"others_refused": float(Browser(program.page).say("Hello?").status != 202)})


def event_streams(scene: Scene) -> None:
    """One browser, then many at its address, open the streams that 1,024 files can hold."""
    with scene.program(files=1024) as (program, _):
        greedy = Browser(program.page)
        held = 0
        for at in range(_STREAMS):
            if at > _STREAMS // 2:
                greedy = Browser(program.page)
            try:
                events = greedy.open_events(timeout_s=2.0)
            except OSError:
                break
            scene.open.callback(events.close)
            held += events.read_status() == 200
        scene.add({"streams": held})
        other = Browser(program.page, source="127.0.0.2")
        try:
            events = other.open_events()
            refused = events.read_status() != 200
            scene.open.callback(events.close)
        except OSError:
            refused = True
        token = {"authorization": f"Bearer {TOKEN}"}
        operator = ask(f"{program.page}/api/operator/personas", headers=token, timeout_s=10)
        reply = ask_gateway(program.gateway, "Hello?")
        scene.add(
            {"others_refused": float(refused + (operator.status != 200) + (reply.status != 200))}
        )


def guessing(scene: Scene) -> None:
    """Tokens are tried as fast as they are answered: as bearer, in the form, as login code."""
    counts: dict[str, int] = {}
    sources = {"bearer": "127.0.0.3", "form": "127.0.0.4", "code": "127.0.0.5", "key": "127.0.0.6"}

    def guess(
        name: str, once: Callable[[int], tuple[str, str, bytes | None, dict[str, str]]]
    ) -> None:
        ends, at = time.monotonic() + _GUESS_S, 0
        while time.monotonic() < ends:
            at += 1
            url, method, body, headers = once(at)
            status = ask(url, method, body, headers, source=sources[name], timeout_s=5).status
            if status in (200, 401, 403):
                counts[name] = counts.get(name, 0) + 1

    with scene.program({"gateway": {"keys": [{"name": "a", "key": _GATEWAY_KEY}]}}) as (program, _):
        page = program.page
        form = {"content-type": "application/x-www-form-urlencoded"}
        ways: dict[str, Callable[[int], tuple[str, str, bytes | None, dict[str, str]]]] = {
            "bearer": lambda at: (
                f"{page}/api/operator/personas", "GET", None, {"authorization": f"Bearer x{at}"}
            ),
            "form": lambda at: (f"{page}/login", "POST", b"token=x%d" % at, form),
            "code": lambda at: (f"{page}/login?code=x{at}", "GET", None, {}),
            "key": lambda at: (
                f"{program.gateway}/v1/models", "GET", None, {"authorization": f"Bearer sk-x{at}"}
            ),
        }  # fmt: skip
        for name, way in ways.items():
            _together(*(lambda n=name, w=way: guess(n, w) for _ in range(_GUESSERS)))
        token = {"authorization": f"Bearer {TOKEN}"}
        right = ask(f"{page}/api/operator/personas", headers=token, source="127.0.0.2")
        key = {"authorization": f"Bearer {_GATEWAY_KEY}"}
        right_key = ask(f"{program.gateway}/v1/models", headers=key, source="127.0.0.2")
        typed = ask(f"{page}/login", "POST", f"token={TOKEN}".encode(), form, source="127.0.0.2")
        locked = sum(answer.status != 200 for answer in (right, right_key, typed))
    scene.add({f"{name}_guesses_per_minute": 20.0 * count for name, count in counts.items()})
    scene.add({"right_token_refused": float(locked)})
