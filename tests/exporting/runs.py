"""Finished runs without a training: a random network in a real run folder."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
import timm
import torch
from numpy.typing import NDArray
from pydantic import JsonValue
from torch import nn

from cls.bottle.dataset_file import read_dataset
from cls.bottle.layout import Bottle
from cls.exporting.formats import end_to_end
from cls.exporting.formats import onnx as onnx_format
from cls.exporting.publish import Exported, export_run
from cls.files import sha256_of_file
from cls.people.preprocess import Preprocessing
from cls.runtimes.classifier import Classifier
from cls.runtimes.local import TorchRuntime
from cls.runtimes.open import classifier_of_run
from cls.settings import load_settings
from cls.training.runs.args import write_args
from cls.training.runs.run import FinishedRun, open_run
from tests.bottles import GROUP, make_tiny_bottle, run_args
from tests.made_once import made_once

ARCH = "test_resnet"


def fabricate_run(
    bottle: Bottle, number: int = 0, *, group: str = GROUP, seed: int = 3, valid: int = 12
) -> FinishedRun:
    """A finished run of a small random network whose decisions differ from person to person."""
    dataset = read_dataset(bottle.dataset_file(group))
    folder = bottle.models(group) / f"v__{number}_train_tiny_4_0.001"
    (folder / "checkpoints").mkdir(parents=True)
    torch.manual_seed(seed)
    # Its residual branches start at zero by default: nothing in them would matter.
    network = timm.create_model(ARCH, num_classes=len(dataset.labels), zero_init_last=False)
    with torch.no_grad():
        # Fresh heads answer nearly the same to everybody: spread the logits out.
        network.get_classifier().weight.mul_(40)
    checkpoint = folder / "checkpoints" / "best.ckpt"
    torch.save({"state_dict": {f"network.{name}": value for name, value in network.state_dict().items()}}, checkpoint)
    rows = [[row.path, row.picset, list(row.labels)] for row in dataset.rows]
    (folder / "split.json").write_text(json.dumps({"train": rows[valid:], "valid": rows[:valid]}))
    settings: dict[str, JsonValue] = {"people": "largest", "subject": None, "epochs": 1}
    write_args(folder, run_args(group, ARCH, Preprocessing(64, 48), settings))
    metrics = {
        "labels": list(dataset.labels),
        "thresholds": {label: 0.4 + 0.1 * index for index, label in enumerate(dataset.labels)},
        "dataset_sha256": sha256_of_file(bottle.dataset_file(group)),
        "split_sha256": sha256_of_file(folder / "split.json"),
        "weights_sha256": sha256_of_file(checkpoint),
        "segmentation_models": ["tiny_person"],
        "valid": {"f1": 0.5},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return open_run(bottle, folder)


@dataclass(frozen=True)
class ExportedBottle:
    """A bottle with a finished run and its package."""

    bottle: Bottle
    run: FinishedRun
    report: Exported

    @property
    def cfg(self) -> Path:
        return self.bottle.settings.file

    @property
    def package(self) -> Path:
        return self.bottle.inference_model(self.run.group)

    def copy_to(self, folder: Path) -> ExportedBottle:
        shutil.copytree(self.cfg.parent, folder)
        bottle = Bottle(load_settings(folder / self.cfg.name, environment={}))
        run = open_run(bottle, bottle.models(self.run.group) / self.run.name)
        return ExportedBottle(bottle, run, self.report)

    def files(self) -> dict[str, bytes]:
        """Every file of the package: what must not change when an export is refused."""
        return {path.name: path.read_bytes() for path in sorted(self.package.iterdir())}


def export_tiny_bottle(folder: Path) -> ExportedBottle:
    bottle = make_tiny_bottle(folder / "made")
    run = fabricate_run(bottle)
    return ExportedBottle(bottle, run, export_run(bottle, run))


def exported_once(factory: pytest.TempPathFactory) -> ExportedBottle:
    """A copy, the caller's own, of a bottle that is made once in a run of the tests."""
    return made_once(factory, "exported_bottle", export_tiny_bottle).copy_to(factory.mktemp("exported") / "copy")


class RememberingRuntime(TorchRuntime):
    """A network that many tests ask about the same pictures: it calculates each answer once."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self._known: dict[tuple[int, bytes], NDArray[np.float32]] = {}

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        asked = len(images), hashlib.sha256(images.tobytes()).digest()
        if asked not in self._known:
            self._known[asked] = super().logits(images)
        return self._known[asked].copy()


def trained_classifier(run: FinishedRun) -> Classifier:
    """A run's network, for many comparisons with it on the same people."""
    classifier = classifier_of_run(run)
    assert isinstance(classifier.runtime, TorchRuntime)
    return replace(classifier, runtime=RememberingRuntime(classifier.runtime.network))


@contextmanager
def conversions_shared(factory: pytest.TempPathFactory) -> Iterator[None]:
    """Inside, torch converts the same network to ONNX once in a run of the tests; all checks of it still run."""

    def convert_once(convert: Callable[..., onnx.ModelProto], *given: nn.Module | Preprocessing) -> onnx.ModelProto:
        def make(folder: Path) -> Path:
            onnx.save(convert(*given), folder / "model.onnx")
            return folder / "model.onnx"

        return onnx.load(made_once(factory, f"onnx_{_digest(*given)}", make))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_format, "_exported", partial(convert_once, onnx_format._exported))
        patch.setattr(end_to_end, "input_stage", partial(convert_once, end_to_end.input_stage))
        yield


def _digest(*given: nn.Module | Preprocessing) -> str:
    """The same for the same preprocessing, and for networks of the same modules, settings and weights."""
    digest = hashlib.sha256()
    for one in given:
        digest.update(repr(one).encode())
        if isinstance(one, nn.Module):
            for name, module in one.named_modules():
                settings = {key: value for key, value in vars(module).items() if isinstance(value, int | float | str)}
                digest.update(f"{name} {type(module)} {sorted(settings.items())}".encode())
            for name, tensor in [*one.named_parameters(), *one.named_buffers()]:
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
