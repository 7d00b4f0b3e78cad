"""The REST and CDN routes, their faults and their rate limits."""

import asyncio
import json
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from discord_double import payloads
from discord_double.gateway import Gateway
from discord_double.payloads import Json
from discord_double.permissions import CREATE_THREADS, READ_HISTORY, permissions
from discord_double.state import DiscordState, Refusal, Window

BODY = web.RequestKey("body", dict[str, Any])
FILES = web.RequestKey("files", list[tuple[str, bytes]])
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Call:
    """One request as it came, for assertions on the JSON."""

    method: str
    path: str
    body: Json
    status: int
    at: float


@dataclass
class Fault:
    """Spoils the next `times` requests that match."""

    method: str
    path: str
    """A regular expression for the whole path."""
    status: int
    after_effect: bool = False
    """The request is carried out, then answered with `status` all the same."""
    retry_after_s: float = 0.0
    times: int = 1
    gate: asyncio.Event | None = None
    """Where set, nothing happens before it is."""
    cut: bool = False
    """The connection ends without an answer."""

    def matches(self, request: web.Request) -> bool:
        return (
            self.times > 0
            and request.method == self.method
            and re.fullmatch(self.path, request.path) is not None
        )


def _reply(body: object, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    # discord.py takes a body for JSON only when the type is exactly this, with no charset.
    return web.Response(
        body=json.dumps(body).encode(),
        status=status,
        content_type="application/json",
        headers=headers,
    )


@dataclass
class Exchange:
    """An interaction as its user sees it."""

    interaction: Json
    deferred: bool = False
    ephemeral: bool = False
    answers: list[Json] = field(default_factory=list)
    """Messages of the answer, the original first."""
    updates: list[Json] = field(default_factory=list)
    """What the answer changed on the message whose button was pressed."""
    choices: list[Json] = field(default_factory=list)
    """What was offered while an option was typed."""

    @property
    def text(self) -> str:
        return "\n".join(a["content"] for a in self.answers)


class Rest:
    def __init__(self, state: DiscordState, gateway: Gateway, notify: Callable[[], None]) -> None:
        self.state = state
        self.gateway = gateway
        self.notify = notify
        self.base = ""
        self.calls: list[Call] = []
        self.faults: list[Fault] = []
        self.typing: list[str] = []
        self.exchanges: dict[str, Exchange] = {}
        self.before_answer: Callable[[str, str], None] = lambda method, path: None
        """Called with each request after its effect and before its answer."""
        self.edit_window: Window | None = None
        """Discord's limit for edits, 5 in 5 s and shared by a channel; off unless set."""

    def routes(self) -> list[web.RouteDef]:
        messages, one = "/channels/{channel}/messages", "/channels/{channel}/messages/{message}"
        hook = "/webhooks/{app}/{token}"
        table: list[tuple[str, str, Handler]] = [
            ("GET", "/users/@me", self._me),
            ("POST", "/users/@me/channels", self._open_dm),
            ("GET", "/oauth2/applications/@me", self._application),
            ("GET", "/gateway/bot", self._gateway_bot),
            ("GET", "/users/{user}", self._user),
            ("GET", "/users/@me/guilds", self._my_guilds),
            ("GET", "/guilds/{guild}/channels", self._guild_channels),
            ("GET", "/guilds/{guild}/members/{user}", self._member),
            ("GET", "/channels/{channel}", self._channel),
            ("GET", messages, self._history),
            ("POST", messages, self._post),
            ("GET", one, self._message),
            ("PATCH", one, self._edit),
            ("DELETE", one, self._delete),
            ("POST", "/channels/{channel}/typing", self._typing),
            ("PUT", one + "/reactions/{emoji}/@me", self._nothing),
            ("DELETE", one + "/reactions/{emoji}/@me", self._nothing),
            ("POST", one + "/threads", self._thread),
            ("GET", "/applications/{app}/commands", self._commands),
            ("PUT", "/applications/{app}/commands", self._set_commands),
            ("POST", "/interactions/{id}/{token}/callback", self._callback),
            ("POST", hook, self._follow_up),
            ("GET", hook + "/messages/{message}", self._answer),
            ("PATCH", hook + "/messages/{message}", self._edit_answer),
            ("DELETE", hook + "/messages/{message}", self._nothing),
        ]
        made = [web.route(method, "/api" + path, handler) for method, path, handler in table]
        return [*made, web.get("/attachments/{channel}/{id}/{name}", self._file)]

    @web.middleware
    async def watch(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if not request.path.startswith("/api"):
            return await handler(request)
        body = await self._read(request)
        response = await self._serve(request, handler)
        self.before_answer(request.method, request.path)
        path = request.path.removeprefix("/api")
        self.calls.append(Call(request.method, path, body, response.status, time.monotonic()))
        self.notify()
        return response

    @staticmethod
    async def _read(request: web.Request) -> Json:
        """The JSON of the request; its files, if any, are kept beside it."""
        files: list[tuple[str, bytes]] = []
        body: Any = {}
        if request.content_type == "application/json":
            body = await request.json()
        elif request.content_type.startswith("multipart/"):
            form = await request.post()
            body = json.loads(str(form["payload_json"]))
            for name, part in form.items():
                if name.startswith("files") and isinstance(part, web.FileField):
                    files.append((part.filename, part.file.read()))
        read: Json = body if isinstance(body, dict) else {"items": body}
        request[BODY], request[FILES] = read, files
        return read

    async def _serve(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        fault = next((f for f in self.faults if f.matches(request)), None)
        if fault is not None:
            fault.times -= 1
            if fault.gate is not None:
                await fault.gate.wait()
            if fault.after_effect:
                await self._refusable(request, handler)
            if fault.cut and request.transport is not None:
                request.transport.abort()
            if fault.status == 429:
                return self._too_many(fault.retry_after_s)
            if fault.status:
                return _reply({"message": "spoilt", "code": 0}, fault.status)
        return await self._refusable(request, handler)

    async def _refusable(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.headers.get("Authorization", f"Bot {self.gateway.token}") != (
            f"Bot {self.gateway.token}"
        ):
            return _reply({"message": "401: Unauthorized", "code": 0}, 401)
        try:
            return await handler(request)
        except Refusal as no:
            return _reply(no.body, no.status)

    @staticmethod
    def _too_many(retry_after_s: float) -> web.Response:
        body = {"message": "You are being rate limited.", "retry_after": retry_after_s}
        return _reply({**body, "global": False}, 429, {"Via": "1.1 double"})

    async def _me(self, request: web.Request) -> web.Response:
        return _reply(self.state.me)

    async def _user(self, request: web.Request) -> web.Response:
        found = self.state.users.get(request.match_info["user"])
        if found is None:
            raise Refusal(404, 10013, "Unknown User")
        return _reply(found)

    async def _my_guilds(self, request: web.Request) -> web.Response:
        made = []
        for guild in self.state.guilds.values():
            may = permissions(guild, {}, self.state.me["id"], self.state.roles[self.state.me["id"]])
            known = {key: guild[key] for key in ("id", "name")}
            made.append(known | {"owner": False, "permissions": str(may)})
        return _reply(made)

    async def _guild_channels(self, request: web.Request) -> web.Response:
        guild = self.state.guilds[request.match_info["guild"]]
        return _reply(guild["channels"])

    async def _member(self, request: web.Request) -> web.Response:
        user_id = request.match_info["user"]
        if user_id not in self.state.roles and user_id != self.state.me["id"]:
            raise Refusal(404, 10007, "Unknown Member")
        known = {"user": self.state.users[user_id]}
        return _reply(known | payloads.member(self.state.roles[user_id]))

    async def _open_dm(self, request: web.Request) -> web.Response:
        user = self.state.users[str(request[BODY]["recipient_id"])]
        return _reply(self.state.dm_with(user))

    async def _application(self, request: web.Request) -> web.Response:
        return _reply(payloads.application(self.state.app_id, self.state.me))

    async def _gateway_bot(self, request: web.Request) -> web.Response:
        left = self.gateway.sessions_left
        reset_ms = 0 if left else 300
        if not left:
            self.gateway.sessions_left = 1000
        limits = {"total": 1000, "remaining": left, "reset_after": reset_ms, "max_concurrency": 1}
        shards = self.gateway.shards
        return _reply({"url": self.gateway.url, "shards": shards, "session_start_limit": limits})

    async def _channel(self, request: web.Request) -> web.Response:
        channel_id = request.match_info["channel"]
        self.state.require(channel_id, 0)
        return _reply(self.state.channel(channel_id))

    async def _history(self, request: web.Request) -> web.Response:
        channel_id = request.match_info["channel"]
        self.state.require(channel_id, READ_HISTORY)
        return _reply(self.state.history(channel_id, dict(request.query)))

    async def _message(self, request: web.Request) -> web.Response:
        where = request.match_info
        self.state.require(where["channel"], READ_HISTORY)
        return _reply(self.state.message(where["channel"], where["message"]))

    async def _post(self, request: web.Request) -> web.Response:
        channel_id = request.match_info["channel"]
        self.state.channel(channel_id)
        made, new = self.state.post(channel_id, request[BODY], request[FILES])
        if new:
            await self.gateway.dispatch("MESSAGE_CREATE", made)
        return _reply(made)

    async def _edit(self, request: web.Request) -> web.Response:
        where = request.match_info
        headers: dict[str, str] = {}
        if self.edit_window is not None:
            allowed, left, left_s = self.edit_window.take(where["channel"], time.monotonic())
            if not allowed:
                return self._too_many(left_s)
            headers = {
                "X-RateLimit-Limit": str(self.edit_window.limit),
                "X-RateLimit-Remaining": str(left),
                "X-RateLimit-Reset-After": f"{left_s:.3f}",
                "X-RateLimit-Reset": f"{time.time() + left_s:.3f}",
                "X-RateLimit-Bucket": "edits",
            }
        given = (request[BODY], request[FILES])
        made = self.state.edit(where["channel"], where["message"], *given)
        await self.gateway.dispatch("MESSAGE_UPDATE", made)
        return _reply(made, headers=headers)

    async def _delete(self, request: web.Request) -> web.Response:
        where = request.match_info
        found = self.state.message(where["channel"], where["message"])
        del self.state.messages[where["channel"]][where["message"]]
        gone = {"id": found["id"], "channel_id": found["channel_id"]}
        if "guild_id" in found:
            gone["guild_id"] = found["guild_id"]
        await self.gateway.dispatch("MESSAGE_DELETE", gone)
        return web.Response(status=204)

    async def _typing(self, request: web.Request) -> web.Response:
        channel_id = request.match_info["channel"]
        if (channel_id, "typing") in self.state.forbidden:
            raise Refusal(403, 50013, "Missing Permissions")
        self.typing.append(channel_id)
        return web.Response(status=204)

    async def _nothing(self, request: web.Request) -> web.Response:
        return web.Response(status=204)

    async def _thread(self, request: web.Request) -> web.Response:
        where = request.match_info
        parent = self.state.channel(where["channel"])
        self.state.require(where["channel"], CREATE_THREADS)
        if where["message"] in self.state.channels:
            raise Refusal(400, 160004, "A thread has already been created for this message")
        me = self.state.me
        made = self.state.add_thread(parent, request[BODY]["name"], where["message"], me)
        await self.gateway.dispatch("THREAD_CREATE", made)
        return _reply(made)

    async def _commands(self, request: web.Request) -> web.Response:
        return _reply(self.state.commands.get("global", []))

    async def _set_commands(self, request: web.Request) -> web.Response:
        made = [payloads.command(self.state.app_id, asked) for asked in request[BODY]["items"]]
        self.state.commands["global"] = made
        return _reply(made)

    def _exchange(self, request: web.Request) -> Exchange:
        try:
            return self.exchanges[request.match_info["token"]]
        except KeyError:
            raise Refusal(404, 10062, "Unknown interaction") from None

    def _answer_with(self, exchange: Exchange, body: Json) -> Json:
        channel_id = exchange.interaction["channel_id"]
        made = payloads.message(
            payloads.snowflake(), channel_id, self.state.me, body.get("content") or ""
        )
        made["flags"] = body.get("flags", 0)
        made["components"] = body.get("components") or []
        self.state.check_text(made["content"], blank_ok=bool(body.get("embeds")))
        if exchange.deferred and not exchange.answers:
            made["flags"] |= 64 if exchange.ephemeral else 0
        exchange.answers.append({**made, "sent": body})
        return made

    async def _callback(self, request: web.Request) -> web.Response:
        exchange = self._exchange(request)
        body = request[BODY]
        data = body.get("data") or {}
        if exchange.deferred or exchange.answers or exchange.updates:
            raise Refusal(400, 40060, "Interaction has already been acknowledged.")
        resource: Json = {"type": body["type"]}
        if body["type"] == 4:
            resource["message"] = self._answer_with(exchange, data)
        elif body["type"] == 7:
            exchange.updates.append(data)
        elif body["type"] == 8:
            exchange.choices += data["choices"]
        else:
            exchange.deferred = True
            exchange.ephemeral = bool(data.get("flags", 0) & 64)
        known = {"id": exchange.interaction["id"], "type": exchange.interaction["type"]}
        return _reply({"interaction": known, "resource": resource})

    async def _follow_up(self, request: web.Request) -> web.Response:
        return _reply(self._answer_with(self._exchange(request), request[BODY]))

    async def _answer(self, request: web.Request) -> web.Response:
        answers = self._exchange(request).answers
        if not answers:
            raise Refusal(404, 10008, "Unknown Message")
        return _reply(answers[0])

    async def _edit_answer(self, request: web.Request) -> web.Response:
        exchange = self._exchange(request)
        if not exchange.answers:
            return _reply(self._answer_with(exchange, request[BODY]))
        exchange.answers[0]["content"] = request[BODY].get("content") or ""
        return _reply(exchange.answers[0])

    async def _file(self, request: web.Request) -> web.Response:
        found = self.state.files.get(request.path)
        if found is None:
            return web.Response(status=404, text="This content is no longer available.")
        return web.Response(body=found)
