"""Verifiers that compare an answer with the expected one: exact, numeric, choice, set, sequence.

The answer is the completion, or the part of it that ``after`` or ``tag`` names. Texts are equal by their normal form:
Unicode NFC, no white space at the ends, one space for any white space between, and with ``case: false`` no difference
of case. An empty answer is wrong, whatever is expected.
"""

from __future__ import annotations

import functools
import json
import re
import unicodedata
from abc import abstractmethod
from collections.abc import Iterable
from fractions import Fraction
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from windlass.records.fields import Number, Text
from windlass.records.task import Task, Verdict
from windlass.verifiers.protocol import Kind, shown, unfit

LONGEST_NUMBER = 1000  #: characters; a longer one is not read

#: a sign that directly precedes and follows no word or bracket, thousands with commas, decimals, an exponent of at most
#: four digits; not what is part of a word (x2) or of a version (1.2.3)
_NUMBER = re.compile(
    r"(?:(?<![\w)\]}.])[-+\u2212])?(?<![\w.])"
    r"(?>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9]|,[0-9]{3})|[0-9]++|(?=\.[0-9]))(?:\.[0-9]++|(?!\.[0-9]))"
    r"(?:[eE][-+]?[0-9]{1,4}|(?![eE][-+]?[0-9]))(?!\.?[0-9])"
)
_AROUND_CHOICE = " \t\r\n.,:;!?()[]{}<>*_`\"'"
_BULLET = re.compile(r"(?:[-*•]|[0-9]{1,4}[.)])\s+")
_BRACKETS = {"[": "]", "(": ")", "{": "}"}
_SEPARATORS = re.compile(r"[,;\n]")


class Answer(Kind):
    """A kind that judges an answer, wherever it is in the completion."""

    after: Text | None = Field(
        default=None, min_length=1, description="the answer is what follows the last place of this text, as in '####'"
    )
    tag: Text | None = Field(
        default=None, pattern=r"^\w+$", description="the answer is inside the last <tag>...</tag>, as in 'answer'"
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.after is not None and self.tag is not None:
            raise ValueError("give one of 'after' and 'tag'")
        return self

    def answer(self, completion: str) -> str | None:
        """The answer without white space around it; None where the completion has no such place."""
        found = completion
        if self.after is not None:
            _, mark, found = completion.rpartition(self.after)
            if not mark:
                return None
        elif self.tag is not None:
            start, _, _ = completion.rpartition(f"</{self.tag}>")
            _, mark, found = start.rpartition(f"<{self.tag}>")
            if not mark:
                return None
        return found.strip()

    def within(self, answer: str) -> str:
        """A completion with this answer."""
        if self.after is not None:
            return f"{self.after} {answer}"
        return answer if self.tag is None else f"<{self.tag}>{answer}</{self.tag}>"

    def verify(self, completion: str, task: Task) -> Verdict:
        answer = self.answer(completion)
        if answer is None:
            place = repr(self.after) if self.tag is None else f"<{self.tag}>...</{self.tag}>"
            return fails(f"there is no {place} in the completion")
        return self.judge(answer, task) if answer else fails("the answer is empty")

    @abstractmethod
    def judge(self, answer: str, task: Task) -> Verdict:
        """Of an answer that is not empty."""

    def right(self, task: Task) -> str | None:
        return as_text(task.expected) if _is_scalar(task.expected) else None


class Exact(Answer):
    """The answer is the expected text, or one of the expected texts."""

    case: bool = Field(default=True, description="false: upper and lower case are the same")

    def judge(self, answer: str, task: Task) -> Verdict:
        accepted = self._accepted(task)
        given = normal(answer, case=self.case)
        if any(given == normal(text, case=self.case) for text in accepted):
            return passes(f"the answer is {shown(answer)}")
        return fails(f"the answer is {shown(answer)}, not {' or '.join(map(shown, accepted[:3]))}")

    def right(self, task: Task) -> str | None:
        return self._accepted(task)[0]

    def _accepted(self, task: Task) -> list[str]:
        values = task.expected if isinstance(task.expected, (list, tuple)) else [task.expected]
        texts = [as_text(value) for value in values if _is_scalar(value)]
        if not texts or len(texts) != len(values) or not all(text.strip() for text in texts):
            raise unfit(task, "exact", "a text that is not empty, a number, or a list of them")
        return texts


class Numeric(Answer):
    """A number of the answer is the expected one, within max(absolute, relative * |expected|)."""

    absolute: Number = Field(default=0.0, ge=0, description="the difference that is allowed")
    relative: Number = Field(default=0.0, ge=0, description="the same as a share of the expected number")
    which: Literal["last", "first", "only"] = Field(
        default="last", description="which number of the answer counts; only: more than one is wrong"
    )

    def judge(self, answer: str, task: Task) -> Verdict:
        expected = self._expected(task)
        found = numbers(answer)
        if not found:
            return fails("there is no number in the answer")
        if self.which == "only" and len(found) > 1:
            return fails(f"there are {len(found)} numbers in the answer: {', '.join(found[:4])}")
        given = found[0 if self.which == "first" else -1]
        allowed = max(value_of(repr(self.absolute)), value_of(repr(self.relative)) * abs(expected))
        if abs(value_of(given) - expected) <= allowed:
            return passes(f"the number is {shown(given)}")
        return fails(f"the number is {shown(given)}, not {shown(as_text(task.expected))}")

    def _expected(self, task: Task) -> Fraction:
        if _is_scalar(task.expected):
            text = as_text(task.expected).strip()
            if numbers(text) == [text]:
                return value_of(text)
        raise unfit(task, "numeric", "a number")

    def right(self, task: Task) -> str | None:
        self._expected(task)
        return as_text(task.expected)


class Choice(Answer):
    """The answer names the expected choice and no other.

    It is a choice by itself, whatever punctuation and case; else the choices that stand in it as words count. Single
    letters count in prose only in the case in which they are given: 'a cat' names no choice 'A'.
    """

    choices: tuple[Text, ...] = Field(default=("A", "B", "C", "D"), min_length=2, description="what can be chosen")

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        bare = [_bare(choice) for choice in self.choices]
        if not all(bare):
            raise ValueError("a choice is empty, or punctuation alone")
        if len(set(bare)) < len(bare):
            raise ValueError(f"two of {shown(list(self.choices))} are the same but for case and punctuation")
        return self

    def judge(self, answer: str, task: Task) -> Verdict:
        expected = self._expected(task)
        named = self._named(answer)
        if named == [expected]:
            return passes(f"the choice is {shown(expected)}")
        if not named:
            return fails(f"the answer {shown(answer)} names no choice")
        if len(named) > 1:
            return fails(f"the answer names {len(named)} choices: {', '.join(named[:4])}")
        return fails(f"the choice is {shown(named[0])}, not {shown(expected)}")

    def _expected(self, task: Task) -> str:
        wanted = _bare(as_text(task.expected)) if _is_scalar(task.expected) else ""
        for choice in self.choices:
            if _bare(choice) == wanted:
                return choice
        raise unfit(task, "choice", f"one of {', '.join(self.choices)}")

    def _named(self, answer: str) -> list[str]:
        bare = _bare(answer)
        for choice in self.choices:
            if _bare(choice) == bare:
                return [choice]
        found, rest = set(), normal(answer)
        for choice in sorted(self.choices, key=len, reverse=True):  # 'New York' before 'York'
            rest, count = _word(choice).subn(" | ", rest)
            if count:
                found.add(choice)
        return [choice for choice in self.choices if choice in found]

    def right(self, task: Task) -> str | None:
        return self._expected(task)


class _Items(Answer):
    """A list of items: a JSON list, or what stands between separators."""

    separator: Text | None = Field(
        default=None, min_length=1, description="between items; without it commas, semicolons and line ends"
    )
    case: bool = Field(default=False, description="true: upper and lower case differ")
    partial: bool = Field(default=False, description="true: the score is the share that agrees, not all or nothing")

    def items(self, answer: str) -> list[str]:
        """The items of an answer, each without bullets, quotes and white space around it; brackets around all go."""
        answer = answer.strip()
        try:
            listed = json.loads(answer)
        except (ValueError, RecursionError):
            listed = None
        if isinstance(listed, list) and all(map(_is_scalar, listed)):
            return [as_text(value) for value in listed]
        if answer and _BRACKETS.get(answer[0]) == answer[-1]:
            answer = answer[1:-1]
        parts = answer.split(self.separator) if self.separator else _SEPARATORS.split(answer)
        found = (_BULLET.sub("", part.strip(), count=1).strip().strip("\"'`").strip() for part in parts)
        return [item for item in found if item]

    def key(self, item: str) -> Fraction | str:
        """What makes two items equal: the value of numbers, the normal form of texts."""
        text = normal(item, case=self.case)
        return value_of(text) if numbers(text) == [text] else text

    def expected(self, task: Task, kind: str) -> list[str]:
        listed = task.expected
        if not isinstance(listed, (list, tuple)) or not listed or not all(map(_is_scalar, listed)):
            raise unfit(task, kind, "a list of texts or numbers")
        return [as_text(value) for value in listed]

    def right(self, task: Task) -> str | None:
        return json.dumps(self.expected(task, type(self).__name__.lower()), ensure_ascii=False)


class Set(_Items):
    """The answer lists the expected items in any order. Partial: items in both / items in either (Jaccard index)."""

    def judge(self, answer: str, task: Task) -> Verdict:
        wanted = {self.key(item) for item in self.expected(task, "set")}
        given = {self.key(item) for item in self.items(answer)}
        if given == wanted:
            return passes(f"all {len(wanted)} items, and no other")
        told = f"{len(given & wanted)} of {len(wanted)} items, and {len(given - wanted)} others"
        return _part(len(given & wanted) / len(given | wanted), told, self.partial)


class Sequence(_Items):
    """The answer lists the expected items in their order. Partial: places that agree / places of the longer list."""

    def judge(self, answer: str, task: Task) -> Verdict:
        wanted = [self.key(item) for item in self.expected(task, "sequence")]
        given = [self.key(item) for item in self.items(answer)]
        if given == wanted:
            return passes(f"all {len(wanted)} items in order")
        agree = sum(one == other for one, other in zip(given, wanted, strict=False))
        told = f"{agree} of {len(wanted)} places agree; the answer has {len(given)}"
        return _part(agree / max(len(given), len(wanted)), told, self.partial)


def passes(reason: str) -> Verdict:
    return Verdict(score=1.0, reason=reason)


def fails(reason: str) -> Verdict:
    return Verdict(score=0.0, reason=reason)


def _part(share: float, reason: str, partial: bool) -> Verdict:
    return Verdict(score=share if partial else 0.0, reason=reason)


def normal(text: str, *, case: bool = True) -> str:
    """The normal form of a text. It is its own normal form."""
    text = unicodedata.normalize("NFC", text)
    if not case:
        folded = unicodedata.normalize("NFD", text).casefold()
        text = unicodedata.normalize("NFC", unicodedata.normalize("NFD", folded).casefold())
    return " ".join(text.split())


def numbers(text: str) -> list[str]:
    """The numbers of a text, as they stand there, in their order."""
    return [found for match in _NUMBER.finditer(text) if len(found := match[0]) <= LONGEST_NUMBER]


def value_of(number: str) -> Fraction:
    """The exact value of a number as :func:`numbers` finds it."""
    return Fraction(number.replace(",", "").replace("\u2212", "-"))


def as_text(value: Any) -> str:
    """A text as it is; a number or a truth value as JSON writes it."""
    return value if isinstance(value, str) else json.dumps(value)


def last_block(text: str, languages: Iterable[str]) -> str | None:
    """The content of the last Markdown code block in one of ``languages`` ('' for none), or None.

    A block that is not closed goes to the end of the text.
    """
    found, inside, wanted = None, list[str](), False
    fence = ""
    for line in text.splitlines():
        bare = line.strip()
        if fence:
            if bare == fence:
                found, fence = ("\n".join(inside) if wanted else found), ""
            else:
                inside.append(line)
        elif bare.startswith("```"):
            fence = "`" * (len(bare) - len(bare.lstrip("`")))
            words = bare.strip("`").split()
            inside, wanted = [], (words[0].lower() if words else "") in languages
    return "\n".join(inside) if fence and wanted else found


def _is_scalar(value: Any) -> bool:
    return isinstance(value, (str, int, float))


def _bare(text: str) -> str:
    return normal(text, case=False).strip(_AROUND_CHOICE)


@functools.lru_cache(maxsize=1024)
def _word(choice: str) -> re.Pattern[str]:
    flags = re.NOFLAG if len(choice.strip()) == 1 else re.IGNORECASE
    return re.compile(rf"(?<!\w){re.escape(normal(choice))}(?!\w)", flags)
