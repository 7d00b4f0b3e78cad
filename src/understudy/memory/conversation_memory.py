"""The memory as the conversation uses it: reads for prompts, and schedules summaries."""

from collections.abc import Callable, Sequence
from functools import partial

from understudy.config.settings import Memory as MemorySettings
from understudy.conversation.inbox import Channel, StoredMessage
from understudy.conversation.remembered import KeptHistory, Remembered
from understudy.memory.background import BackgroundModels
from understudy.memory.recall import best_lines, words_to_find
from understudy.memory.store import MemoryStore, NoteScope, Wanted
from understudy.memory.summarizer import Summarizer


class ConversationMemory:
    """Implements `conversation.remembered.Memory`."""

    def __init__(
        self,
        store: MemoryStore,
        summarizer: Summarizer,
        models: BackgroundModels,
        settings: Callable[[], MemorySettings],
    ) -> None:
        self._store = store
        self._summarizer = summarizer
        self._models = models
        self._settings = settings

    async def remember(self, batch: Sequence[StoredMessage]) -> Remembered:
        settings = self._settings()
        place = batch[-1].inbound.place
        channel = Channel.of(place)
        people = {m.inbound.author.id: m.inbound.author for m in batch}
        scopes = {NoteScope.of(place, author_id): people[author_id] for author_id in people}
        words: tuple[str, ...] = ()
        if settings.recall:
            words = words_to_find(message.inbound.text for message in batch)
        choose = partial(best_lines, known={message.seq for message in batch})
        wanted = Wanted(channel, tuple(scopes), words, batch[-1].seq, choose)
        read = await self._store.recollect(wanted)
        return Remembered(
            notes=tuple(
                (author, note.text)
                for scope, author in scopes.items()
                for note in read.notes.get(scope, ())
            ),
            excerpts=read.lines,
            excerpt_tokens=settings.recall_tokens,
            summary=read.summary.text,
            summary_first=read.summary.first,
            compacted=read.summary.compacted,
        )

    def reply_started(self) -> None:
        self._models.reply_started()

    def reply_ended(self, kept: KeptHistory | None) -> None:
        self._models.reply_ended()
        if kept is not None:
            self._summarizer.schedule(kept)
