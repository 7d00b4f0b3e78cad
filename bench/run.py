"""Measures the gateway and the in-process router beside the least that a proxy can do.

    python bench/run.py [--rounds N] [--quick] [--only NAME,NAME] [--out FILE]

Everything runs on loopback, in one run, against one made-up model server. Needs gcc and Linux.
README.md says how to read the tables.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

import tables
from machine import ALL_CPUS, ONE_CPU, cpu_s, free_port, memory_mb, pin, stop, wait_for
from subjects import (
    FAILOVERS,
    HERE,
    JOBS,
    ROUTES,
    SOAK,
    Job,
    Subject,
    Upstreams,
    subjects,
    write_config,
)

BUILD = HERE / ".build"
IN_PROCESS = ("aiohttp", "router")


class Bench:
    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        self.upstreams = Upstreams(free_port(), free_port())
        self.upstream = subprocess.Popen(
            [BUILD / "upstream", str(self.upstreams.port)], start_new_session=True
        )
        wait_for(self.upstreams.port, self.upstream)

    def measure(self, subject: Subject, jobs: tuple[Job, ...]) -> dict:
        if subject.direct:
            return {job.name: self._run(subject, job, self.upstream.pid) for job in jobs}
        began = time.monotonic()
        with (self.folder / f"{subject.name}.log").open("wb") as log:
            process = subprocess.Popen(
                subject.command,
                env=_as_installed() | subject.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_for(subject.port, process)
            results = {"start_s": round(time.monotonic() - began, 3)}
            for job in jobs:
                results[job.name] = self._run(subject, job, process.pid)
            results["memory_mb"] = memory_mb(process.pid)
        finally:
            stop(process)
        return results

    def _run(self, subject: Subject, job: Job, session: int) -> dict:
        if job.warm:
            self._load(subject, job, job.warm)
        if job.one_cpu:
            pin(session, ONE_CPU)
            pin(self.upstream.pid, ONE_CPU)
        before = cpu_s(session)
        result = self._load(subject, job, job.count)
        result["cpu_us"] = round((cpu_s(session) - before) * 1e6 / max(1, result["answers"]), 1)
        pin(session, ALL_CPUS)
        pin(self.upstream.pid, ALL_CPUS)
        return result

    def _load(self, subject: Subject, job: Job, count: int) -> dict:
        body = self.folder / "body.json"
        body.write_bytes(job.body())
        path = f"/{ROUTES[job.route][0]}" if subject.direct else ""
        command = [BUILD / "load", str(subject.port), f"{path}/v1/chat/completions", str(body)]
        command += [str(min(job.connections, count)), str(count), str(job.seconds)]
        pinned = ["taskset", "-c", str(*ONE_CPU)] if job.one_cpu else []
        done = subprocess.run(pinned + command, check=True, capture_output=True)
        return json.loads(done.stdout)

    def in_process(self, name: str) -> dict:
        pin(self.upstream.pid, ONE_CPU)
        config = write_config(self.upstreams, self.folder, gateway={"enabled": False})
        done = subprocess.run(
            ["taskset", "-c", str(*ONE_CPU), sys.executable, HERE / "in_process.py", name],
            env=os.environ | self.upstreams.environment() | {"BENCH_CONFIG": str(config)},
            capture_output=True,
            check=False,
        )
        pin(self.upstream.pid, ALL_CPUS)
        if done.returncode:
            raise SystemExit(f"{name}: {done.stderr.decode()[-2000:]}")
        return json.loads(done.stdout.splitlines()[-1])


def _as_installed() -> dict[str, str]:
    """With compiled modules, as every start but the first has them."""
    return {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}


def build() -> None:
    BUILD.mkdir(exist_ok=True)
    for name in ("upstream", "load"):
        source = str(HERE / f"{name}.c")
        subprocess.run(["gcc", "-O2", "-o", BUILD / name, source], check=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="no failover, no soak")
    parser.add_argument("--only", default="", help="names of subjects, comma-separated")
    parser.add_argument("--out", type=pathlib.Path, default=BUILD / "results.json")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    build()
    only = {name for name in options.only.split(",") if name}
    results: dict[str, list[dict]] = {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(pathlib.Path(folder))
        try:
            for number in range(options.rounds):
                for subject in subjects(bench.upstreams, bench.folder):
                    if only and subject.name not in only:
                        continue
                    jobs = JOBS if options.quick or not subject.fails_over else JOBS + FAILOVERS
                    if number == 0 and not options.quick and not subject.direct:
                        jobs += (SOAK,)
                    results.setdefault(subject.name, []).append(bench.measure(subject, jobs))
                    print(f"round {number + 1}: {subject.name}", file=sys.stderr, flush=True)
                for name in IN_PROCESS:
                    if not only or name in only:
                        results.setdefault(name, []).append(bench.in_process(name))
        finally:
            stop(bench.upstream)
    options.out.write_text(json.dumps(results, indent=1))
    print(tables.render(results))


if __name__ == "__main__":
    main()
