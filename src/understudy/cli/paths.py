"""`understudy paths`: where the files of this bot are."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from understudy.cli.options import AsJson, ConfigFile, load

if TYPE_CHECKING:
    from understudy.config.load import Config


def paths(config: ConfigFile = None, as_json: AsJson = False) -> None:  # noqa: FBT002
    """Print where configuration, database, personas, models and logs are."""
    rows = path_rows(load(config))
    if as_json:
        typer.echo(json.dumps({name: str(path) for name, path in rows.items()}, ensure_ascii=False))
        return
    for name, path in rows.items():
        missing = "" if path.exists() else "  (not there)"
        typer.echo(f"{name.replace('_', ' '):16} {path}{missing}")


def path_rows(config: "Config") -> dict[str, Path]:
    """Every place by name, absolute; `service` is the folder for a service without one."""
    from understudy.config.load import DEFAULT_FILE
    from understudy.model_files.folder import default_folder
    from understudy.storage.database import sqlite_path
    from understudy.storage.files import storage_files

    settings = config.settings
    file = (config.path or Path(DEFAULT_FILE)).absolute()
    files = storage_files(settings.storage, file.parent)
    database = sqlite_path(settings.storage.url)
    rows = {
        "configuration": file,
        "secrets": file.parent / ".env",
        "database": (database or files.base).absolute(),
        "images": files.beside("images").absolute(),
        "login_token": files.beside("web-token").absolute(),
        "personas": file.parent / settings.persona.folder,
        "lorebooks": file.parent / settings.persona.lore.folder,
        "prompt_log": file.parent / settings.logging.prompts_folder,
        "models": default_folder().absolute(),
        "service": service_folder(None),
    }
    if database is None:
        del rows["database"]
    return rows


def service_folder(chosen: Path | None) -> Path:
    """`chosen`, else this folder where it has a configuration, else the user's data folder."""
    from platformdirs import user_data_path

    from understudy.config.load import DEFAULT_FILE

    if chosen is not None:
        return chosen.expanduser().absolute()
    here = Path().absolute()
    if (here / DEFAULT_FILE).exists():
        return here
    return user_data_path("understudy", appauthor=False)
