"""Verifiers of form: a regular expression, a JSON schema; checked in a worker process with a limit of CPU time."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, field_validator

from windlass.errors import MissingExtra
from windlass.records.fields import Seconds, Text
from windlass.records.task import Task, Verdict
from windlass.verifiers.answers import Answer, last_block
from windlass.verifiers.protocol import scored, unfit, whole
from windlass.verifiers.worker import worker


class Checked(Answer):
    """A kind whose checks may hang or die: a process makes them."""

    check: ClassVar[str]
    needs: ClassVar[tuple[str, str]] = ("", "")  #: a library, and the extra that has it

    limit: Seconds = Field(default=2.0, description="CPU time of one check; an answer that takes longer scores 0")

    def model_post_init(self, context: Any, /) -> None:
        library, extra = self.needs
        if library and importlib.util.find_spec(library) is None:
            raise MissingExtra(f"this verifier needs the library {library}", f"pip install 'windlass[{extra}]'")

    def ask(self, answer: str, expected: Any, **options: Any) -> Verdict:
        done = worker(self.check).ask(answer=answer, expected=expected, options=options, limit=self.limit)
        score = None if done.score is None else scored(done.score, f"the check {self.check!r}")
        return Verdict(score=score, reason=whole(done.reason))

    def close(self) -> None:
        worker(self.check).close()


class Regex(Checked):
    """The answer matches a regular expression of Python: the option's, else the one that the task expects."""

    check: ClassVar[str] = "regex"

    pattern: Text | None = Field(default=None, min_length=1, description="without it, 'expected' is the pattern")
    anywhere: bool = Field(default=False, description="true: a part of the answer is enough; false: all of it matches")

    @field_validator("pattern")
    @classmethod
    def _compiles(cls, pattern: str | None) -> str | None:
        try:
            re.compile(pattern or "")
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return pattern

    def judge(self, answer: str, task: Task) -> Verdict:
        pattern = self.pattern if self.pattern is not None else task.expected
        if not isinstance(pattern, str) or not pattern:
            raise unfit(task, "regex", "a regular expression (or the option 'pattern')")
        return self.ask(answer, pattern, anywhere=self.anywhere)

    def right(self, task: Task) -> str | None:
        return None


class JsonSchema(Checked):
    """The answer is JSON that fits a JSON schema: the option's, else the one that the task expects.

    The JSON is the last ``` or ```json block of the answer, else all of it. What a schema calls 'format' is not
    checked, and a schema refers to nothing outside of itself.
    """

    check: ClassVar[str] = "schema"
    needs: ClassVar[tuple[str, str]] = ("jsonschema", "schema")

    schema_: Mapping[str, Any] | None = Field(
        default=None, alias="schema", description="without it, 'expected' is the schema"
    )

    def judge(self, answer: str, task: Task) -> Verdict:
        block = last_block(answer, ("", "json"))
        return self.ask(answer if block is None else block, self._schema(task))

    def _schema(self, task: Task) -> Mapping[str, Any]:
        schema = self.schema_ if self.schema_ is not None else task.expected
        if not isinstance(schema, Mapping):
            raise unfit(task, "json_schema", "a JSON schema (or the option 'schema')")
        return schema

    def right(self, task: Task) -> str | None:
        """The first of the schema's ``examples``."""
        examples = self._schema(task).get("examples")
        return json.dumps(examples[0], ensure_ascii=False) if isinstance(examples, list) and examples else None
