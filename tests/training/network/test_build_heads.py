"""Heads of timm's backbones are one linear layer, whatever timm makes of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from cls.exporting.formats.onnx import session_of, write_onnx
from cls.people.preprocess import Preprocessing
from cls.training.network.build import build_network, head_names, head_of


@pytest.mark.parametrize("arch", ["dla46x_c", "dpn48b", "resnetv2_18"])
def test_a_head_that_is_a_convolution_becomes_a_linear_layer_of_the_same_answer(arch: str) -> None:
    foreign = timm.create_model(arch, num_classes=3).eval()
    network = build_network(arch, 3, 64, 64).eval()
    state = foreign.state_dict()
    for name in head_names(network):
        state[f"{name}.weight"] = state[f"{name}.weight"].flatten(1)
    network.load_state_dict(state)
    images = torch.randn(2, 3, 64, 64)
    with torch.inference_mode():
        torch.testing.assert_close(network(images), foreign(images), rtol=1e-4, atol=1e-5)
        assert network(images).shape == (2, 3)
        features = network.forward_head(network.forward_features(images), pre_logits=True)  # type: ignore[operator]
        torch.testing.assert_close(head_of(network)(features), foreign(images), rtol=1e-4, atol=1e-5)


def test_such_a_network_is_converted_to_onnx(tmp_path: Path) -> None:
    network = build_network("dla46x_c", 3, 64, 64).eval()
    write_onnx(network, Preprocessing(64, 64), ("a", "b", "c"), tmp_path / "model.onnx")
    images = torch.randn(2, 3, 64, 64)
    session = session_of((tmp_path / "model.onnx").read_bytes())
    (answer,) = session.run(None, {session.get_inputs()[0].name: images.numpy()})
    with torch.inference_mode():
        torch.testing.assert_close(torch.from_numpy(answer), network(images), rtol=1e-3, atol=1e-4)
