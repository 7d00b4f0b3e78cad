"""text-generation-webui: its silences - cut prompts, unseen images, dead engines - made loud."""

from dataclasses import replace

import msgspec

from understudy.errors import ErrorClass, ProviderError
from understudy.llm.client import ProbeReport, ProbeState
from understudy.llm.dialect import Dialect, Wording
from understudy.llm.messages import (
    ChatRequest,
    ImagePart,
    Message,
    Part,
    TextPart,
    Usage,
    UsageSource,
)
from understudy.llm.model_list import ModelList, report_failure
from understudy.llm.openai_client import OpenAIClient
from understudy.llm.openai_wire import Chunk, merge_turns, text_of

DIALECT = Dialect(
    engine="textgen-webui",
    base_url="http://127.0.0.1:5000/v1",
    keepalive_s=4.0,  # it closes idle connections after 5 s
    refuses_images_loudly=False,
    wordings=(Wording("invalid host header", ErrorClass.BAD_BODY),),
)

_DEFAULT_REPLY_TOKENS = 512
_TURN_TOKENS = 8
_MEDIA_MARK = "<__media__>"


class _Length(msgspec.Struct):
    length: int


class TextgenWebuiClient(OpenAIClient):
    def members(self, request: ChatRequest) -> dict[str, object]:
        """Without `max_tokens` it would write until the context is full."""
        defaults: dict[str, object] = {"max_tokens": _DEFAULT_REPLY_TOKENS}
        return defaults | super().members(request) | {"mode": "instruct"}

    def turns(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """Its templates want alternation, and a system turn at the end doubles the user's."""
        merged = merge_turns(tuple(_harmless(message) for message in messages))
        return merge_turns(_trailing_system_moved(merged))

    def repair_usage(self, usage: Usage, chunk: Chunk) -> Usage | None:  # noqa: ARG002
        """Prompt tokens are always 0 with some loaders, and completions are counted anew."""
        if usage.input_tokens == 0:
            return None
        return replace(usage, source=UsageSource.ESTIMATED)

    async def count_tokens(self, request: ChatRequest, model: str) -> int | None:  # noqa: ARG002
        if any(isinstance(part, ImagePart) for m in request.messages for part in m.parts):
            return None
        text = "\n".join(text_of(message) for message in request.messages)
        try:
            counted = await self.ask_as(_Length, "POST", "/internal/token-count", {"text": text})
        except ProviderError:
            return None
        return counted.length + _TURN_TOKENS * len(request.messages)

    async def probe(self, model: str) -> ProbeReport:
        """Health and model list stay friendly over a dead engine; counting one token does not."""
        try:
            await self.ask_as(_Length, "POST", "/internal/token-count", {"text": "x"})
        except ProviderError as error:
            return self._unable(error)
        return await super().probe(model)

    def report(self, models: ModelList, model: str) -> ProbeReport:  # noqa: ARG002
        """One model is loaded, and the name in a request is ignored."""
        return super().report(models, "")

    def _unable(self, error: ProviderError) -> ProbeReport:
        url = self.endpoint.base_url
        report = report_failure(error, url)
        if error.error_class is ErrorClass.SERVER_ERROR:
            advice = f"{url} answers but has no working model: load one in its Model tab"
            return replace(report, state=ProbeState.MODEL_MISSING, advice=advice)
        if "host header" in error.detail.lower():
            advice = f"it refuses the host name in {url}: use 127.0.0.1, or start it with --listen"
            return replace(report, state=ProbeState.BROKEN, advice=advice)
        return report


def _trailing_system_moved(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    if len(messages) < 2 or messages[-1].role != "system":
        return messages
    return (*messages[:-2], messages[-1], messages[-2])


def _harmless(message: Message) -> Message:
    """Text of people must not become control tokens or stand for an image."""
    if message.role != "user":
        return message
    return Message(message.role, tuple(_harmless_part(part) for part in message.parts))


def _harmless_part(part: Part) -> Part:
    if isinstance(part, ImagePart):
        return part
    return TextPart(part.text.replace(_MEDIA_MARK, "").replace("<|", "< |"))
