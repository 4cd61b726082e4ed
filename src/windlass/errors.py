"""One hierarchy of errors: what happened, with its values; then the next command to run.

The command line prints ``str(error)`` alone; ``--debug`` adds the traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class WindlassError(Exception):
    """Base of everything a user can cause or has to act on.

    ``next_step`` is a command or an action, printed on its own line.
    """

    exit_code = 1

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message}\n{self.next_step}" if self.next_step else self.message


class StudyError(WindlassError):
    """A study file (or its Python form) cannot be used."""


class ConfigRejected(WindlassError):
    """A proposal does not give a valid config; ``rule`` names what it broke."""

    def __init__(self, message: str, rule: str) -> None:
        super().__init__(message)
        self.rule = rule


class SearchError(WindlassError):
    """A search expression cannot be read; ``position`` is the offset of the offending token."""

    def __init__(self, message: str, expression: str, position: int) -> None:
        self.expression = expression
        self.position = position
        super().__init__(f"{message}\n  {expression}\n  {' ' * position}^")


class NotFound(WindlassError):
    """A run, study, lab, metric or file that does not exist."""


class StateError(WindlassError):
    """A change that the life cycle does not allow (a terminal run never changes again)."""


class DuplicateId(StateError):
    """A record with this id exists with other content."""


class StoreError(WindlassError):
    """The store cannot be read or written: corrupt, read-only, full, locked for too long."""


class LabBusy(WindlassError):
    """Another process is driving this lab; its pid is in the message."""


class JobError(WindlassError):
    """The executor itself failed (not the job: a failing job is a result)."""


class DataError(WindlassError):
    """A dataset cannot be used as asked."""


class Diverged(WindlassError):
    """Raised by training code to end a run as ``failed`` with kind ``diverged``."""


class PreflightError(WindlassError):
    """What was asked cannot be trained here; nothing was trained. ``code`` names the check, as in ``model.missing``."""

    exit_code = 3

    def __init__(self, code: str, message: str, next_step: str = "") -> None:
        super().__init__(f"{message} [{code}]", next_step)
        self.code = code


class Preempted(WindlassError):
    """Raised by training code that was asked to end and has saved its state: a new attempt goes on from there."""

    exit_code = 143


class Unhealthy(WindlassError):
    """A training came to its end, and a health gate refuses what came out; the message has every gate that does."""


class DriftError(WindlassError):
    """A replay did not reproduce its run."""

    exit_code = 3


class GateRefused(WindlassError):
    """The gate does not let a checkpoint serve; the message has its reasons."""

    exit_code = 3


class MissingExtra(WindlassError):
    """An optional dependency is not installed."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the closest known word, or an empty string."""
    matches = difflib.get_close_matches(word, list(known), n=3, cutoff=0.6)
    matches.sort(key=lambda match: sorted(match) != sorted(word))  # swapped letters come first
    return f" Did you mean {matches[0]!r}?" if matches else ""
