"""An LLMClient over an OpenAI-shaped chat endpoint; each engine's file says what differs."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

import msgspec

from understudy.clock import SYSTEM_CLOCK, Clock
from understudy.errors import (
    NOT_JSON,
    BadReply,
    ConfigError,
    ErrorClass,
    ProviderError,
    Rejected,
)
from understudy.llm.address_fallback import AddressFallback
from understudy.llm.addresses import api_root, is_local, unversioned_root
from understudy.llm.client import EventReceiver, Exchange, Generation, ProbeReport
from understudy.llm.dialect import Dialect
from understudy.llm.error_classifier import classify
from understudy.llm.http.endpoint import MAX_IN_FLIGHT, Endpoint, HttpSessions, Pool
from understudy.llm.http.reader import Answer
from understudy.llm.messages import ChatRequest, Message, Output, Usage
from understudy.llm.model_list import ModelList, model_report, read_models, report_failure
from understudy.llm.openai_wire import (
    DECODE_CHUNK,
    Chunk,
    decode_completion,
    encode_body,
    encode_message,
    merge_turns,
    plain_messages,
    request_members,
    with_length_field,
)
from understudy.llm.reply_response import MissingPage, ReplyResponse
from understudy.llm.sse import SseReader
from understudy.llm.stream_parser import Decode, StreamParser

_T = TypeVar("_T")

# A second choice would be billed and discarded; the other members are set here.
_OURS = frozenset(("n", "model", "stream", "stream_options"))
_WITH_USAGE = {"include_usage": True}
_NOT_FOUND = 404
_HOSTED_CONNECT_S = 5.0
_LOCAL_CONNECT_S = 1.0


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """The configuration of one server that its client needs."""

    base_url: str | None = None
    key: str | None = None
    sampling: Mapping[str, object] = field(default_factory=dict)
    """`max_tokens`, `temperature`, `top_p`, and `extra_body` over them."""
    headers: Mapping[str, str] = field(default_factory=dict)
    connect_timeout_s: float | None = None
    max_concurrency: int | None = None
    vision: bool | None = None
    context_length: int | None = None
    provider: Mapping[str, object] = field(default_factory=dict)
    mode: str = "openai_chat"
    auth: str | None = None
    chat_template: str | None = None
    preset: str | None = None


class OpenAIClient:
    """One server of one dialect. Engines override what differs."""

    def __init__(
        self,
        facts: ServerFacts,
        dialect: Dialect,
        sessions: HttpSessions,
        clocks: Clock = SYSTEM_CLOCK,
    ) -> None:
        base_url = facts.base_url or dialect.base_url
        if not base_url:
            raise ConfigError(f"{dialect.engine} needs a base_url")
        self.facts = facts
        self.dialect = dialect
        self.clocks = clocks
        self._sessions = sessions
        self.endpoint = self._endpoint_at(api_root(base_url))
        self._plain_root = unversioned_root(base_url) if dialect.engine == "openai" else None
        """The address without `/v1`, while it is not known which of both is right."""
        self._configured = with_length_field(dict(facts.sampling), dialect.length_field)
        self._dropped = dialect.withheld | _OURS
        repairs = type(self).repair_usage is not OpenAIClient.repair_usage
        self._repair = self.repair_usage if repairs else None
        self._secrets = tuple(s for s in (facts.key, *facts.headers.values()) if s and len(s) > 5)

    @property
    def supports_completions(self) -> bool:
        return self.dialect.completions_path is not None

    def start(
        self, request: ChatRequest, model: str, exchange: Exchange, receiver: EventReceiver
    ) -> Generation:
        body = self.body(request, model)
        if request.raw_completion:
            return self.complete(body, exchange, receiver)
        parser = StreamParser(exchange, self._classify_within, self._repair)
        return self.converse(self.dialect.chat_path, body, parser, receiver)

    def converse(
        self, path: str, body: bytes, parser: StreamParser, receiver: EventReceiver
    ) -> Generation:
        """Send one body; the reply's events go to `receiver`, in one piece or streamed."""
        if len(body) > self.dialect.max_body_bytes:
            raise Rejected(ErrorClass.PAYLOAD_TOO_LARGE)
        plain_root = self._plain_root
        if plain_root is None:
            response = ReplyResponse(self, parser, receiver)
            response.call = self.endpoint.send(path, body, parser.exchange, response)
            return response
        fallback = AddressFallback(
            receiver,
            lambda elsewhere: self._send(f"{plain_root}{path}", body, parser, elsewhere),
            self._settle_address,
        )
        fallback.under = self._send(path, body, parser, fallback)
        return fallback

    def _send(
        self, path: str, body: bytes, parser: StreamParser, receiver: EventReceiver
    ) -> Generation:
        response = ReplyResponse(self, parser, receiver)
        response.call = self.endpoint.send(path, body, parser.exchange, response)
        return response

    def _settle_address(self, plain: bool) -> None:  # noqa: FBT001
        """Use one of the two possible addresses from now on."""
        if plain and self._plain_root is not None:
            self.endpoint = self._endpoint_at(self._plain_root)
        self._plain_root = None

    def _endpoint_at(self, root: str) -> Endpoint:
        facts, dialect = self.facts, self.dialect
        usual_s = _LOCAL_CONNECT_S if is_local(root) else _HOSTED_CONNECT_S
        pool = Pool(
            facts.connect_timeout_s or usual_s,
            dialect.keepalive_s,
            # A request that the router admitted does not wait here.
            max(MAX_IN_FLIGHT, facts.max_concurrency or 0),
        )
        return Endpoint(
            self._sessions,
            root,
            headers=self._headers(),
            pool=pool,
            clock=self.clocks.monotonic,
        )

    def complete(self, body: bytes, exchange: Exchange, receiver: EventReceiver) -> Generation:
        """Send one text to continue. Fails as `unsupported_input` where no server page does it."""
        path = self.dialect.completions_path
        if path is None:
            raise Rejected(ErrorClass.UNSUPPORTED_INPUT)
        parser = self.parser(exchange, decode_completion)
        return self.converse(path, body, parser, MissingPage(receiver))

    async def probe(self, model: str) -> ProbeReport:
        try:
            answer = await self._model_list()
            self.refuse_error_answer(answer)
            models = read_models(answer.body)
        except ProviderError as error:
            return report_failure(error, self.endpoint.base_url)
        return self.report(models, model)

    async def _model_list(self) -> Answer:
        path, plain_root = self.dialect.models_path, self._plain_root
        answer = await self.endpoint.ask("GET", path)
        if answer.status == _NOT_FOUND and plain_root is not None:
            plain = await self.endpoint.ask("GET", f"{plain_root}{path}")
            if plain.status < 300:
                self._settle_address(plain=True)
                return plain
        return answer

    async def count_tokens(self, request: ChatRequest, model: str) -> int | None:  # noqa: ARG002
        return None

    async def aclose(self) -> None:
        """It owns nothing that is open."""

    # What engines override.

    def body(
        self, request: ChatRequest, model: str, own: Mapping[str, object] | None = None
    ) -> bytes:
        """Encode one request: configured values first, then the request's own, then ours."""
        members = self.members(request)
        for name in request.omit:
            members.pop(name, None)
        if "messages" not in members and not request.raw_completion:
            members["messages"] = self.encoded_turns(request.messages, model)
        if model:
            members["model"] = model
        members["stream"] = True
        if own:
            members.update(own)
        if self.dialect.asks_usage and "stream_options" not in request.omit:
            members["stream_options"] = _WITH_USAGE
        return encode_body(members)

    def encoded_turns(self, messages: tuple[Message, ...], model: str) -> list[dict[str, object]]:  # noqa: ARG002
        """Return the messages of the bot's own prompts as this dialect sends them to `model`."""
        return [encode_message(message) for message in self.turns(messages)]

    def members(self, request: ChatRequest) -> dict[str, object]:
        """Return the members that configuration and request set, as this dialect names them."""
        dialect = self.dialect
        asked = request_members(request, dialect.length_field)
        for name in self._dropped:
            asked.pop(name, None)
        members = self._configured | asked
        if dialect.plain_messages and isinstance(messages := members.get("messages"), msgspec.Raw):
            members["messages"] = plain_messages(messages)
        for name, here in dialect.renames:
            if name in members:
                members[here] = members.pop(name)
        if dialect.fields is None:
            return members
        asked_as = "prompt" if request.raw_completion else "messages"
        return {k: v for k, v in members.items() if k in dialect.fields or k == asked_as}

    def parser(self, exchange: Exchange, decode: Decode = DECODE_CHUNK) -> StreamParser:
        return StreamParser(exchange, self._classify_within, self._repair, decode)

    def turns(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        return merge_turns(messages) if self.dialect.plain_turns else messages

    def repair_usage(self, usage: Usage, chunk: Chunk) -> Usage | None:  # noqa: ARG002
        return usage

    def read_whole_reply(self, body: bytes, parser: StreamParser) -> list[Output]:
        """Read a 200 that is not a stream. Raises `bad_body` for what is no reply at all."""
        text = body.strip()
        if text[:5] == b"data:":  # a stream under the wrong content type
            frames = SseReader()
            payloads = [*frames.feed(text), *frames.finish()]
            return parser.read_all(payloads, frames.take_comments())
        if text[:1] == b"[":
            raise self._classify_within(text)
        if text[:1] != b"{":
            raise BadReply(ErrorClass.BAD_BODY, http_status=200)
        events = parser.read_whole(text)
        if not events and parser.finish is None:
            raise BadReply(ErrorClass.EMPTY_REPLY, http_status=200)
        return events

    def report(self, models: ModelList, model: str) -> ProbeReport:
        found = model_report(models, model)
        return replace(
            found,
            vision=found.vision if self.facts.vision is None else self.facts.vision,
            context_length=self.facts.context_length or found.context_length,
        )

    # What engines use.

    async def key_refusal(self, path: str) -> ProbeReport | None:
        """Request a page that needs the key; return a report only where the key was rejected.

        Model lists of hosted servers are public, so they do not verify the key.
        """
        if not self.facts.key:
            return None
        try:
            self.refuse_error_answer(await self.endpoint.ask("GET", path))
        except ProviderError as error:
            if error.error_class in (ErrorClass.AUTH, ErrorClass.QUOTA):
                return report_failure(error, self.endpoint.base_url)
        return None

    def refuse_error_answer(self, answer: Answer) -> None:
        """Raise what a response with an error status reports."""
        if 300 <= answer.status < 400:
            to = answer.headers.get("location", "elsewhere")
            raise BadReply(
                ErrorClass.BAD_BODY, http_status=answer.status, detail=f"redirects to {to}"
            )
        if answer.status >= 400:
            raise self._classified(answer.status, answer.headers, answer.body)

    async def ask_as(self, kind: type[_T], method: str, path: str, members: object = None) -> _T:
        """Request a small JSON document of one type. Raises `ProviderError` for anything else."""
        sent = None if members is None else msgspec.json.encode(members)
        answer = await self.endpoint.ask(method, path, sent)
        self.refuse_error_answer(answer)
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except NOT_JSON:
            raise BadReply(ErrorClass.BAD_BODY, http_status=answer.status) from None

    # Internal.

    def _headers(self) -> dict[str, str]:
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream, */*;q=0.5"}
        headers.update(self.dialect.headers)
        auth = self.facts.auth or self.dialect.auth
        if self.facts.key and auth == "bearer":
            headers["Authorization"] = f"Bearer {self.facts.key}"
        elif self.facts.key and auth == "x-api-key":
            headers["x-api-key"] = self.facts.key
        headers.update(self.facts.headers)
        return headers

    def error_of(self, status: int, headers: Mapping[str, str], body: bytes) -> ProviderError:
        """Return what an answer with an error status reports."""
        if status < 400:
            return BadReply(ErrorClass.BAD_BODY, http_status=status, detail="it redirects")
        return self._classified(status, headers, body)

    def _classify_within(self, body: bytes) -> ProviderError:
        return self._classified(None, {}, body)

    def _classified(
        self, status: int | None, headers: Mapping[str, str], body: bytes
    ) -> ProviderError:
        return classify(
            body,
            self.dialect,
            status=status,
            headers=headers,
            wall=self.clocks.wall(),
            secrets=self._secrets,
        )
