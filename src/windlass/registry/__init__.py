"""KEEP: checkpoints, evaluations, the gate, promotion, rollback, and the audit log that all of it is folded from."""
