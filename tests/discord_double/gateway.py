"""The gateway: sessions that hear events, may lose their socket, and catch up by RESUME."""

import asyncio
import json
from dataclasses import dataclass, field

from aiohttp import WSMsgType, web

from discord_double import payloads
from discord_double.payloads import Json
from discord_double.permissions import VIEW
from discord_double.state import DiscordState

MESSAGE_CONTENT = 1 << 15
DIRECT_MESSAGES = 1 << 12
GUILD_MESSAGES = 1 << 9

DISPATCH, HEARTBEAT, IDENTIFY, PRESENCE, RESUME, RECONNECT = 0, 1, 2, 3, 6, 7
MEMBERS, INVALID_SESSION, HELLO, ACK = 8, 9, 10, 11


@dataclass
class Session:
    id: str
    intents: int
    shard: tuple[int, int]
    socket: web.WebSocketResponse | None
    sent: list[Json] = field(default_factory=list)
    """Every dispatch, heard or missed; the sequence number is its place, from 1."""
    presences: list[Json] = field(default_factory=list)

    async def send(self, event: Json) -> None:
        if self.socket is not None and not self.socket.closed:
            try:
                await self.socket.send_str(json.dumps(event))
            except ConnectionError:
                self.socket = None

    async def dispatch(self, name: str, data: Json) -> None:
        event = {"op": DISPATCH, "t": name, "s": len(self.sent) + 1, "d": data}
        self.sent.append(event)
        await self.send(event)


class Gateway:
    def __init__(self, state: DiscordState, token: str) -> None:
        self.state = state
        self.token = token
        self.url = ""
        self.shards = 1
        self.sessions_left = 999
        """None left are 1,000 again after the bot has asked, and 0.3 s later."""
        self.sessions: dict[str, Session] = {}
        self.identifies: list[Json] = []
        self.resumes: list[Json] = []
        self.content_intent_granted = True
        self.forgets_sessions = False
        """RESUME is answered with "invalid session": the gap is lost."""
        self.replays = 0
        """How many already seen events a RESUME sends once more."""
        self.losing: list[str] = []
        """Event names of which the next one is lost."""
        self.doubling: list[str] = []
        """Event names of which the next one comes twice."""
        self.holding = False
        """New connections are accepted but never greeted."""
        self.connections = 0

    async def connect(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.connections += 1
        if not self.holding:
            await socket.send_str(json.dumps({"op": HELLO, "d": {"heartbeat_interval": 41250}}))
        session: Session | None = None
        async for frame in socket:
            if frame.type is not WSMsgType.TEXT:
                break
            said = json.loads(frame.data)
            if said["op"] == IDENTIFY:
                session = await self._identify(socket, said["d"])
            elif said["op"] == RESUME:
                session = await self._resume(socket, said["d"])
            else:
                await self._hear(socket, session, said)
        if session is not None and session.socket is socket:
            session.socket = None
        return socket

    async def _hear(
        self, socket: web.WebSocketResponse, session: Session | None, said: Json
    ) -> None:
        if said["op"] == HEARTBEAT:
            await socket.send_str(json.dumps({"op": ACK}))
        elif said["op"] == PRESENCE and session is not None:
            session.presences.append(said["d"])
        elif said["op"] == MEMBERS and session is not None:
            asked = said["d"]
            chunk = {"guild_id": str(asked["guild_id"]), "members": [], "chunk_index": 0}
            chunk |= {"chunk_count": 1, "nonce": asked.get("nonce")}
            await session.dispatch("GUILD_MEMBERS_CHUNK", chunk)

    async def _identify(self, socket: web.WebSocketResponse, asked: Json) -> Session | None:
        self.identifies.append(asked)
        if asked["token"] != self.token:
            await socket.close(code=4004, message=b"Authentication failed.")
            return None
        if asked["intents"] & MESSAGE_CONTENT and not self.content_intent_granted:
            await socket.close(code=4014, message=b"Disallowed intent(s).")
            return None
        shard = tuple(asked.get("shard", (0, 1)))
        session = Session(payloads.snowflake(), asked["intents"], shard, socket)
        self.sessions[session.id] = session
        guilds = [g for g in self.state.guilds.values() if self._hears(session, g["id"])]
        await session.dispatch("READY", self._ready(session, guilds))
        for guild in guilds:
            await session.dispatch("GUILD_CREATE", guild)
        return session

    def _ready(self, session: Session, guilds: list[Json]) -> Json:
        return {
            "v": 10,
            "user": self.state.me,
            "guilds": [{"id": guild["id"], "unavailable": True} for guild in guilds],
            "session_id": session.id,
            "resume_gateway_url": self.url,
            "application": {"id": self.state.app_id, "flags": 0},
            "shard": list(session.shard),
        }

    async def _resume(self, socket: web.WebSocketResponse, asked: Json) -> Session | None:
        self.resumes.append(asked)
        session = self.sessions.get(asked["session_id"])
        if session is None or self.forgets_sessions:
            self.sessions.pop(asked["session_id"], None)
            await socket.send_str(json.dumps({"op": INVALID_SESSION, "d": False}))
            return None
        missed = session.sent[max(0, asked["seq"] - self.replays) :]
        session.socket = socket
        for event in missed:
            await session.send(event)
        await session.dispatch("RESUMED", {"_trace": []})
        return session

    @staticmethod
    def _hears(session: Session, guild_id: str | None) -> bool:
        number, of = session.shard
        return number == ((int(guild_id) >> 22) % of if guild_id else 0)

    async def dispatch(self, name: str, data: Json) -> None:
        """To each session that listens; one without a socket finds it on RESUME."""
        if name in self.losing:
            self.losing.remove(name)
            return
        times = 2 if name in self.doubling else 1
        if times == 2:
            self.doubling.remove(name)
        for session in list(self.sessions.values()):
            if self._hears(session, data.get("guild_id")) and self._wants(session, name, data):
                for _ in range(times):
                    await session.dispatch(name, self._as_seen_by(session, name, data))

    def _wants(self, session: Session, name: str, data: Json) -> bool:
        if not name.startswith("MESSAGE_"):
            return True
        if not self.state.allowed(data["channel_id"], self.state.me, VIEW):
            return False
        needed = GUILD_MESSAGES if data.get("guild_id") else DIRECT_MESSAGES
        return bool(session.intents & needed)

    def _as_seen_by(self, session: Session, name: str, data: Json) -> Json:
        """Without the content intent, text comes only in DMs, mentions and own messages."""
        if session.intents & MESSAGE_CONTENT or name not in ("MESSAGE_CREATE", "MESSAGE_UPDATE"):
            return data
        me = self.state.me["id"]
        mine = data["author"]["id"] == me or any(u["id"] == me for u in data["mentions"])
        if mine or not data.get("guild_id"):
            return data
        return {**data, "content": "", "embeds": [], "attachments": [], "components": []}

    async def drop(self, code: int = 4000) -> None:
        """Close every socket; sessions stay resumable."""
        for session in self.sessions.values():
            if session.socket is not None:
                socket, session.socket = session.socket, None
                await socket.close(code=code)

    async def ask_to_reconnect(self) -> None:
        await self._tell_all({"op": RECONNECT, "d": None})

    async def invalidate(self, *, resumable: bool) -> None:
        await self._tell_all({"op": INVALID_SESSION, "d": resumable})
        if not resumable:
            self.sessions.clear()

    async def _tell_all(self, event: Json) -> None:
        for session in list(self.sessions.values()):
            await session.send(event)

    async def aclose(self) -> None:
        closing = [s.socket.close(code=1001) for s in self.sessions.values() if s.socket]
        self.sessions.clear()
        await asyncio.gather(*closing, return_exceptions=True)
