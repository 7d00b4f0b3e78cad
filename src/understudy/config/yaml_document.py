"""A YAML file as plain data, together with the line each key stands on."""

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


@dataclass(frozen=True, slots=True)
class Document:
    data: object = field(default_factory=dict)
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    """Counts from 1. Items of lists are keyed by their index."""
    repeated: tuple[tuple[KeyPath, int], ...] = ()
    """Keys written a second time, with the line of the second."""


class Unreadable(Exception):
    """The text is no YAML that a configuration could be written in. Never quotes the text."""

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
            # An anchor may be used again; the library would print a warning past our log.
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
        # What the library lets through of scalars that only look like numbers or dates.
        raise Unreadable("a value that YAML cannot read; put it in quotes") from None


def _problem(error: MarkedYAMLError) -> str:
    problem = str(error.problem or "not valid YAML")
    if "'\\t'" in problem:
        return "indented with a tab; YAML wants spaces"
    # What stands in quotes comes from the file and may be a secret.
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
            # Aliases of aliases can stand for more keys than there is memory.
            if seen > _MAX_KEYS or len(path) > _MAX_DEPTH:
                raise Unreadable("more keys than a configuration can have", line)
            if isinstance(below, ScalarNode) and _HALF.search(below.value):
                raise Unreadable("half a character; write it out instead of as \\u", line)
            waiting.append((child, below, merged or is_merge))
            if is_merge:
                continue
            if child in own:
                repeated.append((child, line))
            own.add(child)
            # What a mapping writes itself wins over what it merges in.
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
