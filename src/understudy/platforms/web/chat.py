"""The chat page's JSON API. A conversation belongs to one browser: a hash of the browser's cookie
is part of the channel id, so that no request can reach the conversation of another browser."""

import base64
import binascii
import hashlib
import math
import re
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from understudy.conversation.dependencies import new_id
from understudy.conversation.inbox import Channel, Decision, Line, Overview
from understudy.conversation.messages import (
    Addressed,
    AttachedText,
    Author,
    ImageRef,
    Inbound,
    Place,
)
from understudy.conversation.request_builder import ME
from understudy.errors import StorageError
from understudy.llm.messages import ImagePart
from understudy.network import client_network
from understudy.platforms.web.api import MAX_BODY, ApiError, json_routes, read_json
from understudy.platforms.web.event_stream import event_stream
from understudy.platforms.web.live import LiveConversations
from understudy.platforms.web.rendering import Source
from understudy.platforms.web.serializers import Json, overview_row, page_id, stored_entry

PLATFORM = "web"
BROWSER_COOKIE = "understudy_browser"
MAX_TEXT = 32_000
MAX_UPLOAD = 48_000_000
SHOWN_LINES = 400

_NOT_STORED = "The database cannot store the message at the moment. Try again."
ID = re.compile(r"[A-Za-z0-9_-]{8,64}")


class ReplyControl(Protocol):
    """What the page uses of the message router."""

    async def receive(self, inbound: Inbound, /) -> Decision | None: ...

    async def stop_anywhere(self, channel: Channel, reply_id: str, /) -> object: ...

    async def stop_others(self, channel: Channel, /) -> None: ...

    async def regenerate(self, reply_id: str, /, *, continues: bool = False) -> object: ...

    async def delete_conversation(self, channel: Channel, /) -> None: ...

    async def deleted(self, platform: str, message_id: str, /) -> None: ...


class ConversationHistory(Protocol):
    """What the page uses of the inbox. All calls may raise StorageError."""

    async def overviews(self, platform: str, parent_id: str) -> tuple[Overview, ...]: ...

    async def transcript(
        self, channel: Channel, limit: int, before_seq: int | None = None
    ) -> tuple[Line, ...]: ...

    async def last_reply(self, channel: Channel) -> str | None: ...

    async def parts(self, reply_id: str) -> tuple[str, ...]: ...

    async def delete(self, platform: str, message_id: str) -> str | None: ...

    async def add_past(self, place: Place, lines: Sequence[Line], now: float) -> bool: ...


@dataclass(frozen=True, slots=True)
class Upload:
    name: str
    data: bytes


StoreImages = Callable[
    [Sequence[Upload], str], Awaitable[tuple[tuple[ImageRef, ...], tuple[str, ...]]]
]
"""(uploads, the message's text with links to images) → (stored images, notes for the person)"""

FindImage = Callable[[str], Awaitable[ImagePart | None]]
"""A stored image by its SHA-256 in hex."""


@dataclass(frozen=True, slots=True)
class ImageActions:
    """Storing and reading the images of messages."""

    store: StoreImages
    find: FindImage


FindGreeting = Callable[[Channel, int], tuple[str, str] | None]
"""(conversation, number of the greeting) → the persona's name and the greeting."""


FileTexts = tuple[tuple[AttachedText, ...], tuple[str, ...]]
"""(texts of attached files, notes for the person)"""

ReadFiles = Callable[[Sequence[Upload]], Awaitable[FileTexts]]


@dataclass(frozen=True, slots=True)
class UploadActions:
    """What may be attached to messages; None where it is switched off."""

    images: ImageActions | None = None
    read_files: ReadFiles | None = None


async def _no_files(uploads: Sequence[Upload]) -> FileTexts:
    return (), tuple(f"{upload.name} was not read." for upload in uploads)


def _no_greeting(_channel: Channel, _number: int) -> None:
    """Without personas."""


def new_browser_id() -> str:
    return secrets.token_urlsafe(24)


def cookie_of(request: Request) -> str | None:
    """The secret that gives this browser its conversations; None where it has none."""
    cookie = request.cookies.get(BROWSER_COOKIE, "")
    return cookie if ID.fullmatch(cookie) else None


def browser_of(request: Request) -> str:
    """The browser's id. It is a hash, because ids are written to logs and to the database, and
    the cookie itself gives access to the conversations."""
    cookie = cookie_of(request)
    if cookie is None:
        raise ApiError(401, "This page has lost its cookie. Reload the page.")
    return hashlib.sha256(cookie.encode()).hexdigest()[:24]


def _chat_of(request: Request) -> str:
    chat = request.path_params["chat"]
    if not ID.fullmatch(chat):
        raise ApiError(404, "There is no such conversation.")
    return str(chat)


def channel_of(request: Request) -> Channel:
    return Channel(PLATFORM, f"{browser_of(request)}/{_chat_of(request)}")


def _uploads(fields: dict[str, object], kind: str) -> list[Upload]:
    rows = fields.get(kind, [])
    try:
        return [
            Upload(str(row["name"])[:120], base64.b64decode(row["data"], validate=True))
            for row in (rows if isinstance(rows, list) else [])
        ]
    except (KeyError, TypeError, binascii.Error, ValueError):
        raise ApiError(400, "A file is incomplete. Try again.") from None


def _is_message(line: Line, shown_id: str) -> bool:
    return line.role == "user" and page_id(line.message_id) == shown_id


def _text(fields: dict[str, object], images: Sequence[object]) -> str:
    text = fields.get("text")
    if not isinstance(text, str) or not (text.strip() or images):
        raise ApiError(400, "The message is empty.")
    if len(text) > MAX_TEXT:
        raise ApiError(413, f"That message is too long: {len(text):,} of {MAX_TEXT:,} characters.")
    return text


def _too_many_messages(wait_s: float) -> ApiError:
    seconds = max(1, math.ceil(wait_s))
    message = f"Too many messages. Send again in {seconds} s."
    return ApiError(429, message, retry_after_s=seconds)


class ChatApi:
    """Endpoints under `/api`. `site` checks the access level before it calls them."""

    def __init__(
        self,
        replies: ReplyControl,
        history: ConversationHistory,
        live: LiveConversations,
        *,
        clock: Callable[[], float],
        uploads: UploadActions,
        greeting: FindGreeting = _no_greeting,
    ) -> None:
        self._replies = replies
        self._history = history
        self._live = live
        self._clock = clock
        self._images = uploads.images
        self._greeting = greeting
        self._read_files = uploads.read_files or _no_files
        self._uploads_allowed = bool(uploads.images or uploads.read_files)

    def routes(self) -> list[Route]:
        return json_routes(
            ("GET", "/api/chats", self.chats),
            ("GET", "/api/chats/{chat}/events", self.events),
            ("POST", "/api/chats/{chat}/messages", self.send),
            ("POST", "/api/chats/{chat}/edit", self.edit),
            ("POST", "/api/chats/{chat}/stop", self.stop),
            ("POST", "/api/chats/{chat}/regenerate", self.regenerate),
            ("DELETE", "/api/chats/{chat}", self.delete),
            ("GET", "/api/images/{digest}", self.image),
        )

    async def chats(self, request: Request) -> Response:
        rows = await self._history.overviews(PLATFORM, browser_of(request))
        return JSONResponse({"chats": [overview_row(row) for row in rows]})

    async def events(self, request: Request) -> Response:
        channel = channel_of(request)

        async def past() -> list[Json]:
            lines = await self._history.transcript(channel, SHOWN_LINES)
            renderer = self._live.renderer
            await renderer.render_ahead(Source(line.text) for line in lines)
            return [stored_entry(line, renderer) for line in lines]

        headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
        stream = event_stream(self._live, channel.id, past)
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

    async def send(self, request: Request) -> Response:
        fields = await read_json(request, MAX_UPLOAD if self._uploads_allowed else MAX_BODY)
        uploads, attached = _uploads(fields, "images"), _uploads(fields, "files")
        text = _text(fields, [*uploads, *attached])
        refs, notes = await self._store_images(uploads, text)
        files, more = await self._read_files(attached) if attached else ((), ())
        inbound = replace(
            self._inbound(request, fields, text), images=refs, files=files, notes=(*notes, *more)
        )
        await self._greet(inbound.place, fields.get("greeting"))
        await self._receive(inbound)
        return JSONResponse({"id": page_id(inbound.message_id)}, status_code=202)

    async def edit(self, request: Request) -> Response:
        """Replace a message and everything after it by a new message with the same images."""
        channel, fields = channel_of(request), await read_json(request)
        await self._live.until_stored(channel.id)
        lines = await self._history.transcript(channel, SHOWN_LINES)
        edited = str(fields.get("message", ""))
        index = next((i for i, line in enumerate(lines) if _is_message(line, edited)), None)
        if index is None:
            raise ApiError(404, "There is no such message.")
        images, files = lines[index].images, lines[index].files
        text = _text(fields, [*images, *files])
        inbound = replace(self._inbound(request, fields, text), images=images, files=files)
        await self._replies.stop_others(channel)
        for line in reversed(lines[index:]):
            await self._erase(line)
        self._live.reset(channel.id)
        await self._receive(inbound)
        return JSONResponse({"id": page_id(inbound.message_id)}, status_code=202)

    async def _erase(self, line: Line) -> None:
        if line.role == "user":
            await self._replies.deleted(PLATFORM, line.message_id)
            return
        for part in await self._history.parts(line.reply_id or ""):
            await self._history.delete(PLATFORM, part)

    def _inbound(self, request: Request, fields: dict[str, object], text: str) -> Inbound:
        browser = browser_of(request)
        sent_id = str(fields.get("id", ""))
        if not ID.fullmatch(sent_id):
            raise ApiError(400, "The message has no usable id.")
        return Inbound(
            # The browser is part of it: ids of pages are no secret, and the first copy wins.
            message_id=f"{browser}/{_chat_of(request)}.{sent_id}",
            place=Place(PLATFORM, channel_of(request).id, parent_id=browser, private=True),
            author=Author(browser, "You"),
            text=text,
            sent_at=self._clock(),
            addressed=Addressed.DM,
            unlimited=bool(request.state.is_operator),
            address=client_network(
                request.client.host if request.client else "",
                request.headers.getlist("x-forwarded-for"),
            ),
        )

    async def _greet(self, place: Place, number: object) -> None:
        """Begin a new conversation with the persona's greeting that its page has shown."""
        channel = Channel.of(place)
        found = self._greeting(channel, number) if isinstance(number, int) else None
        if found is None:
            return
        name, text = found
        me = Author(ME, name, is_bot=True)
        line = Line(0, 0, "assistant", "", me, text, self._clock(), reply_id=new_id())
        if await self._history.add_past(place, [line], self._clock()):
            self._live.read_again(channel.id)

    async def _receive(self, inbound: Inbound) -> None:
        # Shown first, because its reply can begin before `receive` returns.
        self._live.add_message(inbound)
        try:
            decision = await self._replies.receive(inbound)
            if decision is not None and decision.retry_at is not None:
                raise _too_many_messages(decision.retry_at - self._clock())
            self._live.message_stored(inbound)
        except ApiError:
            self._live.remove_message(inbound)
            raise
        except StorageError:
            self._live.remove_message(inbound)
            raise ApiError(503, _NOT_STORED) from None
        finally:
            self._live.discard_if_idle(inbound.place.channel_id)

    async def stop(self, request: Request) -> Response:
        channel, reply = channel_of(request), str((await read_json(request)).get("reply", ""))
        await self._replies.stop_anywhere(channel, reply)
        return JSONResponse({}, status_code=202)

    async def regenerate(self, request: Request) -> Response:
        channel, reply = channel_of(request), str((await read_json(request)).get("reply", ""))
        await self._live.until_stored(channel.id)
        lines = await self._history.transcript(channel, 1)
        stopped = lines[-1].reply_id if lines else None
        if reply not in (stopped, await self._history.last_reply(channel)):
            raise ApiError(409, "Only the last reply can be regenerated.")
        await self._replies.regenerate(reply)
        return JSONResponse({}, status_code=202)

    async def delete(self, request: Request) -> Response:
        channel = channel_of(request)
        await self._replies.delete_conversation(channel)
        self._live.clear(channel.id)
        return JSONResponse({})

    async def image(self, request: Request) -> Response:
        browser_of(request)
        digest = str(request.path_params["digest"])
        known = re.fullmatch(r"[0-9a-f]{64}", digest) and self._images
        image = await self._images.find(digest) if known and self._images else None
        if image is None:
            raise ApiError(404, "The image is no longer stored.")
        headers = {"Cache-Control": "private, max-age=86400, immutable"}
        return Response(image.data, media_type=image.media_type, headers=headers)

    async def _store_images(
        self, uploads: Sequence[Upload], text: str
    ) -> tuple[tuple[ImageRef, ...], tuple[str, ...]]:
        if self._images is None:
            note = (
                ("The image was not sent: vision is switched off (vision.enabled).",)
                if uploads
                else ()
            )
            return (), note
        return await self._images.store(uploads, text)
