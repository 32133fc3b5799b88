"""The label files of a set: tags.csv (as annotated), truth.csv (as it is) and groups.json."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from cls.files import write_json_atomic, write_text_atomic
from cls.sample.figure.wardrobe import GROUPS
from cls.sample.tags import given_tags, main_person, true_tags

if TYPE_CHECKING:
    from pathlib import Path

    from cls.sample.plan import Plan

TAGS_HEADER = ["file", "tags", "picset"]
TRUTH_HEADER = ["file", "tags", "picset", "person", "wrong", "corrupt"]


def write_labels(directory: Path, plan: Plan) -> None:
    """Write the three files.

    tags.csv holds the tags annotators gave. truth.csv holds the true ones, with the person's id, the group whose given
    tags are wrong ("" when all are right) and how the file is corrupt ("" when it is whole).
    """
    given_rows, true_rows = [TAGS_HEADER], [TRUTH_HEADER]
    for picset, indices in enumerate(plan.picsets):
        truth, guid = true_tags(main_person(plan.config, picset)), plan.guid(picset)
        for index in indices:
            given, wrong_group = given_tags(plan, index, truth)
            name = plan.file_name(index)
            given_rows.append([name, ";".join(given), guid])
            true_rows.append(
                [name, ";".join(truth), guid, f"person-{picset:05d}", wrong_group, plan.corrupt_kind(index)]
            )
    write_json_atomic(directory / "groups.json", GROUPS)
    write_text_atomic(directory / "truth.csv", _csv(true_rows))
    write_text_atomic(directory / "tags.csv", _csv(given_rows))


def _csv(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
