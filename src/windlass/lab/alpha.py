"""``windlass alpha``: a campaign of factor research as a study with a preset, and the opening of its holdout.

As with trainings there is no second orchestrator: this module writes a study file, ``Lab.run`` drives it, and what came
of it is read from the run's folder. The study's name is made of the content of everything that goes in, so the same
command finds what it did before, and goes on where it was interrupted.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windlass import __version__
from windlass.errors import JobError, NotFound, StateError, StudyError, WindlassError
from windlass.lab.trainer import code_and_data, thread_share
from windlass.records.content import digest, nest
from windlass.records.deciding import LanguageModel
from windlass.records.decision import StudyRecord
from windlass.records.document import dump_yaml
from windlass.records.run import Limits, RunRecord, RunSpec, Status, make_run_id
from windlass.report.alpha import CampaignReport
from windlass.runs.folder import RunFolder, read_json, write_atomic
from windlass.runs.source import installed_digest
from windlass.settings import secret
from windlass.workloads import workload
from windlass.workloads.alpha.ledger import LEDGER_FILE, Ledger, Trial, fields_of
from windlass.workloads.alpha.spec import Options, read_config, read_options
from windlass.workloads.alpha.spec import parameter_names as parameter_names
from windlass.workloads.alpha.workload import FILES, WORKLOAD

if TYPE_CHECKING:
    from windlass.agents.expressions import Contribution
    from windlass.lab.lab import Lab
    from windlass.loop.driver import Event, Pause

OPENING, SELFTEST = WORKLOAD.further
SUGGESTIONS = 20  #: expressions that a language model is asked for
SUGGESTIONS_FOLDER = "suggestions"  #: in the lab: a file for what each of them wrote


@dataclass(frozen=True, slots=True, kw_only=True)
class AlphaOrder:
    """What is to be searched. Paths are absolute or relative to the working directory."""

    options: Mapping[str, Any]  #: the workload's
    parameters: Mapping[str, Any] = field(default_factory=dict)  #: flat names; those left out keep their defaults
    runs: int = 1  #: the campaign that was asked for, and others with parameters that the study's agents propose
    concurrent: int = 1
    seed: int = 0
    model: LanguageModel | None = None  #: adds expressions
    knows_until: str = ""  #: the model's knowledge cut-off, as an ISO date


@dataclass(frozen=True, slots=True, kw_only=True)
class AlphaOutcome:
    """What came of a campaign."""

    job: str  #: the study's name
    record: StudyRecord
    runs: tuple[RunRecord, ...]
    report: CampaignReport | None  #: of the best run, or the last one; None where none was completed
    run: RunRecord | None
    folder: Path  #: of that run
    warnings: tuple[str, ...] = ()

    def line(self) -> dict[str, Any]:
        """One line of JSON."""
        best = {"run": self.run.id, "metrics": dict(sorted(self.run.values.items()))} if self.run else {"run": None}
        gate = self.report.gate if self.report else {}
        promoted = [v for v in gate.get("verdicts", ()) if v["grade"] != "none"]
        return {
            "job": self.job,
            "status": str(self.record.status),
            "because": self.record.stopped_because,
            **best,
            "mode": gate.get("mode"),
            "trials": gate.get("trials"),
            "verdict": gate.get("words"),
            "passed": [{"expression": v["expression"], "grade": v["grade"]} for v in promoted],
            "warnings": list(self.warnings),
        }


def research(
    lab: Lab, order: AlphaOrder, on_event: Callable[[Event], None] | None = None, pause: Pause | None = None
) -> AlphaOutcome:
    """Search, evaluate, judge. Safe to repeat.

    Raises StudyError for wrong options and parameters, DataError for a panel that cannot be used.
    """
    job, warnings = prepare(lab, order)
    record = lab.run(lab.study_folder(job) / "study.yaml", on_event=on_event, pause=pause)
    runs = sorted(lab.store.history(job), key=lambda run: (run.number or 0, run.id))
    done = [run for run in runs if run.status is Status.COMPLETED]
    chosen = lab.best(job) or (done[-1] if done else None)
    folder = lab.runs_root / chosen.id if chosen else lab.study_folder(job)
    report = CampaignReport.read(RunFolder(folder)) if chosen else None
    return AlphaOutcome(
        job=job, record=record, runs=tuple(runs), report=report, run=chosen, folder=folder, warnings=tuple(warnings)
    )


def prepare(lab: Lab, order: AlphaOrder) -> tuple[str, list[str]]:
    """Check what was asked for and write the study's file; the study's name, and what a person should know."""
    door = workload("alpha")
    door.check(order.parameters)
    try:
        options = door.options(order.options, Path.cwd())
        read_config({**nest(order.parameters), "workload": options})
    except StudyError as error:
        message = re.sub(r"(?m)^(trainer\.options|config\.workload|config)[.:] ?", "", error.message)
        raise StudyError(message, error.next_step or "windlass alpha --help") from None
    _check_expressions(options)
    given, warnings = set(order.options), list[str]()
    if order.model is not None:
        written, warnings = _suggestions(lab, order, options)
        options = door.options({**options, "expressions": [*options["expressions"], *written]}, Path.cwd())
        given.add("expressions")
    identity = {
        "options": {name: value for name, value in options.items() if name not in FILES},
        "data": door.fingerprints(options),
        "parameters": dict(order.parameters),
        "runs": order.runs,
        "seed": order.seed,
        "code": digest([__version__, *map(installed_digest, door.code)]),
    }
    name = f"alpha-{digest(identity)[:10]}"
    folder = lab.study_folder(name)
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / "job.json", (json.dumps(identity, indent=1, sort_keys=True) + "\n").encode())
    study = _study(name, order, {key: options[key] for key in sorted(given)})
    write_atomic(folder / "study.yaml", dump_yaml(study).encode())
    return name, warnings


def _check_expressions(options: Mapping[str, Any]) -> None:
    """Raises ExpressionError for what a person wrote, before anything runs; columns are checked by the job."""
    from windlass.workloads.alpha.language.parse import ExpressionError, parse

    for number, one in enumerate(options["expressions"]):
        try:
            parse(one["expression"], fields=[*options["columns"], "vwap", "cap"])
        except ExpressionError as error:
            raise StudyError(f"expressions[{number}]: {error.message}", error.next_step) from None


def _study(name: str, order: AlphaOrder, options: Mapping[str, Any]) -> dict[str, Any]:
    """The preset: a study file's data."""
    source = Path(options["data"]).name if "data" in options else "a synthetic panel"
    return {
        "name": name,
        "description": f"Factor research: {options.get('idea') or 'any idea'}, on {source}",
        "trainer": {"workload": "alpha", "options": dict(options), "preload": list(workload("alpha").preload)},
        **({"baseline": nest(order.parameters)} if order.parameters else {}),
        "budget": {"runs": order.runs, "concurrent": order.concurrent},
        "baseline_runs": 1,
        "seed": order.seed,
    }


def _suggestions(lab: Lab, order: AlphaOrder, options: Mapping[str, Any]) -> tuple[list[dict[str, Any]], list[str]]:
    """What a language model adds, and what a person should know of it.

    It is asked once for an idea on a panel, and its reply kept, so that the same command asks nobody. An endpoint that
    gave none is asked again the next time.
    """
    assert order.model is not None
    idea = str(options.get("idea", ""))
    asked = digest([order.model.model, idea, workload("alpha").fingerprints(options)])
    file = lab.path / SUGGESTIONS_FOLDER / f"{asked[:16]}.json"
    kept = read_json(file)
    if not isinstance(kept, dict):
        said = _ask(order.model, idea, read_options(options))
        kept = {
            "model": order.model.model,
            "at": datetime.now(UTC).date().isoformat(),
            "error": said.error,
            "refused": list(said.refused),
            "written": [one.model_dump() for one in said.written],
            "exchanges": [
                {"reply": one.reply, "error": one.error, "tokens": [one.input_tokens, one.output_tokens]}
                for one in said.exchanges
            ],
        }
        if said.written:
            file.parent.mkdir(exist_ok=True)
            write_atomic(file, (json.dumps(kept, indent=1, ensure_ascii=False) + "\n").encode())
    warnings = [f"{kept['model']} added no expression: {kept['error']}"] if kept["error"] else []
    warnings += [f"{kept['model']}: refused {one}" for one in kept["refused"][:5]]
    about = {"by": kept["model"], "at": kept["at"], "knows_until": order.knows_until or None}
    return [{"expression": one["expression"], **about} for one in kept["written"]], warnings


def _ask(section: LanguageModel, idea: str, options: Options) -> Contribution:
    from windlass.agents.endpoint import Endpoint
    from windlass.agents.expressions import ask, to_write
    from windlass.workloads.alpha.language.parse import parse
    from windlass.workloads.alpha.run import load_panel

    panel, _ = load_panel(options)
    columns = tuple(panel.fields)

    def fault(text: str) -> str:
        try:
            parse(text, fields=columns)
        except WindlassError as error:
            return error.message
        return ""

    fields = [f"{', '.join([*columns, 'vwap', 'returns'])}, adv(days)", f"groups: {', '.join(panel.groups) or 'none'}"]
    request = to_write(idea, fields, [" | ".join(row) for row in operators()], SUGGESTIONS)
    return ask(Endpoint(section, secret(section.key_variable)), request, fault)


def open_holdout(
    lab: Lab, campaign: str, *, top: int | None = None, again: bool = False
) -> tuple[RunRecord, CampaignReport, bool]:
    """Judge what a campaign found on the days it never saw, as a run of its own that the registry of factors counts.

    A campaign that was opened before is not looked at again, unless ``again``: the earlier opening is returned, and
    False. Raises StateError for a run that is no completed campaign, JobError where the opening fails.
    """
    run, report = find_campaign(lab, campaign)
    if report.gate["mode"] != "p2":
        raise StateError(
            f"run {run.id} was evaluated in mode {report.gate['mode']}, which promotes nothing",
            "windlass alpha --eval-mode p2 ...",
        )
    for one in lab.runs("status = 'completed'", order_by="created"):
        if not again and one.lineage.get("opens") == run.id:
            return one, _told(lab, one), False
    config = {**run.config, "campaign": run.id, **({"top": top} if top else {})}
    ended = lab.run_alone(_alone("alpha-opening", OPENING, config, {"opens": run.id}, run.seed))
    return ended, _told(lab, ended), True


def find_campaign(lab: Lab, reference: str) -> tuple[RunRecord, CampaignReport]:
    """A campaign's run by its id, a part of it, ``latest`` (of the campaigns) or the study's name."""
    runs = [run for run in lab.runs("status = 'completed'") if not {"opens", "replay_of"} & run.lineage.keys()]
    if reference == "latest":
        found = [run for run in runs if CampaignReport.read(RunFolder(lab.runs_root / run.id)) is not None][:1]
        if not found:
            raise NotFound("no campaign yet", 'windlass alpha --idea "Momentum + liquidity"')
        run = found[0]
    else:
        named = any(record.name == reference for record in lab.studies())
        run = (lab.best(reference) if named else None) or lab.get(reference)
    report = CampaignReport.read(RunFolder(lab.runs_root / run.id))
    if report is None or run.status is not Status.COMPLETED or "campaign" in run.config:
        raise StateError(f"run {run.id} is no completed campaign of factor research", "windlass runs list")
    return run, report


def selftest(
    lab: Lab,
    options: Mapping[str, Any],
    settings: Mapping[str, Any],
    seed: int,
    on_campaign: Callable[[int], None],
) -> RunRecord:
    """Measure the gate's error rates on null and planted panels, as a run of its own; tells how many are done.

    Raises StudyError for wrong options, DataError for a panel that cannot be read.
    """
    from windlass.runs.reader import read_metric

    config = {**settings, "workload": workload("alpha").options(options, Path.cwd())}
    spec = _alone("alpha-selftest", SELFTEST, config, {}, seed)

    def look() -> None:
        values = read_metric(RunFolder(lab.runs_root / spec.id), "campaigns")[2]
        on_campaign(int(values[-1]) if len(values) else 0)

    return lab.run_alone(spec, look)


def _alone(name: str, function: str, config: Mapping[str, Any], lineage: Mapping[str, str], seed: int) -> RunSpec:
    created = time.time()
    return RunSpec(
        id=make_run_id(created, name, {"config": dict(config), "at": created}),
        name=name,
        created=created,
        config=dict(config),
        function=function,
        env=thread_share(1),
        python_path=(str(Path.cwd()),),
        seed=seed,
        limits=Limits(),
        data=workload("alpha").data(config["workload"]),
        fingerprints=code_and_data((), workload("alpha").function, config, Path.cwd()),
        lineage=lineage,
    )


def _told(lab: Lab, run: RunRecord) -> CampaignReport:
    report = CampaignReport.read(RunFolder(lab.runs_root / run.id))
    if run.status is not Status.COMPLETED or report is None:
        raise ended(f"run {run.id}", run)
    return report


def ended(what: str, run: RunRecord) -> JobError:
    """Why a run has nothing to show, and what to do."""
    why, step = (run.failure.message, run.failure.next_step) if run.failure else (str(run.status), "")
    return JobError(f"{what} failed: {why}", step or f"windlass runs show {run.id}")


def tried(lab: Lab, run: RunRecord) -> str:
    """How far a campaign is: ``120 of 200 expressions``."""
    wanted = read_options(run.config["workload"]).candidates
    try:
        with (lab.runs_root / run.id / "journal.jsonl").open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - 4096))
            lines = file.read().splitlines()
    except OSError:
        return ""
    for line in reversed(lines):
        with suppress(ValueError, TypeError, KeyError):
            return f"{int(json.loads(line)['step'])} of {wanted} expressions"
    return ""


def factors(lab: Lab, *, every: bool = False) -> list[dict[str, Any]]:
    """The entries of the registry of factors: what was promoted, refused and opened; with ``every``, all trials too."""
    entries = Ledger(lab.runs_root / LEDGER_FILE).read()
    texts = {one.hash: one.expr for one in entries if isinstance(one, Trial)}
    told = [fields_of(one) for one in entries if every or not isinstance(one, Trial)]
    for one in told:
        hashes = one.get("hashes") or [one["hash"]]
        one["expressions"] = [texts.get(name, name) for name in hashes]
    return told


def option_names() -> frozenset[str]:
    """The workload's options; every other name is a parameter."""
    return frozenset(Options.model_fields)


def operators() -> list[tuple[str, str, str]]:
    """Name, signature and rule of every operator of the expression language."""
    from windlass.workloads.alpha.language.operators import reference

    return reference()


def explain_expression(text: str) -> dict[str, Any]:
    """What an expression is read as. Raises ExpressionError."""
    from windlass.workloads.alpha.language import canonical, parse, tree, units

    node = parse.parse(text)
    return {
        "canonical": canonical.text(canonical.canonical(node)),
        "hash": canonical.digest(node),
        "lookback": tree.lookback(node),
        "nodes": tree.size(node),
        "depth": tree.depth(node),
        "unit": units.unit(node).name,
        "warnings": units.lint(node),
    }


def panel_manifest(data: Path, sectors: Path | None, membership: Path | None, borrow: Path | None) -> dict[str, Any]:
    """What a panel holds and what is wrong with it, with counts. Raises DataError for one that cannot be used."""
    from windlass.workloads.alpha.reading import read_panel

    return read_panel(data, sectors=sectors, membership=membership, borrow=borrow).manifest.to_dict()
