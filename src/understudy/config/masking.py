"""Masks secrets: in the configuration for display, and in text from servers."""

import re
from collections.abc import Callable, Iterator
from io import StringIO

from pydantic import BaseModel, SecretStr
from ruamel.yaml import YAML

from understudy.config.rules import servers
from understudy.config.settings import Settings

MASK = "********"
_SECRET_KEYS = re.compile(r"key|token|secret|passw|auth|cookie", re.IGNORECASE)


def masked(settings: Settings) -> dict[str, object]:
    """Plain data with every secret masked; an unset one stays `None`."""
    return {
        str(name): _masked(str(name), value)
        for name, value in settings.model_dump(mode="json").items()
    }


def as_yaml(data: object) -> str:
    """`data` as block-style YAML."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    out = StringIO()
    yaml.dump(data, out)
    return out.getvalue()


def _masked(name: str, value: object, *, free: bool = False) -> object:
    """`value` of the key `name`; `free` where the operator chooses the keys."""
    free = free or name in ("extra_body", "provider")
    if free and _SECRET_KEYS.search(name) and isinstance(value, dict | list):
        return MASK
    if name == "extra_headers" and isinstance(value, dict):
        return dict.fromkeys(value, MASK)
    if isinstance(value, dict):
        return {key: _masked(key, inner, free=free) for key, inner in value.items()}
    if isinstance(value, list):
        return [_masked(name, inner, free=free) for inner in value]
    if isinstance(value, str):
        secret = (free and _SECRET_KEYS.search(name)) or (value and set(value) == {"*"})
        return MASK if secret else without_password(value)
    return value


def without_password(value: str) -> str:
    """A URL with its user name and password masked; any other text as it is."""
    value = re.sub(r"(://)[^/\s@]+@", rf"\g<1>{MASK}@", value)
    return re.sub(r"([?&][^=&]*(?:key|token|secret|passw)[^=&]*=)[^&]+", rf"\g<1>{MASK}", value)


MAX_CHARS = 300
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
        return text[:MAX_CHARS]

    return scrub


def secrets_of(settings: Settings) -> Iterator[str]:
    """Every secret value, from the file or the environment."""
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
