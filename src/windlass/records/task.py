"""The records of training from verifiable rewards and from preferences: a task, a verdict on a completion, a pair."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from windlass.records.content import digest
from windlass.records.fields import Strict, Text


class Task(Strict):
    """A prompt whose completions can be verified; a line of ``tasks.jsonl``."""

    id: Text = Field(min_length=1)
    prompt: Text = Field(min_length=1)
    expected: Any = Field(default=None, description="what the verifier holds a completion against; JSON")
    verifier: Mapping[Text, Any] | None = Field(
        default=None, description="{kind: exact, ...}; without it, the verifier of the training"
    )
    metadata: Mapping[Text, Any] = Field(default_factory=dict)

    @property
    def content(self) -> str:
        """SHA-256 of what is asked and expected, whatever the task is called: equal content is a duplicate."""
        return digest([self.prompt, self.expected, dict(self.verifier or {})])


class Verdict(Strict):
    """What a verifier says of a completion. ``score`` is in 0..1, or None where the completion cannot be judged."""

    score: float | None = Field(ge=0, le=1)
    reason: Text = ""


class Pair(Strict):
    """Two completions of one prompt, of which one is preferred; a line of ``pairs.jsonl``."""

    id: Text = Field(min_length=1)
    prompt: Text = Field(min_length=1)
    chosen: Text = Field(min_length=1)
    rejected: Text = Field(min_length=1)
    metadata: Mapping[Text, Any] = Field(default_factory=dict)

    @property
    def content(self) -> str:
        """SHA-256 of prompt, chosen and rejected, whatever the pair is called: equal content is a duplicate."""
        return digest([self.prompt, self.chosen, self.rejected])
