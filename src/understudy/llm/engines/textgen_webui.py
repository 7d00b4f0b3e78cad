"""text-generation-webui: its silences - cut prompts, unseen images, dead engines - made loud."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace

import msgspec

from understudy.errors import ErrorClass, ProviderError, Rejected
from understudy.llm.capabilities import USUAL_TOKENS_PER_CHAR
from understudy.llm.client import EventReceiver, Exchange, Generation, ProbeReport, ProbeState
from understudy.llm.dialect import Dialect, Wording
from understudy.llm.messages import (
    ChatRequest,
    Finished,
    ImagePart,
    Message,
    Output,
    Part,
    TextPart,
    Usage,
    UsageSource,
)
from understudy.llm.model_list import ModelList, report_failure
from understudy.llm.openai_client import OpenAIClient
from understudy.llm.openai_wire import Chunk, merge_turns, readable, text_of

DIALECT = Dialect(
    engine="textgen-webui",
    base_url="http://127.0.0.1:5000/v1",
    plain_messages=True,
    keepalive_s=4.0,  # it closes idle connections after 5 s
    refuses_images_loudly=False,
    wordings=(Wording("invalid host header", ErrorClass.BAD_BODY),),
)

_DEFAULT_REPLY_TOKENS = 512
_SPARE_TOKENS = 64
_AMBIGUOUS = (ErrorClass.SERVER_ERROR, ErrorClass.TRUNCATED_STREAM, ErrorClass.EMPTY_REPLY)
_TURN_TOKENS = 8
_MEDIA_MARK = "<__media__>"


class _Length(msgspec.Struct):
    length: int


class TextgenWebuiClient(OpenAIClient):
    def start(
        self, request: ChatRequest, model: str, exchange: Exchange, receiver: EventReceiver
    ) -> Generation:
        generation = _Doubted(receiver, self._works)
        generation.under = super().start(request, model, exchange, generation)
        return generation

    def members(self, request: ChatRequest) -> dict[str, object]:
        """Without `max_tokens` it would write until the context is full.

        Raises `bad_request` for a reply of no tokens, to which it answers 500.
        """
        defaults: dict[str, object] = {"max_tokens": _DEFAULT_REPLY_TOKENS}
        members = defaults | super().members(request) | {"mode": "instruct"}
        wanted = readable(members["max_tokens"])
        if isinstance(wanted, int) and wanted < 1:
            raise Rejected(ErrorClass.BAD_REQUEST, detail="max_tokens below 1")
        if isinstance(wanted, int) and self.facts.context_length is not None:
            members["max_tokens"] = min(wanted, self._most_tokens(request))
        return members

    def _most_tokens(self, request: ChatRequest) -> int:
        """A reply as long as the context is a 500; what the reply gets, the prompt loses."""
        context = self.facts.context_length or 0
        prompt = sum(len(text_of(message).encode()) for message in request.messages)
        return max(context - int(prompt * USUAL_TOKENS_PER_CHAR) - _SPARE_TOKENS, context // 4)

    async def _works(self) -> bool:
        """Whether a model is loaded and its engine alive."""
        try:
            await self.ask_as(_Length, "POST", "/internal/token-count", {"text": "x"})
        except ProviderError:
            return False
        return True

    def turns(self, messages: tuple[Message, ...]) -> tuple[Message, ...]:
        """Its templates want alternation, and a system turn at the end doubles the user's."""
        merged = merge_turns(tuple(_harmless(message) for message in messages))
        return merge_turns(_trailing_system_moved(merged))

    def repair_usage(self, usage: Usage, chunk: Chunk) -> Usage | None:  # noqa: ARG002
        """Prompt tokens are always 0 with some loaders, and completions are counted again."""
        if usage.input_tokens == 0:
            return None
        return msgspec.structs.replace(usage, source=UsageSource.ESTIMATED)

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


class _Doubted:
    """A generation that, where it fails before any output, finds out whose fault that is.

    The server answers a bare 500, or breaks the stream off, to a prompt that its chat template
    refuses just as it does without a model. Where it still counts tokens, it was the prompt.
    """

    under: Generation

    def __init__(self, receiver: EventReceiver, works: Callable[[], Awaitable[bool]]) -> None:
        self._receiver = receiver
        self._works = works
        self._has_output = False
        self._question: asyncio.Task[None] | None = None

    def pause_reading(self) -> None:
        self.under.pause_reading()

    def resume_reading(self) -> None:
        self.under.resume_reading()

    def close(self) -> None:
        if self._question is not None:
            self._question.cancel()
        self.under.close()

    def output(self, events: Sequence[Output]) -> None:
        self._has_output = True
        self._receiver.output(events)

    def finished(self, finished: Finished) -> None:
        self._receiver.finished(finished)

    def failed(self, error: ProviderError) -> None:
        if self._has_output or error.error_class not in _AMBIGUOUS:
            self._receiver.failed(error)
        else:
            self._question = asyncio.create_task(self._judge(error))

    async def _judge(self, error: ProviderError) -> None:
        if await self._works():
            error = Rejected(
                ErrorClass.BAD_REQUEST, http_status=error.http_status, detail=error.detail
            )
        self._receiver.failed(error)


def _trailing_system_moved(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    if len(messages) < 2 or messages[-1].role != "system":
        return messages
    return (*messages[:-2], messages[-1], messages[-2])


def _harmless(message: Message) -> Message:
    """Text of people must not become control tokens or an image placeholder."""
    if message.role != "user":
        return message
    return Message(message.role, tuple(_harmless_part(part) for part in message.parts))


def _harmless_part(part: Part) -> Part:
    if isinstance(part, ImagePart):
        return part
    return TextPart(part.text.replace(_MEDIA_MARK, "").replace("<|", "< |"))
