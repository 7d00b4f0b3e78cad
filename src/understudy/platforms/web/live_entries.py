"""What pages show of a live conversation: its messages and its replies while they are written."""

import asyncio
from dataclasses import dataclass, field
from typing import Literal

from understudy.platforms.web.rendering import Blocks, Renderer, Source
from understudy.platforms.web.serializers import Json

_THOUGHTS_SHOWN = 2_000
"""Characters of the reasoning that are sent while it is being written."""

ReplyState = Literal["writing", "done", "partial", "stopped", "offline"]


@dataclass(slots=True)
class LiveReply:
    """A reply as the page shows it. `revision` is the conversation's tick of its last change."""

    id: str
    after: str
    replaces: tuple[str, ...]
    at: float
    state: ReplyState = "writing"
    text: str = ""
    steps: list[Json] = field(default_factory=list)
    notes: tuple[str, ...] = ()
    retry_at: float | None = None
    total_ms: int = 0
    thoughts: str = ""
    thought_from: float = 0.0
    """Wall clock of the first reasoning."""
    thought_s: float | None = None
    """How long the model reasoned; None while it does."""
    name: str = ""
    """Who replies: the persona's name."""
    unfinished: bool = False
    """Whether it can be continued."""
    is_remote: bool = False
    """Whether another process writes it."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set once the reply is stored, or given up."""
    revision: int = 0
    _rendered: tuple[int, Blocks] = (-1, ())

    def source(self) -> Source:
        return Source(self.text, unfinished=self.state == "writing")

    def blocks(self, renderer: Renderer) -> tuple[int, Blocks]:
        """The latest rendered blocks, with the revision they belong to."""
        if self._rendered[0] != self.revision:
            rendered = renderer.blocks(self.source())
            if rendered is not None:
                self._rendered = (self.revision, rendered)
        return self._rendered

    def entry(self) -> Json:
        """Everything except the blocks, which are sent as differences."""
        writing = self.state == "writing"
        return {
            "id": self.id,
            "kind": "reply",
            "after": self.after,
            "replaces": list(self.replaces),
            "state": self.state,
            "text": "" if writing else self.text,
            "steps": self.steps,
            "notes": list(self.notes),
            "retry_at": self.retry_at,
            "name": self.name,
            "unfinished": self.unfinished,
            "answers": True,
            "at": self.at,
            "total_ms": self.total_ms,
            "thoughts": self.thoughts[-_THOUGHTS_SHOWN:]
            if self.state == "writing"
            else self.thoughts,
            "thought_s": self.thought_s,
        }


@dataclass(slots=True)
class LiveConversation:
    """One conversation that has an open page or a running reply."""

    messages: list[Json] = field(default_factory=list)
    """Messages of the person since the conversation became live."""
    unstored: set[str] = field(default_factory=set)
    """Ids of the messages that are being stored."""
    replies: dict[str, LiveReply] = field(default_factory=dict)
    listeners: set[asyncio.Event] = field(default_factory=set)
    removed: list[str] = field(default_factory=list)
    """Ids of entries that were removed."""
    cleared: int = 0
    """How often the conversation was deleted while it was live."""
    outdated: int = 0
    """How often the pages had to read the stored conversation again."""
    titled: int = 0
    """How often the conversation got a title while it was live."""
    proposed: int = 0
    """How often a note was proposed while it was live."""
    tick: int = 0

    def mark_changed(self, reply: LiveReply) -> None:
        self.tick += 1
        reply.revision = self.tick
        self.notify()

    def notify(self) -> None:
        for listener in self.listeners:
            listener.set()

    @property
    def in_use(self) -> bool:
        writing = any(reply.state == "writing" for reply in self.replies.values())
        return bool(self.listeners) or writing
