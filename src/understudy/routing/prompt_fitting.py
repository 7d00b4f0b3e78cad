"""The prompt for one candidate: built for its context length, checked before it is sent."""

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from understudy.llm.capabilities import (
    LEAST_CHARS,
    MOST_TOKENS_PER_BYTE,
    CapabilityBook,
    ModelKey,
)
from understudy.llm.messages import ChatRequest, ImagePart, Message, TextPart
from understudy.llm.openai_wire import without_lengths
from understudy.routing.candidates import Candidate
from understudy.routing.request import Fit, Prompt, ReplyRequest, reserved_reply
from understudy.routing.retries import RetryPlan

MESSAGE_TOKENS = 6
"""What a chat template puts around one message, estimated high."""
_REPLY_RESERVE = 256
_LEAST_REPLY = 64
_MARGIN = 1.05
_WORTH_COUNTING = 0.7
"""From this share of the context on, the exact count of a client's prompt is requested."""
_CHEAPEST = 0.15
"""Tokens per byte: no tokenizer in use needs fewer for text of people."""
_LEAST_BYTES = 200
"""Below this the tokens of the chat template itself dominate."""
_UNBOUNDED_REPLY = 1024
"""What koboldcpp assumes where a request sets no `max_tokens`; it cuts the prompt to make room."""


@dataclass(frozen=True, slots=True)
class Overflow:
    """The prompt does not fit, and may not be cut further."""


class PromptPlan(msgspec.Struct, frozen=True):
    """What the prompt for one candidate is built by."""

    request: ReplyRequest
    candidate: Candidate
    fit: Fit
    omitted: tuple[str, ...]
    """Fields that the model's server rejects."""
    retry: RetryPlan | None

    def build(self, tokens_per_char: float | None = None) -> Prompt:
        """Build the prompt, as if its text had that many tokens per byte."""
        request, fit, retry = self.request, self.fit, self.retry
        if tokens_per_char is not None:
            fit = msgspec.structs.replace(fit, tokens_per_char=tokens_per_char)
        prompt = request.build(fit)
        chat, degraded = prompt.request, prompt.degraded
        if self.omitted:
            chat = msgspec.structs.replace(chat, omit=(*chat.omit, *self.omitted))
        if retry is not None and retry.max_tokens is not None:
            # A client's own length would win over this one.
            extra = without_lengths(chat.extra)
            chat = msgspec.structs.replace(chat, max_tokens=retry.max_tokens, extra=extra)
        if request.images and not fit.vision and "images" not in degraded:
            degraded = (*degraded, "images")
        return msgspec.structs.replace(prompt, request=chat, degraded=degraded)

    def build_certain(self) -> Prompt | None:
        """Build the prompt where it is sure to fit, or its context is not known; else `None`."""
        n_ctx = self.fit.n_ctx
        if n_ctx is not None and self.request.may_trim_prompt:
            return None
        prompt = self.build()
        if n_ctx is None or _is_short(prompt, _room_of(prompt, self.candidate, n_ctx)):
            return prompt
        return None


async def fit_prompt(plan: PromptPlan, book: CapabilityBook) -> Prompt | Overflow:
    """Build a prompt for a context of known length; the server may be asked to count it."""
    candidate, ratio = plan.candidate, plan.fit.tokens_per_char
    n_ctx = plan.fit.n_ctx
    assert n_ctx is not None
    count = _counter(candidate)
    if not plan.request.may_trim_prompt:
        prompt = plan.build()
        fits = await _fits_as_it_is(prompt, candidate, n_ctx, count)
        return prompt if fits else Overflow()
    fitter = _Fitter(plan.build, count, n_ctx, candidate.reply_tokens)
    prompt_or_none = await fitter.fit(ratio)
    if fitter.measured is not None:
        book.set_tokens_per_char(candidate.key, fitter.measured)
    return Overflow() if prompt_or_none is None else prompt_or_none


Count = Callable[[Prompt], Awaitable[int | None]]
"""Tokens of a prompt by the server's own tokenizer; `None` where it has none to offer."""


def _counter(candidate: Candidate) -> Count:
    async def count(prompt: Prompt) -> int | None:
        if not candidate.local:
            return None
        counted = await candidate.client.count_tokens(prompt.request, candidate.model)
        if counted is None and prompt.images:
            # Some engines count text only; images are estimated then.
            text = await candidate.client.count_tokens(
                _without_images(prompt.request), candidate.model
            )
            counted = None if text is None else text + prompt.image_tokens
        return counted

    return count


async def _fits_as_it_is(prompt: Prompt, candidate: Candidate, n_ctx: int, count: Count) -> bool:
    room = _room_of(prompt, candidate, n_ctx)
    if _is_short(prompt, room):
        return True
    counted = await count(prompt)
    return (prompt.input_tokens if counted is None else counted) <= room


def _room_of(prompt: Prompt, candidate: Candidate, n_ctx: int) -> float:
    """Return the tokens of a context that a client's prompt may have."""
    reply = min(prompt.request.max_tokens or candidate.reply_tokens, _REPLY_RESERVE)
    return n_ctx / _MARGIN - reply


def _is_short(prompt: Prompt, room: float) -> bool:
    return prompt.input_tokens <= room * _WORTH_COUNTING


class _Fitter:
    """Builds a prompt again and again until it fits a context, within a few counts.

    A prompt is made smaller or larger by the tokens per byte it is built with. Each count gives
    the ratio of the prompt it was taken of; two ratios between which the best one lies bound the
    search, because what remains after a cut may cost more or less per byte than the whole.
    """

    _MOST_COUNTS = 7
    _WELL_USED = 0.82
    """From this share of the room on, a larger prompt is not worth another count."""
    _CLOSE = 1.005
    """Ratios this near to each other build the same prompt."""

    def __init__(
        self, build: Callable[[float], Prompt], count: Count, n_ctx: int, reply_tokens: int
    ) -> None:
        self._build = build
        self._count = count
        self._n_ctx = n_ctx
        self._reply_tokens = reply_tokens
        self._room = n_ctx - reserved_reply(n_ctx, reply_tokens)
        self._too_low = 0.0
        """The highest ratio whose prompt was too long."""
        self._low_enough: tuple[float, Prompt] | None = None
        """The lowest ratio whose prompt fits, with that prompt."""
        self._between = 0
        """Steps since two ratios bound the search."""
        self.measured: float | None = None
        """Tokens per byte by the last count."""

    async def fit(self, ratio: float) -> Prompt | None:
        """Return a prompt that fits, `None` where even the shortest does not."""
        for _ in range(self._MOST_COUNTS):
            prompt = self._build(ratio)
            if self._fits_any_tokenizer(prompt, ratio):
                return self._bounded(prompt)
            counted = await self._count(prompt)
            if counted is None:
                return self._by_estimate(prompt, ratio)
            self.measured = measured_ratio(prompt, ratio, counted)
            counted_prompt = msgspec.structs.replace(prompt, input_tokens=counted)
            ratio = self._next(ratio, counted_prompt, self.measured or ratio)
            if ratio <= 0:
                break
        if self._low_enough is not None:
            return self._bounded(self._low_enough[1])
        return await self._shortest()

    def _next(self, ratio: float, prompt: Prompt, measured: float) -> float:
        """Note what one ratio led to; return the next one to try, 0 where none is better."""
        if prompt.input_tokens > self._room:
            self._too_low = max(self._too_low, ratio)
            wanted = max(measured, ratio * self._CLOSE)
        else:
            self._low_enough = (ratio, prompt)
            wanted = measured
            if not prompt.trimmed or prompt.input_tokens >= self._room * self._WELL_USED:
                return 0
        highest = self._low_enough[0] if self._low_enough is not None else MOST_TOKENS_PER_BYTE
        if highest <= self._too_low * self._CLOSE or highest / self._CLOSE < wanted <= highest:
            return 0
        if self._too_low and self._low_enough is not None:
            self._between += 1
        # Where cheap and dear lines alternate, measured ratios jump from one end to the other.
        if not self._too_low < wanted < highest or self._between % 2 == 0 < self._between:
            return math.sqrt(self._too_low * highest)
        return wanted

    def _fits_any_tokenizer(self, prompt: Prompt, ratio: float) -> bool:
        dearest = prompt.input_tokens + text_bytes(prompt) * (MOST_TOKENS_PER_BYTE - ratio)
        return not prompt.trimmed and dearest <= self._room

    def _by_estimate(self, prompt: Prompt, ratio: float) -> Prompt | None:
        """Leave the last word to the server, unless even the cheapest tokenizer is too dear."""
        if self._low_enough is not None:
            return self._bounded(self._low_enough[1])
        cheapest = prompt.input_tokens - text_bytes(prompt) * (ratio - _CHEAPEST)
        return None if cheapest > self._n_ctx - _LEAST_REPLY else self._bounded(prompt)

    async def _shortest(self) -> Prompt | None:
        """Keep the persona and the two ends of the last message, at the cost of a short reply."""
        prompt = self._build(MOST_TOKENS_PER_BYTE)
        counted = await self._count(prompt)
        if counted is None:
            return self._bounded(prompt)
        if counted > self._n_ctx - min(self._reply_tokens, _LEAST_REPLY):
            return None
        return self._bounded(msgspec.structs.replace(prompt, input_tokens=counted))

    def _bounded(self, prompt: Prompt) -> Prompt:
        """Bound the reply to what the prompt leaves: some engines cut the prompt instead."""
        left = max(self._n_ctx - prompt.input_tokens, 1)
        wanted = prompt.request.max_tokens or self._reply_tokens
        if wanted <= left and left >= _UNBOUNDED_REPLY:
            return prompt
        return msgspec.structs.replace(
            prompt, request=msgspec.structs.replace(prompt.request, max_tokens=min(wanted, left))
        )


def measured_ratio(prompt: Prompt, ratio: float, counted: int) -> float | None:
    """Return the tokens per byte at which the estimate of `prompt` would have been `counted`.

    `ratio` is the one it was estimated with; `None` where there is too little text to tell.
    """
    size = text_bytes(prompt)
    if size < _LEAST_BYTES:
        return None
    return max(ratio + (counted - prompt.input_tokens) / size, _CHEAPEST / 2)


def learn_ratio(book: CapabilityBook, key: ModelKey, prompt: Prompt, tokens: int) -> None:
    """Teach the book what a server reported for a prompt without images."""
    chars = text_bytes(prompt) if prompt.text_bytes is None else prompt.text_bytes
    if chars >= LEAST_CHARS:
        text = tokens - MESSAGE_TOKENS * len(prompt.request.messages)
        book.learn_tokens(key, tokens=text, chars=chars)


def text_bytes(prompt: Prompt) -> int:
    """UTF-8 bytes of a prompt's text: what its reported tokens are held against.

    In English a byte is a character; every other script costs a tokenizer about as many more
    tokens per character as it costs more bytes.
    """
    if prompt.text_bytes is not None:
        return prompt.text_bytes
    return sum(
        [
            len(part.text) if part.text.isascii() else len(part.text.encode("utf-8", "replace"))
            for message in prompt.request.messages
            for part in message.parts
            if isinstance(part, TextPart)
        ]
    )


def _without_images(request: ChatRequest) -> ChatRequest:
    return msgspec.structs.replace(
        request,
        messages=tuple(
            Message(m.role, tuple(p for p in m.parts if not isinstance(p, ImagePart)))
            for m in request.messages
        ),
    )
