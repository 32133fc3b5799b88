from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from cls.people.preprocess import Preprocessing
from cls.training.evaluation.calibration import (
    Calibration,
    choose_calibration,
    fold_into_head,
    negative_log_likelihood,
    shift_of_loss,
    write_weights,
)
from cls.training.loop.optimizer import MultiLabelLoss, positive_weights
from cls.training.network.build import NetworkSpec, head_of, load_network

ARCH, HEIGHT_PX, WIDTH_PX = "test_resnet", 64, 48
NO_SHIFT = (0.0, 0.0)


def drawn(count: int, temperature: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:  # type: ignore[type-arg]
    """Logits that are `temperature` times too large, and the labels they are about."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-0.5, 1.5, (count, 2))
    labels = (rng.random((count, 2)) < 1 / (1 + np.exp(-logits))).astype(np.float64)
    return logits * temperature, labels


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_is_found(temperature: float) -> None:
    logits, labels = drawn(20_000, temperature)
    found = choose_calibration(logits, labels, NO_SHIFT)
    assert found.temperature == pytest.approx(temperature, rel=0.05)
    assert found.source == "validation"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.3, 4))
def test_no_other_temperature_is_likelier(seed: int, temperature: float) -> None:
    logits, labels = drawn(60, temperature, seed)
    labels[::7, 0] = np.nan
    found = choose_calibration(logits, labels, NO_SHIFT)
    best = negative_log_likelihood(found.logits(logits), labels)
    assert best is not None
    if found.source == "validation":
        others = [negative_log_likelihood(logits / other, labels) for other in np.geomspace(0.2, 5, 60)]
        assert all(other is not None and best <= other + 1e-6 for other in others)
    order = np.random.default_rng(seed).permutation(60)
    assert choose_calibration(logits[order], labels[order], NO_SHIFT).temperature == pytest.approx(
        found.temperature, abs=2e-3
    )


def test_unknown_labels_do_not_count() -> None:
    logits, labels = drawn(300, 2.0)
    more = np.concatenate([logits, np.full((50, 2), 9.0)]), np.concatenate([labels, np.full((50, 2), np.nan)])
    assert choose_calibration(*more, NO_SHIFT) == choose_calibration(logits, labels, NO_SHIFT)


def test_few_people_leave_the_network_as_it_is() -> None:
    logits, labels = drawn(300, 2.0)
    one_positive = np.zeros_like(labels)
    one_positive[0, 0] = 1
    for few in (one_positive, np.zeros_like(labels), np.ones_like(labels), np.full_like(labels, np.nan)):
        found = choose_calibration(logits, few, (1.0, 1.0))
        assert (found.temperature, found.logit_shift) == (1.0, NO_SHIFT)
        assert "fewer than 10 positives or negatives" in found.source
    assert choose_calibration(logits[:0], labels[:0], NO_SHIFT).is_identity


def test_a_network_that_has_learnt_nothing_is_left_as_it_is() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((400, 2)) < 0.5).astype(np.float64)
    found = choose_calibration(rng.normal(0, 5, (400, 2)), labels, NO_SHIFT)
    assert found.is_identity
    assert "no temperature from 0.2 to 5" in found.source
    # All right by far: the larger the logits, the likelier.
    assert choose_calibration(labels * 10 - 5, labels, NO_SHIFT).is_identity


def test_what_a_weighted_loss_adds_is_taken_out() -> None:
    """Logits trained by it lie higher by the logarithm of the weight: measured here by training them."""
    base_rates = (0.05, 0.4)
    weights = positive_weights(base_rates, "weighted")
    loss = MultiLabelLoss(weights)
    shift = shift_of_loss(loss)
    assert shift == pytest.approx(np.log(weights.double().numpy()))
    labels = torch.tensor([[float(row < rate * 100) for rate in base_rates] for row in range(100)])
    logits = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=60)

    def step() -> torch.Tensor:
        optimizer.zero_grad()
        value: torch.Tensor = loss(logits.expand(100, 2), labels)
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(step)  # type: ignore[no-untyped-call]
    trained = logits.detach().double().numpy()
    probs = Calibration(temperature=1.0, logit_shift=shift, source="").probs(trained[None])
    assert probs[0] == pytest.approx(base_rates, abs=1e-3)

    true_logits, truth = drawn(4000, 1.0)
    found = choose_calibration(true_logits + np.array([2.0, 0.5]), truth, (2.0, 0.5))
    assert found.logit_shift == (2.0, 0.5)
    assert found.temperature == pytest.approx(1, rel=0.1)
    assert choose_calibration(true_logits, truth, (2.0, 0.5)).logit_shift == NO_SHIFT, "where it is not there"


def network_of(arch: str = ARCH) -> nn.Module:
    torch.manual_seed(0)
    network: nn.Module = timm.create_model(arch, num_classes=2, zero_init_last=False)
    return network.eval()


def test_folded_into_the_head_and_read_again(tmp_path: Path) -> None:
    network = network_of()
    images = torch.randn(4, 3, HEIGHT_PX, WIDTH_PX)
    calibration = Calibration(temperature=1.7, logit_shift=(0.9, -0.2), source="validation")
    with torch.inference_mode():
        before = network(images).double().numpy()
    assert fold_into_head(network, calibration, HEIGHT_PX, WIDTH_PX) is None
    path = tmp_path / "checkpoints" / "model.ckpt"
    write_weights(network, path, calibration)
    read = load_network(path, NetworkSpec(ARCH, ("a", "b"), Preprocessing(HEIGHT_PX, WIDTH_PX)))
    with torch.inference_mode():
        np.testing.assert_allclose(read(images).numpy(), (before - (0.9, -0.2)) / 1.7, atol=1e-5)
    write_weights(network, tmp_path / "again.ckpt", calibration)
    assert path.read_bytes() == (tmp_path / "again.ckpt").read_bytes(), "the same weights have the same digest"


class Softcapped(nn.Module):
    """Does something to the head's logits that a division does not pass through."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = network_of()

    def get_classifier(self) -> nn.Module:
        found: nn.Module = self.inner.get_classifier()
        return found

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 3 * torch.tanh(self.inner(images))


class Headless(nn.Module):
    def get_classifier(self) -> nn.Module:
        return nn.Identity()


def test_odd_networks_stay_as_they_are() -> None:
    calibration = Calibration(temperature=1.7, logit_shift=(0.9, -0.2), source="validation")
    network = Softcapped()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    why = fold_into_head(network, calibration, HEIGHT_PX, WIDTH_PX)
    assert why == "the network's logits are not its last linear layer's"
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert "no linear classifier" in (fold_into_head(Headless(), calibration, HEIGHT_PX, WIDTH_PX) or "")
    without_bias = network_of()
    head_of(without_bias).register_parameter("bias", None)
    assert fold_into_head(without_bias, calibration, HEIGHT_PX, WIDTH_PX) == "the last linear layer has no bias"
    assert (
        fold_into_head(without_bias, Calibration(temperature=1.7, logit_shift=NO_SHIFT, source=""), HEIGHT_PX, WIDTH_PX)
        is None
    )
