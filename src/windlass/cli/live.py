"""A study being driven, as a person sees it."""

from __future__ import annotations

import json
import textwrap
import time
from types import TracebackType
from typing import Any, Self

from rich.live import Live as RichLive
from rich.markup import escape
from rich.text import Text

from windlass.cli.show import STATUS_STYLE, out, say, stderr
from windlass.lab import Changed, Event, Lab, Pausing, Planned, Resumed, Settled, Started, Stopped
from windlass.records.decision import StudyRecord, StudyStatus
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


def _study_of(event: Event) -> str | None:
    match event:
        case Planned([decision, *_]):
            return decision.study
        case Started(run) | Settled(run):
            return run.study
    return None


class Live:
    """Shows a study being driven: a line an ended run, and on a terminal a status line below them."""

    def __init__(self, lab: Lab, *, as_json: bool) -> None:
        self._lab = lab
        self._json = as_json
        self._study: Study | None = None
        self._runs: dict[str, RunRecord] = {}
        self._best: RunRecord | None = None
        self._since = time.monotonic()
        self._pausing = False
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
        if isinstance(event, (Started, Settled)):
            self._runs[event.run.id] = event.run
        if isinstance(event, Settled) and event.best:
            self._best = event.run
        if isinstance(event, Pausing):
            self._pausing = True

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
                rejected = [d for d in decisions if not d.approved]
                return "\n".join(f"[yellow]  #{d.number} rejected[/]  {escape(d.verdict)}" for d in rejected)
            case Settled(run, best):
                return self._settled(run, best)
            case Pausing(running):
                return f"[yellow]pausing[/]: waiting for {running} runs; Ctrl-C again leaves at once, and they go on"
        return ""

    def _settled(self, run: RunRecord, best: bool) -> str:
        style = STATUS_STYLE[run.status]
        space = list(self._study.space) if self._study else []
        what = f"[{style}]{run.status:<9}[/] {duration(run.duration_s):>6}  "
        if run.failure is not None:
            message = textwrap.shorten(run.failure.message, 80, placeholder=" ...")
            what += f"[red]{run.failure.kind}[/]: {escape(message)}  "
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
        if counts[Status.FAILED]:
            parts.append(f"{counts[Status.FAILED]} failed")
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
            case Planned(decisions):
                for d in decisions:
                    print(json.dumps({"event": "decided", **d.to_dict()}, ensure_ascii=False), flush=True)
            case Changed(what):
                print(json.dumps({"event": "changed", "what": what}), flush=True)
            case Stopped(reason, status):
                print(json.dumps({"event": "stopped", "status": status, "reason": reason}), flush=True)

    def ending(self, record: StudyRecord) -> None:
        """The last lines: how it ended, what is best, what to do next."""
        if self._json:
            return
        style = "green" if record.status is StudyStatus.FINISHED else "yellow"
        say(f"[{style}]{record.status}[/]: {escape(record.stopped_because)}", markup=True)
        best = self._lab.best(record.name)
        if best is not None:
            study = Study.model_validate(record.definition)
            values = ", ".join(f"{o.metric} {best.values[o.metric]:.6g}" for o in study.objectives)
            out(f"best: run {best.id} with {values}")
        else:
            out("best: none yet; no run completed within the guards")
        if record.status is StudyStatus.PAUSED:
            say(f"Resume: windlass run {record.name}")
        say(f"Report: windlass studies report {record.name}")
