"""The tokenizer of a model's folder, on the library ``tokenizers`` alone: what ``tokenizer.json`` says, to the id."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from windlass.errors import PreflightError

TOKENIZER, SETTINGS, CONFIG = "tokenizer.json", "tokenizer_config.json", "config.json"


class Tokens:
    """Texts to ids and back.

    ``end`` is the id that ends a text; ``pad`` fills rows (``end`` where the tokenizer has none for that); ``begin``
    is None where texts have no first token of their own.

    Raises PreflightError where the folder has no tokenizer, or one without a token that ends a text.
    """

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self.folder = folder
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        except Exception as error:  # the library raises nothing narrower
            raise PreflightError(
                "tokenizer.missing",
                f"{folder / TOKENIZER} cannot be read: {error}",
                "Save the tokenizer with the model.",
            ) from None
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        settings, config = _read(folder / SETTINGS), _read(folder / CONFIG)
        self.begin = self._id(settings, config, "bos")
        end = self._id(settings, config, "eos")
        if end is None:
            raise PreflightError(
                "tokenizer.no_end",
                f"{folder} names no token that ends a text, so no completion would end",
                f"Set eos_token in {SETTINGS}.",
            )
        self.end: int = end
        pad = self._id(settings, config, "pad")
        self.pad: int = end if pad is None else pad

    def __len__(self) -> int:
        return int(self._tokenizer.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        """With what the tokenizer puts before and after every text."""
        return list(self._tokenizer.encode(text).ids)

    def encode_plain(self, text: str) -> list[int]:
        """Nothing added: the continuation of a text."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Up to the first ``end``; special tokens are left out."""
        kept = list(ids)
        if self.end in kept:
            kept = kept[: kept.index(self.end)]
        return str(self._tokenizer.decode(kept, skip_special_tokens=True))

    def _id(self, settings: dict[str, Any], config: dict[str, Any], role: str) -> int | None:
        """The tokenizer's own settings go before the model's."""
        named = settings.get(f"{role}_token")
        if isinstance(named, dict):
            named = named.get("content")
        if isinstance(named, str):
            found = self._tokenizer.token_to_id(named)
            return None if found is None else int(found)
        number = config.get(f"{role}_token_id")
        if isinstance(number, list):
            number = number[0] if number else None
        return number if isinstance(number, int) else None


def padded(rows: Sequence[Sequence[int]], pad: int) -> tuple[list[list[int]], list[list[int]]]:
    """Rows of one length, padded on the left; and the mask, 0 at padding, 1 at tokens."""
    most = max(map(len, rows))
    return (
        [[pad] * (most - len(row)) + list(row) for row in rows],
        [[0] * (most - len(row)) + [1] * len(row) for row in rows],
    )


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
