"""Calibration and its limits, to the number."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch import nn

from cls.training.evaluation.calibration import (
    Calibration,
    choose_calibration,
    fold_into_head,
    negative_log_likelihood,
    shift_of_loss,
    write_weights,
)
from cls.training.loop.optimizer import MultiLabelLoss

NAN = float("nan")


def drawn(count: int, temperature: float, seed: int) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    rng = np.random.default_rng(seed)
    logits = rng.normal(-0.5, 1.5, (count, 2))
    labels = (rng.random((count, 2)) < 1 / (1 + np.exp(-logits))).astype(np.float64)
    return logits * temperature, labels


def nll(logits: np.ndarray, labels: np.ndarray, temperature: float = 1.0) -> float:  # type: ignore[type-arg]
    """Mean of -log p of what is true, decision by decision."""
    terms = []
    for z, y in zip(logits.ravel().tolist(), labels.ravel().tolist(), strict=True):
        if not math.isnan(y):
            p = 1 / (1 + math.exp(-z / temperature))
            terms.append(-math.log(p if y == 1 else 1 - p))
    return sum(terms) / len(terms)


def test_likelihood_by_hand() -> None:
    logits, labels = np.array([[2.0, -1.0], [0.5, 3.0]]), np.array([[1.0, 1.0], [0.0, NAN]])
    expected = (math.log1p(math.exp(-2)) + math.log1p(math.exp(1)) + math.log1p(math.exp(0.5))) / 3
    assert negative_log_likelihood(logits, labels) == pytest.approx(expected)
    assert negative_log_likelihood(logits, np.full((2, 2), NAN)) is None


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.25, 4))
def test_the_likeliest_temperature_to_four_digits(seed: int, temperature: float) -> None:
    logits, labels = drawn(300, temperature, seed)
    found = choose_calibration(logits, labels, (0.0, 0.0))
    best = minimize_scalar(lambda t: nll(logits, labels, float(t)), bounds=(0.2, 5), method="bounded")
    assert found.temperature == pytest.approx(best.x, rel=3e-4)
    assert found.temperature == round(found.temperature, 4)
    assert (found.source, found.logit_shift) == ("validation", (0.0, 0.0))


@pytest.mark.parametrize(("factor", "is_found"), [(0.204, True), (0.19, False), (4.9, True), (5.2, False)])
def test_temperatures_from_a_fifth_to_five(factor: float, is_found: bool) -> None:
    """Labels in exact proportion to the logits: the likeliest temperature is the factor itself."""
    logits = np.repeat(np.log([3.0, 1 / 3, 9.0, 1 / 9]), 20)[:, None]
    shares = np.repeat([15, 5, 18, 2], 20)
    labels = (np.tile(np.arange(20), 4) < shares).astype(np.float64)[:, None]
    found = choose_calibration(logits * factor, labels, (0.0,))
    if is_found:
        assert found.temperature == pytest.approx(factor, rel=1e-3)
    else:
        assert found == Calibration.identity(1, "no temperature from 0.2 to 5 is best on validation")


@pytest.mark.parametrize(
    ("positives", "negatives", "is_enough"), [(10, 40, True), (9, 40, False), (40, 10, True), (40, 9, False)]
)
def test_ten_of_each_are_enough(positives: int, negatives: int, is_enough: bool) -> None:
    rng = np.random.default_rng(1)
    logits = np.concatenate([rng.normal(0.5, 1, positives), rng.normal(-0.5, 1, negatives)])[:, None]
    labels = np.repeat([1.0, 0.0], [positives, negatives])[:, None]
    found = choose_calibration(logits, labels, (0.0,))
    assert (found.source == "validation") == is_enough
    if not is_enough:
        assert found.source == "nothing is changed: validation has fewer than 10 positives or negatives"


def test_the_likelier_of_shifted_and_not() -> None:
    logits, labels = drawn(3000, 1.0, 0)
    shifted = choose_calibration(logits + np.array([1.0, -0.5]), labels, (1.0, -0.5))
    assert shifted.logit_shift == (1.0, -0.5)
    plain = choose_calibration(logits, labels, (0.0, 0.0))
    assert shifted.temperature == pytest.approx(plain.temperature, abs=2e-3)
    assert choose_calibration(logits, labels, (1.0, -0.5)) == plain
    labels[0, 0] = NAN
    assert choose_calibration(logits + np.array([1.0, -0.5]), labels, (1.0, -0.5)).logit_shift == (1.0, -0.5)


def test_what_is_done_to_logits() -> None:
    calibration = Calibration(temperature=2.0, logit_shift=(1.0, -3.0), source="validation")
    logits = np.array([[5.0, 5.0], [1.0, -3.0]])
    assert calibration.logits(logits).tolist() == [[2.0, 4.0], [0.0, 0.0]]
    assert calibration.probs(logits).tolist() == pytest.approx(1 / (1 + np.exp(-np.array([[2.0, 4.0], [0.0, 0.0]]))))
    assert not calibration.is_identity
    assert not Calibration(temperature=2.0, logit_shift=(0.0,), source="").is_identity
    assert not Calibration(temperature=1.0, logit_shift=(0.0, 0.1), source="").is_identity
    nothing = Calibration.identity(2, "why")
    assert nothing.is_identity
    assert nothing.model_dump(mode="json") == {
        "temperature": 1.0, "logit_shift": [0.0, 0.0], "source": "nothing is changed: why", "ece_before": None,
        "ece_after": None, "ece_cross_fitted": None, "nll_before": None, "nll_after": None,
    }  # fmt: skip


def test_the_shift_of_weights_on_both_sides() -> None:
    loss = MultiLabelLoss(torch.tensor([4.0, 1.0]), negative_weights=torch.tensor([2.0, 8.0]))
    assert shift_of_loss(loss) == pytest.approx((math.log(2), -math.log(8)))
    assert shift_of_loss(MultiLabelLoss(torch.tensor([4.0]))) == pytest.approx((math.log(4),))


class Scaled(nn.Module):
    """A head whose logits are changed by a factor afterwards."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.head = nn.Linear(3 * 4 * 6, 2)
        self.factor = factor
        self.sizes: list[tuple[int, ...]] = []

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.sizes.append(tuple(images.shape))
        value: torch.Tensor = self.head(images.flatten(1)) * self.factor
        return value


def test_folding_is_tried_on_pictures_of_the_input_size() -> None:
    calibration = Calibration(temperature=2.0, logit_shift=(0.5, -0.25), source="validation")
    network = Scaled(1.0).eval()
    images = torch.randn(3, 3, 4, 6, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        before = network(images)
    network.sizes.clear()
    assert fold_into_head(network, calibration, 4, 6) is None
    assert network.sizes == [(2, 3, 4, 6)] * 2
    with torch.no_grad():
        torch.testing.assert_close(network(images), (before - torch.tensor([0.5, -0.25])) / 2)
    # 1.02 times the head's logits: what is folded in is 2 percent of the shift off, a thousandth is too much.
    odd = Scaled(1.02).eval()
    state = {name: value.clone() for name, value in odd.state_dict().items()}
    assert fold_into_head(odd, calibration, 4, 6) == "the network's logits are not its last linear layer's"
    assert all(torch.equal(value, state[name]) for name, value in odd.state_dict().items())
    halved = Calibration(temperature=2.0, logit_shift=(0.0, 0.0), source="")
    assert fold_into_head(odd, halved, 4, 6) is None, "a factor and a temperature commute"
    without_bias = Scaled(1.0).eval()
    without_bias.head.register_parameter("bias", None)
    shifted = Calibration(temperature=1.0, logit_shift=(0.0, 0.5), source="")
    assert fold_into_head(without_bias, shifted, 4, 6) == "the last linear layer has no bias"


def test_what_is_written_beside_the_weights(tmp_path: Path) -> None:
    network = Scaled(1.0)
    write_weights(
        network, tmp_path / "w.ckpt", Calibration(temperature=1.5, logit_shift=(0.5, 0.25), source="validation")
    )
    content = torch.load(tmp_path / "w.ckpt", weights_only=True)
    assert content["calibration"] == {"temperature": 1.5, "logit_shift": [0.5, 0.25]}
    assert set(content["state_dict"]) == {"network.head.weight", "network.head.bias"}
    assert torch.equal(content["state_dict"]["network.head.bias"], network.head.bias)
