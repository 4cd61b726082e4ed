"""Text to tokens to a source that Python's grammar may read: every token that passes here is known to the language.

The scanner refuses whatever is not an ASCII word, a number of modest length, a bracket or an operator sign, and it
matches the brackets itself, so that Python's parser never meets a text that could cost it much.
"""

from __future__ import annotations

import ast
import bisect
import keyword
import re
import shlex
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

from windlass.errors import WindlassError

LONGEST_TEXT = 10_000  #: characters
MOST_TOKENS = 2_000
MOST_BRACKETS = 60  #: open at one place
_LONGEST_NUMBER = 30  #: characters
_LONGEST_WORD = 64
_AROUND = 40  #: characters of the text that a message shows on either side
_SHOWN = 200  #: characters of a text that a next step may repeat

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    | (?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)
    | (?P<group>[Ii]nd[Cc]lass\.(?:sector|industry|subindustry)\b|'[A-Za-z]{1,20}'|"[A-Za-z]{1,20}")
    | (?P<name>[A-Za-z_]\w*)
    | (?P<sign>\*\*|\|\||&&|[=!<>]=|[-+*/^<>(),?:=])""",
    re.ASCII | re.VERBOSE,
)
_PYTHON = {"^": "**", "||": "or", "&&": "and"}
_EDGES, _QUESTION, _COLON = frozenset("?:,="), frozenset("?"), frozenset(":")
_WORDS = frozenset({"and", "or", "not", "if", "else"})
_REFUSED = {
    "[": "indexing and lists are not part of the language",
    "{": "braces are not part of the language",
    ".": "attributes are not part of the language",
    "%": "there is no remainder; write the operators + - * / **",
    "|": "write 'or'",
    "&": "write 'and'",
    "!": "write 'not'",
    "~": "write 'not'",
    "'": "the only quoted word is the name of a group",
    '"': "the only quoted word is the name of a group",
}


class ExpressionError(WindlassError):
    """A text is no expression; ``position`` is the offset of the piece that is wrong."""

    def __init__(self, message: str, expression: str, position: int, next_step: str = "") -> None:
        self.expression = expression
        self.position = position
        start, end = max(0, position - _AROUND), position + _AROUND
        shown = re.sub(r"[^\x20-\x7e]", "?", expression[start:end])
        caret = " " * (position - start)
        said = f"column {position + 1}: {message}\n  {shown}\n  {caret}^"
        super().__init__(said, next_step or _next_step(expression))


def _next_step(expression: str) -> str:
    plain = len(expression) <= _SHOWN and expression.isascii() and expression.isprintable()
    dashes = "-- " if expression.startswith("-") else ""  # else the shell's reader takes it for an option
    return f"windlass alpha check {dashes if plain else ''}{shlex.quote(expression if plain else 'EXPRESSION')}"


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    at: int


class Source:
    """The text as Python reads it, with the way back to the text's own columns."""

    def __init__(self, text: str) -> None:
        """Raises ExpressionError."""
        if len(text) > LONGEST_TEXT:
            raise ExpressionError(f"{len(text)} characters, and at most {LONGEST_TEXT} are allowed", text, 0)
        self.text = text
        tokens = _arrange(_scan(text), text)
        self._starts: list[int] = []
        self._origins: list[int] = []
        pieces, length = [], 0
        for token in tokens:
            self._starts.append(length)
            self._origins.append(token.at)
            piece = repr(token.text) if token.kind == "group" else _PYTHON.get(token.text, token.text)
            pieces.append(piece)
            length += len(piece) + 1
        self.python = " ".join(pieces)

    def origin(self, column: int) -> int:
        """Offset in the text of the token at a column of ``python``."""
        return self._origins[max(0, bisect.bisect_right(self._starts, column) - 1)]

    def refuse(self, message: str, at: ast.AST, next_step: str = "") -> ExpressionError:
        return ExpressionError(message, self.text, self.origin(getattr(at, "col_offset", 0)), next_step)


def _scan(text: str) -> list[_Token]:
    tokens: list[_Token] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise ExpressionError(_strange(text[at]), text, at)
        kind, piece = str(match.lastgroup), match.group()
        if kind == "number" and len(piece) > _LONGEST_NUMBER:
            raise ExpressionError(f"a number of {len(piece)} characters; at most {_LONGEST_NUMBER}", text, at)
        if kind == "name":
            _check_word(piece, text, at)
        if kind == "group":
            piece = piece.strip("'\"").rpartition(".")[2].lower()
        if kind != "space":
            if kind in ("name", "number") and tokens and tokens[-1].kind == "number" and _touch(tokens[-1], at):
                raise ExpressionError(f"{tokens[-1].text + piece!r} is no number", text, tokens[-1].at)
            tokens.append(_Token(kind, piece, at))
            if len(tokens) > MOST_TOKENS:
                raise ExpressionError(f"more than {MOST_TOKENS} words and signs", text, at)
        at = match.end()
    if not tokens:
        raise ExpressionError("the expression is empty", text, 0)
    return tokens


def _touch(token: _Token, at: int) -> bool:
    return token.at + len(token.text) == at


def _strange(character: str) -> str:
    if character in _REFUSED:
        return f"{character!r}: {_REFUSED[character]}"
    if character.isascii():
        return f"{character!r} is not part of the language"
    return f"{unicodedata.name(character, 'an unknown character')} (U+{ord(character):04X}) is not part of the language"


def _check_word(word: str, text: str, at: int) -> None:
    if len(word) > _LONGEST_WORD:
        raise ExpressionError(f"a name of {len(word)} characters; at most {_LONGEST_WORD}", text, at)
    if "__" in word or (keyword.iskeyword(word) and word not in _WORDS):
        raise ExpressionError(f"{word!r} is not part of the language", text, at)


def _arrange(tokens: Sequence[_Token], text: str) -> list[_Token]:
    """Brackets that match, ``c ? a : b`` and ``if(c, a, b)`` as ``where(c, a, b)``."""
    levels: list[tuple[_Token, list[_Token]]] = []  # an open bracket, and what came before it on its level
    here: list[_Token] = []
    for token in tokens:
        if token.text == "(":
            if len(levels) >= MOST_BRACKETS:
                raise ExpressionError(f"more than {MOST_BRACKETS} brackets are open here", text, token.at)
            if here and here[-1].text == "if" and not _ends_value(here[:-1]):
                here[-1] = _Token("name", "where", here[-1].at)
            levels.append((token, here))
            here = []
        elif token.text == ")":
            if not levels:
                raise ExpressionError("this bracket closes nothing", text, token.at)
            opened, before = levels.pop()
            here = [*before, opened, *_ternaries(here, text), token]
        else:
            here.append(token)
    if levels:
        raise ExpressionError("this bracket is never closed", text, levels[-1][0].at)
    return _ternaries(here, text)


def _ends_value(tokens: Sequence[_Token]) -> bool:
    last = tokens[-1] if tokens else _Token("", "", 0)
    return last.text == ")" or last.kind in ("number", "group") or (last.kind == "name" and last.text not in _WORDS)


def _ternaries(tokens: list[_Token], text: str) -> list[_Token]:
    """``c ? a : b`` in the content of one bracket, whose inner brackets are done; the last ``?`` binds first."""
    while (question := _edge(tokens, len(tokens), -1, _QUESTION)) >= 0:
        at = tokens[question].at
        start, colon = (_edge(tokens, question, step, _EDGES) for step in (-1, 1))
        end = _edge(tokens, colon, 1, _EDGES)
        parts = [tokens[start + 1 : question], tokens[question + 1 : colon], tokens[colon + 1 : end]]
        if not all(parts) or tokens[colon].text != ":":
            raise ExpressionError("'?' is written condition ? a : b", text, at)
        if len(tokens) > MOST_TOKENS:
            raise ExpressionError(f"more than {MOST_TOKENS} words and signs", text, at)
        opening, comma, closing = (_Token("sign", sign, at) for sign in "(,)")
        call = [_Token("name", "where", at), opening, *parts[0], comma, *parts[1], comma, *parts[2], closing]
        tokens = [*tokens[: start + 1], *call, *tokens[end:]]
    if (stray := _edge(tokens, -1, 1, _COLON)) < len(tokens):
        raise ExpressionError("':' goes with '?', as in condition ? a : b", text, tokens[stray].at)
    return tokens


def _edge(tokens: Sequence[_Token], index: int, step: int, signs: frozenset[str]) -> int:
    """Next index in a direction, on the same level, of one of the signs; -1 or len(tokens) where there is none."""
    level = 0
    index += step
    while 0 <= index < len(tokens):
        token = tokens[index]
        level += (token.text == "(") - (token.text == ")")
        if level == 0 and token.text in signs:
            break
        index += step
    return index
