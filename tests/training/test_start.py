"""Trainings that start from something: an earlier run, a fitted head, weights that are no numbers."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

from cls.bottle.layout import Bottle
from cls.cli.command import execute
from cls.cli.train import COMMAND as TRAIN
from cls.dataset.cutouts import CutoutFormat, load_cutouts
from cls.dataset.samples import collect_samples, labels_of
from cls.errors import BottleError, TrainingError
from cls.people.preprocess import Preprocessing
from cls.training.config import TrainConfig
from cls.training.loop.module import NotANumberError
from cls.training.loop.optimizer import loss_for
from cls.training.network.build import build_network, head_of, initialise_head
from cls.training.network.head_start import start_head
from cls.training.network.weights import copy_head_rows, find_run_weights, load_weights
from cls.training.runs.listing import finished_run
from cls.training.runs.run import FinishedRun
from tests.bottles import GROUP, LABELS, make_tiny_bottle, train_tiny_run
from tests.required_tools import need_module

ARCH = "test_efficientnet"


@pytest.fixture(scope="module")
def bottle(tmp_path_factory: pytest.TempPathFactory) -> Bottle:
    return make_tiny_bottle(tmp_path_factory.mktemp("start"))


@pytest.fixture(scope="module")
def earlier(bottle: Bottle) -> FinishedRun:
    return train_tiny_run(bottle, arch=ARCH, ema=0.9, mode="all")


def test_an_earlier_run_gives_backbone_and_rows_of_the_same_labels(bottle: Bottle, earlier: FinishedRun) -> None:
    asked = (earlier.name, f"{GROUP}/{earlier.name}", str(earlier.folder), f"{GROUP}/newest", f"{GROUP}/0")
    sources = [find_run_weights(bottle, name, group, ARCH) for name in asked for group in (GROUP, "hat")]
    sources += [find_run_weights(bottle, name, GROUP, ARCH) for name in ("newest", "0", "v__0")]
    assert len(set(sources)) == 1
    source = sources[0]
    assert source.kind == "run"
    assert source.origin == f"run {earlier.name} of group '{GROUP}'"
    network = build_network(ARCH, 2, 64, 48)
    load_weights(network, source, ARCH)
    before = head_of(network).weight.detach().clone()
    assert copy_head_rows(network, source, ("green top", LABELS[1])) == [LABELS[1]]
    expected = earlier.load_network()
    for name, value in network.state_dict().items():
        if not name.startswith("classifier"):
            assert torch.equal(value, expected.state_dict()[name]), name
    assert torch.equal(head_of(network).weight[1], head_of(expected).weight[1])
    assert torch.equal(head_of(network).weight[0], before[0])


def test_a_run_that_cannot_be_started_from_is_refused(bottle: Bottle, earlier: FinishedRun) -> None:
    with pytest.raises(TrainingError) as caught:
        find_run_weights(bottle, earlier.name, GROUP, "resnet18")
    assert caught.value.code == "training.wrong_backbone"
    assert earlier.name in caught.value.what
    assert "resnet18" in caught.value.what
    assert f"--arch {ARCH}" in str(caught.value.hint)
    with pytest.raises(BottleError) as missing:
        find_run_weights(bottle, "v__7", GROUP, ARCH)
    assert missing.value.code == "bottle.run_not_found"
    assert "v__7" in missing.value.what
    assert f"group '{GROUP}': v__0" in str(missing.value.hint)
    with pytest.raises(BottleError) as missing:
        find_run_weights(bottle, "newest", "hat", ARCH)
    assert missing.value.code == "bottle.no_finished_run"
    assert "group 'hat'" in missing.value.what


def test_a_training_from_an_earlier_run(bottle: Bottle, earlier: FinishedRun, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="cls"):
        run = train_tiny_run(
            bottle, arch=ARCH, weights="auto", pretrained=str(earlier.folder), seed=1, head_start=True, mode="all"
        )
    assert run.metrics.weights.origin == f"run {earlier.name} of group '{GROUP}'"
    assert run.metrics.weights.sha256 == earlier.metrics.weights_sha256
    assert run.args.config.pretrained == earlier.name
    assert (run.metrics.weights.origin, ", ".join(run.labels)) in [record.args for record in caplog.records]
    assert "head start: " in caplog.text


def test_the_same_training_again(bottle: Bottle, earlier: FinishedRun, caplog: pytest.LogCaptureFixture) -> None:
    words = ["--from", f"{GROUP}/{earlier.name}", "--no-resume", "--cfg", str(bottle.settings.file)]
    with caplog.at_level(logging.WARNING, logger="cls"):
        assert execute(TRAIN, words) == 0
    again = finished_run(bottle, "newest", GROUP)
    assert again.name != earlier.name
    assert again.args.settings == earlier.args.settings
    assert torch.equal(_kept(again), _kept(earlier))
    assert not [record for record in caplog.records if "settings" in record.getMessage() or "weights" in record.msg]


def _kept(run: FinishedRun) -> torch.Tensor:
    return head_of(run.load_network()).weight


def test_the_kept_weights_are_the_average_and_last_has_both(earlier: FinishedRun) -> None:
    best, last = (torch.load(earlier.folder / "checkpoints" / f"{name}.ckpt") for name in ("best", "last"))
    averaged, current = last["state_dict"], last["current_model_state"]
    assert all(torch.equal(value, averaged[name]) for name, value in best["state_dict"].items())
    assert not all(torch.equal(value, averaged[name]) for name, value in current.items())


def test_a_fitted_head_is_better_than_base_rates(bottle: Bottle, tmp_path: Path) -> None:
    from cls.bottle.dataset_file import read_dataset

    samples, _ = collect_samples(bottle, read_dataset(bottle.dataset_file(GROUP), GROUP))
    cutouts, _ = load_cutouts(bottle, samples, CutoutFormat(Preprocessing(64, 48)), workers=2)
    labels = torch.from_numpy(labels_of(samples))
    labels[3, 1] = float("nan")
    torch.manual_seed(0)
    network = build_network(ARCH, 3, 64, 48)
    initialise_head(network, [0.3, 0.2, 0.2])
    loss = loss_for(TrainConfig(GROUP, loss="bce"), [0.3, 0.2, 0.2])
    images = torch.from_numpy(
        cutouts.format.preprocessing.normalise(np.stack([cutouts.input_rgb(i) for i in range(24)]))
    )

    def loss_now() -> float:
        with torch.inference_mode():
            return float(loss(network.eval()(images), labels))

    before = loss_now()
    backbone = network.state_dict()["conv_stem.weight"].clone()
    start_head(network, loss, cutouts, labels, [sample.split_unit for sample in samples])
    assert loss_now() < before
    assert torch.equal(network.state_dict()["conv_stem.weight"], backbone)
    again = build_network(ARCH, 3, 64, 48)
    again.load_state_dict(network.state_dict())
    start_head(again, loss, cutouts, labels, [sample.split_unit for sample in samples])
    assert torch.equal(head_of(again).weight, head_of(network).weight), "a function of the people alone"


def test_a_loss_that_is_no_number_saves_and_names_the_batch(bottle: Bottle, tmp_path: Path) -> None:
    state = build_network(ARCH, 3, 64, 48).state_dict()
    state["conv_stem.weight"][0, 0, 0, 0] = float("nan")
    file = tmp_path / "spoiled.pth"
    torch.save(state, file)
    with pytest.raises(NotANumberError) as caught:
        train_tiny_run(bottle, arch=ARCH, weights=str(file))
    assert caught.value.code == "training.not_a_number"
    line = caught.value.line()
    assert " nan in epoch 0, batch 0;" in line
    assert "--lr" in (caught.value.hint or "")
    saved = next(bottle.models(GROUP).glob("v__*/bad_batch/train_epoch_0_batch_0.npz"))
    assert str(saved) in line
    with np.load(saved) as content:
        assert content["images"].shape == (4, 64, 48, 3)
        assert content["images"].dtype == np.uint8
        pictures = content["pictures"].tolist()
        assert np.isnan(content["logits"]).any()
    assert saved.with_suffix(".txt").read_text().split() == pictures
    assert all(bottle.picture(name).is_file() for name in pictures)
    assert pictures[0] in line


def test_loggers_that_are_not_installed_are_refused_before_work(
    bottle: Bottle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cls.cli.train import COMMAND

    monkeypatch.setitem(__import__("sys").modules, "wandb", None)  # as if it were not there
    words = ["--cfg", str(bottle.settings.file), "--cat", GROUP, "--log", "wandb", "paper", "--debug"]
    before = sorted(bottle.root.rglob("*"))
    assert execute(COMMAND, words) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.endswith("[usage.invalid_options, usage.invalid_option_value, usage.not_installed]")
    assert "'paper'" in line
    assert "`pip install wandb`" in line
    assert sorted(bottle.root.rglob("*")) == before


def test_tensorboard_holds_every_epoch(bottle: Bottle) -> None:
    need_module("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = train_tiny_run(bottle, arch=ARCH, loggers=("tensorboard",), epochs=2, seed=4)
    events = EventAccumulator(str(run.folder / "tensorboard"))
    events.Reload()
    losses = [event.value for event in events.Scalars("train_loss")]
    assert losses == pytest.approx([epoch.train_loss for epoch in run.metrics.history], rel=1e-5)


def test_a_machine_that_cannot_is_said_before_work(bottle: Bottle) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine can")
    with pytest.raises(TrainingError) as caught:
        train_tiny_run(bottle, arch=ARCH, precision="16")
    assert caught.value.code == "training.machine_unsuitable"
    assert "--precision 16" in caught.value.what
    with pytest.raises(TrainingError) as caught:
        train_tiny_run(bottle, arch=ARCH, devices=40)
    assert caught.value.code == "training.too_many_processes"
    assert "40 processes" in caught.value.what


def test_other_ways_to_learn_run(bottle: Bottle) -> None:
    options = {"accumulate": 2, "precision": "bf16", "loss": "asymmetric", "layer_decay": 0.8, "dropout": 0.0}
    run = train_tiny_run(bottle, arch=ARCH, seed=2, **options)
    assert np.isfinite(run.metrics.history[0].train_loss)
    assert run.args.config.precision == "bf16"
