"""The search language: text to the tree of ``expression``, read by recursive descent.

::

    metrics.auc > 0.98 and params.model = 'svm' and not (status = 'failed' or tags.team in ('a', 'b'))

Fields
    ``metrics.NAME`` (its last value), ``metrics.NAME.min|max|last|step``, ``params.NAME`` (dotted), ``tags.NAME``, and
    ``status name study id number seed attempt failure created started ended duration`` (seconds; ``failure`` is its
    kind). A name with odd characters stands in backquotes or double quotes: ``metrics.`val loss`.max``.
Operators
    ``= != < <= > >=``, ``[NOT] IN (...)``, ``[NOT] LIKE`` and ``ILIKE`` (``%`` any text, ``_`` one character; ILIKE
    ignores the case of ASCII letters), ``[NOT] CONTAINS`` (a value in a list-valued parameter), ``IS [NOT] NULL``,
    ``IS [NOT] NAN``; ``AND``, ``OR``, ``NOT``, parentheses. Keywords in any case.
Values
    ``'text'`` (``''`` is one quote), numbers (``1e999`` is infinity), ``true``, ``false``. Times are seconds since the
    epoch, ISO text (``'2026-11-20'``, ``'2026-11-20T08:30:00Z'``; UTC unless it says otherwise) or relative to now
    (``'-90s'``, ``'-2h'``, ``'-7d'``).
What is missing
    A comparison with a missing value is false; so is one with NaN, and one with a value of another type (``1`` is no
    ``'1'``, ``true`` is no ``1``). The negated operators (``!=``, ``NOT IN``, ``NOT LIKE``) are their exact opposites:
    ``tags.x != 'a'`` is **true** for a run without that tag. A parameter set to null IS NULL.

Text is compared by code points, over its first 500 characters. Numbers are compared as 64-bit floats.

``order_by`` is a list of fields, each with ``asc`` or ``desc``: ``metrics.auc desc, created``. Runs that lack the field
(or hold NaN, a list or null there) come last in either direction. Booleans sort before numbers, numbers before text;
ties by id.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NoReturn

from windlass.errors import SearchError, nearest
from windlass.records.run import FailureKind, Status
from windlass.store.expression import (
    And,
    Compare,
    Contains,
    Field,
    In,
    IsNan,
    IsNull,
    Kind,
    Leaf,
    Like,
    Node,
    Not,
    Or,
    OrderKey,
    Value,
    comparable_text,
    typed,
)

MAX_DEPTH = 50
MAX_CONDITIONS = 200
MAX_VALUES = 2000
ASPECTS = ("last", "min", "max", "step")
_TEXTS = ("status", "name", "study", "id", "failure")
_TIMES = ("created", "started", "ended")
_NUMBERS = ("number", "seed", "attempt", "duration")
ATTRIBUTES = (*_TEXTS, *_NUMBERS, *_TIMES)
_CLOSED = {"status": [str(s) for s in Status], "failure": [str(k) for k in FailureKind]}


def parse(expression: str, now: float | None = None) -> Node:
    """The tree of an expression; empty text matches every run. ``now`` (seconds) anchors relative times.

    Raises SearchError at the offending token.
    """
    return _Parser(expression, time.time() if now is None else now).expression()


def parse_order(order_by: str) -> tuple[OrderKey, ...]:
    """``"metrics.auc desc, created"``; raises SearchError at the offending token."""
    return _Parser(order_by, 0.0).order()


_TOKEN = re.compile(
    r"""(?P<text>'(?:[^']|'')*')
    |(?P<number>[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))
    |(?P<name>[^\W\d][\w/\-]*(?:\.(?:[\w/\-]+|`[^`]*`|"[^"]*"))*)
    |(?P<quoted>`[^`]*`|"[^"]*")
    |(?P<operator><=|>=|!=|<>|==|[=<>])
    |(?P<mark>[(),])""",
    re.VERBOSE,
)
_SEGMENT = re.compile(r"""\.(?:(?P<plain>[\w/\-]+)|`(?P<back>[^`]*)`|"(?P<double>[^"]*)")""")
_KEYWORDS = frozenset(
    ["AND", "OR", "NOT", "IN", "LIKE", "ILIKE", "CONTAINS", "IS", "NULL", "NAN", "TRUE", "FALSE", "ASC", "DESC"]
)
_RELATIVE = re.compile(r"-(\d+(?:\.\d+)?)\s*([smhdw])")
_UNIT = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str  #: text, number, name, quoted, operator, mark, keyword or end
    text: str  #: keywords in upper case
    position: int


class _Parser:
    """Recursive descent; one method a rule of the grammar."""

    def __init__(self, source: str, now: float) -> None:
        self.source = source
        self.now = now
        self.depth = 0
        self.conditions = 0
        self.literals = 0
        self.tokens = self._tokenize()
        self.next = 0

    def _tokenize(self) -> list[_Token]:
        tokens: list[_Token] = []
        position = 0
        while (position := _skip_space(self.source, position)) < len(self.source):
            match = _TOKEN.match(self.source, position)
            if not match:
                opened = self.source[position]
                what = f"{opened} is never closed" if opened in "'\"`" else f"cannot read {opened!r} here"
                raise SearchError(what, self.source, position)
            kind, text = str(match.lastgroup), match.group()
            if kind == "name" and text.upper() in _KEYWORDS:
                kind, text = "keyword", text.upper()
            tokens.append(_Token(kind, text, position))
            position = match.end()
        return [*tokens, _Token("end", "the end", len(self.source))]

    @property
    def token(self) -> _Token:
        return self.tokens[self.next]

    def fail(self, message: str, token: _Token | None = None) -> NoReturn:
        raise SearchError(message, self.source, (token or self.token).position)

    def advance(self) -> _Token:
        token = self.token
        self.next += token.kind != "end"
        return token

    def accept(self, *texts: str) -> str | None:
        """The keyword or mark, where it is next."""
        if self.token.kind in ("keyword", "mark") and self.token.text in texts:
            return self.advance().text
        return None

    def expect(self, *texts: str) -> str:
        return self.accept(*texts) or self.fail(f"expected {' or '.join(texts)}, not {self.token.text}")

    def expression(self) -> Node:
        if self.token.kind == "end":
            return And(())
        node = self.disjunction()
        if self.token.kind != "end":
            self.fail(f"expected AND, OR or the end, not {self.token.text}")
        return node

    def disjunction(self) -> Node:
        nodes = [self.conjunction()]
        while self.accept("OR"):
            nodes.append(self.conjunction())
        return nodes[0] if len(nodes) == 1 else Or(tuple(nodes))

    def conjunction(self) -> Node:
        nodes = [self.term()]
        while self.accept("AND"):
            nodes.append(self.term())
        return nodes[0] if len(nodes) == 1 else And(tuple(nodes))

    def term(self) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"nested deeper than {MAX_DEPTH} levels")
        node: Node
        if self.accept("NOT"):
            node = Not(self.term())
        elif self.accept("("):
            node = self.disjunction()
            self.expect(")")
        else:
            node = self.condition()
        self.depth -= 1
        return node

    def condition(self) -> Node:
        self.conditions += 1
        if self.conditions > MAX_CONDITIONS:
            self.fail(f"more than {MAX_CONDITIONS} conditions")
        field = self.field()
        if self.token.kind == "operator":
            return self.comparison(field)
        if self.accept("IS"):
            negated = bool(self.accept("NOT"))
            token = self.token
            if self.expect("NULL", "NAN") == "NAN" and field.group not in ("metrics", "params"):
                self.fail("only metrics and params can be NaN", token)
            leaf: Leaf = IsNull(field) if token.text == "NULL" else IsNan(field)
            return Not(leaf) if negated else leaf
        negated = bool(self.accept("NOT"))
        token = self.token
        operator = self.accept("IN", "LIKE", "ILIKE", "CONTAINS")
        if operator is None:
            self.fail(f"expected an operator (= != < <= > >= IN LIKE ILIKE CONTAINS IS), not {self.token.text}")
        elif operator == "IN":
            leaf = In(field, self.values(field))
        elif operator == "CONTAINS":
            if field.group != "params":
                self.fail(
                    "CONTAINS asks for a value in a list; only params hold lists (LIKE '%text%' finds text)", token
                )
            leaf = Contains(field, self.value(field))
        else:
            if field.group == "metrics" or (field.group == "run" and field.name not in _TEXTS):
                self.fail(f"{operator} compares text; {_spell(field)} is a number", token)
            pattern = self.token
            if pattern.kind not in ("text", "quoted"):
                self.fail(f"{operator} needs a pattern in single quotes, not {pattern.text}")
            leaf = Like(field, "LIKE" if operator == "LIKE" else "ILIKE", comparable_text(_unquote(self.advance())))
        return Not(leaf) if negated else leaf

    def comparison(self, field: Field) -> Node:
        operator = self.advance()
        token = self.token
        value = self.value(field)
        match operator.text:
            case "=" | "==":
                return Compare(field, "=", value)
            case "!=" | "<>":
                return Not(Compare(field, "=", value))
            case "<" | "<=" | ">" | ">=" as ordering:
                if value.kind is Kind.BOOL:
                    self.fail(f"{token.text} has no order; use = or !=", token)
                return Compare(field, ordering, value)
            case other:
                raise AssertionError(other)

    def values(self, field: Field) -> tuple[Value, ...]:
        self.expect("(")
        values = [self.value(field)]
        while self.accept(","):
            values.append(self.value(field))
        self.expect(")")
        return tuple(values)

    def field(self) -> Field:
        token = self.advance()
        if token.kind != "name":
            self.fail(
                f"expected a field such as metrics.NAME, params.NAME, tags.NAME or status, not {token.text}", token
            )
        group, dot, _ = token.text.partition(".")
        if not dot and group in ATTRIBUTES:
            return Field("run", group)
        if not dot or group not in ("metrics", "params", "tags"):
            known = (*ATTRIBUTES, "metrics", "params", "tags")
            hint = nearest(group, known) or f" Write metrics.{group}, params.{group} or tags.{group}?"
            self.fail(f"unknown field {group!r}.{hint}", token)
        segments = list(_SEGMENT.finditer(token.text, len(group)))
        names = [match[match.lastgroup or 0] for match in segments]
        aspect = "last"
        if group == "metrics" and len(names) > 1 and segments[-1]["plain"] in ASPECTS:
            aspect = names.pop()
        return Field(
            "metrics" if group == "metrics" else "params" if group == "params" else "tags", ".".join(names), aspect
        )

    def value(self, field: Field) -> Value:
        """A literal that the field can be compared with."""
        self.literals += 1
        if self.literals > MAX_VALUES:
            self.fail(f"more than {MAX_VALUES} values")
        token = self.advance()
        if token.kind in ("text", "quoted") and not token.text.startswith("`"):
            literal: str | float | bool = _unquote(token)
        elif token.kind == "number":
            literal = float(token.text)
        elif token.text in ("TRUE", "FALSE") and token.kind == "keyword":
            literal = token.text == "TRUE"
        else:
            hint = f" Text stands in single quotes: '{token.text}'" if token.kind == "name" else ""
            self.fail(f"expected a value, not {token.text}.{hint}", token)
        wanted = _wanted(field)
        if wanted == "time" and isinstance(literal, str):
            literal = self.time(literal, token)
        if wanted == "text" and not isinstance(literal, str):
            self.fail(f"{_spell(field)} is text: '{token.text}'", token)
        if wanted in ("number", "time") and not isinstance(literal, float):
            self.fail(f"{_spell(field)} is a number, not {token.text}", token)
        if (closed := _CLOSED.get(field.name)) and field.group == "run" and literal not in closed:
            self.fail(
                f"no {field.name} is {literal!r}.{nearest(str(literal), closed)} Known: {', '.join(closed)}", token
            )
        return typed(literal)

    def time(self, text: str, token: _Token) -> float:
        if match := _RELATIVE.fullmatch(text.strip()):
            return self.now - float(match[1]) * _UNIT[match[2]]
        try:
            moment = datetime.fromisoformat(text.strip())
        except ValueError:
            self.fail(f"{token.text} is no time; write '2026-11-20', '2026-11-20T08:30:00Z' or '-2h'", token)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()

    def order(self) -> tuple[OrderKey, ...]:
        keys: list[OrderKey] = []
        if self.token.kind == "end":
            return ()
        while True:
            field = self.field()
            keys.append(OrderKey(field, self.accept("ASC", "DESC") == "DESC"))
            if self.token.kind == "end":
                return tuple(keys)
            if not self.accept(","):
                self.fail(f"expected ASC, DESC, a comma or the end, not {self.token.text}")


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position].isspace():
        position += 1
    return position


def _unquote(token: _Token) -> str:
    return token.text[1:-1].replace("''", "'") if token.kind == "text" else token.text[1:-1]


def _wanted(field: Field) -> str:
    if field.group == "run":
        return "text" if field.name in _TEXTS else "time" if field.name in _TIMES else "number"
    return {"metrics": "number", "tags": "text", "params": "any"}[field.group]


def _spell(field: Field) -> str:
    return field.name if field.group == "run" else f"{field.group}.{field.name}"
