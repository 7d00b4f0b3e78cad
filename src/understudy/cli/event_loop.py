"""The event loop of long-running commands."""

import asyncio
from collections.abc import Coroutine
from importlib.util import find_spec


def run_with_fast_loop(main: Coroutine[object, object, None]) -> None:
    """As `asyncio.run`, with uvloop where it is installed: it has no build for Windows.

    There `asyncio.run` chooses the Proactor loop, as it should: the Selector loop of Windows starts
    no child processes, and those handle pictures, markdown and patterns.
    """
    if find_spec("uvloop") is None:
        asyncio.run(main)
        return
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main)
