"""A verdict in words and numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from windlass.records.gate import Benchmark, GatePolicy
from windlass.records.verdict import Comparison, Finding, Ruling
from windlass.registry.comparing import REST, fewest_of_slice
from windlass.registry.evidence import Sheet


def headline(
    policy: GatePolicy,
    challenger: str,
    champion: str | None,
    ruling: Ruling,
    found: Sequence[Comparison],
    deciding: Comparison | None,
) -> str:
    """The verdict in a sentence or two. ``deciding`` is the comparison that would settle an inconclusive one."""
    if ruling is Ruling.PROMOTE:
        if champion is None:
            return f"{challenger} may serve as {policy.deployment!r}, where nothing serves yet."
        better = [_what(one) for one in found if one.role == "better"]
        held = sum(one.role != "better" and one.finding is Finding.PASSED for one in found)
        kept = f"; {held} further {'comparison holds' if held == 1 else 'comparisons hold'}" if held else ""
        return f"{challenger} may take the place of {champion}: better in {_listed(better)}{kept}."
    if ruling is Ruling.KEEP:
        broken = _listed([_what(one) for one in found if one.finding is Finding.BROKEN])
        stays = f"{champion} stays" if champion else "There is still nothing to serve"
        return f"{stays}: {challenger} fails in {broken}."
    still = _listed([_what(one) for one in found if one.finding is Finding.OPEN])
    return f"It is open whether {challenger} passes in {still}. {_settling(policy, deciding)}"


def findings(policy: GatePolicy, found: Sequence[Comparison], look: int) -> Iterator[str]:
    """What each comparison shows; slices of one column that passed, or were not tested, share a sentence."""
    by_name = {benchmark.name: benchmark for benchmark in policy.benchmarks}
    quiet: dict[tuple[str, str], list[Comparison]] = {}
    for one in found:
        if one.role == "slice" and one.finding in (Finding.PASSED, Finding.UNTESTED):
            quiet.setdefault((one.benchmark, one.group.partition("=")[0]), []).append(one)
        else:
            yield f"{_values(policy, one, look)} {_said(policy, by_name[one.benchmark], one)}"
    for (name, column), slices in quiet.items():
        yield from _quiet(policy, by_name[name], column, slices)


def too_few(evidence: Mapping[str, Sheet], missing: Mapping[str, int]) -> Iterator[str]:
    """``missing``: by benchmark, how many examples there are too few."""
    for name, count in missing.items():
        n = len(evidence[name].scores)
        yield f"{name!r} has {n:,} examples of the {n + count:,} that the policy asks for: {count:,} more are needed."


def worn_out(policy: GatePolicy, spent: float, look: int) -> str:
    return (
        f"The benchmarks are worn out: {look - 1} challengers were judged on them and spent {spent:.3g} of alpha"
        f" {policy.alpha:.3g}, which is for {policy.challengers}. Bring new examples, as a benchmark of another name."
    )


def _values(policy: GatePolicy, one: Comparison, look: int) -> str:
    where = f", where {' is '.join(one.group.split('=', 1))}" if one.group else ""
    other = f"a limit of {one.champion:.4g}" if one.role == "least" else f"the champion's {one.champion:.4g}"
    moved = f"{'better' if one.delta > 0 else 'worse'} by {abs(one.delta):.3g}" if one.delta else "no difference"
    counted = f", look {look} of {policy.challengers}" if one.role == "better" else ""
    what = f"{'Guard' if one.role == 'guard' else 'On'} {one.benchmark!r}{where}: {one.metric} is {one.challenger:.4g}"
    interval = f"{100 * (1 - 2 * one.level):.4g} % interval {one.low:+.3g} to {one.high:+.3g}"
    test = f"{one.test}, p = {one.p_value:.2g} at level {one.level:.2g}{counted}"
    return f"{what} against {other} over {one.n:,} examples, {moved} ({interval}; {test})."


def _said(policy: GatePolicy, benchmark: Benchmark, one: Comparison) -> str:
    """What that is worth: the finding, power, and what would settle it."""
    said: list[str] = []
    if one.role == "better":
        matters = benchmark.min_delta if benchmark.detect is None else benchmark.detect
        said.append(
            f"An improvement of {'any size' if matters == 0 else f'{matters:.3g}'} is ruled out."
            if one.finding is Finding.BROKEN
            else f"More than {one.threshold:.3g} is {'shown' if one.finding is Finding.PASSED else 'not shown'}."
        )
        if one.power is not None:
            said.append(f"These examples find an improvement of {matters:.3g} with probability {one.power:.2f}.")
        elif one.detectable is not None:
            said.append(f"These examples find one of {one.detectable:.3g} with probability {policy.power:.2g}.")
    else:
        limit = "the limit" if one.role == "least" else f"the champion's by more than {-one.threshold:.3g}"
        said.append(
            {
                Finding.PASSED: f"It is no worse than {limit}.",
                Finding.BROKEN: f"It is worse than {limit}.",
                Finding.OPEN: f"Whether it is worse than {limit} is open.",
            }[one.finding]
        )
    if one.finding is Finding.OPEN:
        said.append(_settling(policy, one))
    return " ".join(said)


def _settling(policy: GatePolicy, one: Comparison | None) -> str:
    if one is None or one.more is None:
        return "No number of examples would settle it, should the estimates hold."
    of_slice = f" with {one.group}" if one.group else ""
    settle = "let it pass" if one.toward is Finding.PASSED else "make it fail"
    noun = "example" if one.more == 1 else "examples"
    return (
        f"{one.more:,} more {noun} of {one.benchmark!r}{of_slice} would {settle} with probability {policy.power:.2g},"
        " should the estimates hold."
    )


def _quiet(policy: GatePolicy, benchmark: Benchmark, column: str, slices: Sequence[Comparison]) -> Iterator[str]:
    passed = [one for one in slices if one.finding is Finding.PASSED]
    fewest = fewest_of_slice(benchmark, policy.alpha, slices[0].test.startswith("exact"))
    if passed:
        last = min(passed, key=lambda one: one.low)
        yield (
            f"On {benchmark.name!r}, {benchmark.metric} is no worse than the champion's by more than"
            f" {benchmark.slice_margin:.3g} in {len(passed)} {'slice' if len(passed) == 1 else 'slices'} of {column!r};"
            f" the least sure is {last.group} ({last.delta:+.3g} over {last.n:,} examples, at worst {last.low:+.3g})."
        )
    if any(one.group == f"{column}={REST}" for one in slices):
        yield f"Values of {column!r} with fewer than {fewest} examples are tested together, as {REST}."
    for one in slices:
        if one.finding is Finding.UNTESTED:
            few = f"On {benchmark.name!r}, {one.group} has {one.n:,} examples, too few to rule out a fall of"
            yield f"{few} {benchmark.slice_margin:.3g}, which takes {fewest}. It counts only if shown to be worse."


def _what(one: Comparison) -> str:
    words = f"{one.metric} on {one.benchmark!r}"
    role = {"guard": " (guard)", "least": " (limit)", "no_worse": " (no worse)"}.get(one.role, "")
    return f"{words}{f' where {one.group}' if one.group else role}"


def _listed(words: Sequence[str]) -> str:
    shown = list(words[:3])
    if len(words) > 3:
        shown.append(f"{len(words) - 3} more")
    return " and ".join([", ".join(shown[:-1]), shown[-1]] if len(shown) > 1 else shown)
