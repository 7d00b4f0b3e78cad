"""Search in the conversations of one browser, and conversations as files."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Protocol

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from understudy.conversation.inbox import Channel, Line, Overview, Thoughts
from understudy.conversation.messages import Author
from understudy.conversation.request_builder import ME
from understudy.platforms.web.api import ApiError, json_routes
from understudy.platforms.web.chat import PLATFORM, browser_of, channel_of
from understudy.platforms.web.memory import Search
from understudy.platforms.web.serializers import overview_row, page_id

MAX_LINES = 10_000
_MAX_NAME = 100
_MAX_SEARCHED = 200
"""Conversations; without an index the newest ones are searched."""
_EXCERPT_CHARS = 160


class ConversationReader(Protocol):
    """What is used of the inbox. All calls may raise StorageError."""

    async def overviews(self, platform: str, parent_id: str) -> tuple[Overview, ...]: ...

    async def transcript(
        self, channel: Channel, limit: int, before_seq: int | None = None
    ) -> tuple[Line, ...]: ...

    async def title(self, channel: Channel) -> str | None: ...


class ChatExport:
    def __init__(self, history: ConversationReader, search: Search | None = None) -> None:
        self._history = history
        self._search = search

    def routes(self) -> list[Route]:
        return json_routes(
            ("GET", "/api/search", self.search),
            ("GET", "/api/chats/{chat}/export", self.export),
        )

    async def search(self, request: Request) -> Response:
        """The conversations that contain all words of `q` in one message or in the title, with
        the message."""
        query = request.query_params.get("q", "")
        words = query.casefold().split()
        overviews = await self._history.overviews(PLATFORM, browser_of(request))
        if self._search is not None:
            excerpts = dict(reversed(await self._search(browser_of(request), query)))
            rows = [
                overview_row(one) | {"excerpt": excerpts.get(one.channel, "")[:_EXCERPT_CHARS]}
                for one in overviews
                if one.channel in excerpts or _in_title(one, words)
            ]
            return JSONResponse({"chats": rows})
        found = [one for one in overviews[:_MAX_SEARCHED] if await self._contains(one, words)]
        return JSONResponse({"chats": [overview_row(one) for one in found]})

    async def export(self, request: Request) -> Response:
        channel = channel_of(request)
        lines = await self._history.transcript(channel, MAX_LINES)
        if not lines:
            raise ApiError(404, "There is no such conversation.")
        kind = request.query_params.get("format", "markdown")
        if kind == "json":
            title = await self._history.title(channel)
            return _download(_as_json(lines, title), "conversation.json", "application/json")
        if kind != "markdown":
            raise ApiError(400, "format is one of: markdown, json")
        return _download(_as_markdown(lines), "conversation.md", "text/markdown")

    async def _contains(self, overview: Overview, words: Sequence[str]) -> bool:
        if _in_title(overview, words):
            return True
        lines = await self._history.transcript(overview.channel, MAX_LINES)
        texts = (line.text.casefold() for line in lines)
        return any(all(word in text for word in words) for text in texts)


def _in_title(overview: Overview, words: Sequence[str]) -> bool:
    return all(word in overview.title.casefold() for word in words)


def _download(content: str, name: str, media_type: str) -> Response:
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(content, media_type=media_type, headers=headers)


def _speaker(line: Line) -> str:
    return line.author.name or ("You" if line.role == "user" else "Bot")


def _when(line: Line) -> str:
    return datetime.fromtimestamp(line.at, UTC).isoformat(timespec="seconds")


def _as_markdown(lines: Sequence[Line]) -> str:
    return (
        "\n\n".join(f"**{_speaker(line)}** ({_when(line)})\n\n{line.text}" for line in lines) + "\n"
    )


def _as_json(lines: Sequence[Line], title: str | None) -> str:
    messages = [
        {
            "id": line.reply_id if line.role == "assistant" else page_id(line.message_id),
            "role": line.role,
            "name": _speaker(line),
            "at": _when(line),
            "text": line.text,
            **({"thoughts": line.thoughts.text} if line.thoughts else {}),
        }
        for line in lines
    ]
    content = {"title": title, "messages": messages}
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def imported_lines(content: dict[str, object]) -> list[Line]:
    """The messages of an exported conversation, without ids. Raises ApiError."""
    messages = content.get("messages")
    if not isinstance(messages, list) or not 0 < len(messages) <= MAX_LINES:
        raise ApiError(400, "The file is no conversation that this page has exported as JSON.")
    return [_imported(message) for message in messages]


def _imported(message: object) -> Line:
    match message:
        case {
            "role": "user" | "assistant" as role,
            "text": str(text),
            "name": str(name),
            **others,
        } if text:
            is_reply = role == "assistant"
            author = Author(ME if is_reply else "imported", name[:_MAX_NAME], is_bot=is_reply)
            thoughts = others.get("thoughts")
            return Line(
                seq=0,
                position=0,
                role=role,
                message_id="",
                author=author,
                text=text,
                at=_time(others.get("at")),
                thoughts=Thoughts(thoughts) if isinstance(thoughts, str) and thoughts else None,
            )
    raise ApiError(400, "A message of the file has no role, name or text.")


def _time(at: object) -> float:
    try:
        return datetime.fromisoformat(str(at)).timestamp()
    except (ValueError, OverflowError, OSError):
        return 0.0
