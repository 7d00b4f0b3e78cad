"""A model server for the attacks, in a thread: answers what a row wants, records the prompts."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(slots=True)
class ModelServer:
    url: str = ""
    text: Callable[[], str] = lambda: "All is well. "
    bodies: list[bytes] = field(default_factory=list)
    """Of every request for a reply."""
    has_chat: bool = True
    """Without it, it is a koboldcpp from before its chat endpoint."""

    def entry(self, engine: str = "openai", **more: object) -> dict[str, object]:
        """This server as an entry of `model.servers`."""
        return {"engine": engine, "base_url": self.url, "name": "stand-in", **more}


class _Requests(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Listener"

    def do_GET(self) -> None:
        self._json(200, {"object": "list", "data": [{"id": "stand-in", "object": "model"}]})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        model = self.server.model
        if self.path.endswith("/chat/completions") and not model.has_chat:
            self._json(404, {"detail": "Not Found"})
        elif self.path.endswith("/generate"):
            model.bodies.append(body)
            self._json(200, {"text": model.text()})
        elif self.path.endswith("/chat/completions"):
            model.bodies.append(body)
            self._stream(f"data: {json.dumps(piece)}\n\n" for piece in _chat(model.text()))
        elif self.path.endswith("/stream"):
            model.bodies.append(body)
            self._stream(
                f"event: message\ndata: {json.dumps(piece)}\n\n" for piece in _tokens(model.text())
            )
        else:
            self._json(200, {"value": 10})

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the name is given
        """Nothing is written."""

    def _json(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, events: Iterator[str]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.wfile.write("".join(events).encode())
        self.close_connection = True


def _chat(text: str) -> Iterator[object]:
    for start in range(0, len(text), 4000):
        delta = {"content": text[start : start + 4000]}
        yield {"id": "c", "object": "chat.completion.chunk", "choices": [{"delta": delta}]}
    yield {"id": "c", "choices": [{"delta": {}, "finish_reason": "stop"}]}


def _tokens(text: str) -> Iterator[object]:
    yield {"token": text, "finish_reason": None}
    yield {"token": "", "finish_reason": "stop"}


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, model: ModelServer) -> None:
        super().__init__(("127.0.0.1", 0), _Requests)
        self.model = model


@contextmanager
def model_server(
    text: Callable[[], str] | None = None, *, has_chat: bool = True
) -> Iterator[ModelServer]:
    model = ModelServer(has_chat=has_chat)
    if text is not None:
        model.text = text
    with _Listener(model) as listener:
        model.url = f"http://127.0.0.1:{listener.server_address[1]}"
        serving = threading.Thread(target=listener.serve_forever)
        serving.start()
        try:
            yield model
        finally:
            listener.shutdown()
            serving.join()
