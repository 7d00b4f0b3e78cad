"""Markdown rendered ahead of the pages that show it."""

from collections.abc import AsyncIterator

import pytest

from understudy.platforms.web.rendering import RENDERER_LIMITS, Renderer, Source, plain
from understudy.workers.pool import WorkerLimits, WorkerPool

LONG = Source("**bold** and " + "words " * 1000)


@pytest.fixture
async def pool() -> AsyncIterator[WorkerPool]:
    async with WorkerPool("markdown", RENDERER_LIMITS) as pool:
        yield pool


async def test_a_short_text_is_rendered_at_once(pool: WorkerPool) -> None:
    assert Renderer(pool).blocks(Source("**a**")) == ('<p dir="auto"><strong>a</strong></p>\n',)
    assert pool.children == 0


@pytest.mark.slow
async def test_a_long_text_is_rendered_in_a_child_process_first(pool: WorkerPool) -> None:
    renderer = Renderer(pool)
    assert renderer.blocks(LONG) is None

    await renderer.render_ahead([LONG])

    assert renderer.blocks(LONG) == Renderer().blocks(LONG)
    assert pool.children == 1


@pytest.mark.slow
async def test_many_short_texts_are_rendered_in_a_child_process_too(pool: WorkerPool) -> None:
    await Renderer(pool).render_ahead(Source(f"text {at} " * 100) for at in range(10))

    assert pool.children == 1


@pytest.mark.slow
async def test_only_the_text_that_takes_too_long_is_shown_plain() -> None:
    # A table whose rows are filled up to the width of its head.
    hostile = Source("|" + "a|" * 120 + "\n|" + "-|" * 120 + "\n" + "ab\n" * 19_000)
    async with WorkerPool("markdown", WorkerLimits(deadline_s=0.3)) as pool:
        renderer = Renderer(pool)

        await renderer.render_ahead([LONG, hostile])

        assert renderer.blocks(hostile) == plain(hostile.text)
        assert renderer.blocks(LONG) == Renderer().blocks(LONG)


def test_plain_text_is_escaped() -> None:
    assert plain("<b>") == ('<pre class="rest">&lt;b&gt;</pre>',)


async def test_unfinished_text_is_rendered_apart_from_the_same_finished_text() -> None:
    renderer = Renderer()

    assert renderer.blocks(Source("**a", unfinished=True)) != renderer.blocks(Source("**a"))
