"""Changes the configuration file for the operator's page: masked, validated, with the old kept."""

import asyncio
import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from understudy.app.bot import Bot
from understudy.config.editing import YamlValue, edited_yaml
from understudy.config.environment import read_environment
from understudy.config.load import parse_config
from understudy.config.masked_text import MaskedText, mask_text, reveals_secret, unmask_text
from understudy.config.yaml_document import KeyPath
from understudy.errors import ConfigError
from understudy.files import write_file

_KEPT_VERSIONS = 10
_CHANGED = "The file was changed since it was read. Read it again; your text is still here."


@dataclass(frozen=True, slots=True)
class EditableText:
    """The file's text with secrets masked, or why there is none to edit."""

    text: str = ""
    digest: str = ""
    """Of the whole text; a save is refused where the file has another one by then."""
    locked: str = ""
    """Why it cannot be saved; empty where it can."""


class ConfigEditor:
    """Reads and saves the configuration file of a running bot; one save at a time."""

    def __init__(self, bot: Bot, wall: Callable[[], float]) -> None:
        self._bot = bot
        self._wall = wall
        self._saving = asyncio.Lock()

    async def read(self) -> EditableText:
        """The present text. Raises ConfigError where it cannot be read."""
        path = self._bot.config.path
        if path is None:
            return EditableText(locked="There is no config.yaml: defaults and environment apply.")
        text = await asyncio.to_thread(_read, path)
        masked = await asyncio.to_thread(mask_text, text, self._bot.settings())
        return EditableText(masked.text, _digest(text), await self._locked(path))

    async def save(self, edited: str, digest: str) -> str:
        """Save a masked text that was edited, apply it, and return the result as a sentence.

        Raises ConfigMistakes with the lines, and ConfigError; then nothing has changed.
        """
        async with self._saving:
            path = await self._writable()
            current = await asyncio.to_thread(_read, path)
            if _digest(current) != digest:
                raise ConfigError(_CHANGED)
            masked = await asyncio.to_thread(mask_text, current, self._bot.settings())
            new = unmask_text(edited.replace("\r\n", "\n"), masked.secrets)
            await asyncio.to_thread(self._check, edited, new, masked, path)
            return await self._replace(path, current, new)

    async def set(self, key: KeyPath, value: YamlValue) -> str:
        """Set one key in the file, apply it, and return the result. Raises ConfigError."""
        async with self._saving:
            path = await self._writable()
            current = await asyncio.to_thread(_read, path)
            new = await asyncio.to_thread(edited_yaml, current, {key: value})
            return await self._replace(path, current, new)

    async def _locked(self, path: Path) -> str:
        target = await asyncio.to_thread(path.resolve)
        if not await asyncio.to_thread(_is_writable, target):
            return "The file or its folder is read-only."
        others = await self._bot.other_instances()
        if others:
            number = "Another process uses" if others == 1 else f"{others} other processes use"
            return f"{number} this database and may read another file: edit the file itself."
        return ""

    async def _writable(self) -> Path:
        path = self._bot.config.path
        if path is None:
            raise ConfigError("There is no config.yaml to change.")
        if locked := await self._locked(path):
            raise ConfigError(locked)
        return path

    def _check(self, edited: str, new: str, masked: MaskedText, path: Path) -> None:
        env, _ = read_environment(path.parent, os.environ)
        parse_config(new, env, path)
        if reveals_secret(edited, masked, self._bot.settings(), env):
            raise ConfigError(
                "A masked secret is in a place whose value is shown. Leave it where it was."
            )

    async def _replace(self, path: Path, current: str, new: str) -> str:
        """Write and apply; on a refusal the old text is written and applied again."""
        await asyncio.to_thread(self._keep, path, current)
        await asyncio.to_thread(write_file, path, new.encode())
        try:
            return await self._bot.reload()
        except ConfigError:
            await asyncio.to_thread(write_file, path, current.encode())
            raise

    def _keep(self, path: Path, text: str) -> None:
        """Store the old version beside the file, readable by the owner only."""
        now = datetime.fromtimestamp(self._wall(), UTC)
        prefix = f"{path.name}.old-"
        write_file(path.with_name(f"{prefix}{now:%Y%m%d-%H%M%S-%f}"), text.encode(), private=True)
        versions = sorted(path.parent.glob(f"{prefix}*"))
        for version in versions[:-_KEPT_VERSIONS]:
            version.unlink(missing_ok=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}).") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path} is not UTF-8 text.") from None


def _is_writable(file: Path) -> bool:
    """For this process, and not marked read-only, which alone would not stop root."""
    may = os.access(file, os.W_OK) and os.access(file.parent, os.W_OK)
    return may and bool(file.stat().st_mode & 0o222)
