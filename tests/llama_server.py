"""A genuine llama.cpp server over a tiny model made for it, in this process or in its own."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest


@contextmanager
def llama_server(
    model: Path, *, slots: int = 1, context: int = 2048, projector: Path | None = None
) -> Iterator[str]:
    """Serve `model` on a free loopback port and yield its base URL; it sees with a `projector`.

    Skips the test where xllamacpp is not installed.
    """
    xllamacpp = pytest.importorskip("xllamacpp", reason="needs xllamacpp, a real llama.cpp server")
    params = xllamacpp.CommonParams()
    params.model.path = str(model)
    if projector is not None:
        params.mmproj.path = str(projector)
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_ctx = context
    params.n_parallel = slots
    params.cpuparams.n_threads = 1
    params.warmup = False
    server = xllamacpp.Server(params)
    try:
        yield str(server.listening_address)
    finally:
        del server


@dataclass(frozen=True, slots=True)
class Mortal:
    """A genuine server in a process of its own, which a test may kill."""

    url: str
    process: subprocess.Popen[str]


@contextmanager
def mortal_llama_server(model: Path) -> Iterator[Mortal]:
    """As `llama_server`; dead at the end in any case."""
    process = subprocess.Popen(
        [sys.executable, __file__, str(model)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    try:
        yield Mortal(process.stdout.readline().strip(), process)
    finally:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    with llama_server(Path(sys.argv[1])) as served:
        print(served, flush=True)  # noqa: T201
        sys.stdin.read()
