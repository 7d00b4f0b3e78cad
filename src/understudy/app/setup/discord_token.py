"""Checks that Discord accepts the token and lets the bot read messages."""

from dataclasses import dataclass

import msgspec
from pydantic import SecretStr

from understudy.config.settings import Discord
from understudy.errors import NOT_JSON, ErrorClass, ProviderError
from understudy.llm.http.endpoint import Endpoint, HttpSessions, Pool

DISCORD_API = "https://discord.com/api/v10"
_MESSAGE_CONTENT = 1 << 18 | 1 << 19
"""Application flags of Message Content Intent: approved for large bots, and limited."""
_CONNECT_S = 5.0


@dataclass(frozen=True, slots=True)
class Check:
    """One check besides the providers; `advice` is empty when there is none to give."""

    name: str
    ok: bool
    advice: str = ""
    off: bool = False
    """Not in use, so neither good nor bad."""


class _Application(msgspec.Struct):
    id: str = ""
    name: str = ""
    flags: int = 0


@dataclass(frozen=True, slots=True)
class TokenReport:
    """What Discord says of a bot token."""

    accepted: bool | None
    """`None` where Discord could not be asked."""
    problem: str = ""
    name: str = ""
    """Of the application."""
    invite: str = ""
    reads_messages: bool = False
    """Whether Message Content Intent is on."""


def discord_endpoint(token: SecretStr, sessions: HttpSessions, api: str) -> Endpoint:
    """Discord's HTTP interface with the bot's token."""
    return Endpoint(
        sessions,
        api,
        headers={"Authorization": f"Bot {token.get_secret_value()}"},
        pool=Pool(_CONNECT_S, keepalive_s=15.0),
    )


async def inspect_token(token: str, sessions: HttpSessions, api: str = DISCORD_API) -> TokenReport:
    """Ask Discord about the application of a token; changes nothing there."""
    endpoint = discord_endpoint(SecretStr(token), sessions, api)
    try:
        answer = await endpoint.ask("GET", "/oauth2/applications/@me")
    except ProviderError as error:
        return TokenReport(None, _unreachable(error))
    if answer.status == 401:
        return TokenReport(accepted=False, problem="Discord refuses the token")
    try:
        application = msgspec.json.decode(answer.body, type=_Application)
    except NOT_JSON:
        application = None
    if answer.status != 200 or application is None:
        return TokenReport(None, f"Discord answered with HTTP {answer.status}: try again later")
    return TokenReport(
        accepted=True,
        name=application.name,
        invite=_invitation(application.id),
        reads_messages=bool(application.flags & _MESSAGE_CONTENT),
    )


async def check_discord(settings: Discord, sessions: HttpSessions, api: str = DISCORD_API) -> Check:
    """Check the configured token and its intents; changes nothing at Discord."""
    if not settings.enabled:
        return Check("discord", ok=True, advice="off (discord.enabled: false)", off=True)
    if settings.token is None:
        return Check("discord", ok=True, advice=f"off (no {_where(settings)})", off=True)
    report = await inspect_token(settings.token.get_secret_value(), sessions, api)
    if not report.accepted:
        advice = report.problem
        if report.accepted is False:
            advice += f": copy it again from the Bot page into {_where(settings)}"
        return Check("discord", ok=False, advice=advice)
    if settings.message_content and not report.reads_messages:
        advice = (
            "Message Content Intent is off: switch it on on the Bot page of Discord's developer "
            "portal, or set discord.message_content: false"
        )
        return Check("discord", ok=False, advice=advice)
    invitation = f"invite the bot with {report.invite}" if report.invite else ""
    return Check("discord", ok=True, advice=invitation)


def _invitation(application_id: str) -> str:
    if not application_id.isdigit():
        return ""
    # Importing discord.py is slow; only a configuration with a token pays for it.
    from understudy.platforms.discord.invite import invite_link

    return invite_link(int(application_id))


def _where(settings: Discord) -> str:
    return settings.token_env or "discord.token"


def _unreachable(error: ProviderError) -> str:
    if error.error_class is ErrorClass.DNS:
        return "Discord's address cannot be found; check that this machine is online"
    return (
        "Discord cannot be reached; check that this machine is online and whether it needs a proxy"
    )
