"""Terms, weights and limits of the losses that the formulas of the papers do not fix."""

from __future__ import annotations

import math

import pytest
import torch

from cls.training.config import TrainConfig
from cls.training.loop.optimizer import FocalParameters, MultiLabelLoss, loss_for, positive_weights

NAN = float("nan")


def test_defaults_are_plain_cross_entropy() -> None:
    assert FocalParameters() == FocalParameters(0.0, 0.0, 0.0)
    loss = MultiLabelLoss(torch.ones(2))
    logits, labels = torch.tensor([[0.7, -1.2], [3.0, 0.1]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    torch.testing.assert_close(loss(logits, labels), expected)
    assert not loss.state_dict(), "weights are no part of a checkpoint"


def test_the_mean_is_over_what_is_known() -> None:
    loss = MultiLabelLoss(torch.ones(2))
    logits = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    value = loss(logits, torch.tensor([[1.0, NAN], [NAN, 1.0]]))
    assert float(value) == pytest.approx((math.log1p(math.exp(-1)) + math.log1p(math.exp(-4))) / 2)
    one = loss(logits, torch.tensor([[1.0, NAN], [NAN, NAN]]))
    assert float(one) == pytest.approx(math.log1p(math.exp(-1)))


def test_positives_and_negatives_have_weights_of_their_own() -> None:
    loss = MultiLabelLoss(torch.tensor([2.0, 1.0]), negative_weights=torch.tensor([1.0, 5.0]))
    zero = torch.zeros(1, 2)
    assert float(loss(zero, torch.tensor([[1.0, 0.0]]))) == pytest.approx(math.log(2) * 7 / 2)
    assert float(loss(zero, torch.tensor([[0.0, 1.0]]))) == pytest.approx(math.log(2) * 2 / 2)


def focused(focusing: FocalParameters, logit: float, label: float) -> tuple[float, float]:
    logits = torch.tensor([[logit]], requires_grad=True)
    value = MultiLabelLoss(torch.ones(1), focusing=focusing)(logits, torch.tensor([[label]]))
    value.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    return value.item(), logits.grad.item()


def test_focusing_and_clipping_act_on_their_own() -> None:
    p = 1 / (1 + math.exp(-0.4))
    assert focused(FocalParameters(positive=2), 0.4, 1)[0] == pytest.approx(-((1 - p) ** 2) * math.log(p), rel=1e-5)
    assert focused(FocalParameters(positive=2), 0.4, 0)[0] == pytest.approx(-math.log(1 - p), rel=1e-5)
    assert focused(FocalParameters(negative=3), 0.4, 0)[0] == pytest.approx(-(p**3) * math.log(1 - p), rel=1e-5)
    assert focused(FocalParameters(negative=3), 0.4, 1)[0] == pytest.approx(-math.log(p), rel=1e-5)
    assert focused(FocalParameters(clip=0.2), 0.4, 0)[0] == pytest.approx(-math.log(1 - (p - 0.2)), rel=1e-5)
    assert focused(FocalParameters(clip=0.2), 0.4, 1)[0] == pytest.approx(-math.log(p), rel=1e-5)


def test_below_the_clip_a_negative_counts_for_nothing() -> None:
    for focusing in (FocalParameters(clip=0.05), FocalParameters(negative=2, clip=0.05)):
        value, gradient = focused(focusing, -4.0, 0.0)  # a probability of 0.018
        assert (value, gradient) == (0.0, 0.0)
        assert focused(focusing, -2.0, 0.0)[0] > 0  # 0.119


@pytest.mark.parametrize("logit", [60.0, -60.0])
@pytest.mark.parametrize("label", [0.0, 1.0])
def test_gradients_of_what_is_sure_are_numbers(logit: float, label: float) -> None:
    value, gradient = focused(FocalParameters(positive=0.5, negative=0.5), logit, label)
    assert math.isfinite(value)
    assert math.isfinite(gradient)
    is_right = (logit > 0) == (label == 1)
    assert value == pytest.approx(0 if is_right else 60, abs=1e-3)


def test_which_loss_a_configuration_asks_for() -> None:
    rates = [0.2, 0.5]
    one = [1.0, 1.0]

    def made(name: str, **changes: float) -> MultiLabelLoss:
        return loss_for(TrainConfig("hat", loss=name, smoothing=0.125, **changes), rates)  # type: ignore[arg-type]

    focal = made("focal", focal_gamma=1.5)
    assert (focal._focusing, focal._smoothing) == (FocalParameters(1.5, 1.5, 0.0), 0.125)
    asymmetric = made("asymmetric", gamma_positive=0.5, gamma_negative=3.0, negative_clip=0.1)
    assert (asymmetric._focusing, asymmetric._smoothing) == (FocalParameters(0.5, 3.0, 0.1), 0.125)
    for loss in (focal, asymmetric, made("bce")):
        assert loss.get_buffer("positive_weights").tolist() == one
        assert loss.get_buffer("negative_weights").tolist() == one
    weighted = made("weighted")
    assert (weighted._focusing, weighted._smoothing) == (FocalParameters(), 0.125)
    assert weighted.get_buffer("positive_weights").tolist() == [2.0, 1.0]
    assert weighted.get_buffer("negative_weights").tolist() == one
    ratio = made("ratio")
    assert (ratio._focusing, ratio._smoothing) == (FocalParameters(), 0.125)
    assert ratio.get_buffer("positive_weights").tolist() == pytest.approx([math.exp(0.8), math.exp(0.5)])
    assert ratio.get_buffer("negative_weights").tolist() == pytest.approx([math.exp(0.2), math.exp(0.5)])
    unknown = loss_for(TrainConfig("hat", loss="ratio"), [NAN])
    assert unknown.get_buffer("positive_weights").tolist() == pytest.approx([math.exp(0.5)]), "nothing is known: half"


def test_weights_are_between_one_and_ten() -> None:
    rates = [0.0, 0.001, 1 / 101, 0.0101, 1 / 17, 0.2, 0.5, 0.8, 1.0]
    expected = [10, 10, 10, math.sqrt(0.9899 / 0.0101), 4, 2, 1, 1, 1]
    assert positive_weights(rates, "weighted").tolist() == pytest.approx(expected, rel=1e-5)
    assert positive_weights(rates, "weighted").dtype == torch.float32
    assert positive_weights(rates, "bce").tolist() == [1.0] * 9
