"""Keeping: a checkpoint is registered, evaluated by real jobs, judged, and takes the next step towards serving.

Nothing here remembers anything: what is still to be done follows from the registry and the run folders, so that after a
kill the next start submits the same evaluations again (they start once) and goes on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from windlass.errors import NotFound, StateError, WindlassError
from windlass.jobs.collect import collect
from windlass.jobs.protocol import Executor
from windlass.records.audit import Change, ChangeKind
from windlass.records.checkpoint import Checkpoint
from windlass.records.deployment import Stage, StepState
from windlass.records.evaluation import Evaluation
from windlass.records.gate import Benchmark, GatePolicy
from windlass.records.run import RunRecord, RunSpec
from windlass.records.verdict import Ruling, Verdict
from windlass.registry.blobs import Blobs
from windlass.registry.evaluating import (
    EVALUATES,
    data_fingerprint,
    data_path,
    derive,
    evaluation_of,
    evaluation_spec,
    evaluator_fingerprint,
    training_of,
)
from windlass.registry.mirror import Mirror
from windlass.registry.outcomes import OutcomeLog
from windlass.registry.pointer import pointer, write_pointer
from windlass.registry.promotion import advance, check_bytes, judged
from windlass.registry.protocol import Registry
from windlass.registry.register import register
from windlass.registry.scores import Scores
from windlass.runs.folder import RunFolder
from windlass.store.protocol import Store


@dataclass(frozen=True, slots=True)
class Registered:
    checkpoint: Checkpoint


@dataclass(frozen=True, slots=True)
class NotRegistered:
    run: str
    why: str


@dataclass(frozen=True, slots=True)
class Evaluating:
    run: str
    benchmark: str
    checkpoint: str


@dataclass(frozen=True, slots=True)
class Evaluated:
    evaluation: Evaluation


@dataclass(frozen=True, slots=True)
class EvaluationFailed:
    run: str
    benchmark: str
    checkpoint: str
    why: str


@dataclass(frozen=True, slots=True)
class Judged:
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Advanced:
    deployment: str
    checkpoint: str
    stage: Stage


@dataclass(frozen=True, slots=True)
class Step:
    """Of a rollback."""

    deployment: str
    step: str
    state: StepState
    note: str


KeepingEvent = Registered | NotRegistered | Evaluating | Evaluated | EvaluationFailed | Judged | Advanced | Step


@dataclass(frozen=True, kw_only=True)
class Vault:
    """Where a lab keeps what it keeps."""

    registry: Registry
    blobs: Blobs
    mirror: Mirror
    store: Store
    runs_root: Path
    deployments: Path  #: the folder of the pointers

    def outcomes(self, deployment: str) -> OutcomeLog:
        return OutcomeLog(self.deployments / f"{deployment}.outcomes.jsonl")

    def derive(self, evaluation: Evaluation) -> Scores:
        return derive(evaluation, self.blobs)

    def note(self, run: RunRecord) -> None:
        """Put a run's record into the store, where no other process did so before."""
        with suppress(StateError):
            self.store.put([run])

    def enter(self, evaluation: Evaluation, actor: str) -> None:
        """Put an evaluation on record. The same one again changes nothing."""
        if evaluation.id not in self.registry.state().evaluations:
            body = {"evaluation": evaluation.to_dict()}
            change = Change(kind=ChangeKind.EVALUATED, subject=evaluation.checkpoint, body=body)
            try:
                self.registry.append(change, actor=actor)
            except StateError:
                if evaluation.id not in self.registry.state().evaluations:  # else another process came to it
                    raise

    def settle(self) -> None:
        """Let everything on disk follow the log: the copy of the log, and every deployment's pointer.

        Raises StateError where a pointer follows an entry that the log does not have.
        """
        self.mirror.catch_up(self.registry)
        state = self.registry.state()
        for name in [line.name for line in state.deployments.values() if line.champion is not None]:
            while True:
                line = state.deployments[name]
                data = pointer(line, state.checkpoints, self.blobs.root, line.sequence)
                try:
                    write_pointer(self.deployments / f"{name}.json", data)
                    break
                except StateError:  # another process may know more by now
                    before, state = state.sequence, self.registry.state()
                    if state.sequence == before:
                        raise


@dataclass(frozen=True, kw_only=True)
class Keeper:
    """One policy's way from a run to serving."""

    vault: Vault
    policy: GatePolicy
    folder: Path  #: that the policy's paths start from
    actor: str
    preload: tuple[str, ...] = ()  #: of evaluators that are functions, as in ``Trainer.preload``
    env: Mapping[str, str] = field(default_factory=dict)  #: added to the evaluators' environment

    def register(self, run: RunRecord) -> Checkpoint:
        """Raises NotFound where the run left no checkpoint, DataError where it is not what the run said."""
        vault = self.vault
        made = register(vault.registry, vault.blobs, run, RunFolder(vault.runs_root / run.id), actor=self.actor)
        vault.settle()
        return made

    def wanted(self, checkpoint: Checkpoint, at: float, *, again: bool = False) -> list[tuple[Benchmark, RunSpec]]:
        """Evaluation jobs that a verdict on a checkpoint still needs, the champion's own included.

        ``again`` asks for the checkpoint's anew, whatever there is. ``at`` is seconds since the epoch. Raises DataError
        where what is to be evaluated is not what was registered.
        """
        state = self.vault.registry.state()
        line = state.deployments.get(self.policy.deployment)
        champion = line.champion if line else None
        jobs = []
        for benchmark in self.policy.benchmarks:
            data, evaluator = self.identity(benchmark)
            for one in dict.fromkeys(name for name in (checkpoint.id, champion) if name is not None):
                scored = [e for e in state.evaluations_of(one, benchmark.name) if e.data == data]
                known = [e for e in scored if e.evaluator == evaluator]
                taken = [e for e in scored if e.imported] if self.policy.imported == "accept" else []
                oldest = -math.inf if benchmark.max_age is None else at - benchmark.max_age
                if again and one == checkpoint.id:
                    jobs.append((benchmark, self.spec(benchmark, state.checkpoints[one], f"again {at}")))
                elif not any(e.at >= oldest for e in (*known, *taken)):
                    salt = f"after {known[-1].id}" if known else ""  # what is there is too old
                    jobs.append((benchmark, self.spec(benchmark, state.checkpoints[one], salt)))
        for one in dict.fromkeys(spec.lineage[EVALUATES] for _, spec in jobs):
            check_bytes(self.vault.blobs, state.checkpoints[one])
        return jobs

    def identity(self, benchmark: Benchmark) -> tuple[str, str]:
        """Fingerprints of its data and of its evaluator, as of now."""
        return data_fingerprint(data_path(benchmark, self.folder)), evaluator_fingerprint(benchmark, self.folder)

    def spec(self, benchmark: Benchmark, checkpoint: Checkpoint, salt: str = "") -> RunSpec:
        """The job that evaluates a checkpoint; the same one each time, unless ``salt`` asks for another."""
        return evaluation_spec(
            benchmark,
            checkpoint,
            self.vault.blobs.files(checkpoint.digest),
            data_path(benchmark, self.folder),
            folder=self.folder,
            salt=salt,
            env=self.env,
            preload=self.preload,
        )

    def collect(self, run_id: str) -> Evaluation | EvaluationFailed:
        """Take in an evaluation job that ended. Safe to repeat."""
        vault, folder = self.vault, RunFolder(self.vault.runs_root / run_id)
        run = collect(folder)
        vault.note(run)
        state = vault.registry.state()
        if known := next((e for e in state.evaluations.values() if e.run == run.id), None):
            return known
        checkpoint = state.checkpoints[run.lineage[EVALUATES]]
        benchmark = next(b for b in self.policy.benchmarks if b.name == run.lineage["benchmark"])
        if run.failure is not None:
            return EvaluationFailed(run.id, benchmark.name, checkpoint.id, run.failure.message)
        try:
            training = training_of(checkpoint, state, vault.store.run, vault.runs_root)
            with vault.blobs.adding():
                made = evaluation_of(
                    run,
                    folder,
                    benchmark,
                    checkpoint,
                    vault.blobs,
                    data=data_path(benchmark, self.folder),
                    policy_folder=self.folder,
                    training=training,
                )
                vault.enter(made, self.actor)
        except WindlassError as error:
            return EvaluationFailed(run.id, benchmark.name, checkpoint.id, error.message)
        return made

    def judge(self, checkpoint: str, at: float) -> Verdict:
        vault = self.vault
        verdict = judged(vault.registry, self.policy, self.folder, checkpoint, vault.derive, actor=self.actor, at=at)
        vault.settle()
        return verdict

    def advance(self, verdict: Verdict) -> Stage:
        """Record the next step, then let the pointer follow."""
        vault = self.vault
        began = vault.outcomes(verdict.deployment).end()
        stage = advance(vault.registry, vault.blobs, verdict, actor=self.actor, outcomes=began)
        vault.settle()
        return stage


class Challengers:
    """A study's best checkpoints before the gate, while the study goes on."""

    def __init__(self, keeper: Keeper, executor: Executor, *, promotes: bool) -> None:
        """With ``promotes`` false, verdicts are given and a person takes the step."""
        self._keeper = keeper
        self._executor = executor
        self._promotes = promotes
        self._resumed = False
        self._considered: set[str] = set()  #: runs
        self._waiting: dict[str, set[str]] = {}  #: checkpoint -> evaluation jobs that have not ended

    def expects(self, run_id: str) -> bool:
        return any(run_id in jobs for jobs in self._waiting.values())

    def consider(self, run: RunRecord) -> Iterator[KeepingEvent]:
        """Take a run's checkpoint before the gate, once; where its evaluations are there, it is judged at once.

        Those that an earlier process did not bring to an end come first.
        """
        if not self._resumed:
            self._resumed = True
            for left in self._unfinished():
                yield from self.consider(left)
        if run.id in self._considered:
            return
        self._considered.add(run.id)
        known = self._keeper.vault.registry.state().made_by(run.id)
        try:
            checkpoint = self._keeper.register(run)
        except WindlassError as error:
            yield NotRegistered(run.id, error.message)
            return
        if known is None:
            yield Registered(checkpoint)
        jobs: list[RunSpec] = []
        try:
            for benchmark, spec in self._keeper.wanted(checkpoint, time.time()):
                evaluated = spec.lineage[EVALUATES]
                failed = self._failed(spec)
                if failed is not None:
                    yield EvaluationFailed(spec.id, benchmark.name, evaluated, failed)
                    continue
                jobs.append(spec)
                yield Evaluating(spec.id, benchmark.name, evaluated)
        except WindlassError as error:
            yield EvaluationFailed("", "", checkpoint.id, error.message)
            return
        self._waiting[checkpoint.id] = {spec.id for spec in jobs}
        self._executor.submit(jobs)
        going = self._executor.active()
        for spec in jobs:
            if spec.id not in going:  # an earlier process started it
                yield from self.ended(spec.id)
        yield from self._conclude()

    def ended(self, run_id: str) -> Iterator[KeepingEvent]:
        """An evaluation job has ended."""
        outcome = self._keeper.collect(run_id)
        yield Evaluated(outcome) if isinstance(outcome, Evaluation) else outcome
        for jobs in self._waiting.values():
            jobs.discard(run_id)
        yield from self._conclude()

    def _unfinished(self) -> list[RunRecord]:
        """Runs whose checkpoints the study registered, and that have no verdict yet, or not the step that follows."""
        vault, deployment = self._keeper.vault, self._keeper.policy.deployment
        state = vault.registry.state()
        found = []
        for entry in vault.registry.entries():
            if entry.actor != self._keeper.actor or entry.kind not in (ChangeKind.REGISTERED, ChangeKind.REPRODUCED):
                continue
            verdicts = state.verdicts_of(deployment, entry.subject)
            stays = verdicts and not (self._promotes and self._ready(verdicts[-1]))
            if entry.subject in state.removed or stays:
                continue
            with suppress(NotFound):  # its record is lost
                found.append(vault.store.run(str(entry.body.get("run") or entry.body["checkpoint"]["run"])))
        return found

    def _failed(self, spec: RunSpec) -> str | None:
        """Why an evaluation job failed earlier; None where it did not."""
        folder = RunFolder(self._keeper.vault.runs_root / spec.id)
        if not folder.spec_file.exists():
            return None
        run = collect(folder)
        return run.failure.message if run.failure else None

    def _conclude(self) -> Iterator[KeepingEvent]:
        """Judge the checkpoints whose evaluations have ended, in the order in which they came."""
        keeper = self._keeper
        for checkpoint in [one for one, jobs in self._waiting.items() if not jobs]:
            del self._waiting[checkpoint]
            try:
                before = set(keeper.vault.registry.state().verdicts)
                verdict = keeper.judge(checkpoint, time.time())
                if verdict.id not in before:
                    yield Judged(verdict)
                if self._promotes and self._ready(verdict):
                    yield Advanced(verdict.deployment, checkpoint, keeper.advance(verdict))
            except WindlassError as error:
                yield EvaluationFailed("", "", checkpoint, error.message)

    def _ready(self, verdict: Verdict) -> bool:
        """Whether a verdict lets its challenger serve, and still waits for its first step."""
        if verdict.ruling is not Ruling.PROMOTE:
            return False
        line = self._keeper.vault.registry.state().deployment(verdict.deployment)
        return line.champion == verdict.champion and line.stages.get(verdict.challenger) is Stage.EVALUATED
