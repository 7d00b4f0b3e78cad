"""The chat page's own small API. Conversations belong to one browser: its cookie is part of every
channel id, so that no id from outside can reach the conversation of another."""

import base64
import binascii
import hashlib
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from understudy.conversation.inbox import Channel, Decision, Line, Overview
from understudy.conversation.messages import Addressed, Author, ImageRef, Inbound, Place
from understudy.errors import StorageError
from understudy.llm.messages import ImagePart
from understudy.platforms.web.api import MAX_BODY, Refused, answered, read_json
from understudy.platforms.web.live import LiveConversations, listen
from understudy.platforms.web.serializers import Json, line_entry, overview_row

PLATFORM = "web"
BROWSER_COOKIE = "understudy_browser"
MAX_TEXT = 32_000
MAX_UPLOAD = 48_000_000
SHOWN_LINES = 400

_TOO_FAST = "That was a lot at once, so this one gets no answer. Give me a minute, please."
_NOT_STORED = "I can't write that down right now, so it was not sent. Try again in a moment."
_ID = re.compile(r"[A-Za-z0-9_-]{8,64}")


class ReplyControl(Protocol):
    """The message router, as far as the page needs it."""

    async def receive(self, inbound: Inbound, /) -> Decision | None: ...

    def stop(self, reply_id: str, /) -> object: ...

    async def regenerate(self, reply_id: str, /) -> object: ...

    async def delete_conversation(self, channel: Channel, /) -> None: ...


class ConversationHistory(Protocol):
    """The inbox, as far as the page needs it. All calls may raise StorageError."""

    async def overviews(self, platform: str, parent_id: str) -> tuple[Overview, ...]: ...

    async def transcript(
        self, channel: Channel, limit: int, before_seq: int | None = None
    ) -> tuple[Line, ...]: ...

    async def last_reply(self, channel: Channel) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Upload:
    name: str
    data: bytes


TakeImages = Callable[
    [Sequence[Upload], str], Awaitable[tuple[tuple[ImageRef, ...], tuple[str, ...]]]
]
"""Uploads and the message's text (for links in it) to stored images and notes for the person."""

FindImage = Callable[[str], Awaitable[ImagePart | None]]
"""A stored image by its digest."""


@dataclass(frozen=True, slots=True)
class ImageActions:
    """Given where vision is on."""

    take: TakeImages
    find: FindImage


def new_browser_id() -> str:
    return secrets.token_urlsafe(24)


def cookie_of(request: Request) -> str | None:
    """The cookie that opens this browser's conversations, if it has a usable one."""
    cookie = request.cookies.get(BROWSER_COOKIE, "")
    return cookie if _ID.fullmatch(cookie) else None


def browser_of(request: Request) -> str:
    """The browser's name. The cookie itself opens its conversations, so nothing is named after it:
    names stand in logs and in the database."""
    cookie = cookie_of(request)
    if cookie is None:
        raise Refused(401, "This page has lost its cookie. Reload it to start anew.")
    return hashlib.sha256(cookie.encode()).hexdigest()[:24]


def _chat_of(request: Request) -> str:
    chat = request.path_params["chat"]
    if not _ID.fullmatch(chat):
        raise Refused(404, "There is no such conversation.")
    return str(chat)


def channel_of(request: Request) -> Channel:
    return Channel(PLATFORM, f"{browser_of(request)}/{_chat_of(request)}")


def _uploads(fields: dict[str, object]) -> list[Upload]:
    rows = fields.get("images", [])
    try:
        return [
            Upload(str(row["name"])[:120], base64.b64decode(row["data"], validate=True))
            for row in (rows if isinstance(rows, list) else [])
        ]
    except (KeyError, TypeError, binascii.Error, ValueError):
        raise Refused(400, "An image did not arrive whole. Try again.") from None


def _text(fields: dict[str, object], images: Sequence[Upload]) -> str:
    text = fields.get("text")
    if not isinstance(text, str) or not (text.strip() or images):
        raise Refused(400, "There is nothing to send.")
    if len(text) > MAX_TEXT:
        raise Refused(413, f"That message is too long: {len(text):,} of {MAX_TEXT:,} characters.")
    return text


class ChatApi:
    """Endpoints under `/api`. Who may call them is decided before."""

    def __init__(
        self,
        answers: ReplyControl,
        memory: ConversationHistory,
        rooms: LiveConversations,
        *,
        clock: Callable[[], float],
        eyes: ImageActions | None = None,
    ) -> None:
        self._answers = answers
        self._memory = memory
        self._rooms = rooms
        self._clock = clock
        self._eyes = eyes

    def routes(self) -> list[Route]:
        table: tuple[tuple[str, str, Callable[[Request], Awaitable[Response]]], ...] = (
            ("GET", "/api/chats", self.chats),
            ("GET", "/api/chats/{chat}/events", self.events),
            ("POST", "/api/chats/{chat}/messages", self.say),
            ("POST", "/api/chats/{chat}/stop", self.stop),
            ("POST", "/api/chats/{chat}/regenerate", self.regenerate),
            ("DELETE", "/api/chats/{chat}", self.delete),
            ("GET", "/api/images/{digest}", self.image),
        )
        return [Route(path, answered(call), methods=[method]) for method, path, call in table]

    async def chats(self, request: Request) -> Response:
        rows = await self._memory.overviews(PLATFORM, browser_of(request))
        return JSONResponse({"chats": [overview_row(row) for row in rows]})

    async def events(self, request: Request) -> Response:
        channel = channel_of(request)

        async def past() -> list[Json]:
            lines = await self._memory.transcript(channel, SHOWN_LINES)
            return [line_entry(line) for line in lines]

        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        stream = listen(self._rooms, channel.id, past)
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

    async def say(self, request: Request) -> Response:
        browser, channel = browser_of(request), channel_of(request)
        fields = await read_json(request, MAX_BODY if self._eyes is None else MAX_UPLOAD)
        sent_id = str(fields.get("id", ""))
        if not _ID.fullmatch(sent_id):
            raise Refused(400, "The message has no usable id.")
        uploads = _uploads(fields)
        text = _text(fields, uploads)
        refs, notes = await self._taken(uploads, text)
        inbound = Inbound(
            message_id=f"{_chat_of(request)}.{sent_id}",
            place=Place(PLATFORM, channel.id, parent_id=browser, private=True),
            author=Author(browser, "You"),
            text=text,
            sent_at=self._clock(),
            addressed=Addressed.DM,
            images=refs,
            notes=notes,
        )
        # Shown first: its reply may begin before `receive` returns.
        self._rooms.said(inbound)
        try:
            decision = await self._answers.receive(inbound)
        except StorageError:
            self._rooms.unsaid(inbound)
            raise Refused(503, _NOT_STORED) from None
        finally:
            self._rooms.leave(channel.id)
        note = _TOO_FAST if decision is not None and not decision.answer else ""
        return JSONResponse({"id": inbound.message_id, "note": note}, status_code=202)

    async def stop(self, request: Request) -> Response:
        channel, reply = channel_of(request), str((await read_json(request)).get("reply", ""))
        if reply in self._rooms.writing_in(channel.id):
            self._answers.stop(reply)
        return JSONResponse({}, status_code=202)

    async def regenerate(self, request: Request) -> Response:
        channel, reply = channel_of(request), str((await read_json(request)).get("reply", ""))
        if reply != await self._memory.last_reply(channel):
            raise Refused(409, "Only the last reply can be made anew.")
        await self._answers.regenerate(reply)
        return JSONResponse({}, status_code=202)

    async def delete(self, request: Request) -> Response:
        channel = channel_of(request)
        await self._answers.delete_conversation(channel)
        self._rooms.forget(channel.id)
        return JSONResponse({})

    async def image(self, request: Request) -> Response:
        browser_of(request)
        digest = str(request.path_params["digest"])
        known = re.fullmatch(r"[0-9a-f]{64}", digest) and self._eyes
        image = await self._eyes.find(digest) if known and self._eyes else None
        if image is None:
            raise Refused(404, "That image is no longer kept.")
        headers = {"Cache-Control": "private, max-age=86400, immutable"}
        return Response(image.data, media_type=image.media_type, headers=headers)

    async def _taken(
        self, uploads: Sequence[Upload], text: str
    ) -> tuple[tuple[ImageRef, ...], tuple[str, ...]]:
        if self._eyes is None:
            note = ("I can't look at images here: vision is switched off.",) if uploads else ()
            return (), note
        return await self._eyes.take(uploads, text)
