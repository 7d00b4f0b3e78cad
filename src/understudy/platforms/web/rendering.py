"""Markdown of replies, rendered in a child process before a page asks for it.

Rendering takes a millisecond for 1,000 characters, hostile text 20 times as long, and nothing
stops it. Only short text is rendered in this process; text that takes too long is shown plain.
"""

import time
from collections.abc import Iterable, Iterator
from html import escape
from typing import NamedTuple

from understudy.errors import WorkerKilled, WorkFailed
from understudy.platforms.web.markdown import blocks
from understudy.workers.pool import WorkerLimits, WorkerPool

RENDERER_LIMITS = WorkerLimits(
    workers=1, deadline_s=1.5, wait_s=3.0, memory_mb=128, together_mb=128
)
_RENDER = "understudy.platforms.web.rendering:render_all"
_SHORT = 2_000
_BATCH_CHARS = 60_000
_CACHED_CHARS = 2_000_000
_PATIENCE_S = 5.0
"""For all texts of one page; those that are left are shown plain."""

Blocks = tuple[str, ...]


class Source(NamedTuple):
    """Markdown to render. Open markup of unfinished text is closed."""

    text: str
    unfinished: bool = False


def render_all(sources: list[Source]) -> list[Blocks]:
    """Runs in a child process."""
    return [blocks(text, unfinished=unfinished) for text, unfinished in sources]


def plain(text: str) -> Blocks:
    return (f'<pre class="rest">{escape(text)}</pre>',)


class Renderer:
    """Without a pool, everything is rendered at once in this process."""

    def __init__(self, pool: WorkerPool | None = None) -> None:
        self._pool = pool
        self._known: dict[Source, Blocks] = {}
        self._chars = 0

    def blocks(self, source: Source) -> Blocks | None:
        """The rendered text; `None` for a long one that `render_ahead` has not rendered."""
        known = self._known.get(source)
        if known is None and (self._pool is None or len(source.text) <= _SHORT):
            known = self._keep(source, blocks(source.text, unfinished=source.unfinished))
        return known

    async def render_ahead(self, sources: Iterable[Source]) -> None:
        """Render what is not known yet, in a few seconds at most."""
        if self._pool is None:
            return
        ends = time.monotonic() + _PATIENCE_S
        waiting = [source for source in dict.fromkeys(sources) if source not in self._known]
        if sum(len(source.text) for source in waiting) <= _SHORT:
            return
        for batch in _batches(waiting):
            if time.monotonic() < ends and not await self._render(batch) and len(batch) > 1:
                for source in batch:
                    if time.monotonic() < ends:
                        await self._render([source])

    async def _render(self, sources: list[Source]) -> bool:
        assert self._pool is not None
        try:
            rendered = await self._pool.run(_RENDER, sources, kind=list[Blocks])
        except (WorkerKilled, WorkFailed):
            if len(sources) > 1:
                return False
            rendered = [plain(sources[0].text)]
        for source, result in zip(sources, rendered, strict=True):
            self._keep(source, result)
        return True

    def _keep(self, source: Source, result: Blocks) -> Blocks:
        self._known[source] = result
        self._chars += len(source.text)
        while self._chars > _CACHED_CHARS:
            oldest = next(iter(self._known))
            del self._known[oldest]
            self._chars -= len(oldest.text)
        return result


def _batches(sources: Iterable[Source]) -> Iterator[list[Source]]:
    batch: list[Source] = []
    size = 0
    for source in sources:
        if batch and size + len(source.text) > _BATCH_CHARS:
            yield batch
            batch, size = [], 0
        batch.append(source)
        size += len(source.text)
    if batch:
        yield batch
