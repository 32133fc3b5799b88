"""Networks with faults, under names that timm knows once this module is imported.

`sitecustomize.py` of a folder that stands first on the path imports it in the child processes of trials.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from timm.models import register_model
from timm.models.resnet import ResNet, test_resnet
from torch import Tensor, nn

if TYPE_CHECKING:
    import pytest


def known_to_child_processes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets the processes that a test starts know these networks."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.syspath_prepend(folder)


class FaultyNetwork(nn.Module):
    """A convolution and a head; dies by a signal in training, in the memory formats given."""

    def __init__(self, num_classes: int, deadly: tuple[torch.memory_format, ...] = (), answer: str = "logits") -> None:
        super().__init__()
        self.deadly, self.answer = deadly, answer
        self.num_features = 8
        self.conv = nn.Conv2d(3, 8, 3, 2, 1)
        self.head = nn.Linear(8, num_classes)

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward(self, images: Tensor) -> Any:
        is_last = not images.is_contiguous()
        found = torch.channels_last if is_last else torch.contiguous_format
        if self.training and found in self.deadly:
            os.kill(os.getpid(), signal.SIGSEGV)
        logits = self.head(self.conv(images).relu().mean((2, 3)))
        if self.training and self.answer == "two":
            return logits, logits
        return logits * float("nan") if self.training and self.answer == "nan" else logits


@register_model
def fake_dies_in_channels_last(num_classes: int = 3, **_: Any) -> nn.Module:
    return FaultyNetwork(num_classes, (torch.channels_last,))


@register_model
def fake_dies(num_classes: int = 3, **_: Any) -> nn.Module:
    return FaultyNetwork(num_classes, (torch.channels_last, torch.contiguous_format))


@register_model
def fake_two_answers(num_classes: int = 3, **_: Any) -> nn.Module:
    return FaultyNetwork(num_classes, answer="two")


@register_model
def fake_nan(num_classes: int = 3, **_: Any) -> nn.Module:
    return FaultyNetwork(num_classes, answer="nan")


@register_model
def fake_asks_for_passive_threads(num_classes: int = 3, **_: Any) -> nn.Module:
    if os.environ.get("OMP_WAIT_POLICY") != "PASSIVE":
        raise RuntimeError("threads spin")
    return FaultyNetwork(num_classes)


class Undecided(ResNet):
    """Does what the values of its input say, which no exporter can follow."""

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x)
        return logits if float(x.abs().mean()) > -1 else torch.zeros_like(logits)


@register_model
def undecided_net(pretrained: bool = False, **options: object) -> ResNet:
    network: ResNet = test_resnet(pretrained=pretrained, **options)
    network.__class__ = Undecided
    return network
