"""Every exception of the program, grouped by what a caller does about it.

UnderstudyError
├── ConfigError            show the operator what to write instead; exit code 2
├── StorageError           the database cannot be read or written; nothing was lost silently
├── ModelFileError         a model file cannot be fetched or loaded; the text says what to do
├── PersonaError           a card, persona or lorebook file cannot be used; say why
├── RequestRefused         answer the gateway client in its own protocol with what to change
├── ImageRefused           leave the image out, inform the person once
├── WorkerKilled           the input costs too much: treat it as hostile, do without it
├── WorkFailed             work in a child process raised: treat it as the same error here
├── Undeliverable          the platform accepts no reply here: give that reply up
└── ProviderError          one attempt failed; the router decides by `error_class` alone
    ├── Unreachable        no server there, or it is too slow or broken: try the next
    ├── RateLimited        the server limits our requests: cooldown, try the next
    ├── Denied             key, credit or model: cooldown, alert the operator, try the next
    ├── Rejected           this request is wrong for this model: never resend it there
    └── BadReply           it answered, but not with a reply: try the next
"""

from enum import StrEnum

import msgspec


class ErrorClass(StrEnum):
    """Why an attempt failed: `error_class` in records, logs and metrics."""

    CONNECT_REFUSED = "connect_refused"
    DNS = "dns"
    TLS = "tls"
    CONNECT_TIMEOUT = "connect_timeout"
    STALE_CONNECTION = "stale_connection"
    FIRST_TOKEN_TIMEOUT = "first_token_timeout"
    IDLE_TIMEOUT = "idle_timeout"
    TOTAL_TIMEOUT = "total_timeout"
    TRUNCATED_STREAM = "truncated_stream"
    BAD_FRAME = "bad_frame"
    BAD_BODY = "bad_body"
    SERVER_ERROR = "server_error"
    OVERLOADED = "overloaded"
    LOADING = "loading"
    RATE_LIMITED = "rate_limited"
    QUOTA = "quota"
    AUTH = "auth"
    MODEL_GONE = "model_gone"
    UNSUPPORTED_INPUT = "unsupported_input"
    UNSUPPORTED_PARAM = "unsupported_param"
    PAYLOAD_TOO_LARGE = "payload_too_large"
    CONTEXT_OVERFLOW = "context_overflow"
    BAD_REQUEST = "bad_request"
    CONTENT_POLICY = "content_policy"
    REFUSAL = "refusal"
    EMPTY_REPLY = "empty_reply"
    REASONING_EXHAUSTED = "reasoning_exhausted"
    GARBAGE = "garbage"
    RESPONSE_TOO_LARGE = "response_too_large"
    POOL_TIMEOUT = "pool_timeout"
    QUEUE_TIMEOUT = "queue_timeout"
    CANCELLED = "cancelled"
    INTERNAL = "internal"


class HoldScope(StrEnum):
    """What a failure concerns, and so what its cooldown excludes."""

    ENDPOINT = "E"
    KEY = "K"
    KEY_FREE = "K:free"
    """Only the key's `:free` models: a daily free limit leaves the paid ones usable."""
    MODEL = "M"
    REQUEST = "R"


class UnderstudyError(Exception):
    """Root of everything this program raises on purpose."""


class ConfigError(UnderstudyError):
    """The configuration cannot be used; the text says where and what to write instead."""


class StorageError(UnderstudyError):
    """The database refused; the text says what to do about it."""


class ModelFileError(UnderstudyError):
    """A model file cannot be fetched or loaded; the text is one sentence that says why."""


class PersonaError(UnderstudyError):
    """A card, persona or lorebook file cannot be used; the text may be shown to its sender."""


class PersonaExists(PersonaError):
    """Another persona has the key of an imported card; `free_key` is not taken."""

    def __init__(self, key: str, free_key: str) -> None:
        super().__init__(
            f"there is another persona {key!r}; choose another key, such as {free_key!r}"
        )
        self.key = key
        self.free_key = free_key


class ImageRefusal(StrEnum):
    """Why an image was left out: `reason` in the log event."""

    ADDRESS = "address"
    """Its address is not public, or its port is unusual."""
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"
    TOO_MANY_BYTES = "too_many_bytes"
    TOO_MANY_PIXELS = "too_many_pixels"
    NOT_AN_IMAGE = "not_an_image"
    DAMAGED = "damaged"
    HEIC = "heic"
    """It needs the extra [heic], which is not installed."""
    TOO_COSTLY = "too_costly"
    """Decoding it takes too much time or memory."""


class Undeliverable(UnderstudyError):
    """A platform refuses a reply for good: the channel is gone, or writing there is forbidden."""


class ImageRefused(UnderstudyError):
    """An image was left out; the text is fit for the person who sent it."""

    def __init__(self, reason: ImageRefusal, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class NotTranscribed(UnderstudyError):
    """A server did not transcribe a recording."""


class WorkerKilled(UnderstudyError):
    """Work in a child process was given up."""

    def __init__(self, work: str, reason: str) -> None:
        super().__init__(f"{work} was given up: {reason}")
        self.reason = reason
        """`deadline`, `memory`, `crash`, `queue` or `closed`."""


class WorkFailed(UnderstudyError):
    """Work in a child process raised an exception."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind
        """Name of the exception's type."""


class RequestRefused(UnderstudyError):
    """A gateway client's request is turned away; the text is fit for that client."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.param = param
        """The member of the request that is at fault."""
        self.retry_after_s = retry_after_s


class ProviderError(UnderstudyError):
    """One attempt at one candidate failed.

    `detail` is for operators who asked for it (`debug.error_text`): never shown to people, never
    logged by default, because servers quote prompts and keys in their errors.
    """

    def __init__(  # noqa: PLR0913 - facts of one failure, all optional
        self,
        error_class: ErrorClass,
        *,
        scope: HoldScope | None = None,
        retry_after_s: float | None = None,
        http_status: int | None = None,
        provider_code: str | None = None,
        n_ctx: int | None = None,
        prompt_tokens: int | None = None,
        affordable_tokens: int | None = None,
        parameter: str | None = None,
        detail: str = "",
    ) -> None:
        super().__init__(error_class.value)
        self.error_class = error_class
        self.scope = scope
        """Where the adapter knows better than the class's default scope; else `None`."""
        self.retry_after_s = retry_after_s
        self.http_status = http_status
        self.provider_code = provider_code[:64] if provider_code else None
        self.n_ctx = n_ctx
        """The context length the server named in a `context_overflow`."""
        self.prompt_tokens = prompt_tokens
        """The length of the refused prompt, as the server counted it."""
        self.affordable_tokens = affordable_tokens
        """The `max_tokens` that a 402 said it could still pay for."""
        self.parameter = parameter
        """The request field that an `unsupported_param` named."""
        self.detail = detail[:2000]


class Unreachable(ProviderError):
    """No server there, or too slow, or breaking off."""


class RateLimited(ProviderError):
    """The server asks for patience: rate limit, overload or a model still loading."""


class Denied(ProviderError):
    """Key, credit or model: only the operator can fix it."""


class Rejected(ProviderError):
    """This model cannot serve this request unchanged."""


class BadReply(ProviderError):
    """Something came back, but no usable reply."""


_LEAVES: dict[ErrorClass, type[ProviderError]] = {
    **dict.fromkeys(
        (ErrorClass.RATE_LIMITED, ErrorClass.OVERLOADED, ErrorClass.LOADING), RateLimited
    ),
    **dict.fromkeys((ErrorClass.AUTH, ErrorClass.QUOTA, ErrorClass.MODEL_GONE), Denied),
    **dict.fromkeys(
        (
            ErrorClass.UNSUPPORTED_INPUT,
            ErrorClass.UNSUPPORTED_PARAM,
            ErrorClass.PAYLOAD_TOO_LARGE,
            ErrorClass.CONTEXT_OVERFLOW,
            ErrorClass.BAD_REQUEST,
            ErrorClass.CONTENT_POLICY,
            ErrorClass.REFUSAL,
        ),
        Rejected,
    ),
    **dict.fromkeys(
        (
            ErrorClass.BAD_FRAME,
            ErrorClass.BAD_BODY,
            ErrorClass.TRUNCATED_STREAM,
            ErrorClass.EMPTY_REPLY,
            ErrorClass.REASONING_EXHAUSTED,
            ErrorClass.GARBAGE,
            ErrorClass.RESPONSE_TOO_LARGE,
        ),
        BadReply,
    ),
}


def leaf_of(error_class: ErrorClass) -> type[ProviderError]:
    """The exception type that carries `error_class`."""
    return _LEAVES.get(error_class, Unreachable)


NOT_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""msgspec checks UTF-8 only where it makes a string, and then with an error of Python's own."""
