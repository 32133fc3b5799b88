"""Auxiliary labels: those of other groups."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cls.bottle.dataset_file import GroupDataset, LabelledRow, read_dataset, write_dataset
from cls.bottle.layout import Bottle
from cls.dataset.samples import Sample, collect_samples
from cls.errors import TrainingError
from cls.training.config import TrainConfig
from cls.training.loop.optimizer import JointLoss, auxiliary_labels, groups_of, loss_for, without_auxiliary
from tests.bottles import GROUP, LABELS, make_tiny_bottle, train_tiny_run


@pytest.fixture(scope="module")
def bottle(tmp_path_factory: pytest.TempPathFactory) -> Bottle:
    made = make_tiny_bottle(tmp_path_factory.mktemp("auxiliary"))
    rows = read_dataset(made.dataset_file(GROUP)).rows
    half = tuple(
        LabelledRow(row.path, (float(number % 2), 0.0, float("nan") if number < 4 else 1.0), row.picset)
        for number, row in enumerate(rows[: len(rows) // 2])
    )
    write_dataset(made.dataset_file("hat/cap"), GroupDataset("hat/cap", ("cap", "never", "brim"), half))
    other = (LabelledRow("elsewhere.jpeg", (1.0,), ""),)
    write_dataset(made.dataset_file("accessories"), GroupDataset("accessories", ("bag",), other))
    return made


@pytest.fixture(scope="module")
def samples(bottle: Bottle) -> list[Sample]:
    return collect_samples(bottle, read_dataset(bottle.dataset_file(GROUP)), people="largest", subject=None)[0]


def test_every_other_group_with_the_same_pictures_is_found(bottle: Bottle, samples: list[Sample]) -> None:
    assert groups_of(bottle) == ["accessories", "hat/cap", GROUP]
    found = auxiliary_labels(bottle, GROUP, ("all",), samples)
    assert found.groups == ("hat/cap",)
    assert found.names == ("hat/cap: cap",)  # the other two say the same of everybody


def test_pictures_that_are_in_no_other_group_are_unknown(bottle: Bottle, samples: list[Sample]) -> None:
    table = auxiliary_labels(bottle, GROUP, ("hat/cap",), samples).of(samples)
    assert table.shape == (len(samples), 1)
    half = len(samples) // 2
    assert table[:half, 0].tolist() == [float(number % 2) for number in range(half)]
    assert np.isnan(table[half:]).all()


def test_a_group_that_teaches_nothing_is_refused_by_name(bottle: Bottle, samples: list[Sample]) -> None:
    with pytest.raises(TrainingError) as caught:
        auxiliary_labels(bottle, GROUP, ("accessories",), samples)
    assert caught.value.code == "training.no_shared_pictures"
    assert "'accessories'" in caught.value.what
    assert "24 pictures" in caught.value.what
    with pytest.raises(TrainingError) as caught:
        auxiliary_labels(bottle, GROUP, (GROUP,), samples)
    assert caught.value.code == "training.group_is_trained"
    assert GROUP in caught.value.what


def test_both_losses_count_alike_whatever_the_number_of_labels() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, labels = torch.randn(4, 5, generator=generator), torch.ones(4, 5)
    config = TrainConfig(GROUP, loss="bce")
    own, others = loss_for(config, [0.5] * 2), loss_for(config, [0.5] * 3)
    expected = own(logits[:, :2], labels[:, :2]) + others(logits[:, 2:], labels[:, 2:])
    assert torch.equal(JointLoss(own, others, 2)(logits, labels), expected)
    labels[:, 2:] = torch.nan
    assert torch.equal(JointLoss(own, others, 2)(logits, labels), own(logits[:, :2], labels[:, :2]))


def test_a_narrow_state_is_the_wide_one_without_its_last_outputs() -> None:
    state = {"head.weight": torch.randn(5, 3), "head.bias": torch.randn(5), "stem.weight": torch.randn(2)}
    narrow = without_auxiliary(state, "head", 2)
    assert torch.equal(narrow["head.weight"], state["head.weight"][:2])
    assert torch.equal(narrow["head.bias"], state["head.bias"][:2])
    assert narrow["stem.weight"] is state["stem.weight"]
    assert state["head.weight"].shape == (5, 3)


def test_the_finished_network_has_the_own_labels_alone(bottle: Bottle, tmp_path: Path) -> None:
    run = train_tiny_run(bottle, arch="resnet10t", stripes=2, auxiliary=("all",), ema=0.9, epochs=2)
    assert run.labels == LABELS
    network = run.load_network()
    assert network(torch.zeros(1, 3, 64, 48)).shape == (1, len(LABELS))
    metrics = json.loads((run.folder / "metrics.json").read_text())
    assert list(metrics["validation"]["labels"]) == list(LABELS)
    wide = torch.load(run.folder / "checkpoints" / "last.ckpt", weights_only=False)["state_dict"]
    assert wide["network.fc.weight"].shape == (len(LABELS) + 1, 512 * 4)
    assert "auxiliary" in (run.folder / "args.yaml").read_text()
