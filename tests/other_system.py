"""Runs `understudy` as on a system without POSIX: `python -m other_system COMMAND ...`.

What Windows lacks is taken away before the program is imported. `import_all` imports every module.
"""

import asyncio
import importlib
import importlib.abc
import importlib.machinery
import os
import pkgutil
import sys
from collections.abc import Sequence
from types import ModuleType

# Its code for Linux needs `resource`; on Windows it has other code.
import psutil  # noqa: F401

MISSING = ("resource", "fcntl", "termios", "tty", "pwd", "grp")


class _Missing(importlib.abc.MetaPathFinder):
    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name in MISSING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


def take_away() -> None:
    """Remove modules, signal handlers of the loop, and modes of files from this process."""
    for name in MISSING:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, _Missing())

    def refuse(*_: object) -> None:
        raise NotImplementedError

    def ignore(*_: object, **__: object) -> int:
        return 0

    asyncio.SelectorEventLoop.add_signal_handler = refuse  # type: ignore[method-assign,assignment]
    asyncio.SelectorEventLoop.remove_signal_handler = refuse  # type: ignore[method-assign,assignment]
    os.chmod = ignore  # type: ignore[assignment]
    os.umask = ignore


def import_all() -> None:
    import understudy

    for module in pkgutil.walk_packages(understudy.__path__, "understudy."):
        # Alembic's scripts run only inside a migration.
        if "migrations" not in module.name:
            importlib.import_module(module.name)


if __name__ == "__main__":
    take_away()
    if sys.argv[1:] == ["import_all"]:
        import_all()
    else:
        from understudy.__main__ import main

        main()
