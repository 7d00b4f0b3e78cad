"""One question to a bot without a history: `ask` and `demo --say`."""

import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from understudy.app.bot import Bot, answering, open_bot_without_history
from understudy.attachments.source import FileSource
from understudy.config.load import Config
from understudy.config.settings import Settings
from understudy.conversation.delivery import OfflineNotice, Reply, ReplyContext
from understudy.conversation.dependencies import new_id
from understudy.conversation.messages import AttachedText, ImageRef
from understudy.errors import ImageRefusal, ImageRefused
from understudy.images.intake import ImageSource
from understudy.llm.messages import Usage
from understudy.observability.logs import Logs
from understudy.platforms.terminal import PLATFORM, message
from understudy.routing.records import AttemptRecord, ReplyRecord

EXIT_OFFLINE = 3
FIRST_MESSAGE = "Hello! Please introduce yourself in one sentence."
"""Asked at the end of a setup."""
_CHANNEL = "ask"
_NOT_USABLE = "No model server is usable. Run `understudy doctor`."


@dataclass(frozen=True, slots=True)
class OneShotReply:
    text: str
    record: ReplyRecord
    offline: bool
    """No provider answered; the text says so."""


class _HeldDelivery:
    """Holds the text until the reply ends, so that earlier failures stay invisible."""

    def __init__(self, answer: asyncio.Future[OneShotReply]) -> None:
        self._answer = answer
        self._reply: OneShotReply | None = None

    async def earlier(self) -> tuple[str, ...]:
        """Nothing is stored, so there are no earlier parts."""
        return ()

    def shown(self) -> bool:
        return False

    async def write(self, text: str) -> None:
        """The whole text comes with `finish`."""

    async def finish(self, reply: Reply) -> tuple[str, ...]:
        self._reply = OneShotReply(reply.text, reply.record, offline=False)
        return (reply.id,)

    async def offline(self, notice: OfflineNotice) -> tuple[str, ...]:
        self._reply = OneShotReply(notice.text, notice.record, offline=True)
        return (notice.reply_id,)

    async def withdraw(self) -> None:
        """A question cannot be stopped or deleted here."""

    async def aclose(self) -> None:
        if self._answer.done():
            # The caller was cancelled.
            return
        if self._reply is None:
            self._answer.cancel()
        else:
            self._answer.set_result(self._reply)


async def ask_once(
    config: Config,
    logs: Logs,
    text: str,
    images: Sequence[ImageSource] = (),
    files: Sequence[FileSource] = (),
) -> OneShotReply:
    """The bot's answer to `text`, outside any conversation.

    Raises ConfigError and StorageError, and ImageRefused where an image or a file cannot be sent.
    """
    config = replace(config, settings=_for_operator(config.settings))
    async with open_bot_without_history(config, logs) as bot:
        answer: asyncio.Future[OneShotReply] = asyncio.get_running_loop().create_future()

        def open_delivery(_task: ReplyContext) -> _HeldDelivery:
            return _HeldDelivery(answer)

        bot.messages.register(PLATFORM, open_delivery)
        async with answering(bot, grace_s=0):
            # A command-line byte that is not UTF-8 arrives as a lone surrogate.
            question = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
            refs = await _image_refs(bot, images, question)
            asked = message(question, new_id(), channel=_CHANNEL)
            texts = await _texts_of(bot, files)
            await bot.messages.receive(replace(asked, images=refs, files=texts))
            return await answer


async def _image_refs(
    bot: Bot, images: Sequence[ImageSource], question: str
) -> tuple[ImageRef, ...]:
    """The images to send; a named one that cannot be sent is an error, a linked one a note."""
    named, problems = await bot.images.take(images)
    if problems and bot.vision().enabled:
        raise ImageRefused(ImageRefusal.UNREACHABLE, " ".join(problems))
    linked, notes = await bot.images.take((), question)
    for note in (*problems, *notes):
        sys.stderr.write(f"{note}\n")
    return (*named, *linked)


async def _texts_of(bot: Bot, files: Sequence[FileSource]) -> tuple[AttachedText, ...]:
    read = await bot.attachments.read(files)
    if len(read.files) < len(files):
        problems = read.notes or [f"{name} is no text or PDF file." for name in read.others]
        raise ImageRefused(ImageRefusal.UNREACHABLE, " ".join(problems))
    for note in read.notes:
        sys.stderr.write(f"{note}\n")
    return read.files


def _for_operator(settings: Settings) -> Settings:
    """Advice instead of an apology: the person who runs `ask` is usually the operator."""
    if "config" in settings.offline.model_fields_set:
        return settings
    offline = settings.offline.model_copy(update={"config": _NOT_USABLE})
    return settings.model_copy(update={"offline": offline})


def image_file(path: Path) -> ImageSource:
    """An image from the disk. Raises ImageRefused."""
    try:
        return ImageSource(path.name, data=path.read_bytes())
    except OSError as error:
        raise ImageRefused(ImageRefusal.UNREACHABLE, f"{path}: {error.strerror}") from None


def attached_file(path: Path) -> FileSource:
    """A file from the disk. Raises ImageRefused."""
    try:
        return FileSource(path.name, data=path.read_bytes())
    except OSError as error:
        raise ImageRefused(ImageRefusal.UNREACHABLE, f"{path}: {error.strerror}") from None


def as_row(answer: OneShotReply) -> dict[str, object]:
    """The documented shape of `ask --json`."""
    record, winner = answer.record, answer.record.winner
    usage = record.usage if winner is None else winner.usage
    return {
        "id": record.request_id,
        "reply": None if answer.offline else answer.text,
        "offline": answer.text if answer.offline else None,
        "provider": winner.provider if winner else None,
        "model": (winner.model_served or winner.model_requested) if winner else None,
        "usage": _usage_row(usage),
        "total_usage": _usage_row(record.usage),
        "attempts": [_attempt_row(attempt) for attempt in record.attempts],
    }


def _usage_row(usage: Usage | None) -> dict[str, object] | None:
    if usage is None:
        return None
    return {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "source": usage.source.value,
    }


def _attempt_row(attempt: AttemptRecord) -> dict[str, object]:
    return {
        "provider": attempt.provider,
        "model": attempt.model_requested,
        "outcome": attempt.outcome.value,
        "error_class": attempt.error_class and attempt.error_class.value,
        "skip_reason": attempt.skip_reason and attempt.skip_reason.value,
        "seconds": round(attempt.t_total_ms / 1000, 3),
    }
