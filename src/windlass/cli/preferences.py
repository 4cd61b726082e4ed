"""``windlass preferences``: import, list, show, approve, reject, supersede, export, verify."""

from __future__ import annotations

import getpass
import sys
import time
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from windlass.cli.blocks import out_sections
from windlass.cli.keeping import brief, counted, facts, hashing, known, moment, out_rows, waiting
from windlass.cli.runs import JsonOption, LimitOption
from windlass.cli.show import json_out, out, say
from windlass.datasets.clashes import WORDS, ClashKind, clashes
from windlass.datasets.export import SHARES, Manifest, PartName
from windlass.datasets.export import export as write_export
from windlass.datasets.folder import PreferenceFolder, Preferences
from windlass.datasets.reviews import Reviewed, ReviewState
from windlass.datasets.verify import verify as verify_export
from windlass.errors import DataError, nearest
from windlass.records.task import Pair
from windlass.report.blocks import Code, Section, Table

app = typer.Typer(no_args_is_help=True, help="Pairs to train on by preference: import, review, export and verify them.")

MOST_SHOWN = 20  #: findings of a verification, or pairs that are alike
STYLE = {ReviewState.APPROVED: "green", ReviewState.REJECTED: "red", ReviewState.SUPERSEDED: "dim"}

FolderArgument = Annotated[Path, typer.Argument(metavar="FOLDER", help="A folder that pairs were imported to.")]
IdsArgument = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Pairs, by their ids.")]
AllOption = Annotated[bool, typer.Option("--all", help="Every pair that is pending.")]
FromOption = Annotated[
    Path | None,
    typer.Option("--from", metavar="FILE", help="The pairs whose ids are in a file, one a line; - is stdin."),
]
ByOption = Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who decides; default: the user's name.")]
ReasonOption = Annotated[str, typer.Option("--reason", help="Why; it goes on record.")]


@app.command("import")
def import_pairs(
    file: Annotated[Path, typer.Argument(help="JSON Lines, JSON, CSV, TSV or Parquet.")],
    to: Annotated[Path, typer.Option("--to", metavar="FOLDER", help="Where they are reviewed; made where it is new.")],
    source: Annotated[
        str,
        typer.Option("--source", help="Where the pairs are from; default: the file's name. A pair's metadata may say."),
    ] = "",
    metadata: Annotated[
        list[str] | None, typer.Option("--metadata", metavar="KEY", help="A further key or column to keep; repeatable.")
    ] = None,
    by: ByOption = None,
    as_json: JsonOption = False,
) -> None:
    """Add the pairs of a file to a folder, where they are pending. All or none; pairs that are there are passed over.

    A row has prompt, chosen and rejected: texts, or lists of messages (role, content). It may have id and metadata.

    [bold]Examples[/bold]

      windlass preferences import pairs.jsonl --to preferences/reader
      windlass preferences import ranked.parquet --to preferences/reader --metadata score --source "survey of May"
    """
    folder = PreferenceFolder(to)
    size = file.stat().st_size if file.is_file() else 0
    with hashing(f"reading {file.name}", size) as on_bytes:
        added = folder.import_file(
            file, by=_person(by), at=time.time(), source=source, keep=metadata or (), on_bytes=on_bytes
        )
    there = folder.read()
    if as_json:
        json_out({"folder": str(to), "new": added.new, "known": added.known, "counts": there.counts})
        return
    more = f", {counted(added.known, 'pair')} were there" if added.known else ""
    out(f"{counted(added.new, 'new pair')} in {to}{more}; {_counts(there)}")
    _tell_alike(there, set(list(there.pairs)[len(there.pairs) - added.new :]))
    if there.counts[ReviewState.PENDING]:
        say(f"Next: windlass preferences list {to} --state pending")


def _tell_alike(there: Preferences, new: Collection[str]) -> None:
    """New pairs that a reviewer should see beside others."""
    pairs = there.within(ReviewState.PENDING, ReviewState.APPROVED)
    told = (ClashKind.NEAR_DUPLICATE, ClashKind.CONTRADICTION)
    found = [one for one in clashes(pairs, alike=True) if one.kind in told and pairs[one.second].id in new]
    for kind, first, second in found[:MOST_SHOWN]:
        say(f"note: {pairs[second].id}: {WORDS[kind].format(pairs[first].id)}")
    if len(found) > MOST_SHOWN:
        say(f"... and {counted(len(found) - MOST_SHOWN, 'more pair')} like that")


@app.command("list")
def list_pairs(
    folder: FolderArgument,
    state: Annotated[str | None, typer.Option("--state", help="pending, approved, rejected or superseded.")] = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """The pairs of a folder, in the order of their import: where each stands, by whom and why.

    [bold]Examples[/bold]

      windlass preferences list preferences/reader --state pending
      windlass preferences list preferences/reader --json --limit 100000
    """
    there = PreferenceFolder(folder).read()
    known("state", state, map(str, ReviewState), "")
    found = there.within(ReviewState(state)) if state else list(there.pairs.values())
    if as_json:
        json_out([_row(there, pair) for pair in found[:limit]])
        return
    if not found:
        say(f"No pair is {state}; {_counts(there)}")
        return
    shown = found[:limit]
    rows = [_cells(there, pair) for pair in shown]
    out_rows(("id", "state", "prompt", "by", "at (UTC)", "why"), rows, [STYLE.get(_state(there, one)) for one in shown])
    if len(found) > limit:
        say(f"The first {limit:,} of {len(found):,}; more with --limit")
    say(_counts(there))


def _state(there: Preferences, pair: Pair) -> ReviewState:
    return there.standings[pair.id].state


def _row(there: Preferences, pair: Pair) -> dict[str, Any]:
    state, review = there.standings[pair.id]
    return {
        **pair.model_dump(mode="json"),
        "state": state,
        "source": there.source(pair),
        "by": review.by if review else None,
        "at": review.at if review else None,
        "reason": review.reason if review else "",
        "instead": review.instead if review else None,
    }


def _cells(there: Preferences, pair: Pair) -> tuple[str, ...]:
    state, review = there.standings[pair.id]
    prompt = brief(_printable(pair.prompt[:400]), 60)
    if review is None:
        return _printable(pair.id), state, prompt, "", "", ""
    return _printable(pair.id), state, prompt, _printable(review.by), moment(review.at), _why(review)


def _why(review: Reviewed) -> str:
    instead = f"superseded by {review.instead}" if review.instead else ""
    return _printable("; ".join(part for part in (instead, review.reason) if part))


@app.command()
def show(
    folder: FolderArgument,
    pair: Annotated[str, typer.Argument(metavar="ID", help="The pair's id.")],
    as_json: JsonOption = False,
) -> None:
    """Everything about one pair: its texts, where it is from, and every review of it.

    [bold]Examples[/bold]

      windlass preferences show preferences/reader q17
      windlass preferences show preferences/reader q17 --json
    """
    there = PreferenceFolder(folder).read()
    one = there.find(pair)
    origin, reviews = there.origins[one.id], there.reviews(one.id)
    if as_json:
        imported = {"file": origin.file, "file_sha256": origin.file_sha256, "by": origin.by, "at": origin.at}
        listed = [
            review.model_dump(mode="json", include={"state", "by", "at", "reason", "instead"}) for review in reviews
        ]
        json_out({**_row(there, one), "content": one.content, "imported": imported, "reviews": listed})
        return
    about = facts(
        [
            ("state", str(_state(there, one))),
            ("source", _printable(there.source(one))),
            ("imported", f"{moment(origin.at)} UTC from {origin.file} by {origin.by}"),
            ("content", one.content),
            *((_printable(key), _printable(str(value))) for key, value in one.metadata.items() if key != "source"),
        ]
    )
    history = [(moment(one.at), _printable(one.by), str(one.state), _why(one)) for one in reviews]
    sections = [
        Section(name.capitalize(), [Code(_printable(getattr(one, name)))]) for name in ("prompt", "chosen", "rejected")
    ]
    sections.insert(0, Section("What it is", [about]))
    if history:
        sections.append(Section("Reviews", [Table(("at (UTC)", "by", "", "why"), history)]))
    out_sections(f"Pair {_printable(one.id)}", sections)


@app.command()
def approve(
    folder: FolderArgument,
    pairs: IdsArgument = None,
    every: AllOption = False,
    file: FromOption = None,
    by: ByOption = None,
    reason: ReasonOption = "",
) -> None:
    """Let pairs be trained on. What was rejected can be approved with a reason. All of those named, or none.

    [bold]Examples[/bold]

      windlass preferences approve preferences/reader q17 q18 --by ada
      windlass preferences approve preferences/reader --all --by ada --reason "read all of them"
    """
    _review(folder, pairs, every, file, ReviewState.APPROVED, by, reason)


@app.command()
def reject(
    folder: FolderArgument,
    pairs: IdsArgument = None,
    every: AllOption = False,
    file: FromOption = None,
    by: ByOption = None,
    reason: ReasonOption = "",
) -> None:
    """Keep pairs from being trained on; also what was approved. Needs a reason.

    [bold]Examples[/bold]

      windlass preferences reject preferences/reader q17 --by ada --reason "the chosen answer is wrong"
      windlass preferences reject preferences/reader --from ids.txt --reason "machine translated"
    """
    _review(folder, pairs, every, file, ReviewState.REJECTED, by, reason)


def _review(
    folder: Path,
    pairs: Iterable[str] | None,
    every: bool,
    file: Path | None,
    state: ReviewState,
    by: str | None,
    reason: str,
) -> None:
    if sum((bool(pairs), every, file is not None)) != 1:
        raise DataError(
            "name the pairs in one way", "Either ID..., or --from FILE, or --all for those that are pending"
        )
    named = None if every else list(dict.fromkeys(_ids(file) if file is not None else pairs or ()))
    with waiting("writing the review"):
        opened = PreferenceFolder(folder)
        changed = opened.review(named, state, by=_person(by), at=time.time(), reason=reason)
    already = 0 if named is None else len(named) - len(changed)
    more = f"; {counted(already, 'pair')} {'was' if already == 1 else 'were'} so before" if already else ""
    out(f"{counted(len(changed), 'pair')} {state}{more}")
    if state is ReviewState.APPROVED:
        say(f"Next: windlass preferences export {folder} OUT")


def _ids(file: Path) -> list[str]:
    """One a line. Raises DataError."""
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise DataError(f"{file} is no text in UTF-8") from None
    found = [line.strip() for line in text.split("\n") if line.strip()]
    if not found:
        raise DataError(f"{file} names no pairs", "One id a line")
    return found


@app.command()
def supersede(
    folder: FolderArgument,
    old: Annotated[str, typer.Argument(metavar="OLD", help="The pair that is replaced, for good.")],
    new: Annotated[str, typer.Argument(metavar="NEW", help="The pair that is to be used instead; approve it as well.")],
    by: ByOption = None,
    reason: ReasonOption = "",
) -> None:
    """Replace a pair by a better one, which was imported before. This cannot be taken back.

    [bold]Examples[/bold]

      windlass preferences supersede preferences/reader q17 q17b --by ada
      windlass preferences supersede preferences/reader q17 q17b --reason "a typing error in the prompt"
    """
    opened = PreferenceFolder(folder)
    changed = opened.review([old], ReviewState.SUPERSEDED, by=_person(by), at=time.time(), reason=reason, instead=new)
    out(f"{old} is superseded by {new}" if changed else f"{old} was superseded by {new} before")
    if (state := opened.read().standings[new].state) is not ReviewState.APPROVED:
        say(f"{new} is {state}. Next: windlass preferences approve {folder} {new}")


@app.command()
def export(
    folder: FolderArgument,
    to: Annotated[Path, typer.Argument(metavar="OUT", help="A new folder.")],
    split: Annotated[
        str, typer.Option("--split", metavar="SHARES", help="The shares of prompts; train=1 splits nothing off.")
    ] = ",".join(f"{name}={share:g}" for name, share in SHARES.items()),
    as_json: JsonOption = False,
) -> None:
    """Write the approved pairs as files to train on, with who approved each, and a manifest.

    Pairs with the same prompt are in one part. The same reviews give the same bytes.

    [bold]Examples[/bold]

      windlass preferences export preferences/reader data/reader
      windlass preferences export preferences/reader data/reader --split train=0.9,heldout=0.1
    """
    shares = _shares(split)
    with waiting(f"writing {to}"):
        made = write_export(PreferenceFolder(folder).read(), to, shares)
    left_out = {str(state): count for state, count in made.left_out.items() if count}
    if as_json:
        data = made.manifest.model_dump(mode="json")
        json_out({"id": made.manifest.id, "path": str(to), **data, "left_out": left_out, "alike": made.alike})
        return
    _out_manifest(made.manifest)
    if left_out:
        say("Left out: " + ", ".join(f"{count:,} {state}" for state, count in left_out.items()))
    if made.alike:
        say(
            f"note: {counted(made.alike, 'pair')} like another but for white space or case; which:"
            f" windlass preferences verify {to}"
        )
    trained_on = to if len(made.manifest.parts) == len(PartName) else to / "train.jsonl"
    say(f"Next: windlass train orpo --data {trained_on} --model FOLDER --profile NAME")


def _out_manifest(manifest: Manifest) -> None:
    rows = [(name, f"{part.rows:,}", part.fingerprint[:12]) for name, part in manifest.parts.items()]
    out_rows(("part", "pairs", "fingerprint"), [*rows, ("all", f"{manifest.rows:,}", manifest.fingerprint[:12])])
    out(f"export {manifest.id}")


def _shares(text: str) -> dict[str, float]:
    """``train=0.9,heldout=0.1``. Raises DataError."""
    example = "For example: --split train=0.8,validation=0.1,heldout=0.1"
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        if name not in list(PartName):
            raise DataError(f"there is no part {name!r}.{nearest(name, map(str, PartName))}", example)
        if name in shares:
            raise DataError(f"the part {name!r} is there twice", example)
        try:
            shares[name] = float(value)
        except ValueError:
            raise DataError(f"the share of {name!r} is {value!r}, which is no number", example) from None
    return shares


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="OUT", help="A folder that was exported to.")],
    as_json: JsonOption = False,
) -> None:
    """Read an export again: every byte, pair and approval, duplicates, contradictions, prompts in two parts.

    Exit code 1 where there is a problem. Pairs of one part that are the same but for white space or case are notes.

    [bold]Examples[/bold]

      windlass preferences verify data/reader
      windlass preferences verify data/reader --json
    """
    with waiting(f"reading {folder}"):
        found = verify_export(folder)
    if as_json:
        findings = [{**one._asdict(), "note": one.note} for one in found.findings]
        identity = found.manifest.id if found.manifest else None
        json_out({"sound": found.sound, "id": identity, "rows": found.rows, "findings": findings})
    else:
        for one in found.findings[:MOST_SHOWN]:
            mark = "[cyan]note   [/]" if one.note else "[bold red]problem[/]"
            out(f"{mark} {escape(_printable(str(one)))}", markup=True)
        if len(found.findings) > MOST_SHOWN:
            out(f"... and {len(found.findings) - MOST_SHOWN:,} more; all of them with --json")
        if found.sound and found.manifest:
            out(f"{counted(found.rows, 'pair')} as exported, each approved; export {found.manifest.id}")
    if not found.sound:
        raise typer.Exit(1)


def _person(by: str | None) -> str:
    return getpass.getuser() if by is None else by


def _counts(there: Preferences) -> str:
    return ", ".join(f"{count:,} {state}" for state, count in there.counts.items() if count)


def _printable(text: str) -> str:
    """Without what would steer a terminal."""
    return "".join(c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
