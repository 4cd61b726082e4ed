"""MLflow doing the work that Windlass is measured on. Needs a Python that has MLflow; prints JSON.

Called by run.py; alone: ``python benchmarks/peer_mlflow.py --points 300 --runs 1000 --history 20000``.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--points", type=int, default=300)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--history", type=int, default=20_000)
    args = parser.parse_args()
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    logging.disable(logging.INFO)
    figures: dict[str, float] = {"import_s": import_seconds()}

    import mlflow
    from mlflow.entities import Metric, Param

    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        mlflow.set_tracking_uri(f"sqlite:///{folder}/mlflow.db")
        client = mlflow.MlflowClient()
        experiment = client.create_experiment("bench")

        run = client.create_run(experiment)
        began = time.perf_counter()
        for step in range(args.points):
            client.log_metric(run.info.run_id, "loss", random.random(), step=step)
        figures["log_metric_per_s"] = args.points / (time.perf_counter() - began)

        rng = random.Random(0)
        began = time.perf_counter()
        for _ in range(args.runs):
            run = client.create_run(experiment)
            metrics = [Metric(f"m{i}", rng.random(), int(time.time() * 1000), 0) for i in range(5)]
            params = [Param(f"p{i}", str(rng.choice("abcd"))) for i in range(6)]
            client.log_batch(run.info.run_id, metrics=metrics, params=params)
            client.set_terminated(run.info.run_id)
        figures["create_run_ms"] = (time.perf_counter() - began) / args.runs * 1000

        times = []
        for _ in range(5):
            began = time.perf_counter()
            client.search_runs(
                [experiment], "metrics.m0 > 0.5 and params.p0 = 'a'", order_by=["metrics.m1 DESC"], max_results=100
            )
            times.append(time.perf_counter() - began)
        figures["search_ms"] = statistics.median(times) * 1000

        run = client.create_run(experiment)
        for start in range(0, args.history, 1000):
            points = [Metric("loss", rng.random(), 0, s) for s in range(start, min(start + 1000, args.history))]
            client.log_batch(run.info.run_id, metrics=points)
        began = time.perf_counter()
        history = client.get_metric_history(run.info.run_id, "loss")
        assert len(history) == args.history
        figures["read_history_us_per_point"] = (time.perf_counter() - began) / args.history * 1e6
    json.dump({"version": mlflow.__version__, "runs": args.runs, **figures}, sys.stdout)


def import_seconds() -> float:
    times = []
    for _ in range(3):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import mlflow"], check=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


if __name__ == "__main__":
    main()
