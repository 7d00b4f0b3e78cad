"""Discord on loopback: gateway, REST and CDN in one server, for the unmodified discord.py."""

import asyncio
from collections.abc import Callable
from typing import Self, TypeVar

from aiohttp import web

from discord_double import payloads
from discord_double.gateway import Gateway
from discord_double.payloads import Json
from discord_double.rest import Call, Exchange, Fault, Rest
from discord_double.state import DiscordState
from waiting import LIMIT_S

T = TypeVar("T")

SLASH, BUTTON, TYPED = 2, 3, 4


class DiscordDouble:
    def __init__(self, token: str = "double-token") -> None:
        self.token = token
        self.state = DiscordState()
        self.gateway = Gateway(self.state, token)
        self.rest = Rest(self.state, self.gateway, self._notify)
        self.api_url = ""
        self.gateway_url = ""
        self._changed = asyncio.Event()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(middlewares=[self.rest.watch])
        app.add_routes([*self.rest.routes(), web.get("/", self.gateway.connect)])
        self._runner = web.AppRunner(app, shutdown_timeout=0.2)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.state.cdn = f"http://{host}:{port}"
        self.api_url = f"http://{host}:{port}/api"
        self.gateway.url = self.gateway_url = f"ws://{host}:{port}/"
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.gateway.aclose()
        if self._runner is not None:
            await self._runner.cleanup()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[], T], timeout_s: float = LIMIT_S) -> T:
        """Wait for `condition` to be true; it is asked after every request the bot makes."""
        async with asyncio.timeout(timeout_s):
            while not (found := condition()):
                changed = self._changed
                # Presences and sockets change without a request, hence the short look again.
                try:
                    await asyncio.wait_for(changed.wait(), 0.05)
                except TimeoutError:
                    continue
            return found

    async def ready(self) -> None:
        await self.until(lambda: any(s.socket for s in self.gateway.sessions.values()))

    # What people do

    async def say(self, channel: Json, author: Json, text: str, **more: object) -> Json:
        """Write a message; fields of a message and `reply_to` may be given."""
        made = self.state.write(channel["id"], author, text, **more)
        await self.gateway.dispatch("MESSAGE_CREATE", made)
        return made

    def mention(self, text: str) -> str:
        return f"<@{self.state.me['id']}> {text}"

    async def forward(self, channel: Json, author: Json, original: Json, comment: str = "") -> Json:
        reference = {
            "type": 1,
            "message_id": original["id"],
            "channel_id": original["channel_id"],
        }
        snapshots = [payloads.snapshot_of(original)]
        more = {"message_reference": reference, "message_snapshots": snapshots}
        return await self.say(channel, author, comment, **more)

    async def edit(self, message: Json, text: str) -> None:
        message["content"] = text
        message["edited_timestamp"] = payloads.timestamp(payloads.snowflake())
        await self.gateway.dispatch("MESSAGE_UPDATE", message)

    async def delete(self, message: Json) -> None:
        del self.state.messages[message["channel_id"]][message["id"]]
        keys = ("id", "channel_id", "guild_id")
        gone: Json = {key: message[key] for key in keys if key in message}
        await self.gateway.dispatch("MESSAGE_DELETE", gone)

    async def type_in(self, channel: Json, author: Json) -> None:
        text = {"channel_id": channel["id"], "user_id": author["id"], "timestamp": 1_760_000_000}
        if "guild_id" in channel:
            text["guild_id"] = channel["guild_id"]
            text["member"] = {"user": author, **payloads.member([])}
        await self.gateway.dispatch("TYPING_START", text)

    async def slash(
        self, channel: Json, author: Json, name: str, *options: Json, permissions: str | None = None
    ) -> Exchange:
        data: Json = {"id": "1", "name": name, "type": 1, "options": list(options)}
        return await self._interact(SLASH, channel, author, data, permissions)

    async def complete(
        self, channel: Json, author: Json, group: str, name: str, *options: Json
    ) -> Exchange:
        """Type in an option of a subcommand; the one that is being typed is `focused`."""
        sub = {"name": name, "type": 1, "options": list(options)}
        data: Json = {"id": "1", "name": group, "type": 1, "options": [sub]}
        return await self._interact(TYPED, channel, author, data)

    async def ask_about(self, message: Json, author: Json, name: str) -> Exchange:
        """Use a context-menu command on a message."""
        resolved = {"messages": {message["id"]: message}}
        data = {
            "id": "1",
            "name": name,
            "type": 3,
            "target_id": message["id"],
            "resolved": resolved,
        }
        channel = self.state.channel(message["channel_id"])
        return await self._interact(SLASH, channel, author, data)

    async def press(
        self, message: Json, author: Json, label: str, *, permissions: str | None = None
    ) -> Exchange:
        """Press the button that reads `label`."""
        custom_id = next(b["custom_id"] for b in buttons_of(message) if b.get("label") == label)
        channel = self.state.channel(message["channel_id"])
        data = {"custom_id": custom_id, "component_type": 2}
        return await self._interact(BUTTON, channel, author, data, permissions, message=message)

    async def _interact(
        self,
        kind: int,
        channel: Json,
        author: Json,
        data: Json,
        permissions: str | None = None,
        **more: Json,
    ) -> Exchange:
        """`permissions`: None for those that the person has."""
        made = payloads.interaction(self.state.app_id, kind, channel, data) | more
        if "guild_id" in channel:
            roles = payloads.member(self.state.roles[author["id"]])
            made["guild_id"] = channel["guild_id"]
            made["guild"] = {"id": channel["guild_id"], "locale": "en-US", "features": []}
            may = str(self.state.permissions(channel["id"], author))
            made["member"] = {"user": author, **roles, "permissions": permissions or may}
        else:
            made["user"] = author
        exchange = Exchange(made)
        self.rest.exchanges[made["token"]] = exchange
        await self.gateway.dispatch("INTERACTION_CREATE", made)
        return exchange

    # What can be seen

    def sent(self, channel: Json | None = None) -> list[Json]:
        """The bot's messages, oldest first."""
        places = [channel["id"]] if channel else list(self.state.messages)
        mine = [
            message
            for place in places
            for message in self.state.messages[place].values()
            if message["author"]["id"] == self.state.me["id"]
        ]
        return sorted(mine, key=lambda m: int(m["id"]))

    def answers_to(self, message: Json) -> list[Json]:
        """The bot's messages that reply to `message`."""
        return [
            reply
            for reply in self.state.replies[message["id"]]
            if reply["author"]["id"] == self.state.me["id"]
            and reply["id"] in self.state.messages[reply["channel_id"]]
        ]

    def calls(self, method: str, ending: str = "") -> list[Call]:
        return [c for c in self.rest.calls if c.method == method and c.path.endswith(ending)]

    def spoil(self, fault: Fault) -> Fault:
        self.rest.faults.append(fault)
        return fault

    def forget_nonces(self) -> None:
        """As after a pause longer than Discord remembers a nonce."""
        self.state.forget_nonces()

    def presences(self) -> list[Json]:
        return [p for session in self.gateway.sessions.values() for p in session.presences]


def buttons_of(message: Json) -> list[Json]:
    return [button for row in message["components"] for button in row.get("components", [])]


def pings_of(payload: Json) -> set[str]:
    """Who a sent JSON payload would notify, by Discord's rules for `allowed_mentions`."""
    allowed = payload.get("allowed_mentions")
    if allowed is None:
        return {"everyone", "roles", "users", "author"}
    pinged = set(allowed.get("parse", ()))
    pinged |= {"users"} if allowed.get("users") else set()
    return pinged | ({"author"} if allowed.get("replied_user") else set())
