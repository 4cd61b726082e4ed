"""``windlass train``: a language model trained from preferences or from verifiable rewards, up to the gate."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from windlass.cli.given import VERIFIER_EXAMPLE, json_object, known_names, named_values
from windlass.cli.runs import LabOption
from windlass.cli.show import say
from windlass.errors import PreflightError
from windlass.records.decision import StudyStatus
from windlass.records.run import FailureKind

if TYPE_CHECKING:
    from windlass.lab import Event

app = typer.Typer(
    no_args_is_help=True,
    help="""Train a language model: tune, train, evaluate on held-out data, judge. One JSON line on stdout.

The same command on the same content is the same job: it goes on where it was interrupted, and repeats nothing.""",
)

DataOption = Annotated[Path, typer.Option("--data", help="A file, or a folder with train, validation and heldout.")]
ModelOption = Annotated[str, typer.Option("--model", help="The base model's folder, or its name on a hub.")]
BackendOption = Annotated[str | None, typer.Option("--backend", help="What trains; see above.")]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", "-s", metavar="NAME=VALUE", help="A hyper-parameter or an option; see above."),
]
TrialsOption = Annotated[int, typer.Option("--trials", min=0, help="Configurations to try besides the one asked for.")]
RepeatsOption = Annotated[
    int | None,
    typer.Option("--baseline-runs", min=1, help="Runs of the one asked for, to know the noise; 3 where any is tried."),
]
ValidationOption = Annotated[Path | None, typer.Option("--validation", help="Instead of a tenth of the data.")]
HeldoutOption = Annotated[Path | None, typer.Option("--heldout", help="Instead of a fifth of the data.")]
ConcurrentOption = Annotated[int, typer.Option("--concurrent", min=1, help="Runs at a time.")]
MinutesOption = Annotated[float | None, typer.Option("--minutes", min=0.01, help="Budget of one run.")]
TokensOption = Annotated[int | None, typer.Option("--tokens", min=1, help="Budget of one run.")]
MemoryOption = Annotated[str | None, typer.Option("--memory", help="Of one run, for example 8GiB.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0)]


#: options of the workloads that are arguments of the command, and that --set therefore does not take
GIVEN = {"data", "validation", "validation_share", "model", "profile", "minutes", "tokens"}


@app.command()
def rlvr(
    data: DataOption,
    model: ModelOption,
    profile: Annotated[str, typer.Option("--profile", help="The deployment it competes for.")] = "rlvr",
    backend: BackendOption = None,
    verifier: Annotated[
        str | None, typer.Option("--verifier", metavar="JSON|FILE", help="For tasks that name none.")
    ] = None,
    given: SetOption = None,
    trials: TrialsOption = 0,
    baseline_runs: RepeatsOption = None,
    validation: ValidationOption = None,
    heldout: HeldoutOption = None,
    concurrent: ConcurrentOption = 1,
    minutes: MinutesOption = None,
    tokens: TokensOption = None,
    memory: MemoryOption = None,
    seed: SeedOption = 0,
    lab: LabOption = None,
) -> None:
    """Reinforcement learning from verifiable rewards (GRPO).

    Backends: own (torch alone; the default) and trl (TRL's GRPOTrainer).

    Hyper-parameters: learning_rate, batch, generations, updates, kl, steps, temperature, clip, max_grad_norm. Of them
    learning_rate, batch and kl are tuned by --trials. Options: max_new_tokens, template, check (a second verifier, not
    trained on), check_every, check_tasks, save_every.

    [bold]Examples[/bold]

      windlass train rlvr --data tasks.jsonl --model base/ --profile solver
      windlass train rlvr --data tasks.jsonl --model base/ --trials 6 -s steps=300 -s learning_rate=1e-4
      windlass train rlvr --data tasks.jsonl --model base/ --verifier '{"kind": "numeric", "absolute": 0.01}'
    """
    options: dict[str, Any] = {"backend": backend} if backend else {}
    if verifier is not None:
        options["verifier"] = json_object("--verifier", verifier, VERIFIER_EXAMPLE)
    _train(
        "rlvr",
        lab,
        options,
        given or (),
        data=data,
        model=model,
        profile=profile,
        trials=trials,
        baseline_runs=baseline_runs,
        validation=validation,
        heldout=heldout,
        concurrent=concurrent,
        minutes=minutes,
        tokens=tokens,
        memory=memory,
        seed=seed,
    )


@app.command()
def orpo(
    data: DataOption,
    model: ModelOption,
    profile: Annotated[str, typer.Option("--profile", help="The deployment it competes for.")],
    backend: BackendOption = None,
    tier: Annotated[
        str | None, typer.Option("--tier", help="consumer-gpu (the default), small-gpu or cpu-experimental.")
    ] = None,
    given: SetOption = None,
    trials: TrialsOption = 0,
    baseline_runs: RepeatsOption = None,
    validation: ValidationOption = None,
    heldout: HeldoutOption = None,
    concurrent: ConcurrentOption = 1,
    minutes: MinutesOption = 240,
    tokens: TokensOption = 2_000_000,
    memory: MemoryOption = None,
    seed: SeedOption = 0,
    lab: LabOption = None,
) -> None:
    """Odds-ratio preference optimisation (ORPO) of a LoRA adapter.

    Backends: peft-trl-orpo (the default), unsloth-orpo (in an environment of its own, on an NVIDIA GPU) and dry-run,
    which checks everything and trains nothing.

    Hyper-parameters: learning_rate, batch, accumulation, rank, alpha, dropout, warmup, steps, max_length, beta. Of them
    learning_rate, beta and rank are tuned by --trials. Options: family, save_every, unsloth_python.

    [bold]Examples[/bold]

      windlass train orpo --data pairs.jsonl --model base/ --profile reader
      windlass train orpo --data pairs.jsonl --model base/ --profile reader --trials 8 -s steps=200
      windlass train orpo --data pairs.jsonl --model base/ --profile reader --backend dry-run
    """
    options = {name: value for name, value in (("backend", backend), ("tier", tier)) if value}
    _train(
        "orpo",
        lab,
        options,
        given or (),
        data=data,
        model=model,
        profile=profile,
        trials=trials,
        baseline_runs=baseline_runs,
        validation=validation,
        heldout=heldout,
        concurrent=concurrent,
        minutes=minutes,
        tokens=tokens,
        memory=memory,
        seed=seed,
    )


def _train(program: str, lab: Path | None, options: dict[str, Any], given: Sequence[str], **asked: Any) -> None:
    from windlass.cli.live import Live, pausing
    from windlass.lab import Lab, Pause, Started, Stopped
    from windlass.lab.training import TrainingOrder, option_names, parameter_names, train

    values = named_values(given)
    own = option_names(program) - GIVEN
    known_names(values, {*own, *parameter_names(program)}, program)
    options |= {name: value for name, value in values.items() if name in own}
    parameters = {name: value for name, value in values.items() if name not in own}
    order = TrainingOrder(program=program, options=options, parameters=parameters, **asked)
    pause = Pause()
    with Lab(lab) as opened:
        show = Live(opened, as_json=False)
        idle = True

        def tell(event: Event) -> None:
            nonlocal idle
            idle = idle and isinstance(event, Stopped)
            show.event(event)
            if isinstance(event, Started) and event.run.attempt == 1:
                log = escape(str(opened.runs_root / event.run.id / "stderr.log"))
                say(f"[dim]  #{event.run.number} runs: tail -f {log}[/]", markup=True)

        with pausing(pause), show:
            report = train(opened, order, on_event=tell, pause=pause)
        if idle:
            say(f"{report.job} was done before: nothing ran.")
        say(f"[dim]report: {escape(str(opened.study_folder(report.job) / 'TRAINING.md'))}[/]", markup=True)
    print(json.dumps(report.line(), ensure_ascii=False), flush=True)
    if report.status is StudyStatus.PAUSED:
        say("Paused; the same command goes on.")
        raise typer.Exit(130)
    if report.chosen is None:
        say(f"[bold red]error:[/] nothing was trained: {escape(report.failures or report.because)}", markup=True)
        say(f"  {report.next_step}" if report.next_step else f"  windlass why {report.job}#1")
        kinds = {run.failure.kind for run in report.runs if run.failure}
        raise typer.Exit(PreflightError.exit_code if kinds == {FailureKind.PREFLIGHT} else 1)
