"""Opens a lab, builds everything once; the door for the command line, scripts and notebooks."""

from windlass.lab.lab import Lab
from windlass.lab.study import load_study
from windlass.loop.driver import Event, Pause, Pausing, Planned, Resumed, Settled, Started, Stopped, Tick

__all__ = [
    "Event",
    "Lab",
    "Pause",
    "Pausing",
    "Planned",
    "Resumed",
    "Settled",
    "Started",
    "Stopped",
    "Tick",
    "load_study",
]
