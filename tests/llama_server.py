"""A genuine llama.cpp server in this process, over a tiny model made for it."""

from collections.abc import Iterator
from contextlib import contextmanager
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
