"""YAML as a card may use it: mappings of names, lists and plain values, each with the line where it stands.

A card is data that anyone may send. What could cost more than its length (aliases of aliases, which make ten lines a
billion; an alias inside itself; endless nesting; digits without end) or means something else than it looks (a key
twice, a `no` that YAML takes for false, a control character) is refused at its line.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from assay.errors import CardError

Place = tuple[str | int, ...]
Lines = dict[Place, int]

MOST_BYTES = 2**18
MOST_LEVELS = 12
MOST_VALUES = 20_000  # with every alias written out
MOST_DIGITS = 30
_CONTROL = re.compile("[\\x00-\\x08\\x0b-\\x1f\\x7f-\\x9f\\ud800-\\udfff]")
_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_PLAIN: Any = yaml.constructor.SafeConstructor()


def dotted(place: Place) -> str:
    return ".".join(str(part) for part in place)


def read_yaml(path: Path) -> tuple[dict[str, Any], Lines]:
    """The fields of a card, and the line of each. Raises CardError, which names file and line."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        text = data.decode("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CardError(f"{path}: cannot be read: {error}") from error
    if len(data) > MOST_BYTES:
        raise CardError(f"{path}: is larger than {MOST_BYTES // 1024} KiB; a card is written by hand")
    try:
        _check_events(path, text)
        root = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        block = mark and re.search(r"[:-] +[|>][^-+\d]", text.splitlines()[min(mark.line, text.count("\n"))])
        hint = "; a text that begins with | or > stands in quotes" if block else ""
        raise CardError(f"{where}: not valid YAML: {getattr(error, 'problem', error)}{hint}") from error
    if not isinstance(root, yaml.MappingNode):
        raise CardError(f"{path}:1: a card is a mapping of fields; start from `assay new <slug>`")
    lines: Lines = {}
    return _Reader(path, lines).mapping(root, ()), lines


def _check_events(path: Path, text: str) -> None:
    """Before anything is built, for building is recursive."""
    levels = 0
    for event in yaml.parse(text, Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent | yaml.ScalarEvent) and event.tag not in (None, "!"):
            raise CardError(f"{_at(path, event)}: tags ({event.tag}) are not part of a card; write the plain value")
        levels += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if levels > MOST_LEVELS:
            raise CardError(f"{_at(path, event)}: is nested more than {MOST_LEVELS} levels deep")


def _at(path: Path, event: Any) -> str:
    return f"{path}:{event.start_mark.line + 1}"


class _Reader:
    def __init__(self, path: Path, lines: Lines) -> None:
        self.path, self.lines, self.values = path, lines, 0

    def fail(self, node: yaml.Node, at: Place, problem: str) -> CardError:
        return CardError(f"{self.path}:{node.start_mark.line + 1}: {dotted(at) or 'card'}: {problem}")

    def mapping(self, node: yaml.MappingNode, at: Place) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            name = self.value(key, at) if isinstance(key, yaml.ScalarNode) else None
            if not isinstance(name, str):
                raise self.fail(key, at, f"the name of a field is a word, not {_shown(key)}; put it in quotes")
            if name in found:
                raise self.fail(key, (*at, name), "is given twice")
            self.lines[(*at, name)] = key.start_mark.line + 1
            found[name] = self.value(value, (*at, name))
        return found

    def value(self, node: yaml.Node, at: Place) -> Any:
        self.values += 1
        if self.values > MOST_VALUES or len(at) > MOST_LEVELS:
            raise self.fail(node, at[:MOST_LEVELS], "an alias is part of itself, or stands for too much; write it out")
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, at)
        if isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self.lines[(*at, index)] = item.start_mark.line + 1
            return [self.value(item, (*at, index)) for index, item in enumerate(node.value)]
        return self.scalar(node, at)

    def scalar(self, node: yaml.Node, at: Place) -> Any:
        text = str(node.value)
        if bad := _CONTROL.search(text):
            raise self.fail(node, at, f"holds the control character {bad[0]!a}; remove it")
        if node.tag == "tag:yaml.org,2002:str":
            return text
        if len(text) > MOST_DIGITS:
            raise self.fail(node, at, f"a number has at most {MOST_DIGITS} characters, not {len(text):,}")
        try:
            return _PLAIN.construct_object(node)
        except (yaml.YAMLError, ValueError, OverflowError) as error:
            raise self.fail(node, at, f"cannot be read: {getattr(error, 'problem', None) or error}") from None


def _shown(node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        return "a list or a mapping"
    text = str(node.value)[:40]
    return f"`{text}`" + (", which YAML reads as another type" if re.fullmatch(r"[A-Za-z]+", text) else "")
