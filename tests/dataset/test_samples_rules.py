"""Samples and their ledger, value by value."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from cls.bottle.dataset_file import GroupDataset, LabelledRow
from cls.bottle.layout import Bottle
from cls.dataset.samples import (
    BROKEN,
    NO_FILE,
    NO_LABEL_KNOWN,
    NO_PERSON_CHOSEN,
    NO_PERSON_FOUND,
    NOT_SEGMENTED,
    REJECTED,
    Ledger,
    Sample,
    collect_samples,
    drop_broken,
    labels_of,
    log_ledger,
)
from cls.people.photos import Person
from tests.bottles import make_empty_bottle, write_rows

NAN = float("nan")
PERSON = Person("female", 0.9, (0, 0, 10, 10), ())


def entry(cls: str, side: float) -> dict[str, object]:
    outline = [[0, 0, side, 0, side, side, 0, side]]
    return {"cls": cls, "conf": 0.9, "bbox": [0, 0, 9, 9], "segments": outline}


@pytest.fixture
def bottle(tmp_path: Path) -> Bottle:
    made = make_empty_bottle(tmp_path)
    made.pictures.mkdir(parents=True)
    two = {"0": entry("female", 0.2), "1": entry("male", 0.5)}
    write_rows(
        made,
        [
            ("two.jpeg", "unchecked", two), ("woman.jpeg", "accepted", {"0": entry("female", 0.3)}),
            ("rejected.jpeg", "rejected", two), ("nobody.jpeg", "unchecked", {}), ("later.jpeg", "unchecked", None),
            ("gone.jpeg", "unchecked", two), ("unknown.jpeg", "unchecked", two), ("half.jpeg", "unchecked", two),
        ],
    )  # fmt: skip
    for name in ("two", "woman", "nobody", "later", "unknown", "half", "norow"):
        made.picture(f"{name}.jpeg").touch()
    return made


def dataset(*names: str, **labels: tuple[float, ...]) -> GroupDataset:
    rows = tuple(LabelledRow(f"{name}.jpeg", labels.get(name, (1.0, 0.0)), f"of {name}") for name in names)
    return GroupDataset("g", ("a", "b"), rows)


def test_units() -> None:
    assert Sample("p", "s", PERSON, ()).split_unit == Sample("p", "s", PERSON, ()).unjoined_unit == "picset:s"
    assert Sample("p", "", PERSON, ()).split_unit == Sample("p", "", PERSON, ()).unjoined_unit == "picture:p"
    joined = Sample("p", "s", PERSON, (), joined="joined:x")
    assert (joined.split_unit, joined.unjoined_unit, joined.picture_unit, joined.number) == (
        "joined:x",
        "picset:s",
        "picture:p",
        0,
    )


def test_labels_as_an_array() -> None:
    found = labels_of([Sample("p", "", PERSON, (1.0, NAN)), Sample("q", "", PERSON, (0.0, 1.0))])
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[1, NAN], [0, 1]])
    assert labels_of([]).shape == (0, 0)
    assert labels_of([Sample("p", "", PERSON, ())]).shape == (1, 0)


def test_why_a_picture_gives_no_sample(bottle: Bottle) -> None:
    names = ("two", "rejected", "nobody", "later", "gone", "unknown", "half", "norow", "nothing")
    made = dataset(*names, unknown=(NAN, NAN), half=(NAN, 0.0), nothing=(NAN, NAN))
    samples, ledger = collect_samples(bottle, made)
    assert [sample.path for sample in samples] == ["two.jpeg", "half.jpeg"]
    assert ledger.left_out == {
        "rejected.jpeg": REJECTED,  # whether its file is there or not
        "nobody.jpeg": NO_PERSON_FOUND,
        "later.jpeg": NOT_SEGMENTED,
        "gone.jpeg": NO_FILE,
        "unknown.jpeg": NO_LABEL_KNOWN,
        "norow.jpeg": NOT_SEGMENTED,
        "nothing.jpeg": NO_FILE,
    }
    assert ledger.pictures == 9
    assert ledger.segmentation_models == Counter({"tiny_person": 2})


def test_a_group_without_labels_keeps_its_people(bottle: Bottle) -> None:
    samples, ledger = collect_samples(bottle, GroupDataset("g", (), (LabelledRow("two.jpeg", (), "s"),)))
    assert [sample.labels for sample in samples] == [()]
    assert ledger.left_out == {}


@pytest.mark.parametrize(
    ("people", "subject", "found", "reason"),
    [
        ("largest", None, [("two", "male", 0), ("woman", "female", 0)], {}),
        ("largest", "female", [("two", "female", 0), ("woman", "female", 0)], {}),
        ("largest", "male", [("two", "male", 0)], {"woman": " (--people largest --subject male)"}),
        ("single", None, [("woman", "female", 0)], {"two": " (--people single)"}),
        ("all", None, [("two", "female", 0), ("two", "male", 1), ("woman", "female", 0)], {}),
    ],
)
def test_whose_labels_they_are(
    bottle: Bottle, people: str, subject: str | None, found: list[tuple[str, str, int]], reason: dict[str, str]
) -> None:
    samples, ledger = collect_samples(bottle, dataset("two", "woman"), people=people, subject=subject)
    assert [(s.path.removesuffix(".jpeg"), s.person.cls, s.number) for s in samples] == found
    assert [(s.picset, s.labels) for s in samples] == [(f"of {name}", (1.0, 0.0)) for name, _, _ in found]
    assert ledger.left_out == {f"{name}.jpeg": NO_PERSON_CHOSEN + words for name, words in reason.items()}
    assert ledger.segmentation_models["tiny_person"] == 2 - len(reason), "pictures, not people"


def test_the_largest_is_the_default(bottle: Bottle) -> None:
    assert [sample.person.cls for sample in collect_samples(bottle, dataset("two"))[0]] == ["male"]


def test_the_ledger() -> None:
    ledger = Ledger(5, {"b": REJECTED, "a": NO_PERSON_FOUND, "c": NO_PERSON_FOUND}, Counter({"m": 2}))
    assert list(ledger.reasons.items()) == [(NO_PERSON_FOUND, 2), (REJECTED, 1)]
    assert ledger.record().to_json_values() == {
        "pictures": 5, "used": 2, "left_out_by_reason": {NO_PERSON_FOUND: 2, REJECTED: 1},
        "left_out": {"a": NO_PERSON_FOUND, "b": REJECTED, "c": NO_PERSON_FOUND}, "segmentation_models": {"m": 2},
    }  # fmt: skip
    assert list(ledger.record().left_out) == ["a", "b", "c"]
    assert (Ledger().pictures, Ledger().left_out, Ledger().segmentation_models) == (0, {}, Counter())


def test_broken_pictures_are_dropped_with_all_their_people() -> None:
    samples = [Sample("a", "", PERSON, (), 0), Sample("b", "", PERSON, ()), Sample("a", "", PERSON, (), 1)]
    ledger = Ledger(3, {"z": NO_PERSON_FOUND})
    assert drop_broken(samples, ["a", "x"], ledger) == [samples[1]]
    assert ledger.left_out == {"z": NO_PERSON_FOUND, "a": BROKEN, "x": BROKEN}


def logged(caplog: pytest.LogCaptureFixture) -> list[tuple[int, str]]:
    return [(record.levelno, record.getMessage()) for record in caplog.records]


def test_what_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    samples = [
        Sample(str(n), "", PERSON, labels) for n, labels in enumerate([(1.0, 0.0), (1.0, NAN), *[(0.0, 0.0)] * 2])
    ]
    ledger = Ledger(7, {"x": NOT_SEGMENTED, "y": NOT_SEGMENTED, "z": NO_PERSON_FOUND})
    with caplog.at_level(logging.INFO):
        log_ledger(ledger, samples, ("a", "b"))
    assert {record.name for record in caplog.records} == {"cls.dataset"}
    first, *rest = logged(caplog)
    assert first == (logging.INFO, "4 people in 4 of 7 pictures: a 2, b 0, none of them 2")
    assert rest[:2] == [
        (logging.WARNING, f"2 pictures left out: {NOT_SEGMENTED}"),
        (logging.WARNING, f"1 picture left out: {NO_PERSON_FOUND}"),
    ]
    assert rest[2] == (logging.INFO, "labels unknown, which count for nothing: b 1")
    assert rest[3][1].startswith("2 more pictures could be trained on: ")
    caplog.clear()
    with caplog.at_level(logging.INFO):
        log_ledger(Ledger(1), samples[:1], ("a", "b"))
    assert logged(caplog) == [(logging.INFO, "1 person in 1 of 1 picture: a 1, b 0, none of them 0")]
    caplog.clear()
    with caplog.at_level(logging.INFO):
        log_ledger(Ledger(), [], ())
    assert logged(caplog) == [(logging.INFO, "0 people in 0 of 0 pictures: , none of them 0")]


def test_every_label_has_a_name() -> None:
    samples = [Sample("0", "", PERSON, (1.0, 0.0))]
    for names in (("a",), ("a", "b", "c")):
        with pytest.raises(ValueError, match="zip"):
            log_ledger(Ledger(1), samples, names)
