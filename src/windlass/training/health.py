"""The checks that a training has to pass before its checkpoint counts. Values in, a verdict with words out.

Each of them stands for a way in which a training ends normally and has failed: all weights NaN, no weight changed, no
step done, every reward the same, rewards of a verifier that could not judge, a sampler and a trainer that disagree, a
held-out score that fell.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windlass.errors import Unhealthy
from windlass.records.result import encode_number
from windlass.runs.folder import write_atomic

if TYPE_CHECKING:
    from torch import Tensor

Point = tuple[float, float]  #: step, value
ERROR = 0.01  #: how often ``independent`` may refuse a run whose held-out score has not fallen
SHOWN = 1.645  #: standard errors by which a reward has to be lower to have fallen


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """``value`` was measured, ``limit`` is what it was held against; None where it is no number."""

    name: str
    passed: bool
    value: float | None
    limit: float | None
    words: str


def finite_weights(tensors: Mapping[str, Tensor]) -> Check:
    """No weight is NaN or infinite. One prompt that leaves no room for a completion can turn them all into NaN."""
    from windlass.training.tensors import finite

    broken = finite(tensors)
    words = f"all {len(tensors)} tensors are finite"
    if broken:
        more = f" and {len(broken) - 3} more" if len(broken) > 3 else ""
        words = f"{len(broken)} of {len(tensors)} tensors hold NaN or infinity: {', '.join(broken[:3])}{more}"
    if not tensors:
        words = "there are no weights"
    return Check(
        name="finite_weights", passed=bool(tensors) and not broken, value=float(len(broken)), limit=0.0, words=words
    )


def weights_changed(before: str, after: str) -> Check:
    """The digests (:func:`windlass.training.tensors.digest`) of what is trained differ.

    Weight decay alone changes weights, too: that a reward had an effect is ``reward_varied``'s to say.
    """
    changed = before != after
    words = "the weights have changed" if changed else f"no weight has changed: still {after[:12]}"
    return Check(name="weights_changed", passed=changed, value=float(changed), limit=1.0, words=words)


def steps_done(done: int, wanted: int) -> Check:
    """Every step was done: a training that stops early, or a resume that does nothing, also returns normally."""
    return Check(
        name="steps_done",
        passed=done >= wanted > 0,
        value=float(done),
        limit=float(wanted),
        words=f"{done} of {wanted} steps",
    )


def reward_varied(share_of_groups_without_variance: float, most: float = 0.95) -> Check:
    """Groups whose completions all have one reward give no gradient (their advantages are 0).

    The limit is a rule, not a measurement: a reward that is broken gives 100 %, and a training of which a twentieth has
    an effect is not worth its name.
    """
    share = share_of_groups_without_variance
    return Check(
        name="reward_varied",
        passed=share <= most,  # not so for NaN
        value=share,
        limit=most,
        words=f"in {share:.1%} of the groups every completion had the same reward; at most {most:.0%} may",
    )


def verdicts_valid(invalid: int, total: int, most: float = 0.02) -> Check:
    """A verdict without a score is a failure of the verifier, never a score of 0.

    The limit is a rule, not a measurement: where 2 % of the scores are missing, the mean of 256 is off by no more than
    its standard error (0.03).
    """
    share = invalid / total if total else math.nan
    words = f"{invalid} of {total} verdicts had no score; at most {most:.1%} may"
    return Check(
        name="verdicts_valid",
        passed=share <= most,
        value=share,
        limit=most,
        words=words if total else "nothing was verified",
    )


def logprobs_agree(largest_difference: float, most: float = 0.01) -> Check:
    """Sampler and trainer give a token the same log-probability, or the updates are not on-policy.

    ``largest_difference`` is the largest absolute one of all tokens, before the update, in nats; wrong padding,
    positions or dropout show in it. The limit is a thousand times what 32-bit floats were measured to give (1e-5).
    Under bfloat16 a logit alone differed by 0.056: there, ask for another limit.
    """
    return Check(
        name="logprobs_agree",
        passed=largest_difference <= most,
        value=largest_difference,
        limit=most,
        words=f"log-probabilities of sampler and trainer differ by at most {largest_difference:.2g};"
        f" {most:g} is the limit",
    )


def loss_finite(values: Iterable[float]) -> Check:
    """Every loss that was logged is finite, and there is one."""
    losses = [float(value) for value in values]
    broken = [index for index, value in enumerate(losses) if not math.isfinite(value)]
    words = f"all {len(losses)} losses are finite"
    if broken:
        words = f"{len(broken)} of {len(losses)} losses are NaN or infinite, the first at position {broken[0]}"
    if not losses:
        words = "no loss was logged"
    return Check(
        name="loss_finite", passed=bool(losses) and not broken, value=float(len(broken)), limit=0.0, words=words
    )


def held_out(before: Sequence[float], after: Sequence[float], confidence: float = 0.95) -> Check:
    """The score on held-out examples, one by one, has not fallen: fails where the interval lies below 0.

    ``before[i]`` and ``after[i]`` score example i. Raises ValueError for sequences of different lengths.

    Measured (benchmarks/training/health_checks.py, 20,000 simulated runs a cell of 64, 128 and 256 scores of 0 and 1):
    a training that changes as many for the better as for the worse is refused in 0.04 to 2.4 % of runs (2.5 % is what
    the interval promises), one that loses 0.15 and wins 0.05 of the examples in 39 to 95 %.
    """
    if len(before) != len(after):
        raise ValueError(f"{len(before)} scores before, {len(after)} after: of the same examples, they are as many")
    name, words = "held_out", "there are no held-out examples"
    differences = [float(y) - float(x) for x, y in zip(before, after, strict=True)]
    if not all(map(math.isfinite, differences)):
        words, differences = "held-out scores are NaN or infinite", []
    if not differences:
        return Check(name=name, passed=False, value=None, limit=0.0, words=words)
    mean, low, high = paired_interval(differences, confidence)
    words = (
        f"held-out score {statistics.fmean(before):.3f} -> {statistics.fmean(after):.3f} of {len(before)} examples:"
        f" {mean:+.3f}, {confidence:.0%} interval {low:+.3f} to {high:+.3f}"
    )
    return Check(name=name, passed=high >= 0, value=mean, limit=0.0, words=words)


def paired_interval(differences: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean of n differences, and an interval for the true one.

    Student's interval of n + 2 differences: one more for and one more against, each as large as the largest. For
    scores of 0 and 1 that is the adjusted Wald interval of Bonett and Price (Journal of Educational and Behavioral
    Statistics 37 (2012), 479-488), with Student's quantile; without the two, a handful of examples that changed would
    be taken for proof. Raises ValueError without differences.
    """
    from scipy.special import stdtrit

    if not differences:
        raise ValueError("there are no differences")
    largest = max(map(abs, differences))
    counted = [*differences, largest, -largest]
    n, centre = len(counted), math.fsum(counted) / len(counted)
    variance = math.fsum((d - centre) ** 2 for d in counted) / n
    reach = float(stdtrit(n - 1, (1 + confidence) / 2)) * math.sqrt(variance / n)
    return statistics.fmean(differences), centre - reach, centre + reach


def wilson(mean: float, n: float, z: float) -> tuple[float, float]:
    """Interval for the mean of n scores in 0..1 (Wilson, JASA 22 (1927), 209-212); ``z`` standard errors wide.

    Exact scores of 0 and 1 vary most; graded ones less, so that the interval is too wide for them.
    """
    centre = (mean + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(mean * (1 - mean) / n + z * z / (4 * n * n))
    return max(0.0, centre - reach), min(1.0, centre + reach)


def score_interval(scores: Sequence[float], confidence: float = 0.95) -> tuple[float, float, float]:
    """Mean of scores in 0..1, and Wilson's interval. Raises ValueError without scores and for others."""
    if not scores or not all(0 <= score <= 1 for score in scores):
        raise ValueError("scores are numbers in 0..1, and at least one")
    mean = statistics.fmean(scores)
    return mean, *wilson(mean, len(scores), statistics.NormalDist().inv_cdf((1 + confidence) / 2))


def independent(rewards: Sequence[Point], checks: Sequence[Point], examples: int) -> Check:
    """The training reward has not gone on, rising or saturated, while a score that is not trained on fell.

    ``checks`` are (step, mean score in 0..1) of the same ``examples`` held-out examples, at several steps;
    ``rewards`` are (step, training reward), of any scale. With fewer than two checks there is nothing to compare, and
    the check passes.

    The score has fallen where the last one is shown to be below one of the k before it: Newcombe's interval for the
    difference of two shares (Statistics in Medicine 17 (1998), 873-890, method 10) lies below 0, one-sided at
    ``ERROR`` / k (Bonferroni: the best of k scores is high by chance as well). The reward has gone on unless the mean
    of its last quarter is ``SHOWN`` standard errors below that of as many points up to the best check; where both
    fall, it is a collapse, which the score itself shows.

    Measured (benchmarks/training/health_checks.py, 20,000 simulated runs a cell with a rising reward; 64, 128 and 256
    examples, 5, 10 and 20 checks): of runs with a flat score at most 1.04 % are refused, whatever the score; 1.2 to
    4.0 % where the true score of every check varies by 0.02 besides; of runs that rise from 0.4 to 0.8 at most 0.03 %.
    A score that rises to 0.6 and ends at 0.3 is refused in 84 % (64 examples) to 100 % (256) of runs, one that ends at
    0.4 in 36 to 99 %.
    """
    name, points = "independent", sorted((float(step), float(score)) for step, score in checks)
    if not all(0 <= score <= 1 for _, score in points):
        return Check(name=name, passed=False, value=None, limit=None, words="a held-out check is NaN, or not in 0..1")
    if len(points) < 2 or examples < 1:
        words = f"{len(points)} held-out checks of {examples} examples: nothing to compare"
        return Check(name=name, passed=True, value=None, limit=None, words=words)
    *earlier, (_, last) = points
    z = statistics.NormalDist().inv_cdf(1 - ERROR / len(earlier))
    change, limit, step, score = min(
        ((last - score, -_reach(last, score, examples, z), step, score) for step, score in earlier),
        key=lambda fall: fall[0] - fall[1],
    )
    then, now, went_on = _course(rewards, step)
    words = (
        f"held-out check {score:.3f} at step {step:g}, {last:.3f} at the end: {change:+.3f}, of {examples} examples"
        f" {limit:+.3f} is shown to be a fall; training reward {then:.3g} then, {now:.3g} at the end"
    )
    return Check(name=name, passed=change >= limit or not went_on, value=change, limit=limit, words=words)


def _reach(low: float, high: float, n: int, z: float) -> float:
    """How far below ``high`` a score ``low`` of as many examples has to be (Newcombe's method 10, the upper bound)."""
    return math.hypot(wilson(low, n, z)[1] - low, high - wilson(high, n, z)[0])


def _course(rewards: Sequence[Point], step: float) -> tuple[float, float, bool]:
    """Mean reward up to ``step`` and at the end, and whether it has not fallen between them."""
    ordered = sorted(rewards)
    count = max(1, len(ordered) // 4)
    before = [reward for at, reward in ordered if at <= step][-count:] or [reward for _, reward in ordered[:count]]
    after = [reward for _, reward in ordered[-count:]]
    if not ordered or not all(math.isfinite(reward) for _, reward in ordered):
        return math.nan, math.nan, True
    then, now = statistics.fmean(before), statistics.fmean(after)
    error = math.sqrt(sum(statistics.variance(part) / len(part) for part in (before, after) if len(part) > 1))
    return then, now, not now < then - SHOWN * error


def require(checks: Iterable[Check]) -> None:
    """Raises Unhealthy with the words of every check that failed."""
    failed = [check for check in checks if not check.passed]
    if failed:
        lines = "; ".join(f"{check.name}: {check.words}" for check in failed)
        raise Unhealthy(f"{len(failed)} health check{'s' * (len(failed) > 1)} failed: {lines}")


def write(checks: Iterable[Check], path: Path) -> None:
    """Write all checks as JSON (``artifacts/health.json``)."""
    rows = [_row(check) for check in checks]
    report = {"healthy": all(row["passed"] for row in rows), "checks": rows}
    write_atomic(path, json.dumps(report, ensure_ascii=False, indent=1).encode(), durable=True)


def _row(check: Check) -> dict[str, Any]:
    row = asdict(check)
    for key in ("value", "limit"):
        row[key] = None if row[key] is None else encode_number(row[key])
    return row
