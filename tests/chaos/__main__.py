"""`python -m chaos MESSAGES KILLS [SEED]` plays one run and ends with its result in one line."""

import asyncio
import os
import sys
from itertools import chain
from pathlib import Path
from tempfile import mkdtemp

from chaos.run_size import Size
from chaos.scenario import play

_SHOWN = 40


def main() -> int:
    messages, kills, *seed = map(int, sys.argv[1:])
    size = Size(messages, kills, *(seed or [1]))
    folder = Path(mkdtemp(prefix="chaos-"))
    # llama.cpp says a lot, and this side notes each connection that was broken on purpose.
    with (folder / "servers.log").open("w") as log:
        os.dup2(log.fileno(), sys.stderr.fileno())
    outcome = asyncio.run(play(size, folder))
    found = outcome.verdict
    for wrong in [*chain(found.lost, found.doubled, found.violations)][:_SHOWN]:
        print(wrong)  # noqa: T201
    print(outcome.summary)  # noqa: T201
    if not found.clean:
        print(f"{size.replay}; logs and database are in {folder}")  # noqa: T201
    print(outcome.line)  # noqa: T201
    return 0 if found.clean else 1


if __name__ == "__main__":
    sys.exit(main())
