"""Whoever the initial weights were trained on is not validated on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cls.bottle.dataset_file import GroupDataset, LabelledRow, read_dataset, write_dataset
from cls.bottle.layout import Bottle
from cls.dataset.split.assign import TRAIN, VALID
from cls.dataset.split.file import PARTS_KEY, read_split, trained_on
from cls.errors import TrainingError
from cls.files import read_json
from cls.training.config import TrainConfig
from cls.training.data import TrainingData, prepare
from cls.training.runs.folder import SPLIT
from cls.training.runs.run import FinishedRun
from tests.bottles import GROUP, make_tiny_bottle, train_tiny_run

ARCH = "test_efficientnet"
OTHER = "hat"


@pytest.fixture(scope="module")
def bottle(tmp_path_factory: pytest.TempPathFactory) -> Bottle:
    """30 pictures in the group, and all of them but the first picset's in another group with other labels."""
    made = make_tiny_bottle(tmp_path_factory.mktemp("seen"), photos=30)
    rows = read_dataset(made.dataset_file(GROUP)).rows
    other = tuple(LabelledRow(row.path, (float(n // 3 % 2),), row.picset) for n, row in enumerate(rows[3:]))
    write_dataset(made.dataset_file(OTHER), GroupDataset(OTHER, ("cap",), other))
    return made


@pytest.fixture(scope="module")
def earlier(bottle: Bottle) -> FinishedRun:
    return train_tiny_run(bottle, arch=ARCH, valid=0.3, near_duplicates=False)


def prepared(bottle: Bottle, group: str = GROUP, **options: object) -> TrainingData:
    values: dict[str, object] = {
        "arch": ARCH, "epochs": 1, "batch": 4, "height_px": 64, "width_px": 48, "valid": 0.3,
        "near_duplicates": False, **options,
    }  # fmt: skip
    return prepare(bottle, TrainConfig(group=group, **values)).data  # type: ignore[arg-type]


def people(data: TrainingData, side: str) -> set[str]:
    return {sample.path for sample in (data.train if side == TRAIN else data.valid).samples}


def test_the_same_split_is_kept(bottle: Bottle, earlier: FinishedRun) -> None:
    train, valid = read_split(earlier.folder / SPLIT)
    found = prepared(bottle, pretrained="newest")
    assert (people(found, TRAIN), people(found, VALID)) == (train, valid)


def test_another_seed_holds_out_whom_the_earlier_run_held_out(bottle: Bottle, earlier: FinishedRun) -> None:
    train, valid = read_split(earlier.folder / SPLIT)
    plain = prepared(bottle, seed=3, weights="none")
    assert people(plain, VALID) & train, "this seed would hold out people the earlier run was trained on"
    for asked in ({"pretrained": earlier.name}, {"weights": str(earlier.checkpoint)}):
        found = prepared(bottle, seed=3, **asked)
        assert people(found, VALID)
        assert people(found, VALID) <= valid
        assert people(found, TRAIN) >= train
        assert prepared(bottle, seed=3, **asked).split == found.split, "remembered"
    assert prepared(bottle, seed=3, weights="none").split == plain.split, (
        "other trainings of this seed are as they were"
    )


def test_another_group_on_the_same_pictures(
    bottle: Bottle, earlier: FinishedRun, caplog: pytest.LogCaptureFixture
) -> None:
    train, _ = read_split(earlier.folder / SPLIT)
    assert people(prepared(bottle, OTHER, weights="none", seed=3), VALID) & train, "the group's own split would leak"
    with caplog.at_level("INFO", logger="cls"):
        found = prepared(bottle, OTHER, pretrained=f"{GROUP}/0", seed=3)
    assert people(found, VALID)
    assert not people(found, VALID) & train
    known = len(people(found, TRAIN) & train)
    assert (f"run {earlier.name} of group '{GROUP}'", known) in [record.args for record in caplog.records]


def test_what_came_before_the_earlier_run_counts_too(bottle: Bottle, earlier: FinishedRun) -> None:
    """A group's run that started from another group's knows that one's people, also those it does not have itself."""
    train, valid = read_split(earlier.folder / SPLIT)
    between = train_tiny_run(
        bottle,
        OTHER,
        arch=ARCH,
        valid=0.3,
        weights="auto",
        pretrained=f"{GROUP}/{earlier.name}",
        seed=5,
        near_duplicates=False,
    )
    seen = read_json(between.folder / SPLIT).get("seen_earlier", [])
    own, _ = read_split(between.folder / SPLIT)
    assert {picture for picture, _ in seen} == train - own
    assert set(trained_on(between.folder / SPLIT)) == train | own
    found = prepared(bottle, seed=2, pretrained=f"{OTHER}/newest")
    assert people(found, VALID) == valid - own
    assert not people(found, VALID) & (train | own)


def test_everybody_was_trained_on(bottle: Bottle, tmp_path: Path) -> None:
    everything = train_tiny_run(bottle, arch=ARCH, mode="all")
    with pytest.raises(TrainingError) as caught:
        prepared(bottle, pretrained=str(everything.folder))
    assert caught.value.code == "training.nobody_to_validate_on"
    assert "30 people" in caught.value.what
    assert "--mode all" in caught.value.line()
    found = prepared(bottle, pretrained=str(everything.folder), mode="all")
    assert len(people(found, TRAIN)) == 30


def test_what_cannot_be_kept_apart_is_refused(bottle: Bottle, earlier: FinishedRun) -> None:
    with pytest.raises(TrainingError) as caught:
        prepared(bottle, pretrained=earlier.name, leak_tax=True)
    assert caught.value.code == "training.leak_tax_impossible"
    assert earlier.name in caught.value.what
    assert " 30 people" in caught.value.what
    train, valid = read_split(earlier.folder / SPLIT)
    dataset = read_dataset(bottle.dataset_file(GROUP), GROUP)
    leaking = {"train": sorted(valid), "valid": sorted(train)}
    clean = {"train": sorted(train), "valid": sorted(valid)}
    file = bottle.dataset_file(GROUP)
    before = file.read_bytes()
    try:
        write_dataset(file, replace(dataset, extra={**dataset.extra, PARTS_KEY: {"bad": leaking, "good": clean}}))
        with pytest.raises(TrainingError) as refused:
            prepared(bottle, pretrained=earlier.name, split="bad")
        assert refused.value.code == "training.held_out_people_trained_on"
        assert f"{len(train)} of the {len(train)} people" in refused.value.what
        assert "'bad'" in refused.value.what
        assert people(prepared(bottle, pretrained=earlier.name, split="good"), VALID) == valid
    finally:
        file.write_bytes(before)
