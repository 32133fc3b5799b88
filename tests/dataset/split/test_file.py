"""split.json as it is written and read, the memory of splits, and the split that looks at nobody's picset."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cls.bottle.dataset_file import GroupDataset, LabelledRow, write_dataset
from cls.dataset.samples import Sample
from cls.dataset.split.assign import JOIN_RULE, TRAIN, VALID, Split, _columns, _even_out, split_by_person, split_samples
from cls.dataset.split.file import SplitFile, SplitRule, read_split, split_with_memory, trained_on, write_split
from cls.errors import TrainingError
from cls.files import read_json, sha256_of_bytes, write_json_atomic
from cls.people.photos import Person

PERSON = Person("female", 0.9, (0, 0, 10, 10), ())
NAN = float("nan")


def sample(
    path: str, picset: str = "", labels: tuple[float, ...] = (1.0,), joined: str = "", number: int = 0
) -> Sample:
    return Sample(path, picset, PERSON, labels, number, joined)


SAMPLES = [
    sample("a.jpeg", "p", (1.0, NAN), "joined:p"),
    sample("a.jpeg", "p", (1.0, NAN), "joined:p", number=1),
    sample("b.jpeg", "q", (0.0, 1.0), "joined:p"),
    sample("c.jpeg", "", (0.0, 0.0)),
]
SPLIT = Split({"joined:p": TRAIN, "picture:c.jpeg": VALID})
WRITTEN = {
    "by": "picset",
    "seed": 7,
    "valid_share": 0.25,
    "join_rule": JOIN_RULE,
    "joined": {"joined:p": ["picset:p", "picset:q"]},
    "train": [["a.jpeg", "p", [1.0, None]], ["b.jpeg", "q", [0.0, 1.0]]],
    "valid": [["c.jpeg", "", [0.0, 0.0]]],
}


def test_what_is_written(tmp_path: Path) -> None:
    file = tmp_path / "split.json"
    write_split(file, SPLIT, SAMPLES, SplitRule(7, 0.25))
    assert json.loads(file.read_text()) == WRITTEN
    assert read_split(file) == ({"a.jpeg", "b.jpeg"}, {"c.jpeg"})
    assert trained_on(file) == {"a.jpeg": "p", "b.jpeg": "q"}
    write_split(file, SPLIT, SAMPLES, SplitRule(7, 0.25, "official"), seen_earlier={"z": "s", "y": ""})
    assert json.loads(file.read_text()) == {**WRITTEN, "by": "official", "seen_earlier": [["y", ""], ["z", "s"]]}
    assert trained_on(file) == {"a.jpeg": "p", "b.jpeg": "q", "y": "", "z": "s"}


def test_clusters_of_a_file() -> None:
    assert SplitFile.model_validate(WRITTEN).cluster_of_unit == {"picset:p": "joined:p", "picset:q": "joined:p"}
    assert SplitFile(train=[], valid=[]).cluster_of_unit == {}
    earliest = SplitFile(train=[], valid=[])
    assert (earliest.by, earliest.seed, earliest.valid_share) == ("picset", None, None)
    assert earliest.join_rule == 1, "files of earlier versions do not say"


def test_a_file_of_an_earlier_version(tmp_path: Path) -> None:
    file = tmp_path / "split.json"
    write_json_atomic(file, {"train": [["a.jpeg", "p", [1.0]]], "valid": [["b.jpeg", "", [0.0]]]})
    assert read_split(file) == ({"a.jpeg"}, {"b.jpeg"})
    assert trained_on(file) == {"a.jpeg": "p"}


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"valid": [["a.jpeg", "x", []]]}, ": a.jpeg in"),
        ({"valid": [["d.jpeg", "q", []]]}, ": joined:p, picset:q in"),
        ({"valid": [["d.jpeg", "r", []]], "joined": {"j": ["picset:r", "picset:q"]}}, ": j in"),
        (
            {
                "train": [["a.jpeg", "", []]],
                "valid": [["b.jpeg", "", []]],
                "joined": {"j": ["picture:a.jpeg", "picture:b.jpeg"]},
            },
            ": j in",
        ),
        ({key: [[name, "p", []] for name in "wxyz"] for key in ("train", "valid")}, ": w, x, y "),
    ],
)
def test_a_file_that_leaks(tmp_path: Path, change: dict[str, Any], names: str) -> None:
    file = tmp_path / "split.json"
    write_json_atomic(file, {**WRITTEN, **change})
    with pytest.raises(TrainingError) as caught:
        read_split(file)
    assert caught.value.code == "training.split_leaks"
    assert names in caught.value.what
    assert caught.value.where == str(file)


@pytest.mark.parametrize("change", [{"train": 3}, {"valid": [[]]}, {"joined": []}, {"train": None}])
def test_a_file_that_is_no_split(tmp_path: Path, change: dict[str, Any]) -> None:
    file = tmp_path / "split.json"
    write_json_atomic(file, {**WRITTEN, **change})
    with pytest.raises(TrainingError) as caught:
        read_split(file)
    assert caught.value.code == "training.not_a_split"
    write_json_atomic(file, {key: value for key, value in WRITTEN.items() if key not in change})
    if set(change) & {TRAIN, VALID}:
        with pytest.raises(TrainingError) as caught:
            read_split(file)
        assert caught.value.code == "training.not_a_split"
    else:
        read_split(file)


def test_what_weights_know_of_a_file_that_is_no_split(tmp_path: Path) -> None:
    for content in ({"valid": []}, {"train": [["a"]]}, {"train": 3}, []):
        write_json_atomic(tmp_path / "split.json", content)
        with pytest.raises(TrainingError) as caught:
            trained_on(tmp_path / "split.json")
        assert caught.value.code == "training.not_a_split"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = tuple(LabelledRow(f"{n}.jpeg", (float(n % 3 == 0),), f"s{n}") for n in range(20))
    write_dataset(tmp_path / "hat.json", GroupDataset("hat", ("hat",), rows))
    return tmp_path / "hat.json"


PEOPLE = [sample(f"{n}.jpeg", f"s{n}", (float(n % 3 == 0),)) for n in range(20)]


def test_the_memory_by_seed_and_share(file: Path, tmp_path: Path) -> None:
    none = tmp_path / "none.json"
    split = split_with_memory(file, none, PEOPLE, SplitRule(3, 0.25))
    assert split == split_samples(PEOPLE, valid_share=0.25, seed=3)
    assert read_json(file)["splits"] == {"seed 3, share 0.25": split.remembered_subsets(PEOPLE)}
    few = split_with_memory(file, none, PEOPLE[:3], SplitRule(3, 0.25))
    assert few.subsets == {unit: split.subsets[unit] for unit in few.subsets}
    assert read_json(file)["splits"] == {"seed 3, share 0.25": split.remembered_subsets(PEOPLE)}, (
        "those not there are kept"
    )


def test_the_dataset_knows_better_than_the_older_memory(file: Path, tmp_path: Path) -> None:
    older = tmp_path / "splits.json"
    key = "seed 3, share 0.25"
    write_json_atomic(older, {key: {"picset:s0": VALID, "picset:s1": VALID}})
    write_json_atomic(file, {**read_json(file), "splits": {key: {"picset:s0": TRAIN}}})
    split = split_with_memory(file, older, PEOPLE, SplitRule(3, 0.25))
    assert (split.subsets["picset:s0"], split.subsets["picset:s1"]) == (TRAIN, VALID)


@pytest.mark.parametrize("by", ["unjoined_unit", "picture_unit"])
def test_nobody_that_the_first_weights_know_is_held_out(file: Path, tmp_path: Path, by: str) -> None:
    none = tmp_path / "none.json"
    plain = split_with_memory(file, none, PEOPLE, SplitRule(3, 0.25))
    known = [getattr(one, by) for one in plain.select(PEOPLE, VALID)]
    split = split_with_memory(file, none, PEOPLE, SplitRule(3, 0.25), trained_on=known)
    held_out = split.select(PEOPLE, VALID)
    assert held_out
    assert not {getattr(one, by) for one in held_out} & set(known)
    key = f"seed 3, share 0.25, after {sha256_of_bytes(repr(sorted(known)).encode())[:12]}"
    memory = read_json(file)["splits"]
    assert memory == {"seed 3, share 0.25": plain.remembered_subsets(PEOPLE), key: split.remembered_subsets(PEOPLE)}
    again = split_with_memory(file, none, PEOPLE[:15], SplitRule(3, 0.25), trained_on=known[::-1])
    assert again.subsets == {one.unjoined_unit: split.subsets[one.unjoined_unit] for one in PEOPLE[:15]}
    harmless = [one.unjoined_unit for one in plain.select(PEOPLE, TRAIN)]
    assert split_with_memory(file, none, PEOPLE, SplitRule(3, 0.25), trained_on=harmless).subsets == plain.subsets


def test_a_memory_that_cannot_be_read_names_its_file(file: Path, tmp_path: Path) -> None:
    older = tmp_path / "splits.json"
    write_json_atomic(older, {"seed 3, share 0.25": {"picset:s0": "left"}})
    with pytest.raises(TrainingError) as caught:
        split_with_memory(file, older, PEOPLE, SplitRule(3, 0.25))
    assert caught.value.code == "training.split_memory_unreadable"
    assert caught.value.where == str(older)
    split_with_memory(file, older, PEOPLE, SplitRule(4, 0.25))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(4, 40), st.data())
def test_people_dealt_alone(seed: int, count: int, data: st.DataObject) -> None:
    """Exactly as many as asked for, whoever stands beside whom in a picset or a picture."""
    rng = np.random.default_rng(seed)
    people = [
        sample(f"{n // 2}.jpeg", f"s{n // 4}", tuple((rng.random(2) < 0.4).astype(float).tolist()), number=n % 2)
        for n in range(count)
    ]
    wanted = data.draw(st.integers(1, count - 1))
    sides = split_by_person(people, valid_people=wanted, seed=1)
    assert sides.count(VALID) == wanted
    assert set(sides) == {TRAIN, VALID}
    assert sides == split_by_person(people, valid_people=wanted, seed=1)


def test_picsets_do_not_matter_and_stratification_does() -> None:
    people = [sample(f"{n}.jpeg", "all of one", (float(n < 10), 0.0)) for n in range(40)]
    sides = split_by_person(people, valid_people=8, seed=0)
    held_out = [one for one, side in zip(people, sides, strict=True) if side == VALID]
    assert (len(held_out), sum(one.labels[0] for one in held_out)) == (8, 2)
    assert sides != split_by_person(people, valid_people=8, seed=1)
    with pytest.raises(TrainingError) as caught:
        split_by_person(people[:1], valid_people=1, seed=0)
    assert caught.value.code == "training.one_picset"


def test_people_are_dealt_as_units_of_their_own() -> None:
    people = [sample(f"{n}.jpeg", "s", (float(n % 3 == 0), float(n % 7 == 0))) for n in range(42)]
    joined = [replace(one, joined=f"person:{one.path}:{one.number}") for one in people]
    split = split_samples(joined, valid_share=13 / 42, seed=5)
    expected = [split.subsets[one.split_unit] for one in joined]
    assert expected.count(VALID) == 13, "nobody is left to even out"
    assert split_by_person(people, valid_people=13, seed=5) == expected


def test_columns_of_people() -> None:
    people = [sample("a", labels=(1.0, 0.0)), sample("b", labels=(0.0, 0.0)), sample("c", labels=(NAN, 0.0))]
    assert _columns(people).tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize(
    ("is_valid", "wanted", "expected"),
    [
        # Validation has 3 of the 4 with label 0: two too many for a third; the first of them goes back.
        ([1, 1, 1, 0, 0, 0], 2, [0, 1, 1, 0, 0, 0]),
        # Training has too many of both labels: the first of all comes.
        ([0, 0, 0, 0, 0, 0], 1, [1, 0, 0, 0, 0, 0]),
        # Of label 1 it has all: the first of them comes.
        ([1, 0, 0, 0, 0, 0], 2, [1, 0, 0, 0, 1, 0]),
        ([1, 0, 0, 0, 1, 0], 2, [1, 0, 0, 0, 1, 0]),
    ],
)
def test_sizes_are_evened_out(is_valid: list[int], wanted: int, expected: list[int]) -> None:
    columns = np.array([[1, 0], [1, 0], [1, 0], [1, 0], [0, 1], [0, 1]], np.float64)
    found = np.array(is_valid, bool)
    _even_out(columns, found, wanted)
    assert found.astype(int).tolist() == expected


def test_a_side_keeps_somebody_of_every_label() -> None:
    columns = np.array([[1, 0], [0, 1], [0, 1], [0, 1], [1, 0], [0, 1]], np.float64)
    found = np.array([1, 1, 1, 0, 0, 0], bool)
    _even_out(columns, found, 2)
    assert found.tolist() == [True, False, True, False, False, False], "not the only one with label 0"


def test_joined_clusters_do_not_matter_either() -> None:
    people = [replace(one, joined="joined:x") for one in PEOPLE]
    assert split_by_person(people, valid_people=5, seed=0) == split_by_person(PEOPLE, valid_people=5, seed=0)
