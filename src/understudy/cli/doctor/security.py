"""Checks for unsafe files and settings. Blocking.

A page or gateway that other machines can reach without a credential is refused when the
configuration is loaded, before these checks.
"""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from understudy.app.setup.discord_token import Check
from understudy.config.load import Config
from understudy.config.masking import secrets_of
from understudy.config.settings import Settings
from understudy.errors import StorageError
from understudy.network import is_loopback
from understudy.storage.database import sqlite_path

_HAS_MODES = os.name != "nt"
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_MIN_TOKEN_CHARS = 16
_MIN_SECRET_CHARS = 6
"""Shorter ones are placeholders such as `none`, which many texts contain."""


def unsafe(config: Config) -> tuple[Check, ...]:
    """One check per problem; empty when there is none."""
    settings = config.settings
    return (
        *_files(config),
        *_plain_keys(config),
        *_reachable(settings),
        *_guessable(settings),
        *_written(settings),
    )


def _files(config: Config) -> Iterator[Check]:
    folder = config.path.parent if config.path is not None else Path()
    secret = [
        path for path in (config.path, folder / ".env") if path and _contains_secret(path, config)
    ]
    private = (*secret, *_database_files(config.settings))
    if not _HAS_MODES:
        yield from outside_profile(private, Path.home())
        return
    for path in private:
        if _others_can_read(path):
            mode = 700 if path.is_dir() else 600
            advice = f"other users of this machine can read {path}: chmod {mode} {path}"
            # A warning for the file that a person writes: many machines have one user only.
            yield Check("files", ok=path.name == ".env", advice=advice)


def outside_profile(files: Iterable[Path], home: Path) -> Iterator[Check]:
    """Windows has no modes: private is what lies in the user's profile, by inheritance."""
    for folder in sorted({file.absolute().parent for file in files}):
        if not folder.is_relative_to(home):
            advice = (
                f"other users of this machine may read {folder}, which is outside your profile: "
                f'icacls "{folder}" /inheritance:r /grant:r "%USERNAME%:(OI)(CI)F"'
            )
            yield Check("files", ok=True, advice=advice)


def _contains_secret(path: Path, config: Config) -> bool:
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    secrets = (secret for secret in secrets_of(config.settings) if len(secret) >= _MIN_SECRET_CHARS)
    return any(secret in text for secret in secrets)


def _database_files(settings: Settings) -> Iterator[Path]:
    """The database and the files beside it."""
    try:
        database = sqlite_path(settings.storage.url)
    except StorageError:
        return
    if database is None:
        return
    yield from sorted(database.parent.glob(f"{database.name}*"))


def _others_can_read(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & _OTHERS)
    except OSError:
        return False


def _plain_keys(config: Config) -> Iterator[Check]:
    """Gateway keys written in plain text, rather than hashed or in the environment."""
    written = [(key, key.key) for key in config.settings.gateway.keys if key.key is not None]
    text = config.path.read_text(encoding="utf-8") if config.path and written else ""
    plain = [key.name for key, secret in written if secret.get_secret_value() in text]
    if plain:
        advice = (
            f"the key of {', '.join(plain)} is in the file in plain text: write the sha256 "
            "that `understudy gateway key` prints instead"
        )
        yield Check("gateway", ok=True, advice=advice)


def _reachable(settings: Settings) -> Iterator[Check]:
    web, gateway = settings.web, settings.gateway
    for name, section in (("web", web), ("gateway", gateway)):
        if section.enabled and not is_loopback(section.host):
            advice = (
                f"other machines reach it at {section.host}, unencrypted: put a proxy with TLS "
                f"in front and set {name}.host to 127.0.0.1, or trust that network"
            )
            yield Check(name, ok=True, advice=advice)
    if gateway.enabled and not gateway.keys and "*" in gateway.cors_origins:
        advice = (
            "any web page that is open in a browser here may use it: name the pages in "
            "gateway.cors_origins, or add gateway.keys"
        )
        yield Check("gateway", ok=False, advice=advice)


def _guessable(settings: Settings) -> Iterator[Check]:
    web, gateway = settings.web, settings.gateway
    tokens = [("web.token", web.token), ("web.chat_token", web.chat_token)]
    keys = [(f"the key of {key.name}", key.key) for key in gateway.keys]
    for name, section, credentials in (("web", web, tokens), ("gateway", gateway, keys)):
        short = [
            label
            for label, secret in credentials
            if section.enabled and secret and len(secret.get_secret_value()) < _MIN_TOKEN_CHARS
        ]
        if short:
            advice = (
                f"{', '.join(short)} can be guessed: take at least {_MIN_TOKEN_CHARS} random "
                "characters, as `openssl rand -hex 16` prints them"
            )
            yield Check(name, ok=is_loopback(section.host), advice=advice)


def _written(settings: Settings) -> Iterator[Check]:
    if settings.logging.prompts:
        advice = f"prompts and replies are written to {settings.logging.prompts_folder}"
        yield Check("logging", ok=True, advice=f"{advice}: set logging.prompts to false afterwards")
    if settings.debug.error_text:
        advice = "texts of servers, which may quote prompts, are kept in records: switch it off"
        yield Check("debug.error_text", ok=True, advice=f"{advice} afterwards")
