"""The names from OpenTelemetry's GenAI conventions.

The conventions are in development and change names; `SEMCONV_REV` is the revision used here.
Removed there, and not emitted: `gen_ai.system`, `gen_ai.prompt`, `gen_ai.completion`,
`gen_ai.usage.prompt_tokens` and `gen_ai.usage.completion_tokens`.
"""

from typing import Final

SEMCONV_REV: Final = "semantic-conventions-genai 2026-11"

OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
CACHE_READ_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
CACHE_WRITE_TOKENS: Final = "gen_ai.usage.cache_write.input_tokens"
REASONING_TOKENS: Final = "gen_ai.usage.reasoning.output_tokens"
OUTPUT_TYPE: Final = "gen_ai.output.type"
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"

ROUTER_REQUEST_ID: Final = "router.request.id"
ROUTER_SINK: Final = "router.sink"
ROUTER_ATTEMPT_INDEX: Final = "router.attempt.index"
ROUTER_ATTEMPT_ROLE: Final = "router.attempt.role"
ROUTER_CANDIDATE: Final = "router.candidate"
ROUTER_OUTCOME: Final = "router.outcome"
ROUTER_COMMITTED: Final = "router.committed"
ROUTER_BREAKER_STATE: Final = "router.breaker.state"
ROUTER_NEXT: Final = "router.next"
ROUTER_OFFLINE_REASON: Final = "router.offline_reason"
ROUTER_COST_USD: Final = "router.cost_usd"

CHAT: Final = "chat"
PARENT_SPAN: Final = "router.chat"

_OWN_NAMES: Final = {"llama.cpp": "llama_cpp", "textgen-webui": "textgen_webui"}


def provider_name(engine: str) -> str:
    """The conventions' name for an engine, or our own where they have none."""
    return _OWN_NAMES.get(engine, engine)
