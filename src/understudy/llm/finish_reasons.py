"""How servers say that a reply has ended, mapped to the four reasons of the OpenAI format."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Literal

import structlog

from understudy.errors import BadReply, ErrorClass

_log = structlog.get_logger()

FinishReason = Literal["stop", "length", "tool_calls", "content_filter"]

_Meaning = Literal["stop", "length", "tool_calls", "content_filter", "broken_off"]

_WORDS: Mapping[_Meaning, str] = {
    "stop": (
        "stop eos eos_token end_turn stop_sequence complete completed finished normal pause_turn"
    ),
    "length": (
        "length max_tokens max_output_tokens max_output model_length token_limit error_limit"
        " model_context_window_exceeded context_length_exceeded incomplete"
    ),
    "tool_calls": "tool_calls tool_call tool_use function_call function_calls",
    "content_filter": (
        "content_filter content_filtered sensitive safety prohibited_content recitation blocklist"
        " spii image_safety image_prohibited_content image_recitation guardrail_intervened"
        " error_toxic refusal"
    ),
    "broken_off": (
        "error abort aborted cancelled canceled user_cancel network_error not_finished time_limit"
        " timeout insufficient_system_resource malformed_function_call unexpected_tool_call"
        " malformed_response"
    ),
}
"""In lower case. OpenAI, Mistral, DeepSeek, Zhipu, Gemini, Anthropic, Bedrock, Cohere, watsonx,
TGI, SGLang and vLLM each use some of their own."""
_MEANINGS: Mapping[str, _Meaning] = {
    word: meaning for meaning, words in _WORDS.items() for word in words.split()
}

_NO_WORD = frozenset(("", "null", "none", "finish_reason_unspecified"))
"""Not an end: several proxies fill the member with "" in every frame, koboldcpp 1.76 with
"null"."""
_LONGEST_WORD = 64


def read_finish_reason(word: str | None) -> FinishReason | None:
    """Return the reason for a server's word, `None` where the word does not end the reply.

    An unknown word ends it as `stop`. Raises `truncated_stream` for a word by which the server
    says that it gave up in the middle.
    """
    meaning, known = _MEANINGS.get(word or ""), word or ""
    if meaning is None:
        known = known.strip().lower()
        if known in _NO_WORD:
            return None
        meaning = _MEANINGS.get(known)
    if meaning == "broken_off":
        raise BadReply(ErrorClass.TRUNCATED_STREAM, detail=f"the server ended with {known!r}")
    if meaning is None:
        _report_unknown(known[:_LONGEST_WORD])
        return "stop"
    return meaning


@lru_cache(maxsize=256)
def _report_unknown(word: str) -> None:
    """Log a word; the cache makes it once per word and process."""
    _log.info("provider.unknown_finish_reason", word=word)
