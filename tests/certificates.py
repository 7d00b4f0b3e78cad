"""A certificate authority for tests, servers with its certificates, and proxies around them."""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import trustme

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


def served_by(authority: trustme.CA, *names: str, until: datetime | None = None) -> ssl.SSLContext:
    """The TLS settings of a server with these names; its certificate may have run out."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate = authority.issue_cert(*names, not_after=until)
    certificate.configure_cert(context)
    return context


@contextmanager
def trusting(authority: trustme.CA) -> Iterator[None]:
    """Clients that are made meanwhile trust this authority alone."""
    with TemporaryDirectory() as folder:
        pem = Path(folder) / "ca.pem"
        authority.cert_pem.write_to_path(str(pem))
        with variables(SSL_CERT_FILE=str(pem)):
            yield


@contextmanager
def variables(**values: str | None) -> Iterator[None]:
    """Environment variables; `None` takes one away. They are as before afterwards."""
    before = {name: os.environ.get(name) for name in values}
    _set(values)
    try:
        yield
    finally:
        _set(before)


@contextmanager
def proxies(**named: str) -> Iterator[None]:
    """Exactly these proxies in the environment: `https_proxy`, `no_proxy` and the like."""
    none: dict[str, str | None] = {
        spelled: None for name in PROXIES for spelled in (name, name.upper())
    }
    with variables(**none | named):
        yield


def _set(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
