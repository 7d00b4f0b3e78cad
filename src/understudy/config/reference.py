"""Generated explanations of the configuration: JSON schema, reference table, first files.

What each key means is written once, as the comment beside it in `example.yaml`.
"""

import functools
import json
import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from pydantic.fields import FieldInfo

from understudy.config.providers import Server
from understudy.config.schema import ANY, field_at, known_keys, section_at
from understudy.config.settings import Settings
from understudy.config.yaml_document import KeyPath, read_document

_TWINS: dict[str, tuple[KeyPath, ...]] = {
    "model": (("model", "openrouter"), ("model", "local"), ("model", "nanogpt")),
    "discord": (("discord", "allow"),),
}
"""Sections whose keys mean the same elsewhere under the same first name."""


_SHARED_TITLE = "## Settings of every server"
_SHARED_TEXT = (
    "These keys belong to `model.openrouter`, `chutes`, `nanogpt`, `local` and every entry of "
    "`servers`. The sections after this one list only what differs."
)


def example_text() -> str:
    """Every key with its default and a comment."""
    return _packaged("example.yaml")


def starter_text() -> str:
    """The short configuration that a first start writes."""
    return _packaged("starter.yaml")


def dotenv_text() -> str:
    """A `.env` with every variable, all of them empty."""
    return _packaged("dotenv.example").partition("\n\n")[2]


def write_first_files(folder: Path) -> tuple[Path, ...]:
    """Write a short `config.yaml` and `.env.example` where they are missing.

    Returns what was written; nothing where the folder is not writable.
    """
    written: list[Path] = []
    for name, source in (("config.yaml", "starter.yaml"), (".env.example", "dotenv.example")):
        try:
            with (folder / name).open("x", encoding="utf-8") as file:
                file.write(_packaged(source))
        except OSError:
            continue
        written.append(folder / name)
    return tuple(written)


def json_schema() -> dict[str, object]:
    """The schema for editors, each key with its description."""
    schema = Settings.model_json_schema()
    places = {Settings.__name__: schema, **schema["$defs"]}
    for path in known_keys():
        section = section_at(path[:-1])
        assert section is not None
        places[section.__name__]["properties"][path[-1]].setdefault("description", describe(path))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}


def describe(path: KeyPath) -> str:
    """What a key means, in a sentence or two for operators."""
    comments = _comments()
    same_elsewhere = [(*section, path[-1]) for section in _TWINS.get(path[0], ())]
    found = (comments.get(key, "") for key in (path, *same_elsewhere))
    return next((text for text in found if text), "") or _in_examples().get(path[-1], "")


def reference_markdown() -> str:
    """The page `docs/configuration.md`: a table of every key, shared server settings once."""
    parts = [_packaged("reference.md").rstrip()]
    for section in dict.fromkeys(key[:-1] for key in known_keys()):
        keys = [key for key in known_keys() if key[:-1] == section]
        if _is_server(section):
            if not any(part.startswith(_SHARED_TITLE) for part in parts):
                parts += [
                    f"{_SHARED_TITLE}\n\n{_SHARED_TEXT}",
                    _table(_shared_keys(keys), shared=True),
                ]
            keys = [key for key in keys if not _as_shared(key)]
        title = ".".join(section).replace(f".{ANY}", ".<name>") or "The sections"
        text = describe(section) if section and section[-1] != ANY else ""
        parts.append(f"## {title}\n\n{text}".rstrip())
        parts.append(_table(keys) if keys else "All settings are those of every server.")
    return "\n\n".join(parts) + "\n"


def _table(keys: Iterable[KeyPath], *, shared: bool = False) -> str:
    rows = [_row(key, Server.model_fields[key[-1]] if shared else None) for key in keys]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows])


def _is_server(section: KeyPath) -> bool:
    found = section_at(section)
    return found is not None and issubclass(found, Server)


def _shared_keys(keys: Iterable[KeyPath]) -> list[KeyPath]:
    return [key for key in keys if key[-1] in Server.model_fields]


def _as_shared(path: KeyPath) -> bool:
    """Whether a server's key means and defaults to the same as for every server."""
    shared = Server.model_fields.get(path[-1])
    return shared is not None and shared.default == field_at(path).default


def _row(path: KeyPath, field: FieldInfo | None = None) -> str:
    field = field or field_at(path)
    if field.is_required():
        value = "required"
    elif section_at(path) is not None:
        value = "a section, below"
    else:
        value = f"`{_shown(field.default)}`"
    return f"| `{path[-1]}` | {value} | {describe(path).replace('|', '&#124;')} |"


def _shown(value: object) -> str:
    plain = sorted(value) if isinstance(value, frozenset) else value
    return json.dumps(plain, ensure_ascii=False)


def _packaged(name: str) -> str:
    return resources.files("understudy.config").joinpath(name).read_text(encoding="utf-8")


@functools.cache
def _comments() -> dict[KeyPath, str]:
    text = example_text()
    rows = text.splitlines()
    return {path: _above(rows, line) for path, line in read_document(text).lines.items()}


def _above(rows: list[str], line: int) -> str:
    words: list[str] = []
    for row in reversed(rows[: line - 1]):
        if not row.strip().startswith("#"):
            break
        words.insert(0, row.strip().removeprefix("#"))
    # What is indented further is an example, not part of the explanation.
    return " ".join(word.strip() for word in words if not word.startswith("   "))


@functools.cache
def _in_examples() -> dict[str, str]:
    """Keys that exist only in commented examples, with the remark behind them."""
    found = re.findall(r"^\s*#\s+(?:- )?(\w+): .*#\s+(.+)$", example_text(), re.MULTILINE)
    return dict(found)
