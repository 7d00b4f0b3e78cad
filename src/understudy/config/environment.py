"""Secrets and switches that come from the environment or a `.env` file."""

from collections.abc import Mapping
from pathlib import Path

from dotenv.parser import Binding, parse_stream
from pydantic import SecretStr

from understudy.config.diagnostics import Mistake, or_list
from understudy.config.providers import ModelSettings, Server
from understudy.config.settings import Gateway, GatewayKey, Logging, Settings
from understudy.errors import ConfigError

LEVELS = ("debug", "info", "warning", "error")
_YES = ("1", "true", "yes", "on")
_NO = ("0", "false", "no", "off")


def read_environment(
    folder: Path, environ: Mapping[str, str]
) -> tuple[dict[str, str], tuple[str, ...]]:
    """The variables that are set, and a warning for each line of the folder's `.env` that sets
    none; the environment itself wins over the file."""
    file = folder / ".env"
    written = _statements(file)
    merged = {one.key: one.value for one in written if one.key and one.value}
    merged.update((name, value) for name, value in environ.items() if value)
    odd = tuple(
        f"{file}:{_line(one)}: is not NAME=value; ignored"
        for one in written
        if one.error or (one.key and one.value is None)
    )
    return {name: value.strip() for name, value in merged.items() if value.strip()}, odd


def _statements(file: Path) -> list[Binding]:
    try:
        with file.open(encoding="utf-8-sig") as text:
            # No interpolation: a "$" in a key stays a "$".
            return list(parse_stream(text))
    except (FileNotFoundError, IsADirectoryError):
        # A folder named .env is a virtual environment.
        return []
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read ({_reason(error)}).") from None


def _line(statement: Binding) -> int:
    """Line number from 1; a statement includes the empty lines before it."""
    text = statement.original.string
    return statement.original.line + text[: len(text) - len(text.lstrip())].count("\n")


def _reason(error: OSError | UnicodeDecodeError) -> str:
    return error.strerror or "?" if isinstance(error, OSError) else "it is not UTF-8 text"


def with_environment(settings: Settings, env: Mapping[str, str]) -> tuple[Settings, list[Mistake]]:
    """`settings` with every secret and switch that `env` holds; what the file says wins for
    secrets, what the environment says wins for `LOG_LEVEL` and `LOG_PROMPTS`."""
    logging, mistakes = _logging(settings.logging, env)
    filled = settings.model_copy(
        update={
            "model": _model(settings.model, env),
            "discord": settings.discord.model_copy(
                update={"token": settings.discord.token or _secret(env, settings.discord.token_env)}
            ),
            "web": settings.web.model_copy(
                update={"token": settings.web.token or _secret(env, "UNDERSTUDY_WEB_TOKEN")}
            ),
            "gateway": _gateway(settings.gateway, env),
            "logging": logging,
        }
    )
    return filled, mistakes


def _secret(env: Mapping[str, str], name: str | None) -> SecretStr | None:
    value = env.get(name) if name else None
    return SecretStr(value) if value else None


def _model(model: ModelSettings, env: Mapping[str, str]) -> ModelSettings:
    update: dict[str, object] = {
        name: _keyed(server, env)
        for name, server in (
            ("openrouter", model.openrouter),
            ("chutes", model.chutes),
            ("nanogpt", model.nanogpt),
            ("local", model.local),
        )
    }
    update["servers"] = {name: _keyed(server, env) for name, server in model.servers.items()}
    return model.model_copy(update=update)


def _keyed(server: Server, env: Mapping[str, str]) -> Server:
    if server.api_key is not None:
        return server.model_copy(update={"api_key_env": None})
    if not isinstance(server.api_key_env, tuple):
        return server.model_copy(update={"api_key": _secret(env, server.api_key_env)})
    found = {name: key for name in server.api_key_env if (key := _secret(env, name))}
    if not found:
        return server
    names, keys = tuple(found), tuple(found.values())
    return server.model_copy(update={"api_key": keys, "api_key_env": names})


def _gateway(gateway: Gateway, env: Mapping[str, str]) -> Gateway:
    keys = tuple(_gateway_key(key, env) for key in gateway.keys)
    return gateway.model_copy(update={"keys": keys})


def _gateway_key(key: GatewayKey, env: Mapping[str, str]) -> GatewayKey:
    found = _secret(env, key.env)
    return key if found is None else key.model_copy(update={"key": found, "env": None})


def _logging(logging: Logging, env: Mapping[str, str]) -> tuple[Logging, list[Mistake]]:
    update: dict[str, object] = {}
    mistakes: list[Mistake] = []
    level = env.get("LOG_LEVEL", "").lower()
    if level in LEVELS:
        update["level"] = level
    elif level:
        mistakes.append(Mistake((), f"LOG_LEVEL in the environment should be {or_list(LEVELS)}"))
    prompts = env.get("LOG_PROMPTS", "").lower()
    if prompts in _YES or prompts in _NO:
        update["prompts"] = prompts in _YES
    elif prompts:
        mistakes.append(Mistake((), "LOG_PROMPTS in the environment should be 1 or 0"))
    return logging.model_copy(update=update), mistakes
