"""From the journal to metrics.parquet: a few bytes a point, read in milliseconds. The journal stays, as the truth."""

from __future__ import annotations

import os

from windlass.runs.folder import RunFolder
from windlass.runs.reader import OFFSET_KEY, points_frame, read_journal, stored_offset

ROW_GROUP = 100_000


def compact(folder: RunFolder) -> int:
    """Write the metric history of the journal's whole lines, by rename; returns the number of points.

    Columns: metric, step, time, value, attempt; grouped by metric, in order of arrival. Safe to repeat at any time:
    readers take what the journal has behind the file's offset from the journal.
    """
    try:
        size = folder.journal_file.stat().st_size
    except OSError:
        return 0
    stored = stored_offset(folder)
    if size == 0 or (stored is not None and stored[0] == size):
        return 0
    found = read_journal(folder)
    frame = points_frame(found)
    beside = folder.metrics_file.with_name(f".{folder.metrics_file.name}.{os.getpid()}")
    try:
        frame.write_parquet(beside, row_group_size=ROW_GROUP, metadata={OFFSET_KEY: f"{found.offset} {found.attempt}"})
        os.replace(beside, folder.metrics_file)
    finally:
        beside.unlink(missing_ok=True)
    return frame.height
