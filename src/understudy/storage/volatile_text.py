"""What was said, kept in memory only, for `conversation.persist: false`."""

from collections import OrderedDict
from dataclasses import dataclass

from understudy.conversation.messages import ImageRef

_MOST = 20_000


@dataclass(frozen=True, slots=True)
class MessageText:
    """What of a message or a reply must not reach the disk."""

    name: str
    text: str
    images: tuple[ImageRef, ...] = ()
    notes: tuple[str, ...] = ()


class VolatileTexts:
    """The newest messages by (platform, message id); the oldest are forgotten first."""

    def __init__(self) -> None:
        self._words: OrderedDict[tuple[str, str], MessageText] = OrderedDict()

    def __getitem__(self, key: tuple[str, str]) -> MessageText | None:
        return self._words.get(key)

    def __setitem__(self, key: tuple[str, str], words: MessageText) -> None:
        self._words[key] = words
        while len(self._words) > _MOST:
            self._words.popitem(last=False)

    def __delitem__(self, key: tuple[str, str]) -> None:
        self._words.pop(key, None)
