"""Serves `/setup` while no model server is usable, until one is."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import structlog

from understudy.app.one_shot import FIRST_MESSAGE, ask_once
from understudy.app.setup.discord_token import DISCORD_API, inspect_token
from understudy.app.setup.files import SetupAnswers, load_written, plan, read_files, write
from understudy.app.setup.found_servers import may_offer_own_model, not_configured
from understudy.app.setup.openrouter_key import FREE_MODELS, check_openrouter_key
from understudy.app.systemd import service_notifications
from understudy.clock import Clock
from understudy.config.load import DEFAULT_FILE, Config
from understudy.config.watch import watch_config
from understudy.errors import ConfigError, ModelFileError
from understudy.http_server.asgi import AsgiApplication
from understudy.http_server.auth_throttle import AuthThrottle
from understudy.http_server.refusal import refuse
from understudy.http_server.server import WebServer
from understudy.llm.http.endpoint import HttpSessions
from understudy.llm.local_discovery import (
    USUAL_PORTS,
    DiscoveredServer,
    discover_servers,
    recognise,
)
from understudy.observability.logs import Logs
from understudy.platforms.web.api import ApiError
from understudy.platforms.web.auth import Access, check_host, load_operator_token
from understudy.platforms.web.setup_page import (
    Saved,
    SetupActions,
    SetupForm,
    SetupView,
    Tested,
    build_setup_site,
)
from understudy.routing.candidates import usable_providers
from understudy.routing.records import describe_route
from understudy.signals import on_signals, stop_signals
from understudy.storage.files import storage_files

_log = structlog.get_logger()
_ELSEWHERE_CONNECT_S = 3.0


@dataclass(frozen=True, slots=True)
class SetupSources:
    """What the page queries."""

    ports: tuple[int, ...] = USUAL_PORTS
    discord_api: str = DISCORD_API


@dataclass(slots=True)
class SetupSite:
    """The setup of one configuration file."""

    config: Config
    logs: Logs
    where: SetupSources = field(default_factory=SetupSources)
    url: str = ""
    login: str = ""
    """A one-time link that logs one browser in as operator."""
    _sessions: HttpSessions = field(default_factory=HttpSessions)
    _saving: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def file(self) -> Path:
        return self.config.path or Path(DEFAULT_FILE)

    @asynccontextmanager
    async def serve(self) -> AsyncGenerator[None]:
        """Raises ConfigError where the address is in use or not safe."""
        settings = self.config.settings
        check_host(settings.web)
        chat_token = settings.web.chat_token
        token_file = storage_files(settings.storage, self.file.parent).beside("web-token")
        access = Access(
            operator_token=load_operator_token(settings.web, token_file),
            chat_token=chat_token.get_secret_value() if chat_token is not None else None,
            free_chat=False,
            clock=Clock().wall,
        )
        actions = SetupActions(
            self._view, self._test_server, self._test_openrouter_key, self._test_token, self._save
        )
        name, hosts = settings.persona.name, tuple(settings.web.allowed_hosts)
        site = AuthThrottle(
            build_setup_site(access, name, actions, hosts),
            lambda send, s: refuse(send, f"Too many wrong tokens. Try again in {s} s.", s),
            failed=(303, 401, 403),
            login_path="/login",
        )
        try:
            async with WebServer(
                AsgiApplication(site), settings.web.host, settings.web.port
            ) as server:
                self.url = server.url
                self.login = f"{server.url}/login?code={access.new_link_code()}"
                yield
        finally:
            await self._sessions.aclose()

    async def until_usable(self) -> Config:
        """Wait for a configuration with a usable server, written here or in an editor."""
        async for _ in watch_config(self.file, self.config.stamp):
            async with self._saving:
                try:
                    config = await asyncio.to_thread(load_written, self.file)
                except ConfigError as error:
                    _log.error("config.refused", said=str(error), still=self.config.rev)
                    continue
            if usable_providers(config.settings.model):
                return config
        raise AssertionError("the watch has no end")

    async def _view(self) -> SetupView:
        settings = (await asyncio.to_thread(read_files, self.file)).settings
        found = not_configured(
            await discover_servers(self._sessions, self.where.ports), settings.model
        )
        return SetupView(
            name=settings.persona.name,
            servers=tuple({"address": near.base_url, "label": near.label} for near in found),
            openrouter_key_set=settings.model.openrouter.api_key is not None,
            discord_token_set=settings.discord.token is not None,
            own_model=find_spec("xllamacpp") is not None and may_offer_own_model(settings.model),
            free_models=FREE_MODELS,
        )

    async def _test_server(self, address: str) -> Tested:
        near = await self._server_at(address)
        return Tested(accepted=True, text=near.label, address=near.base_url)

    async def _server_at(self, address: str) -> DiscoveredServer:
        near = None
        with suppress(ValueError):
            near = await recognise(self._sessions, address, _ELSEWHERE_CONNECT_S)
        if near is None:
            raise ApiError(400, f"No model server answers at {address}.")
        return near

    async def _test_openrouter_key(self, key: str) -> Tested:
        base_url = self.config.settings.model.openrouter.base_url
        report = await check_openrouter_key(key, self._sessions, base_url)
        return Tested(report.accepted, report.text)

    async def _test_token(self, token: str) -> Tested:
        report = await inspect_token(token, self._sessions, self.where.discord_api)
        if not report.accepted:
            return Tested(report.accepted, f"{report.problem}.")
        text = f"The token works: {report.name or 'an application'}."
        if not report.reads_messages:
            text += (
                "\nMessage Content Intent is off: switch it on in the portal (Bot) and test again, "
                "or the bot will read only mentions and direct messages."
            )
        return Tested(
            accepted=True,
            text=text,
            invite=report.invite,
            mentions_only=not report.reads_messages,
        )

    async def _save(self, form: SetupForm) -> Saved:
        async with self._saving:
            try:
                return await self._save_alone(form)
            except (ConfigError, ModelFileError) as error:
                raise ApiError(400, str(error)) from None

    async def _save_alone(self, form: SetupForm) -> Saved:
        await self._refuse_bad_secrets(form)
        servers = [await self._server_at(address) for address in form.servers]
        files = await asyncio.to_thread(read_files, self.file)
        if form.own_model:
            await asyncio.to_thread(_fetch_own_model)
        answers = SetupAnswers(
            servers=not_configured(servers, files.settings.model),
            own_model=form.own_model,
            openrouter_key=form.openrouter_key or None,
            discord_token=form.discord_token or None,
            mentions_only=form.mentions_only,
            name=form.name or None,
        )
        written = await asyncio.to_thread(lambda: write(plan(files, answers)))
        config = await asyncio.to_thread(load_written, self.file)
        names = tuple(path.name for path in written)
        if not usable_providers(config.settings.model):
            return Saved(names, usable=False)
        answer = await ask_once(config, self.logs, FIRST_MESSAGE)
        name, route = config.settings.persona.name, describe_route(answer.record.attempts)
        return Saved(names, usable=True, reply=f"{name}: {answer.text}", route=route)

    async def _refuse_bad_secrets(self, form: SetupForm) -> None:
        for value, test in (
            (form.openrouter_key, self._test_openrouter_key),
            (form.discord_token, self._test_token),
        ):
            if value and (tested := await test(value)).accepted is False:
                raise ApiError(400, tested.text)


async def serve_setup(
    config: Config, logs: Logs, announce: Callable[[SetupSite], None]
) -> Config | None:
    """Serve the setup until a server is usable. `None` when a signal asked to stop."""
    site = SetupSite(config, logs)
    stopped = asyncio.Event()
    async with site.serve(), service_notifications(stopping=False):
        announce(site)
        usable = asyncio.create_task(site.until_usable())
        stop = asyncio.create_task(stopped.wait())
        try:
            with on_signals(stop_signals(), stopped.set):
                await asyncio.wait({usable, stop}, return_when=asyncio.FIRST_COMPLETED)
            return usable.result() if usable.done() else None
        finally:
            usable.cancel()
            stop.cancel()
            await asyncio.wait({usable, stop})


def _fetch_own_model() -> None:
    from understudy.llm.builtin.options import require_llama_cpp
    from understudy.model_files.catalogue import SMALLEST
    from understudy.model_files.folder import ModelFolder, default_folder
    from understudy.model_files.get import Fetcher

    require_llama_cpp()
    Fetcher(ModelFolder(default_folder()), _NoProgress()).get(SMALLEST)


class _NoProgress:
    """The page shows no progress of a download."""

    def begin(self, what: str, total: int, done: int = 0) -> None:
        """See `Progress`."""

    def advance(self, count: int) -> None:
        """See `Progress`."""
