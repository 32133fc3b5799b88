from __future__ import annotations

import math

import pytest

from cls.bottle.dataset_file import GroupDataset, LabelledRow
from cls.dataset.samples import mark_incomplete_labels_unknown
from cls.errors import TrainingError

UNKNOWN = math.nan
DATASET = GroupDataset(
    "accessories",
    ("hat", "bag"),
    (
        LabelledRow("hat.jpeg", (1.0, 0.0)),
        LabelledRow("bag.jpeg", (0.0, 1.0)),
        LabelledRow("both.jpeg", (1.0, 1.0)),
        LabelledRow("trash.jpeg", (0.0, 0.0)),
        LabelledRow("half.jpeg", (0.0, UNKNOWN)),
    ),
)


def labels(dataset: GroupDataset) -> dict[str, str]:
    """`+` present, `-` absent, `?` unknown."""
    signs = {1.0: "+", 0.0: "-"}
    return {row.path.split(".")[0]: "".join(signs.get(value, "?") for value in row.labels) for row in dataset.rows}


def test_what_a_picture_does_not_carry_is_unknown_unless_it_is_trash() -> None:
    expected = {"hat": "+?", "bag": "?+", "both": "++", "trash": "--", "half": "??"}
    assert labels(mark_incomplete_labels_unknown(DATASET, ())) == expected


def test_only_the_labels_named_are_incomplete() -> None:
    expected = {"hat": "+?", "bag": "-+", "both": "++", "trash": "--", "half": "-?"}
    assert labels(mark_incomplete_labels_unknown(DATASET, ["bag"])) == expected


def test_a_strange_name_is_refused() -> None:
    with pytest.raises(TrainingError) as caught:
        mark_incomplete_labels_unknown(DATASET, ["hat", "bags"])
    assert caught.value.code == "training.unknown_label"
    assert "'bags'" in caught.value.what
    assert "hat, bag" in str(caught.value.hint)
