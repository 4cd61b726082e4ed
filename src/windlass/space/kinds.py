"""The kinds of values in a rule, checked before the first config: an unknown name, ``'svm' < 3``, a misspelt choice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from windlass.errors import nearest
from windlass.records.parameters import BoolParameter, CategoricalParameter, FloatParameter, IntParameter, SetParameter
from windlass.space.parameters import listed
from windlass.space.rules import (
    Arithmetic,
    Call,
    Compare,
    Expression,
    Items,
    Literal,
    Logic,
    Name,
    Not,
    Rule,
    equal,
    is_number,
    refuse,
    walk,
)


def check_rule(rule: Rule, known: Mapping[str, Any]) -> None:
    """``known``: parameters of the space and fixed values, by flat name.

    Raises StudyError that points at an unknown name, at operands of the wrong kind, or at a value that a
    categorical parameter never has.
    """
    for node in walk(rule.tree):
        if isinstance(node, Name) and node.name not in known:
            dashed = [name for name in known if "-" in name and name in rule.text]
            hint = f" {dashed[0]!r} reads as a difference here; write '_'." if dashed else nearest(node.name, known)
            refuse(rule.text, node.position, f"there is no parameter {node.name!r}.{hint}")
    checker = _Checker(rule, known)
    checker.need("truth", rule.tree)


class _Checker:
    """Finds the kind of each part: number, text, truth, list, null, or any where only a config can tell."""

    def __init__(self, rule: Rule, known: Mapping[str, Any]) -> None:
        self.rule, self.known = rule, known

    def need(self, kind: str, *nodes: Expression) -> None:
        for node in nodes:
            if (found := self.kind(node)) not in (kind, "any"):
                refuse(self.rule.text, node.position, f"this is a {found}, and a {kind} is needed")

    def kind(self, node: Expression) -> str:
        match node:
            case Literal(value=value):
                return _kind_of_value(value)
            case Name(name=name):
                return _kind_of_known(self.known[name])
            case Items(items=items):
                for item in items:
                    self.kind(item)
                return "list"
            case Arithmetic(left=left, right=right):
                self.need("number", left, right)
                return "number"
            case Call(function=function, arguments=arguments):
                self.need("list" if function == "len" else "number", *arguments)
                return "number"
            case Logic(terms=terms):
                self.need("truth", *terms)
            case Not(term=term):
                self.need("truth", term)
            case Compare(first=left, rest=rest):
                for operator, right in rest:
                    self._compare(left, operator, right)
                    left = right
        return "truth"

    def _compare(self, left: Expression, operator: str, right: Expression) -> None:
        if operator in ("in", "not in"):
            self.kind(left)
            self.need("list", right)
            pairs = [(left, item) for item in right.items] if isinstance(right, Items) else [(right, left)]
        elif operator in ("==", "!="):
            pairs = [(left, right), (right, left)]
            kinds = {self.kind(left), self.kind(right)}
            if "list" in kinds:
                refuse(self.rule.text, left.position, "a list is not compared as a whole; use in or len")
            if len(kinds) == 2 and not kinds & {"any", "null"}:
                refuse(self.rule.text, right.position, f"a {self.kind(left)} never equals a {self.kind(right)}")
        else:
            pairs = []
            self.need("number", left, right)
        for name, literal in pairs:
            if isinstance(name, Name) and isinstance(literal, Literal):
                self._check_choice(self.known[name.name], literal)

    def _check_choice(self, parameter: Any, literal: Literal) -> None:
        if not isinstance(parameter, (CategoricalParameter, SetParameter)):
            return
        choices = parameter.choices
        if not any(equal(choice, literal.value) for choice in choices):
            hint = nearest(str(literal.value), [str(choice) for choice in choices])
            message = f"{literal.value!r} is none of {listed(choices)}{'.' if hint else ''}{hint}"
            refuse(self.rule.text, literal.position, message)


def _kind_of_known(known: Any) -> str:
    match known:
        case FloatParameter() | IntParameter():
            return "number"
        case BoolParameter():
            return "truth"
        case SetParameter():
            return "list"
        case CategoricalParameter(choices=choices):
            kinds = {_kind_of_value(choice) for choice in choices}
            return kinds.pop() if len(kinds) == 1 else "any"
    return _kind_of_value(known)


def _kind_of_value(value: Any) -> str:
    if isinstance(value, bool):
        return "truth"
    if is_number(value):
        return "number"
    if isinstance(value, str):
        return "text"
    return "null" if value is None else "list" if isinstance(value, (list, tuple)) else "any"
