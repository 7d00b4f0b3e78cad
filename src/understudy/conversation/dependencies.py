"""What the message router needs from other packages, passed in."""

import base64
import random
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from dataclasses import dataclass, field

from understudy.config.settings import Settings
from understudy.conversation.follow_ups import FollowUp
from understudy.conversation.images import PromptImages
from understudy.conversation.inbox import InboxStore, Line, StoredMessage
from understudy.conversation.lore.effects import EffectStore, InMemoryEffects
from understudy.conversation.lore.patterns import Patterns
from understudy.conversation.orders import OrderBook
from understudy.conversation.personas.registry import Personas
from understudy.conversation.preferences import Preferences
from understudy.conversation.remembered import Memory, NoMemory
from understudy.conversation.surroundings import ContextSource
from understudy.routing.records import Origin
from understudy.routing.request import Reply


def new_id() -> str:
    """12 lower-case letters and digits, easy to read aloud."""
    return base64.b32encode(secrets.token_bytes(8)).decode().lower()[:12]


async def _unlimited(_reply_id: str, _origin: Origin) -> float | None:
    return None


async def _any_message(_user: str, _network: str, _most: int) -> float | None:
    return None


def _no_networks(_user: str, _network: str) -> None:
    """Without limits of networks."""


async def _no_others(_reply_id: str) -> bool:
    return False


def _always(_: Origin) -> bool:
    return True


def _does_upkeep() -> bool:
    return True


SelectImages = Callable[[Sequence[StoredMessage], Sequence[Line]], Awaitable[PromptImages]]
"""(batch, its history) → their images."""


async def _no_images(_batch: Sequence[StoredMessage], _lines: Sequence[Line]) -> PromptImages:
    return PromptImages()


@dataclass(frozen=True, slots=True)
class Dependencies:
    store: InboxStore
    preferences: Preferences
    reply: Reply
    """The `reply` of the current ModelRouter."""
    settings: Callable[[], Settings]
    personas: Callable[[], Personas]
    effects: EffectStore = field(default_factory=InMemoryEffects)
    """Timed effects of lorebook entries, per conversation."""
    patterns: Patterns = field(default_factory=Patterns)
    variables: MutableMapping[str, dict[str, str]] = field(default_factory=dict)
    """Macro variables by conversation, until the process ends."""
    context_sources: MutableMapping[str, ContextSource] = field(default_factory=dict)
    """By platform; platforms add themselves."""
    select_images: SelectImages = _no_images
    memory: Memory = field(default_factory=NoMemory)
    follow_ups: Sequence[FollowUp] = ()
    """Called once a reply is delivered and stored."""
    orders: Callable[[], OrderBook] = lambda: OrderBook({}, ())
    may_spend: Callable[[Origin], bool] = _always
    """False once the daily spending limit is reached."""
    reserve: Callable[[str, Origin], Awaitable[float | None]] = _unlimited
    """Reserve the reply of this id in its user's quota; when that is available again, or None."""
    reserve_message: Callable[[str, str, int], Awaitable[float | None]] = _any_message
    """Count a message of (user, network) at all processes, where the platform knows networks; when
    another one fits where that many came within the minute, or None."""
    note_network: Callable[[str, str], None] = _no_networks
    """Called with (user, network) of each message, where the platform knows networks and the user
    is limited by theirs; the network is empty where they are not."""
    stop_elsewhere: Callable[[str], Awaitable[bool]] = _no_others
    """Ask the other processes to stop the reply of this id; False where there are none."""
    does_upkeep: Callable[[], bool] = _does_upkeep
    """Whether this process deletes old messages: of several on one database, one does."""
    now: Callable[[], float] = time.time
    """Wall clock."""
    chance: Callable[[], float] = random.random
    new_id: Callable[[], str] = new_id
