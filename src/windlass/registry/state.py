"""The registry's state, folded from its log. ``State.apply`` is the one place that says which changes are allowed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from windlass.errors import NotFound, StateError, nearest
from windlass.records.audit import GENESIS, ChangeKind, Entry
from windlass.records.checkpoint import Checkpoint
from windlass.records.content import digest
from windlass.records.deployment import (
    ROLLBACK_STEPS,
    SWITCH,
    Deployment,
    Rollback,
    Stage,
    StepState,
    Tenure,
)
from windlass.records.evaluation import Evaluation
from windlass.records.gate import GatePolicy
from windlass.records.verdict import Ruling, Verdict

ON_THE_WAY = (Stage.SHADOW, Stage.CANARY)
#: where a checkpoint can be sent to, short of serving
STEPS = (*ON_THE_WAY, Stage.REJECTED, Stage.ROLLED_BACK)


class State:
    """What is known after ``sequence`` entries. Read it; only the log changes it."""

    def __init__(self) -> None:
        self.sequence = 0
        self.hash = GENESIS
        self.checkpoints: dict[str, Checkpoint] = {}  #: by id, those without bytes included
        self.runs: dict[str, list[str]] = {}  #: checkpoint id -> runs that gave these bytes; the first made it
        self.removed: dict[str, float] = {}  #: checkpoint id -> when its bytes were removed
        self.evaluations: dict[str, Evaluation] = {}  #: by id
        self.verdicts: dict[str, Verdict] = {}  #: by id
        self.deployments: dict[str, Deployment] = {}  #: by name
        self.rollbacks: dict[str, Rollback] = {}  #: by id
        self.policies: dict[str, tuple[GatePolicy, Path]] = {}  #: by fingerprint; with the folder its paths start from

    def copy(self) -> State:
        """The same, to be folded further while this one stays."""
        other = State()
        for name, value in vars(self).items():
            setattr(other, name, dict(value) if isinstance(value, dict) else value)
        return other

    # Reading -----------------------------------------------------------------------------------------------------

    def checkpoint(self, reference: str) -> Checkpoint:
        """By id, digest, or a part that only one checkpoint has. Raises NotFound with the nearest ones."""
        if found := self.checkpoints.get(reference):
            return found
        matches = [c for c in self.checkpoints.values() if reference and c.digest.startswith(reference.lower())]
        matches = matches or [c for c in self.checkpoints.values() if reference and reference in c.run]
        if len(matches) == 1:
            return matches[0]
        if matches:
            some = ", ".join(c.id for c in matches[:6])
            raise NotFound(f"{reference!r} is {len(matches)} checkpoints: {some}", "Write more of the one you mean.")
        raise NotFound(
            f"no checkpoint {reference!r}.{nearest(reference, self.checkpoints)}", "windlass checkpoints list"
        )

    def made_by(self, run: str) -> Checkpoint | None:
        """The checkpoint whose bytes a run gave."""
        return next((self.checkpoints[one] for one, runs in self.runs.items() if run in runs), None)

    def deployment(self, name: str) -> Deployment:
        """Raises NotFound with the nearest name."""
        if name not in self.deployments:
            known = f"Known: {', '.join(sorted(self.deployments))}" if self.deployments else "windlass promote NAME ID"
            raise NotFound(f"no deployment {name!r}.{nearest(name, self.deployments)}", known)
        return self.deployments[name]

    def evaluations_of(self, checkpoint: str, benchmark: str | None = None) -> list[Evaluation]:
        """Newest last."""
        found = [e for e in self.evaluations.values() if e.checkpoint == checkpoint]
        return [e for e in found if benchmark in (None, e.benchmark)]

    def verdicts_of(self, deployment: str, challenger: str | None = None) -> list[Verdict]:
        """Newest last."""
        found = [v for v in self.verdicts.values() if v.deployment == deployment]
        return [v for v in found if challenger in (None, v.challenger)]

    def policy_of(self, deployment: str) -> tuple[GatePolicy, Path]:
        """The policy of the newest verdict, and the folder that its paths start from. Raises NotFound."""
        verdicts = self.verdicts_of(self.deployment(deployment).name)
        if not verdicts:
            raise NotFound(f"nothing was judged for deployment {deployment!r} yet", "windlass promote NAME ID")
        return self.policies[verdicts[-1].policy]

    def stages_of(self, checkpoint: str) -> dict[str, Stage]:
        """Where a checkpoint stands, by deployment."""
        lines = self.deployments.values()
        return {line.name: line.stages[checkpoint] for line in lines if checkpoint in line.stages}

    def may_return(self, line: Deployment, checkpoint: str) -> bool:
        """Whether a rollback may lead to a checkpoint: it served, or its newest verdict lets it."""
        if any(tenure.checkpoint == checkpoint for tenure in line.tenures):
            return True
        verdicts = self.verdicts_of(line.name, checkpoint)
        passed = bool(verdicts) and verdicts[-1].ruling is Ruling.PROMOTE
        return passed and line.stages.get(checkpoint) is Stage.EVALUATED

    def open_rollback(self, deployment: str) -> Rollback | None:
        return next((r for r in self.rollbacks.values() if r.deployment == deployment and r.open), None)

    def held_by(self, checkpoint: str) -> str:
        """Why a checkpoint's bytes have to stay, or an empty string."""
        for line in self.deployments.values():
            stage = line.stages.get(checkpoint)
            if stage is Stage.CHAMPION or stage in ON_THE_WAY:
                return f"it is {stage} of {line.name}"
        for rollback in self.rollbacks.values():
            if rollback.open and checkpoint in (rollback.source, rollback.target):
                return f"a rollback of {rollback.deployment} is under way"
        return ""

    # Folding -----------------------------------------------------------------------------------------------------

    def apply(self, entry: Entry) -> None:
        """Take an entry in. Raises StateError where it does not follow or is not allowed; then nothing has changed."""
        if (entry.sequence, entry.previous) != (self.sequence + 1, self.hash):
            raise StateError(f"entry {entry.sequence} does not follow entry {self.sequence}", "windlass audit verify")
        try:
            self._take(entry)
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise StateError(
                f"the {entry.kind} entry of {entry.subject} is not of the shape it should have: {error!r}",
                "windlass audit verify",
            ) from error
        if line := self.deployments.get(entry.subject):
            self.deployments[line.name] = replace(line, sequence=entry.sequence)
        self.sequence, self.hash = entry.sequence, entry.hash

    # Every method below checks first and changes afterwards; values are replaced, never changed: copies share them.

    def _take(self, entry: Entry) -> None:
        match entry.kind:
            case ChangeKind.REGISTERED:
                self._registered(entry, Checkpoint.from_dict(entry.body["checkpoint"]))
            case ChangeKind.REPRODUCED:
                self._made(self._known(entry.subject).id, str(entry.body["run"]))
            case ChangeKind.EVALUATED:
                self._evaluated(entry, Evaluation.from_dict(entry.body["evaluation"]))
            case ChangeKind.JUDGED:
                self._judged(entry, Verdict.from_dict(entry.body["verdict"]))
            case ChangeKind.STAGED:
                self._staged(entry)
            case ChangeKind.PROMOTED:
                self._promoted(entry)
            case ChangeKind.PLANNED:
                self._planned(entry, Rollback.from_dict(entry.body["rollback"]))
            case ChangeKind.STEPPED:
                self._stepped(entry)
            case ChangeKind.REMOVED:
                self._removed(entry)

    def _known(self, checkpoint: str) -> Checkpoint:
        """A checkpoint whose bytes are kept."""
        if checkpoint not in self.checkpoints:
            raise StateError(f"checkpoint {checkpoint} is not registered", "windlass checkpoints list")
        if checkpoint in self.removed:
            raise StateError(
                f"the bytes of checkpoint {checkpoint} were removed", f"windlass audit show --checkpoint {checkpoint}"
            )
        return self.checkpoints[checkpoint]

    def _line(self, name: str) -> Deployment:
        """A deployment that something was judged for."""
        if name not in self.deployments:
            raise StateError(f"nothing was judged for deployment {name!r} yet", f"windlass promote {name} ID")
        return self.deployments[name]

    def _registered(self, entry: Entry, checkpoint: Checkpoint) -> None:
        _check_subject(entry, checkpoint.id)
        if checkpoint.id in self.checkpoints and checkpoint.id not in self.removed:
            raise StateError(f"checkpoint {checkpoint.id} is registered", f"windlass checkpoints show {checkpoint.id}")
        self.removed.pop(checkpoint.id, None)
        self.checkpoints[checkpoint.id] = checkpoint
        self._made(checkpoint.id, checkpoint.run)

    def _made(self, checkpoint: str, run: str) -> None:
        self.runs[checkpoint] = list(dict.fromkeys([*self.runs.get(checkpoint, ()), run]))

    def _evaluated(self, entry: Entry, evaluation: Evaluation) -> None:
        _check_subject(entry, self._known(evaluation.checkpoint).id)
        if evaluation.id in self.evaluations:
            raise StateError(
                f"evaluation {evaluation.id} is on record", f"windlass checkpoints show {evaluation.checkpoint}"
            )
        self.evaluations[evaluation.id] = evaluation

    def _judged(self, entry: Entry, verdict: Verdict) -> None:
        challenger, show = verdict.challenger, f"windlass audit show --checkpoint {verdict.challenger}"
        self._known(challenger)
        _check_subject(entry, verdict.deployment)
        policy = GatePolicy.model_validate(entry.body["policy"])
        if (policy.deployment, digest(entry.body["policy"])) != (verdict.deployment, verdict.policy):
            raise StateError(f"verdict {verdict.id} was not given by the policy beside it", "windlass audit verify")
        line = self.deployments.get(verdict.deployment) or Deployment(name=verdict.deployment)
        if verdict.id in self.verdicts:
            raise StateError(f"verdict {verdict.id} is on record", show)
        if challenger == line.champion:
            raise StateError(f"{challenger} serves as {line.name} already", f"windlass deployments show {line.name}")
        if verdict.champion != line.champion:
            raise StateError(
                f"{challenger} was judged against {verdict.champion or 'nothing'}, and"
                f" {line.champion or 'nothing'} serves as {line.name}",
                f"windlass promote {line.name} {challenger}",
            )
        self._check_evidence(verdict)
        way = [(one.policy, one.stages) for one in self.verdicts_of(line.name, challenger)[-1:]]
        goes_on = verdict.ruling is Ruling.PROMOTE and way == [(verdict.policy, verdict.stages)]
        stage = _stage_after(line.stages.get(challenger), verdict.ruling, goes_on)
        self.verdicts[verdict.id] = verdict
        self.policies[verdict.policy] = (policy, Path(entry.body["folder"]))
        share = line.share if challenger != line.challenger or stage in ON_THE_WAY else 0.0
        self.deployments[line.name] = replace(line, stages={**line.stages, challenger: stage}, share=share)

    def _check_evidence(self, verdict: Verdict) -> None:
        scored = [self.evaluations[one].checkpoint if one in self.evaluations else "" for one in verdict.evaluations]
        if not {verdict.challenger, verdict.champion}.issuperset(scored):
            raise StateError(
                f"verdict {verdict.id} names evaluations that neither side of it has on record", "windlass audit verify"
            )
        if verdict.ruling is Ruling.PROMOTE and verdict.challenger not in scored:
            raise StateError(
                f"verdict {verdict.id} lets {verdict.challenger} serve without an evaluation of it",
                f"windlass evaluate {verdict.challenger}",
            )

    def _staged(self, entry: Entry) -> None:
        body, line = entry.body, self._line(entry.subject)
        checkpoint, stage = self._known(str(body["checkpoint"])).id, Stage(body["stage"])
        before, show = line.stages.get(checkpoint), f"windlass deployments show {line.name}"
        if stage not in STEPS or before is Stage.CHAMPION:
            raise StateError(
                f"{checkpoint} is {before or 'no part'} of {line.name}; it cannot become {stage} this way", show
            )
        share = line.share if checkpoint != line.challenger else 0.0
        if stage in ON_THE_WAY:
            self._check_way(line, checkpoint, stage, body)
            share = float(body.get("share") or 0.0)
            if not (0 < share < 1 if stage is Stage.CANARY else share == 0):
                raise StateError(
                    f"{checkpoint} cannot serve a share of {share:g} of keys in {stage} of {line.name}", show
                )
        if before is stage and share <= line.share:  # two processes came to the same step, and this one is the second
            raise StateError(f"{checkpoint} is {stage} of {line.name} already", show)
        began = int(body.get("outcomes") or 0) if stage in ON_THE_WAY else line.trial_from
        stages = {**line.stages, checkpoint: stage}
        self.deployments[line.name] = replace(line, stages=stages, share=share, trial_from=began)

    def _check_way(self, line: Deployment, checkpoint: str, stage: Stage, body: Mapping[str, Any]) -> None:
        self._check_free(line)
        verdict = self._passed(line, checkpoint, body.get("verdict"))
        if stage not in verdict.stages:
            raise StateError(
                f"verdict {verdict.id} leads through {', '.join(verdict.stages) or 'no stage'}, not {stage}",
                f"windlass promote {line.name} {checkpoint}",
            )
        if line.challenger not in (None, checkpoint):
            raise StateError(
                f"{line.challenger} is {line.stages[line.challenger or '']} of {line.name}; one challenger at a time",
                f"windlass deployments show {line.name}",
            )
        place = verdict.stages.index(stage)
        needed = Stage(verdict.stages[place - 1]) if place else Stage.EVALUATED
        if line.stages.get(checkpoint) is not stage:
            self._check_stage(line, checkpoint, needed)

    def _check_stage(self, line: Deployment, checkpoint: str, needed: Stage) -> None:
        stage = line.stages.get(checkpoint, Stage.CANDIDATE)
        if stage is needed:
            return
        if stage in (Stage.REJECTED, Stage.ROLLED_BACK, Stage.RETIRED):
            raise StateError(
                f"{checkpoint} is {stage} of {line.name} since that verdict: only a new one lets it serve again",
                f"windlass evaluate {checkpoint} --again",
            )
        raise StateError(
            f"{checkpoint} is {stage} of {line.name}; it has to come through {needed}",
            f"windlass deployments show {line.name}",
        )

    def _check_free(self, line: Deployment) -> None:
        if rollback := self.open_rollback(line.name):
            raise StateError(
                f"deployment {line.name} is frozen: rollback {rollback.id} to {rollback.target} is under way",
                f"windlass rollback {line.name}",
            )

    def _passed(self, line: Deployment, checkpoint: str, verdict_id: Any) -> Verdict:
        """The verdict that lets a checkpoint serve: the newest one on it, against what serves now."""
        again = f"windlass promote {line.name} {checkpoint}"
        verdicts = self.verdicts_of(line.name, checkpoint)
        verdict = next((one for one in verdicts if one.id == verdict_id), None)
        if verdict is None:
            raise StateError(f"no verdict lets {checkpoint} serve as {line.name}", again)
        if verdict.ruling is not Ruling.PROMOTE:
            raise StateError(
                f"the verdict on {checkpoint} is {verdict.ruling}: it cannot serve as {line.name}",
                f"windlass audit show --checkpoint {checkpoint}",
            )
        if verdict.champion != line.champion:
            raise StateError(
                f"{checkpoint} was judged against {verdict.champion or 'nothing'}; meanwhile"
                f" {line.champion or 'nothing'} serves as {line.name}: another promotion came first",
                again,
            )
        if verdict is not verdicts[-1]:
            raise StateError(
                f"verdict {verdict.id} on {checkpoint} was followed by {verdicts[-1].id}: {verdicts[-1].ruling}",
                f"windlass audit show --checkpoint {checkpoint}",
            )
        return verdict

    def _promoted(self, entry: Entry) -> None:
        body, line = entry.body, self._line(entry.subject)
        checkpoint = self._known(str(body["checkpoint"])).id
        if body["previous"] != line.champion:
            raise StateError(
                f"{line.champion or 'nothing'} serves as {line.name}, not {body['previous'] or 'nothing'}:"
                " another promotion came first",
                f"windlass deployments show {line.name}",
            )
        if checkpoint == line.champion:
            raise StateError(f"{checkpoint} serves as {line.name} already", f"windlass deployments show {line.name}")
        left = Stage.RETIRED
        if body["rollback"] is not None:
            self._check_switch(line, checkpoint, str(body["rollback"]))
            if line.stages.get(checkpoint) is not Stage.ROLLED_BACK:  # one that is rolled forward again was no way back
                left = Stage.ROLLED_BACK
        else:
            self._check_free(line)
            verdict = self._passed(line, checkpoint, body["verdict"])
            self._check_stage(line, checkpoint, Stage(verdict.stages[-1]) if verdict.stages else Stage.EVALUATED)
        stages = {one: Stage.EVALUATED if stage in ON_THE_WAY else stage for one, stage in line.stages.items()}
        stages |= {line.champion: left} if line.champion else {}
        tenure = Tenure(
            checkpoint=checkpoint,
            since=entry.at,
            because=str(body.get("reason", "")),
            verdict=body["verdict"],
            rollback=body["rollback"],
            outcomes_from=int(body.get("outcomes") or 0),
        )
        past = (*line.tenures[:-1], *(replace(last, until=entry.at) for last in line.tenures[-1:]))
        self.deployments[line.name] = replace(
            line, tenures=(*past, tenure), stages={**stages, checkpoint: Stage.CHAMPION}, share=0.0
        )

    def _check_switch(self, line: Deployment, checkpoint: str, rollback_id: str) -> None:
        rollback = self.rollbacks.get(rollback_id)
        if rollback is None or not rollback.open or (rollback.deployment, rollback.target) != (line.name, checkpoint):
            raise StateError(
                f"no rollback {rollback_id} of {line.name} to {checkpoint} is under way",
                f"windlass deployments show {line.name}",
            )
        if rollback.steps[SWITCH] is not StepState.STARTED:
            raise StateError(
                f"rollback {rollback.id} has not come to its switch: {checkpoint} cannot serve as {line.name} yet",
                f"windlass rollback {line.name}",
            )

    def _planned(self, entry: Entry, rollback: Rollback) -> None:
        _check_subject(entry, rollback.deployment)
        line = self._line(rollback.deployment)
        self._check_free(line)
        self._known(rollback.target)
        if rollback.source != line.champion or rollback.target == line.champion:
            raise StateError(
                f"the rollback leads from {rollback.source} to {rollback.target}, and {line.champion or 'nothing'}"
                f" serves as {line.name}",
                f"windlass rollback {line.name} --plan",
            )
        if not self.may_return(line, rollback.target):
            raise StateError(
                f"{rollback.target} never served as {line.name}, and no verdict allows it to",
                f"windlass promote {line.name} {rollback.target}",
            )
        if rollback.id in self.rollbacks or rollback.notes or set(rollback.steps.values()) != {StepState.WAITING}:
            raise StateError(f"rollback {rollback.id} is no new plan", f"windlass rollback {line.name} --plan")
        self.rollbacks[rollback.id] = rollback
        self.deployments[line.name] = replace(line, frozen=rollback.id)

    def _stepped(self, entry: Entry) -> None:
        body = entry.body
        rollback = self.rollbacks.get(str(body["rollback"]))
        step, state = str(body["step"]), StepState(body["state"])
        if rollback is None or not rollback.open or step not in ROLLBACK_STEPS:
            raise StateError(
                f"no rollback {body['rollback']} is under way that has a step {step!r} to take",
                f"windlass deployments show {entry.subject}",
            )
        _check_subject(entry, rollback.deployment)
        line = self._line(rollback.deployment)
        before = ROLLBACK_STEPS[: ROLLBACK_STEPS.index(step)]
        now = rollback.steps[step]
        allowed = {StepState.STARTED: (StepState.WAITING, StepState.STARTED)}.get(state, (StepState.STARTED,))
        unfinished = any(rollback.steps[one] is not StepState.DONE for one in before)
        untrue = step == SWITCH and (state is StepState.DONE) != (line.champion == rollback.target)
        if state is StepState.WAITING or now not in allowed or unfinished or untrue:
            raise StateError(
                f"step {step} of rollback {rollback.id} is {now}; it cannot be {state} now",
                f"windlass rollback {line.name}",
            )
        note = str(body.get("note", ""))
        rollback = replace(
            rollback,
            steps={**rollback.steps, step: state},
            notes=(*rollback.notes, f"{step}: {note}") if note else rollback.notes,
        )
        self.rollbacks[rollback.id] = rollback
        self.deployments[line.name] = replace(line, frozen=rollback.id if rollback.open else None)

    def _removed(self, entry: Entry) -> None:
        checkpoint = self._known(entry.subject)
        if why := self.held_by(checkpoint.id):
            raise StateError(f"checkpoint {checkpoint.id} stays: {why}", "windlass checkpoints gc")
        self.removed[checkpoint.id] = entry.at


def _check_subject(entry: Entry, subject: str) -> None:
    if entry.subject != subject:
        raise StateError(f"the {entry.kind} entry is about {subject}, not {entry.subject}", "windlass audit verify")


def _stage_after(stage: Stage | None, ruling: Ruling, goes_on: bool) -> Stage:
    """Where a verdict leaves a challenger. In shadow or canary it stays while it goes on under the same policy; what
    served, or was rolled back, is moved by a promotion's alone.
    """
    if stage in ON_THE_WAY and goes_on:
        return Stage(stage)
    if stage in (Stage.RETIRED, Stage.ROLLED_BACK) and ruling is not Ruling.PROMOTE:
        return Stage(stage)
    return Stage.REJECTED if ruling is Ruling.KEEP else Stage.EVALUATED
