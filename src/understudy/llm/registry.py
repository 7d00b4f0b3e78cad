"""The table of engines, and the one way to make a client."""

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from understudy.clock import SYSTEM_CLOCK, Clock
from understudy.config.providers import (
    ChutesServer,
    Engine,
    LocalServer,
    NamedServer,
    NanoGptServer,
    OpenRouterServer,
    Server,
)
from understudy.errors import ConfigError
from understudy.llm.builtin.options import BuiltinOptions, require_llama_cpp
from understudy.llm.client import LLMClient
from understudy.llm.dialect import Dialect
from understudy.llm.engines import chutes, koboldcpp, llama_cpp, nanogpt, openrouter, textgen_webui
from understudy.llm.engines.builtin import BuiltinClient, ModelServer
from understudy.llm.engines.openai import OpenAICompatibleClient
from understudy.llm.http.endpoint import HttpSessions
from understudy.llm.model_list import nearest
from understudy.llm.openai_client import OpenAIClient, ServerFacts
from understudy.llm.presets import PRESETS

_OWN_REPLY_TOKENS = 300

MakeClient = Callable[[ServerFacts, Dialect, HttpSessions, Clock], OpenAIClient]


class ModelServers(Protocol):
    """Owns the processes of built-in models."""

    def server(self, options: BuiltinOptions) -> ModelServer:
        """The one of these options; equal options share it."""
        ...


ENGINES: dict[Engine, tuple[MakeClient, Dialect]] = {
    "openrouter": (openrouter.OpenRouterClient, openrouter.DIALECT),
    "chutes": (chutes.ChutesClient, chutes.DIALECT),
    "nanogpt": (nanogpt.NanoGptClient, nanogpt.DIALECT),
    "koboldcpp": (koboldcpp.LocalKoboldClient, koboldcpp.DIALECT),
    "llama.cpp": (llama_cpp.LlamaCppClient, llama_cpp.DIALECT),
    "textgen-webui": (textgen_webui.TextgenWebuiClient, textgen_webui.DIALECT),
    "openai": (OpenAICompatibleClient, PRESETS["generic"]),
    "builtin": (
        llama_cpp.LlamaCppClient,
        # Each idle connection would hold one of the process's few HTTP threads, and be closed by
        # it when another waits; on loopback a new one costs nothing.
        replace(
            llama_cpp.DIALECT, engine="builtin", base_url="http://127.0.0.1/v1", keepalive_s=0.0
        ),
    ),
}
"""Every engine with its dialect. docs/architecture.md lists what a new one needs."""


def engine_of(server: Server) -> Engine:
    """The dialect of a server entry: named by it, or by its section."""
    if isinstance(server, LocalServer | NamedServer):
        return server.engine
    if isinstance(server, OpenRouterServer):
        return "openrouter"
    if isinstance(server, ChutesServer):
        return "chutes"
    return "nanogpt"


def build_client(
    name: str,
    server: Server,
    *,
    sessions: HttpSessions,
    key: str | None = None,
    builtin: ModelServers | None = None,
    clocks: Clock = SYSTEM_CLOCK,
) -> LLMClient:
    """Make the client of the provider called `name`; `key` is the one found for it.

    `builtin` owns the processes of built-in models. Raises `ConfigError` where the entry lacks
    what its engine needs.
    """
    make, dialect = ENGINES[engine_of(server)]
    preset = server.preset if isinstance(server, NamedServer) else None
    if preset is not None:
        dialect = _preset(name, preset)
    facts = _facts(server, key)
    options = builtin_options(server)
    if options is not None:
        if builtin is None:
            raise ConfigError(f"{name}: built-in models are not available here")
        if server.enabled:
            require_llama_cpp()
        facts = replace(facts, sampling=_own_sampling(server))
        return BuiltinClient(
            builtin.server(options),
            lambda at: make(replace(facts, base_url=at.url, key=at.key), dialect, sessions, clocks),
            clocks.monotonic,
        )
    try:
        return make(facts, dialect, sessions, clocks)
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None


def base_url_of(server: Server) -> str:
    """The address a server entry leads to, its engine's usual one where it names none."""
    dialect = ENGINES[engine_of(server)][1]
    preset = server.preset if isinstance(server, NamedServer) else None
    if preset in PRESETS:
        dialect = PRESETS[preset]
    own = None if engine_of(server) == "builtin" else server.base_url
    return own or dialect.base_url or ""


def builtin_options(server: Server) -> BuiltinOptions | None:
    """How a server entry's own model is loaded; `None` where it has none."""
    if not isinstance(server, LocalServer | NamedServer) or server.engine != "builtin":
        return None
    return BuiltinOptions(
        model=server.model,
        mmproj=server.mmproj,
        context_length=server.context_length,
        parallel=server.parallel,
        threads=server.threads,
        gpu_layers=server.gpu_layers,
        chat_template=server.chat_template,
        memory_limit_mb=server.memory_limit_mb,
        idle_unload_minutes=server.idle_unload_minutes,
    )


def _preset(name: str, preset: str) -> Dialect:
    if preset in PRESETS:
        return replace(PRESETS[preset])
    near = nearest(preset, tuple(PRESETS))
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ConfigError(
        f"{name}: there is no preset {preset!r}; {hint}known are: {', '.join(PRESETS)}"
    )


def _own_sampling(server: Server) -> dict[str, object]:
    """Without defaults meant for servers of others: the model's own hold. Replies have an end,
    since a tiny model may find none."""
    written: dict[str, object] = {
        name: getattr(server, name)
        for name in ("temperature", "top_p")
        if name in server.model_fields_set and getattr(server, name) is not None
    }
    length = {"max_tokens": server.max_tokens or _OWN_REPLY_TOKENS}
    return length | written | dict(server.extra_body)


def _facts(server: Server, key: str | None) -> ServerFacts:
    sampling: dict[str, object] = {
        "max_tokens": server.max_tokens,
        "temperature": server.temperature,
        "top_p": server.top_p,
    }
    set_sampling = {k: v for k, v in sampling.items() if v is not None}
    facts = ServerFacts(
        base_url=server.base_url,
        key=key,
        sampling=set_sampling | dict(server.extra_body),
        headers=server.extra_headers,
        connect_timeout_s=server.connect_timeout_seconds,
        max_concurrency=server.max_concurrency,
        vision=None if server.vision == "auto" else server.vision,
        context_length=server.context_length,
    )
    if isinstance(server, NanoGptServer | NamedServer):
        facts = replace(facts, mode=server.mode, auth=server.auth)
    if isinstance(server, OpenRouterServer | NamedServer):
        facts = replace(facts, provider=server.provider)
    if isinstance(server, LocalServer | NamedServer):
        facts = replace(facts, chat_template=server.chat_template)
    return facts
