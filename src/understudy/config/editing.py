"""Changes to the text of `config.yaml` and `.env`: comments, order and layout stay.

Shared by `setup`, `doctor` and the operator's page. Text in, text out; `write_file` in
`understudy.files` writes it, after `parse_config` has accepted it.
"""

import io
import re
from collections.abc import Iterable, Mapping

from dotenv.parser import parse_stream
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import CommentMark, YAMLError
from ruamel.yaml.tokens import CommentToken

from understudy.config.yaml_document import KeyPath
from understudy.errors import ConfigError

YamlValue = str | int | float | bool | None | list["YamlValue"] | dict[str, "YamlValue"]
_PLAIN = re.compile(r"[A-Za-z0-9_./:+@%=,-]*")
_LINE_BREAK = re.compile(r"[\r\n\0]")


def edited_yaml(
    text: str, changes: Mapping[KeyPath, YamlValue], removed: Iterable[KeyPath] = ()
) -> str:
    """The text with each key of `changes` set and each of `removed` deleted.

    Missing sections are added at the end. A list that is replaced keeps the style and the comment
    of the old one. Raises ConfigError where the text is no YAML mapping.
    """
    yaml = _yaml()
    try:
        root = yaml.load(text)
    except (YAMLError, ValueError, RecursionError) as error:
        raise ConfigError("The configuration is not valid YAML.") from error
    if root is None:
        return _onto_comments(yaml, text, changes)
    if not isinstance(root, CommentedMap):
        raise ConfigError("The configuration is not a mapping of sections.")
    for path, value in changes.items():
        _set(root, path, value)
    for path in removed:
        _remove(root, path)
    return _dump(yaml, root)


def yaml_text(data: Mapping[str, YamlValue]) -> str:
    """`data` as it would be written into a configuration."""
    return _dump(_yaml(), data)


def edited_env(text: str, values: Mapping[str, str]) -> str:
    """The text of a `.env` file with these variables set; all other lines stay as they are.

    The last line of a variable is the one in force, so that one is changed. Raises ConfigError
    for a value with a line break.
    """
    statements = list(parse_stream(io.StringIO(text)))
    lines = [one.original.string for one in statements]
    for name, value in values.items():
        places = [index for index, one in enumerate(statements) if one.key == name]
        if not places:
            if lines and not lines[-1].endswith("\n"):
                lines[-1] += "\n"
            lines.append(f"{name}={_quoted(name, value)}\n")
            continue
        old = lines[places[-1]]
        before = old[: len(old) - len(old.lstrip())]
        lines[places[-1]] = f"{before}{name}={_quoted(name, value)}\n"
    return "".join(lines)


def _quoted(name: str, value: str) -> str:
    if _LINE_BREAK.search(value):
        raise ConfigError(f"{name} contains a line break.")
    if _PLAIN.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _onto_comments(yaml: YAML, text: str, changes: Mapping[KeyPath, YamlValue]) -> str:
    """A file without any key: what is added follows its comments."""
    root = CommentedMap()
    for path, value in changes.items():
        _set(root, path, value)
    if not root:
        return text
    comments = [line for line in text.splitlines() if line.lstrip()[:1] in ("", "#")]
    return "".join(f"{line}\n" for line in comments) + _dump(yaml, root)


def _set(section: CommentedMap, path: KeyPath, value: YamlValue) -> None:
    key, *below = path
    old = section.get(key)
    if below and isinstance(old, CommentedMap) and old:
        _set(old, tuple(below), value)
        return
    for name in reversed(below):
        value = {name: value}
    if isinstance(value, list) and isinstance(old, list):
        # Items that stay keep their quotes.
        same = {item: item for item in old if isinstance(item, str)}
        old[:] = [same.get(item, item) if isinstance(item, str) else item for item in value]
    elif key in section:
        # A section whose keys are all commented out reads as null.
        section[key] = _commented(value)
    else:
        _append(section, key, value)


def _append(section: CommentedMap, key: str, value: YamlValue) -> None:
    """Add a key at the end of a section, before comments that follow the section."""
    following = _cut_following_comment(section)
    section[key] = _commented(value)
    if following:
        inner, last = _last_leaf(section)
        mark = CommentMark(0)
        inner.ca.items[last] = [None, None, CommentToken(f"\n{following}", mark), None]


def _commented(value: YamlValue) -> object:
    if isinstance(value, dict):
        return CommentedMap({key: _commented(inner) for key, inner in value.items()})
    if isinstance(value, list):
        items = CommentedSeq(_commented(item) for item in value)
        items.fa.set_flow_style()
        return items
    return value


def _cut_following_comment(section: CommentedMap) -> str:
    """Cut off the lines behind a section that are indented less than its keys."""
    column = section.lc.col if section else 0
    if not column:
        return ""
    inner, last = _last_leaf(section)
    found = inner.ca.items.get(last)
    token = found[2] if found else None
    if not isinstance(token, CommentToken):
        return ""
    own, *rest = token.value.splitlines(keepends=True)
    for index, line in enumerate(rest):
        if line.lstrip().startswith("#") and len(line) - len(line.lstrip()) < column:
            token.value = "".join([own, *rest[:index]])
            return "".join(rest[index:])
    return ""


def _last_leaf(section: CommentedMap) -> tuple[CommentedMap, object]:
    """The last key of a section, or of the section in it that is its last key."""
    key = next(reversed(section))
    value = section[key]
    is_section = isinstance(value, CommentedMap) and value and not value.fa.flow_style()
    return _last_leaf(value) if is_section else (section, key)


def _remove(section: CommentedMap, path: KeyPath) -> None:
    for key in path[:-1]:
        inner = section.get(key)
        if not isinstance(inner, CommentedMap):
            return
        section = inner
    section.pop(path[-1], None)


def _dump(yaml: YAML, data: object) -> str:
    out = io.StringIO()
    yaml.dump(data, out)
    return out.getvalue()


def _yaml() -> YAML:
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 4096
    yaml.indent(mapping=2, sequence=4, offset=2)
    return yaml
