"""The prompt for one candidate: built for its context length, checked before it is sent."""

from dataclasses import dataclass, replace

from understudy.llm.capabilities import Capabilities, CapabilityBook
from understudy.llm.messages import ChatRequest, TextPart
from understudy.llm.openai_wire import without_lengths
from understudy.routing.candidates import Candidate
from understudy.routing.failure_policy import RetryPlan
from understudy.routing.request import Fit, Prompt, ReplyRequest

_REPLY_RESERVE = 256
_MARGIN = 1.05
_WORTH_COUNTING = 0.7
"""From this share of the context on, a local server is asked for the exact count."""


@dataclass(frozen=True, slots=True)
class Overflow:
    """The prompt does not fit, and is not ours to cut."""


async def fitting_prompt(
    request: ReplyRequest,
    candidate: Candidate,
    book: CapabilityBook,
    *,
    sees: bool,
    repair: RetryPlan | None,
) -> Prompt | Overflow:
    known = book.of(candidate.key, candidate.capabilities)
    fit = Fit(
        n_ctx=known.n_ctx,
        reply_tokens=candidate.reply_tokens,
        vision=sees,
        tokens_per_char=book.tokens_per_char(candidate.key),
        shrink=1.0 if repair is None else repair.shrink,
        model=candidate.model,
    )
    prompt = _amended(request, request.build(fit), candidate, book, fit, repair)
    if await _fits(prompt, candidate, known):
        return prompt
    return Overflow()


def _amended(
    request: ReplyRequest,
    prompt: Prompt,
    candidate: Candidate,
    book: CapabilityBook,
    fit: Fit,
    repair: RetryPlan | None,
) -> Prompt:
    chat = prompt.request
    omitted = book.omissions(candidate.key)
    if omitted:
        chat = replace(chat, omit=(*chat.omit, *omitted))
    if repair is not None and repair.max_tokens is not None:
        # A client's own length would win over this one.
        extra = without_lengths(chat.extra)
        chat = replace(chat, max_tokens=repair.max_tokens, extra=extra)
    degraded = prompt.degraded
    if request.images and not fit.vision and "images" not in degraded:
        degraded = (*degraded, "images")
    if chat is prompt.request and degraded is prompt.degraded:
        return prompt
    return replace(prompt, request=chat, degraded=degraded)


async def _fits(prompt: Prompt, candidate: Candidate, known: Capabilities) -> bool:
    if known.n_ctx is None:
        return True
    room = known.n_ctx / _MARGIN - min(
        prompt.request.max_tokens or candidate.reply_tokens, _REPLY_RESERVE
    )
    if not candidate.local or prompt.input_tokens <= room * _WORTH_COUNTING:
        return prompt.input_tokens <= room
    counted = await candidate.client.count_tokens(prompt.request, candidate.model)
    return (prompt.input_tokens if counted is None else counted) <= room


def text_bytes(request: ChatRequest) -> int:
    """UTF-8 bytes of a prompt's text: what its reported tokens are held against.

    In English a byte is a character; every other script costs a tokenizer about as many more
    tokens per character as it costs more bytes.
    """
    return sum(
        len(part.text.encode("utf-8", "replace"))
        for message in request.messages
        for part in message.parts
        if isinstance(part, TextPart)
    )
