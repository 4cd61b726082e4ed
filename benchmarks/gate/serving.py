"""How often shadow, canary and monitor are wrong, and how soon they are right: simulated answers, the real rules.

``python benchmarks/gate/serving.py [--trials 4000] [--out FILE]``: a few minutes on one core. Beside each rule stands
what it replaces: an interval of the same confidence that is looked at every so many answers.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from windlass.records.deployment import Role
from windlass.records.gate import Canary, Monitor, Shadow
from windlass.registry.monitor import BLOCKS, Watch
from windlass.registry.outcomes import Tally
from windlass.registry.trial import (
    Advice,
    Look,
    Move,
    Trial,
    answers_at,
    canary_advice,
    canary_needed,
    first_look,
    shadow_advice,
    shadow_needed,
    spent,
)
from windlass.registry.wilson import chance_no_worse, newcombe

LAST_ORDER = 8  #: looks beyond 256 times the needed count are not taken: undecided
KNOWN = 20_000  #: answers of the champion before a trial begins
EVERY = 50  #: answers between two looks of the plain rule


class Side(NamedTuple):
    """How a checkpoint serves."""

    accepted: float
    failed: float = 0.01


class Ending(NamedTuple):
    move: Move
    answers: int  #: of the challenger, in all
    step: int  #: of the canary, the last one
    first: Move  #: at the needed count of the first step


Rng = np.random.Generator
Row = dict[str, Any]


def answers(rng: Rng, n: int, side: Side) -> Tally:
    accepted, failed, rejected = rng.multinomial(n, [side.accepted, side.failed, 1 - side.accepted - side.failed])
    return Tally(accepted=int(accepted), threw=int(failed), rejected=int(rejected))


def known(side: Side, n: int = KNOWN) -> Tally:
    accepted, failed = round(n * side.accepted), round(n * side.failed)
    return Tally(accepted=accepted, threw=failed, rejected=n - accepted - failed)


def trial_of(
    rng: Rng, trial: Trial, ours: Side, theirs: Side | None, share: float, advise: Callable[[Trial], Advice]
) -> tuple[Move, int, Move]:
    """Answers come in until the rule says something, or ``LAST_ORDER`` is reached: what, after how many answers, and
    what was said by the needed count.
    """
    a, b = Tally(), Tally()
    for order in range(first_look(trial.needed), LAST_ORDER + 1):
        new = answers_at(order, trial.needed) - a.n
        a += answers(rng, new, ours)
        if theirs is not None:
            b += answers(rng, int(rng.negative_binomial(new, share)) if share < 1 else new, theirs)
        trial.looks = [Look(order=order, challenger=a, champion=b)]
        move = advise(trial).move
        if move is not Move.WAIT:
            return move, a.n, move if order <= 0 else Move.WAIT
    return Move.WAIT, a.n, Move.WAIT


def shadow(rng: Rng, policy: Shadow, ours: Side) -> Ending:
    trial = Trial(Role.SHADOW, "b", "a", shadow_needed(policy))
    move, count, first = trial_of(rng, trial, ours, None, 1.0, lambda t: shadow_advice(policy, t))
    return Ending(move, count, 0, first)


def steps_of(
    rng: Rng, policy: Canary, sides: Callable[[int], tuple[Side, Side]], advise: Callable[[int, Trial], Advice]
) -> Ending:
    """A canary to its end; ``sides`` says how challenger and champion serve in a step."""
    count, first = 0, Move.WAIT
    for step, share in enumerate(policy.shares):
        ours, theirs = sides(step)
        trial = Trial(Role.CANARY, "b", "a", canary_needed(policy, step, known(theirs)))
        move, new, early = trial_of(rng, trial, ours, theirs, share, partial(advise, step))
        count += new
        first = first if step else early
        if move is not Move.GROW:
            break
    return Ending(move, count, step, first)


def canary(rng: Rng, policy: Canary, ours: Side, theirs: Side) -> Ending:
    return steps_of(rng, policy, lambda _: (ours, theirs), partial(canary_advice, policy))


def bound_alone(rng: Rng, policy: Canary, ours: Side, theirs: Side) -> Ending:
    """The canary's looks and levels, Newcombe's bound without the exact test, and no other guard."""

    def advise(step: int, trial: Trial) -> Advice:
        look = trial.looks[0]
        a, b, level = look.challenger, look.champion, (1 - policy.confidence) * spent(look.order)
        worse = newcombe(a.accepted, a.n, b.accepted, b.n, level / 2 / len(policy.shares)).high < 0
        grows = look.order >= 0 and newcombe(a.accepted, a.n, b.accepted, b.n, level).low > -policy.worse
        through = Move.GROW if step + 1 < len(policy.shares) else Move.PROMOTE
        move = through if grows else Move.ROLL_BACK if worse else Move.WAIT
        return Advice(move=move, reason="", answers=a.n, needed=trial.needed)

    return steps_of(rng, policy, lambda _: (ours, theirs), advise)


def plain_canary(rng: Rng, policy: Canary, ours: Side, theirs: Side) -> Ending:
    """An interval of the policy's confidence, looked at every ``EVERY`` answers; the same counts a step."""
    count, level = 0, 1 - policy.confidence
    for step, share in enumerate(policy.shares):
        a, b = Tally(), Tally()
        while a.n < canary_needed(policy, step, known(theirs)):
            a += answers(rng, EVERY, ours)
            b += answers(rng, int(rng.negative_binomial(EVERY, share)), theirs)
            if newcombe(a.accepted, a.n, b.accepted, b.n, level).high < 0:
                return Ending(Move.ROLL_BACK, count + a.n, step, Move.WAIT)
        count += a.n
    return Ending(Move.PROMOTE, count, step, Move.WAIT)


def drifting(rng: Rng, policy: Canary, pooled: bool) -> Ending:
    """Both are alike, and both are accepted less from step to step: 95, 90, 85, 80 %."""
    earlier = now = Look(order=0, challenger=Tally(), champion=Tally())
    at = 0

    def advise(step: int, trial: Trial) -> Advice:
        nonlocal earlier, now, at
        if step != at:
            earlier, at = now, step
        if pooled:
            look = trial.looks[0]
            a, b = look.challenger + earlier.challenger, look.champion + earlier.champion
            now = Look(order=look.order, challenger=a, champion=b)
            trial.looks = [now]
        return canary_advice(policy, step, trial)

    return steps_of(rng, policy, lambda step: (Side(0.95 - 0.05 * step),) * 2, advise)


def watched(rng: Rng, policy: Monitor, before: Side, after: Side, windows: int, then: int) -> int | None:
    """Answers from the change to the alarm; negative for an alarm before it, None for none within ``then`` windows."""
    block = -(-policy.window // BLOCKS)
    watch = Watch(policy, "a", known(before))
    change = windows * BLOCKS
    for number in range(1, change + then * BLOCKS + 1):
        watch.add_block(answers(rng, block, before if number <= change else after))
        if watch.found:
            return (number - change) * block
    return None


def plain_watch(rng: Rng, policy: Monitor, side: Side, windows: int) -> bool:
    """Whether an interval of the policy's confidence, each window against all before, raises an alarm."""
    total, level = known(side), 1 - policy.confidence
    for _ in range(windows):
        new = answers(rng, policy.window, side)
        if newcombe(new.accepted, new.n, total.accepted, total.n, level).high < 0:
            return True
        total += new
    return False


# Rows ----------------------------------------------------------------------------------------------------------------


def row(what: str, case: str, trials: int, **figures: Any) -> Row:
    return {"what": what, "case": case, "trials": trials, **figures}


def ended(what: str, case: str, endings: list[Ending]) -> Row:
    """Shares of the endings; the median of the challenger's answers until then."""
    n = len(endings)
    moves = {
        str(move): sum(e.move is move for e in endings) / n for move in Move if any(e.move is move for e in endings)
    }
    count = int(np.median([e.answers for e in endings]))
    early = {
        f"{move}_by_needed_count": sum(e.first is move for e in endings) / n
        for move in Move
        if move is not Move.WAIT and any(e.first is move for e in endings)
    }
    return row(what, case, n, **moves, **early, median_answers=count)


def shadows(rng: Rng, trials: int) -> Iterable[Row]:
    policy = Shadow()
    yield row("shadow", "answers needed, default policy", 0, count=shadow_needed(policy))
    cases = {
        "better than both limits by detect: 95 % accepted, 0 % failed": Side(0.95, 0.0),
        "97 % accepted, 1 % failed": Side(0.97, 0.01),
        "at the accepted limit: 90 %": Side(0.9, 0.01),
        "at the failed limit: 5 %": Side(0.95, 0.05),
        "worse than the accepted limit by detect: 85 %": Side(0.85, 0.01),
        "half of the answers fail": Side(0.48, 0.5),
    }
    for case, side in cases.items():
        yield ended("shadow", case, [shadow(rng, policy, side) for _ in range(trials)])


def canaries(rng: Rng, trials: int) -> Iterable[Row]:
    policy = Canary()
    for usual in (0.6, 0.9, 0.98):
        counts = [canary_needed(policy, step, known(Side(usual))) for step in range(len(policy.shares))]
        yield row("canary", f"answers needed, step by step, champion at {usual:.0%}", 0, counts=counts)
    cases: dict[str, tuple[Callable[[Rng, Canary, Side, Side], Ending], Side, Side]] = {
        **{f"no difference, {p:.0%} accepted": (canary, Side(p), Side(p)) for p in (0.6, 0.9, 0.98)},
        "no difference, 5 % failed (the limit)": (canary, Side(0.9, 0.05), Side(0.9, 0.05)),
        "worse by 5 points": (canary, Side(0.85), Side(0.9)),
        "worse by 2.5 points": (canary, Side(0.875), Side(0.9)),
        "worse by 10 points": (canary, Side(0.8), Side(0.9)),
        "8 % failed, as many accepted": (canary, Side(0.9, 0.08), Side(0.9)),
        "every answer fails": (canary, Side(0.0, 1.0), Side(0.9)),
        "better by 2 points": (canary, Side(0.92), Side(0.9)),
        "plain rule: no difference, 90 %": (plain_canary, Side(0.9), Side(0.9)),
        "plain rule: no difference, 98 %": (plain_canary, Side(0.98), Side(0.98)),
        "bound without the exact test: no difference, 98 %": (bound_alone, Side(0.98), Side(0.98)),
    }
    for case, (rule, ours, theirs) in cases.items():
        yield ended("canary", case, [rule(rng, policy, ours, theirs) for _ in range(trials)])
    drifts = {"each step by itself": False, "pooled over the steps": True}
    for case, pooled in drifts.items():
        endings = [drifting(rng, policy, pooled) for _ in range(trials)]
        yield ended("canary", f"no difference, all traffic falls from 95 to 80 %: {case}", endings)
    yield row("canary", "bound of no_worse: highest share of wrong ones, over what it says", 0, ratio=widest())


def widest() -> float:
    """The highest error of ``no_worse``, exact, over its level: champions at 30 to 99.5 %, all shares, three looks."""
    policy, worst = Canary(), 0.0
    alpha = 1 - policy.confidence
    for usual in (0.3, 0.6, 0.8, 0.9, 0.95, 0.98, 0.995):
        for step, share in enumerate(policy.shares):
            needed = canary_needed(policy, step, known(Side(usual, 0.0)))
            for order in range(3):
                n, level = answers_at(order, needed), alpha * spent(order)
                error = chance_no_worse(
                    n, round(n * (1 - share) / share), usual - policy.worse, usual, policy.worse, level
                )
                worst = max(worst, error / level)
    return worst


def monitors(rng: Rng, trials: int) -> Iterable[Row]:
    policy = Monitor()
    few = max(1, trials // 4)
    for p in (0.6, 0.9, 0.98):
        alarms = [watched(rng, policy, Side(p), Side(p), 0, 100) is not None for _ in range(few)]
        yield row("monitor", f"no change in 100 windows, {p:.0%} accepted", few, alarms=float(np.mean(alarms)))
    plain = [plain_watch(rng, policy, Side(0.9), 100) for _ in range(few)]
    yield row("monitor", "plain rule: no change in 100 windows, 90 %", few, alarms=float(np.mean(plain)))
    falls = {
        "a fall by 5 points": Side(0.85),
        "a fall by 10 points": Side(0.8),
        "every answer fails": Side(0.0, 1.0),
    }
    for case, after in falls.items():
        for windows in (2, 20, 200):
            runs = few if windows < 200 else max(1, few // 4)
            delays = [watched(rng, policy, Side(0.9), after, windows, 20) for _ in range(runs)]
            seen = [d for d in delays if d is not None and d > 0]
            yield row(
                "monitor",
                f"{case} after {windows} windows",
                runs,
                found_in_20_windows=len(seen) / runs,
                alarm_before=sum(d is not None and d <= 0 for d in delays) / runs,
                median_answers=int(np.median(seen)),
                within_90=int(np.quantile(seen, 0.9)),
            )


def table(rows: Iterable[Row]) -> str:
    lines = ["| rule | case | trials | result |", "|---|---|---|---|"]
    for one in rows:
        figures = [
            f"{words(name)} {shown(value)}" for name, value in one.items() if name not in ("what", "case", "trials")
        ]
        lines.append(f"| {one['what']} | {one['case']} | {one['trials'] or 'exact'} | {', '.join(figures)} |")
    return "\n".join(lines)


def words(name: str) -> str:
    return name.replace("_", " ")


def shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}"
    return ", ".join(f"{v:,}" for v in value) if isinstance(value, list) else f"{value:,}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=4_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_suffix(".json"))
    args = parser.parse_args()
    began = time.monotonic()
    rows: list[Row] = []
    for tag, part in enumerate((shadows, canaries, monitors)):
        rows += part(np.random.default_rng([args.seed, tag]), args.trials)
    made = {"date": f"{datetime.now(UTC):%Y-%m-%d}", "seed": args.seed, "seconds": round(time.monotonic() - began)}
    args.out.write_text(json.dumps({**made, "rows": rows}, indent=1) + "\n")
    print(table(rows))
    print(f"\n{made['date']}, {made['seconds']} s")


if __name__ == "__main__":
    main()
