"""Answers per second of the gateway with one and with more workers, and what an answer costs.

    python bench/workers.py [--workers 1 2] [--rounds 3] [--count 6000] [--url postgresql+psycopg://…]

The program as its user runs it, `understudy run --workers N`, with ledger and logs, on SQLite or on
an empty PostgreSQL database. One made-up model server answers all. The CPU time of the program, of
the load client and of the model server are counted apart; what is left of the CPUs went to others.
"""

import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time

import psutil
from machine import ALL_CPUS, free_port, stop, wait_for
from run import BUILD, build
from subjects import Job, Upstreams, write_config

from understudy.app.workers import VARIABLE

JOB = Job("whole, 64 at once", connections=64)


class Program:
    """The supervisor and its workers."""

    def __init__(self, folder: pathlib.Path, upstreams: Upstreams, workers: int, url: str) -> None:
        self.port = free_port()
        file = write_config(upstreams, folder, gateway={"enabled": True, "port": self.port})
        config = json.loads(file.read_text())
        if url:
            config["storage"]["url"] = url
        file.write_text(json.dumps(config))
        command = [sys.executable, "-m", "understudy", "run", "--config", str(file)]
        with (folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--workers", str(workers)],
                env={k: v for k, v in os.environ.items() if k != VARIABLE},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self.port, self.process)
        self._processes = psutil.Process(self.process.pid)
        ends = time.monotonic() + 60
        while workers > 1 and self._listening() < workers and time.monotonic() < ends:
            time.sleep(0.05)

    def cpu_s(self) -> float:
        family = [self._processes, *self._processes.children(recursive=True)]
        return sum(one.cpu_times().user + one.cpu_times().system for one in family)

    def _listening(self) -> int:
        return sum(
            any(c.laddr.port == self.port and c.status == "LISTEN" for c in one.net_connections())
            for one in self._processes.children()
        )


def client_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def load(port: int, body: pathlib.Path, count: int) -> dict:
    command = [BUILD / "load", str(port), "/v1/chat/completions", str(body)]
    command += [str(JOB.connections), str(count), "120"]
    return json.loads(subprocess.run(command, check=True, capture_output=True).stdout)


def measure(workers: int, upstream: psutil.Process, upstreams: Upstreams, options) -> float:
    """Prints one round; its answers per second."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        body = folder / "body.json"
        body.write_bytes(JOB.body())
        program = Program(folder, upstreams, workers, options.url)
        try:
            load(program.port, body, 500)
            own, theirs = program.cpu_s(), sum(upstream.cpu_times()[:2])
            client, began = client_cpu_s(), time.monotonic()
            result = load(program.port, body, options.count)
            seconds = time.monotonic() - began
            own, theirs = program.cpu_s() - own, sum(upstream.cpu_times()[:2]) - theirs
            client = client_cpu_s() - client
        finally:
            stop(program.process)
    answers = result["answers"]
    rate = answers / result["seconds"]
    others = max(0.0, len(ALL_CPUS) * seconds - own - client - theirs)
    print(
        f"{workers} workers: {rate:,.0f} answers/s, {result['failures']} failed; CPU per answer: "
        f"gateway {own / answers * 1e6:.0f} µs, client {client / answers * 1e6:.0f} µs, "
        f"model server {theirs / answers * 1e6:.0f} µs; idle or others "
        f"{others / seconds / len(ALL_CPUS):.0%}; load {os.getloadavg()[0]:.1f}",
        flush=True,
    )
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=6000)
    parser.add_argument("--url", default="")
    options = parser.parse_args()
    build()
    upstreams = Upstreams(free_port(), free_port())
    process = subprocess.Popen([BUILD / "upstream", str(upstreams.port)], start_new_session=True)
    try:
        wait_for(upstreams.port, process)
        upstream, rates = psutil.Process(process.pid), {}
        for _ in range(options.rounds):
            for workers in options.workers:
                rate = measure(workers, upstream, upstreams, options)
                rates.setdefault(workers, []).append(rate)
        base = statistics.median(rates[options.workers[0]])
        for workers, found in rates.items():
            median = statistics.median(found)
            print(f"{workers} workers: {median:,.0f} answers/s, {median / base:.2f} ×")
    finally:
        stop(process)


if __name__ == "__main__":
    main()
