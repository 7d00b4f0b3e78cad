"""koboldcpp: chat through its OpenAI endpoint, aborts by key, figures that must be repaired.

A server too old for the chat endpoint is asked through the native stream, with a prompt made by
the configured chat template.
"""

import asyncio
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import msgspec

from understudy.clock import SYSTEM_CLOCK, Clock
from understudy.errors import ErrorClass, ProviderError
from understudy.llm.addresses import server_root
from understudy.llm.client import (
    EventReceiver,
    Exchange,
    Generation,
    Phase,
    ProbeReport,
    ProbeState,
)
from understudy.llm.dialect import Dialect, Wording
from understudy.llm.frames import with_finish
from understudy.llm.http.endpoint import HttpSessions
from understudy.llm.messages import ChatRequest, Finished, ImagePart, Output, Usage
from understudy.llm.model_list import ModelList, report_failure
from understudy.llm.openai_client import OpenAIClient, ServerFacts
from understudy.llm.openai_wire import Choice, Chunk, encode_body, readable, take_stops, text_of
from understudy.llm.prompt_templates import chat_template

DIALECT = Dialect(
    engine="koboldcpp",
    base_url="http://127.0.0.1:5001/v1",
    plain_messages=True,
    keepalive_s=4.0,
    # With --parallelrequests a finish may come in the middle of the stream.
    finish_grace_s=10.0,
    max_body_bytes=32_000_000,
    refuses_images_loudly=False,
    wordings=(
        Wording("payload is too big", ErrorClass.PAYLOAD_TOO_LARGE),
        Wording("error parsing input", ErrorClass.BAD_REQUEST),
    ),
)

_FAKE_USAGE = (100, 100)
"""What versions up to 1.76 report for every reply."""
_TURN_TOKENS = 8
_GENERATE = "/api/extra/generate/stream"
_NATIVE_NAMES = {"max_tokens": "max_length", "stop": "stop_sequence"}
_ABORT_PATIENCE_S = 2.0
_NOT_FOUND = 404
_WANTS_PASSWORD = (
    "koboldcpp was started with --password and no key is configured: put the password into .env "
    "and name its variable in api_key_env"
)


class _Version(msgspec.Struct):
    result: str = ""
    version: str = ""
    vision: bool | None = None
    llm: bool | None = None
    protected: bool | None = None
    """Whether it was started with a password."""


class _Value(msgspec.Struct):
    value: int


class _Token(msgspec.Struct):
    token: str = ""
    finish_reason: str | None = None


def _new_key() -> str:
    return f"KCPP{secrets.token_hex(6)}"


class LocalKoboldClient(OpenAIClient):
    def __init__(
        self,
        facts: ServerFacts,
        dialect: Dialect,
        sessions: HttpSessions,
        clocks: Clock = SYSTEM_CLOCK,
        *,
        new_key: Callable[[], str] = _new_key,
    ) -> None:
        super().__init__(facts, dialect, sessions, clocks)
        self._root = server_root(self.endpoint.base_url)
        self._template = chat_template(facts.chat_template, "alpaca")
        self._new_key = new_key
        self._too_old = False
        """Whether the chat endpoint was found missing."""
        self._aborts: set[asyncio.Task[None]] = set()

    def start(
        self, request: ChatRequest, model: str, exchange: Exchange, receiver: EventReceiver
    ) -> Generation:
        key = self._new_key()
        generation = _Abortable(exchange, receiver, lambda: self._abort(key))
        generation.most_tokens = readable(self.members(request).get("max_tokens"))
        if request.raw_completion:
            body = self.body(request, model, {"genkey": key})
            generation.under = self.complete(body, exchange, generation)
        elif self._too_old:
            generation.under = self._start_native(request, key, generation)
        else:
            generation.on_missing_page = lambda: self._fall_back(request, key, generation)
            body = self.body(request, model, {"genkey": key})
            parser = self.parser(exchange)
            generation.under = self.converse(self.dialect.chat_path, body, parser, generation)
        return generation

    async def count_tokens(self, request: ChatRequest, model: str) -> int | None:  # noqa: ARG002
        if any(isinstance(part, ImagePart) for m in request.messages for part in m.parts):
            return None
        text = "\n".join(text_of(message) for message in request.messages)
        try:
            counted = await self.ask_as(
                _Value, "POST", f"{self._root}/api/extra/tokencount", {"prompt": text}
            )
        except ProviderError:
            return None
        return counted.value + _TURN_TOKENS * len(request.messages)

    def repair_usage(self, usage: Usage, chunk: Chunk) -> Usage | None:
        fake = (usage.input_tokens, usage.output_tokens) == _FAKE_USAGE
        return None if fake and chunk.id == "chatcmpl-A1" else usage

    async def probe(self, model: str) -> ProbeReport:
        try:
            version = await self.ask_as(_Version, "GET", f"{self._root}/api/extra/version")
            context = await self.ask_as(
                _Value, "GET", f"{self._root}/api/extra/true_max_context_length"
            )
            report = await super().probe(model)
        except ProviderError as error:
            return report_failure(error, self.endpoint.base_url)
        if version.result != "KoboldCpp":
            return ProbeReport(ProbeState.BROKEN, advice="what answers there is not koboldcpp")
        if version.protected and not self.facts.key:
            return ProbeReport(ProbeState.KEY_REFUSED, advice=_WANTS_PASSWORD)
        if version.llm is False or report.model == "koboldcpp/inactive":
            advice = "koboldcpp runs without a text model: start it with --model"
            return ProbeReport(ProbeState.MODEL_MISSING, advice=advice)
        blind = self.facts.vision is True and version.vision is False
        advice = (
            "it answers, but has no vision projector loaded: start koboldcpp with --mmproj"
            if blind
            else ""
        )
        return replace(
            report,
            context_length=self.facts.context_length or context.value,
            vision=bool(version.vision) if version.vision is not None else self.facts.vision,
            max_concurrency=1,
            advice=advice,
        )

    def report(self, models: ModelList, model: str) -> ProbeReport:  # noqa: ARG002
        """One model is loaded, and the name in a request is ignored."""
        return super().report(models, "")

    async def aclose(self) -> None:
        if self._aborts:
            await asyncio.wait(self._aborts, timeout=_ABORT_PATIENCE_S)
        for abort in self._aborts:
            abort.cancel()
        await asyncio.gather(*self._aborts, return_exceptions=True)

    def _fall_back(self, request: ChatRequest, key: str, generation: "_Abortable") -> Generation:
        """The server has no chat endpoint: use its native one, now and from now on."""
        self._too_old = True
        return self._start_native(request, key, generation)

    def _start_native(self, request: ChatRequest, key: str, generation: "_Abortable") -> Generation:
        parser = self.parser(generation.exchange, _chunk_of_token)
        body = self._native_body(request, key)
        return self.converse(f"{self._root}{_GENERATE}", body, parser, generation)

    def _native_body(self, request: ChatRequest, key: str) -> bytes:
        members = self.members(request)
        members.pop("messages", None)
        stops = [*take_stops(members), *self._template.stops]
        named = {_NATIVE_NAMES.get(name, name): value for name, value in members.items()}
        named["stop_sequence"] = stops
        if self.facts.context_length:
            named["max_context_length"] = self.facts.context_length
        prompt = self._template.prompt(request.messages)
        return encode_body(named | {"prompt": prompt, "genkey": key})

    def _abort(self, key: str) -> None:
        task = asyncio.create_task(self._abort_now(key))
        self._aborts.add(task)
        task.add_done_callback(self._aborts.discard)

    async def _abort_now(self, key: str) -> None:
        body = encode_body({"genkey": key})
        with suppress(ProviderError):  # it is gone, or has finished meanwhile
            await self.endpoint.ask("POST", f"{self._root}/api/extra/abort", body)


class _Abortable:
    """A generation that tells koboldcpp to stop where the reply ends early.

    It notices a closed connection late, and a request in its queue is still processed.
    """

    under: Generation
    """The request that is under way."""

    def __init__(
        self, exchange: Exchange, receiver: EventReceiver, abort: Callable[[], None]
    ) -> None:
        self.exchange = exchange
        self.on_missing_page: Callable[[], Generation] | None = None
        """Starts another request where the page of the first is missing."""
        self.most_tokens: object = None
        self._receiver = receiver
        self._abort = abort
        self._over = False

    def pause_reading(self) -> None:
        self.under.pause_reading()

    def resume_reading(self) -> None:
        self.under.resume_reading()

    def close(self) -> None:
        self._end()
        self.under.close()

    def output(self, events: Sequence[Output]) -> None:
        self._receiver.output(events)

    def finished(self, finished: Finished) -> None:
        self._end()
        self._receiver.finished(self._corrected(finished))

    def _corrected(self, finished: Finished) -> Finished:
        """It ends a reply at a stop string with `length`; the tokens show which it was."""
        usage, most = finished.usage, self.most_tokens
        if finished.reason != "length" or usage is None or not isinstance(most, int):
            return finished
        if usage.output_tokens >= most:
            return finished
        rest = finished.frames[1:]
        first = (with_finish(frame, "stop") for frame in finished.frames[:1])
        return msgspec.structs.replace(finished, reason="stop", frames=(*first, *rest))

    def failed(self, error: ProviderError) -> None:
        if error.http_status == _NOT_FOUND and self.on_missing_page is not None:
            start, self.on_missing_page = self.on_missing_page, None
            try:
                self.under = start()
            except ProviderError as unsent:
                error = unsent
            else:
                return
        self._end()
        self._receiver.failed(error)

    def _end(self) -> None:
        if not self._over:
            self._over = True
            if self.exchange.phase in (Phase.HEADERS, Phase.FIRST_TOKEN, Phase.STREAMING):
                self._abort()


def _chunk_of_token(payload: bytes) -> Chunk:
    token = msgspec.json.decode(payload, type=_Token)
    return Chunk(choices=[Choice(text=token.token, finish_reason=token.finish_reason)])
