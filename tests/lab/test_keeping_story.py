"""The story of examples/keeping/story, played for real: its transcript is docs/keeping-story.md."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

STORY = Path(__file__).parents[2] / "examples" / "keeping" / "story" / "story.py"


@pytest.mark.slow
def test_the_story(tmp_path: Path) -> None:
    """One test, since the story takes half a minute and workers would each tell it anew."""
    ended = subprocess.run(
        [sys.executable, STORY, tmp_path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300
    )
    assert ended.returncode == 0, ended.stdout
    the_gate_lets_three_serve_leaves_one_open_and_refuses_one(ended.stdout)
    the_canary_grows_and_goes_back_by_itself(ended.stdout)
    the_champion_went_back_and_forward_again(tmp_path)
    the_log_is_sound_and_the_flipped_byte_is_named(tmp_path, ended.stdout)


def rulings(text: str) -> list[str]:
    return re.findall(r"^  (promote|keep|inconclusive) [0-9a-f]{12} for reader", text, re.MULTILINE)


def the_gate_lets_three_serve_leaves_one_open_and_refuses_one(text: str) -> None:
    assert rulings(text) == ["promote", "promote", "promote", "inconclusive", "keep", "promote"]
    assert "fails in operations on 'heldout' (guard)" in text
    assert re.search(r"\d+ more examples of 'heldout'", text)


def the_canary_grows_and_goes_back_by_itself(text: str) -> None:
    grew = re.search(r"after \d+ scans: (\w+) is canary of reader, 50 % of keys", text)
    assert grew is not None
    assert f"{grew[1]} is rolled back from reader" in text


def the_champion_went_back_and_forward_again(folder: Path) -> None:
    entries = [json.loads(line) for line in (folder / "lab" / "registry.jsonl").read_text().splitlines()]
    promoted = [entry["body"]["checkpoint"] for entry in entries if entry["kind"] == "promoted"]
    first, second, third = promoted[:3]
    assert promoted == [first, second, third, second, third]
    pointer = json.loads((folder / "lab" / "deployments" / "reader.json").read_text())
    assert pointer["checkpoint"] == third
    assert [past["checkpoint"] for past in pointer["previous"]] == [second, third, second, first]
    assert f"# Model card of checkpoint {third}" in (folder / "lab" / "deployments" / "reader.card.md").read_text()
    assert Counter(entry["kind"] for entry in entries)["stepped"] == 2 * 2 * 5


def the_log_is_sound_and_the_flipped_byte_is_named(folder: Path, text: str) -> None:
    champion = json.loads((folder / "lab" / "deployments" / "reader.json").read_text())["checkpoint"]
    sound, _, after = text.partition("is flipped")
    assert "entries follow one another" in sound
    assert after.count(f"damaged checkpoint {champion}: files/reader.npz was altered") == 2
