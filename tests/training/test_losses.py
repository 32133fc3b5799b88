from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cls.people.preprocess import Preprocessing
from cls.training.losses import MultiLabelLoss, positive_weights
from cls.training.module import normalised
from cls.training.network import build_network, start_head_at


def test_cross_entropy_by_hand() -> None:
    loss = MultiLabelLoss(torch.tensor([1.0, 3.0]))
    value = loss(torch.tensor([[0.0, 0.0]]), torch.tensor([[1.0, 1.0]]))
    assert float(value) == pytest.approx((math.log(2) + 3 * math.log(2)) / 2)


def test_unknown_labels_count_for_nothing() -> None:
    loss = MultiLabelLoss(torch.ones(2))
    logits = torch.tensor([[1.0, 5.0]], requires_grad=True)
    value = loss(logits, torch.tensor([[1.0, float("nan")]]))
    value.backward()
    assert value.item() == pytest.approx(math.log1p(math.exp(-1)))
    assert logits.grad is not None
    assert float(logits.grad[0, 1]) == 0.0
    assert float(loss(logits.detach(), torch.full((1, 2), float("nan")))) == 0.0


def test_rare_labels_count_more() -> None:
    assert positive_weights([0.5, 0.1, 0.0001], "weighted").tolist() == pytest.approx([1.0, 3.0, 10.0])
    assert positive_weights([0.5, 0.1], "bce").tolist() == [1.0, 1.0]


def test_batches_are_normalised_as_at_inference() -> None:
    preprocessing = Preprocessing(8, 6, mean_rgb=(0.1, 0.5, 0.4), std_rgb=(0.3, 0.2, 0.25))
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 6, 3), np.uint8)
    mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in (preprocessing.mean_rgb, preprocessing.std_rgb))
    found = normalised(torch.from_numpy(images), mean, std)
    np.testing.assert_array_equal(found.numpy(), preprocessing.normalise(images))
    assert found.is_contiguous(memory_format=torch.channels_last)


def test_an_untrained_network_says_the_base_rates() -> None:
    network = build_network("mobilenetv3_small_050", 2, 64, 48).eval()
    start_head_at(network, [0.5, 0.1])
    with torch.inference_mode():
        probs = network(torch.zeros(1, 3, 64, 48)).sigmoid()[0]
    assert probs.tolist() == pytest.approx([0.5, 0.1], abs=0.1)
