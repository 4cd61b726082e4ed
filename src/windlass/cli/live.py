"""A study being driven, as a person sees it."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Self

from rich.live import Live as RichLive
from rich.markup import escape
from rich.text import Text

from windlass.cli.keeping import (
    RULING_STYLE,
    brief,
    evaluation_dict,
    evaluation_words,
    size,
    step_line,
    verdict_dict,
)
from windlass.cli.show import STATUS_STYLE, out, say, stderr
from windlass.lab import (
    Advanced,
    Answered,
    Changed,
    Continued,
    Evaluated,
    Evaluating,
    EvaluationFailed,
    Event,
    Judged,
    Lab,
    NotRegistered,
    Pause,
    Pausing,
    Planned,
    Registered,
    Resumed,
    Settled,
    Started,
    Step,
    Stopped,
    StoppedEarly,
    Waiting,
)
from windlass.records.decision import Decision, Incident, Outcome, StudyRecord, StudyStatus
from windlass.records.run import RunRecord, Status
from windlass.records.study import Study


def duration(seconds: float | None) -> str:
    """``0.3s``, ``12s``, ``3m05s``, ``2h10m``."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.1f}s"
    if seconds < 60:
        return f"{seconds:.0f}s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m{rest:02d}s" if minutes < 60 else f"{minutes // 60}h{minutes % 60:02d}m"


def short_config(config: dict[str, Any], space: list[str]) -> str:
    """The parameters of the space, in one line."""
    return "  ".join(f"{name}={_short(config[name])}" for name in space if name in config)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _decided(decision: Decision) -> str:
    """A line about a proposal that does not run; empty for one that does."""
    if decision.outcome is Outcome.REJECTED:
        return f"[yellow]  #{decision.number} rejected[/]  {escape(brief(decision.verdict))}"
    if decision.waiting:
        reference = f"{decision.study}#{decision.number}"
        return f"[yellow]  #{decision.number} waits[/]     {escape(brief(decision.verdict))}; windlass why {reference}"
    return ""


def _study_of(event: Event) -> str | None:
    match event:
        case Planned([decision, *_]) | Waiting([decision, *_]) | Answered(decision):
            return decision.study
        case Started(run) | Settled(run) | Continued(run):
            return run.study
    return None


def keeping_line(event: Event) -> str:
    """A line of markup about what is kept; empty for an event of another kind."""
    match event:
        case Registered(checkpoint):
            return f"[cyan]  checkpoint[/] {checkpoint.id}, {size(checkpoint.bytes)}, of run {escape(checkpoint.run)}"
        case NotRegistered(run, why):
            return f"[yellow]  no checkpoint[/] of run {escape(run)}: {escape(brief(why, 300))}"
        case Evaluating(run, benchmark, checkpoint):
            return f"[dim]  evaluating {checkpoint} on {escape(benchmark)}: run {escape(run)}[/]"
        case Evaluated(evaluation):
            return f"[cyan]  evaluated[/] {escape(evaluation_words(evaluation))}"
        case EvaluationFailed(run, benchmark, checkpoint, why):
            where = f" on {benchmark}" if benchmark else ""
            hint = f"; windlass runs show {run}" if run else ""
            return f"[red]  not evaluated[/] {checkpoint}{escape(where)}: {escape(brief(why, 300) + hint)}"
        case Judged(verdict):
            reason = f": {escape(brief(verdict.reasons[0]))}" if verdict.reasons else ""
            style = RULING_STYLE[verdict.ruling]
            return f"[{style}]  {verdict.ruling}[/] {verdict.challenger} for {escape(verdict.deployment)}{reason}"
        case Advanced(deployment, checkpoint, stage):
            return f"[bold green]  {checkpoint} is {stage} of {escape(deployment)}[/]"
        case Step(_, step, state, note):
            return step_line(step, state, note)
    return ""


def keeping_dict(event: Event) -> dict[str, Any] | None:
    """The same as JSON values; None for an event of another kind."""
    match event:
        case Registered(checkpoint):
            return {"event": "registered", "checkpoint": checkpoint.id, "run": checkpoint.run}
        case NotRegistered(run, why):
            return {"event": "not_registered", "run": run, "why": why}
        case Evaluating(run, benchmark, checkpoint):
            return {"event": "evaluating", "run": run, "benchmark": benchmark, "checkpoint": checkpoint}
        case Evaluated(evaluation):
            return {"event": "evaluated", **evaluation_dict(evaluation)}
        case EvaluationFailed(run, benchmark, checkpoint, why):
            where = {"run": run, "benchmark": benchmark, "checkpoint": checkpoint}
            return {"event": "evaluation_failed", **where, "why": why}
        case Judged(verdict):
            return {"event": "judged", **verdict_dict(verdict)}
        case Advanced(deployment, checkpoint, stage):
            return {"event": "advanced", "deployment": deployment, "checkpoint": checkpoint, "stage": stage}
        case Step(deployment, step, state, note):
            return {"event": "step", "deployment": deployment, "step": step, "state": state, "note": note}
    return None


@contextmanager
def pausing(pause: Pause) -> Iterator[None]:
    """Ctrl-C and SIGTERM ask for a pause, and no more, in the meantime."""
    previous = {number: signal.signal(number, lambda *_: pause.ask()) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


class Live:
    """Shows a study being driven: a line an ended run, and on a terminal a status line below them."""

    def __init__(self, lab: Lab, *, as_json: bool, detail: Callable[[RunRecord], str] | None = None) -> None:
        """``detail`` says how far a run is that goes on, in a few words."""
        self._lab = lab
        self._detail = detail
        self._json = as_json
        self._study: Study | None = None
        self._runs: dict[str, RunRecord] = {}
        self._best: RunRecord | None = None
        self._since = time.monotonic()
        self._pausing = False
        self._waiting = 0  #: proposals that wait for a person
        self._incidents: set[Incident] = set()  #: told already
        self._live = RichLive(console=stderr, refresh_per_second=4, transient=True, get_renderable=self._status)

    def __enter__(self) -> Self:
        if stderr.is_terminal and not self._json:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live.is_started:
            self._live.stop()

    def event(self, event: Event) -> None:
        self._remember(event)
        if self._json:
            self._event_as_json(event)
        elif line := self._line(event):
            say(line, markup=True)

    def _remember(self, event: Event) -> None:
        name = _study_of(event)
        if name is not None and self._study is None:
            self._study = Study.model_validate(self._lab.study(name).definition)
            self._runs = {run.id: run for run in self._lab.store.history(name)}
            self._best = self._lab.best(name)
        if isinstance(event, (Started, Settled, Continued)):
            self._runs[event.run.id] = event.run
        if isinstance(event, Settled) and event.best:
            self._best = event.run
        if isinstance(event, Pausing):
            self._pausing = True
        if isinstance(event, Planned):
            self._waiting += sum(decision.waiting for decision in event.decisions)
        if isinstance(event, Waiting):
            self._waiting = len(event.decisions)
        if isinstance(event, Answered):
            self._waiting = max(0, self._waiting - 1)

    def _line(self, event: Event) -> str:
        match event:
            case Resumed(settled, running):
                return f"[cyan]resumed[/]: {settled} runs had ended meanwhile, {running} go on"
            case Changed(what):
                return (
                    f"[yellow]changed[/]: the trainer's {' and '.join(what)} differ from this study's earlier runs;"
                    " results before and after may not be comparable"
                )
            case Planned(decisions):
                return "\n".join([*self._troubles(decisions), *(line for d in decisions if (line := _decided(d)))])
            case Waiting(decisions):
                return f"[yellow]waiting[/]: {len(decisions)} proposals need a person: windlass approvals"
            case Answered(decision, approval):
                did = "[green]approved[/]" if approval.approved else "[yellow]rejected[/]"
                return f"  #{decision.number} {did} by {escape(approval.by)}: {escape(brief(approval.reason))}"
            case StoppedEarly(run, why):
                return f"[magenta]  #{run.number} is stopped early[/]: {escape(brief(why.reason))}"
            case Settled(run, best):
                return self._settled(run, best)
            case Continued(run, after):
                cause = f"{after.kind}: {escape(brief(after.message))}"
                return f"[yellow]  #{run.number} goes on[/] with attempt {run.attempt}, after {cause}"
            case Pausing(running):
                return f"[yellow]pausing[/]: waiting for {running} runs; Ctrl-C again leaves at once, and they go on"
        return keeping_line(event)

    def _troubles(self, decisions: list[Decision]) -> list[str]:
        """What kept agents from doing their part, each once."""
        new = [i for i in dict.fromkeys(i for d in decisions for i in d.incidents) if i not in self._incidents]
        self._incidents.update(new)
        return [f"[red]  {escape(one.agent)}[/] could not do its part: {escape(brief(one.message))}" for one in new]

    def _settled(self, run: RunRecord, best: bool) -> str:
        style = STATUS_STYLE[run.status]
        space = list(self._study.space) if self._study else []
        what = f"[{style}]{run.status:<9}[/] {duration(run.duration_s):>6}  "
        if run.failure is not None:
            what += f"[red]{run.failure.kind}[/]: {escape(brief(run.failure.message))}  "
        elif run.stopped_early is not None:
            stop = run.stopped_early
            what += f"at step {stop.step:g}: {escape(stop.metric)} {stop.value:.5g}  "
        elif self._study:
            what += " ".join(f"{o.metric} {run.values.get(o.metric, float('nan')):.5g}" for o in self._study.objectives)
            what += "  "
        mark, config = "[bold green]*[/]" if best else " ", escape(short_config(run.params, space))
        return f"{mark} #{run.number:<4}{what}[dim]{config}[/]"

    def _status(self) -> Text:
        if self._study is None:
            return Text("starting ...", style="dim")
        counts = {status: sum(run.status is status for run in self._runs.values()) for status in Status}
        budget = f"/{self._study.budget.runs}" if self._study.budget.runs else ""
        ended = sum(counts[s] for s in Status if s.terminal)
        parts = [f"{self._study.name}: {ended}{budget} runs", f"{counts[Status.RUNNING]} running"]
        if self._detail is not None:
            parts += filter(None, (self._detail(run) for run in self._runs.values() if run.status is Status.RUNNING))
        if counts[Status.FAILED]:
            parts.append(f"{counts[Status.FAILED]} failed")
        if counts[Status.STOPPED]:
            parts.append(f"{counts[Status.STOPPED]} stopped early")
        if self._waiting:
            parts.append(f"{self._waiting} wait for a person")
        if self._best is not None:
            objective = self._study.objectives[0]
            parts.append(f"best {objective.metric} {self._best.values[objective.metric]:.5g} (#{self._best.number})")
        parts.append(duration(time.monotonic() - self._since))
        parts.append("pausing ..." if self._pausing else "Ctrl-C pauses")
        return Text("  ·  ".join(parts), style="bold")

    def _event_as_json(self, event: Event) -> None:
        match event:
            case Started(run) | Settled(run):
                failure = run.failure.kind if run.failure else None
                data = {"event": type(event).__name__.lower(), "run": run.id, "number": run.number}
                print(json.dumps({**data, "status": run.status, "failure": failure, "metrics": run.values}), flush=True)
            case Continued(run, after):
                data = {"event": "continued", "run": run.id, "number": run.number, "attempt": run.attempt}
                print(json.dumps({**data, "after": after.kind, "message": after.message}), flush=True)
            case StoppedEarly(run, why):
                data = {"event": "stopped_early", "run": run.id, "number": run.number}
                print(json.dumps({**data, "step": why.step, "rule": why.rule, "reason": why.reason}), flush=True)
            case Planned(decisions):
                for d in decisions:
                    print(json.dumps({"event": "decided", **d.to_dict()}, ensure_ascii=False), flush=True)
            case Waiting(decisions):
                print(json.dumps({"event": "waiting", "numbers": [d.number for d in decisions]}), flush=True)
            case Answered(_, approval):
                print(json.dumps({"event": "answered", **approval.to_dict()}, ensure_ascii=False), flush=True)
            case Changed(what):
                print(json.dumps({"event": "changed", "what": what}), flush=True)
            case Stopped(reason, status):
                print(json.dumps({"event": "stopped", "status": status, "reason": reason}), flush=True)
            case _ if (kept := keeping_dict(event)) is not None:
                print(json.dumps(kept, ensure_ascii=False), flush=True)

    def ending(self, record: StudyRecord) -> None:
        """The last lines: how it ended, what is best, what to do next."""
        if self._json:
            return
        style = "green" if record.status is StudyStatus.FINISHED else "yellow"
        say(f"[{style}]{record.status}[/]: {escape(record.stopped_because)}", markup=True)
        best = self._lab.best(record.name)
        study = Study.model_validate(record.definition)
        if best is not None:
            values = ", ".join(f"{o.metric} {best.values[o.metric]:.6g}" for o in study.objectives)
            out(f"best: run {best.id} with {values}")
        else:
            out("best: none yet; no run completed within the guards")
        if record.status is StudyStatus.PAUSED:
            say(f"Resume: windlass run {record.name}")
        say(f"Report: windlass studies report {record.name}")
        if study.gate is not None:
            say(f"Deployment: windlass deployments show {study.gate.deployment}")
