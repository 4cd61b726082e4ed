"""Text to tree: a scanner that knows every token of the language, Python's grammar for precedence, and the table.

Nothing is ever evaluated, compiled or looked up by a name that the text chooses. ``ast.parse`` sees only what the
scanner let pass, and each of its nodes must have a meaning in ``operators.OPERATORS``.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from windlass.errors import nearest
from windlass.workloads.alpha.language.operators import FIELDS, GROUPS, LARGEST, LONGEST, OPERATORS, Operator, Param
from windlass.workloads.alpha.language.scan import ExpressionError, Source
from windlass.workloads.alpha.language.spellings import ALIASES, EXPANSIONS, KEYWORDS, Expansion
from windlass.workloads.alpha.language.tree import FORMULAIC, Limits, Node, field, group, number, walk

__all__ = ["FORMULAIC", "ExpressionError", "Limits", "parse"]

MOST_LEVELS = 100  #: of nesting while the tree is built; ``Limits`` are checked on the tree
_ADV = re.compile(r"adv(\d{1,4})", re.ASCII)
_BINARY: dict[type[ast.operator], str] = {
    ast.Add: "add",
    ast.Sub: "sub",
    ast.Mult: "mul",
    ast.Div: "div",
    ast.Pow: "power",
}
_COMPARISONS: dict[type[ast.cmpop], str] = {ast.Eq: "eq", ast.Lt: "lt", ast.LtE: "le", ast.Gt: "gt", ast.GtE: "ge"}


def parse(text: str, limits: Limits = Limits(), *, fields: Collection[str] = ()) -> Node:  # noqa: B008
    """The tree of a text, as written (``canonical`` makes equal ones alike).

    Args:
        text: an expression, for example ``-rank(delta(close, 5)) * rank(volume / adv(20))``.
        limits: depth, nodes, look-back, and whether fractional windows are floored.
        fields: further columns of the panel that a text may name, besides ``operators.FIELDS``.

    Raises:
        ExpressionError: for everything that is not an expression within the limits. Nothing else is raised.
    """
    source = Source(text)
    try:
        root = ast.parse(source.python, mode="eval").body
    except SyntaxError as error:
        at = source.origin((error.offset or 1) - 1)
        raise ExpressionError("this does not read as an expression", text, at) from None
    except (RecursionError, MemoryError, ValueError):
        raise ExpressionError("nested too deeply", text, 0) from None
    try:
        node = _Builder(source, limits, frozenset(fields)).value(root, 0)
    except RecursionError:
        raise ExpressionError("nested too deeply", text, 0) from None
    if broken := limits.broken(node):
        raise ExpressionError(f"the expression has {broken}", text, 0)
    if not any(one.op in ("field", "adv") for one in walk(node)):
        raise ExpressionError("the expression reads no field, so it is the same for all names", text, 0)
    return node


@dataclass(frozen=True, slots=True)
class _Builder:
    source: Source
    limits: Limits
    extra: frozenset[str]

    def build(self, at: ast.expr, level: int) -> Node:
        if level > MOST_LEVELS:
            raise self.source.refuse("nested too deeply", at)
        level += 1
        match at:
            case ast.Constant():
                return self._constant(at)
            case ast.Name():
                return self._name(at)
            case ast.Call():
                return self._call(at, level)
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant() as operand):
                return number(-self._number(operand))
            case ast.UnaryOp(op=ast.USub()):
                return Node("neg", (self.value(at.operand, level),))
            case ast.UnaryOp(op=ast.UAdd()):
                return self.value(at.operand, level)
            case ast.UnaryOp(op=ast.Not()):
                return Node("not", (self.value(at.operand, level),))
            case ast.BinOp() if type(at.op) in _BINARY:
                return Node(_BINARY[type(at.op)], (self.value(at.left, level), self.value(at.right, level)))
            case ast.BoolOp():
                op = "and" if isinstance(at.op, ast.And) else "or"
                first, *rest = [self.value(one, level) for one in at.values]
                for one in rest:
                    first = Node(op, (first, one))
                return first
            case ast.Compare():
                return self._compare(at, level)
            case ast.IfExp():
                return Node("where", tuple(self.value(one, level) for one in (at.test, at.body, at.orelse)))
        raise self.source.refuse("this does not read as an expression", at)

    def value(self, at: ast.expr, level: int) -> Node:
        node = self.build(at, level)
        if node.op == "group":
            message = f"{node.params[0]} is a group; only group_neutralize and group_rank take one"
            raise self.source.refuse(message, at)
        return node

    def _number(self, at: ast.Constant) -> float:
        if isinstance(at.value, bool) or not isinstance(at.value, int | float):
            raise self.source.refuse(f"{at.value!r} is no number", at)
        if not math.isfinite(at.value) or abs(at.value) > LARGEST:
            raise self.source.refuse(f"the number is above {LARGEST:g}", at)
        return float(at.value)

    def _constant(self, at: ast.Constant) -> Node:
        return self._group(at) if isinstance(at.value, str) else number(self._number(at))

    def _group(self, at: ast.Constant) -> Node:
        if at.value not in GROUPS:
            raise self.source.refuse(f"{at.value!r} is no group; there are {', '.join(GROUPS)}", at)
        return group(str(at.value))

    def _name(self, at: ast.Name) -> Node:
        if at.id in self.extra:
            return field(at.id)
        word = at.id.lower()
        if word in FIELDS:
            return field(word)
        if word in GROUPS:
            return group(word)
        if match := _ADV.fullmatch(word):
            days = int(match[1])
            if not 1 <= days <= LONGEST:
                raise self.source.refuse(f"{at.id}: the window is 1 to {LONGEST} days", at)
            return Node("adv", params=(days,))
        if word in OPERATORS or word in ALIASES or word in EXPANSIONS:
            raise self.source.refuse(f"{at.id!r} is an operator; it needs arguments in brackets", at)
        hint = nearest(word, [*FIELDS, *GROUPS, *sorted(self.extra)])
        raise self.source.refuse(f"there is no field {at.id!r}.{hint}", at, "windlass alpha check --list")

    def _compare(self, at: ast.Compare, level: int) -> Node:
        if len(at.ops) > 1:
            raise self.source.refuse("one comparison at a time: write (a < b) and (b < c)", at.comparators[1])
        args = (self.value(at.left, level), self.value(at.comparators[0], level))
        kind = type(at.ops[0])
        if kind is ast.NotEq:
            return Node("not", (Node("eq", args),))
        if kind not in _COMPARISONS:
            raise self.source.refuse("this does not read as an expression", at)
        return Node(_COMPARISONS[kind], args)

    def _call(self, at: ast.Call, level: int) -> Node:
        if not isinstance(at.func, ast.Name):
            raise self.source.refuse("only an operator's name can stand before a bracket", at.func)
        word = at.func.id.lower()
        name = ALIASES.get(word, word)
        shape = OPERATORS.get(name) or EXPANSIONS.get(name)
        if shape is None:
            known = [*OPERATORS, *ALIASES, *EXPANSIONS]
            message = f"there is no operator {at.func.id!r}.{nearest(word, known)}"
            raise self.source.refuse(message, at.func, "windlass alpha check --list")
        args, params = self._arguments(at, at.func.id, shape, level)
        if isinstance(shape, Expansion):
            return shape.build(*args, *params)
        return Node(name, tuple(args), tuple(params))

    def _arguments(
        self, at: ast.Call, word: str, shape: Operator | Expansion, level: int
    ) -> tuple[list[Node], list[int | float]]:
        """The trees of a call and then its literals, given in order or, for literals, by name."""
        grouped = shape.group if isinstance(shape, Expansion) else shape.kind == "group"
        if shape.most_args:
            least, most = len(shape.args) - isinstance(shape, Expansion), shape.most_args
            trees = at.args
        else:
            least = most = len(shape.args)
            trees = at.args[:most]
        literals = [] if shape.most_args else at.args[most:]
        if not least <= len(trees) <= most or len(literals) > len(shape.params):
            raise self.source.refuse(f"{word} is written {_usage(word, shape)}", at)
        args = [
            self._group_argument(one, word) if grouped and index == 1 else self.value(one, level)
            for index, one in enumerate(trees)
        ]
        return args, self._literals(at, word, shape, literals)

    def _group_argument(self, at: ast.expr, word: str) -> Node:
        node = self.build(at, 0) if isinstance(at, ast.Name | ast.Constant) else None
        if node is None or node.op != "group":
            raise self.source.refuse(f"{word} takes a group here: {', '.join(GROUPS)}", at)
        return node

    def _literals(
        self, at: ast.Call, word: str, shape: Operator | Expansion, given: Sequence[ast.expr]
    ) -> list[int | float]:
        found = dict(zip((one.name for one in shape.params), given, strict=False))
        for one in at.keywords:
            asked = (one.arg or "").lower()
            named = [p.name for p in shape.params if p.name == asked or asked in KEYWORDS.get(p.name, ())]
            if not named or named[0] in found:
                problem = "is given twice" if named else "is unknown"
                raise self.source.refuse(f"{word}: {one.arg or '**'} {problem}; write {_usage(word, shape)}", one)
            found[named[0]] = one.value
        values: list[int | float] = []
        for param in shape.params:
            if param.name in found:
                values.append(self._literal(found[param.name], word, param))
            elif param.default is not None:
                values.append(param.default)
            else:
                raise self.source.refuse(f"{word} needs {param.name}; write {_usage(word, shape)}", at)
        if word.lower() == "clip" and values[0] > values[1]:
            raise self.source.refuse(f"clip: {values[0]:g} is above {values[1]:g}", at)
        return values

    def _literal(self, at: ast.expr, word: str, param: Param) -> int | float:
        sign, inner = 1.0, at
        if isinstance(at, ast.UnaryOp) and isinstance(at.op, ast.USub):
            sign, inner = -1.0, at.operand
        if not isinstance(inner, ast.Constant):
            raise self.source.refuse(f"{word}: {param.name} is a plain number, not an expression", at)
        value = sign * self._number(inner)
        if param.whole and not value.is_integer():
            if not self.limits.floor_windows:
                raise self.source.refuse(f"{word}: {param.name} is {value:g}, and it must be whole", at)
            value = math.floor(value)
        if not param.least <= value <= param.most:
            bounds = f"{param.least:g} to {param.most:g}"
            raise self.source.refuse(f"{word}: {param.name} is {value:g}, and it must be {bounds}", at)
        return int(value) if param.whole else float(value)


def _usage(word: str, shape: Operator | Expansion) -> str:
    if isinstance(shape, Operator):
        return shape.signature.replace(shape.name, word, 1)
    return f"{word}({', '.join((*shape.args, *(one.name for one in shape.params)))})"
