"""The configuration as people may see it: everything that could be a secret is masked."""

import re
from io import StringIO

from ruamel.yaml import YAML

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
    """`value` of the key `name`; `free` where the keys are the operator's own words."""
    free = free or name in ("extra_body", "provider")
    if name == "extra_headers" and isinstance(value, dict):
        return dict.fromkeys(value, MASK)
    if isinstance(value, dict):
        return {key: _masked(key, inner, free=free) for key, inner in value.items()}
    if isinstance(value, list):
        return [_masked(name, inner, free=free) for inner in value]
    if isinstance(value, str):
        secret = (free and _SECRET_KEYS.search(name)) or (value and set(value) == {"*"})
        return MASK if secret else _without_password(value)
    return value


def _without_password(value: str) -> str:
    """A URL with its user name and password masked; any other text as it is."""
    value = re.sub(r"(://)[^/\s@]+@", rf"\g<1>{MASK}@", value)
    return re.sub(r"([?&][^=&]*(?:key|token|secret|passw)[^=&]*=)[^&]+", rf"\g<1>{MASK}", value)
