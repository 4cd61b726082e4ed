"""The store beside bare sqlite3: searching many runs, bulk writing, eight processes writing at once.

``python benchmarks/store.py [--runs 100000] [--json]``. The bare side is a hand-tuned minimal schema with one
hand-written statement a question; it hands back the stored text unread, where the store hands back whole RunRecords.
MLflow 3.17 with SQLite took 14.6 s for the top 100 of 10,000 runs by a metric, and 1.3 s with a filter (2 busy cores);
``peer_mlflow.py`` measures it anew.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from windlass.records.content import digest, flatten
from windlass.records.run import Failure, FailureKind, MetricSummary, RunRecord, Status
from windlass.store.codec import run_to_text
from windlass.store.sql import SqlStore

BATCH = 1000
START = 1_790_000_000.0
MODELS = ("logistic", "svm", "forest", "boosting", "mlp")

#: (expression, order_by, the same question to the bare schema)
QUESTIONS = [
    ("", "created desc", "SELECT body FROM run ORDER BY created DESC, id LIMIT 100"),
    (
        "status = 'completed'",
        "metrics.auc desc",
        "SELECT body FROM metric m CROSS JOIN run r USING (run) WHERE m.name = 'auc' AND status = 'completed' "
        "ORDER BY last DESC, id LIMIT 100",
    ),
    (
        "study = 'study-07' and status = 'completed'",
        "metrics.auc desc",
        "SELECT body FROM run r JOIN metric m USING (run) WHERE study = 'study-07' AND status = 'completed' "
        "AND m.name = 'auc' "
        "ORDER BY last DESC, id LIMIT 100",
    ),
    (
        "metrics.auc > 0.9 and params.model = 'svm'",
        "metrics.auc desc",
        "SELECT body FROM metric m JOIN run r USING (run) WHERE m.name = 'auc' AND last > 0.9 AND EXISTS "
        "(SELECT 1 FROM param p WHERE p.run = m.run AND p.name = 'model' AND p.value = 'svm') "
        "ORDER BY last DESC, id LIMIT 100",
    ),
    (
        "params.optimizer.lr < 0.001 and params.depth in (4, 6)",
        "metrics.`val/loss`.min",
        "SELECT body FROM metric m JOIN run r USING (run) WHERE m.name = 'val/loss' AND EXISTS "
        "(SELECT 1 FROM param p WHERE p.run = m.run AND p.name = 'optimizer.lr' AND p.value < 0.001) AND EXISTS "
        "(SELECT 1 FROM param p WHERE p.run = m.run AND p.name = 'depth' AND p.value IN (4, 6)) "
        "ORDER BY low, id LIMIT 100",
    ),
    (
        "status = 'failed' and failure in ('timeout', 'out_of_memory')",
        "created desc",
        "SELECT body FROM run WHERE status = 'failed' AND failure IN ('timeout', 'out_of_memory') "
        "ORDER BY created DESC, id LIMIT 100",
    ),
    (
        "tags.team = 'vision' and (params.model = 'mlp' or params.dropout > 0.45)",
        "metrics.auc.max desc",
        "SELECT body FROM metric m JOIN run r USING (run) WHERE m.name = 'auc' AND EXISTS "
        "(SELECT 1 FROM tag t WHERE t.run = m.run AND t.name = 'team' AND t.value = 'vision') AND (EXISTS "
        "(SELECT 1 FROM param p WHERE p.run = m.run AND p.name = 'model' AND p.value = 'mlp') OR EXISTS "
        "(SELECT 1 FROM param p WHERE p.run = m.run AND p.name = 'dropout' AND p.value > 0.45)) "
        "ORDER BY high DESC, id LIMIT 100",
    ),
    (
        "params.augment contains 'flip' and not params.model in ('svm', 'logistic')",
        "duration desc",
        "SELECT body FROM run r WHERE EXISTS "
        "(SELECT 1 FROM item i WHERE i.run = r.run AND i.name = 'augment' AND i.value = 'flip') AND NOT EXISTS "
        "(SELECT 1 FROM param p WHERE p.run = r.run AND p.name = 'model' AND p.value IN ('svm', 'logistic')) "
        "ORDER BY duration DESC, id LIMIT 100",
    ),
    (
        "tags.note = 'baseline' and metrics.auc > 0.5",
        "metrics.`val/loss`",
        "SELECT body FROM tag t JOIN run r USING (run) JOIN metric m USING (run) WHERE t.name = 'note' "
        "AND t.value = 'baseline' AND m.name = 'val/loss' AND EXISTS "
        "(SELECT 1 FROM metric a WHERE a.run = t.run AND a.name = 'auc' AND a.last > 0.5) "
        "ORDER BY m.last, id LIMIT 100",
    ),
    (
        "params.model = 'forest' and params.depth = 7 and metrics.accuracy >= 0.97",
        "metrics.auc desc",
        "SELECT body FROM metric a JOIN run r USING (run) JOIN metric m USING (run) WHERE a.name = 'accuracy' "
        "AND a.last >= 0.97 AND m.name = 'auc' AND EXISTS "
        "(SELECT 1 FROM param p WHERE p.run = a.run AND p.name = 'model' AND p.value = 'forest') AND EXISTS "
        "(SELECT 1 FROM param p WHERE p.run = a.run AND p.name = 'depth' AND p.value = 7) "
        "ORDER BY m.last DESC, id LIMIT 100",
    ),
]

BARE_TABLES = """
PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -65536;
CREATE TABLE run (run INTEGER PRIMARY KEY, id TEXT, created REAL, status TEXT, study TEXT, failure TEXT, duration REAL,
                  body TEXT);
CREATE TABLE metric (run INT, name TEXT, last REAL, low REAL, high REAL, PRIMARY KEY (run, name)) WITHOUT ROWID;
CREATE TABLE param (run INT, name TEXT, value, PRIMARY KEY (run, name)) WITHOUT ROWID;
CREATE TABLE item (run INT, name TEXT, value, PRIMARY KEY (run, name, value)) WITHOUT ROWID;
CREATE TABLE tag (run INT, name TEXT, value TEXT, PRIMARY KEY (run, name)) WITHOUT ROWID;
CREATE INDEX run_created ON run (created DESC, id); CREATE INDEX run_study ON run (study);
CREATE INDEX run_status ON run (status, failure, created); CREATE INDEX run_duration ON run (duration);
CREATE INDEX metric_last ON metric (name, last, run); CREATE INDEX metric_low ON metric (name, low, run);
CREATE INDEX metric_high ON metric (name, high, run); CREATE INDEX param_value ON param (name, value, run);
CREATE INDEX tag_value ON tag (name, value, run);
"""


def make_runs(count: int, seed: int = 0) -> Iterator[RunRecord]:
    """Runs of 50 studies with 5 metrics, 6 parameters and 2 tags each; every eighth failed."""
    rng = random.Random(seed)
    for i in range(count):
        created = START + 60 * i
        study = f"study-{rng.randrange(50):02}"
        failed = rng.random() < 0.12
        auc = 1 - rng.random() ** 2 / 2
        config = {
            "model": rng.choice(MODELS),
            "depth": rng.randrange(2, 10),
            "dropout": round(rng.random() / 2, 4),
            "batch": 2 ** rng.randrange(4, 10),
            "augment": [name for name in ("flip", "crop", "noise") if rng.random() < 0.5],
            "optimizer": {"lr": 10 ** rng.uniform(-5, -1)},
        }
        metrics = {
            "auc": MetricSummary(last=auc, min=auc / 2, max=min(1.0, auc + 0.01 * rng.random()), step=50, count=50),
            "accuracy": MetricSummary.of(rng.uniform(0.5, 1)),
            "loss": MetricSummary(last=rng.expovariate(2), min=rng.random() / 9, max=9.0, step=5000, count=5000),
            "val/loss": MetricSummary(last=rng.expovariate(1), min=rng.random() / 3, max=9.0, step=50, count=50),
            "seconds": MetricSummary.of(rng.uniform(1, 600)),
        }
        if failed:
            metrics = {name: metrics[name] for name in ("loss", "seconds")}
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(created))
        kind = rng.choice([FailureKind.ERROR, FailureKind.TIMEOUT, FailureKind.OUT_OF_MEMORY, FailureKind.DIVERGED])
        yield RunRecord(
            id=f"{stamp}_{study}_{digest([seed, i])[:10]}",
            name=study,
            status=Status.FAILED if failed else Status.COMPLETED,
            failure=Failure(kind=kind, message="the trainer exited with code 1") if failed else None,
            created=created,
            started=created + 1,
            ended=created + 1 + rng.expovariate(1 / 300),
            study=study,
            number=i,
            config=config,
            metrics=metrics,
            tags={"team": rng.choice(("vision", "text", "risk")), "note": "baseline" if i % 500 == 0 else "search"},
            fingerprints={"config": digest(config), "code": digest(study)},
            cpu_s=rng.random(),
        )


def fill_bare(connection: sqlite3.Connection, runs: list[RunRecord]) -> float:
    """Seconds of the inserts alone, one transaction; the rows are made before."""
    rows: dict[str, list[tuple[Any, ...]]] = {"run": [], "metric": [], "param": [], "item": [], "tag": []}
    for pk, run in enumerate(runs, start=1):
        kind = run.failure and str(run.failure.kind)
        body = run_to_text(run)
        rows["run"].append((pk, run.id, run.created, str(run.status), run.study, kind, run.duration_s, body))
        rows["metric"] += [(pk, name, m.last, m.min, m.max) for name, m in run.metrics.items()]
        flat = flatten(run.config)
        rows["param"] += [(pk, name, value) for name, value in flat.items() if not isinstance(value, list)]
        rows["item"] += [(pk, name, one) for name, value in flat.items() if isinstance(value, list) for one in value]
        rows["tag"] += [(pk, name, text) for name, text in run.tags.items()]
    began = time.perf_counter()
    with connection:
        for table, values in rows.items():
            marks = ",".join("?" * len(values[0]))
            connection.executemany(f"INSERT INTO {table} VALUES ({marks})", values)
    return time.perf_counter() - began


def median_ms(question: Callable[[], Any], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        question()
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1000


def row(name: str, value: float, unit: str, reference: str, ratio: float | None) -> dict[str, Any]:
    return {"name": name, "value": value, "unit": unit, "reference": reference, "ratio": ratio}


def bulk(folder: Path, runs: list[RunRecord]) -> list[dict[str, Any]]:
    sample = runs[:10_000]
    store = SqlStore(folder / "bulk.db")
    began = time.perf_counter()
    for start in range(0, len(sample), BATCH):
        store.put(sample[start : start + BATCH])
    mine = time.perf_counter() - began
    store.close()
    bare = sqlite3.connect(folder / "bulk-bare.db")
    bare.executescript(BARE_TABLES)
    limit = fill_bare(bare, sample)
    bare.close()
    reference = f"bare executemany in one transaction: {len(sample) / limit:,.0f} runs/s"
    return [
        row(f"put {len(sample):,} new runs, {BATCH:,} a call", len(sample) / mine, "runs/s", reference, mine / limit)
    ]


def searching(folder: Path, runs: list[RunRecord], rounds: int) -> list[dict[str, Any]]:
    store = SqlStore(folder / "windlass.db")
    for start in range(0, len(runs), 10 * BATCH):
        store.put(runs[start : start + 10 * BATCH])
    bare = sqlite3.connect(folder / "bare.db")
    bare.executescript(BARE_TABLES)
    fill_bare(bare, runs)
    bare.executescript("ANALYZE")
    rows = []
    for expression, order_by, statement in QUESTIONS:
        found = store.search(expression, order_by=order_by, limit=100)
        told = bare.execute(statement).fetchall()
        if [run_to_text(run) for run in found] != [body for (body,) in told]:
            sys.exit(f"the store and bare sqlite3 answer {expression!r} differently: {len(found)}, {len(told)} runs")
        mine = median_ms(lambda e=expression, o=order_by: store.search(e, order_by=o, limit=100), rounds)
        limit = median_ms(lambda s=statement: bare.execute(s).fetchall(), rounds)
        asked = f"search {expression or 'all'} | order by {order_by} | {len(found)} of {len(runs):,}"
        rows.append(row(asked, mine, "ms", f"bare sqlite3, text unread: {limit:.2f} ms", mine / limit))
    median = statistics.median(r["value"] for r in rows)
    rows.append(row(f"search, median of these {len(rows)} questions", median, "ms", "goal 10 ms", median / 10))
    some = runs[len(runs) // 2].id
    rows.append(row("run by id", median_ms(lambda: store.run(some), rounds), "ms", "", None))
    part = median_ms(lambda: store.run(some[-10:]), rounds)
    rows.append(row(f"run by a part of its id, among {len(runs):,}", part, "ms", "", None))
    store.close()
    bare.close()
    return rows


def write_alone(path: str, seed: int, count: int) -> None:
    """One of the writing processes: a line on stdout when ready, a line on stdin to go."""
    store = SqlStore(path)
    runs = list(make_runs(count, seed))
    print("ready", flush=True)
    sys.stdin.readline()
    for run in runs:
        store.put([run])
    store.close()


def crowd(folder: Path, processes: int = 8, each: int = 250) -> list[dict[str, Any]]:
    path = folder / "crowd.db"
    SqlStore(path).close()
    rates = {}
    for number in (1, processes):
        command = [sys.executable, __file__, "--write", str(path)]
        writers = [
            subprocess.Popen([*command, str(1000 * number + i), str(each)], stdin=-1, stdout=-1, text=True)
            for i in range(number)
        ]
        for writer in writers:
            assert writer.stdout is not None
            writer.stdout.readline()
        began = time.perf_counter()
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.flush()
        if any(writer.wait() for writer in writers):
            sys.exit("a writing process failed")
        rates[number] = number * each / (time.perf_counter() - began)
    store = SqlStore(path)
    kept = len(store.search())
    store.close()
    if kept != (processes + 1) * each:
        sys.exit(f"{(processes + 1) * each - kept} runs were lost")
    reference = f"one process: {rates[1]:,.0f} runs/s; no error, all {kept:,} runs kept"
    return [
        row(
            f"{processes} processes, a transaction a run",
            rates[processes],
            "runs/s",
            reference,
            rates[processes] / rates[1],
        )
    ]


def opening(folder: Path) -> list[dict[str, Any]]:
    paths = [folder / f"new{i}.db" for i in range(10)]
    create = statistics.median(median_ms(lambda p=path: SqlStore(p).close(), 1) for path in paths)
    again = median_ms(lambda: SqlStore(paths[0]).close(), 20)
    code = "import time; t = time.perf_counter(); import {}; print(time.perf_counter() - t)"
    took = {
        module: statistics.median(
            float(subprocess.run([sys.executable, "-c", code.format(module)], capture_output=True, check=True).stdout)
            for _ in range(5)
        )
        * 1000
        for module in ("windlass.store.sql", "sqlalchemy", "sqlite3")
    }
    reference = f"import sqlalchemy alone: {took['sqlalchemy']:.0f} ms; import sqlite3: {took['sqlite3']:.0f} ms"
    return [
        row("create a database", create, "ms", "", None),
        row("open and close an up-to-date database", again, "ms", "", None),
        row("import the store", took["windlass.store.sql"], "ms", reference, None),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--write", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.write:
        write_alone(args.write[0], int(args.write[1]), int(args.write[2]))
        return
    runs = list(make_runs(args.runs))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = [*opening(folder), *bulk(folder, runs), *searching(folder, runs, args.rounds), *crowd(folder)]
    if args.json:
        print(json.dumps(rows))
        return
    for one in rows:
        ratio = "" if one["ratio"] is None else f"x{one['ratio']:.2f}"
        print(f"{one['value']:10,.2f} {one['unit']:7} {ratio:8} {one['name']}   {one['reference']}")


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", str(Path(__file__).parent.parent / "src"))
    main()
