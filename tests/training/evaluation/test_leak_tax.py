from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cls.bottle.layout import Bottle
from cls.dataset.samples import Sample
from cls.dataset.split.assign import TRAIN, VALID, Split, split_samples
from cls.errors import UsageError
from cls.people.photos import Person
from cls.training.config import TrainConfig
from cls.training.evaluation.leak_tax import random_subsets
from cls.training.runs.folder import FINISHED
from cls.training.runs.run import FinishedRun, find_runs
from tests.bottles import GROUP, make_tiny_bottle, train_tiny_run


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bottle:
    return make_tiny_bottle(tmp_path_factory.mktemp("tiny"), 72, has_trash=False)


@pytest.fixture(scope="module")
def trained(tiny: Bottle) -> FinishedRun:
    return train_tiny_run(tiny, leak_tax=True, valid=0.5)


PERSON = Person("female", 0.9, (0, 0, 10, 10), ())


def test_a_random_split_has_the_same_sizes_and_tears_picsets_apart() -> None:
    samples = [Sample(f"{n}.jpeg", f"set-{n // 5}", PERSON, (1.0,)) for n in range(100)]
    split = Split({s.split_unit: VALID if int(s.picset[4:]) < 4 else TRAIN for s in samples})
    sides = random_subsets(samples, split, seed=0)
    assert sides.count(VALID) == 20
    assert sides == random_subsets(samples, split, seed=0) != random_subsets(samples, split, seed=1)
    valid = {s.split_unit for s, side in zip(samples, sides, strict=True) if side == VALID}
    train = {s.split_unit for s, side in zip(samples, sides, strict=True) if side == TRAIN}
    assert len(valid & train) > 10


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.1, 0.5))
def test_a_random_split_is_stratified_as_the_other_one(seed: int, share: float) -> None:
    """Every label that two people have is on both sides, in its share: or the tax would be one of luck with labels."""
    rng = np.random.default_rng(seed)
    labels = (rng.random((60, 4)) < [0.5, 0.3, 0.1, 0.05]).astype(float)
    labels[rng.random(labels.shape) < 0.05] = np.nan
    samples = [Sample(f"{n}.jpeg", f"set-{n // 5}", PERSON, tuple(row)) for n, row in enumerate(labels.tolist())]
    split = split_samples(samples, valid_share=share, seed=seed)
    sides = np.array(random_subsets(samples, split, seed=seed))
    assert (sides == VALID).sum() == len(split.select(samples, VALID))
    given = np.nan_to_num(labels)
    for column in given.T:
        if column.sum() >= 2:
            assert column[sides == VALID].sum() >= 1
            assert column[sides == TRAIN].sum() >= 1
        assert abs(column[sides == VALID].sum() - column.sum() * (sides == VALID).mean()) <= 2


def test_both_splits_and_their_difference_are_reported(trained: FinishedRun) -> None:
    tax = trained.metrics.leak_tax
    assert set(tax.labels) | set(tax.left_out) == set(trained.labels)
    assert tax.labels, "measured on something"
    for name in ("mAP", "F1", "mA"):
        assert tax.difference[name] == pytest.approx(tax.random_split[name] - tax.by_picset[name])
        low, high = tax.intervals[name]
        assert -1 <= low <= high <= 1
    assert tax.validation_people_whose_picset_is_in_training > 0.5
    assert "leak tax: on a random split it would look like mAP" in trained.summary()
    page = (trained.folder / "report.html").read_text(encoding="utf-8")
    assert 'id="leak-tax"' in page
    assert ">significant<" in page


def test_nothing_of_it_can_be_taken_for_a_run(tiny: Bottle, trained: FinishedRun) -> None:
    assert find_runs(tiny, GROUP) == [trained]
    left = {path.name for path in (trained.folder / "leak_tax").rglob("*")}
    assert "leak_tax.json" in left
    assert not {"metrics.json", "best.ckpt", "last.ckpt", "model.ckpt", "predictions.csv"} & left


def test_a_run_cut_off_in_it_goes_on(tmp_path: Path, tiny: Bottle, trained: FinishedRun) -> None:
    """What the leak tax had measured stands; the run itself is not trained again."""
    folder = tmp_path / "again"
    shutil.copytree(tiny.root.parent, folder)
    bottle = Bottle(
        tiny.settings.__class__(file=folder / "configuration.yaml", data_path=folder / "classification_data")
    )
    run = bottle.models(GROUP) / trained.name
    (run / FINISHED).unlink()
    measured = json.loads((run / "leak_tax" / "leak_tax.json").read_text())
    (run / "leak_tax" / "leak_tax.json").write_text(
        json.dumps({**measured, "random_split": {**measured["random_split"], "mAP": 0.125}})
    )
    again = train_tiny_run(bottle, leak_tax=True, valid=0.5)
    assert again.name == trained.name
    assert again.metrics.leak_tax.random_split["mAP"] == 0.125
    assert again.metrics.validation.macro == trained.metrics.validation.macro


def test_it_needs_a_split_by_picset() -> None:
    with pytest.raises(UsageError) as caught:
        TrainConfig(GROUP, mode="all", leak_tax=True)
    assert caught.value.code == "usage.invalid_options"
    assert "--leak-tax: " in caught.value.what
    with pytest.raises(UsageError) as caught:
        TrainConfig(GROUP, split="official", leak_tax=True)
    assert caught.value.code == "usage.invalid_options"
    assert "--leak-tax: " in caught.value.what
    with pytest.raises(UsageError) as caught:
        TrainConfig(GROUP, devices=2, leak_tax=True)
    assert caught.value.code == "usage.invalid_options"
    assert "--leak-tax: " in caught.value.what
