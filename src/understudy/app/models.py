"""The router of the current configuration, replaced when that changes."""

from collections.abc import Awaitable
from dataclasses import replace
from pathlib import Path

from understudy.config.load import Config
from understudy.config.masking import scrubber
from understudy.config.providers import LocalServer, ModelSettings, NamedServer, Server
from understudy.config.settings import Settings
from understudy.llm.builtin.servers import BuiltinServers
from understudy.llm.client import LLMClient
from understudy.llm.http.endpoint import HttpSessions
from understudy.llm.pricing import PriceBook
from understudy.llm.registry import build_client, builtin_options
from understudy.routing.candidates import build_candidates
from understudy.routing.environment import RouterEnvironment, RouterRules
from understudy.routing.request import ReplyEnded, ReplyRequest, ReplySink
from understudy.routing.router import ModelRouter
from understudy.routing.router_state import RouterState
from understudy.routing.timeouts import Deadline


class ReloadableRouter:
    """Builds routers from configurations. A reply uses one router from beginning to end."""

    def __init__(self, config: Config, environment: RouterEnvironment) -> None:
        """Raises ConfigError where a provider's entry lacks what its engine needs."""
        self._sessions = HttpSessions()
        base = config.path.parent if config.path is not None else Path()
        self._builtin = BuiltinServers(self._sessions, base=base, clock=environment.clock)
        self._environment = environment
        self._memory = RouterState.fresh(environment.clock, environment.random)
        self._clients: list[LLMClient] = []
        self.router = self._build(config)
        self._load_models(config.settings)

    @property
    def prices(self) -> PriceBook:
        return self._environment.prices

    def use(self, config: Config) -> None:
        """Applies from the next reply on. Raises ConfigError, and then nothing has changed."""
        self.router = self._build(config)
        self._load_models(config.settings)
        self._memory.forgive()

    def reply(self, request: ReplyRequest, sink: ReplySink) -> Awaitable[ReplyEnded]:
        """As `ModelRouter.reply`, of the current router."""
        return self.router.reply(request, sink)

    def reset(self, provider: str | None) -> None:
        """End the cooldowns of one provider, or of all."""
        self.router.reset(provider)

    async def aclose(self) -> None:
        await self._memory.aclose()
        for client in self._clients:
            await client.aclose()
        await self._builtin.aclose()
        await self._sessions.aclose()

    def _build(self, config: Config) -> ModelRouter:
        model = config.settings.model
        quotes = config.settings.debug.error_text
        return ModelRouter(
            build_candidates(model, self._client, config.settings.orders.values()),
            _rules(model, config.rev),
            memory=self._memory,
            instruments=replace(
                self._environment, scrub=scrubber(config.settings) if quotes else None
            ),
        )

    def _load_models(self, settings: Settings) -> None:
        """Begin to load what is to be there from the start; end what is no longer in use."""
        model = settings.model
        orders = (model.provider_order, *settings.orders.values())
        named = {entry.partition("/")[0] for order in orders for entry in order}
        entries: dict[str, LocalServer | NamedServer] = {"local": model.local, **model.servers}
        in_use = set()
        for name, server in entries.items():
            options = builtin_options(server)
            if options is None or not server.enabled or name not in named:
                continue
            in_use.add(options)
            if server.preload:
                self._builtin.server(options).start()
        self._builtin.keep(in_use)

    def _client(self, name: str, server: Server) -> LLMClient:
        client = build_client(
            name, server, sessions=self._sessions, key=server.secret, builtin=self._builtin
        )
        # Replaced clients may still be in use; they hold little, and `aclose` closes them.
        self._clients.append(client)
        return client


def _rules(model: ModelSettings, rev: str) -> RouterRules:
    deadline = Deadline(model.deadline.commit_seconds, model.deadline.total_seconds)
    return RouterRules(
        deadline=deadline,
        max_attempts=model.max_attempts,
        stop_on_content_policy=model.on_content_policy == "stop",
        keep_partial_chars=model.keep_partial_chars,
        config_rev=rev,
    )
