"""The operator's token: configured, or made once and kept where only the owner can read it."""

import os
import secrets
from pathlib import Path

from understudy.config.settings import Web
from understudy.errors import ConfigError
from understudy.platforms.web.auth import is_loopback


def check_host(web: Web) -> None:
    """Raises ConfigError where the page would be open to others without a token."""
    if not is_loopback(web.host) and web.token is None:
        raise ConfigError(
            f"web.host is {web.host}, which others can reach, but web.token is not set.\n"
            "Set web.token (or UNDERSTUDY_WEB_TOKEN) to a long random text, "
            "or set web.host back to 127.0.0.1."
        )


def operator_token(web: Web, kept_in: Path) -> str:
    """The configured token, else the kept one, else a new one that is kept from now on."""
    if web.token is not None:
        return web.token.get_secret_value()
    try:
        if kept := kept_in.read_text().strip():
            return kept
        kept_in.unlink()
    except FileNotFoundError:
        pass
    made = secrets.token_urlsafe(32)
    handle = os.open(kept_in, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(made + "\n")
    return made
