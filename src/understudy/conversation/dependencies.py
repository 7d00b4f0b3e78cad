"""What a conversation needs from outside, handed in so that tests can bring their own."""

import base64
import random
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from understudy.config.settings import Settings
from understudy.conversation.images import PromptImages
from understudy.conversation.inbox import InboxStore, Line, StoredMessage
from understudy.conversation.lore.effects import EffectStore, MemoryEffects
from understudy.conversation.lore.matching import Patterns
from understudy.conversation.messages import ImageRef
from understudy.conversation.personas.registry import Personas
from understudy.conversation.preferences import Preferences
from understudy.routing.records import Origin
from understudy.routing.request import ReplyRequest, RouterEvent


def new_id() -> str:
    """12 letters and digits that a person can read out."""
    return base64.b32encode(secrets.token_bytes(8)).decode().lower()[:12]


def _unlimited(_user: str) -> float | None:
    return None


def _solvent(_: Origin) -> bool:
    return True


Look = Callable[[Sequence[StoredMessage], Sequence[Line]], Awaitable[PromptImages]]
"""(batch, its history) → what is known of their images."""


async def _blind(_batch: Sequence[StoredMessage], _lines: Sequence[Line]) -> PromptImages:
    return PromptImages()


def _forget(_images: Sequence[ImageRef], _platform: str) -> None:
    """Nobody captions images."""


@dataclass(frozen=True, slots=True)
class Dependencies:
    store: InboxStore
    preferences: Preferences
    reply: Callable[[ReplyRequest], AsyncGenerator[RouterEvent, None]]
    """The ModelRouter's `reply`, of the configuration of this moment."""
    settings: Callable[[], Settings]
    personas: Callable[[], Personas]
    effects: EffectStore = field(default_factory=MemoryEffects)
    """What entries of lorebooks have set going in each conversation."""
    patterns: Patterns = field(default_factory=Patterns)
    look: Look = _blind
    saw: Callable[[Sequence[ImageRef], str], None] = _forget
    """Told of the images a delivered reply has seen, and its platform: they want captions."""
    may_spend: Callable[[Origin], bool] = _solvent
    """False once the day's money is spent."""
    limited_until: Callable[[str], float | None] = _unlimited
    """Until when a user (`platform:id`) has used up what one user may have; None if not."""
    now: Callable[[], float] = time.time
    """Wall clock."""
    chance: Callable[[], float] = random.random
    new_id: Callable[[], str] = new_id
