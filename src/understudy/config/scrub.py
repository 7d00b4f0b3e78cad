"""Takes secrets out of text that servers wrote."""

import re
from collections.abc import Callable, Iterator

from pydantic import BaseModel, SecretStr

from understudy.config.masking import MASK
from understudy.config.rules import servers
from understudy.config.settings import Settings

MOST_CHARS = 300
_KEYS = re.compile(
    r"\b(?:sk|pk|rk|cpk|key|hf|gsk|xai)[-_][A-Za-z0-9_\-.]{8,}|\bBearer\s+\S+", re.IGNORECASE
)
_QUERY = re.compile(r"(https?://[^\s?\"']+)\?[^\s\"']+")


def scrubber(settings: Settings) -> Callable[[str], str]:
    """A function that masks every secret of `settings`, whatever looks like a key, and the query
    strings of URLs, and cuts what is left to 300 characters."""
    known = sorted({secret for secret in secrets_of(settings) if len(secret) > 3}, key=len)[::-1]

    def scrub(text: str) -> str:
        for secret in known:
            text = text.replace(secret, MASK)
        text = _QUERY.sub(r"\1?…", _KEYS.sub(MASK, text))
        return text[:MOST_CHARS]

    return scrub


def secrets_of(settings: Settings) -> Iterator[str]:
    """Every secret value, wherever it was read from."""
    yield from _secret_values(settings)
    for _, server in servers(settings.model):
        yield from server.extra_headers.values()


def _secret_values(section: BaseModel) -> Iterator[str]:
    for name in type(section).model_fields:
        value = getattr(section, name)
        items = value.values() if isinstance(value, dict) else value
        for item in items if isinstance(value, dict | tuple) else (value,):
            if isinstance(item, SecretStr):
                yield item.get_secret_value()
            elif isinstance(item, BaseModel):
                yield from _secret_values(item)
