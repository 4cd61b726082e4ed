"""WHAT: frozen value records and the study file's schema. No I/O."""
