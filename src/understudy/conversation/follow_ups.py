"""What follows a reply once it is delivered and stored: titles, proposals of notes."""

from collections.abc import Callable
from dataclasses import dataclass

from understudy.conversation.inbox import StoredMessage
from understudy.conversation.messages import Author, Place
from understudy.conversation.orders import Order


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
    def user(self) -> str:
        """The author as the ledger names them."""
        return f"{self.place.platform}:{self.author.id}"


FollowUp = Callable[[Answered], None]
"""Returns at once."""
