"""Error answers in the OpenAI protocol: status, code, message and JSON of a failed reply."""

import math

import msgspec

from understudy.errors import ErrorClass, RequestRefused
from understudy.routing.records import OfflineReason, ReplyOutcome, ReplyRecord
from understudy.routing.request import ReplyEnded

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}

_OFFLINE: dict[OfflineReason, tuple[int, str, str]] = {
    OfflineReason.ALL_RATE_LIMITED: (
        429,
        "all_rate_limited",
        "Every model server is rate-limited.",
    ),
    OfflineReason.ALL_DOWN: (503, "all_down", "No model server could answer."),
    OfflineReason.DEADLINE: (504, "deadline", "No model server answered in time."),
    OfflineReason.NO_CAPABLE: (
        400,
        "no_capable_model",
        "No configured model can take a request like this one.",
    ),
    OfflineReason.REJECTED: (403, "rejected", "The model servers refused this request."),
    OfflineReason.CONFIG: (
        503,
        "config",
        "The keys or credit of the model servers need their operator.",
    ),
    OfflineReason.BUDGET: (429, "budget", "The budget for today is spent."),
    OfflineReason.BUSY: (429, "busy", "Too many requests are waiting for an answer already."),
}

_REJECTED: dict[ErrorClass, tuple[int, str, str]] = {
    # The client can fix these, so they are 400 and not 403.
    ErrorClass.BAD_REQUEST: (400, "bad_request", "The model servers call this request invalid."),
    ErrorClass.UNSUPPORTED_PARAM: (
        400,
        "unsupported_param",
        "The model servers refuse one of the request's settings.",
    ),
    ErrorClass.UNSUPPORTED_INPUT: (
        400,
        "unsupported_input",
        "No configured model can read this input.",
    ),
    ErrorClass.CONTEXT_OVERFLOW: (
        400,
        "context_length_exceeded",
        "The prompt is longer than the context of every usable model.",
    ),
    ErrorClass.PAYLOAD_TOO_LARGE: (
        413,
        "request_too_large",
        "The request is larger than the model servers take.",
    ),
    ErrorClass.CONTENT_POLICY: (
        403,
        "content_policy",
        "The model server's content policy refused this request.",
    ),
}

_NO_COMPLETIONS = (
    400,
    "no_completions",
    "No usable model server goes on from a bare prompt; ask for a chat completion.",
)
_UNABLE = ("no_capable_model", "unsupported_input")
_NO_VISION = (400, "no_vision_model", "No usable model can see images.")


def refusal_of(
    end: ReplyEnded, *, images: bool, raw_completion: bool = False, now: float
) -> RequestRefused:
    """Return the error of a reply that failed or was interrupted; `now` is wall clock."""
    record = end.record
    if record.outcome is ReplyOutcome.PARTIAL:
        code = end.error_class.value if end.error_class else "broke_off"
        return RequestRefused(502, code, "The model server broke off in the middle of the reply.")
    status, code, message = _reason(record, end.error_class, images=images)
    if raw_completion and code in _UNABLE:
        status, code, message = _NO_COMPLETIONS
    wait_s = None
    if status in (429, 503) and record.retry_at is not None:
        wait_s = max(1.0, math.ceil(record.retry_at - now))
    return RequestRefused(status, code, message, retry_after_s=wait_s)


def _reason(
    record: ReplyRecord, error_class: ErrorClass | None, *, images: bool
) -> tuple[int, str, str]:
    reason = record.offline_reason or OfflineReason.ALL_DOWN
    if reason is OfflineReason.TOO_LONG:
        return _REJECTED[ErrorClass.CONTEXT_OVERFLOW]
    if reason is OfflineReason.NO_CAPABLE and images:
        return _NO_VISION
    if reason in (OfflineReason.REJECTED, OfflineReason.NO_CAPABLE) and error_class in _REJECTED:
        return _REJECTED[error_class]
    return _OFFLINE[reason]


def error_of(refusal: RequestRefused) -> dict[str, object]:
    return {
        "message": str(refusal),
        "type": _TYPES.get(refusal.status, "server_error"),
        "code": refusal.code,
        "param": refusal.param,
    }


def error_body(refusal: RequestRefused) -> bytes:
    return msgspec.json.encode({"error": error_of(refusal)})
