"""Model servers found on this machine → lines for the configuration. Pure text in, text out."""

from collections.abc import Iterable, Sequence
from typing import cast
from urllib.parse import urlsplit

from understudy.config.editing import YamlValue, edited_yaml, yaml_text
from understudy.config.providers import ModelSettings, Server
from understudy.config.yaml_document import KeyPath
from understudy.llm.local_discovery import DiscoveredServer
from understudy.llm.registry import base_url_of, builtin_options

_OWN_ENGINES = ("koboldcpp", "llama.cpp", "textgen-webui")
_COSTS_MONEY = "auto"
OWN_MODEL = DiscoveredServer("", "builtin")
"""A model that the bot loads itself: on every machine, and the last choice."""


def may_offer_own_model(model: ModelSettings) -> bool:
    """Whether no built-in model is in the order yet."""
    entries: dict[str, Server] = {"local": model.local, **model.servers}
    return not any(
        entries[name].enabled and builtin_options(entries[name]) is not None
        for name in model.provider_order
        if name in entries
    )


def not_configured(
    found: Iterable[DiscoveredServer], model: ModelSettings
) -> tuple[DiscoveredServer, ...]:
    """Those that no provider in use points to yet."""
    entries: dict[str, Server] = {"local": model.local, **model.servers}
    in_use = {
        _address(base_url_of(server))
        for name, server in entries.items()
        if server.enabled and name in model.provider_order
    }
    return tuple(near for near in found if _address(near.base_url) not in in_use)


def place_of(near: DiscoveredServer, model: ModelSettings) -> str:
    """The provider name for it: `local` while that is free, else its engine or preset."""
    if near.engine in _OWN_ENGINES and not model.local.enabled:
        return "local"
    wanted = (near.preset or near.engine).replace(".", "-")
    taken = {*model.servers, "local"}
    names = (wanted, *(f"{wanted}-{number}" for number in range(2, 100)))
    return next(name for name in names if name not in taken)


def lines_for(near: DiscoveredServer, place: str, order: Sequence[str]) -> str:
    """The lines that the configuration has to contain, its order included where that changes."""
    shown: dict[str, YamlValue] = {}
    for path, value in _changes(near, place, order).items():
        below = shown
        for part in path[:-1]:
            below = cast("dict[str, YamlValue]", below.setdefault(part, {}))
        below[path[-1]] = value
    return yaml_text(shown)


def with_server(text: str, near: DiscoveredServer, place: str, order: Sequence[str]) -> str:
    """Return the file's text with the server added; comments and layout are preserved.

    `order` is the order in force. A server found here is placed before `auto`, which costs money;
    a built-in model is placed last.
    """
    return edited_yaml(text, _changes(near, place, order))


def _changes(near: DiscoveredServer, place: str, order: Sequence[str]) -> dict[KeyPath, YamlValue]:
    entry = _entry(near, place)
    changes: dict[KeyPath, YamlValue] = {("model", "servers", place): entry}
    if place == "local":
        changes = {("model", "local", key): value for key, value in entry.items()}
    if place not in order:
        names = list(order)
        before = _COSTS_MONEY in names and near.engine != "builtin"
        names.insert(names.index(_COSTS_MONEY) if before else len(names), place)
        changes["model", "provider_order"] = list[YamlValue](names)
    return changes


def _entry(near: DiscoveredServer, place: str) -> dict[str, YamlValue]:
    entry: dict[str, YamlValue] = {}
    if place == "local":
        entry["enabled"] = True
    if near.preset is not None:
        entry["preset"] = near.preset
    else:
        entry["engine"] = near.engine
    if near.base_url:
        entry["base_url"] = near.base_url
    if near.engine == "openai" and near.model:
        entry["name"] = near.model
    if near.needs_key:
        entry["api_key_env"] = key_variable(place)
    return entry


def key_variable(place: str) -> str:
    """The variable of the environment for the key of a server of this name."""
    return f"{place.upper().replace('-', '_').replace('.', '_')}_API_KEY"


def _address(base_url: str) -> tuple[str, int | None]:
    parts = urlsplit(base_url)
    host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname or ""
    return host, parts.port
