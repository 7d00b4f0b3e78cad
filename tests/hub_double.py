"""A stand-in for the Hugging Face Hub over HTTP: file addresses, hashes, ranges, refusals."""

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass(slots=True)
class Hub:
    """What it has, and what it was asked for."""

    files: dict[str, bytes]
    """By `owner/repo/path`."""
    url: str = ""
    breaks_after: int | None = None
    """Bytes of one answer after which it hangs up."""
    gated: bool = False
    lies: bool = False
    """Gives other bytes than it announced."""
    ranges: list[str | None] = field(default_factory=list)
    tokens: list[str | None] = field(default_factory=list)


@contextmanager
def hub_double(files: dict[str, bytes]) -> Iterator[Hub]:
    """Serve `files` on a free loopback port."""
    hub = Hub(files)

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            _answer(self, hub)

        def do_GET(self) -> None:
            _answer(self, hub)

        def log_message(self, *_: object) -> None:
            """Quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(request: BaseHTTPRequestHandler, hub: Hub) -> None:
    hub.tokens.append(request.headers.get("Authorization"))
    repository, _, path = request.path.lstrip("/").partition("/resolve/main/")
    content = hub.files.get(f"{repository}/{path}")
    if hub.gated:
        _refuse(request, 403, "GatedRepo")
    elif not any(name.startswith(f"{repository}/") for name in hub.files):
        _refuse(request, 404, "RepoNotFound")
    elif content is None:
        _refuse(request, 404, "EntryNotFound")
    else:
        _send(request, hub, content)


def _refuse(request: BaseHTTPRequestHandler, status: int, code: str) -> None:
    request.send_response(status)
    request.send_header("X-Error-Code", code)
    request.send_header("Content-Length", "0")
    request.end_headers()


def _send(request: BaseHTTPRequestHandler, hub: Hub, content: bytes) -> None:
    wanted = request.headers.get("Range")
    start = int(re.findall(r"\d+", wanted)[0]) if wanted else 0
    request.send_response(206 if wanted else 200)
    request.send_header("X-Repo-Commit", _COMMIT)
    request.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
    request.send_header("Content-Length", str(len(content) - start))
    if wanted:
        total = len(content)
        request.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
    request.end_headers()
    if request.command == "HEAD":
        return
    hub.ranges.append(wanted)
    body = content[start:]
    if hub.lies:
        body = bytes(byte ^ 1 for byte in body)
    if hub.breaks_after is not None and len(body) > hub.breaks_after:
        body = body[: hub.breaks_after]
        request.close_connection = True
    request.wfile.write(body)
