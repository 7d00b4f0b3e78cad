"""Known servers of the OpenAI shape, one row each; none of them needs code of its own."""

from understudy.errors import ErrorClass
from understudy.llm.dialect import Dialect, Wording

_COMMON = frozenset(("max_tokens", "temperature", "top_p", "stop", "tools", "tool_choice"))
_PENALTIES = frozenset(("frequency_penalty", "presence_penalty", "seed"))

PRESETS: dict[str, Dialect] = {
    "generic": Dialect(engine="openai"),
    "lenient": Dialect(engine="openai", done_is_end=True),
    "openai": Dialect(
        engine="openai",
        base_url="https://api.openai.com/v1",
        length_field="max_completion_tokens",  # reasoning models refuse the older name
        completions_path=None,  # there for none of its chat models
    ),
    "ollama": Dialect(
        engine="openai",
        base_url="http://127.0.0.1:11434/v1",
        withheld=frozenset(("tool_choice", "user", "logit_bias")),
    ),
    "lm-studio": Dialect(
        engine="openai",
        base_url="http://127.0.0.1:1234/v1",
        wordings=(
            Wording("unexpected endpoint", ErrorClass.MODEL_GONE),
            Wording("no models loaded", ErrorClass.MODEL_GONE),
        ),
    ),
    "vllm": Dialect(
        engine="openai",
        base_url="http://127.0.0.1:8000/v1",
        keepalive_s=4.0,
        plain_messages=True,
        plain_turns=True,  # many chat templates insist on alternating roles
        wordings=(Wording("at most 0 image", ErrorClass.UNSUPPORTED_INPUT),),
    ),
    "sglang": Dialect(
        engine="openai", base_url="http://127.0.0.1:30000/v1", keepalive_s=4.0, plain_turns=True
    ),
    "tabbyapi": Dialect(engine="openai", base_url="http://127.0.0.1:5000/v1", keepalive_s=4.0),
    "groq": Dialect(
        engine="openai",
        base_url="https://api.groq.com/openai/v1",
        completions_path=None,
        fields=(_COMMON | _PENALTIES - {"max_tokens"})
        | {"max_completion_tokens", "response_format", "reasoning_effort", "parallel_tool_calls"},
        length_field="max_completion_tokens",
        max_body_bytes=4 * 1024 * 1024,  # with a picture in base64; more is a 413
    ),
    "together": Dialect(
        engine="openai",
        base_url="https://api.together.xyz/v1",
        fields=_COMMON | _PENALTIES | {"top_k", "min_p", "repetition_penalty", "response_format"},
        statuses=((403, ErrorClass.CONTEXT_OVERFLOW),),
    ),
    "mistral": Dialect(
        engine="openai",
        base_url="https://api.mistral.ai/v1",
        completions_path=None,
        fields=_COMMON
        | {"frequency_penalty", "presence_penalty", "random_seed", "response_format"},
        renames=(("seed", "random_seed"),),
        asks_usage=False,  # always reported; an unknown field would be a 422
        plain_turns=True,
    ),
    "deepseek": Dialect(
        engine="openai",
        base_url="https://api.deepseek.com/v1",
        completions_path=None,
        fields=_COMMON | {"frequency_penalty", "presence_penalty", "response_format", "thinking"},
    ),
    "google": Dialect(
        engine="openai",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        completions_path=None,
        fields=_COMMON | {"response_format", "reasoning_effort"},
        # A refused key is a 400 here, and an empty account at Anthropic.
        wordings=(Wording("api key not valid", ErrorClass.AUTH, frozenset((400,))),),
    ),
    "anthropic": Dialect(
        engine="openai",
        base_url="https://api.anthropic.com/v1",
        completions_path=None,
        fields=_COMMON | {"parallel_tool_calls", "thinking"},
        id_header=b"request-id",
        wordings=(Wording("credit balance is too low", ErrorClass.QUOTA, frozenset((400,))),),
    ),
}
"""Name → dialect. `fields` lists what may be sent where anything else is a 400 or 422."""
