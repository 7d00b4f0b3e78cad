"""Which order of servers a conversation uses: chosen by people, or set for a channel or a role.

`model.provider_order` applies where nothing else does.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from understudy.config.settings import Settings
from understudy.conversation.messages import Author, Place
from understudy.conversation.preferences import PreferenceSnapshot

Order = tuple[str, ...] | None
"""The entries of a chosen order, as in `ReplyRequest.order`; None for the usual one."""


@dataclass(frozen=True, slots=True)
class ChosenOrder:
    name: str
    """Of an order, a provider or a provider/model."""
    entries: tuple[str, ...]
    """Providers and provider/models, in order."""
    why: str
    """As a participle for people: `chosen here`."""

    def __str__(self) -> str:
        return f"{self.name} ({self.why})"


@dataclass(frozen=True, slots=True)
class OrderBook:
    """What can be chosen."""

    orders: Mapping[str, Sequence[str]]
    """`model.orders`."""
    usual: tuple[str, ...]
    """provider/model of the candidates of `model.provider_order`, in that order."""
    others: tuple[str, ...] = ()
    """provider/model of the candidates that only `orders` name."""

    def names(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys((*self.orders, *self.usual, *self.others)))

    def entries(self, name: str) -> tuple[str, ...]:
        """The order of this name; a server or model of this name with all usual ones after it;
        empty for an unknown name."""
        if name in self.orders:
            return tuple(self.orders[name])
        known = any(name in (one, one.partition("/")[0]) for one in (*self.usual, *self.others))
        return (name, *self.usual) if known else ()


def order_for(
    place: Place,
    author: Author | None,
    settings: Settings,
    preferences: PreferenceSnapshot,
    book: OrderBook,
) -> ChosenOrder | None:
    """The order of a reply; None: the usual one. `author` wrote the message to be answered."""
    for name, why in _names(place, author, settings, preferences):
        if entries := book.entries(name):
            return ChosenOrder(name, entries, why)
    return None


def _names(
    place: Place, author: Author | None, settings: Settings, preferences: PreferenceSnapshot
) -> Iterable[tuple[str, str]]:
    chosen = preferences.candidate(place)
    if chosen is not None and (place.platform != "web" or settings.web.choose_order):
        yield chosen, "chosen here"
    participation = settings.participation
    for channel_id in (place.channel_id, place.parent_id):
        if channel_id in participation.channel_orders:
            yield participation.channel_orders[channel_id], "configured for this channel"
    for role, name in participation.role_orders.items():
        if author is not None and role in author.roles:
            yield name, "configured for a role"
