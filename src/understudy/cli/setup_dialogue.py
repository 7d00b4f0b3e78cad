"""The questions of `understudy setup`, and the checks of what is answered."""

import getpass
import webbrowser
from dataclasses import dataclass, field, replace
from importlib.util import find_spec

import typer

from understudy.app.setup.discord_token import DISCORD_API, TokenReport, inspect_token
from understudy.app.setup.files import SetupAnswers, SetupFiles
from understudy.app.setup.found_servers import may_offer_own_model, not_configured
from understudy.app.setup.openrouter_key import FREE_MODELS, KEYS_PAGE, check_openrouter_key
from understudy.errors import ConfigError
from understudy.llm.http.endpoint import HttpSessions
from understudy.llm.local_discovery import (
    USUAL_PORTS,
    DiscoveredServer,
    discover_servers,
    recognise,
)

_ELSEWHERE_CONNECT_S = 3.0
_PORTAL = "https://discord.com/developers/applications"


@dataclass(frozen=True, slots=True)
class SetupFlags:
    """What the command line says; it is not asked for again."""

    name: str | None = None
    openrouter_key: str | None = field(default=None, repr=False)
    discord_token: str | None = field(default=None, repr=False)
    servers: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    add_found: bool = True
    own_model: bool | None = None
    replace: bool = False
    discord_api: str = DISCORD_API


class SetupDialogue:
    """With `asks` off, flags and defaults answer every question."""

    def __init__(self, files: SetupFiles, flags: SetupFlags, *, asks: bool) -> None:
        self._files = files
        self._settings = files.settings
        self._flags = flags
        self._asks = asks
        self._sessions = HttpSessions()
        self._answers = SetupAnswers()

    async def run(self) -> SetupAnswers:
        """Ask everything. Raises ConfigError for a flag that cannot be used."""
        if self._asks:
            typer.echo("Setup of Understudy. Every question can be skipped with Enter.\n")
        try:
            await self._servers()
            await self._openrouter()
            self._own_model()
            await self._discord()
            self._name()
        finally:
            await self._sessions.aclose()
        return self._answers

    async def _servers(self) -> None:
        typer.echo("Looking for model servers on this machine ...")
        ports = self._flags.ports or USUAL_PORTS
        found = await discover_servers(self._sessions, ports)
        for near in found:
            new = bool(not_configured([near], self._settings.model))
            typer.echo(f"  {near.label}{'' if new else ', already configured'}")
            if new and self._flags.add_found and self._confirm("  Add it?", default=True):
                self._add(near)
        if not found:
            typer.echo("  none found")
        for address in self._flags.servers:
            self._add(await self._server_at(address))
        if self._asks and not self._flags.servers:
            await self._ask_for_addresses()

    async def _ask_for_addresses(self) -> None:
        while address := self._text(
            "Address of a model server elsewhere, such as http://192.168.1.5:5001 (Enter: none)"
        ):
            try:
                near = await self._server_at(address)
            except ConfigError as error:
                typer.echo(f"  {error}")
                continue
            typer.echo(f"  {near.label}")
            self._add(near)

    async def _server_at(self, address: str) -> DiscoveredServer:
        try:
            near = await recognise(self._sessions, address, _ELSEWHERE_CONNECT_S)
        except ValueError:
            near = None
        if near is None:
            raise ConfigError(f"No model server answers at {address}.")
        return near

    def _add(self, near: DiscoveredServer) -> None:
        keys = dict(self._answers.server_keys)
        if near.needs_key and (key := self._hidden("  It wants a key (Enter: later)")):
            keys[near.base_url] = key
        if any(near.base_url == other.base_url for other in self._answers.servers):
            return
        self._answers = replace(
            self._answers, servers=(*self._answers.servers, near), server_keys=keys
        )

    async def _openrouter(self) -> None:
        server = self._settings.model.openrouter
        typer.echo(f"\nOpenRouter: many hosted models with one key from {KEYS_PAGE}")
        typer.echo(f"{FREE_MODELS}")
        given = self._flags.openrouter_key
        if not self._may_replace("The OpenRouter key", server.secret, given):
            return
        while key := given or self._hidden("OpenRouter key (Enter: none)"):
            report = await check_openrouter_key(key, self._sessions, server.base_url)
            typer.echo(f"  {report.text}")
            if report.accepted is not False:
                self._answers = replace(self._answers, openrouter_key=key)
                return
            if given:
                raise ConfigError("Nothing was written.")

    def _own_model(self) -> None:
        if find_spec("xllamacpp") is None or not may_offer_own_model(self._settings.model):
            if self._flags.own_model:
                raise ConfigError(
                    "The built-in model is not available, or already configured. "
                    "Install it with the extra [builtin]."
                )
            return
        wanted = self._flags.own_model
        if wanted is None:
            typer.echo("\nA small model of the bot's own can answer when nothing else does.")
            wanted = self._asks and self._confirm("Fetch it (93 MB, once)?", default=False)
        self._answers = replace(self._answers, own_model=wanted)

    async def _discord(self) -> None:
        typer.echo(f"\nDiscord: a bot token from {_PORTAL} → your application → Bot")
        given = self._flags.discord_token
        present = self._settings.discord.token
        known = None if present is None else present.get_secret_value()
        if not self._may_replace("The Discord token", known, given):
            return
        while token := given or self._hidden("Discord token (Enter: none)"):
            report = await inspect_token(token, self._sessions, self._flags.discord_api)
            if report.accepted is not False:
                self._answers = replace(self._answers, discord_token=token)
                await self._accepted(token, report)
                return
            typer.echo(f"  {report.problem}.")
            if given:
                raise ConfigError("Nothing was written.")

    async def _accepted(self, token: str, report: TokenReport) -> None:
        if report.accepted is None:
            typer.echo(f"  The token could not be tested: {report.problem}.")
            return
        typer.echo(f"  The token works: {report.name or 'an application'}.")
        while not report.reads_messages and self._settings.discord.message_content:
            typer.echo(
                "  Message Content Intent is off, so the bot would read only mentions and direct "
                f"messages.\n  Switch it on at {_PORTAL} → Bot, or go on without."
            )
            if not self._confirm("  Check again?", default=False):
                self._answers = replace(self._answers, mentions_only=True)
                break
            report = await inspect_token(token, self._sessions, self._flags.discord_api)
        if report.invite:
            typer.echo(f"  Invite it to a server: {report.invite}")
            if self._asks and self._confirm("  Open that in a browser?", default=False):
                webbrowser.open(report.invite)

    def _name(self) -> None:
        current = self._settings.persona.name
        name = self._flags.name
        if name is None and self._asks:
            typer.echo()
            name = self._text("Name of the bot", current)
        if name is not None and name.strip() and name.strip() != current:
            self._answers = replace(self._answers, name=name.strip())

    def _may_replace(self, what: str, present: str | None, given: str | None) -> bool:
        """Whether a secret may be set: there is none, it is the same, or replacing is allowed."""
        if present is None or self._flags.replace:
            return True
        if given is not None and not self._asks:
            if given == present:
                return False
            raise ConfigError(f"{what} is set already. Replace it with --replace.")
        typer.echo(f"  {what[0].upper()}{what[1:]} is set.")
        return self._asks and self._confirm("  Replace it?", default=False)

    def _confirm(self, question: str, *, default: bool) -> bool:
        return typer.confirm(question, default=default) if self._asks else default

    def _text(self, question: str, default: str = "") -> str:
        if not self._asks:
            return default
        answer: str = typer.prompt(question, default=default, show_default=bool(default))
        return answer.strip()

    def _hidden(self, question: str) -> str:
        if not self._asks:
            return ""
        try:
            # Unlike typer's own, it shows the question when the terminal is ready for the answer.
            return getpass.getpass(f"{question}: ").strip()
        except EOFError:
            raise typer.Abort from None
