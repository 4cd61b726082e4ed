"""The keeping side as people reach it: evaluate, promote, route, watch, roll back, verify, clear up."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from windlass.errors import JobError, LabBusy, NotFound, StateError, StudyError, nearest
from windlass.jobs.collect import collect
from windlass.lab.hands import LabHands, OnEvent, person, tell
from windlass.lab.lock import exclusive, holder
from windlass.lab.tending import Tending
from windlass.loop.keeping import (
    Advanced,
    Evaluated,
    Evaluating,
    EvaluationFailed,
    Judged,
    Keeper,
    Vault,
)
from windlass.records.checkpoint import Checkpoint
from windlass.records.deployment import Role, Rollback, Served, Stage
from windlass.records.evaluation import Evaluation
from windlass.records.gate import Benchmark, GatePolicy
from windlass.records.lineage import Lineage, NodeKind
from windlass.records.run import RunRecord, RunSpec, Status
from windlass.records.study import Study
from windlass.records.verdict import Verdict
from windlass.registry import audit, housekeeping, rollback
from windlass.registry.blobs import Blobs
from windlass.registry.evaluating import EVALUATES, data_path, import_evaluation, training_of
from windlass.registry.lineage import lineage
from windlass.registry.mirror import Mirror
from windlass.registry.outcomes import Tally
from windlass.registry.pointer import clear_leftovers
from windlass.registry.register import PARENT, register
from windlass.registry.routing import Route, Router
from windlass.registry.sql import SqlRegistry
from windlass.registry.state import State
from windlass.registry.tending import Findings
from windlass.registry.wilson import Bounds, wilson
from windlass.report.card import Card
from windlass.report.keeping import GateHistory
from windlass.runs.folder import RunFolder, write_atomic

if TYPE_CHECKING:
    from windlass.lab.lab import Lab


class Keeping:
    """Of one lab; ``Lab.keeping``."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._routers: dict[str, Router] = {}
        self._tending = Tending(self)

    @cached_property
    def vault(self) -> Vault:
        lab = self._lab
        return Vault(
            registry=SqlRegistry(lab.store.database),
            blobs=Blobs(lab.path / "blobs" / "sha256"),
            mirror=Mirror(lab.path / "registry.jsonl"),
            store=lab.store,
            runs_root=lab.runs_root,
            deployments=lab.path / "deployments",
        )

    @property
    def state(self) -> State:
        return self.vault.registry.state()

    @property
    def blobs(self) -> Blobs:
        return self.vault.blobs

    # Checkpoints -------------------------------------------------------------------------------------------------

    def register(self, run_id: str) -> Checkpoint:
        """Keep what a completed run left. Doing it again changes nothing."""
        run = self._lab.get(run_id)
        made = register(self.vault.registry, self.blobs, run, self._lab.folder(run.id), actor=person())
        self.vault.settle()
        return made

    def differences(self, a: str, b: str) -> housekeeping.Differences:
        state = self.state
        return housekeeping.differences(state, self.blobs, state.checkpoint(a).id, state.checkpoint(b).id)

    def export(self, checkpoint: str, target: Path, on_bytes: Callable[[int], None] | None = None) -> Path:
        """Copy a checkpoint's files, verified, into a new folder."""
        found = self._kept(checkpoint)
        self.blobs.export(found.digest, target, on_bytes)
        return target

    def _kept(self, reference: str) -> Checkpoint:
        """A checkpoint that can be used. Raises NotFound, and StateError where its bytes were removed."""
        found = self.state.checkpoint(reference)
        if found.id in self.state.removed:
            raise StateError(
                f"the bytes of checkpoint {found.id} were removed", f"windlass checkpoints register {found.run}"
            )
        return found

    def gc_plan(self) -> housekeeping.GcPlan:
        """What nothing refers to, and what removing it would free."""
        self._lab.sync()
        state = self.state
        active = self._lab.store.search("status IN ('pending', 'queued', 'running')")
        named = {run.lineage.get(by): f"run {run.id} uses it" for run in active for by in (EVALUATES, PARENT)}
        return housekeeping.gc_plan(
            state, self.blobs, {one: why for one, why in named.items() if one in state.checkpoints}
        )

    def gc(self, plan: housekeeping.GcPlan) -> tuple[housekeeping.Item, ...]:
        """Remove what a plan names, and return what was removed: what came into use meanwhile stays."""
        removed = housekeeping.gc(self.vault.registry, self.blobs, plan, actor=person())
        self.vault.settle()
        return removed

    # Evaluations -------------------------------------------------------------------------------------------------

    def evaluate(
        self,
        checkpoint: str,
        policy: Path | None = None,
        benchmarks: Sequence[str] = (),
        *,
        again: bool = False,
        on_event: OnEvent | None = None,
    ) -> list[Evaluation]:
        """Run the evaluations that the gate needs and that are not there: of a checkpoint, and of what serves.

        ``again`` evaluates the checkpoint anew. Raises JobError where an evaluation fails.
        """
        found = self._kept(checkpoint)
        keeper = self._keeper(policy, checkpoint=found)
        return self._evaluate(keeper, found, benchmarks, again, on_event)

    def _evaluate(
        self, keeper: Keeper, checkpoint: Checkpoint, benchmarks: Sequence[str], again: bool, on_event: OnEvent | None
    ) -> list[Evaluation]:
        known = [benchmark.name for benchmark in keeper.policy.benchmarks]
        for name in benchmarks:
            if name not in known:
                raise NotFound(
                    f"the policy has no benchmark {name!r}.{nearest(name, known)}", f"Known: {', '.join(known)}"
                )
        wanted = keeper.wanted(checkpoint, time.time(), again=again)
        jobs = [self.next_try(keeper, b, spec) for b, spec in wanted if b.name in (benchmarks or known)]
        made, failed = [], []
        for spec in self.run_jobs(jobs, on_event):
            outcome = keeper.collect(spec.id)
            if isinstance(outcome, Evaluation):
                made.append(outcome)
                tell(on_event, Evaluated(outcome))
            else:
                failed.append(outcome)
                tell(on_event, outcome)
        self.vault.settle()
        if failed:
            first: EvaluationFailed = failed[0]
            raise JobError(
                f"evaluation of {first.checkpoint} on {first.benchmark!r} failed: {first.why}",
                f"windlass runs show {first.run}",
            )
        return made

    def next_try(self, keeper: Keeper, benchmark: Benchmark, spec: RunSpec) -> RunSpec:
        """The same job, or where it failed or was cancelled before, the next try of it."""
        checkpoint = self.state.checkpoints[spec.lineage[EVALUATES]]
        while (folder := RunFolder(self._lab.runs_root / spec.id)).spec_file.exists():
            status = collect(folder).status
            if status is Status.COMPLETED or not status.terminal:
                break
            spec = keeper.spec(benchmark, checkpoint, f"again {spec.id}")
        return spec

    def run_jobs(self, specs: Sequence[RunSpec], on_event: OnEvent | None) -> Iterator[RunSpec]:
        """Run jobs to their end, one at a time; an interrupt cancels them."""
        from windlass.jobs.local import LocalExecutor
        from windlass.jobs.protocol import JobEventKind

        by_id = {spec.id: spec for spec in specs}
        if not by_id:
            return
        with closing(LocalExecutor(self._lab.runs_root, 1)) as executor:
            executor.submit(list(by_id.values()))
            try:
                while by_id:
                    for event in executor.wait():
                        spec = by_id.get(event.run_id)
                        if spec is None:
                            continue
                        if event.kind is JobEventKind.STARTED:
                            tell(on_event, Evaluating(spec.id, spec.lineage["benchmark"], spec.lineage[EVALUATES]))
                        else:
                            yield by_id.pop(event.run_id)
            except KeyboardInterrupt:
                for run_id in by_id:
                    executor.cancel(run_id, "interrupted")
                raise

    def import_evaluation(self, file: Path, policy: Path | None = None) -> Evaluation:
        """Take in scores that were made elsewhere; they stay marked as such.

        Where a policy names the benchmark and its data are the ones that were scored, leakage is counted as always.
        """
        at = time.time()
        with self.blobs.adding():
            made = import_evaluation(file, self.state, self.blobs, at=at)
            checkpoint = self.state.checkpoints[made.checkpoint]
            try:
                chosen, folder = self._policy(policy, None, checkpoint)
            except NotFound:
                chosen = None
            benchmark = next((b for b in chosen.benchmarks if b.name == made.benchmark), None) if chosen else None
            if benchmark is not None:
                training = training_of(checkpoint, self.state, self.vault.store.run, self._lab.runs_root)
                data = data_path(benchmark, folder)
                made = import_evaluation(file, self.state, self.blobs, at=at, data=data, training=training)
            self.vault.enter(made, person())
        self.vault.settle()
        return made

    # Promotion ---------------------------------------------------------------------------------------------------

    def promote(
        self, deployment: str, checkpoint: str, policy: Path | None = None, *, on_event: OnEvent | None = None
    ) -> tuple[Verdict, Stage]:
        """Evaluate what is missing, judge, and take the next step towards serving.

        Raises GateRefused on any verdict but promote, StateError where another promotion came first.
        """
        found = self._kept(checkpoint)
        keeper = self._keeper(policy, deployment, found)
        self.vault.settle()
        self._evaluate(keeper, found, (), False, on_event)
        verdict = keeper.judge(found.id, time.time())
        tell(on_event, Judged(verdict))
        stage = keeper.advance(verdict)
        self.settle()
        tell(on_event, Advanced(deployment, found.id, stage))
        return verdict, stage

    def _keeper(
        self, policy: Path | None, deployment: str | None = None, checkpoint: Checkpoint | None = None
    ) -> Keeper:
        chosen, folder = self._policy(policy, deployment, checkpoint)
        if deployment not in (None, chosen.deployment):
            raise StudyError(
                f"the policy is for deployment {chosen.deployment!r}, not {deployment!r}",
                f"windlass promote {chosen.deployment} {checkpoint.id if checkpoint else 'ID'}",
            )
        return Keeper(vault=self.vault, policy=chosen, folder=folder, actor=person())

    def _policy(
        self, file: Path | None, deployment: str | None, checkpoint: Checkpoint | None
    ) -> tuple[GatePolicy, Path]:
        """A file's, else the one by which the deployment was judged last, else that of the checkpoint's study.

        Where no deployment is named and the lab has one alone, that one's.
        """
        if file is not None:
            from windlass.lab.policy import load_policy

            return load_policy(file)
        if deployment is not None and self.state.deployments.get(deployment):
            return self.state.policy_of(deployment)
        if checkpoint is not None and checkpoint.study is not None:
            record = self._lab.study(checkpoint.study)
            gate = Study.model_validate(record.definition).gate
            if gate is not None:
                return gate, Path(record.folder)
        if deployment is None and len(self.state.deployments) == 1:
            return self.state.policy_of(*self.state.deployments)
        raise NotFound(
            "no policy says what a checkpoint has to show to serve",
            "windlass promote NAME ID --policy gate.yaml; docs/study.md has an example",
        )

    # Serving -----------------------------------------------------------------------------------------------------

    def pointer_file(self, deployment: str) -> Path:
        return self.vault.deployments / f"{deployment}.json"

    def route(self, deployment: str, key: str | bytes) -> Route:
        """Which checkpoint answers a request; the same key goes the same way."""
        router = self._routers.get(deployment)
        if router is None:
            router = self._routers[deployment] = Router(self.pointer_file(deployment))
        return router.route(key)

    def observe(self, deployment: str, served: Sequence[Served]) -> list[str]:
        """Record what became of answers, and act on it; returns what was done, in words."""
        return self._tending.observe(deployment, served)

    def tend(self, deployment: str) -> list[str]:
        """Act on what others recorded: the challenger's next step, and under ``act: auto`` a rollback; in words."""
        return self._tending.tend(deployment)

    def findings(self, deployment: str) -> Findings:
        """What the outcomes so far ask for; nothing is done about it."""
        return self._tending.findings(deployment)

    def tallies(self, deployment: str) -> Mapping[tuple[str, Role], Tally]:
        """Outcomes counted by (checkpoint id, role)."""
        return self._tending.tallies(deployment)

    @staticmethod
    def interval(count: int, answers: int) -> Bounds:
        """95 % Wilson interval of a share of answers."""
        return wilson(count, answers, 0.025)

    # Rollback ----------------------------------------------------------------------------------------------------

    def plan_rollback(
        self, deployment: str, to: str | None = None, *, forward: bool = False, reason: str = ""
    ) -> Rollback:
        """What a rollback would do; nothing is recorded. ``forward`` returns to what the last rollback left."""
        return rollback.plan(
            self.vault.registry,
            deployment,
            self.vault.derive,
            LabHands(self, None),
            target=self._left_last(deployment) if forward else to,
            reason=reason or ("rolled forward" if forward else "asked for by a person"),
            at=time.time(),
        )

    def _left_last(self, deployment: str) -> str:
        line = self.state.deployment(deployment)
        for tenure in reversed(line.tenures):
            if tenure.rollback is not None:
                return self.state.rollbacks[tenure.rollback].source
        raise NotFound(f"{deployment} was never rolled back: there is no way forward", "windlass audit show")

    def rollback(
        self,
        deployment: str,
        to: str | None = None,
        *,
        forward: bool = False,
        reason: str = "",
        on_event: OnEvent | None = None,
        evidence: Mapping[str, object] | None = None,
        actor: str | None = None,
    ) -> Rollback:
        """Plan and execute; a rollback that a kill interrupted is finished first, and is the answer.

        One whose target is damaged or fails its smoke evaluation ends ``failed``: what serves stays.
        Raises LabBusy where another process executes one.
        """
        who = actor or person()
        with self._alone(deployment):
            self.vault.settle()
            planned = self.state.open_rollback(deployment)
            if planned is not None and to is not None and self.state.checkpoint(to).id != planned.target:
                raise StateError(
                    f"a rollback of {deployment} to {planned.target} is under way", f"windlass rollback {deployment}"
                )
            if planned is None:
                planned = self.plan_rollback(deployment, to, forward=forward, reason=reason)
                planned = replace(planned, evidence={**planned.evidence, **(evidence or {})})
                planned = rollback.begin(self.vault.registry, planned, actor=who)
            ended = rollback.execute(self.vault.registry, planned, LabHands(self, on_event), actor=who)
            self.settle()
        return ended

    def abandon(self, deployment: str, *, reason: str, on_event: OnEvent | None = None) -> Rollback:
        """Undo an open rollback instead of finishing it: what serves stays. Raises NotFound, and StateError after its
        switch.
        """
        with self._alone(deployment):
            planned = self.state.open_rollback(deployment)
            if planned is None:
                raise NotFound(f"no rollback of {deployment} is under way", f"windlass deployments show {deployment}")
            hands = LabHands(self, on_event)
            return rollback.abandon(self.vault.registry, planned, hands, reason=reason, actor=person())

    def resume(self, on_event: OnEvent | None = None) -> None:
        """Finish what a kill interrupted: pointers follow the log, open rollbacks go on, halves are cleared away.

        A rollback that another process executes is left to it.
        """
        self.settle()
        self.clear_leftovers()
        for name in list(self.state.deployments):
            if self.state.open_rollback(name) is not None:
                with suppress(LabBusy):
                    self.rollback(name, on_event=on_event)

    def settle(self) -> None:
        """Let everything on disk follow the log: its copy, the pointers, and the model card of what serves."""
        self.vault.settle()
        for line in self.state.deployments.values():
            if line.champion is not None:
                path, card = self.vault.deployments / f"{line.name}.card.md", self.card(line.champion).encode()
                if not path.exists() or path.read_bytes() != card:
                    write_atomic(path, card)

    def clear_leftovers(self) -> int:
        """Remove what killed processes left half made; how many files and folders that were."""
        return self.blobs.clear_leftovers() + clear_leftovers(self.vault.deployments)

    def rolling_back(self, deployment: str) -> int | None:
        """The pid of the process that executes a rollback now; or None."""
        return holder(self.vault.deployments, _lock_file(deployment))

    @contextmanager
    def _alone(self, deployment: str) -> Iterator[None]:
        self.state.deployment(deployment)
        self.vault.deployments.mkdir(exist_ok=True)
        with exclusive(self.vault.deployments, _lock_file(deployment), f"deployment {deployment} is being rolled back"):
            yield

    # Words -------------------------------------------------------------------------------------------------------

    def lineage(self, reference: str) -> Lineage:
        """What a checkpoint, run, evaluation, verdict or deployment comes from, and what came of it."""

        def exists(kind: NodeKind, name: str) -> bool:
            folder = self._lab.runs_root / name if kind is NodeKind.RUN else self.blobs.folder(name)
            return folder.is_dir()

        return lineage(self.state, reference, self._find_run, exists)

    def _find_run(self, run_id: str) -> RunRecord | None:
        try:
            return self._lab.store.run(run_id)
        except NotFound:
            return None

    def card(self, checkpoint: str) -> str:
        """A checkpoint's model card, as Markdown: what is on record, and nothing else."""
        state = self.state
        chosen = state.checkpoint(checkpoint)
        run = self._find_run(chosen.run)
        decision = self._lab.decision(run) if run is not None else None
        answers = self._lab.store.approvals(chosen.study) if chosen.study is not None else []
        studies = {record.name: record for record in self._lab.studies()}
        record = studies.get(chosen.study or "")
        return Card(
            checkpoint=chosen,
            sequence=state.sequence,
            hash=state.hash,
            description=str(record.definition.get("description", "")) if record is not None else "",
            runs=state.runs[chosen.id],
            removed=state.removed.get(chosen.id),
            decision=decision,
            approval=next((one for one in answers if one.number == chosen.number), None),
            evaluations=state.evaluations_of(chosen.id),
            verdicts=[verdict for verdict in state.verdicts.values() if verdict.challenger == chosen.id],
            policies={name: policy for name, (policy, _) in state.policies.items()},
            deployments=[line for line in state.deployments.values() if chosen.id in line.stages],
            rollbacks=[one for one in state.rollbacks.values() if chosen.id in (one.source, one.target)],
        ).markdown()

    def gate_history(self, study: Study) -> GateHistory | None:
        """For a study's report; None where it has no gate."""
        if study.gate is None:
            return None
        state, name = self.state, study.gate.deployment
        return GateHistory(
            study=study.name,
            policy=study.gate,
            verdicts=state.verdicts_of(name),
            deployment=state.deployments.get(name),
            checkpoints=state.checkpoints,
        )

    # Verification ------------------------------------------------------------------------------------------------

    def verify(
        self, checkpoint: str | None = None, on_bytes: Callable[[int], None] | None = None
    ) -> list[audit.Damage]:
        """Read kept bytes again: of all checkpoints and evaluations, or of one."""
        only = self.state.checkpoint(checkpoint).id if checkpoint is not None else None
        return audit.verify_bytes(self.state, self.blobs, on_bytes, only)

    def audit(
        self, expect: str | None = None, on_bytes: Callable[[int], None] | None = None, *, read_bytes: bool = True
    ) -> list[audit.Damage]:
        """Everything that is not as it was put on record: the log, its copy, pointers, bytes.

        ``expect`` is an anchor ``SEQUENCE:HASH`` that was noted down before.
        """
        for _ in range(2):  # what is written while both are read is in both the second time
            copied = list(self.vault.mirror.lines())
            lines = list(self.vault.registry.lines())
            differences = audit.compare_copies(lines, copied)
            if not differences:
                break
        state, damages = audit.verify_log(lines)
        sound = not damages
        damages += differences
        if expect is not None:
            damages += audit.compare_anchor(lines, expect)
        if sound:
            damages += audit.verify_pointers(state, self.vault.deployments)
        if read_bytes:
            damages += audit.verify_bytes(state, self.blobs, on_bytes)
        return damages


def _lock_file(deployment: str) -> str:
    """Held by whoever executes a rollback of it."""
    return f".{deployment}.lock"
