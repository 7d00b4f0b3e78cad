"""Upgrades an older database with Alembic, from scripts inside the package."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from alembic.util import CommandError
from sqlalchemy import Connection

from understudy.errors import StorageError

_SCRIPTS = Path(__file__).parent / "migrations"


def upgrade(connection: Connection) -> None:
    """Run the missing migrations in the transaction of `connection`.

    Raises StorageError when the database was written by a newer version.
    """
    config = configuration()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StorageError(
            f"the database does not fit this version of Understudy: {error}; "
            "install a newer version, or set storage.url to another file"
        ) from None


def newest() -> str | None:
    """The newest migration."""
    return ScriptDirectory.from_config(configuration()).get_current_head()


def configuration() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
