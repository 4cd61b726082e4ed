"""Shared settings of the tests."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("windlass", deadline=None)  # a busy machine is no failure
settings.load_profile("windlass")
