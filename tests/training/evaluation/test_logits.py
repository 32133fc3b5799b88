"""Where logits are computed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from cls.people.preprocess import Preprocessing
from cls.training.evaluation.calibration import logits_of
from cls.training.loop.distributed import accelerator
from cls.training.network.build import build_network

PREPROCESSING = Preprocessing(64, 48)
PICTURES = list(np.random.default_rng(0).integers(0, 256, (40, 64, 48, 3), np.uint8))


class Noting(nn.Module):
    """Notes where its input and its weights are."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 2, 3)
        self.seen: list[tuple[str, str]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen.append((images.device.type, self.layer.weight.device.type))
        return torch.as_tensor(self.layer(images).mean(dim=(2, 3)))


def test_network_and_pictures_go_to_the_device_and_the_network_comes_back() -> None:
    network = Noting().eval()
    assert logits_of(network, PREPROCESSING, PICTURES, device="cpu").shape == (40, 2)
    with pytest.raises(NotImplementedError):  # what is computed on the meta device has no values
        logits_of(network, PREPROCESSING, PICTURES, device="meta")
    assert network.seen == [("cpu", "cpu"), ("cpu", "cpu"), ("meta", "meta")]


@pytest.mark.skipif(accelerator() == "cpu", reason="there is no GPU")
def test_a_gpu_gives_the_same_as_a_cpu() -> None:
    torch.manual_seed(0)
    network = build_network("mobilenetv3_small_050", 3, 64, 48).eval()
    given = logits_of(network, PREPROCESSING, PICTURES)
    assert next(network.parameters()).device.type == "cpu"
    np.testing.assert_allclose(given, logits_of(network, PREPROCESSING, PICTURES, device="cpu"), atol=1e-4)
