"""Tests an OpenRouter key with OpenRouter itself."""

from dataclasses import dataclass

import msgspec

from understudy.errors import NOT_JSON, ProviderError
from understudy.llm.engines.openrouter import DIALECT
from understudy.llm.http.endpoint import Endpoint, HttpSessions, Pool
from understudy.llm.model_list import report_failure

KEYS_PAGE = "https://openrouter.ai/keys"
FREE_MODELS = (
    'Models whose name ends in ":free" cost nothing: up to 20 requests a minute, and 50 a day '
    "(1,000 a day once 10 credits were ever bought). The starter configuration uses only those."
)
_CONNECT_S = 5.0


@dataclass(frozen=True, slots=True)
class KeyReport:
    accepted: bool | None
    """`None` where OpenRouter could not be asked."""
    text: str


class _Key(msgspec.Struct):
    is_free_tier: bool | None = None
    limit_remaining: float | None = None


class _Answer(msgspec.Struct):
    data: _Key


async def check_openrouter_key(
    key: str, sessions: HttpSessions, base_url: str | None = None
) -> KeyReport:
    """Ask OpenRouter about the key; costs nothing."""
    url = base_url or DIALECT.base_url or ""
    headers = {"Authorization": f"Bearer {key}"}
    endpoint = Endpoint(sessions, url, headers=headers, pool=Pool(_CONNECT_S, keepalive_s=4.0))
    try:
        answer = await endpoint.ask("GET", "/key")
    except ProviderError as error:
        return KeyReport(None, f"The key could not be tested: {report_failure(error, url).advice}.")
    if answer.status in (401, 403):
        return KeyReport(
            accepted=False, text=f"OpenRouter refuses this key. Make one at {KEYS_PAGE}"
        )
    try:
        found = msgspec.json.decode(answer.body, type=_Answer).data
    except NOT_JSON:
        found = None
    if answer.status != 200 or found is None:
        return KeyReport(None, f"The key could not be tested: HTTP {answer.status}.")
    return KeyReport(accepted=True, text=f"The key works{_account(found)}.")


def _account(key: _Key) -> str:
    if key.limit_remaining is not None and key.limit_remaining <= 0:
        return ", but its spending limit is used up"
    if key.is_free_tier:
        return " (no credits bought: free models only)"
    return ""
