"""The whole web site on a real socket, with a scripted message router behind it."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from operator_double import Board
from understudy.config.settings import Web
from understudy.platforms.web.chat import ImageActions
from understudy.platforms.web.live import LiveConversations
from understudy.platforms.web.operator import CandidateView
from understudy.platforms.web.platform import WebDependencies, WebPlatform
from understudy.platforms.web.templates import PageContext
from web_double import Play, Responder

CHAT = "conversation-1"
NOW = 1_790_000_000.0
LOCAL = CandidateView("local", "local/koboldcpp", "", "koboldcpp", "usable")


@dataclass(slots=True)
class Stand:
    """A running site and what is behind it."""

    url: str
    responder: Responder
    platform: WebPlatform
    board: Board
    face: PageContext


@asynccontextmanager
async def stand(
    *plays: Play,
    chat_token: str | None = None,
    name: str = "Understudy",
    eyes: ImageActions | None = None,
) -> AsyncIterator[Stand]:
    platform = WebPlatform(LiveConversations(lambda: NOW))
    responder = Responder(list(plays), platform.rooms.open_delivery, platform.rooms)
    board = Board([LOCAL], feed=platform.feed)
    desk = board.desk(lambda: NOW)
    at = Stand("", responder, platform, board, PageContext(name, takes_images=eyes is not None))
    house = WebDependencies(
        web=Web(port=0, token="operator", chat_token=chat_token),  # type: ignore[arg-type]
        face=lambda: at.face,
        token_file=Path("unused"),
        answers=responder,
        memory=responder,
        ledger=board.ledger,
        candidates=desk.candidates,
        switches=desk.switches,
        ready=lambda: any(candidate.state == "usable" for candidate in board.candidates),
        for_machines=(("/metrics", lambda: (b"up 1\n", "text/plain")),),
        eyes=eyes,
        clock=lambda: NOW,
    )
    async with platform.open(house):
        try:
            at.url = platform.url
            yield at
        finally:
            await responder.aclose()


@dataclass(slots=True)
class Page:
    """One client with its cookies at the site."""

    http: aiohttp.ClientSession
    stand: Stand

    @property
    def url(self) -> str:
        return self.stand.url

    @property
    def responder(self) -> Responder:
        return self.stand.responder

    async def say(self, text: str, *, message: str = "message-1", **more: object) -> int:
        body = {"id": message, "text": text, **more}
        async with self.http.post(f"{self.url}/api/chats/{CHAT}/messages", json=body) as answer:
            return answer.status

    async def post(self, path: str, body: object = None) -> tuple[int, dict[str, object]]:
        async with self.http.post(f"{self.url}{path}", json=body) as answer:
            return answer.status, await answer.json()

    async def status(self, path: str, headers: Mapping[str, str] | None = None) -> int:
        async with self.http.get(
            f"{self.url}{path}", headers=headers, allow_redirects=False
        ) as answer:
            return answer.status

    @asynccontextmanager
    async def listening(self, chat: str = CHAT) -> "AsyncIterator[Events]":
        async with self.http.get(f"{self.url}/api/chats/{chat}/events") as answer:
            assert answer.status == 200
            yield Events(answer)


@dataclass(slots=True)
class Events:
    answer: aiohttp.ClientResponse

    async def next(self) -> tuple[str, dict[str, object]]:
        name = ""
        async for line in self.answer.content:
            if line.startswith(b"event: "):
                name = line[7:].strip().decode()
            if line.startswith(b"data: "):
                return name, json.loads(line[6:])
        raise EOFError

    async def until_state(self, state: str) -> dict[str, object]:
        """The first update of a reply that is in this state."""
        while True:
            name, data = await self.next()
            if name == "entry" and data.get("state") == state and data["kind"] == "reply":
                return data


@asynccontextmanager
async def site(
    *plays: Play, chat_token: str | None = None, eyes: ImageActions | None = None
) -> AsyncIterator[Page]:
    jar = aiohttp.CookieJar(unsafe=True)
    async with (
        asyncio.timeout(20),
        stand(*plays, chat_token=chat_token, name="Under<b>study", eyes=eyes) as at,
        aiohttp.ClientSession(cookie_jar=jar) as http,
    ):
        async with http.get(at.url):
            pass
        yield Page(http, at)
