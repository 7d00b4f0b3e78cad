"""Which permissions the bot lacks on its servers, as Discord's HTTP interface tells."""

from dataclasses import dataclass
from typing import TypeVar

import msgspec

from understudy.app.setup.discord_token import DISCORD_API, Check, discord_endpoint
from understudy.config.settings import Discord
from understudy.errors import NOT_JSON, ProviderError
from understudy.llm.http.endpoint import Endpoint, HttpSessions
from understudy.platforms.discord.permissions import missing_permissions

_MOST_SERVERS = 20
_ADMINISTRATOR = 1 << 3
_EVERYTHING = -1
_TEXT, _VOICE, _NEWS, _FORUM = 0, 2, 5, 15
T = TypeVar("T")
_KINDS = frozenset((_TEXT, _VOICE, _NEWS, _FORUM))


class _User(msgspec.Struct):
    id: str = ""


class _Server(msgspec.Struct):
    id: str
    name: str = ""
    owner: bool = False
    permissions: str = "0"
    """Of the bot's roles together, without a channel's exceptions."""


class _Overwrite(msgspec.Struct):
    id: str
    allow: str = "0"
    deny: str = "0"


class _Channel(msgspec.Struct):
    type: int = -1
    name: str = ""
    permission_overwrites: tuple[_Overwrite, ...] = ()


class _Member(msgspec.Struct):
    roles: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Me:
    user_id: str
    server: _Server
    roles: tuple[str, ...]

    def permissions_in(self, channel: _Channel) -> int:
        """Discord's rules: everyone's exceptions, those of the roles together, the member's own."""
        allowed = int(self.server.permissions)
        if self.server.owner or allowed & _ADMINISTRATOR:
            return _EVERYTHING
        overwrites = {one.id: one for one in channel.permission_overwrites}
        roles = [overwrites[role] for role in self.roles if role in overwrites]
        everyone, mine = overwrites.get(self.server.id), overwrites.get(self.user_id)
        for group in ([everyone] if everyone else [], roles, [mine] if mine else []):
            for one in group:
                allowed &= ~int(one.deny)
            for one in group:
                allowed |= int(one.allow)
        return allowed


async def check_permissions(
    settings: Discord, sessions: HttpSessions, api: str = DISCORD_API
) -> tuple[Check, ...]:
    """A check for each server where something is missing. The bot works there, so it is no
    failure; what Discord does not answer is left out."""
    if not settings.enabled or settings.token is None:
        return ()
    endpoint = discord_endpoint(settings.token, sessions, api)
    try:
        user = await _ask(endpoint, "/users/@me", _User)
        servers = await _ask(endpoint, "/users/@me/guilds", tuple[_Server, ...])
        found = [await _check(endpoint, user.id, server) for server in servers[:_MOST_SERVERS]]
    except (ProviderError, *NOT_JSON):
        return ()
    return tuple(check for check in found if check is not None)


async def _check(endpoint: Endpoint, user_id: str, server: _Server) -> Check | None:
    channels = await _ask(endpoint, f"/guilds/{server.id}/channels", tuple[_Channel, ...])
    member = await _ask(endpoint, f"/guilds/{server.id}/members/{user_id}", _Member)
    me = _Me(user_id, server, member.roles)
    missing = missing_permissions(
        (channel.name, me.permissions_in(channel)) for channel in channels if channel.type in _KINDS
    )
    if not missing:
        return None
    return Check(f"discord server {server.name}", ok=True, advice=" ".join(missing))


async def _ask(endpoint: Endpoint, path: str, kind: type[T]) -> T:
    """Raises ProviderError, or one of NOT_JSON for an answer of another shape."""
    answer = await endpoint.ask("GET", path)
    return msgspec.json.decode(answer.body, type=kind)
