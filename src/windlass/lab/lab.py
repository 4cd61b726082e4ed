"""The lab: one folder with runs, studies and a store, and everything one does with them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from windlass.errors import NotFound, StoreError, StudyError, WindlassError, nearest
from windlass.jobs.collect import collect
from windlass.lab import upkeep
from windlass.lab.lock import exclusive
from windlass.lab.reindex import DECISIONS_FILE, RECORD_FILE, STUDY_FILE
from windlass.records.decision import Approval, Decision, StudyRecord, StudyStatus
from windlass.records.run import RunRecord, RunSpec, Status, make_run_id
from windlass.runs import index
from windlass.runs.folder import RunFolder, write_atomic
from windlass.settings import SETTINGS_FILE, find_lab, lay_out, load_settings
from windlass.store.decisions import DecisionLog

if TYPE_CHECKING:
    import polars as pl

    from windlass.jobs.protocol import Executor
    from windlass.lab.doctor import Check
    from windlass.lab.keeping import Keeping
    from windlass.lab.reindex import Reindexed
    from windlass.lab.resume import Course
    from windlass.loop.driver import Event, Pause
    from windlass.loop.keeping import Challengers
    from windlass.loop.retrace import Retraced
    from windlass.records.study import Study
    from windlass.registry.routing import Route
    from windlass.report.study import StudyReport
    from windlass.report.why import Explained
    from windlass.runs.compare import Comparison
    from windlass.runs.replay import ReplayVerdict
    from windlass.store.sql import SqlStore

TICK_S = 0.5  #: between two looks at a run that is waited for


class Lab:
    """Open the lab in ``path``; without one, the nearest lab upwards of the working directory.

    Raises NotFound where there is none, StoreError where its database cannot be used.
    """

    def __init__(self, path: Path | str | None = None) -> None:
        self.path = Path(path).expanduser().resolve() if path is not None else find_lab()
        if not (self.path / SETTINGS_FILE).is_file():
            raise NotFound(f"{self.path} is no lab: it has no {SETTINGS_FILE}", f"windlass init {path or 'lab'}")
        self.settings = load_settings(self.path)

    @classmethod
    def create(cls, path: Path | str) -> Lab:
        """Make a lab in ``path``, a new or existing folder; on an existing lab nothing changes."""
        folder = Path(path).expanduser().resolve()
        try:
            lay_out(folder)
        except OSError as error:
            raise WindlassError(f"cannot make a lab in {folder}: {error.strerror}", "windlass init PATH") from error
        lab = cls(folder)
        lab.store.close()
        del lab.store
        return lab

    def __repr__(self) -> str:
        return f"Lab({str(self.path)!r})"

    @property
    def runs_root(self) -> Path:
        return self.path / "runs"

    def study_folder(self, name: str) -> Path:
        return self.path / "studies" / name

    def decisions_file(self, study: str) -> Path:
        return self.study_folder(study) / DECISIONS_FILE

    @cached_property
    def store(self) -> SqlStore:
        from windlass.store.sql import SqlStore

        if isinstance(self.database, Path) and not self.database.exists():
            if self._has_history():
                raise StoreError(f"the database of this lab is gone: {self.database}", "windlass reindex")
            self.database.parent.mkdir(parents=True, exist_ok=True)
        return SqlStore(self.database)

    @cached_property
    def keeping(self) -> Keeping:
        """Checkpoints, evaluations, promotion, deployments, rollback, audit."""
        from windlass.lab.keeping import Keeping

        return Keeping(self)

    def route(self, deployment: str, key: str | bytes) -> Route:
        """Which checkpoint answers a request; the same key goes the same way. Made to be called for every request."""
        return self.keeping.route(deployment, key)

    def _has_history(self) -> bool:
        """Whether a database was here before: decisions, runs that were taken in, or anything kept."""
        logs = (self.path / "studies").glob(f"*/{DECISIONS_FILE}")
        kept = (self.path / "registry.jsonl").exists() or (self.runs_root / upkeep.SYNCED_FILE).exists()
        return kept or any(log.stat().st_size for log in logs)

    @property
    def database(self) -> Path | str:
        """The path of the SQLite file, or the URL of another database."""
        named = self.settings.database
        return named if "://" in named else self.path / named

    def close(self) -> None:
        """Let go of the database; the lab can be used again afterwards."""
        self.__dict__.pop("keeping", None)
        if "store" in self.__dict__:
            self.store.close()
            del self.store

    def __enter__(self) -> Lab:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Driving -----------------------------------------------------------------------------------------------------

    def run(
        self,
        study: Study | Mapping[str, Any] | Path | str,
        *,
        cycles: int | None = None,
        on_event: Callable[[Event], None] | None = None,
        pause: Pause | None = None,
        executor: Executor | None = None,
    ) -> StudyRecord:
        """Drive a study until its limits, its stop rules, ``cycles`` more cycles, or a pause.

        ``study`` is a Study or its data, a study file, or the name of a study that this lab knows. A command that was
        paused or killed before it reached its ``cycles`` is taken up where it was by the same command.

        Raises LabBusy where another process drives this lab; StudyError on a study that cannot be used.
        """
        if cycles is not None and cycles < 1:
            raise WindlassError(f"cycles is {cycles}; it counts from 1", "Leave it out to run to the study's limits.")
        from windlass.jobs.local import LocalExecutor
        from windlass.lab import deciding
        from windlass.lab.policy import check_gate
        from windlass.lab.trainer import job_template
        from windlass.loop.cycle import Bench
        from windlass.loop.driver import Pause, Settled, Started, drive

        with exclusive(self.path):
            upkeep.clear_leftovers(self.runs_root)
            chosen, folder = self._resolve(study)
            template = job_template(chosen, folder)
            if chosen.gate is not None:
                check_gate(chosen.gate, folder)
            council = deciding.assemble(chosen)
            record = self._enroll(chosen, folder, cycles)
            runner = executor or LocalExecutor(self.runs_root, chosen.budget.concurrent)
            self.keeping.resume()
            with closing(runner), upkeep.Housekeeper(self.runs_root) as housekeeper, self._mirrored(chosen.name):
                bench = Bench(
                    study=chosen,
                    store=self.store,
                    executor=runner,
                    log=DecisionLog(self.decisions_file(chosen.name)),
                    runs_root=self.runs_root,
                    template=template,
                    council=council,
                    challengers=self._challengers(chosen, folder, runner),
                )
                for event in drive(bench, record, pause or Pause()):
                    if isinstance(event, (Started, Settled)):
                        housekeeper.look_after(event.run)
                    if on_event is not None:
                        on_event(event)
            if chosen.gate is not None:
                self.keeping.settle()
            return self.study(chosen.name)

    def _challengers(self, study: Study, folder: Path, executor: Executor) -> Challengers | None:
        if study.gate is None:
            return None
        from windlass.lab.trainer import thread_share
        from windlass.loop.keeping import Challengers, Keeper

        keeper = Keeper(
            vault=self.keeping.vault,
            policy=study.gate,
            folder=folder,
            actor=f"study {study.name}",
            preload=study.trainer.preload,
            env=thread_share(study.budget.concurrent),
        )
        return Challengers(keeper, executor, promotes=study.autonomy == "auto")

    @contextmanager
    def _mirrored(self, study: str) -> Iterator[None]:
        """Keep ``record.json``, which reindex restores a study's record from, up to date before and after."""
        try:
            self._mirror(study)
            yield
        finally:
            self._mirror(study)

    def _mirror(self, study: str) -> None:
        record = self.study(study)
        data = {key: value for key, value in asdict(record).items() if key != "definition"}
        write_atomic(self.study_folder(study) / RECORD_FILE, json.dumps(data, indent=1).encode())

    def _resolve(self, study: Study | Mapping[str, Any] | Path | str) -> tuple[Study, Path]:
        """The study, checked, and the folder that its trainer's files are relative to."""
        from windlass.lab.study import load_study
        from windlass.records.study import Study
        from windlass.records.studyfile import StudyFile

        if isinstance(study, Study):
            return study, Path.cwd()
        if isinstance(study, Mapping):
            return StudyFile(json.dumps(study), "study").study(), Path.cwd()
        path = Path(study)
        if path.suffix in (".yaml", ".yml", ".json") or path.is_file():
            return load_study(path), path.resolve().parent
        record = self.study(str(study))
        if not (record.folder and Path(record.folder).is_dir()):
            raise StudyError(
                f"the folder of study {record.name!r} is not known or gone: {record.folder or '-'}; its trainer's files"
                " are relative to it",
                f"windlass run PATH/{STUDY_FILE}, from where the study file is now",
            )
        return Study.model_validate(record.definition), Path(record.folder)

    def _enroll(self, study: Study, folder: Path, cycles: int | None) -> StudyRecord:
        """The study's record with the goal of this command; a changed question under an old name is refused."""
        from windlass.records.study import TERMS, Study
        from windlass.records.studyfile import dump_study

        definition = study.model_dump(mode="json", exclude_defaults=True)
        known = next((record for record in self.store.studies() if record.name == study.name), None)
        if known is None:
            record = StudyRecord(name=study.name, definition=definition, created=time.time(), cycles_goal=cycles)
        else:
            before = Study.model_validate(known.definition)
            if before.fingerprint != study.fingerprint:
                changed = [
                    key
                    for key in Study.model_fields
                    if key not in (*TERMS, "description", "tags") and getattr(before, key) != getattr(study, key)
                ]
                if changed != ["trainer"] or any(r.status is Status.COMPLETED for r in self.store.history(study.name)):
                    raise StudyError(
                        f"study {study.name!r} is in this lab with another definition; changed: {', '.join(changed)}",
                        "Give the changed study a new name; its runs would not be comparable.",
                    )
            unfinished = known.status is not StudyStatus.FINISHED and known.cycles_goal is not None
            same = unfinished and cycles == known.cycles_asked
            goal = known.cycles_goal if same else cycles and known.cycles + cycles
            record = replace(known, definition=definition, cycles_goal=goal)
        record = replace(record, folder=str(folder), cycles_asked=cycles)
        self.store.save_study(record)
        path = self.study_folder(study.name) / STUDY_FILE
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, dump_study(study).encode())
        return record

    def cancel(self, run_id: str, reason: str = "cancelled by a person") -> RunRecord:
        """End a run with its whole process tree, wherever it was started from on this machine."""
        from windlass.jobs.local import LocalExecutor

        run = self.get(run_id)
        if run.status is Status.PENDING and not (self.runs_root / run.id).exists():
            self.store.put([replace(run, status=Status.CANCELLED, ended=time.time(), notes=(f"cancelled: {reason}",))])
        elif not run.status.terminal:
            with closing(LocalExecutor(self.runs_root, 1)) as executor:
                executor.cancel(run.id, reason)
                while executor.active():
                    executor.wait()
            self.store.put([collect(self.runs_root / run.id)])
            upkeep.tidy(self.runs_root, self.store.run(run.id))
        return self.get(run.id)

    def resume(self, run_id: str, on_tick: Callable[[Course], None] | None = None) -> RunRecord:
        """Let a run that was preempted, killed, lost or cancelled go on from what it left, and wait for its end.

        It keeps its id, its folder and its curves. An interrupted wait leaves the job running.

        Raises StateError for a run that has no next attempt, and where its data have changed.
        """
        from windlass.lab.resume import resume

        return resume(self, run_id, on_tick)

    def replay(self, run_id: str, *, tolerance: float = 1e-9) -> tuple[RunRecord, ReplayVerdict]:
        """Run a run's saved config again as a new, linked run, and say whether it reproduces.

        ``tolerance`` is relative. Raises WindlassError for runs that no command or function can start again.
        """
        from windlass.lab.trainer import check_code, code_and_data
        from windlass.runs.replay import replay_verdict

        original = self.get(run_id)
        folder = RunFolder(self.runs_root / original.id)
        spec = folder.spec()
        if not (spec.command or spec.function):
            raise WindlassError(
                f"run {original.id} was started by a script of its own, which Windlass cannot start again",
                "Start the script again, then: windlass runs compare A B",
            )
        if not original.status.terminal:
            raise WindlassError(f"run {original.id} is {original.status}", f"windlass runs show {original.id}")
        check_code(spec)
        code_folder = Path(spec.python_path[0]) if spec.python_path else Path.cwd()
        created = time.time()
        identity = {"replay_of": original.id, "at": created}
        again = replace(
            spec,
            id=make_run_id(created, spec.name, identity),
            created=created,
            study=None,
            number=None,
            lineage={"replay_of": original.id},
            fingerprints={
                **spec.fingerprints,
                **code_and_data(spec.command, spec.function, spec.config, code_folder, spec.data),
            },
        ).identified()
        replayed = self.run_alone(again)
        return replayed, replay_verdict(original, replayed, folder, RunFolder(self.runs_root / again.id), tolerance)

    def run_alone(self, spec: RunSpec, on_tick: Callable[[], None] | None = None) -> RunRecord:
        """Start a run that belongs to no study, and wait for its end. An interrupt cancels it."""
        from windlass.jobs.local import LocalExecutor

        with closing(LocalExecutor(self.runs_root, 1)) as executor:
            executor.submit([spec])
            upkeep.describe(self.runs_root, spec.id)
            try:
                while executor.active():
                    executor.wait(None if on_tick is None else TICK_S)
                    if on_tick is not None:
                        on_tick()
            except KeyboardInterrupt:
                executor.cancel(spec.id, "interrupted")
                raise
        ended = collect(self.runs_root / spec.id)
        self.store.put([ended])
        upkeep.tidy(self.runs_root, ended)
        return ended

    # Reading -----------------------------------------------------------------------------------------------------

    def sync(self) -> None:
        """Take in what scripts of their own did since the last look, and find runs that were lost."""
        upkeep.sync(self.runs_root, self.store)

    def runs(
        self, expression: str = "", *, order_by: str = "created desc", limit: int | None = None
    ) -> list[RunRecord]:
        """Runs that match a search expression, as records."""
        self.sync()
        return self.store.search(expression, order_by=order_by, limit=limit)

    def search(self, expression: str = "", *, order_by: str = "created desc", limit: int | None = None) -> pl.DataFrame:
        """Runs that match a search expression: one row a run, columns ``params.*``, ``metrics.*``, ``tags.*``."""
        from windlass.report.tables import runs_frame

        return runs_frame(self.runs(expression, order_by=order_by, limit=limit))

    def get(self, run_id: str) -> RunRecord:
        """A run by its id, a unique part of it, or ``latest``."""
        self.sync()
        if run_id == "latest":
            run_id = index.latest(self.runs_root) or ""
            if not run_id:
                raise NotFound("no run yet", "windlass run study.yaml")
        return self.store.run(run_id)

    def folder(self, run_id: str) -> RunFolder:
        return RunFolder(self.runs_root / self.get(run_id).id)

    def metrics(self, run_id: str, *names: str) -> pl.DataFrame:
        """The metric history of a run: columns metric, step, time, value; all metrics, or those named."""
        from windlass.runs.reader import read_metrics

        frame = read_metrics(self.folder(run_id))
        return frame.filter(frame["metric"].is_in(names)) if names else frame

    def compare(self, run_a: str, run_b: str) -> Comparison:
        """Config diff, metric deltas and, where both have per-example scores, a paired test."""
        from windlass.runs.compare import compare

        a, b = self.get(run_a), self.get(run_b)
        return compare(a, b, RunFolder(self.runs_root / a.id), RunFolder(self.runs_root / b.id), self._directions(a, b))

    def _directions(self, *runs: RunRecord) -> dict[str, Any]:
        names = {run.study for run in runs if run.study}
        definitions = [record.definition for record in self.store.studies() if record.name in names]
        return {o["metric"]: o["direction"] for definition in definitions for o in definition["objectives"]}

    def studies(self) -> list[StudyRecord]:
        return self.store.studies()

    def study(self, name: str) -> StudyRecord:
        """Raises NotFound with the nearest name."""
        records = {record.name: record for record in self.store.studies()}
        if name not in records:
            raise NotFound(
                f"no study {name!r} in {self.path}.{nearest(name, records)}",
                f"Known: {', '.join(records)}" if records else "windlass run study.yaml",
            )
        return records[name]

    def objectives(self, runs: Sequence[RunRecord]) -> list[str]:
        """The objective metrics of the studies that these runs belong to."""
        return list(self._directions(*runs))

    def decision(self, run: RunRecord) -> Decision | None:
        """What led to a run; None for a run of its own."""
        if run.study is None or run.number is None:
            return None
        return next(iter(self.store.decisions(run.study, after=run.number - 1)), None)

    def waiting(self) -> list[tuple[StudyRecord, Decision]]:
        """Proposals that wait for a person's answer, oldest first."""
        from windlass.lab import deciding

        return deciding.waiting(self)

    def answer(self, reference: str, *, approved: bool, reason: str) -> Approval:
        """Approve or reject what waits; ``reference`` is ``STUDY#NUMBER`` or the run's id."""
        from windlass.lab import deciding

        return deciding.answer(self, reference, approved, reason)

    def explain(self, reference: str) -> Explained:
        """Why a run was made, or a proposal was not: ``reference`` is a run's id, ``latest`` or ``STUDY#NUMBER``."""
        from windlass.lab import deciding

        self.sync()
        return deciding.explain(self, reference)

    def retrace(self, study: str, cycle: int | None = None) -> Iterator[Retraced]:
        """Decide every cycle of a study (or one) again from its log, and say whether the same comes out."""
        from windlass.lab import deciding

        return deciding.retraced(self, study, cycle)

    def study_overview(self) -> list[dict[str, Any]]:
        """One row a study: counts, best objective value, why it stopped."""
        self.sync()
        return [self._overview(record) for record in self.store.studies()]

    def _overview(self, record: StudyRecord) -> dict[str, Any]:
        from windlass.history import review
        from windlass.records.study import Study

        study = Study.model_validate(record.definition)
        history = self.store.history(record.name)
        best = review(study, history).best
        return {
            "name": record.name,
            "status": str(record.status),
            "cycles": record.cycles,
            "runs": len(history),
            "failed": sum(run.status is Status.FAILED for run in history),
            "objective": study.objectives[0].metric,
            "best": best.values[study.objectives[0].metric] if best else None,
            "best_run": best.id if best else None,
            "active_s": record.active_s,
            "stopped_because": record.stopped_because,
        }

    def best(self, study: str) -> RunRecord | None:
        """The study's best completed run that keeps the guards, or None."""
        from windlass.history import review
        from windlass.records.study import Study

        definition = Study.model_validate(self.study(study).definition)
        return review(definition, self.store.history(study)).best

    def report(self, study: str, *, html: bool = True) -> StudyReport:
        """Write REPORT.md and report.html of a study, and return what is in them."""
        from windlass.lab import deciding
        from windlass.records.study import Study
        from windlass.report.study import study_report

        self.sync()
        record = self.study(study)
        definition = Study.model_validate(record.definition)
        runs, decisions = self.store.history(study), self.store.decisions(study)
        lessons, calibration = deciding.learned(definition, runs, decisions)
        report = study_report(
            definition,
            runs,
            decisions,
            record,
            self.runs_root,
            lessons=lessons,
            calibration=calibration,
            approvals=self.store.approvals(study),
            hypervolumes=deciding.hypervolumes(definition, runs),
            gate=self.keeping.gate_history(definition),
        )
        folder = self.study_folder(study)
        folder.mkdir(parents=True, exist_ok=True)
        write_atomic(folder / "REPORT.md", report.markdown().encode())
        if html:
            write_atomic(folder / "report.html", report.html().encode())
        return report

    # Upkeep ------------------------------------------------------------------------------------------------------

    def reindex(self, on_progress: Callable[[int, int], None] | None = None) -> Reindexed:
        """Build the store anew from run folders and study folders; the old database is kept aside."""
        from windlass.lab.reindex import reindex

        with exclusive(self.path):
            self.close()
            if isinstance(self.database, str):
                raise WindlassError("reindex builds a new file; this lab's database is a server", "windlass doctor")
            self.database.parent.mkdir(parents=True, exist_ok=True)
            return reindex(self.path, self.database, on_progress)

    def doctor(self) -> Sequence[Check]:
        """Look for what is wrong with machine, lab and runs; writes missing run reports, clears what kills left."""
        from windlass.lab.doctor import doctor

        return doctor(self)
