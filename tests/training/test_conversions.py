"""A network that cannot be converted: found out after the fit, and no reason to lose it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from timm.models import register_model
from timm.models.mobilenetv3 import MobileNetV3, mobilenetv3_small_050
from torch import Tensor

from cls.command import execute
from cls.training.run import newest_run
from tests.bottles import GROUP, make_tiny_bottle


class Undecided(MobileNetV3):
    """Does what the values of its input say, which no exporter can follow."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        return logits if float(x.abs().mean()) > -1 else torch.zeros_like(logits)


@register_model
def undecided_net(pretrained: bool = False, **options: object) -> MobileNetV3:
    network: MobileNetV3 = mobilenetv3_small_050(pretrained=pretrained, **options)
    network.__class__ = Undecided
    return network


def test_the_run_is_finished_without_what_cannot_be_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from cls.classification.export import COMMAND as EXPORT
    from cls.classification.train import COMMAND as TRAIN

    bottle = make_tiny_bottle(tmp_path)
    words = ["--cfg", str(bottle.settings.file), "--cat", GROUP, "--arch", "undecided_net", "--size", "64x48"]
    assert execute(TRAIN, [*words, "--weights", "none", "--epochs", "1", "--batch", "4"]) == 0
    said = capsys.readouterr()
    run = newest_run(bottle, GROUP)
    conversions = run.metrics["conversions"]
    assert conversions["torchscript"] is None
    assert "cannot be converted to ONNX" in conversions["onnx"]
    assert (run.folder / "torchscripts" / "model.pt").is_file()
    assert not (run.folder / "onnx" / "model.onnx").exists()
    (warning,) = (line for line in said.err.splitlines() if "not written" in line)
    assert "cannot be converted to ONNX" in warning
    assert said.out.splitlines()[-1].startswith("next: nothing can be exported of undecided_net")
    assert execute(EXPORT, ["--cfg", str(bottle.settings.file), "--group", GROUP, "--formats", "onnx"]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "cannot be converted to ONNX" in lines[0]
