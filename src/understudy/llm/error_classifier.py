"""Error answers → the taxonomy: typed fields, then the server's own wordings, then the status.

The same function serves HTTP errors, errors inside a 200, errors within a stream, and a finish
reason of `error`. Wordings may only settle what a typed field left open, and belong to a dialect.
"""

import re
from collections.abc import Collection, Mapping

from understudy.errors import ErrorClass, HoldScope, ProviderError, leaf_of
from understudy.llm.dialect import Dialect, Wording
from understudy.llm.error_parser import ErrorFacts, read_error, retry_after_s

_TYPED: dict[str, ErrorClass] = {
    name: error_class
    for error_class, names in {
        ErrorClass.CONTEXT_OVERFLOW: (
            "context_length_exceeded exceed_context_size_error token_limit_exceeded"
            " string_too_long max_tokens_exceeded"
        ),
        ErrorClass.AUTH: (
            "authentication authentication_error invalid_api_key missing_api_key unauthorized"
            " permission_denied permission_error api_key_origin_not_allowed unauthenticated"
        ),
        ErrorClass.QUOTA: (
            "payment_required insufficient_quota insufficient_balance billing_hard_limit_reached"
            " balance_required usd_balance_required nano_balance_required"
        ),
        ErrorClass.RATE_LIMITED: (
            "rate_limit_exceeded rate_limit_error too_many_requests capacity_exhausted"
            " resource_exhausted daily_rpd_limit_exceeded daily_usd_limit_exceeded"
        ),
        ErrorClass.OVERLOADED: (
            "provider_overloaded overloaded_error engine_overloaded temporarily_unavailable"
            " all_fallbacks_failed"
        ),
        ErrorClass.SERVER_ERROR: "provider_unavailable unmapped timeout timeout_error",
        ErrorClass.MODEL_GONE: (
            "model_not_found wrong_endpoint model_deprecated model_unavailable_upstream"
            " free_variant_ended privacy_restricted constraint_filtered region_restricted"
        ),
        ErrorClass.CONTENT_POLICY: (
            "content_policy_violation content_filter content_policy prompt_blocked moderation"
        ),
        ErrorClass.REFUSAL: "refusal",
        ErrorClass.UNSUPPORTED_INPUT: "unsupported_image_format image_input_not_supported",
        ErrorClass.PAYLOAD_TOO_LARGE: "payload_too_large image_too_large request_too_large",
        ErrorClass.UNSUPPORTED_PARAM: (
            "unsupported_parameter unknown_parameter unsupported_value extra_forbidden"
        ),
        ErrorClass.EMPTY_REPLY: "empty_response",
    }.items()
    for name in names.split()
}

# Types that a server uses for several things: a wording or the status may say more.
_VAGUE: dict[str, ErrorClass] = {
    **dict.fromkeys(("not_found", "not_found_error", "no_endpoints"), ErrorClass.MODEL_GONE),
    **dict.fromkeys(
        ("server_error", "server", "internal_error", "api_error", "internal"),
        ErrorClass.SERVER_ERROR,
    ),
    **dict.fromkeys(
        ("service_unavailable", "unavailable_error", "unavailable"), ErrorClass.OVERLOADED
    ),
    **dict.fromkeys(
        ("invalid_request_error", "invalid_request", "badrequesterror", "invalid_argument"),
        ErrorClass.BAD_REQUEST,
    ),
}

_STATUSES: dict[int, ErrorClass] = {
    401: ErrorClass.AUTH,
    402: ErrorClass.QUOTA,
    403: ErrorClass.AUTH,
    404: ErrorClass.MODEL_GONE,
    # Only proxies send this one; where a tunnel is refused the class is the same.
    407: ErrorClass.CONNECT_REFUSED,
    408: ErrorClass.SERVER_ERROR,
    413: ErrorClass.PAYLOAD_TOO_LARGE,
    415: ErrorClass.UNSUPPORTED_INPUT,
    429: ErrorClass.RATE_LIMITED,
    503: ErrorClass.OVERLOADED,
    529: ErrorClass.OVERLOADED,
}

_CLIENT_FAULTS = frozenset((400, 404, 413, 422, 500))

_WORDINGS: tuple[Wording, ...] = tuple(
    Wording(phrase, error_class, frozenset(statuses))
    for error_class, statuses, phrases in (
        (
            ErrorClass.UNSUPPORTED_INPUT,
            _CLIENT_FAULTS,
            (
                "support image input",
                "image input is not supported",
                "does not support image",
                "doesn't support image",
                "not a multimodal model",
                "at most 0 image",
                "does not support vision",
            ),
        ),
        (
            ErrorClass.CONTEXT_OVERFLOW,
            _CLIENT_FAULTS,
            (
                "maximum context length",
                "context length",
                "context window",
                "context size",
                "longer than context",
                "prompt is too long",
                "input is too long",
                "too many tokens",
                "reduce the length",
            ),
        ),
        (
            # Servers answer 500 to a prompt that their chat template refuses.
            ErrorClass.BAD_REQUEST,
            _CLIENT_FAULTS,
            (
                "jinja",
                "chat template",
                "roles must alternate",
                "system message must be",
                "system role not supported",
                "prefill is incompatible",
                "assistant response prefill",
                "only user and assistant roles",
                "unexpected role",
            ),
        ),
        (ErrorClass.LOADING, (503,), ("loading model", "model is loading", "currently loading")),
        (
            ErrorClass.QUOTA,
            (400, 403, 429),
            ("insufficient balance", "insufficient credit", "exceeded your current quota"),
        ),
    )
    for phrase in phrases
)

_NAMED_PARAMETER = re.compile(
    r"""(?:unknown|unsupported|unrecognized|extra|not\ supported)[^'"`]{0,60}['"`]([\w.]+)['"`]
      | property\ ['"`]([\w.]+)['"`]\ is\ unsupported""",
    re.VERBOSE | re.IGNORECASE,
)
_REFUSED_PARAMETER = re.compile(r"unsupported|not supported|unknown|unrecognized|not permitted")
_NUMBER = r"(\d{1,3}(?:,\d{3})+|\d{1,9})\b"
_AFFORDABLE = re.compile(rf"can only afford {_NUMBER}")
_FEWER = re.compile(r"fewer max_tokens|lower max_tokens|reduce max_tokens")
_SMALL_REPLY_TOKENS = 256
_N_CTX = re.compile(
    rf"(?:maximum context length (?:is|of)|context (?:size|window|length) (?:is|of)) {_NUMBER}"
)
_PROMPT_TOKENS = re.compile(
    rf"(?:resulted in|prompt (?:is|has|contains)|you requested|request has|request \()"
    rf"(?: at least| about| too long:)? ?{_NUMBER} (?:input )?tokens"
    rf"|prompt is too long: {_NUMBER} tokens|{_NUMBER} (?:tokens )?in the messages"
)
"""How OpenAI, vLLM, llama.cpp and Anthropic name the length of a prompt they refuse."""

_KEY_SHAPES = re.compile(r"\b(?:sk|cpk|gsk|hf|xai|AIza)[-_][\w.-]{8,}|Bearer\s+[\w.~+/-]{8,}=*")
_QUERY = re.compile(r"(https?://[^\s?\"']+)\?[^\s\"']+")


def classify(
    body: bytes,
    dialect: Dialect,
    *,
    status: int | None,
    headers: Mapping[str, str],
    wall: float,
    secrets: Collection[str] = (),
) -> ProviderError:
    """Return the error that `body` describes; `status` is `None` within a stream or a 200."""
    facts = read_error(body)
    return classify_facts(
        facts, dialect, status=status, headers=headers, wall=wall, secrets=secrets
    )


def classify_facts(
    facts: ErrorFacts,
    dialect: Dialect,
    *,
    status: int | None,
    headers: Mapping[str, str],
    wall: float,
    secrets: Collection[str] = (),
) -> ProviderError:
    text = facts.message.lower()
    effective = status if status is not None and status >= 400 else facts.status
    error_class, scope = _class_of(facts, text, effective, dialect)
    if dialect.scope_of is not None:
        scope = dialect.scope_of(facts, error_class) or scope
    return leaf_of(error_class)(
        error_class,
        scope=scope,
        retry_after_s=_hold(error_class, headers, facts, wall),
        http_status=effective if effective is not None else status,
        provider_code=_safe_code(facts, secrets),
        n_ctx=_positive(facts.n_ctx) or _positive(_first_number(_N_CTX, text)),
        prompt_tokens=_positive(facts.prompt_tokens)
        or _positive(_first_number(_PROMPT_TOKENS, text)),
        affordable_tokens=_affordable(error_class, text),
        parameter=_parameter(facts) if error_class is ErrorClass.UNSUPPORTED_PARAM else None,
        detail=scrub(facts.message, secrets),
    )


def scrub(text: str, secrets: Collection[str]) -> str:
    """Take known secrets, things shaped like keys, and the query strings of URLs out of `text`."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, "***")
    return _QUERY.sub(r"\1?***", _KEY_SHAPES.sub("***", text))


def _class_of(
    facts: ErrorFacts, text: str, status: int | None, dialect: Dialect
) -> tuple[ErrorClass, HoldScope | None]:
    if facts.moderated:
        return ErrorClass.CONTENT_POLICY, None
    for name in facts.types:
        if name in _TYPED:
            return _TYPED[name], None
    for wording in (*dialect.wordings, *_WORDINGS):
        counts = not wording.statuses or status is None or status in wording.statuses
        if counts and wording.phrase in text:
            return wording.error_class, wording.scope
    if status in (400, 422, None) and _parameter(facts) is not None:
        return ErrorClass.UNSUPPORTED_PARAM, None
    return _by_status(facts, status, dialect), None


def _by_status(facts: ErrorFacts, status: int | None, dialect: Dialect) -> ErrorClass:
    special = dict(dialect.statuses)
    if status in special:
        return special[status]
    if status is None:
        vague = next((_VAGUE[name] for name in facts.types if name in _VAGUE), None)
        return vague or (ErrorClass.SERVER_ERROR if facts.is_json else ErrorClass.BAD_BODY)
    if status in _STATUSES:
        return _STATUSES[status]
    return ErrorClass.SERVER_ERROR if status >= 500 else ErrorClass.BAD_REQUEST


def _parameter(facts: ErrorFacts) -> str | None:
    found = _NAMED_PARAMETER.search(facts.message)
    if found is not None:
        return found.group(1) or found.group(2)
    named = facts.parameter
    if named is None or named in ("messages", "model"):
        return None
    refused = "extra_forbidden" in facts.types or _REFUSED_PARAMETER.search(facts.message.lower())
    return named if refused else None


def _hold(
    error_class: ErrorClass, headers: Mapping[str, str], facts: ErrorFacts, wall: float
) -> float | None:
    waits = (
        ErrorClass.RATE_LIMITED,
        ErrorClass.OVERLOADED,
        ErrorClass.LOADING,
        ErrorClass.QUOTA,
    )
    return retry_after_s(headers, facts, wall) if error_class in waits else None


def _affordable(error_class: ErrorClass, text: str) -> int | None:
    if error_class is not ErrorClass.QUOTA:
        return None
    named = _first_number(_AFFORDABLE, text)
    # OpenRouter's other wording names no figure; a short reply is worth the one retry.
    return named or (_SMALL_REPLY_TOKENS if _FEWER.search(text) else None)


def _safe_code(facts: ErrorFacts, secrets: Collection[str]) -> str | None:
    code = facts.code or (facts.types[0] if facts.types else None)
    return scrub(code, secrets) if code else None


def _positive(number: int | None) -> int | None:
    return number if number is not None and number > 0 else None


def _first_number(pattern: re.Pattern[str], text: str) -> int | None:
    found = pattern.search(text)
    named = next(filter(None, found.groups()), None) if found else None
    return int(named.replace(",", "")) if named else None
