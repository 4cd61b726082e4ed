"""Every entry that is edited, removed, doubled or put elsewhere is found and named, in one copy or beside the other."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from keptlines import Line, generations
from windlass.errors import DataError
from windlass.records.audit import ChangeKind, Entry
from windlass.records.content import canonical, digest
from windlass.registry.audit import Damage, compare_anchor, compare_copies, verify_bytes, verify_log
from windlass.registry.blobs import Blobs

FIELDS = ("sequence", "at", "actor", "kind", "subject", "body", "previous", "hash")


def a_log() -> list[str]:
    """Twelve entries: two generations, and what came after."""
    line, (one, two) = generations(2, benchmarks=1)
    line.enter(ChangeKind.REPRODUCED, two, run="another run")
    line.evaluate(two, mean=0.5)
    line.register(3)
    line.evaluate(one, mean=0.75)
    return [entry.to_text() for entry in line.registry.entries()]


LOG = a_log()
POSITIONS = range(1, len(LOG) + 1)


def numbered(texts: list[str]) -> list[tuple[int, str | bytes]]:
    """As a file gives them: each under the number of its line."""
    return list(enumerate(texts, start=1))


def damages(texts: list[str]) -> list[Damage]:
    return verify_log(numbered(texts))[1]


def beside(texts: list[str], mirror: list[str] | None = None) -> list[Damage]:
    """What the two copies show together."""
    lines = [text.encode() + b"\n" for text in (mirror if mirror is not None else LOG)]
    return compare_copies(numbered(texts), lines)


def named(found: list[Damage], position: int) -> bool:
    """Whether an entry is named, as itself or as the neighbour of what is wrong."""
    return any(f"entry {position}" in str(damage) for damage in found)


def edited(position: int, **fields: Any) -> list[str]:
    data = json.loads(LOG[position - 1]) | fields
    return [*LOG[: position - 1], canonical(data), *LOG[position:]]


def rehashed(text: str, **fields: Any) -> str:
    data = {key: value for key, value in (json.loads(text) | fields).items() if key != "hash"}
    return canonical({**data, "hash": digest(data)})


def made_anew(position: int, **fields: Any) -> list[str]:
    """An edit, and the whole rest of the chain made to fit it."""
    texts = [*LOG[: position - 1], rehashed(LOG[position - 1], **fields)]
    for text in LOG[position:]:
        texts.append(rehashed(text, previous=json.loads(texts[-1])["hash"]))
    return texts


def anchor(position: int) -> str:
    return f"{position}:{json.loads(LOG[position - 1])['hash']}"


# Intact


def test_an_intact_log_has_no_damage() -> None:
    state, found = verify_log(numbered(LOG))
    assert (found, beside(LOG)) == ([], [])
    assert (state.sequence, state.hash) == (len(LOG), json.loads(LOG[-1])["hash"])
    assert verify_log((number, text.encode() + b"\n") for number, text in numbered(LOG))[1] == []
    assert (verify_log([])[1], compare_copies([], [])) == ([], [])


@pytest.mark.parametrize("position", POSITIONS)
def test_every_beginning_of_a_log_is_intact(position: int) -> None:
    state, found = verify_log(numbered(LOG[:position]))
    assert (found, state.sequence) == ([], position)


# Edited


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("field", FIELDS)
def test_an_edited_field_is_found_and_its_entry_named(position: int, field: str) -> None:
    entry = json.loads(LOG[position - 1])
    value = {
        "sequence": entry["sequence"] + 100,
        "at": entry["at"] + 1e-3,
        "actor": entry["actor"] + " ",
        "kind": "removed" if entry["kind"] != "removed" else "judged",
        "subject": entry["subject"][:-1],
        "body": {**entry["body"], "more": None},
        "previous": "f" * 64,
        "hash": "f" * 64,
    }[field]
    found = damages(edited(position, **{field: value}))
    assert named(found, position) or named(found, entry["sequence"] + 100), found
    assert any(f"entry {position}" in str(damage) for damage in beside(edited(position, **{field: value})))


@pytest.mark.parametrize("position", POSITIONS)
def test_every_value_of_a_body_counts(position: int) -> None:
    body = json.loads(LOG[position - 1])["body"]
    for path, changed in edits(body):
        found = damages(edited(position, body=changed))
        assert any(damage.where == f"entry {position}" and "was edited" in damage.what for damage in found), path


def edits(value: Any, path: str = "") -> list[tuple[str, Any]]:
    """A JSON value with one of its leaves changed, for each of them."""
    if isinstance(value, dict) and value:
        return [(at, {**value, key: one}) for key in value for at, one in edits(value[key], f"{path}.{key}")]
    if isinstance(value, list) and value:
        return [
            (at, [*value[:index], one, *value[index + 1 :]])
            for index in range(len(value))
            for at, one in edits(value[index], f"{path}.{index}")
        ]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return [(path, value + 1)]
    return [(path, f"{value}?")]


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("value", [None, "text", 1.5, True, [], {}])
def test_a_field_of_another_type_is_found_and_nothing_breaks(field: str, value: Any) -> None:
    for position in POSITIONS:
        found = damages(edited(position, **{field: value}))
        assert named(found, position), (position, found)


@pytest.mark.parametrize("position", POSITIONS)
def test_an_edit_with_a_hash_that_fits_breaks_the_link_to_the_next(position: int) -> None:
    texts = [*LOG[: position - 1], rehashed(LOG[position - 1], actor="another"), *LOG[position:]]
    found = damages(texts)
    if position < len(LOG):
        assert [str(damage) for damage in found] == [
            f"entry {position + 1}: does not follow entry {position} as it is now: one of the two was changed"
        ]
    else:  # nothing follows it: its other copy shows it
        assert found == []
    assert beside(texts) == [Damage("registry.jsonl", f"entry {position} is not the database's entry {position}")]


@pytest.mark.parametrize("position", POSITIONS)
def test_a_chain_made_anew_shows_beside_its_copy_and_against_an_anchor(position: int) -> None:
    texts = made_anew(position, actor="another")
    assert damages(texts) == [], "it is sound in itself"
    assert [damage.what.split()[1] for damage in beside(texts)] == [str(one) for one in range(position, len(LOG) + 1)]
    for at in POSITIONS:
        found = compare_anchor(numbered(texts), anchor(at))
        assert bool(found) is (at >= position)
        assert all(damage.where == f"entry {at}" and "is not the one" in damage.what for damage in found)


def test_a_change_that_is_not_allowed_is_found_though_its_chain_fits() -> None:
    """A checkpoint that was never evaluated is made to serve."""
    promoted = next(text for text in LOG if json.loads(text)["kind"] == "promoted")
    body = json.loads(promoted)["body"]
    forged = rehashed(LOG[2], kind="promoted", subject="reader", body=body)
    found = damages([*LOG[:2], forged])
    assert [damage.where for damage in found] == ["entry 3"] and "is not allowed: nothing was judged" in found[0].what
    shapeless = rehashed(LOG[2], kind="judged", subject="reader", body={"verdict": []})
    assert "is not allowed: the judged entry" in damages([*LOG[:2], shapeless])[0].what


@pytest.mark.parametrize(
    "rewrite", [lambda text: json.dumps(json.loads(text)), lambda text: " " + text, lambda text: text + " "]
)
def test_the_same_content_in_another_form_is_found(rewrite: Callable[[str], str]) -> None:
    for position in POSITIONS:
        found = damages([*LOG[: position - 1], rewrite(LOG[position - 1]), *LOG[position:]])
        assert found == [Damage(f"entry {position}", "was written anew, with the same content")]


# Removed, doubled, moved


@pytest.mark.parametrize("position", POSITIONS)
def test_a_removed_entry_is_found(position: int) -> None:
    texts = [*LOG[: position - 1], *LOG[position:]]
    found = damages(texts)
    if position < len(LOG):
        assert found == [Damage(f"entry {position + 1}", f"entry {position} is missing before it")]
    else:  # the last one: only its other copy, or an anchor, knows of it
        assert found == []
    stored = [line for line in numbered(LOG) if line[0] != position]  # as a database gives them
    assert [named(verify_log(stored)[1], position)] == [position < len(LOG)]
    lacking = f"lacks 1 of the other copy's entries: {position}"
    assert compare_copies(stored, [text.encode() for text in LOG]) == [Damage("the database", lacking)]
    assert beside(LOG, texts) == [Damage("registry.jsonl", lacking)]
    assert compare_anchor(stored, anchor(position)) == [
        Damage(f"entry {position}", "is missing, and the anchor was taken of it")
    ]


@pytest.mark.parametrize("first", POSITIONS)
def test_any_run_of_entries_that_is_removed_is_found(first: int) -> None:
    for last in range(first + 1, len(LOG)):
        found = damages([*LOG[: first - 1], *LOG[last:]])
        assert found == [Damage(f"entry {last + 1}", f"entries {first} to {last} are missing before it")]


def test_an_end_that_was_cut_off_in_both_copies_shows_against_an_anchor() -> None:
    for kept in range(len(LOG)):
        texts = LOG[:kept]
        assert (damages(texts), beside(texts, texts)) == ([], [])
        assert compare_anchor(numbered(texts), anchor(len(LOG))) != []


@pytest.mark.parametrize("first", POSITIONS)
def test_two_that_changed_places_are_found(first: int) -> None:
    for second in range(first + 1, len(LOG) + 1):
        texts = list(LOG)
        texts[first - 1], texts[second - 1] = texts[second - 1], texts[first - 1]
        found = damages(texts)
        assert {f"entry {first}", f"entry {second}"} <= {damage.where for damage in found}, (second, found)
        assert any("order" in damage.what for damage in found)
        assert any(f"has entry {first} after entry" in str(damage) for damage in beside(LOG, texts))


@pytest.mark.parametrize("position", POSITIONS)
def test_one_that_is_there_twice_is_found(position: int) -> None:
    for place in range(position, len(LOG) + 1):
        texts = [*LOG[:place], LOG[position - 1], *LOG[place:]]
        found = damages(texts)
        assert f"entry {position}" in {damage.where for damage in found}, (place, found)
        assert Damage("registry.jsonl", f"has entry {position} twice") in beside(LOG, texts)


@pytest.mark.parametrize(
    "garbage", ["", "{}", "[]", "null", "no json", '{"sequence": 1}', "[" * 100_000, "1e999", "NaN"]
)
def test_a_line_that_is_no_entry_is_found(garbage: str) -> None:
    for position in POSITIONS:
        instead = damages([*LOG[: position - 1], garbage, *LOG[position:]])
        assert [damage.where for damage in instead] == [f"entry {position}"]
        assert instead[0].what.startswith("cannot be read: ")
        added = damages([*LOG[: position - 1], garbage, *LOG[position - 1 :]])
        assert f"entry {position}" in {damage.where for damage in added}
        assert any(
            f"line {position} cannot be read" in damage.what
            for damage in beside(LOG, [*LOG[: position - 1], garbage, *LOG[position:]])
        )


def test_rows_under_other_numbers_are_found() -> None:
    found = verify_log([(number + (number > 4), text) for number, text in numbered(LOG)])[1]
    assert found == [Damage("entry 5", "stands in place 6")]


def test_numbers_that_json_does_not_have_are_damage_not_a_crash() -> None:
    texts = [LOG[0], LOG[1].replace('"at":', '"at":1e999,"x":', 1), LOG[2].replace('"at":', '"at":NaN,"x":', 1)]
    assert {"entry 2", "entry 3"} <= {damage.where for damage in damages(texts)}
    at = json.loads(LOG[1])["at"]
    found = damages([LOG[0], LOG[1].replace(f'"at":{at}', '"at":1e999')])
    assert found == [Damage("entry 2", f"was edited: {json.loads(LOG[1])['kind']} of {json.loads(LOG[1])['subject']}")]


# Any edit at all

FILE = "".join(f"{text}\n" for text in LOG).encode()


@given(data=st.data())
def test_any_change_of_bytes_in_the_file_is_found(data: st.DataObject) -> None:
    """Bytes replaced, put in or taken out, anywhere."""
    begin = data.draw(st.integers(0, len(FILE) - 1))
    length = data.draw(st.integers(0, 3))
    instead = data.draw(st.binary(max_size=3))
    changed = FILE[:begin] + instead + FILE[begin + length :]
    assume(changed != FILE)
    lines = [line + b"\n" for line in changed.split(b"\n")[:-1]]
    apart = compare_copies(numbered(LOG), lines)
    position = FILE[:begin].count(b"\n") + 1
    numbers = {int(number) for number in re.findall(r"\b\d+\b", " ".join(map(str, apart)))}
    assert numbers & {position, position + 1}, apart
    alone = verify_log(enumerate(lines, start=1))[1]
    cut_off = changed.count(b"\n") < len(LOG) and FILE.startswith(b"".join(lines))
    assert alone or cut_off, "a log that is cut off at its end is sound in itself"


@given(position=st.sampled_from(POSITIONS), data=st.data())
def test_any_change_of_bytes_in_a_stored_row_is_found(position: int, data: st.DataObject) -> None:
    body = LOG[position - 1].encode()
    begin = data.draw(st.integers(0, len(body) - 1))
    changed = body[:begin] + data.draw(st.binary(max_size=3)) + body[begin + data.draw(st.integers(0, 3)) :]
    assume(changed.removesuffix(b"\n") != body)
    rows = [(number, changed if number == position else text) for number, text in numbered(LOG)]
    assert named(verify_log(rows)[1], position)
    assert compare_copies(rows, [text.encode() + b"\n" for text in LOG])


def test_what_was_sound_before_the_damage_is_still_told() -> None:
    state, found = verify_log(numbered(edited(7, actor="another")))
    assert (state.sequence, len(found)) == (6, 1)
    assert Entry.from_text(LOG[5]).hash == state.hash


# Anchors


def test_an_anchor_holds_while_the_log_grows() -> None:
    for position in POSITIONS:
        for digits in (12, 20, 64):
            short = anchor(position)[: len(str(position)) + 1 + digits]
            for length in range(position, len(LOG) + 1):
                assert compare_anchor(numbered(LOG[:length]), short) == []
    assert compare_anchor(numbered(LOG), f" {anchor(3).upper()}\n") == []
    empty = f"0:{'0' * 64}"
    assert (compare_anchor([], empty), compare_anchor(numbered(LOG), empty)) == ([], [])
    assert compare_anchor(numbered(LOG), f"0:{'1' * 64}") != []


def test_an_anchor_is_held_against_what_the_entry_is_not_what_it_says() -> None:
    assert compare_anchor(numbered(edited(5, actor="another")), anchor(5)) != []
    assert compare_anchor([(5, b"\xff"), (6, LOG[5])], anchor(5))[0].what.startswith("cannot be read")
    assert compare_anchor([(5, LOG[5])], anchor(6)) != []


@pytest.mark.parametrize(
    "text",
    ["", "5", "5:", "5:abc", ":" + "0" * 64, "x:" + "0" * 64, "-1:" + "0" * 64, "5:" + "g" * 64, "5:" + "0" * 65],
)
def test_text_that_is_no_anchor_is_refused(text: str) -> None:
    with pytest.raises(DataError, match="is no anchor") as told:
        compare_anchor(numbered(LOG), text)
    assert "SEQUENCE:HASH" in told.value.next_step


# Bytes


def test_a_flipped_byte_is_named_with_its_checkpoint_or_evaluation(tmp_path: Path) -> None:
    blobs, line, made = Blobs(tmp_path / "blobs"), Line(), []
    for number in range(3):
        source = tmp_path / f"source{number}"
        source.write_bytes(bytes([number]) * 1000)
        made.append(line.register(number + 1, digest=blobs.add(source).digest))
    scores = tmp_path / "scores.csv"
    scores.write_text("id,accuracy\na,1\n")
    evaluation = line.evaluate(made[0], scores=blobs.add(scores).digest)
    line.remove(made[2])
    blobs.remove(line.state.checkpoints[made[2]].digest)
    read: list[int] = []
    assert verify_bytes(line.state, blobs, read.append) == []
    assert sum(read) == 2 * 1000 + len("id,accuracy\na,1\n")
    for digest_of in (line.state.checkpoints[made[1]].digest, evaluation.scores):
        (file,) = blobs.files(digest_of).iterdir()
        file.chmod(0o644)
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    found = verify_bytes(line.state, blobs)
    assert [damage.where for damage in found] == [f"checkpoint {made[1]}", f"evaluation {evaluation.id}"]
    assert "source1" in found[0].what and "scores.csv" in found[1].what
    assert [damage.where for damage in verify_bytes(line.state, blobs, only=made[0])] == [f"evaluation {evaluation.id}"]
    assert verify_bytes(line.state, blobs, only=made[2]) == []
