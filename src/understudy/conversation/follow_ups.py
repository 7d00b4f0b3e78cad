"""What follows a reply once it is delivered and stored: captions, titles, proposals of notes."""

from collections.abc import Callable
from dataclasses import dataclass

from understudy.conversation.inbox import StoredMessage
from understudy.conversation.messages import Author, ImageRef, Place
from understudy.conversation.orders import Order
from understudy.routing.records import Origin
from understudy.routing.request import Reply


@dataclass(frozen=True, slots=True)
class Answered:
    """A delivered reply, with what it answers."""

    messages: tuple[StoredMessage, ...]
    """In order, at least one; the last one's author is `author`."""
    text: str
    others: frozenset[str] = frozenset()
    """Names of the other people in the conversation."""
    order: Order = None
    """The order that was chosen for it."""
    again: bool = False
    """Whether it replaces an earlier reply."""

    @property
    def place(self) -> Place:
        return self.messages[-1].inbound.place

    @property
    def author(self) -> Author:
        return self.messages[-1].inbound.author

    @property
    def images(self) -> tuple[ImageRef, ...]:
        return tuple(image for message in self.messages for image in message.inbound.images)

    @property
    def user(self) -> str:
        """The author as the ledger names them."""
        return f"{self.place.platform}:{self.author.id}"


FollowUp = Callable[[Answered], None]
"""Returns at once."""


@dataclass(frozen=True, slots=True)
class FollowUpModels:
    """How a request of the bot's own is answered."""

    reply: Reply
    """The `reply` of the current ModelRouter."""
    order: Callable[[Order], tuple[str, ...]]
    """The conversation's order → its candidates, those that cost nothing first."""
    enabled: Callable[[], bool]
    may_spend: Callable[[Origin], bool]
    new_id: Callable[[], str]
