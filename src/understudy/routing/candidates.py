"""Builds the candidates of the configured order: one for each model of each provider."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

from understudy.config.providers import ModelSettings, NamedServer, NanoGptServer, Server
from understudy.errors import HoldScope
from understudy.llm.addresses import api_root, host_of, is_local
from understudy.llm.builtin.options import model_alias
from understudy.llm.capabilities import NOTHING_KNOWN, Capabilities, ModelKey
from understudy.llm.client import LLMClient
from understudy.llm.registry import ENGINES, base_url_of, builtin_options, engine_of
from understudy.routing.records import SkipReason
from understudy.routing.timeouts import USUAL_LIMITS, Limits, budget


class ScopeKey(NamedTuple):
    """What a cooldown skips."""

    scope: HoldScope
    provider: str
    name: str
    """The endpoint, the key's name or the model."""


@dataclass(frozen=True, eq=False)
class Candidate:
    provider: str
    """Its name in the order; `auto` belongs to `openrouter`."""
    model: str
    """Empty where the server chooses."""
    label: str
    """Its name for people: the provider, `local/<engine>` for `local`."""
    engine: str
    client: LLMClient
    limits: Limits = USUAL_LIMITS
    endpoint: str = ""
    """The base URL; with the provider's name it identifies what fails together."""
    endpoint_host: str = ""
    key_ref: str | None = None
    """The name its key was found under, never the key."""
    local: bool = False
    """An engine of the operator's own: cheap to probe, and down after one refused connection."""
    reply_tokens: int = 512
    """Tokens to keep free for the reply."""
    max_concurrency: int | None = None
    queue_length: int | None = None
    """The most requests that may queue for it; `None` is the usual number."""
    capabilities: Capabilities = NOTHING_KNOWN
    """What the operator configured; overrides everything learned."""
    silently_drops_images: bool = False
    """Accepts images without seeing them, so vision must be known."""
    off: SkipReason | None = None
    """`disabled` or `no_key`: listed, never tried."""
    only_by_name: bool = False
    """Not in `provider_order`: asked where an order names it."""

    @cached_property
    def key(self) -> ModelKey:
        return ModelKey(self.provider, self.model)

    @cached_property
    def name(self) -> str:
        return f"{self.provider}/{self.model}"

    def scope_key(self, scope: HoldScope) -> ScopeKey:
        names = {
            HoldScope.ENDPOINT: self.endpoint,
            HoldScope.KEY: self.key_ref or "",
            HoldScope.KEY_FREE: self.key_ref or "",
            HoldScope.MODEL: self.model,
        }
        return ScopeKey(scope, self.provider, names[scope])

    @cached_property
    def scope_keys(self) -> tuple[ScopeKey, ...]:
        """Every cooldown that can skip this candidate."""
        scopes = [HoldScope.ENDPOINT, HoldScope.KEY, HoldScope.MODEL]
        if self.model.endswith(":free"):
            scopes.append(HoldScope.KEY_FREE)
        return tuple(self.scope_key(scope) for scope in scopes)

    def answers_to(self, name: str) -> bool:
        """Whether `name` in an order means this candidate: its provider, or provider/model."""
        return name in (self.provider, self.name)


AUTO = "auto"
AUTO_MODEL = "openrouter/auto"
_HOSTED = frozenset(("openrouter", "chutes", "nanogpt"))
_OWN_ENGINES = frozenset(("koboldcpp", "llama.cpp", "textgen-webui", "builtin"))
_REPLY_TOKENS = 512
_LOCAL_CROWD = 8

BuildClient = Callable[[str, Server], LLMClient]


@dataclass(frozen=True, slots=True)
class _Entry:
    provider: str
    model: str
    label: str
    server: Server
    off: SkipReason | None
    number: int = 1
    """Of the key, where the server has several."""
    only_by_name: bool = False


def build_candidates(
    settings: ModelSettings, build: BuildClient, orders: Iterable[Sequence[str]] = ()
) -> tuple[Candidate, ...]:
    """Return every candidate in order, those that are off included, then those that only `orders`
    name.

    Calls `build` once for each key of each provider; raises what it raises.
    """
    clients: dict[tuple[str, str | None], LLMClient] = {}
    made = []
    for entry in (*_entries(settings), *_only_in(orders, settings)):
        account = (entry.provider, entry.server.secret)
        if account not in clients:
            clients[account] = build(entry.provider, entry.server)
        made.append(_candidate(entry, clients[account]))
    return tuple(made)


def usable_providers(settings: ModelSettings) -> tuple[str, ...]:
    """Return the providers of the order that are enabled and have their key."""
    return tuple(dict.fromkeys(e.provider for e in _entries(settings) if e.off is None))


def waiting_split(settings: ModelSettings) -> tuple[str, ...]:
    """Return a line per usable candidate: its first-token budget if all before it are silent."""
    usable = [entry for entry in _entries(settings) if entry.off is None]
    remaining = settings.deadline.commit_seconds
    lines = []
    for index, entry in enumerate(usable):
        spend = budget(
            limits_of(entry.server),
            remaining_s=max(remaining, 0),
            total_s=settings.deadline.total_seconds,
            later=len(usable) - index - 1,
        )
        lines.append(f"{spend.first_token_s:5.1f} s  {entry.label} {entry.model}".rstrip())
        remaining -= spend.first_token_s
    return tuple(lines) or ("no provider is usable: enable one, or set its key",)


def limits_of(server: Server) -> Limits:
    """Return the configured limits, or the defaults of a hosted or a local server."""
    local = _is_local(server)
    patience = 45.0 if server.reasoning else 8.0 if local else 20.0
    whole = server.total_timeout_seconds if server.answers_in_one_piece else None
    return Limits(
        first_token_s=whole or server.timeout_seconds or patience,
        idle_s=server.idle_timeout_seconds or (30.0 if local else 20.0),
        total_s=server.total_timeout_seconds or (180.0 if local else 120.0),
        queue_s=server.queue_timeout_seconds,
        strict=server.strict_timeout,
    )


def _entries(settings: ModelSettings) -> Iterator[_Entry]:
    for name in settings.provider_order:
        yield from _entries_of(name, settings)


def _only_in(orders: Iterable[Sequence[str]], settings: ModelSettings) -> Iterator[_Entry]:
    """The entries of servers that `orders` name and `provider_order` does not."""
    named = dict.fromkeys(entry.partition("/")[0] for order in orders for entry in order)
    for name in named:
        if name not in settings.provider_order:
            yield from (replace(e, only_by_name=True) for e in _entries_of(name, settings))


def _entries_of(name: str, settings: ModelSettings) -> Iterator[_Entry]:
    if name == AUTO:
        yield from _per_key(_auto(settings))
        return
    servers: Mapping[str, Server] = {
        "openrouter": settings.openrouter,
        "chutes": settings.chutes,
        "nanogpt": settings.nanogpt,
        "local": settings.local,
        **settings.servers,
    }
    server = servers[name]
    label = f"local/{settings.local.engine}" if name == "local" else name
    for model in _models_of(server):
        yield from _per_key(_Entry(name, model, label, server, _why_off(server)))


def _per_key(entry: _Entry) -> Iterator[_Entry]:
    """The entry once for each key of its server."""
    servers = entry.server.each_key()
    if len(servers) == 1:
        yield replace(entry, server=servers[0])
        return
    for number, server in enumerate(servers, 1):
        label = f"{entry.label} (key {number})"
        yield replace(entry, label=label, server=server, number=number)


def _models_of(server: Server) -> tuple[str, ...]:
    own = builtin_options(server)
    if own is not None:
        return (model_alias(own.model),)
    return tuple(dict.fromkeys((server.name or "", *server.fallbacks)))


def _auto(settings: ModelSettings) -> _Entry:
    server = settings.openrouter
    off = _why_off(server) if server.allow_auto_fallback else SkipReason.DISABLED
    return _Entry("openrouter", AUTO_MODEL, AUTO, server, off)


def _why_off(server: Server) -> SkipReason | None:
    if not server.enabled:
        return SkipReason.DISABLED
    keyless = isinstance(server, NanoGptServer | NamedServer) and server.auth == "none"
    wanted = engine_of(server) in _HOSTED or server.api_key_env is not None
    missing = server.api_key is None and wanted and not keyless
    return SkipReason.NO_KEY if missing else None


def _is_local(server: Server) -> bool:
    return engine_of(server) in _OWN_ENGINES or is_local(base_url_of(server))


def _usual_concurrency(server: Server) -> int | None:
    """For servers that queue by themselves, and for built-in models; the others report their
    slots, or process one request at a time."""
    own = builtin_options(server)
    if own is not None:
        return own.parallel
    return _LOCAL_CROWD if _is_local(server) and engine_of(server) == "openai" else None


def _configured(server: Server) -> Capabilities:
    vision = None if server.vision == "auto" else server.vision
    if vision is None and server.context_length is None:
        return NOTHING_KNOWN
    return Capabilities(vision=vision, n_ctx=server.context_length)


def _candidate(entry: _Entry, client: LLMClient) -> Candidate:
    server, engine = entry.server, engine_of(entry.server)
    endpoint = api_root(base_url_of(server))
    return Candidate(
        provider=entry.provider,
        model=entry.model,
        label=entry.label,
        engine=engine,
        client=client,
        limits=limits_of(server),
        endpoint=endpoint,
        endpoint_host=host_of(endpoint),
        key_ref=_key_ref(entry),
        local=_is_local(server),
        reply_tokens=server.max_tokens or _REPLY_TOKENS,
        max_concurrency=server.max_concurrency or _usual_concurrency(server),
        queue_length=server.queue_length,
        capabilities=_configured(server),
        silently_drops_images=not ENGINES[engine][1].refuses_images_loudly,
        off=entry.off,
        only_by_name=entry.only_by_name,
    )


def _key_ref(entry: _Entry) -> str | None:
    named = entry.server.api_key_env
    if isinstance(named, tuple):
        return " or ".join(named)
    if named is None and entry.server.secret is not None:
        return "api_key" if entry.number == 1 else f"api_key {entry.number}"
    return named
