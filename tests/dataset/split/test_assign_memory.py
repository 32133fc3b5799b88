from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from cls.bottle.dataset_file import GroupDataset, LabelledRow, read_dataset, write_dataset, write_dataset_if_changed
from cls.dataset.samples import Sample
from cls.dataset.split.assign import TRAIN, VALID
from cls.dataset.split.file import SplitRule, split_with_memory
from cls.errors import TrainingError
from cls.files import read_json, write_json_atomic
from cls.people.photos import Person

PERSON = Person("female", 0.9, (0, 0, 10, 10), ())
KEY = "seed 0, share 0.2"


def samples_of(start: int, count: int) -> list[Sample]:
    return [Sample(f"{n}.jpeg", f"set-{n:03d}", PERSON, (float(n % 3 == 0),)) for n in range(start, start + count)]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    rows = tuple(LabelledRow(s.path, s.labels, s.picset) for s in samples_of(0, 30))
    write_dataset(tmp_path / "datasets" / "top_color.json", GroupDataset("top_color", ("red top",), rows))
    return tmp_path / "datasets" / "top_color.json"


def test_the_split_is_written_into_the_dataset_and_changes_nothing_else(file: Path, tmp_path: Path) -> None:
    before = read_dataset(file)
    split = split_with_memory(file, tmp_path / "none.json", samples_of(0, 20), SplitRule(0, 0.2))
    after = read_dataset(file)
    assert (after.labels, after.rows, after.sha256) == (before.labels, before.rows, before.sha256)
    memory = read_json(file)["splits"][KEY]
    assert memory["picset:set-000"] == split.subsets["picset:set-000"] == memory["picture:0.jpeg"]
    assert {"cat", "num2label", "weights", "data", "picsets", "splits"} == set(read_json(file))


def test_added_pictures_move_nobody_and_each_seed_has_its_own_memory(file: Path, tmp_path: Path) -> None:
    none = tmp_path / "none.json"
    split = split_with_memory(file, none, samples_of(0, 20), SplitRule(0, 0.2))
    more = split_with_memory(file, none, samples_of(0, 30), SplitRule(0, 0.2))
    assert {unit: more.subsets[unit] for unit in split.subsets} == split.subsets
    assert split_with_memory(file, none, samples_of(0, 30), SplitRule(1, 0.2)) != more
    assert set(read_json(file)["splits"]) == {KEY, "seed 1, share 0.2"}


def test_loading_the_group_again_keeps_the_memory(file: Path, tmp_path: Path) -> None:
    split_with_memory(file, tmp_path / "none.json", samples_of(0, 20), SplitRule(0, 0.2))
    memory = read_json(file)["splits"]
    rows = tuple(LabelledRow(s.path, s.labels, s.picset) for s in samples_of(0, 40))
    assert write_dataset_if_changed(file, GroupDataset("top_color", ("red top",), rows))
    assert read_json(file)["splits"] == memory
    assert not write_dataset_if_changed(file, GroupDataset("top_color", ("red top",), rows))


def test_the_memory_of_an_older_version_is_read(file: Path, tmp_path: Path) -> None:
    older = tmp_path / "splits.json"
    sides = {f"picset:set-{n:03d}": VALID if n % 2 else TRAIN for n in range(20)}
    write_json_atomic(older, {KEY: sides})
    split = split_with_memory(file, older, samples_of(0, 20), SplitRule(0, 0.2))
    assert split.subsets == sides
    assert read_json(older) == {KEY: sides}


def test_trainings_at_once_agree_and_lose_nothing(file: Path, tmp_path: Path) -> None:
    """Each sees other pictures; a picture that two of them see is on the same side for both."""
    splits = {}

    def work(start: int) -> None:
        splits[start] = split_with_memory(file, tmp_path / "none.json", samples_of(start, 30), SplitRule(0, 0.2))

    threads = [threading.Thread(target=work, args=(start,)) for start in (0, 10, 20, 30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    memory = json.loads(file.read_text(encoding="utf-8"))["splits"][KEY]
    assert len([unit for unit in memory if unit.startswith("picset:")]) == 60
    for split in splits.values():
        assert {unit: memory[unit] for unit in split.subsets} == split.subsets


@pytest.mark.parametrize("memory", [["a"], {KEY: ["a"]}, {KEY: {"picset:a": "left"}}])
def test_a_memory_that_cannot_be_read_is_refused(file: Path, tmp_path: Path, memory: object) -> None:
    write_json_atomic(file, {**read_json(file), "splits": memory})
    with pytest.raises(TrainingError) as caught:
        split_with_memory(file, tmp_path / "none.json", samples_of(0, 20), SplitRule(0, 0.2))
    assert caught.value.code == "training.split_memory_unreadable"
    assert caught.value.where == str(file)
