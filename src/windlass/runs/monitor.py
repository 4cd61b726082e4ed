"""System metrics of a run: CPU and memory of its process tree, and the GPU where there is one, in the journal."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

from windlass.runs.journal import Journal

PREFIX = "system/"
STOP_S = 2.0  #: how long the end of a run waits for a sample that is being taken


class Monitor:
    """Samples in a thread, first after one interval: a short job pays nothing. Stops with the run or the process."""

    def __init__(self, journal: Journal, every_s: float) -> None:
        self._journal = journal
        self._every_s = every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="windlass-monitor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not threading.current_thread():
            self._thread.join(STOP_S)

    def _watch(self) -> None:
        if self._stop.wait(self._every_s):
            return
        try:
            import psutil
        except ImportError:
            return
        me, seen = psutil.Process(), dict[int, Any]()
        nvidia_smi = shutil.which("nvidia-smi")
        while True:
            with contextlib.suppress(psutil.Error, OSError):
                values = dict(_process_tree(psutil, me, seen))
                values.update(_gpus(nvidia_smi) if nvidia_smi else ())
                if self._stop.is_set():
                    return
                self._journal.metrics({PREFIX + name: value for name, value in values.items()})
            if self._stop.wait(self._every_s):
                return


def _process_tree(psutil: Any, me: Any, seen: dict[int, Any]) -> Iterator[tuple[str, float]]:
    """``seen`` keeps the processes between samples: psutil measures CPU from one call to the next."""
    tree = {process.pid: seen.get(process.pid, process) for process in (me, *me.children(recursive=True))}
    cpu, memory = 0.0, 0
    for process in tree.values():
        with contextlib.suppress(psutil.Error):
            cpu += process.cpu_percent()
            memory += process.memory_info().rss
    seen.clear()
    seen.update(tree)
    yield "cpu_percent", cpu  # of one core: 200 is two busy cores
    yield "memory_bytes", memory
    yield "host_memory_percent", psutil.virtual_memory().percent
    yield "host_load", os.getloadavg()[0]


def _gpus(nvidia_smi: str) -> Iterator[tuple[str, float]]:
    query = "index,utilization.gpu,memory.used"
    argv = [nvidia_smi, f"--query-gpu={query}", "--format=csv,noheader,nounits"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    for line in done.stdout.splitlines():
        with contextlib.suppress(ValueError):
            gpu, busy, used = line.split(",")
            yield f"gpu{int(gpu)}_percent", float(busy)
            yield f"gpu{int(gpu)}_memory_bytes", float(used) * 2**20
