"""The whole web site on a real socket, with a scripted message router behind it."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

import aiohttp

from operator_double import OperatorDouble
from understudy.config.settings import Web
from understudy.llm.messages import ImagePart
from understudy.platforms.web.chat import ImageActions, ReadFiles
from understudy.platforms.web.config_page import ConfigActions
from understudy.platforms.web.live import LiveConversations
from understudy.platforms.web.operator import CandidateView
from understudy.platforms.web.operator_reports import ProgramFacts
from understudy.platforms.web.persona_choice import PersonaChoice, PersonaView, ServerChoice
from understudy.platforms.web.platform import WebDependencies, WebPlatform
from understudy.platforms.web.templates import PageContext
from waiting import LIMIT_S
from web_double import Conversations, RecordingInbox, ScriptedReply, open_conversations

CHAT = "conversation-1"
NOW = 1_790_000_000.0
DOT = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
LOCAL = CandidateView("local", "local/koboldcpp", "", "koboldcpp", "usable")


@dataclass(slots=True)
class Site:
    """A running site and its test doubles."""

    url: str
    conversations: Conversations
    platform: WebPlatform
    operator: OperatorDouble
    page_context: PageContext
    personas: list[PersonaView] = field(default_factory=list)
    servers: list[str] = field(default_factory=list)

    async def picture(self, key: str) -> ImagePart | None:
        """A picture of one pixel for each persona that has one."""
        found = any(persona.key == key and persona.has_picture for persona in self.personas)
        return ImagePart(DOT, "image/png", 1, 1, "dot.png", "d" * 64) if found else None


@asynccontextmanager
async def open_site(
    *scripts: ScriptedReply,
    chat_token: str | None = None,
    name: str = "Understudy",
    images: ImageActions | None = None,
    messages_per_minute: int = 1000,
    read_files: ReadFiles | None = None,
) -> AsyncIterator[Site]:
    platform = WebPlatform(LiveConversations(lambda: NOW))
    operator = OperatorDouble([LOCAL], feed=platform.feed)
    page_context = PageContext(name, 3 if images is not None else 0, 4 if read_files else 0)
    async with open_conversations(
        scripts, platform.live, lambda: NOW, messages_per_minute=messages_per_minute
    ) as conversations:
        site = Site("", conversations, platform, operator, page_context)
        deps = replace(_dependencies(site, chat_token, images), read_files=read_files)
        async with platform.open(deps):
            site.url = platform.url
            yield site


def _dependencies(
    site: Site, chat_token: str | None, images: ImageActions | None
) -> WebDependencies:
    operator, preferences = site.operator, site.conversations.router.preferences
    return WebDependencies(
        web=Web(port=0, token="operator", chat_token=chat_token),  # type: ignore[arg-type]
        page_context=lambda: site.page_context,
        token_file=Path("unused"),
        replies=site.conversations.router,
        history=site.conversations.inbox,
        ledger=operator.ledger,
        candidates=lambda: operator.candidates,
        actions=operator.actions(),
        ready=lambda: any(candidate.state == "usable" for candidate in operator.candidates),
        monitoring_pages=(("/metrics", lambda: (b"up 1\n", "text/plain")),),
        images=images,
        persona_choice=PersonaChoice(
            lambda: PersonaView("", site.page_context.name),
            lambda: site.personas,
            lambda channel: preferences.now.channel(channel).persona,
            preferences.choose_persona,
            site.picture,
        ),
        server_choice=ServerChoice(
            lambda: bool(site.servers),
            lambda: site.servers,
            lambda channel: preferences.now.channel(channel).candidate,
            preferences.choose_candidate,
        ),
        facts=lambda: ProgramFacts(
            "1.0", NOW - 7260, "2ba54e70", "model: {}\n", "host-1", "connecting"
        ),
        config=ConfigActions(operator.read_config, operator.save_config),
        gateway_keys=operator.key_actions(),
        read_log=lambda after: (operator.log.count, operator.log.since(after)),
        clock=lambda: NOW,
    )


@dataclass(slots=True)
class Client:
    """One client with its cookies at the site."""

    http: aiohttp.ClientSession
    site: Site

    @property
    def url(self) -> str:
        return self.site.url

    @property
    def inbox(self) -> RecordingInbox:
        return self.site.conversations.inbox

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

    async def until_state(self, state: str, *, after: str = "") -> dict[str, object]:
        """The first update of a reply other than `after` that is in this state."""
        while True:
            name, data = await self.next()
            if name != "entry" or data["kind"] != "reply" or data["id"] == after:
                continue
            if data["state"] == state:
                return data

    async def until_stored(self) -> list[dict[str, object]]:
        """The entries of the next event with the whole conversation that has any."""
        while True:
            name, data = await self.next()
            if name == "conversation" and data["entries"]:
                return cast("list[dict[str, object]]", data["entries"])


@asynccontextmanager
async def open_client(
    *scripts: ScriptedReply,
    chat_token: str | None = None,
    images: ImageActions | None = None,
    messages_per_minute: int = 1000,
) -> AsyncIterator[Client]:
    jar = aiohttp.CookieJar(unsafe=True)
    async with (
        asyncio.timeout(LIMIT_S),
        open_site(
            *scripts,
            chat_token=chat_token,
            name="Under<b>study",
            images=images,
            messages_per_minute=messages_per_minute,
        ) as site,
        aiohttp.ClientSession(cookie_jar=jar) as http,
    ):
        async with http.get(site.url):
            pass
        yield Client(http, site)
