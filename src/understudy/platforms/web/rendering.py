"""Markdown of replies, rendered in a child process before a page asks for it.

Rendering takes a millisecond for 1,000 characters, hostile text 20 times as long, and nothing
stops it. Only short text is rendered in this process; text that takes too long is shown plain.
"""

import time
from collections.abc import Iterable, Iterator
from html import escape

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


def render_all(texts: list[str]) -> list[Blocks]:
    """Runs in a child process."""
    return [blocks(text) for text in texts]


def plain(text: str) -> Blocks:
    return (f'<pre class="rest">{escape(text)}</pre>',)


class Renderer:
    """Without a pool, everything is rendered at once in this process."""

    def __init__(self, pool: WorkerPool | None = None) -> None:
        self._pool = pool
        self._known: dict[str, Blocks] = {}
        self._chars = 0

    def blocks(self, text: str) -> Blocks | None:
        """The rendered text; `None` for a long one that `render_ahead` has not rendered."""
        known = self._known.get(text)
        if known is None and (self._pool is None or len(text) <= _SHORT):
            known = self._keep(text, blocks(text))
        return known

    async def render_ahead(self, texts: Iterable[str]) -> None:
        """Render what is not known yet, in a few seconds at most."""
        if self._pool is None:
            return
        ends = time.monotonic() + _PATIENCE_S
        waiting = [text for text in dict.fromkeys(texts) if text not in self._known]
        if sum(map(len, waiting)) <= _SHORT:
            return
        for batch in _batches(waiting):
            if time.monotonic() < ends and not await self._render(batch) and len(batch) > 1:
                for text in batch:
                    if time.monotonic() < ends:
                        await self._render([text])

    async def _render(self, texts: list[str]) -> bool:
        assert self._pool is not None
        try:
            rendered = await self._pool.run(_RENDER, texts, kind=list[Blocks])
        except (WorkerKilled, WorkFailed):
            if len(texts) > 1:
                return False
            rendered = [plain(texts[0])]
        for text, result in zip(texts, rendered, strict=True):
            self._keep(text, result)
        return True

    def _keep(self, text: str, result: Blocks) -> Blocks:
        self._known[text] = result
        self._chars += len(text)
        while self._chars > _CACHED_CHARS:
            oldest = next(iter(self._known))
            del self._known[oldest]
            self._chars -= len(oldest)
        return result


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        if batch and size + len(text) > _BATCH_CHARS:
            yield batch
            batch, size = [], 0
        batch.append(text)
        size += len(text)
    if batch:
        yield batch
