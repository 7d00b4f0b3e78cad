"""`logging.prompts`: writes prompts and replies to files with owner-only permissions.

Never in the log stream. Off by default; the log warns while it is on.
"""

import asyncio
import json
import os
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import structlog

from understudy.config.settings import Logging
from understudy.llm.messages import ChatRequest, Message, TextPart
from understudy.observability import events
from understudy.routing.records import describe_route
from understudy.routing.request import Fit, Prompt, Reply, ReplyEnded, ReplyRequest, ReplySink

_log = structlog.get_logger("understudy.prompts")


class PromptLog:
    """Wraps the router's `reply`, and writes one file per finished reply."""

    def __init__(
        self,
        ask: Reply,
        settings: Callable[[], Logging],
        base: Path,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._ask = ask
        self._settings = settings
        self._base = base
        self._wall = wall

    def announce(self) -> None:
        """Log a warning with the folder while prompts are written."""
        settings = self._settings()
        if settings.prompts:
            _log.warning(events.PROMPTS_LOGGED, folder=str(self._base / settings.prompts_folder))

    def reply(self, request: ReplyRequest, sink: ReplySink) -> Awaitable[ReplyEnded]:
        """As `ModelRouter.reply`."""
        if self._settings().prompts:
            return self._recorded(request, sink)
        return self._ask(request, sink)

    async def _recorded(self, request: ReplyRequest, sink: ReplySink) -> ReplyEnded:
        prompts: list[ChatRequest] = []

        def build(fit: Fit) -> Prompt:
            prompt = request.build(fit)
            if prompt.request not in prompts:
                prompts.append(prompt.request)
            return prompt

        ended = await self._ask(msgspec.structs.replace(request, build=build), sink)
        await self._write_page(prompts, ended)
        return ended

    async def _write_page(self, prompts: list[ChatRequest], ended: ReplyEnded) -> None:
        folder = self._base / self._settings().prompts_folder
        page = {
            "id": ended.record.request_id,
            "started": events.iso(ended.record.ts),
            "sink": ended.record.sink,
            "outcome": ended.record.outcome,
            "route": describe_route(ended.record.attempts),
            "prompts": [_as_json(request) for request in prompts],
            "reply": ended.text,
        }
        text = json.dumps(page, ensure_ascii=False, indent=2)
        try:
            await asyncio.to_thread(_write, folder, self._wall(), ended.record.request_id, text)
        except OSError as error:
            _log.error(events.PROMPTS_LOST, folder=str(folder), why=error.strerror or "")


def _as_json(request: ChatRequest) -> dict[str, object]:
    page: dict[str, object] = {"messages": [_message(message) for message in request.messages]}
    if request.extra:
        page["body"] = request.extra.decode(errors="replace")
    return page


def _message(message: Message) -> dict[str, str]:
    parts = (
        part.text if isinstance(part, TextPart) else f"[image {part.width}x{part.height}]"
        for part in message.parts
    )
    return {"role": message.role, "text": "\n".join(parts)}


def _write(folder: Path, wall: float, reply_id: str, text: str) -> None:
    now = datetime.fromtimestamp(wall, UTC)
    day = folder / f"{now:%Y-%m-%d}"
    for created in (folder, day):
        created.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = "".join(c if c.isalnum() and c.isascii() else "-" for c in reply_id)[:64]
    path = day / f"{now:%H%M%S-%f}-{name}.json"
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(number, "w", encoding="utf-8") as file:
        file.write(text)
