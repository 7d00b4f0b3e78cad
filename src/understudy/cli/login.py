"""`understudy login`: a new login link for the operator's page of the running program."""

import json
import urllib.error
import urllib.request
from pathlib import Path

import typer

from understudy.cli.options import ConfigFile, load
from understudy.errors import ConfigError


def login(config: ConfigFile = None) -> None:
    """Print a link that logs one browser in as operator, once, within an hour."""
    from understudy.platforms.web.auth import load_operator_token
    from understudy.storage.files import storage_files

    loaded = load(config)
    web = loaded.settings.web
    folder = loaded.path.parent if loaded.path is not None else Path()
    files = storage_files(loaded.settings.storage, folder)
    token = load_operator_token(web, files.beside("web-token"))
    # Addresses that mean "all interfaces" can be listened on, not called.
    called = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "::1": "[::1]"}  # noqa: S104
    host = called.get(web.host, web.host)
    address = f"http://{host}:{web.port}/api/operator/login-link"
    request = urllib.request.Request(
        address, method="POST", headers={"Authorization": f"Bearer {token}"}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            typer.echo(json.load(answer)["link"])
    except urllib.error.HTTPError as error:
        raise ConfigError(f"{address} answered with status {error.code}.") from error
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"No page answers at http://{host}:{web.port}. Start it with `understudy run`."
        ) from error
