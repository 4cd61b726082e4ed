"""A language model that writes factor expressions. What it writes is text: parsed by the lab, and never executed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from pydantic import BaseModel, ConfigDict, Field

from windlass.agents.briefing import again, fence_of, fenced, fill
from windlass.agents.endpoint import LONGEST_ERROR, Replies, Request, plain
from windlass.agents.language import Unusable, parsed
from windlass.records.decision import Exchange

LONGEST_IDEA = 2_000  #: characters


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Written(_Answer):
    """One expression."""

    expression: str = Field(min_length=1, max_length=2_000)
    why: str = Field(min_length=1, max_length=400, description="why somebody should earn by it")


class Expressions(_Answer):
    """Write expressions."""

    expressions: list[Written] = Field(min_length=1, max_length=200)


@dataclass(frozen=True, slots=True)
class Contribution:
    """What came of asking; nothing was written where ``error`` says why."""

    written: tuple[Written, ...]
    refused: tuple[str, ...]  #: expression and reason
    exchanges: tuple[Exchange, ...]
    error: str = ""


def to_write(idea: str, fields: Iterable[str], operators: Iterable[str], count: int) -> Request:
    quoted = [plain(line, LONGEST_IDEA) for line in idea.splitlines() if line.strip()] or ["(none)"]
    fence = fence_of(quoted)
    parts = {
        "fence": fence,
        "count": str(count),
        "fields": "\n".join(fields),
        "operators": "\n".join(operators),
        "idea": fenced(quoted, fence),
    }
    task = f"Write at most {count} expressions for the idea."
    return Request(system=fill("expressions", parts), prompt=task, tool="write", answer=Expressions)


def ask(replies: Replies, request: Request, fault: Callable[[str], str]) -> Contribution:
    """Ask, and once more where nothing can be used. ``fault`` says what is wrong with an expression, or nothing."""
    exchanges: list[Exchange] = []
    refused: list[str] = []
    for _ in range(2):
        exchange = replies.ask(request)
        if exchange.reply is None:
            return Contribution((), tuple(refused), (*exchanges, exchange), exchange.error)
        try:
            answer = parsed(Expressions, exchange.reply)
            faults = {one.expression: fault(one.expression) for one in answer.expressions}
            refused += [f"{plain(text, 200)}: {plain(why, 300)}" for text, why in faults.items() if why]
            if usable := tuple(one for one in answer.expressions if not faults[one.expression]):
                return Contribution(usable, tuple(refused), (*exchanges, replace(exchange, error="")))
            raise Unusable("; ".join(refused[-5:]))
        except Unusable as problem:
            exchanges.append(replace(exchange, error=plain(str(problem), LONGEST_ERROR)))
            request = again(request, str(problem))
    return Contribution((), tuple(refused), tuple(exchanges), exchanges[-1].error)
