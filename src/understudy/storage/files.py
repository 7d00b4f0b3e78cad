"""Where the files that belong to a database are: images, login token, facts about models."""

from dataclasses import dataclass
from pathlib import Path

from understudy.config.settings import Storage
from understudy.storage.database import sqlite_path


@dataclass(frozen=True, slots=True)
class StorageFiles:
    """Names files after the SQLite database, or `understudy` where that is PostgreSQL."""

    base: Path

    def beside(self, what: str) -> Path:
        return self.base.with_name(f"{self.base.name}-{what}")


def storage_files(settings: Storage, folder: Path) -> StorageFiles:
    """Beside the SQLite file, or with PostgreSQL in `folder`, that of the configuration.

    Raises StorageError for an unusable URL.
    """
    return StorageFiles(sqlite_path(settings.url) or folder / "understudy")
