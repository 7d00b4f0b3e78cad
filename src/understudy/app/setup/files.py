"""What `setup` writes: answers → texts of `config.yaml` and `.env`, and those to disk."""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from understudy.app.setup.found_servers import OWN_MODEL, key_variable, place_of, with_server
from understudy.config.editing import edited_env, edited_yaml
from understudy.config.environment import read_environment
from understudy.config.load import DEFAULT_FILE, Config, load_config, parse_config
from understudy.config.reference import dotenv_text, starter_text
from understudy.config.settings import Settings
from understudy.errors import ConfigError
from understudy.files import write_file
from understudy.llm.local_discovery import DiscoveredServer


@dataclass(frozen=True, slots=True)
class SetupAnswers:
    """What a person chose; the defaults change nothing."""

    servers: tuple[DiscoveredServer, ...] = ()
    server_keys: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Keys of servers, by address."""
    own_model: bool = False
    openrouter_key: str | None = field(default=None, repr=False)
    discord_token: str | None = field(default=None, repr=False)
    mentions_only: bool = False
    """Discord does not let the bot read messages that do not mention it."""
    name: str | None = None


@dataclass(frozen=True, slots=True)
class SetupFiles:
    """The files as they are."""

    config: Path
    config_text: str | None = field(repr=False)
    """`None` where there is no file."""
    env_text: str | None = field(repr=False)
    settings: Settings = field(repr=False)
    """In force, with the environment."""
    environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The variables that are set, in `.env` or outside."""

    @property
    def env(self) -> Path:
        return self.config.parent / ".env"


@dataclass(frozen=True, slots=True)
class SetupPlan:
    """The files as they will be; `None` is unchanged."""

    files: SetupFiles
    config_text: str | None = field(repr=False)
    env_text: str | None = field(repr=False)
    variables: tuple[str, ...]
    """Names of the variables that are set in `.env`."""

    @property
    def is_empty(self) -> bool:
        return self.config_text is None and self.env_text is None

    def describe(self) -> str:
        """What will be written, without secrets."""
        parts = []
        if self.config_text is not None:
            new = self.files.config_text is None
            parts.append(f"{self.files.config} ({'new' if new else 'changed'}):\n{self._diff()}")
        if self.env_text is not None:
            new = self.files.env_text is None
            names = "".join(f"  + {name}=…\n" for name in self.variables)
            parts.append(f"{self.files.env} ({'new' if new else 'changed'}, private):\n{names}")
        return "".join(parts)

    def _diff(self) -> str:
        before = self.files.config_text
        old = (starter_text() if before is None else before).splitlines()
        lines = difflib.unified_diff(old, (self.config_text or "").splitlines(), n=0, lineterm="")
        shown = [line for line in lines if line[:3] not in ("---", "+++") and line[:2] != "@@"]
        return "".join(f"  {line[0]} {line[1:]}\n" for line in shown) or (
            "  the starter configuration\n" if before is None else ""
        )


def read_files(path: Path | None, environ: Mapping[str, str] = os.environ) -> SetupFiles:
    """Read what there is. Raises ConfigError where the configuration has mistakes."""
    config = path or Path(DEFAULT_FILE)
    text = _text_of(config)
    variables, _ = read_environment(config.parent, environ)
    loaded = parse_config(starter_text() if text is None else text, variables, config)
    env_text = _text_of(config.parent / ".env")
    return SetupFiles(config, text, env_text, loaded.settings, variables)


def plan(files: SetupFiles, answers: SetupAnswers) -> SetupPlan:
    """The texts that the answers lead to. Raises ConfigError where they are no configuration."""
    text = starter_text() if files.config_text is None else files.config_text
    variables: dict[str, str] = {}
    for near in answers.servers:
        text, place = _with_server(text, near, files)
        if key := answers.server_keys.get(near.base_url):
            variables[key_variable(place)] = key
    if answers.own_model:
        text, _ = _with_server(text, OWN_MODEL, files)
    if answers.name is not None and answers.name != files.settings.persona.name:
        text = edited_yaml(text, {("persona", "name"): answers.name})
    if answers.openrouter_key is not None:
        named = files.settings.model.openrouter.api_key_env or "OPENROUTER_API_KEY"
        name = named[0] if isinstance(named, tuple) else named
        variables[name] = answers.openrouter_key
    if answers.discord_token is not None:
        variables[files.settings.discord.token_env] = answers.discord_token
        if files.settings.discord.message_content and answers.mentions_only:
            text = edited_yaml(text, {("discord", "message_content"): False})
    env_text = edited_env(dotenv_text() if files.env_text is None else files.env_text, variables)
    parse_config(text, {**files.environment, **variables}, files.config)
    return SetupPlan(
        files,
        text if text != files.config_text else None,
        env_text if variables and env_text != files.env_text else None,
        tuple(variables),
    )


def write(planned: SetupPlan) -> tuple[Path, ...]:
    """Write the files of a plan, `.env` first; returns what was written.

    Blocking. Raises ConfigError where a file changed meanwhile or cannot be written.
    """
    files = planned.files
    for path, seen in ((files.config, files.config_text), (files.env, files.env_text)):
        if _text_of(path) != seen:
            raise ConfigError(f"{path} has changed meanwhile; nothing was written. Start again.")
    written = []
    for path, text in ((files.env, planned.env_text), (files.config, planned.config_text)):
        if text is None:
            continue
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_file(path, text.encode(), private=path == files.env, follow_link=True)
        except OSError as error:
            raise ConfigError(f"{path} cannot be written ({error.strerror}).") from None
        written.append(path)
    return tuple(written)


def load_written(config: Path) -> Config:
    """The configuration after `write`. Raises ConfigError."""
    return load_config(config if config.exists() else None, os.environ)


def _with_server(text: str, near: DiscoveredServer, files: SetupFiles) -> tuple[str, str]:
    """The text with the server, and the name it got."""
    model = parse_config(text, files.environment, files.config).settings.model
    place = place_of(near, model)
    return with_server(text, near, place, model.provider_order), place


def _text_of(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (FileNotFoundError, IsADirectoryError):
        return None
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{path} cannot be read as UTF-8 text.") from None
