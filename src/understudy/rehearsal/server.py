"""RehearsalServer: a stand-in OpenAI-compatible model server over real HTTP on loopback."""

import asyncio
import base64
import json
import re
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from random import Random
from types import TracebackType
from typing import Self

from aiohttp import web

from understudy.errors import ConfigError
from understudy.rehearsal.eliza import Line, answer
from understudy.rehearsal.faults import behaviour
from understudy.rehearsal.responder import Asked, Hang, Responder, Spoken
from understudy.rehearsal.script import Part, script


@dataclass(frozen=True, slots=True)
class Cast:
    """Who the server pretends to be."""

    name: str = "Understudy"
    models: tuple[str, ...] = ("rehearsal/eliza",)
    context_length: int = 8192
    vision: bool = False
    api_key: str | None = None
    """Where set, calls without this bearer key get a 401."""
    seed: int = 0
    word_pause_s: float = 0.0
    """Before each word of behaviours that set no pace of their own."""
    usd_per_token: float | None = None
    """Where set, usage names a cost, as OpenRouter's does."""


@dataclass(frozen=True, slots=True)
class Disconnect:
    """A caller that left before its answer was whole."""

    call: int
    at: float


@dataclass(slots=True)
class Tally:
    """What a server has seen. `asked` keeps the last hundred calls only."""

    calls: int = 0
    in_flight: int = 0
    probes: int = 0
    """GETs of the model list and the health page."""
    asked: deque[Asked] = field(default_factory=lambda: deque(maxlen=100))
    played: deque[str] = field(default_factory=lambda: deque(maxlen=100))
    """Names of the behaviours of those calls."""
    disconnects: list[Disconnect] = field(default_factory=list)
    stalls: int = 0
    """Calls that have come to where their behaviour hangs."""
    peers: set[object] = field(default_factory=set)
    """Distinct connections that carried a call."""


class RehearsalServer:
    """An async context manager; listens while it is entered.

    `health_status` and `models_status` say how `/health` and `/v1/models` answer and, like the
    script, may be changed while it runs.
    """

    def __init__(
        self,
        part: Part = "ok",
        *,
        cast: Cast | None = None,
        port: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._script = script(part)
        self._cast = cast or Cast()
        self._port = port
        self._clock = clock
        self._changed = asyncio.Condition()
        self._runner: web.AppRunner | None = None
        self._closing = False
        self.seen = Tally()
        self.health_status = 404
        self.models_status = 200
        self.transcribe_status = 200
        self.recordings: list[bytes] = []
        """What was sent to be transcribed."""

    async def __aenter__(self) -> Self:
        await self.come_up()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.go_down()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    @property
    def calls(self) -> int:
        return self.seen.calls

    @property
    def disconnects(self) -> list[Disconnect]:
        return self.seen.disconnects

    @property
    def connections_open(self) -> int:
        server = self._runner.server if self._runner else None
        return len(server.connections) if server else 0

    @property
    def last_body(self) -> dict[str, object]:
        """The JSON body of the last call. Raises IndexError before the first."""
        return self.seen.asked[-1].body

    def play(self, part: Part) -> None:
        """Behave like this from the next call on; scripts count calls from the server's start."""
        first, inner = self.seen.calls, script(part)
        self._script = lambda call: inner(call - first)

    async def until(self, holds: Callable[[Tally], bool], timeout_s: float = 60.0) -> None:
        """Wait until what was seen satisfies `holds`; raises TimeoutError."""
        async with asyncio.timeout(timeout_s), self._changed:
            await self._changed.wait_for(lambda: holds(self.seen))

    async def come_up(self) -> None:
        """Listen, on the same port as before where there was one. Raises ConfigError where that
        port is taken."""
        self._closing = False
        app = web.Application(client_max_size=64 * 2**20)
        app.router.add_post("/{prefix:.*}completions", self._reply)
        app.router.add_get("/{prefix:.*}models", self._models)
        app.router.add_get("/health", self._health)
        app.router.add_post("/{prefix:.*}audio/transcriptions", self._transcribe)
        app.router.add_post("/api/extra/transcribe", self._transcribe)
        self._runner = web.AppRunner(
            app, handler_cancellation=True, access_log=None, shutdown_timeout=0.05
        )
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        try:
            await site.start()
        except OSError as error:
            await self.go_down()
            raise ConfigError(f"Port {self._port} of 127.0.0.1 is taken; use another.") from error
        except OverflowError as error:
            await self.go_down()
            raise ConfigError(f"{self._port} is no port; the last one is 65535.") from error
        self._port = self._runner.addresses[0][1]

    async def go_down(self) -> None:
        """Refuse connections and break those that are open, as a stopped server does."""
        self._closing = True
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _note(self, change: Callable[[Tally], None]) -> None:
        async with self._changed:
            change(self.seen)
            self._changed.notify_all()

    async def _reply(self, request: web.Request) -> web.StreamResponse:
        asked = await self._asked(request)
        play = self._script(asked.number) if self._admits(request) else behaviour("e401")
        stage = Responder(request, asked, self._spoken(asked), self._cast.word_pause_s)
        self.seen.peers.add(request.transport and request.transport.get_extra_info("peername"))
        self.seen.in_flight += 1
        self.seen.played.append(play.name)
        await self._note(lambda seen: seen.asked.append(asked))
        try:
            for move in play.moves:
                if isinstance(move, Hang):
                    await self._note(lambda seen: setattr(seen, "stalls", seen.stalls + 1))
                await move.play(stage)
            return await stage.close()
        except (asyncio.CancelledError, ConnectionError) as gone:
            if not stage.left_by_us and not self._closing:
                left = Disconnect(asked.number, self._clock())
                await self._note(lambda seen: seen.disconnects.append(left))
            if isinstance(gone, ConnectionError):
                # Raised on, it would be logged as an error of ours; nobody is there to read this.
                return web.Response()
            raise
        finally:
            self.seen.in_flight -= 1

    async def _asked(self, request: web.Request) -> Asked:
        self.seen.calls += 1
        number = self.seen.calls
        try:
            body = json.loads(await request.read())
        except ValueError:
            body = None
        headers = {name.lower(): value for name, value in request.headers.items()}
        fields = body if isinstance(body, dict) else {}
        return Asked(number, request.path, headers, fields, self._clock())

    def _admits(self, request: web.Request) -> bool:
        key = self._cast.api_key
        return key is None or request.headers.get("Authorization") == f"Bearer {key}"

    def _spoken(self, asked: Asked) -> Spoken:
        lines = _lines(asked.body)
        dice = Random(f"{self._cast.seed}/{asked.number}")  # noqa: S311 - small talk is no secret
        words = re.findall(r"\S+\s*", answer(lines, name=self._cast.name, random=dice))
        limit = asked.body.get("max_tokens")
        model = asked.body.get("model")
        return Spoken(
            words[:limit] if isinstance(limit, int) else words,
            prompt_tokens=sum(4 + len(line.text) // 4 + 85 * line.images for line in lines),
            model=model if isinstance(model, str) and model else self._cast.models[0],
            usd_per_token=self._cast.usd_per_token,
        )

    async def _transcribe(self, request: web.Request) -> web.Response:
        """Every recording says the same."""
        if request.content_type == "application/json":
            sent = base64.b64decode((await request.json())["audio_data"])
        else:
            field = (await request.post())["file"]
            sent = field.file.read() if isinstance(field, web.FileField) else b""
        self.recordings.append(sent)
        if self.transcribe_status != 200:
            return web.json_response({"error": "rehearsed"}, status=self.transcribe_status)
        return web.json_response({"text": " The rehearsal can be heard. "})

    async def _models(self, request: web.Request) -> web.Response:
        await self._note(lambda seen: setattr(seen, "probes", seen.probes + 1))
        if not self._admits(request) or self.models_status != 200:
            status = self.models_status if self._admits(request) else 401
            return web.json_response({"error": {"message": "no", "code": status}}, status=status)
        inputs = ["text", "image"] if self._cast.vision else ["text"]
        rows = [
            {
                "id": model,
                "object": "model",
                "created": 1_750_000_000,
                "owned_by": "rehearsal",
                "context_length": self._cast.context_length,
                "architecture": {"input_modalities": inputs, "output_modalities": ["text"]},
            }
            for model in self._cast.models
        ]
        return web.json_response({"object": "list", "data": rows})

    async def _health(self, _request: web.Request) -> web.Response:
        await self._note(lambda seen: setattr(seen, "probes", seen.probes + 1))
        word = "ok" if self.health_status == 200 else "Loading model"
        return web.json_response({"status": word}, status=self.health_status)


def _text_of(content: object) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    texts = (part.get("text") for part in parts if isinstance(part, dict))
    return " ".join(text for text in texts if isinstance(text, str))


def _images_of(content: object) -> int:
    parts = content if isinstance(content, list) else []
    return sum(isinstance(part, dict) and part.get("type") == "image_url" for part in parts)


def _lines(body: Mapping[str, object]) -> list[Line]:
    prompt, messages = body.get("prompt"), body.get("messages")
    if isinstance(prompt, str):
        return [Line(from_user=True, text=prompt, images=0)]
    rows = messages if isinstance(messages, list) else []
    return [
        Line(
            from_user=row.get("role") == "user",
            text=_text_of(row.get("content")),
            images=_images_of(row.get("content")),
        )
        for row in rows
        if isinstance(row, dict)
    ]
