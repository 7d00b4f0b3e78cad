"""`python -m measure_attached_files`: gives each file of `attached_files` to `understudy ask`.

Prints a table of the time of the whole command, the most memory of the child process that reads the
file, what the model saw, and what the person read. The first row is a short text, for comparison.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from attached_files import HOSTILE, ORDINARY, Attached
from command import plain_environment
from understudy.rehearsal.faults import Behaviour
from understudy.rehearsal.responder import Finish, Head, Responder, Role
from understudy.rehearsal.server import RehearsalServer

_SAMPLE_S = 0.01
_QUESTION = "What is this?"
_SHOWN = 100


@dataclass
class _Listener:
    """A model that remembers what it was asked."""

    asked: list[str] = field(default_factory=list)

    @property
    def behaviour(self) -> Behaviour:
        return Behaviour("listens", (Head(), Role(), self, Finish()))

    async def play(self, stage: Responder) -> None:
        messages = stage.asked.body["messages"]
        assert isinstance(messages, list)
        self.asked.append(str(messages[-1]["content"]))
        await stage.say("Noted.")


def _peak_mb(process: subprocess.Popen[str], peak: list[float]) -> None:
    """Sample the children of the command until it ends."""
    while process.poll() is None:
        try:
            children = psutil.Process(process.pid).children(recursive=True)
            sizes = [child.memory_info().rss / 1e6 for child in children]
        except psutil.Error:
            sizes = []
        peak[0] = max(peak[0], *sizes, 0.0)
        time.sleep(_SAMPLE_S)


def _ask(folder: Path, attached: Attached) -> tuple[float, float, str]:
    """Seconds, megabytes of the child, and what the person reads besides the reply."""
    (folder / attached.name).write_bytes(attached.make())
    began, peak = time.perf_counter(), [0.0]
    process = subprocess.Popen(
        [sys.executable, "-m", "understudy", "ask", _QUESTION, "--file", attached.name],
        cwd=folder, env=plain_environment({}), text=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    watcher = threading.Thread(target=_peak_mb, args=(process, peak))
    watcher.start()
    _, said = process.communicate(timeout=120)
    watcher.join()
    return time.perf_counter() - began, peak[0], " ".join(said.split())


def _show(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def _measure() -> None:
    model, short = _Listener(), Attached("short.txt", lambda: b"a short text", "a short text")
    _show("| file | size | seconds | MB of the child | the model saw | the person reads |")
    _show("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        async with RehearsalServer(model.behaviour) as server:
            (folder / "config.yaml").write_text(
                f"model: {{provider_order: [a], servers: {{a: {{base_url: '{server.base_url}'}}}}}}"
            )
            for title, attached in {"a short text": short, **ORDINARY, **HOSTILE}.items():
                model.asked.clear()
                seconds, peak, said = await asyncio.to_thread(_ask, folder, attached)
                size = (folder / attached.name).stat().st_size
                asked = model.asked[0].removeprefix(_QUESTION).strip() if model.asked else "nothing"
                seen = asked if len(asked) <= _SHOWN else f"{asked[:_SHOWN]}… ({len(asked):,})"
                cells = (title, f"{size:,}", f"{seconds:.1f}", f"{peak:.0f}", repr(seen), said)
                _show(f"| {' | '.join(cells)} |")
    _show(f"Load: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    asyncio.run(_measure())
