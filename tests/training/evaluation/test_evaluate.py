"""What an evaluation leaves in a run folder: calibrated weights that every later step uses."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from numpy.typing import NDArray

from cls.bottle.dataset_file import read_dataset
from cls.bottle.layout import Bottle
from cls.dataset.backgrounds import scenes_of
from cls.dataset.cutouts import CutoutFormat, Cutouts, Subset, load_cutouts
from cls.dataset.samples import Sample, collect_samples
from cls.errors import BottleError
from cls.people.preprocess import Preprocessing
from cls.training.evaluation.background_sensitivity import BackgroundTrial
from cls.training.evaluation.calibration import logits_of
from cls.training.evaluation.evaluate import Evaluation, EvaluationSettings, evaluate
from cls.training.network.build import NetworkSpec, load_network
from tests.bottles import GROUP, LABELS, make_tiny_bottle

ARCH = "test_resnet"
PREPROCESSING = Preprocessing(64, 48)
SPEC = NetworkSpec(ARCH, LABELS, PREPROCESSING)


@pytest.fixture(scope="module")
def bottle(tmp_path_factory: pytest.TempPathFactory) -> Bottle:
    return make_tiny_bottle(tmp_path_factory.mktemp("tiny"), photos=90)


def write_best(folder: Path) -> None:
    """A random network that answers differently to everybody."""
    torch.manual_seed(3)
    network = timm.create_model(ARCH, num_classes=3, zero_init_last=False)
    with torch.no_grad():
        network.get_classifier().weight.mul_(40)
    (folder / "checkpoints").mkdir(parents=True)
    state = {f"network.{name}": value for name, value in network.state_dict().items()}
    torch.save({"state_dict": state}, folder / "checkpoints" / "best.ckpt")


def read(folder: Path, name: str) -> torch.nn.Module:
    return load_network(folder / "checkpoints" / name, SPEC)


def people_of(bottle: Bottle) -> tuple[list[Sample], Cutouts]:
    samples, _ = collect_samples(bottle, read_dataset(bottle.dataset_file(GROUP)))
    return samples, load_cutouts(bottle, samples, CutoutFormat(PREPROCESSING), workers=1)[0]


def logits_by(network: torch.nn.Module, cutouts: Cutouts) -> NDArray[np.float64]:
    return logits_of(network, PREPROCESSING, [cutouts.input_rgb(i) for i in range(len(cutouts))])


def labelled_by(samples: list[Sample], logits: NDArray[np.float64]) -> list[Sample]:
    """Labels that come true as often as the sigmoid of these logits says; every seventh is unknown."""
    rng = np.random.default_rng(5)
    labels = (rng.random(logits.shape) < 1 / (1 + np.exp(-logits))).astype(np.float64)
    labels.reshape(-1)[::7] = np.nan
    return [replace(sample, labels=tuple(values)) for sample, values in zip(samples, labels.tolist(), strict=True)]


def evaluated(folder: Path, samples: list[Sample], cutouts: Cutouts, **settings: object) -> Evaluation:
    return evaluate(folder, SPEC, Subset(samples, cutouts), EvaluationSettings(**settings))  # type: ignore[arg-type]


def test_the_calibrated_weights_are_what_was_measured(bottle: Bottle, tmp_path: Path) -> None:
    write_best(tmp_path)
    samples, cutouts = people_of(bottle)
    samples = labelled_by(samples, logits_by(read(tmp_path, "best.ckpt"), cutouts) / 2.5)
    trial = BackgroundTrial(scenes_of(cutouts, PREPROCESSING), people=6, per_person=3)
    found = evaluated(tmp_path, samples, cutouts, trial=trial)

    calibration = found.calibration
    assert calibration.temperature == pytest.approx(2.5, rel=0.35)
    assert calibration.ece_before is not None
    assert calibration.ece_after is not None
    assert calibration.ece_after < calibration.ece_before
    assert calibration.ece_cross_fitted is not None
    assert calibration.nll_after is not None
    assert calibration.nll_before is not None
    assert calibration.nll_after < calibration.nll_before
    # Written, returned, measured and listed: one and the same network.
    given = 1 / (1 + np.exp(-logits_by(read(tmp_path, "model.ckpt"), cutouts)))
    np.testing.assert_allclose(given, found.probs, atol=1e-5)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits_by(found.network, cutouts))), found.probs, atol=1e-5)
    with (tmp_path / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    written = [[float(row[f"prob {label}"]) for label in LABELS] for row in rows]
    np.testing.assert_allclose(written, found.probs, atol=1e-6)

    metrics = found.metrics
    assert metrics is not None
    assert metrics.micro.ece == calibration.ece_after
    assert metrics.intervals is not None
    assert metrics.intervals.units == 30
    assert metrics.cross_fitted is not None
    assert metrics.to_json_values()["intervals"]["macro"]["ap"][0] <= (metrics.macro.ap or 0)
    assert found.background is not None
    assert (found.background.people, found.background.backgrounds) == (6, 3)


def test_killed_before_or_after_the_weights_were_written(bottle: Bottle, tmp_path: Path) -> None:
    """Whatever a killed evaluation left, the next one ends the same."""
    write_best(tmp_path)
    samples, cutouts = people_of(bottle)
    first = evaluated(tmp_path, samples, cutouts)
    model = tmp_path / "checkpoints" / "model.ckpt"
    content = model.read_bytes()
    assert evaluated(tmp_path, samples, cutouts).calibration == first.calibration, "not calibrated twice"
    assert model.read_bytes() == content
    model.write_bytes(content[:100])
    evaluated(tmp_path, samples, cutouts)
    assert model.read_bytes() == content
    assert not list(tmp_path.rglob("*.part"))


def test_nobody_to_validate_on(bottle: Bottle, tmp_path: Path) -> None:
    write_best(tmp_path)
    _, cutouts = people_of(bottle)
    found = evaluated(tmp_path, [], cutouts.take([]), loss_shift=(1.0, 1.0, 1.0))
    assert found.metrics is None
    assert found.background is None
    assert found.calibration.is_identity
    assert found.probs.shape == (0, 3)
    assert found.thresholds == (0.5, 0.5, 0.5)
    before, after = read(tmp_path, "best.ckpt").state_dict(), read(tmp_path, "model.ckpt").state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_all_labels_unknown(bottle: Bottle, tmp_path: Path) -> None:
    write_best(tmp_path)
    samples, cutouts = people_of(bottle)
    unknown = [replace(sample, labels=(float("nan"),) * 3) for sample in samples[:9]]
    found = evaluated(tmp_path, unknown, cutouts.take(list(range(9))))
    assert found.calibration.is_identity
    assert found.metrics is not None
    assert set(found.metrics.macro.to_json_values().values()) == {None}
    assert found.thresholds == (0.5, 0.5, 0.5)
    assert found.metrics.intervals is not None
    assert set(found.metrics.intervals.macro.to_json_values().values()) == {None}


def test_no_checkpoint_to_measure(bottle: Bottle, tmp_path: Path) -> None:
    samples, cutouts = people_of(bottle)
    with pytest.raises(BottleError) as caught:
        evaluated(tmp_path, samples, cutouts)
    assert caught.value.code == "bottle.checkpoint_missing"
