"""NanoGPT: nano-gpt.com, shims in front of it, and servers around Karpathy's nanoGPT.

`mode: openai_chat` is the first two; `openai_completions` flattens the chat for servers that
know only prompts; `plain_generate` speaks to `POST /generate`, which answers in one piece.
"""

from collections.abc import Mapping
from dataclasses import replace

import msgspec

from understudy.clock import SYSTEM_CLOCK, Clock
from understudy.errors import NOT_JSON, BadReply, ErrorClass, ProviderError
from understudy.llm.addresses import server_root
from understudy.llm.client import ProbeReport, ProbeState
from understudy.llm.dialect import Dialect
from understudy.llm.http.endpoint import HttpSessions
from understudy.llm.messages import ChatRequest, Output, TextDelta
from understudy.llm.model_list import report_failure
from understudy.llm.openai_client import OpenAIClient, ServerFacts
from understudy.llm.openai_wire import encode_body, readable, take_stops
from understudy.llm.prompt_templates import chat_template
from understudy.llm.stream_parser import StreamParser

DIALECT = Dialect(
    engine="nanogpt",
    # The direct host: the website's own takes only small bodies.
    base_url="https://api.nano-gpt.com/api/v1",
    models_path="/models?detailed=true",
    # Any choice of provider leaves the subscription and bills by use: never by a client's wish.
    withheld=frozenset(("provider", "billing_mode", "models", "include_usage")),
)

_NANO_CONTEXT_TOKENS = 1024
_NANO_REPLY_TOKENS = 200
_CHARS_PER_TOKEN = 3


class _Generated(msgspec.Struct):
    text: str


class NanoGptClient(OpenAIClient):
    def __init__(
        self,
        facts: ServerFacts,
        dialect: Dialect,
        sessions: HttpSessions,
        clocks: Clock = SYSTEM_CLOCK,
    ) -> None:
        if facts.mode == "openai_completions":
            dialect = replace(dialect, chat_path="/completions", done_is_end=True)
        elif facts.mode == "plain_generate":
            url = server_root(facts.base_url or dialect.base_url or "")
            dialect = replace(
                dialect, chat_path=f"{url}/generate", eof_is_end=True, completions_path=None
            )
        super().__init__(facts, dialect, sessions, clocks)
        self._template = chat_template(facts.chat_template, "plain")

    def body(
        self, request: ChatRequest, model: str, own: Mapping[str, object] | None = None
    ) -> bytes:
        if self.facts.mode == "openai_chat" or request.raw_completion:
            return super().body(request, model, own)
        members = self.members(request)
        members.pop("messages", None)
        prompt = self._template.prompt(request.messages)
        if self.facts.mode == "plain_generate":
            return encode_body(self._plain(members, prompt))
        stops = [*take_stops(members), *self._template.stops][:4]
        members |= {"prompt": prompt, "stop": stops, "stream": True}
        return encode_body(members | ({"model": model} if model else {}))

    def read_whole_reply(self, body: bytes, parser: StreamParser) -> list[Output]:
        if self.facts.mode != "plain_generate":
            return super().read_whole_reply(body, parser)
        try:
            text = msgspec.json.decode(body, type=_Generated).text
        except NOT_JSON:
            raise BadReply(ErrorClass.BAD_BODY, http_status=200) from None
        for stop in self._template.stops:
            text = text.partition(stop)[0]
        return [TextDelta(text)] if text else []

    async def probe(self, model: str) -> ProbeReport:
        if self.facts.mode == "plain_generate":
            return await self._probe_plain()
        # The model list is open to every key, the usage page only to a good one.
        refused = None if self.facts.auth == "none" else await self.key_refusal("/usage")
        return refused or await super().probe(model)

    async def _probe_plain(self) -> ProbeReport:
        try:
            answer = await self.endpoint.ask("GET", server_root(self.endpoint.base_url) + "/")
            self.refuse_error_answer(answer)
        except ProviderError as error:
            return report_failure(error, self.endpoint.base_url)
        n_ctx = self.facts.context_length or _NANO_CONTEXT_TOKENS
        return ProbeReport(ProbeState.READY, context_length=n_ctx, vision=False)

    def _plain(self, members: dict[str, object], prompt: str) -> dict[str, object]:
        """The newest part of the prompt that leaves room for the reply."""
        asked = readable(members.get("max_tokens", _NANO_REPLY_TOKENS))
        reply = asked if isinstance(asked, int) else _NANO_REPLY_TOKENS
        n_ctx = self.facts.context_length or _NANO_CONTEXT_TOKENS
        room = max(n_ctx - reply, n_ctx // 2) * _CHARS_PER_TOKEN
        kept = {k: v for k, v in members.items() if k in ("temperature", "top_k")}
        return {"prompt": prompt[-room:], "max_tokens": min(reply, n_ctx // 2)} | kept
