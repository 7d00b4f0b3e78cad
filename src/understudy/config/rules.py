"""Rules between keys, beyond the type of each key."""

import re
from collections.abc import Callable, Iterator, Mapping
from datetime import time
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from understudy.config.diagnostics import Mistake, nearest, or_list
from understudy.config.providers import (
    LocalServer,
    ModelSettings,
    NamedServer,
    OwnModel,
    Server,
)
from understudy.config.settings import Settings
from understudy.config.yaml_document import KeyPath
from understudy.network import is_loopback

BUILT_IN = ("openrouter", "chutes", "nanogpt", "local", "auto")
_SERVER_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_LINE_BREAK = re.compile(r"[\r\n\0]")
_HOSTED = ("openrouter", "chutes", "nanogpt")
_HOMELESS = (*_HOSTED, "builtin")
"""Engines whose address need not be given."""


def broken_rules(settings: Settings) -> Iterator[Mistake]:
    """Every rule that `settings` breaks."""
    for rule in _RULES:
        yield from rule(settings)


def conflicts(settings: Settings) -> Iterator[Mistake]:
    """Combinations that are allowed but do not do what they seem to."""
    model = settings.model
    for path, server in servers(model):
        if server.answers_in_one_piece and server.enabled and not server.total_timeout_seconds:
            yield Mistake(
                (*path, "mode"),
                "answers in one piece, so timeout_seconds bounds the whole answer; "
                "total_timeout_seconds would do so alone",
            )
        if "commit_seconds" in model.deadline.model_fields_set:
            yield from _never_used_up(path, server, model.deadline.commit_seconds)
    yield from _disabled_orders(settings)
    yield from _unused_servers(settings)


def _never_used_up(path: KeyPath, server: Server, commit_s: float) -> Iterator[Mistake]:
    """Checks only numbers that the operator wrote."""
    written = server.timeout_seconds if "timeout_seconds" in server.model_fields_set else None
    if written is not None and written > commit_s:
        yield Mistake(
            (*path, "timeout_seconds"),
            f"{written:g} s can never be used up: model.deadline.commit_seconds ends the wait "
            f"after {commit_s:g} s",
        )


def has_enabled_server(order: tuple[str, ...], model: ModelSettings) -> bool:
    """Whether any entry of an order, a provider or provider/model, is switched on."""
    switched_on = {path[-1]: server.enabled for path, server in servers(model)}
    switched_on["auto"] = model.openrouter.enabled and model.openrouter.allow_auto_fallback
    return any(switched_on.get(entry.partition("/")[0], False) for entry in order)


def _disabled_orders(settings: Settings) -> Iterator[Mistake]:
    for path, order in _orders(settings).items():
        if order and not has_enabled_server(order, settings.model):
            yield Mistake(path, "can never answer: each of its servers is disabled")


def _unused_servers(settings: Settings) -> Iterator[Mistake]:
    """Servers that the operator switched on, and that no order names."""
    named = {entry.partition("/")[0] for order in _orders(settings).values() for entry in order}
    for path, server in servers(settings.model):
        switched_on = len(path) > 2 or "enabled" in server.model_fields_set
        if server.enabled and switched_on and path[-1] not in named:
            yield Mistake(path, "is never asked: model.provider_order does not list it")


def _orders(settings: Settings) -> Mapping[KeyPath, tuple[str, ...]]:
    """Every order, with the path of its key."""
    return {
        ("model", "provider_order"): settings.model.provider_order,
        **{("model", "orders", name): order for name, order in settings.model.orders.items()},
        **{("gateway", "orders", name): order for name, order in settings.gateway.orders.items()},
        ("speech", "order"): settings.speech.order,
    }


def servers(model: ModelSettings) -> Iterator[tuple[KeyPath, Server]]:
    """Every provider with the path of its section."""
    built_in: Mapping[str, Server] = {
        "openrouter": model.openrouter,
        "chutes": model.chutes,
        "nanogpt": model.nanogpt,
        "local": model.local,
    }
    for name, server in built_in.items():
        yield ("model", name), server
    for name, server in model.servers.items():
        yield ("model", "servers", name), server


def _order_names_exist(settings: Settings) -> Iterator[Mistake]:
    known = (*BUILT_IN, *settings.model.servers)
    for path, order in _orders(settings).items():
        for index, entry in enumerate(order):
            is_model = path[1] == "orders" and "/" in entry
            provider = entry.partition("/")[0] if is_model else entry
            if provider not in known:
                close = nearest(provider, known)
                yield Mistake(
                    (*path, str(index)),
                    f"did you mean '{close}'?"
                    if close
                    else f"no provider of this name; there are {or_list(known)}",
                )
            elif entry in order[:index]:
                yield Mistake((*path, str(index)), f"'{entry}' is listed twice")


def _named_orders_exist(settings: Settings) -> Iterator[Mistake]:
    participation = settings.participation
    named: dict[KeyPath, str | None] = {
        ("memory", "summary", "order"): settings.memory.summary.order,
        **_paths("channel_orders", participation.channel_orders),
        **_paths("role_orders", participation.role_orders),
    }
    for path, name in named.items():
        if name is not None and name not in settings.orders:
            known = or_list(tuple(settings.orders)) if settings.orders else "none"
            yield Mistake(path, f"no order of this name in model.orders: {known}")


def _paths(key: str, values: Mapping[str, str]) -> dict[KeyPath, str]:
    return {("participation", key, name): value for name, value in values.items()}


def _order_is_not_empty(settings: Settings) -> Iterator[Mistake]:
    if not settings.model.provider_order:
        yield Mistake(("model", "provider_order"), "needs at least one provider")


def _server_names_are_usable(settings: Settings) -> Iterator[Mistake]:
    for name in settings.model.servers:
        path = ("model", "servers", name)
        if name in BUILT_IN:
            yield Mistake(path, "this name is reserved; choose another one")
        elif not _SERVER_NAME.fullmatch(name):
            yield Mistake(path, "a name is made of letters, digits, '-', '_' and '.'")


def _servers_have_an_address(settings: Settings) -> Iterator[Mistake]:
    for name, server in settings.model.servers.items():
        if server.base_url is None and server.preset is None and server.engine not in _HOMELESS:
            yield Mistake(("model", "servers", name), "needs a base_url")


def _hosted_servers_name_a_model(settings: Settings) -> Iterator[Mistake]:
    for path, server in servers(settings.model):
        if path[-1] in _HOSTED and server.enabled and server.name is None:
            yield Mistake(path, "is enabled but names no model; add `name`")


def _own_models_are_named_by_model(settings: Settings) -> Iterator[Mistake]:
    """`name` is a server's word for one of its models; `model` is a file that the bot loads."""
    for path, server in servers(settings.model):
        if not isinstance(server, LocalServer | NamedServer):
            continue
        own = server.engine == "builtin"
        unfit = ("name", "fallbacks") if own else OwnModel.model_fields
        for key in server.model_fields_set.intersection(unfit):
            if getattr(server, key) == type(server).model_fields[key].default:
                continue
            said = "engine builtin takes `model`" if own else "is for engine: builtin only"
            hint = "; other engines take `name`" if key == "model" else ""
            yield Mistake((*path, key), said + hint)


def _addresses_are_urls(settings: Settings) -> Iterator[Mistake]:
    for path, server in servers(settings.model):
        if server.base_url is not None and not _is_address(server.base_url):
            yield Mistake(
                (*path, "base_url"), "should look like http://127.0.0.1:5001 (http or https)"
            )


def _is_address(url: str) -> bool:
    if not re.fullmatch(r"https?://[^\s/?#]+[^\s?#]*", url):
        return False
    try:
        parts = urlsplit(url)
        # Reading the port validates it.
        host, port = parts.hostname, parts.port
    except ValueError:
        return False
    return host is not None and port != 0


def _headers_can_be_sent(settings: Settings) -> Iterator[Mistake]:
    for path, server in servers(settings.model):
        for name, value in server.extra_headers.items():
            here = (*path, "extra_headers", name)
            if not _HEADER_NAME.fullmatch(name):
                yield Mistake(here, "is not a valid header name")
            elif _LINE_BREAK.search(value):
                yield Mistake(here, "contains a line break, which a header cannot")


def _keys_can_be_sent(settings: Settings) -> Iterator[Mistake]:
    for path, server in servers(settings.model):
        for keyed in server.each_key():
            if keyed.secret and _LINE_BREAK.search(keyed.secret):
                problem = "contains a line break; is a closing quote missing?"
                source = keyed.api_key_env
                yield Mistake((*path, "api_key"), f"{source} {problem}" if source else problem)


def _deadlines_nest(settings: Settings) -> Iterator[Mistake]:
    deadline = settings.model.deadline
    if deadline.commit_seconds > deadline.total_seconds:
        yield Mistake(
            ("model", "deadline", "commit_seconds"),
            f"is longer than model.deadline.total_seconds ({deadline.total_seconds:g})",
        )


def _reachable_listeners_need_credentials(settings: Settings) -> Iterator[Mistake]:
    web, gateway = settings.web, settings.gateway
    if web.enabled and web.token is None and not is_loopback(web.host):
        yield Mistake(
            ("web", "host"),
            "other machines could use the page: set web.token (or UNDERSTUDY_WEB_TOKEN), "
            "or use 127.0.0.1",
        )
    if gateway.enabled and not gateway.keys and not is_loopback(gateway.host):
        yield Mistake(
            ("gateway", "host"),
            "other machines could use the gateway: add gateway.keys, or use 127.0.0.1",
        )


def _gateway_keys_have_one_source(settings: Settings) -> Iterator[Mistake]:
    for index, key in enumerate(settings.gateway.keys):
        path = ("gateway", "keys", str(index))
        if sum(source is not None for source in (key.sha256, key.env, key.key)) != 1:
            yield Mistake(path, "needs exactly one of sha256, env or key")
        elif key.sha256 is not None and not re.fullmatch(r"[0-9a-fA-F]{64}", key.sha256):
            yield Mistake((*path, "sha256"), "should be the 64 digits of `understudy gateway key`")
        elif key.key is not None and not key.key.get_secret_value().strip():
            yield Mistake(path, "is empty, which would admit clients without any key")


def _quiet_hours_are_times(settings: Settings) -> Iterator[Mistake]:
    hours, path = settings.participation.quiet_hours, ("participation", "quiet_hours")
    for key, text in (("start", hours.start), ("end", hours.end)):
        if text and not _is_time(text):
            yield Mistake((*path, key), "should be a time of day, as '23:00'")
    if bool(hours.start) != bool(hours.end):
        missing = "end" if hours.start else "start"
        yield Mistake(path, f"needs both start and end; {missing} is empty")
    if not _is_time_zone(hours.timezone):
        yield Mistake((*path, "timezone"), "should be the name of a time zone, as Europe/Berlin")


def _is_time(text: str) -> bool:
    try:
        return time.fromisoformat(text).tzinfo is None
    except ValueError:
        return False


def _is_time_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return name.upper() == "UTC"
    return True


def _discord_ids_are_numbers(settings: Settings) -> Iterator[Mistake]:
    discord = settings.discord
    lists: dict[KeyPath, tuple[str, ...]] = {("discord", "admins"): discord.admins}
    for name, access in (("allow", discord.allow), ("deny", discord.deny)):
        for key in type(access).model_fields:
            lists[("discord", name, key)] = getattr(access, key)
    for path, ids in lists.items():
        for index, entry in enumerate(ids):
            if not re.fullmatch(r"[0-9]{1,20}", entry):
                yield Mistake(
                    (*path, str(index)),
                    "should be an id, a number: in Discord, switch on developer mode, "
                    "then right-click and choose Copy ID",
                )


_RULES: tuple[Callable[[Settings], Iterator[Mistake]], ...] = (
    _order_names_exist,
    _order_is_not_empty,
    _named_orders_exist,
    _server_names_are_usable,
    _servers_have_an_address,
    _hosted_servers_name_a_model,
    _own_models_are_named_by_model,
    _addresses_are_urls,
    _headers_can_be_sent,
    _keys_can_be_sent,
    _deadlines_nest,
    _reachable_listeners_need_credentials,
    _gateway_keys_have_one_source,
    _quiet_hours_are_times,
    _discord_ids_are_numbers,
)
