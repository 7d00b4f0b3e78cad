"""`understudy run` as a process, for tests that watch it while it runs."""

import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from command import plain_environment
from waiting import LIMIT_S


@dataclass(frozen=True, slots=True)
class RunningBot:
    process: subprocess.Popen[str]
    stderr_file: Path
    """What it wrote to stderr so far."""

    @property
    def page(self) -> str:
        """The address of the chat page, once it is printed."""
        return self.until(r"Chat page:\s+(\S+)")

    @property
    def gateway(self) -> str:
        return self.until(r"Gateway:\s+(\S+)")

    def until(self, pattern: str) -> str:
        """Wait until stderr matches, and return the first group (or all)."""
        ends = time.monotonic() + LIMIT_S
        while time.monotonic() < ends and self.process.poll() is None:
            if found := re.search(pattern, self.stderr_file.read_text()):
                return found[found.re.groups and 1]
            time.sleep(0.02)
        raise AssertionError(f"{pattern!r} never came:\n{self.stderr_file.read_text()}")


@contextmanager
def running_bot(folder: Path, *words: str, **env: str) -> Iterator[RunningBot]:
    """Start `understudy run` in `folder`; end it with the signal of service managers."""
    stderr_file = folder / "stderr.txt"
    with stderr_file.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "understudy", "run", *words],
            cwd=folder,
            env=plain_environment(env),
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            text=True,
        )
        try:
            yield RunningBot(process, stderr_file)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(LIMIT_S)


def ask_gateway(base_url: str, text: str) -> str:
    """The text of one reply through the gateway."""
    body = {"model": "understudy", "messages": [{"role": "user", "content": text}]}
    request = urllib.request.Request(
        f"{base_url}/chat/completions",
        data=json.dumps(body).encode(),
        headers={"content-type": "application/json"},
    )
    with urllib.request.urlopen(request, timeout=LIMIT_S) as response:
        return str(json.load(response)["choices"][0]["message"]["content"])
