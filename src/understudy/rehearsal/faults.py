"""What a stand-in server can do to a caller: every fault by a short name, as data.

`e429` and its kind are answers with that status; the other names are explained at their rows.
A name may carry a value after a colon: `e503:2` (Retry-After), `slow:0.05` and `ok:0.05` (seconds
per word), `say:Hello there` (this text instead of the partner's), `finish:network_error` (five
words, then that finish reason).
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from understudy.errors import ConfigError
from understudy.rehearsal.responder import (
    Answer,
    Comments,
    Delta,
    Finish,
    Hang,
    Head,
    Move,
    Raw,
    Reset,
    Role,
    Say,
    Think,
    Words,
)


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One way to meet a call. An answer that ends without `Finish` ends cleanly cut."""

    name: str
    moves: tuple[Move, ...]


JSON_TYPE = ("Content-Type", "application/json")
_MESSAGES = {
    400: ("Bad request", "invalid_request_error"),
    401: ("Incorrect API key provided", "authentication_error"),
    402: ("Insufficient credits", "insufficient_quota"),
    403: ("Key is not allowed to do that", "permission_denied"),
    404: ("No endpoints found for this model", "model_not_found"),
    408: ("Request timed out", "timeout"),
    413: ("Request body too large", "payload_too_large"),
    415: ("Unsupported media type", "unsupported_media_type"),
    422: ("Unprocessable request", "invalid_request_error"),
    429: ("Rate limit exceeded", "rate_limit_exceeded"),
    500: ("Internal server error", "server_error"),
    502: ("Upstream returned an invalid answer", "provider_unavailable"),
    503: ("No server is available", "provider_overloaded"),
    504: ("Upstream timed out", "provider_unavailable"),
    529: ("Overloaded", "provider_overloaded"),
}


def _error(code: int, message: str, kind: str, **more: object) -> bytes:
    return json.dumps({"error": {"message": message, "type": kind, "code": code, **more}}).encode()


def _fails(status: int, body: bytes | None = None, *, retry_after: str | None = None) -> Answer:
    message, kind = _MESSAGES.get(status, ("Something went wrong", "server_error"))
    headers = (JSON_TYPE, ("Retry-After", retry_after)) if retry_after else (JSON_TYPE,)
    return Answer(status, body or _error(status, message, kind), headers)


def _in_band(code: int = 502) -> Raw:
    failure = {
        "error": {"code": code, "message": "Upstream broke", "metadata": {"error_type": "server"}},
        "choices": [{"index": 0, "delta": {"content": ""}, "finish_reason": "error"}],
    }
    return Raw(b"data: " + json.dumps(failure).encode() + b"\n\n")


_PAGE = b"<!DOCTYPE html><html><head><title>502</title></head><body><h1>Bad gateway</h1></body>"
_CONTEXT = _error(
    400,
    "the request exceeds the available context size",
    "exceed_context_size_error",
    n_prompt_tokens=9000,
    n_ctx=4096,
)
_NO_IMAGES = _error(404, "No endpoints found that support image input", "not_found_error")
_FREE_DAY = _error(
    429,
    "Rate limit exceeded: free-models-per-day",
    "rate_limit_exceeded",
    metadata={"limit_source": "openrouter_free_tier_daily"},
)
_AFFORD = _error(
    402,
    "This request requires more credits, or fewer max_tokens. "
    "You requested up to 4096 tokens, but can only afford 120.",
    "payment_required",
)
_MODERATED = _error(
    403,
    "Your input was flagged",
    "moderation",
    metadata={"reasons": ["violence"], "flagged_input": "…", "provider_name": "Rehearsal"},
)
_TEMPLATE = _error(500, "Jinja Exception: System message must be at the beginning.", "server_error")
_PARAM = _error(400, "Unsupported parameter: 'top_p'", "invalid_request_error", param="top_p")
_NO_CHOICES = b'{"id": null, "object": "chat.completion", "choices": []}'
_LOADING = b'{"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}'
_TOOL = (
    '{"tool_calls": [{"index": 0, "id": "call_1", "type": "function",'
    ' "function": {"name": "look_up", "arguments": "{\\"what\\": \\"weather\\"}"}}]}'
)
_IMAGE = (
    '{"images": [{"type": "image_url", "index": 0,'
    ' "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}]}'
)
_REPLACED = "\ufffd\ufffd\ufffd ok "
_BREATH = Hang(0.05)
"""Long enough for what came before to be read, and shown, apart from what comes after."""
_THOUGHTS = Think(("The person ", "wants ", "a line. ", "I have ", "one."))

_FAULTS: dict[str, tuple[Move, ...]] = {
    # Before the first byte.
    "silent": (Hang(),),
    "reset": (Reset(),),
    "loading": (_fails(503, _LOADING),),
    "ctx": (_fails(400, _CONTEXT),),
    "e404img": (_fails(404, _NO_IMAGES),),
    "e402less": (_fails(402, _AFFORD),),
    "e403mod": (_fails(403, _MODERATED),),
    "jinja": (_fails(500, _TEMPLATE),),
    "e400param": (_fails(400, _PARAM),),
    "e429": (_fails(429, retry_after="5"),),
    "e429long": (_fails(429, retry_after="30"),),
    "e429bare": (_fails(429),),
    "e429decimal": (_fails(429, retry_after="2.5"),),
    "e429date": (_fails(429, retry_after="Wed, 21 Oct 2048 07:28:00 GMT"),),
    "e429daily": (_fails(429, _FREE_DAY),),
    "redirect": (Answer(302, b"", (("Location", "/elsewhere/chat/completions"),)),),
    # A 200 that is no reply.
    "html": (Answer(200, _PAGE, (("Content-Type", "text/html"),)),),
    "err200": (Answer(200, _error(429, "Provider returned error", "rate_limit_exceeded")),),
    "nochoices": (Answer(200, _NO_CHOICES),),
    "empty": (Head(), Role(), Finish("stop")),
    "thinkonly": (Head(), Role(), _THOUGHTS, Finish("stop")),
    "thinklong": (Head(), Role(), _THOUGHTS, Finish("length")),
    "garbage": (
        Head(), Role(), Say(("the ",) * 5), _BREATH, Say(("the ",) * 395), Finish("length")
    ),
    "replaced": (
        Head(), Role(), Say((_REPLACED,) * 3), _BREATH, Say((_REPLACED,) * 17), Finish("stop")
    ),
    "htmltext": (Head(), Role(), Say((_PAGE.decode(),)), Finish("stop")),
    "leak": (Head(), Role(), Say(("<|im_start|>", "user\nHello", "<|im_end|>")), Finish("stop")),
    # In-band errors: first of all, after the role, after five words.
    "firsterr": (Head(), _in_band(),),
    "roleerr": (Head(), Role(), _in_band()),
    "miderr": (Head(), Role(), Words(5), _in_band()),
    "bareerr": (Head(), Role(), Words(5), Raw(b'{"error": "Unhandled exception: stream"}\n')),
    # A text instead of a frame, and `[DONE]` without a finish reason.
    "texterr": (Head(), Role(), Words(5), Raw(b"data: error: gone\n\ndata: [DONE]\n\n")),
    "donecut": (Head(), Role(), Words(5), Raw(b"data: [DONE]\n\n")),
    # Silence after headers, after the role, after five words; comments only.
    "hdrstall": (Head(), Hang()),
    "rolestall": (Head(), Role(), Hang()),
    "midstall": (Head(), Role(), Words(5), Hang()),
    "comments": (Head(), Comments()),
    # The connection: reset, clean end without a finish, end within a frame.
    "cut": (Head(), Role(), Words(5), Reset()),
    "cleancut": (Head(), Role(), Words(5)),
    "blankcut": (Head(), Role(), Words(5, finish_reason="")),
    "halfframe": (Head(), Role(), Words(5), Raw(b'data: {"choices": [{"ind')),
}  # fmt: skip
FAULTS: tuple[str, ...] = (
    "e400", "e401", "e402", "e403", "e404", "e408", "e413", "e422", "e500", "e502", "e503",
    "e504", "e520", "e529", *_FAULTS,
)  # fmt: skip
"""Every name after which no whole reply can have come from this server."""

_ODD_BUT_WHOLE: dict[str, tuple[Move, ...]] = {
    "ok": (Head(), Role(), Words(), Finish()),
    "badjson": (
        Head(), Role(), Words(3), Raw(b'data: {"choices": [{"delta": {"cont\n\n'), Words(), Finish()
    ),
    "slow": (Head(), Role(), Words(pause_s=0.7), Finish()),
    "nousage": (Head(), Role(), Words(), Finish(usage=False)),
    "blankfinish": (Head(), Role(), Words(finish_reason=""), Finish()),
    "think": (Head(), Role(), _THOUGHTS, Words(), Finish()),
    "thinktags": (Head(), Role(), Say(("<think>", "A line, ", "quickly.", "</think>\n\n")),
                  Say(("Here ", "is ", "the ", "line.")), Finish()),
    "thinkclose": (Head(), Role(), Say(("A line, ", "quickly.", "</think>\n\n")),
                   Say(("Here ", "is ", "the ", "line.")), Finish()),
    "thinkchannel": (Head(), Role(), Say(("<|channel|>", "analysis", "<|message|>", "A line.",
                     "<|end|><|start|>assistant<|channel|>", "final<|message|>")),
                     Say(("Here ", "is ", "the ", "line.")), Finish()),
    "endtoken": (Head(), Role(), Say(("Here ", "is ", "the ", "line.", "<|im_end|>", "\nYou:")),
                 Finish()),
    "media": (Head(), Role(), Delta(_IMAGE), Finish()),
    "tool": (Head(), Role(), Delta(_TOOL), Finish("tool_calls")),
    "odd": (Head(), Raw(b'data: null\n\ndata: {"choices": [{"delta": {"reasoning": {"x": 1},'
                        b' "content": ""}, "logprobs": NaN}]}\n\n'), Role(), Words(), Finish()),
    "repeats": (Head(), Role(), Say(("Here ", "it ", "is.")), Raw(
        b'data: {"choices": [{"index": 0, "message": {"role": "assistant", "content":'
        b' "Here it is."}}]}\n\n'), Finish()),
    "chatty": (Head(), Raw(b": OPENROUTER PROCESSING\n\n"), Role(), Raw(b"event: ping\r\n\r\n"),
               Words(), Raw(b": bye\n\n"), Finish()),
}  # fmt: skip
WHOLE: tuple[str, ...] = tuple(_ODD_BUT_WHOLE)
"""Every name after which the caller holds a whole answer, however oddly it came."""

NAMES: tuple[str, ...] = FAULTS + WHOLE


def says(text: str, *, pause_s: float = 0.0) -> Behaviour:
    """A healthy answer with exactly this text."""
    words = tuple(re.findall(r"\S+\s*|\s+", text))
    return Behaviour(f"say:{text}", (Head(), Role(), Say(words, pause_s), Finish()))


def _paced(value: str) -> tuple[Move, ...]:
    return (Head(), Role(), Words(pause_s=float(value)), Finish())


_WITH_VALUE: dict[str, Callable[[str], tuple[Move, ...]]] = {
    "ok": _paced,
    "slow": _paced,
    "say": lambda text: says(text).moves,
    "finish": lambda word: (Head(), Role(), Words(5), Finish(word)),
}


def behaviour(name: str) -> Behaviour:
    """The behaviour of that name. Raises `ConfigError` that lists the names for any other."""
    code, _, value = name.strip().partition(":")
    try:
        if value and code in _WITH_VALUE:
            return Behaviour(name, _WITH_VALUE[code](value))
        if re.fullmatch(r"e[1-5]\d\d", code) and (value or code not in _FAULTS):
            return Behaviour(name, (_fails(int(code[1:]), retry_after=value or None),))
        return Behaviour(name, (_FAULTS | _ODD_BUT_WHOLE)[code])
    except (KeyError, ValueError):
        raise ConfigError(
            f"{name!r} is no behaviour of a rehearsal server; use one of: {', '.join(NAMES)}"
        ) from None
