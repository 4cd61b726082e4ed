"""Runs code that nobody has read: with bubblewrap, else with Landlock and a system-call filter, else not at all.

Depends on the standard library alone. What it does not hold is in ``not_covered`` and in docs/sandbox.md.
"""

from windlass.sandbox.coverage import not_covered
from windlass.sandbox.records import Finished, Level, SandboxLimits, SandboxUnavailable
from windlass.sandbox.run import available, run_untrusted

__all__ = ["Finished", "Level", "SandboxLimits", "SandboxUnavailable", "available", "not_covered", "run_untrusted"]
