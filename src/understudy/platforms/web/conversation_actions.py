"""What can be done with a whole conversation: name it, branch it, import it, and choose between
the versions of its replies."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from understudy.conversation.dependencies import new_id
from understudy.conversation.inbox import Channel, Line
from understudy.conversation.messages import Place
from understudy.platforms.web.api import ApiError, json_routes, read_json
from understudy.platforms.web.chat import ID, PLATFORM, browser_of, channel_of
from understudy.platforms.web.chat_export import MAX_LINES, imported_lines
from understudy.platforms.web.live import LiveConversations

MAX_TITLE = 80
_MAX_IMPORT = 8_000_000


class ConversationStore(Protocol):
    """What is used of the inbox. All calls may raise StorageError."""

    async def transcript(
        self, channel: Channel, limit: int, before_seq: int | None = None
    ) -> tuple[Line, ...]: ...

    async def choose_version(self, channel: Channel, reply_id: str) -> bool: ...

    async def add_past(self, place: Place, lines: Sequence[Line], now: float) -> bool: ...

    async def title(self, channel: Channel) -> str | None: ...

    async def set_title(self, channel: Channel, title: str, *, replace: bool) -> bool: ...


class Regenerate(Protocol):
    async def regenerate(self, reply_id: str, /, *, continues: bool = False) -> object: ...


@dataclass(frozen=True, slots=True)
class ConversationActions:
    """Endpoints under `/api/chats`. `site` checks the access level before it calls them."""

    store: ConversationStore
    replies: Regenerate
    live: LiveConversations
    clock: Callable[[], float]

    def routes(self) -> list[Route]:
        path = "/api/chats/{chat}"
        return json_routes(
            ("POST", f"{path}/title", self.rename),
            ("POST", f"{path}/version", self.choose_version),
            ("POST", f"{path}/continue", self.continue_reply),
            ("POST", f"{path}/branch", self.branch),
            ("POST", f"{path}/import", self.import_file),
        )

    async def rename(self, request: Request) -> Response:
        channel, fields = channel_of(request), await read_json(request)
        title = " ".join(str(fields.get("title", "")).split())[:MAX_TITLE]
        if not title:
            raise ApiError(400, "The name is empty.")
        if not await self.store.transcript(channel, 1):
            raise ApiError(404, "There is no such conversation.")
        await self.store.set_title(channel, title, replace=True)
        self.live.title_changed(channel.id)
        return JSONResponse({"title": title})

    async def choose_version(self, request: Request) -> Response:
        channel, reply = channel_of(request), str((await read_json(request)).get("reply", ""))
        await self.live.until_stored(channel.id)
        if not await self.store.choose_version(channel, reply):
            raise ApiError(409, "This version cannot be shown now.")
        self.live.read_again(channel.id)
        return JSONResponse({})

    async def continue_reply(self, request: Request) -> Response:
        channel, reply = channel_of(request), str((await read_json(request)).get("reply", ""))
        await self.live.until_stored(channel.id)
        lines = await self.store.transcript(channel, 1)
        if not lines or lines[-1].reply_id != reply:
            raise ApiError(409, "Only the last reply can be continued.")
        await self.replies.regenerate(reply, continues=True)
        return JSONResponse({}, status_code=202)

    async def branch(self, request: Request) -> Response:
        """Copy the conversation up to a reply into a new one; with `again`, regenerate the reply
        there."""
        channel, fields = channel_of(request), await read_json(request)
        await self.live.until_stored(channel.id)
        lines = await self.store.transcript(channel, MAX_LINES)
        reply = str(fields.get("reply", ""))
        end = next((i for i, line in enumerate(lines) if line.reply_id == reply), None)
        if end is None:
            raise ApiError(404, "There is no such reply.")
        target = _new_place(request, fields)
        copies = with_new_ids(lines[: end + 1], target)
        await self._add(target, copies)
        title = await self.store.title(channel) or next(x.text for x in lines if x.role == "user")
        name = f"{' '.join(title.split())[: MAX_TITLE - 9]} (branch)"
        await self.store.set_title(Channel.of(target), name, replace=True)
        if fields.get("again"):
            await self.replies.regenerate(str(copies[-1].reply_id))
        return JSONResponse({}, status_code=201)

    async def import_file(self, request: Request) -> Response:
        """Make a new conversation of an exported one."""
        fields = await read_json(request, _MAX_IMPORT)
        place = _place(request, channel_of(request))
        await self._add(place, with_new_ids(imported_lines(fields), place))
        title = fields.get("title")
        if isinstance(title, str) and title.strip():
            name = " ".join(title.split())[:MAX_TITLE]
            await self.store.set_title(Channel.of(place), name, replace=True)
        return JSONResponse({}, status_code=201)

    async def _add(self, place: Place, lines: Sequence[Line]) -> None:
        if not await self.store.add_past(place, lines, self.clock()):
            raise ApiError(409, "This conversation exists already.")
        self.live.read_again(place.channel_id)


def with_new_ids(lines: Sequence[Line], place: Place) -> list[Line]:
    return [
        replace(line, reply_id=new_id())
        if line.role == "assistant"
        else replace(
            line,
            message_id=f"{place.channel_id}.{secrets.token_hex(12)}",
            author=replace(line.author, id=place.parent_id or ""),
        )
        for line in lines
    ]


def _new_place(request: Request, fields: dict[str, object]) -> Place:
    chat = str(fields.get("id", ""))
    if not ID.fullmatch(chat):
        raise ApiError(400, "The new conversation has no usable id.")
    return _place(request, Channel(PLATFORM, f"{browser_of(request)}/{chat}"))


def _place(request: Request, channel: Channel) -> Place:
    return Place(PLATFORM, channel.id, parent_id=browser_of(request), private=True)
