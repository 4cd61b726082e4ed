"""YAML text (JSON is a part of it) to data that remembers its lines, and back.

YAML 1.2's numbers and booleans, with PyYAML: ``1e-3`` is a float; ``on``, ``off``, ``yes``, ``no`` and dates are
texts. Duplicate keys, merge keys, tags, and keys that are no texts are refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import yaml

from windlass.errors import StudyError
from windlass.records.content import Path

LARGEST_TEXT = 500_000  #: characters
LARGEST_TREE = 50_000  #: values, aliases written out
DEEPEST = 100  #: levels

_TAG = "tag:yaml.org,2002:"
_CORE = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  PyYAML's own name


class _Dumper(yaml.SafeDumper):
    """Quotes every text that a reader of YAML 1.1 or 1.2 would take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


for _kind, (_pattern, _first) in _CORE.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(_TAG + _kind, re.compile(f"(?:{_pattern})$"), _first)


def _represent_sequence(dumper: _Dumper, value: list[Any] | tuple[Any, ...]) -> yaml.Node:
    short = all(item is None or isinstance(item, (bool, int, float, str)) for item in value)
    return dumper.represent_sequence(_TAG + "seq", value, flow_style=short)


def _represent_text(dumper: _Dumper, value: str) -> yaml.Node:
    plain = value.replace("\n", "").isprintable()
    return dumper.represent_scalar(_TAG + "str", value, style=None if plain else '"')


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(list, _represent_sequence)
_Dumper.add_representer(tuple, _represent_sequence)


def dump_yaml(data: Mapping[str, Any]) -> str:
    """YAML text of JSON-like data, keys in their order; :class:`Document` reads the same data from it."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)


class Document:
    """Parsed text: ``data``, and the line of everything in it.

    Raises StudyError on text that is no YAML, with file and line.
    """

    def __init__(self, text: str, source: str = "study.yaml") -> None:
        self.source = source
        self._lines: dict[Path, int] = {}
        self._values = 0
        if len(text) > LARGEST_TEXT:
            raise self._error(1, f"{len(text)} characters are more than the {LARGEST_TEXT} that are read")
        try:
            node = yaml.compose(text, Loader=_Loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            hint = "; indent with spaces, not tabs" if "'\\t'" in str(error.problem) else ""
            what = ", ".join(part for part in (error.context, error.problem) if part)
            raise self._error(mark.line + 1 if mark else 1, f"no YAML: {what}{hint}") from error
        except yaml.YAMLError as error:
            raise self._error(1, f"no YAML: {error}") from error
        except RecursionError as error:
            raise self._error(1, f"nested deeper than {DEEPEST} levels") from error
        self.data: Any = self._read(node, ()) if node is not None else None

    def line(self, path: Path) -> int:
        """The line (from 1) of the value at ``path``, or of the nearest thing around it."""
        while path and path not in self._lines:
            path = path[:-1]
        return self._lines.get(path, 1)

    def _error(self, line: int, message: str) -> StudyError:
        return StudyError(f"{self.source}:{line}: {message}", f"Edit {self.source}")

    def _read(self, node: yaml.Node, path: Path) -> Any:
        line = node.start_mark.line + 1
        self._values += 1
        if self._values > LARGEST_TREE:
            raise self._error(line, f"more than {LARGEST_TREE} values, aliases written out")
        if len(path) > DEEPEST:
            raise self._error(line, f"nested deeper than {DEEPEST} levels, or an alias of itself")
        if isinstance(node, yaml.MappingNode) and node.tag == _TAG + "map":
            return self._read_mapping(node, path)
        if isinstance(node, yaml.SequenceNode) and node.tag == _TAG + "seq":
            for index, item in enumerate(node.value):
                self._lines[(*path, index)] = item.start_mark.line + 1
            return [self._read(item, (*path, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.ScalarNode):
            try:
                return _scalar(node.tag.removeprefix(_TAG), node.value)
            except ValueError as error:
                raise self._error(line, str(error)) from None
        raise self._error(line, f"the tag {node.tag!r} is not supported")

    def _read_mapping(self, node: yaml.MappingNode, path: Path) -> dict[str, Any]:
        data: dict[str, Any] = {}
        seen: dict[str, int] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag != _TAG + "str":
                shown = repr(key_node.value) if isinstance(key_node, yaml.ScalarNode) else "a list or mapping"
                raise self._error(line, f"keys are text, not {shown}; quote it")
            key = _scalar("str", key_node.value)
            if key == "<<" and key_node.style is None:
                raise self._error(line, "merge keys (<<) are not part of YAML 1.2; repeat the keys")
            if key in seen:
                raise self._error(line, f"the key {key!r} is there twice, first in line {seen[key]}")
            seen[key] = self._lines[(*path, key)] = line
            data[key] = self._read(value_node, (*path, key))
        return data


def _scalar(kind: str, text: str) -> Any:
    """The value of a scalar; raises ValueError."""
    match kind:
        case "str":
            try:
                text.encode()
                return text
            except UnicodeEncodeError:  # JSON writes characters beyond the basic plane as a pair of surrogates
                return text.encode("utf-16", "surrogatepass").decode("utf-16")
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int":
            if len(text) > 400:
                raise ValueError(f"a number of {len(text)} digits is too long")
            return int(text, 0) if text.startswith(("0o", "0x")) else int(text)
        case "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    raise ValueError(f"the tag {kind!r} is not supported")
