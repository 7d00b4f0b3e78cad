"""Error bodies of every known shape → the taxonomy."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.errors import (
    Denied,
    ErrorClass,
    HoldScope,
    ProviderError,
    RateLimited,
    Rejected,
)
from understudy.llm.dialect import Dialect
from understudy.llm.engines.chutes import DIALECT as CHUTES
from understudy.llm.engines.koboldcpp import DIALECT as KOBOLDCPP
from understudy.llm.engines.llama_cpp import DIALECT as LLAMA_CPP
from understudy.llm.engines.openrouter import DIALECT as OPENROUTER
from understudy.llm.engines.textgen_webui import DIALECT as TEXTGEN_WEBUI
from understudy.llm.error_classifier import classify, scrub
from understudy.llm.presets import PRESETS

GENERIC = PRESETS["generic"]


def error(
    body: object,
    status: int | None,
    dialect: Dialect = GENERIC,
    headers: dict[str, str] | None = None,
) -> ProviderError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return classify(raw, dialect, status=status, headers=headers or {}, wall=1_795_435_200.0)


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, ErrorClass.BAD_REQUEST),
        (401, ErrorClass.AUTH),
        (407, ErrorClass.CONNECT_REFUSED),
        (402, ErrorClass.QUOTA),
        (403, ErrorClass.AUTH),
        (404, ErrorClass.MODEL_GONE),
        (408, ErrorClass.SERVER_ERROR),
        (413, ErrorClass.PAYLOAD_TOO_LARGE),
        (415, ErrorClass.UNSUPPORTED_INPUT),
        (418, ErrorClass.BAD_REQUEST),
        (422, ErrorClass.BAD_REQUEST),
        (429, ErrorClass.RATE_LIMITED),
        (500, ErrorClass.SERVER_ERROR),
        (503, ErrorClass.OVERLOADED),
        (504, ErrorClass.SERVER_ERROR),
        (524, ErrorClass.SERVER_ERROR),
        (529, ErrorClass.OVERLOADED),
        (599, ErrorClass.SERVER_ERROR),
    ],
)
def test_a_bare_status_has_its_class(status: int, expected: ErrorClass) -> None:
    assert error(b"<html>nginx</html>", status).error_class is expected


@pytest.mark.parametrize(
    ("body", "status", "expected"),
    [
        ({"error": {"code": "context_length_exceeded"}}, 400, ErrorClass.CONTEXT_OVERFLOW),
        ({"error": {"message": "x", "metadata": {"error_type": "rate_limit_exceeded"}}}, None,
         ErrorClass.RATE_LIMITED),
        ({"error": {"type": "insufficient_quota", "message": "x"}}, 429, ErrorClass.QUOTA),
        ({"error": "Insufficient balance", "status": 402}, 402, ErrorClass.QUOTA),
        ({"detail": "Infrastructure is at maximum capacity"}, 429, ErrorClass.RATE_LIMITED),
        ({"detail": {"msg": "x", "type": "unauthorized"}}, 401, ErrorClass.AUTH),
        ([{"error": {"code": 400, "message": 'Unknown name "reasoning"'}}], 400,
         ErrorClass.UNSUPPORTED_PARAM),
        ({"error": {"message": "flagged", "metadata": {"reasons": ["violence"]}}}, 403,
         ErrorClass.CONTENT_POLICY),
        ({"error": {"message": "No endpoints found that support image input", "code": 404}}, 404,
         ErrorClass.UNSUPPORTED_INPUT),
        ({"error": {"message": "No endpoints found for a/b", "code": 404}}, 404,
         ErrorClass.MODEL_GONE),
        ({"error": {"message": "Provider returned error", "code": 429}}, None,
         ErrorClass.RATE_LIMITED),
        ({"error": {"message": "This model's maximum context length is 4096 tokens"}}, 400,
         ErrorClass.CONTEXT_OVERFLOW),
        ({"error": {"message": "try later", "type": "overloaded_error"}}, None,
         ErrorClass.OVERLOADED),
        ({"error": {"message": "boom", "code": "server_error"}}, None, ErrorClass.SERVER_ERROR),
        ({"error": {"type": "refusal", "message": "no"}}, 400, ErrorClass.REFUSAL),
        ({"choices": [{"error": {"code": 502, "message": "cut"}}]}, None, ErrorClass.SERVER_ERROR),
    ],
)  # fmt: skip
def test_bodies_tell_more_than_the_status(
    body: object, status: int | None, expected: ErrorClass
) -> None:
    assert error(body, status).error_class is expected


@pytest.mark.parametrize(
    ("dialect", "status", "body", "expected"),
    [
        (LLAMA_CPP, 500, {"error": {"code": 500, "type": "server_error",
         "message": "image input is not supported - hint: mmproj"}}, ErrorClass.UNSUPPORTED_INPUT),
        (LLAMA_CPP, 503, {"error": {"code": 503, "type": "unavailable_error",
         "message": "Loading model"}}, ErrorClass.LOADING),
        (LLAMA_CPP, 500, {"error": {"code": 500, "type": "server_error",
         "message": "Failed to parse messages"}}, ErrorClass.BAD_REQUEST),
        (KOBOLDCPP, 503, {"detail": {"msg": "Server is busy; please try again later.",
         "type": "service_unavailable"}}, ErrorClass.OVERLOADED),
        (KOBOLDCPP, 500, {"detail": {"msg": "Payload is too big. Max payload size is 32MB.",
         "type": "bad_input"}}, ErrorClass.PAYLOAD_TOO_LARGE),
        (TEXTGEN_WEBUI, 400, {"detail": "Invalid host header"}, ErrorClass.BAD_BODY),
        (PRESETS["together"], 403, {"error": {"message": "too long"}}, ErrorClass.CONTEXT_OVERFLOW),
        (PRESETS["lm-studio"], None, {"error": "Unexpected endpoint or method."},
         ErrorClass.MODEL_GONE),
        (CHUTES, 500, {"detail": "exhausted all available targets to no avail"},
         ErrorClass.SERVER_ERROR),
    ],
)  # fmt: skip
def test_an_engine_s_own_words_are_known(
    dialect: Dialect, status: int | None, body: object, expected: ErrorClass
) -> None:
    assert error(body, status, dialect).error_class is expected


@pytest.mark.parametrize(
    ("preset", "body", "expected"),
    [
        (
            "google",
            [
                {
                    "error": {
                        "code": 400,
                        "message": "API key not valid. Please pass a valid API key.",
                        "status": "INVALID_ARGUMENT",
                    }
                }
            ],
            ErrorClass.AUTH,
        ),
        (
            "anthropic",
            {
                "type": "error",
                "error": {
                    "type": "invalid_request_error",
                    "message": "Your credit balance is too low to access the API.",
                },
            },
            ErrorClass.QUOTA,
        ),
    ],
)
def test_what_only_the_operator_can_mend_is_known_though_it_comes_as_a_bad_request(
    preset: str, body: object, expected: ErrorClass
) -> None:
    assert error(body, 400, PRESETS[preset]).error_class is expected


def test_an_overflow_carries_the_context_it_names() -> None:
    typed = {"error": {"type": "exceed_context_size_error", "n_ctx": 2048, "message": "x"}}
    worded = {"error": {"message": "maximum context length is 8192 tokens"}}

    assert error(typed, 400).n_ctx == 2048
    assert error(worded, 400).n_ctx == 8192


@pytest.mark.parametrize(
    ("named", "n_ctx"),
    [("131,072 tokens", 131_072), ("32k tokens", None), ("0", None), ("9" * 5000, None)],
)
def test_a_context_is_learned_whole_or_not_at_all(named: str, n_ctx: int | None) -> None:
    message = f"maximum context length is {named}"

    assert error({"error": {"message": message}}, 400).n_ctx == n_ctx
    assert error(message, 400).n_ctx == n_ctx
    assert error({"error": {"message": message, "n_ctx": -1}}, 400).n_ctx == n_ctx


@pytest.mark.parametrize(
    ("body", "name"),
    [
        ([{"error": {"message": 'Unknown name "reasoning": Cannot find field'}}], "reasoning"),
        ({"error": {"message": "Unsupported parameter: 'max_tokens'", "param": "max_tokens"}},
         "max_tokens"),
        ({"error": {"message": "property 'logit_bias' is unsupported"}}, "logit_bias"),
        ({"object": "error", "message": {"detail": [{"type": "extra_forbidden",
          "loc": ["body", "max_completion_tokens"], "msg": "extra"}]}}, "max_completion_tokens"),
        ({"error": {"message": "top_k is not supported here", "param": "top_k"}}, "top_k"),
    ],
)  # fmt: skip
def test_a_refused_parameter_is_named(body: object, name: str) -> None:
    found = error(body, 400)

    assert (found.error_class, found.parameter) == (ErrorClass.UNSUPPORTED_PARAM, name)


def test_openrouter_holds_the_key_only_for_its_own_limits_and_only_for_free_models() -> None:
    daily = {"error": {"code": 429, "message": "x",
             "metadata": {"limit_source": "openrouter_free_tier_daily"}}}  # fmt: skip
    minute = {"error": {"code": 429, "message": "free-models-per-min"}}
    headers = {"error": {"code": 429, "message": "x",
               "metadata": {"headers": {"X-RateLimit-Reset": "1795435230000"}}}}  # fmt: skip
    upstream = {"error": {"code": 429, "message": "Provider returned error"}}

    scopes = [error(b, 429, OPENROUTER).scope for b in (daily, minute, headers, upstream)]

    assert scopes == [HoldScope.KEY_FREE] * 3 + [HoldScope.MODEL]
    assert error(headers, 429, OPENROUTER).retry_after_s == 30.0


def test_full_instances_of_chutes_hold_the_model_and_its_quota_the_key() -> None:
    full = error({"detail": "Infrastructure is at maximum capacity"}, 429, CHUTES)
    quota = error(
        {"detail": {"message": "x", "quota_reset_timestamp": "2026-11-23T12:20:00+00:00"}},
        402,
        CHUTES,
    )

    assert full.scope is HoldScope.MODEL
    assert (quota.scope, quota.retry_after_s) == (None, 1200.0)


@pytest.mark.parametrize(
    ("message", "tokens"),
    [
        ("You requested up to 4096 tokens, but can only afford 812", 812),
        ("You requested up to 64,000 tokens, but can only afford 13,520", 13_520),
        ("needs more credits, or fewer max_tokens", 256),
        ("Insufficient credits", None),
    ],
)
def test_a_402_tells_what_it_could_still_pay(message: str, tokens: int | None) -> None:
    assert error({"error": {"message": message, "code": 402}}, 402).affordable_tokens == tokens


def test_the_leaf_says_what_a_caller_does() -> None:
    leaves = [type(error({}, status)) for status in (429, 401, 400)]

    assert leaves == [RateLimited, Denied, Rejected]


def test_keys_never_stay_in_an_error() -> None:
    text = (
        "bad key hunter2-hunter2 at https://x.test/v1?key=abc with Bearer abcdefgh123, sk-or-v1-aaa"
    )

    clean = scrub(text, ["hunter2-hunter2"])

    assert clean == "bad key *** at https://x.test/v1?*** with ***, ***"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(
        st.sampled_from(["error", "detail", "message", "code", "metadata", "type", "loc", "status",
                         "choices", "raw", "headers", "availability", "param", "n_ctx"]),
        inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@pytest.mark.slow
@given(JSON, st.none() | st.integers(400, 599))
def test_no_body_breaks_the_classifier(body: object, status: int | None) -> None:
    assert isinstance(error(body, status), ProviderError)


@given(st.binary(max_size=64))
def test_no_bytes_break_the_classifier(body: bytes) -> None:
    assert isinstance(error(body, 500), ProviderError)


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (500, "Jinja Exception: System message must be at the beginning."),
        (500, "tools param requires --jinja flag"),
        (400, "Assistant response prefill is incompatible with enable_thinking."),
        (500, "Conversation roles must alternate user/assistant/user/assistant/..."),
        (400, "This model's chat template could not be applied"),
        (422, "Unexpected role 'system' after role 'user'"),
    ],
)
def test_a_prompt_that_the_chat_template_refuses_is_the_requests_fault(
    status: int, message: str
) -> None:
    body = json.dumps({"error": {"message": message, "type": "server_error", "code": status}})

    error = classify(body.encode(), Dialect(engine="openai"), status=status, headers={}, wall=0.0)

    assert error.error_class is ErrorClass.BAD_REQUEST


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        ({"error": {"type": "exceed_context_size_error", "n_prompt_tokens": 9000}}, 9000),
        ({"error": {"message": "This model's maximum context length is 8192 tokens. However, your "
                               "messages resulted in 10,021 tokens."}}, 10021),
        ({"error": {"message": "prompt is too long: 205000 tokens > 200000 maximum"}}, 205000),
        ({"error": {"message": "the request (1587 tokens) exceeds the available context size "
                               "(512 tokens)"}}, 1587),
    ],
)  # fmt: skip
def test_a_refusal_of_a_long_prompt_names_its_length(body: object, tokens: int) -> None:
    error = classify(
        json.dumps(body).encode(), Dialect(engine="openai"), status=400, headers={}, wall=0.0
    )

    assert (error.error_class, error.prompt_tokens) == (ErrorClass.CONTEXT_OVERFLOW, tokens)
