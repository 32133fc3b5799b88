"""The rows of the table -> one record a picture: which row counts where a path stands several times."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from cls.pictures.queries import StoredRow
from cls.pictures.records import PictureRecord, Status
from cls.pictures.segments import read_segments, read_status


def merge_rows(rows: Iterable[StoredRow]) -> tuple[dict[str, PictureRecord], list[str]]:
    """Merges rows to one record a path.

    People and model version come from the newest row (highest id) whose `segments` can be read, one that is NULL only
    where no other has any; the status from the newest row with a known one. A picture that any of its rows calls
    rejected is rejected: what a reviewer once took out is never trained on by accident.

    Args:
        rows: oldest first.

    Returns:
        Records by path (paths without a readable row are left out, unless rejected), and one line for every row that
        is not whole.
    """
    records: dict[str, PictureRecord] = {}
    known_statuses: dict[str, str] = {}
    rejected: set[str] = set()
    reports: list[str] = []
    for row in rows:
        problems: list[str] = []
        segments = read_segments(row.segments, problems, row.path)
        status = read_status(row.status, problems)
        if status not in Status.ALL and segments.status is not None:
            status = segments.status
        if status in Status.ALL:
            known_statuses[row.path] = status
        if Status.REJECTED in (status, segments.status):
            rejected.add(row.path)
        older = records.get(row.path)
        if segments.is_readable and (segments.people is not None or older is None or older.people is None):
            records[row.path] = PictureRecord(row.path, row.model_version, status, segments.people)
        if problems:
            reports.append(f"row {row.id} ({row.path}): {'; '.join(problems)}")
    for path in rejected:
        known_statuses[path] = Status.REJECTED
        records.setdefault(path, PictureRecord(path, "", Status.REJECTED, None))
    merged = {path: replace(record, status=known_statuses.get(path, record.status)) for path, record in records.items()}
    return merged, reports
