"""What ordinary people and programs do with the page and the gateway, in small."""

import base64
import http.client
import json
import secrets
import socket
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from attack.program import TOKEN

_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    """0 where there was none."""
    body: bytes
    taken_s: float


def ask(
    url: str,
    method: str = "GET",
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    source: str = "127.0.0.1",
    timeout_s: float = _PATIENCE_S,
) -> Answer:
    """One request over a connection of its own, from the address `source`."""
    parts, began = urlsplit(url), time.monotonic()
    connection = http.client.HTTPConnection(
        parts.hostname or "", parts.port, timeout=timeout_s, source_address=(source, 0)
    )
    try:
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path or "/"
        connection.request(method, path, body, dict(headers or {}))
        answer = connection.getresponse()
        return Answer(answer.status, answer.read(), time.monotonic() - began)
    except (OSError, http.client.HTTPException):
        return Answer(0, b"", time.monotonic() - began)
    finally:
        connection.close()


def ask_gateway(gateway: str, text: str, model: str = "understudy") -> Answer:
    body = {"model": model, "messages": [{"role": "user", "content": text}]}
    kind = {"content-type": "application/json"}
    return ask(f"{gateway}/v1/chat/completions", "POST", json.dumps(body).encode(), kind)


def import_card(page: str, card: bytes, timeout_s: float = _PATIENCE_S) -> Answer:
    headers = {"authorization": f"Bearer {TOKEN}"}
    return ask(f"{page}/api/operator/personas", "POST", card, headers, timeout_s=timeout_s)


@dataclass(slots=True)
class Browser:
    """One browser with its cookie."""

    page: str
    source: str = "127.0.0.1"
    cookie: str = field(default_factory=lambda: secrets.token_urlsafe(24))

    @property
    def headers(self) -> dict[str, str]:
        return {"cookie": f"understudy_browser={self.cookie}", "content-type": "application/json"}

    def say(self, text: str, *pictures: bytes, chat: str = "conversation-1") -> Answer:
        images = [{"name": "a.jpg", "data": base64.b64encode(data).decode()} for data in pictures]
        body = {"id": secrets.token_hex(8), "text": text, "images": images}
        url = f"{self.page}/api/chats/{chat}/messages"
        return ask(url, "POST", json.dumps(body).encode(), self.headers, source=self.source)

    def open_events(self, chat: str = "conversation-1", timeout_s: float = 10.0) -> "Events":
        parts = urlsplit(self.page)
        address = (parts.hostname or "", parts.port or 80)
        sock = socket.create_connection(address, timeout_s, source_address=(self.source, 0))
        head = (
            f"GET /api/chats/{chat}/events HTTP/1.1\r\nHost: {parts.netloc}\r\n"
            f"Cookie: understudy_browser={self.cookie}\r\n\r\n"
        )
        sock.sendall(head.encode())
        return Events(sock)


class Events:
    """An event stream as the page reads it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._file = sock.makefile("rb")

    def read_status(self) -> int:
        """Reads the head once; 0 where none came."""
        try:
            first = self._file.readline()
            while self._file.readline() not in (b"\r\n", b""):
                pass
        except OSError:
            return 0
        words = first.split()
        return int(words[1]) if len(words) > 1 else 0

    def entries(self) -> Iterator[dict[str, object]]:
        """Every change of an entry, until the stream ends or is silent for too long."""
        try:
            for line in self._file:
                if line.startswith(b"data: "):
                    yield json.loads(line[6:])
        except (OSError, ValueError):
            return

    def finished_reply(self) -> dict[str, object] | None:
        for entry in self.entries():
            if entry.get("kind") == "reply" and entry.get("state") not in (None, "writing"):
                return entry
        return None

    def close(self) -> None:
        self._file.close()
        self.sock.close()
