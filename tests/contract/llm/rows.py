"""The table of the contract suite: one row per engine, each case with its recording."""

from dataclasses import dataclass, field, replace

from understudy.errors import ErrorClass, HoldScope
from understudy.llm.client import ProbeState
from understudy.llm.messages import Usage, UsageSource

CHAT = "POST /v1/chat/completions"
DERIVED, ESTIMATED = UsageSource.DERIVED, UsageSource.ESTIMATED


@dataclass(frozen=True, slots=True)
class GoodReply:
    case: str
    starts: str
    reason: str = "stop"
    usage: Usage | None = None
    thinks: bool = False
    image: bool = False
    max_tokens: int = 40
    also: tuple[str, ...] = ()
    """Further recordings that the same reply needs."""
    keepalives: int = 0
    entry: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    case: str
    error_class: ErrorClass
    scope: HoldScope | None = None
    n_ctx: int | None = None
    parameter: str | None = None
    entry: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class Look:
    """A probe: what the server answers, and what is to be found out."""

    cases: tuple[str, ...]
    state: ProbeState
    model: str = ""
    n_ctx: int | None = None
    vision: bool | None = None
    advice: str = ""
    entry: tuple[tuple[str, object], ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    engine: str
    replies: tuple[GoodReply, ...]
    failures: tuple[Failure, ...]
    looks: tuple[Look, ...] = ()
    counted: tuple[str, int] | None = None
    """The recording of a token count, and the sum for one message."""
    also: tuple[str, ...] = ()
    """Recordings that tests of this engine alone replay."""
    entry: dict[str, object] = field(default_factory=dict)
    recorded_as: str = ""
    """The engine whose recordings it shares; empty for its own."""

    @property
    def folder(self) -> str:
        return self.recorded_as or self.engine

    @property
    def cases(self) -> set[str]:
        named = {reply.case for reply in self.replies} | {f.case for f in self.failures}
        named |= {case for look in self.looks for case in look.cases}
        named |= {case for reply in self.replies for case in reply.also} | set(self.also)
        return named | ({self.counted[0]} if self.counted else set())


LLAMA_CPP = Row(
    "llama.cpp",
    replies=(
        GoodReply("reply", " of can warm", "length", Usage(27, 12, cache_read_tokens=26)),
        GoodReply(
            "reply_without_usage",
            " of can",
            "length",
            Usage(27, 12, cache_read_tokens=26, source=DERIVED),
        ),
        GoodReply("reply_that_ends_itself", " "),
        GoodReply("thoughts", "", thinks=True),
        GoodReply("pings", " ", "length", keepalives=2),
        GoodReply("image_reply", " ", "length", image=True),
    ),
    failures=(
        Failure("too_long", ErrorClass.CONTEXT_OVERFLOW, n_ctx=2048),
        Failure("image_refused", ErrorClass.UNSUPPORTED_INPUT),
        Failure("wrong_key", ErrorClass.AUTH),
        Failure("unknown_model", ErrorClass.MODEL_GONE),
        Failure("malformed", ErrorClass.BAD_REQUEST),
        Failure("killed", ErrorClass.TRUNCATED_STREAM),
    ),
    looks=(
        Look(("health", "models", "props"), ProbeState.READY, "models/tiny.gguf", 2048, False),
        Look(("health", "models", "props_with_vision"), ProbeState.READY, vision=True, n_ctx=2048),
        Look(("health_loading",), ProbeState.LOADING, advice="being loaded"),
        Look(("health", "loading"), ProbeState.LOADING),
        Look(
            ("health", "router_models"),
            ProbeState.READY,
            "tinyvis",
            vision=True,
            entry=(("name", "tinyvis"),),
        ),
        Look(
            ("health", "models", "props"),
            ProbeState.READY,
            vision=False,
            n_ctx=2048,
            advice="--mmproj",
            entry=(("vision", True),),
        ),
    ),
    counted=("input_tokens", 27),
)

BUILTIN = replace(LLAMA_CPP, engine="builtin", recorded_as="llama.cpp")

KOBOLDCPP = Row(
    "koboldcpp",
    replies=(
        GoodReply("reply", " of her warm", "length", Usage(27, 12), max_tokens=12),
        # It says `length` at a stop string too; fewer tokens than asked for show which it was.
        GoodReply("reply", " of her warm", "stop", Usage(27, 12), max_tokens=40),
        GoodReply("old_reply", " of then red", "length"),
        GoodReply("old_reply_that_ends_itself", " "),
        GoodReply("old_whole_reply", " of then red", "length"),
        GoodReply("thoughts", "", "stop", thinks=True),
        GoodReply("image_reply", " ", "length", image=True, max_tokens=4),
        GoodReply("early_finishes", " you about there about first", "length", Usage(27, 40)),
        GoodReply("native_reply", " were but warm", also=("no_chat_endpoint",)),
    ),
    failures=(
        Failure("aborted", ErrorClass.TRUNCATED_STREAM),
        Failure("null_body", ErrorClass.BAD_BODY),
        Failure("busy", ErrorClass.OVERLOADED),
        Failure("wrong_key", ErrorClass.AUTH),
        Failure("malformed", ErrorClass.BAD_REQUEST),
        Failure("too_big", ErrorClass.PAYLOAD_TOO_LARGE),
    ),
    looks=(
        Look(
            ("version", "context_length", "models"), ProbeState.READY, "koboldcpp/tiny", 2048, False
        ),
        Look(
            ("old_version", "context_length", "models"), ProbeState.READY, vision=False, n_ctx=2048
        ),
        Look(
            ("version_with_vision", "context_length", "models"),
            ProbeState.READY,
            vision=True,
            n_ctx=2048,
        ),
        Look(
            ("version", "context_length", "models"),
            ProbeState.READY,
            n_ctx=2048,
            vision=False,
            advice="--mmproj",
            entry=(("vision", True),),
        ),
    ),
    counted=("tokencount", 9 + 8),
    also=("abort",),
)

TEXTGEN_WEBUI = Row(
    "textgen-webui",
    replies=(
        GoodReply("reply", "Hello there, how"),
        GoodReply("llama_cpp_reply", "", usage=Usage(21, 3, source=ESTIMATED)),
        GoodReply("queued", "", "length", keepalives=2),
        GoodReply("thoughts", "", thinks=True),
        GoodReply("image_reply", "", "length", image=True),
    ),
    failures=(
        Failure("wrong_key", ErrorClass.AUTH),
        Failure("host_refused", ErrorClass.BAD_BODY),
        Failure("no_model_stream", ErrorClass.TRUNCATED_STREAM),
        Failure("nothing_at_all", ErrorClass.TRUNCATED_STREAM),
        Failure("bad_request", ErrorClass.BAD_REQUEST),
        Failure("unprocessable", ErrorClass.BAD_REQUEST),
    ),
    looks=(
        Look(("token_count", "models"), ProbeState.READY, "tiny-llama"),
        Look(("no_model",), ProbeState.MODEL_MISSING, advice="no working model"),
    ),
    counted=("token_count", 8 + 8),
)

OPENROUTER = Row(
    "openrouter",
    replies=(
        GoodReply("reply", "Hi", usage=Usage(5, 2, cost_usd=0.00001), thinks=True, keepalives=2),
    ),
    failures=(
        Failure("error_in_200", ErrorClass.RATE_LIMITED, HoldScope.MODEL),
        Failure("partial_choice_error", ErrorClass.SERVER_ERROR),
        Failure("fewer_tokens", ErrorClass.QUOTA),
        Failure("privacy_restricted", ErrorClass.MODEL_GONE),
        Failure("free_limit", ErrorClass.RATE_LIMITED, HoldScope.KEY_FREE),
        Failure("error_in_stream", ErrorClass.RATE_LIMITED, HoldScope.MODEL),
        Failure("error_in_stream_without_done", ErrorClass.SERVER_ERROR),
    ),
    also=("only_thoughts",),
)

CHUTES = Row(
    "chutes",
    replies=(GoodReply("reply", "Hi", usage=Usage(5, 2), thinks=True),),
    failures=(
        Failure("too_long", ErrorClass.CONTEXT_OVERFLOW),
        Failure("quota", ErrorClass.QUOTA),
        Failure("full", ErrorClass.RATE_LIMITED, HoldScope.MODEL),
        Failure("cold", ErrorClass.OVERLOADED, HoldScope.MODEL),
        Failure("bare_error_in_stream", ErrorClass.SERVER_ERROR),
        Failure("edge_timeout", ErrorClass.SERVER_ERROR),
    ),
)

NANOGPT = Row(
    "nanogpt",
    replies=(
        GoodReply(
            "reply",
            "Hi",
            usage=Usage(123, 2, cache_read_tokens=114, cost_usd=0.0001),
            thinks=True,
        ),
        GoodReply("generated", "once upon", entry=(("mode", "plain_generate"),)),
    ),
    failures=(
        Failure("no_balance", ErrorClass.QUOTA),
        Failure("error_in_stream", ErrorClass.OVERLOADED),
    ),
)

OPENAI = Row(
    "openai",
    replies=(
        GoodReply("padded_whole_reply", "Hi", usage=Usage(1, 1), thinks=True),
        GoodReply("no_space_crlf", "Hi", keepalives=2),
    ),
    failures=(
        Failure("google_unknown_field", ErrorClass.UNSUPPORTED_PARAM, parameter="reasoning"),
        Failure(
            "mistral_extra_field", ErrorClass.UNSUPPORTED_PARAM, parameter="max_completion_tokens"
        ),
        Failure("lm_studio_wrong_path", ErrorClass.MODEL_GONE, entry=(("preset", "lm-studio"),)),
        Failure("vllm_roles", ErrorClass.BAD_REQUEST),
        Failure("vllm_roles_older", ErrorClass.BAD_REQUEST),
    ),
)

ROWS = (OPENROUTER, CHUTES, NANOGPT, KOBOLDCPP, LLAMA_CPP, TEXTGEN_WEBUI, OPENAI, BUILTIN)
