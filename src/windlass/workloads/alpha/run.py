"""The job of a campaign: panel, search in generations, gate, files. One thread; same config and seed, same bytes.

Every expression is entered in the registry of factors before it is evaluated, and every generation is in ``state/``
before the next one begins: a run that is killed goes on with the same trials, and comes to the same verdict.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from threadpoolctl import threadpool_limits

from windlass.errors import DataError
from windlass.runs.folder import RunFolder, read_json, write_atomic
from windlass.workloads.alpha import ledger, reporting, state
from windlass.workloads.alpha.campaign import Campaign, Trial
from windlass.workloads.alpha.counting import count, kept, series_digest, window
from windlass.workloads.alpha.evaluation.timeline import Timeline, timeline
from windlass.workloads.alpha.judging import judge
from windlass.workloads.alpha.panel import Panel
from windlass.workloads.alpha.reading import read_panel
from windlass.workloads.alpha.search.cookbook import reading
from windlass.workloads.alpha.search.search import Candidate
from windlass.workloads.alpha.spec import Config, Options, read_config
from windlass.workloads.alpha.synthetic import synthetic_panel
from windlass.workloads.alpha.workload import WORKLOAD

if TYPE_CHECKING:
    from windlass.runs.sdk import Run

COUNTED_FILE = "counted.json"  #: in ``state/``: how much of the registry this run's gate counts


def search(config: Mapping[str, Any], run: Run) -> dict[str, float]:
    """Search, evaluate, judge; see docs/alpha.md for the files.

    Raises StudyError for a wrong config, DataError for a panel or an expression that cannot be used.
    """
    settings = read_config(config)
    refuse_changed_data(config["workload"], run)
    with threadpool_limits(1):
        panel, manifest, times = prepared(settings)
        reporting.manifest(run, manifest, str(panel.dates[times.dev.stop - 1]))
        campaign = Campaign(panel, times, settings, run.seed)
        for note in (reading(settings.workload.idea), *_cautions(settings, times, panel), *campaign.left_out):
            run.note(note)
        book = ledger.Ledger(run.path.parent / ledger.LEDGER_FILE)
        trials = _searched(run, campaign, book, panel.market)
        counted = count(campaign, trials, book, counted_bytes(run, book), panel.market, run.path.parent)
        if counted.again:
            run.note(f"{counted.again} earlier trials were evaluated again: the files of their runs are not there")
        judged = judge(campaign, trials, counted, run.seed, kept(book, counted.bytes, campaign, run.path.parent))
        book.append_once(
            ledger.Judged(
                standing="provisional", at=time.time(), run=run.id, hash=one.hash, grade=one.grade, reasons=(one.words,)
            )
            for one in judged.verdicts
            if one.grade == "provisional"
        )
        reporting.campaign(run, campaign, trials, counted, judged, panel, book)
    return judged.metrics


def prepared(settings: Config) -> tuple[Panel, dict[str, Any], Timeline]:
    """The panel with its manifest and timeline. Raises DataError."""
    panel, manifest = load_panel(settings.workload)
    days = len(panel.dates)
    return (
        panel,
        manifest,
        timeline(days, settings.workload.holdout, settings.workload.walk, settings.portfolio.holding),
    )


def load_panel(options: Options) -> tuple[Panel, dict[str, Any]]:
    """The panel of a file, or the synthetic one, and what was found in it. Raises DataError."""
    if options.data is None:
        from windlass.workloads.alpha.checks import examine

        made = options.synthetic
        panel = synthetic_panel(made.names, made.days, seed=made.seed, ic=made.ic)
        return panel, examine(panel).to_dict()
    named = {name: Path(path) for name in ("sectors", "membership", "borrow") if (path := getattr(options, name))}
    loaded = read_panel(Path(options.data), **named, columns=options.columns)
    return loaded.panel, loaded.manifest.to_dict()


def refuse_changed_data(options: Mapping[str, Any], run: Run) -> None:
    """Runs of one study are compared with each other, so they have to see the same bytes. Raises DataError."""
    asked = (read_json(run.folder.spec_file) or {}).get("fingerprints", {}).get("data")
    found = WORKLOAD.fingerprints(options)["data"]
    if asked not in (None, found):
        raise DataError(
            f"the panel changed since this run was decided: SHA-256 {found[:12]} where {asked[:12]} was asked for",
            "Restore the files, or start a campaign of its own on the new data.",
        )


def _cautions(settings: Config, times: Timeline, panel: Panel) -> list[str]:
    """What a person should know about expressions that a language model added."""
    first = str(panel.dates[times.segments[0].test.start])
    cautions = []
    for model in dict.fromkeys(one.by for one in settings.workload.expressions if one.by != "user"):
        dates = [one.knows_until for one in settings.workload.expressions if one.by == model]
        until = "" if None in dates else max(map(str, dates))
        if not until:
            cautions.append(
                f"{model} wrote expressions, and nobody said until when it knows the market: it may have seen it"
            )
        elif until >= first:
            cautions.append(
                f"{model} knows the market until {until}, and the test days begin on {first}: it may have seen them"
            )
    return cautions


def _searched(run: Run, campaign: Campaign, book: ledger.Ledger, data: str) -> list[Trial]:
    folder = run.folder.state
    trials: list[Trial] = []
    best = float("-inf")
    for generation in range(campaign.generations):
        made = state.load(folder, generation, campaign.read)
        if made is None:
            candidates = campaign.propose(generation, trials)
            if not candidates:
                run.note(f"generation {generation + 1} found no expression that was not tried before")
                break
            book.append(_entries(run, campaign, candidates, data))
            made = []
            for one in campaign.evaluate(candidates):
                made.append(one)
                best = max(best, one.merit)
                run.log({"best": best, "merit": one.merit}, step=len(trials) + len(made))
            state.save(folder, generation, made)
        best = max([best, *(one.merit for one in made)])
        trials += made
    if not trials:
        raise DataError("no expression could be tried", "Give the panel more columns, or expressions of your own.")
    return trials


def _entries(run: Run, campaign: Campaign, candidates: Sequence[Candidate], data: str) -> list[ledger.Trial]:
    shape, days = series_digest(campaign.config), window(campaign)
    return [
        ledger.Trial(
            at=time.time(),
            run=run.id,
            data=data,
            window=days,
            hash=one.digest,
            expr=one.text,
            proposer=one.proposer,
            parents=one.parents,
            mode=campaign.config.workload.mode,
            portfolio=shape,
        )
        for one in candidates
    ]


def counted_bytes(run: Run, book: ledger.Ledger) -> int:
    """How much of the registry a run's gate counts: the same in every attempt, and in a replay of this run."""
    file = run.folder.state / COUNTED_FILE
    known = read_json(file) or {"bytes": replayed_bytes(run) or book.size}
    file.parent.mkdir(exist_ok=True)
    write_atomic(file, f'{{"bytes": {int(known["bytes"])}}}\n'.encode())
    return int(known["bytes"])


def replayed_bytes(run: Run) -> int | None:
    """What the gate of the run counted that this one replays."""
    original = run.spec.lineage.get("replay_of")
    gate = read_json(RunFolder(run.path.parent / original).artifacts / reporting.GATE_FILE) if original else None
    return int(gate["trials"]["registry_bytes"]) if isinstance(gate, dict) else None
