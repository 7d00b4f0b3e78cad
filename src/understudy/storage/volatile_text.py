"""Message text in memory only, for `conversation.persist: false`."""

from collections import OrderedDict
from dataclasses import dataclass, replace

from understudy.conversation.inbox import Thoughts
from understudy.conversation.messages import AttachedText, ImageRef, Inbound

_MAX_MESSAGES = 20_000


@dataclass(frozen=True, slots=True)
class MessageText:
    """The parts of a message or a reply that must not reach the disk."""

    name: str
    text: str
    images: tuple[ImageRef, ...] = ()
    files: tuple[AttachedText, ...] = ()
    notes: tuple[str, ...] = ()
    thoughts: Thoughts | None = None


def text_within(inbound: Inbound) -> MessageText:
    return MessageText(
        inbound.author.name, inbound.text, inbound.images, inbound.files, inbound.notes
    )


def with_text(inbound: Inbound, text: MessageText) -> Inbound:
    """The message with its text from memory."""
    return replace(
        inbound,
        author=replace(inbound.author, name=text.name),
        text=text.text,
        images=text.images,
        files=text.files,
        notes=text.notes,
    )


class VolatileTexts:
    """The newest messages by (platform, message id); the oldest are dropped first."""

    def __init__(self) -> None:
        self._texts: OrderedDict[tuple[str, str], MessageText] = OrderedDict()

    def __getitem__(self, key: tuple[str, str]) -> MessageText | None:
        return self._texts.get(key)

    def __setitem__(self, key: tuple[str, str], text: MessageText) -> None:
        self._texts[key] = text
        while len(self._texts) > _MAX_MESSAGES:
            self._texts.popitem(last=False)

    def __delitem__(self, key: tuple[str, str]) -> None:
        self._texts.pop(key, None)
