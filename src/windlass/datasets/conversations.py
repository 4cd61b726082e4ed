"""Pairs whose texts are lists of messages, as TRL and the Hugging Face hub have them, rendered as plain text.

A row has ``prompt``, ``chosen`` and ``rejected`` as lists of ``{"role": ..., "content": ...}``. Where the prompt is
missing, or a text, ``chosen`` and ``rejected`` may be whole conversations: what both begin with is the prompt.
Each message becomes its role, a colon, and its content on the next line; a blank line lies between two; the prompt ends
where the assistant answers::

    system:
    Be brief.

    user:
    What is the capital of France?

    assistant:

The two answers are their content alone. A model's own chat template is not applied: a pair must not depend on a model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from windlass.datasets.rows import shown
from windlass.errors import nearest

ROLES = ("system", "user", "assistant")
ANSWER = "assistant:\n"


class Message(NamedTuple):
    role: str
    content: str


def as_texts(prompt: Any, chosen: Any, rejected: Any) -> tuple[str, str, str]:
    """Prompt, chosen and rejected of a row of messages, as plain text.

    Raises ValueError where the two are not answers to the same conversation.
    """
    better, worse = _messages("chosen", chosen), _messages("rejected", rejected)
    shared = next((i for i, (a, b) in enumerate(zip(better, worse, strict=False)) if a != b), len(better))
    if shared == len(better) == len(worse):
        raise ValueError("'chosen' and 'rejected' are the same")
    if (len(better), len(worse)) != (shared + 1, shared + 1):
        raise ValueError("'chosen' and 'rejected' differ in more than their last message")
    if not better[-1].role == worse[-1].role == "assistant":
        raise ValueError("'chosen' and 'rejected' end with a message of the role 'assistant'")
    before, asked = better[:shared], _asked(prompt)
    if before and asked and (asked[0] not in before if isinstance(prompt, str) else asked != before):
        raise ValueError("'prompt' is not what 'chosen' and 'rejected' begin with")
    asked = before or asked
    if not asked:
        raise ValueError("no 'prompt'")
    if asked[-1].role == "assistant":
        raise ValueError("before the answer stands a message of the role 'assistant', too")
    return rendered(asked), better[-1].content, worse[-1].content


def rendered(messages: list[Message]) -> str:
    """The conversation up to where the assistant answers."""
    return "".join(f"{role}:\n{content}\n\n" for role, content in messages) + ANSWER


def _asked(prompt: Any) -> list[Message]:
    if prompt is None:
        return []
    return [Message("user", prompt)] if isinstance(prompt, str) and prompt.strip() else _messages("prompt", prompt)


def _messages(name: str, value: Any) -> list[Message]:
    if not isinstance(value, list) or not value:
        raise ValueError(f"{name!r} is a list of messages where the others are")
    found = []
    for number, message in enumerate(value, 1):
        where = f"message {number} of {name!r}"
        if not isinstance(message, Mapping):
            raise ValueError(f"{where} is no object with role and content")
        for key, held in message.items():
            if key not in Message._fields and held is not None:
                raise ValueError(f"{where} has an unknown key {shown(key)}.{nearest(key, Message._fields)}")
        role, content = message.get("role"), message.get("content")
        if role not in ROLES:
            raise ValueError(
                f"{where} has the role {shown(role)}.{nearest(str(role), ROLES)} Roles: {', '.join(ROLES)}"
            )
        if not isinstance(content, str) or not content.strip():
            raise ValueError(f"{where} has no text as its content")
        found.append(Message(role, content))
    return found
