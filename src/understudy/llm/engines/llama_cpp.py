"""llama.cpp's server: true token counts, context and vision to be asked for."""

from dataclasses import replace
from urllib.parse import quote

import msgspec

from understudy.errors import ErrorClass, ProviderError
from understudy.llm.addresses import server_root
from understudy.llm.client import ProbeReport, ProbeState
from understudy.llm.dialect import Dialect, Wording
from understudy.llm.messages import ChatRequest
from understudy.llm.model_list import ModelList, report_failure
from understudy.llm.openai_client import OpenAIClient
from understudy.llm.openai_wire import encode_message

_NOT_FOUND = 404
_OPENING = ("<think>", "<thinking>", "<reasoning>", "[THINK]", "<|begin_of_thought|>")
_CLOSING = ("</think>", "</thinking>", "</reasoning>", "[/THINK]", "<|end_of_thought|>")
_BAD_REQUESTS = frozenset((400, 500))

DIALECT = Dialect(
    engine="llama.cpp",
    base_url="http://127.0.0.1:8080/v1",
    plain_messages=True,
    keepalive_s=4.0,  # it closes idle connections after 5 s
    wordings=(
        # A 500 of this server is often the request's fault and would come back for ever.
        Wording("image input is not supported", ErrorClass.UNSUPPORTED_INPUT),
        Wording("audio input is not supported", ErrorClass.UNSUPPORTED_INPUT),
        Wording("failed to parse", ErrorClass.BAD_REQUEST, _BAD_REQUESTS),
        Wording("parse error", ErrorClass.BAD_REQUEST, _BAD_REQUESTS),
        Wording("failed to load image", ErrorClass.BAD_REQUEST, _BAD_REQUESTS),
        Wording("invalid base64", ErrorClass.BAD_REQUEST, _BAD_REQUESTS),
        Wording("model name is missing", ErrorClass.MODEL_GONE, _BAD_REQUESTS),
        Wording("model is not loaded", ErrorClass.LOADING, _BAD_REQUESTS),
        Wording("' not found", ErrorClass.MODEL_GONE, frozenset((400,))),
    ),
)


class _SlotSettings(msgspec.Struct):
    n_ctx: int | None = None


class _Modalities(msgspec.Struct):
    vision: bool | None = None


class _Props(msgspec.Struct):
    role: str | None = None
    """`router` where the server starts one process per model."""
    default_generation_settings: _SlotSettings | None = None
    total_slots: int | None = None
    modalities: _Modalities | None = None
    chat_template: str | None = None


class _Count(msgspec.Struct):
    input_tokens: int


class LlamaCppClient(OpenAIClient):
    async def count_tokens(self, request: ChatRequest, model: str) -> int | None:
        """Template and images counted, by the server itself."""
        members: dict[str, object] = {"messages": [encode_message(m) for m in request.messages]}
        if model:
            members["model"] = model
        try:
            counted = await self.ask_as(_Count, "POST", "/chat/completions/input_tokens", members)
        except ProviderError:
            return None
        return counted.input_tokens

    async def probe(self, model: str) -> ProbeReport:
        """Health, model list and properties never wake a sleeping model nor load one."""
        root = server_root(self.endpoint.base_url)
        try:
            health = await self.endpoint.ask("GET", f"{root}/health")
            if health.status != _NOT_FOUND:  # proxies in front of it may have no such page
                self.refuse_error_answer(health)
            report = await super().probe(model)
        except ProviderError as error:
            return report_failure(error, self.endpoint.base_url)
        if report.state is not ProbeState.READY:
            return report
        try:
            props = await self.ask_as(_Props, "GET", f"{root}/props")
            if props.role == "router":
                # Without `autoload` it would load the model; one that is not loaded is an error.
                name = quote(report.model or "", safe="")
                page = f"{root}/props?model={name}&autoload=false"
                props = await self.ask_as(_Props, "GET", page)
            return self._with_props(report, props)
        except ProviderError:
            return report

    def report(self, models: ModelList, model: str) -> ProbeReport:
        """With one model loaded the name in a request is ignored; a router needs the right one."""
        routed = len(models.models) > 1 or any(entry.status for entry in models.models)
        return super().report(models, model if routed else "")

    def _with_props(self, report: ProbeReport, props: _Props) -> ProbeReport:
        facts = self.facts
        slots = props.default_generation_settings
        sees = props.modalities.vision if props.modalities else None
        advice = ""
        if facts.vision and sees is False:
            advice = (
                "it answers, but has no vision projector loaded: start llama-server with --mmproj"
            )
        return replace(
            report,
            context_length=facts.context_length
            or (slots.n_ctx if slots else 0)
            or report.context_length,
            vision=report.vision if sees is None else sees,
            max_concurrency=props.total_slots or None,
            opens_thought=_opens_thought(props.chat_template),
            advice=advice,
        )


def _opens_thought(chat_template: str | None) -> bool | None:
    """Return True where what a template adds before each reply opens a thought; else `None`.

    One that closes it there too thinks only where the request says so.
    """
    _, known, beginning = (chat_template or "").rpartition("add_generation_prompt")
    if not known:
        return None
    if not any(tag in beginning for tag in _OPENING):
        return None
    return None if any(tag in beginning for tag in _CLOSING) else True
