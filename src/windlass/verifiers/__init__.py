"""Verifiers: programs that say how right a completion is, and the audit that tries to fool them before a model does."""

from windlass.verifiers.audit import AuditReport, audit
from windlass.verifiers.protocol import KINDS, Kind, Known, PerTask, Verifier, VerifierFailed, build, for_task

__all__ = [
    "KINDS",
    "AuditReport",
    "Kind",
    "Known",
    "PerTask",
    "Verifier",
    "VerifierFailed",
    "audit",
    "build",
    "for_task",
]
