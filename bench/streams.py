"""Thousands of slow streams through the gateway at the same time: does any drop, does memory grow?

    python bench/streams.py [--streams N] [--rounds N]

Every stream has its first word after a second and 59 more, one each half second, so a round takes
about half a minute and all its streams are open together. They all begin in the same moment, which
is the worst that clients can do: the time to the first word says how long the gateway takes to let
all of them in. The same is done with the model server alone first, for what client and server cost.
"""

import argparse
import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import threading
import time
from typing import Self

from machine import cpu_s, free_port, memory_mb, stop, wait_for
from run import BUILD, build
from subjects import MESSAGES

BEHAVIOUR = "d1000-g500-n60"
FIRST_WORD_MS = 1000
MOST_SECONDS = 150
SETTLE_S = 6.0
"""Longer than connections are kept open."""
BODY = {"model": "understudy", "stream": True, "messages": MESSAGES, "max_tokens": 200}


class Memory:
    """The most that a session of processes takes while it is watched."""

    def __init__(self, session: int) -> None:
        self.peak_mb = 0.0
        self._session = session
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(1.0):
            self.peak_mb = max(self.peak_mb, memory_mb(self._session))


def write_config(folder: pathlib.Path, port: int, upstream: int, streams: int) -> pathlib.Path:
    server = {
        "engine": "openai",
        "base_url": f"http://127.0.0.1:{upstream}/{BEHAVIOUR}/v1",
        "name": "bench-model",
        "max_concurrency": streams + 100,
    }
    config = {
        "model": {"provider_order": ["slow"], "servers": {"slow": server}},
        "web": {"enabled": False},
        "discord": {"enabled": False},
        "gateway": {"enabled": True, "port": port},
        "storage": {"url": f"sqlite:///{folder / 'bench.db'}"},
        "logging": {"format": "json"},
    }
    file = folder / "config.yaml"
    file.write_text(json.dumps(config))
    return file


def load(port: int, path: str, streams: int, body: pathlib.Path) -> dict:
    command = [BUILD / "load", str(port), path, str(body), str(streams), str(streams)]
    done = subprocess.run([*command, str(MOST_SECONDS)], check=True, capture_output=True)
    return json.loads(done.stdout)


def row(name: str, streams: int, got: dict, cpu: float, memory: tuple[float, float]) -> str:
    lost = streams - got["answers"] + got["failures"]
    chunks = got["transit"]["count"]
    cells = (
        f"{lost} of {streams:,}",
        *(f"{got['first'][q] / 1000 - FIRST_WORD_MS:,.0f}" for q in ("p50", "p99")),
        *(f"{got['transit'][q] / 1000:,.1f}" for q in ("p50", "p99")),
        f"{cpu * 1e6 / chunks:,.0f}",
        f"{cpu / got['seconds']:.0%}",
        *(f"{mb:,.0f}" for mb in memory),
    )
    return f"| {name} | {' | '.join(cells)} |"


def measured(folder: pathlib.Path, streams: int, rounds: int) -> int:
    """Prints the table; how many streams were lost."""
    upstream_port, port = free_port(), free_port()
    body = folder / "body.json"
    body.write_text(json.dumps(BODY))
    upstream = subprocess.Popen([BUILD / "upstream", str(upstream_port)], start_new_session=True)
    gateway = None
    try:
        wait_for(upstream_port, upstream)
        before = cpu_s(upstream.pid)
        got = load(upstream_port, f"/{BEHAVIOUR}/v1/chat/completions", streams, body)
        cpu = cpu_s(upstream.pid) - before
        memory = memory_mb(upstream.pid)
        print(row("model server alone", streams, got, cpu, (memory, memory)), flush=True)
        lost = 0
        with (folder / "gateway.log").open("wb") as log:
            file = write_config(folder, port, upstream_port, streams)
            command = [sys.executable, "-m", "understudy", "run", "--config", str(file)]
            gateway = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        wait_for(port, gateway)
        time.sleep(1)
        print(f"| gateway, before | | | | | | | | | {memory_mb(gateway.pid):,.0f} |", flush=True)
        for number in range(1, rounds + 1):
            before = cpu_s(gateway.pid)
            with Memory(gateway.pid) as watched:
                got = load(port, "/v1/chat/completions", streams, body)
            cpu = cpu_s(gateway.pid) - before
            time.sleep(SETTLE_S)
            sizes = (watched.peak_mb, memory_mb(gateway.pid))
            print(row(f"gateway, round {number}", streams, got, cpu, sizes), flush=True)
            lost += streams - got["answers"] + got["failures"]
        return lost
    finally:
        for process in (gateway, upstream):
            if process is not None:
                stop(process)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    needed = options.streams * 2 + 500
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most != resource.RLIM_INFINITY and most < needed:
        raise SystemExit(f"{needed} open files are needed: ulimit -n {needed}")
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, most))
    build()
    print(f"{options.streams} streams at the same time; load {os.getloadavg()[0]:.1f}")
    print("| | lost | first word + ms p50 | p99 | chunk ms p50 | p99 | CPU µs/chunk | CPU | peak MB"
          " | after MB |")  # fmt: skip
    print(f"| --- |{' ---: |' * 9}")
    with tempfile.TemporaryDirectory() as folder:
        return min(1, measured(pathlib.Path(folder), options.streams, options.rounds))


if __name__ == "__main__":
    sys.exit(main())
