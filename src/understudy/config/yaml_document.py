"""A YAML file as plain data, with the line number of each key."""

import re
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, ReusedAnchorWarning, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

KeyPath = tuple[str, ...]

_MAX_KEYS = 20_000
_MAX_DEPTH = 40
_HALF = re.compile("[\ud800-\udfff]")
_MERGE = "tag:yaml.org,2002:merge"
_UNCLOSED = {
    "flow sequence": "the list opened with `[`",
    "flow mapping": "the section opened with `{`",
    "quoted scalar": "the quote opened",
}
"""What the parser was reading when it failed, in the words of a person who writes the file."""


@dataclass(frozen=True, slots=True)
class Document:
    data: object = field(default_factory=dict)
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    """Line numbers from 1. List items are keyed by their index."""
    repeated: tuple[tuple[KeyPath, int], ...] = ()
    """Keys written a second time, with the line of the second."""


class Unreadable(Exception):
    """The text is not YAML, or not a configuration. The message never quotes the text."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.line = line


def read_document(text: str) -> Document:
    """Parse `text`; raises `Unreadable` with the line where parsing stopped."""
    yaml = YAML(typ="safe", pure=True)
    yaml.allow_duplicate_keys = True
    try:
        with warnings.catch_warnings():
            # An anchor may be reused; the library would print a warning that bypasses the log.
            warnings.simplefilter("ignore", ReusedAnchorWarning)
            root = yaml.compose(text)
        if root is None:
            return Document()
        lines, repeated = _positions(root)
        return Document(yaml.constructor.construct_document(root), lines, repeated)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise Unreadable(_problem(error), line) from None
    except YAMLError:
        raise Unreadable("a character that YAML does not allow") from None
    except RecursionError:
        raise Unreadable("nested too deeply") from None
    except (ValueError, TypeError, ArithmeticError, LookupError, AttributeError):
        # Scalars that look like numbers or dates raise these inside the library.
        raise Unreadable("a value that YAML cannot read; put it in quotes") from None


def _problem(error: MarkedYAMLError) -> str:
    problem = str(error.problem or "not valid YAML")
    if "'\\t'" in problem:
        return "indented with a tab; YAML wants spaces"
    opened = error.context_mark.line + 1 if error.context_mark else None
    for context, wording in _UNCLOSED.items():
        if context in str(error.context or "") and opened is not None:
            return f"{wording} on line {opened} is not closed"
    # Quoted parts come from the file and may be secrets.
    return re.sub(r"'[^']{3,}'", "'…'", problem)


def _positions(root: Node) -> tuple[dict[KeyPath, int], tuple[tuple[KeyPath, int], ...]]:
    lines: dict[KeyPath, int] = {}
    repeated: list[tuple[KeyPath, int]] = []
    waiting: list[tuple[KeyPath, Node, bool]] = [((), root, False)]
    seen = 0
    while waiting:
        path, node, merged = waiting.pop()
        own: set[KeyPath] = set()
        for child, line, below, is_merge in _children(path, node):
            seen += 1
            # Nested aliases can expand to more keys than memory holds.
            if seen > _MAX_KEYS or len(path) > _MAX_DEPTH:
                raise Unreadable("more keys than a configuration can have", line)
            if isinstance(below, ScalarNode) and _HALF.search(below.value):
                raise Unreadable(
                    "half a character (a lone surrogate); write the character itself",
                    line,
                )
            waiting.append((child, below, merged or is_merge))
            if is_merge:
                continue
            if child in own:
                repeated.append((child, line))
            own.add(child)
            # A key of the mapping itself overrides a merged key.
            if not merged or child not in lines:
                lines[child] = line
    return lines, tuple(repeated)


def _children(path: KeyPath, node: Node) -> Iterator[tuple[KeyPath, int, Node, bool]]:
    if isinstance(node, SequenceNode):
        for index, item in enumerate(node.value):
            yield (*path, str(index)), item.start_mark.line + 1, item, False
    elif isinstance(node, MappingNode):
        for key, value in node.value:
            is_merge = key.tag == _MERGE
            child = path if is_merge else (*path, str(key.value))
            yield child, key.start_mark.line + 1, value, is_merge
