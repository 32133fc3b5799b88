"""Parts that a dataset brings with it: who is where, who stands on two sides, and what is said of it."""

from __future__ import annotations

from typing import Any

import pytest

from cls.bottle.dataset_file import GroupDataset
from cls.dataset.samples import Ledger, Sample
from cls.dataset.split.assign import TRAIN, VALID
from cls.dataset.split.file import (
    IN_NO_PART,
    IN_TEST,
    PART_SUBSETS,
    PartsUsed,
    part_names,
    parts_content,
    split_by_parts,
    subsets_of,
)
from cls.errors import TrainingError
from cls.people.photos import Person

PERSON = Person("female", 0.9, (0, 0, 10, 10), ())


def dataset(**extra: Any) -> GroupDataset:
    return GroupDataset("top color", ("red",), (), extra)


def sample(path: str, picset: str = "", number: int = 0, joined: str = "") -> Sample:
    return Sample(path, picset, PERSON, (1.0,), number, joined)


def test_names_and_content() -> None:
    assert PART_SUBSETS == ("train", "valid", "test")
    assert part_names(dataset(parts={"b": {}, "a": {}})) == ["a", "b"]
    assert part_names(dataset(parts=["a"])) == part_names(dataset()) == []
    sides = {"c": "test", "b": "train", "a": "train"}
    assert parts_content(sides) == {"train": ["b", "a"], "valid": [], "test": ["c"]}
    assert subsets_of(dataset(parts={"x": parts_content(sides)}), "x") == sides
    assert subsets_of(dataset(parts={"x": {"valid": [3]}}), "x") == {"3": "valid"}


@pytest.mark.parametrize(
    ("extra", "code", "values"),
    [
        ({}, "training.unknown_parts", ['"top color"', "'x'", "leave out --split"]),
        ({"parts": {"b": {}, "a": {}}}, "training.unknown_parts", ['"top color"', "'x'", "use one of a, b"]),
        ({"parts": {"x": ["a"]}}, "training.parts_unreadable", ["'x'", "load the set again"]),
        ({"parts": {"x": {"train": 3}}}, "training.parts_unreadable", ["'x'"]),
        ({"parts": {"x": {"train": ["a", "b"], "test": ["a"]}}}, "training.overlapping_parts", ["'x'"]),
        ({"parts": {"x": {"train": ["a", "a"]}}}, "training.overlapping_parts", ["'x'"]),
    ],
)
def test_parts_that_cannot_be_used(extra: dict[str, Any], code: str, values: list[str]) -> None:
    with pytest.raises(TrainingError) as caught:
        subsets_of(dataset(**extra), "x", where="f.json")
    assert caught.value.code == code
    assert caught.value.where == "f.json"
    for value in values:
        assert value in caught.value.line()


PARTS = {"x": {"train": ["0", "1", "2", "6"], "valid": ["3", "4", "7"], "test": ["5", "8"]}}
SAMPLES = [
    sample("0", "a"), sample("1", "b"), sample("2"), sample("3", "a"), sample("4", "c"), sample("5", "d"),
    sample("6", "e", 0), sample("6", "e", 1), sample("7"), sample("8", "c"), sample("9", "f"),
]  # fmt: skip


def test_samples_go_where_the_dataset_says() -> None:
    ledger = Ledger(pictures=11)
    found = split_by_parts(SAMPLES, dataset(parts=PARTS), "x", ledger=ledger)
    assert found.indices == [0, 1, 2, 3, 4, 6, 7, 8]
    assert [one.path for one in found.samples] == ["0", "1", "2", "3", "4", "6", "6", "7"]
    # a stands in train and valid, c in valid and test: taken apart into their pictures.
    units = [one.split_unit for one in found.samples]
    assert units == [
        "picture:0",
        "picset:b",
        "picture:2",
        "picture:3",
        "picture:4",
        "picset:e",
        "picset:e",
        "picture:7",
    ]
    assert found.split.subsets == {
        "picture:0": TRAIN, "picset:b": TRAIN, "picture:2": TRAIN, "picture:3": VALID, "picture:4": VALID,
        "picset:e": TRAIN, "picture:7": VALID,
    }  # fmt: skip
    assert found.test == [SAMPLES[5], SAMPLES[9]]
    assert ledger.left_out == {"5": IN_TEST, "8": IN_TEST, "9": IN_NO_PART}
    assert found.used == PartsUsed.of("x", test=2, picsets=5, shared=2, unknown=2)
    assert split_by_parts(SAMPLES, dataset(parts=PARTS), "x").samples == found.samples, "a ledger is not needed"


def test_joined_picsets_are_taken_apart_and_counted_as_picsets() -> None:
    samples = [sample("0", "a", joined="joined:a"), sample("3", "b", joined="joined:a"), sample("1", "c")]
    found = split_by_parts(samples, dataset(parts=PARTS), "x")
    assert [one.split_unit for one in found.samples] == ["picture:0", "picture:3", "picset:c"]
    assert (found.used.picsets, found.used.picsets_in_two_subsets, found.used.pictures_of_no_picset) == (3, 0, 0)


@pytest.mark.parametrize(("paths", "empty"), [("01", "valid"), ("34", "train"), ("59", "train"), ("", "train")])
def test_an_empty_part(paths: str, empty: str) -> None:
    with pytest.raises(TrainingError) as caught:
        split_by_parts([sample(path) for path in paths], dataset(parts=PARTS), "x", where="f.json")
    assert caught.value.code == "training.empty_part"
    assert f"'{empty}' of 'x'" in caught.value.what
    assert caught.value.where == "f.json"


def test_what_a_reader_has_to_know() -> None:
    leaking = PartsUsed.of("x", test=4, picsets=5, shared=2, unknown=1)
    assert leaking.is_leaking
    assert "'x' of the dataset LEAK: 2 of 5 picsets are in two subsets" in leaking.note
    assert leaking.to_json_values() == {
        "name": "x", "is_leaking": True, "picsets": 5, "picsets_in_two_subsets": 2, "pictures_of_no_picset": 1,
        "test_pictures": 4, "note": leaking.note,
    }  # fmt: skip
    assert not PartsUsed.of("x", test=0, picsets=5, shared=0).is_leaking
    assert PartsUsed.of("x", test=0, picsets=5, shared=1).is_leaking
    assert (
        PartsUsed.of("x", test=0, picsets=5, shared=0).note
        == "parts 'x' of the dataset: none of 5 picsets is in two subsets"
    )
    assert PartsUsed.of("x", test=0, picsets=5, shared=0, unknown=3).note.endswith("; 3 pictures belong to no picset")
    assert "leaks cannot be detected" in PartsUsed.of("x", test=0, picsets=0, shared=0, unknown=9).note


def test_parts_of_runs_of_earlier_versions_are_read() -> None:
    older = {"name": "official", "is_leaking": True, "picsets": 9, "picsets_on_two_sides": 2}
    assert PartsUsed.model_validate(older).picsets_in_two_subsets == 2


def test_what_is_not_said_of_parts_is_nothing() -> None:
    used = PartsUsed(name="x", is_leaking=False, picsets=1, picsets_in_two_subsets=0)
    assert (used.pictures_of_no_picset, used.test_pictures, used.note) == (0, 0, "")
