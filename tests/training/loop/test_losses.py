from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cls.people.preprocess import Preprocessing
from cls.training.config import LOSSES, TrainConfig
from cls.training.loop.module import normalised
from cls.training.loop.optimizer import MultiLabelLoss, loss_for, positive_weights
from cls.training.network.build import build_network, initialise_head


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
    initialise_head(network, [0.5, 0.1])
    with torch.inference_mode():
        probs = network(torch.zeros(1, 3, 64, 48)).sigmoid()[0]
    assert probs.tolist() == pytest.approx([0.5, 0.1], abs=0.1)


def literal(loss: str, logits: np.ndarray, labels: np.ndarray, rates: list[float], smoothing: float) -> float:
    """Each loss written out label by label, as its paper has it, in double precision."""
    total, known = 0.0, 0
    for logit_row, label_row in zip(logits, labels, strict=True):
        for z, y, rate in zip(logit_row, label_row, rates, strict=True):
            if math.isnan(y):
                continue
            p = 1 / (1 + math.exp(-z))
            if loss == "bce":
                present, absent = -math.log(p), -math.log(1 - p)
            elif loss == "weighted":
                present = -math.log(p) * min(max(math.sqrt((1 - rate) / rate), 1.0), 10.0)
                absent = -math.log(1 - p)
            elif loss == "focal":
                present, absent = -((1 - p) ** 1.5) * math.log(p), -(p**1.5) * math.log(1 - p)
            elif loss == "asymmetric":
                shifted = max(p - 0.1, 0.0)
                present, absent = -((1 - p) ** 0.5) * math.log(p), -(shifted**3) * math.log(1 - shifted)
            else:
                present, absent = -math.exp(1 - rate) * math.log(p), -math.exp(rate) * math.log(1 - p)
            target = min(max(y, smoothing), 1 - smoothing)
            total += target * present + (1 - target) * absent
            known += 1
    return total / max(known, 1)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_every_loss_is_its_formula(name: str, smoothing: float) -> None:
    rng = np.random.default_rng(3)
    logits = rng.normal(0, 2, (7, 3))
    labels = rng.choice([0.0, 1.0, math.nan], (7, 3))
    rates = [0.5, 0.1, 0.02]
    config = TrainConfig(
        "hat", loss=name, smoothing=smoothing, focal_gamma=1.5, gamma_positive=0.5, gamma_negative=3.0,
        negative_clip=0.1,
    )  # fmt: skip
    found = loss_for(config, rates)(torch.from_numpy(logits), torch.from_numpy(labels))
    assert float(found) == pytest.approx(literal(name, logits, labels, rates, smoothing), rel=1e-6)


@pytest.mark.parametrize("name", LOSSES)
def test_extreme_answers_and_unknown_labels_give_numbers(name: str) -> None:
    config = TrainConfig("hat", loss=name, focal_gamma=0.5, gamma_positive=0.5, gamma_negative=0.5)
    loss = loss_for(config, [0.5, math.nan])  # nothing is known of the second label
    logits = torch.tensor([[200.0, 1.0], [-200.0, -1.0], [0.0, 80.0]], requires_grad=True)
    value = loss(logits, torch.tensor([[0.0, math.nan], [1.0, math.nan], [math.nan, math.nan]]))
    value.backward()
    assert math.isfinite(value.item())
    assert logits.grad is not None
    assert bool(torch.isfinite(logits.grad).all())
    assert not logits.grad[:, 1].any()
