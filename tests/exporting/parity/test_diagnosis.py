"""Mistakes that conversions really make, on a network of one layer, and what the parity check calls them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import permutations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from cls.errors import ParityFault, PredictionError
from cls.exporting.parity.diagnosis import (
    _change_of_logits,
    _distance,
    _logits,
    _order_of_labels,
    _other_normalisations,
    _people_to_look_at,
    _softmax,
    _unrelated,
    diagnose,
)
from cls.exporting.parity.samples import Answers, Reference, answers_of
from cls.people.preprocess import Preprocessing
from cls.runtimes.classifier import Classifier, Runtime
from cls.runtimes.local import TorchRuntime
from cls.settings import ParityLimits

RNG = np.random.default_rng(5)
SIZE = Preprocessing(6, 4, mean_rgb=(0.4, 0.5, 0.6), std_rgb=(0.2, 0.25, 0.3))
CROPS = RNG.integers(0, 256, (100, 6, 4, 3), dtype=np.uint8)
WEIGHTS = RNG.normal(size=(3 * 6 * 4, 3)) * 0.15
LABELS = ("hat", "cap", "bag")
LIMITS = ParityLimits(batch=1e-3, probability=1e-3)

MEAN, STD = (np.array(values)[:, None, None] for values in (SIZE.mean_rgb, SIZE.std_rgb))
LEVELS = CROPS.transpose(0, 3, 1, 2) / 255
NORMAL = (LEVELS - MEAN) / STD
IMAGENET_MEAN, IMAGENET_STD = (
    np.array(values)[:, None, None] for values in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
)


class Linear:
    """One layer; remembers how many people it was asked about."""

    description = "linear"

    def __init__(self, gain: float = 1.0) -> None:
        self.weights = WEIGHTS * gain
        self.asked: list[int] = []

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        self.asked.append(len(images))
        return np.asarray(images.reshape(len(images), -1) @ self.weights, np.float32)


def sigmoid(logits: NDArray[np.floating]) -> NDArray[np.float64]:
    return 1 / (1 + np.exp(-logits.astype(np.float64)))


def answer(images: NDArray[np.floating], gain: float = 1.0) -> NDArray[np.float64]:
    return sigmoid(images.reshape(len(images), -1) @ (WEIGHTS * gain))


def classifier(runtime: Runtime, labels: Sequence[str] = LABELS) -> Classifier:
    return Classifier("headwear", "v__0", tuple(labels), (0.5,) * len(labels), SIZE, runtime, "here")


def reference(runtime: Runtime | None = None, people: int = 100) -> Reference:
    trained = classifier(Linear() if runtime is None else runtime)
    probs = trained.probabilities(CROPS[:people])
    pictures = tuple(f"{number}.jpeg" for number in range(people))
    return Reference(trained, pictures, CROPS[:people], probs, np.full(probs.shape, np.nan))


def causes(
    trained: Reference, found: NDArray[np.floating], *, is_suspect: bool = True, limits: ParityLimits = LIMITS
) -> list[ParityFault]:
    """What answers look like that are the same at every batch size."""
    probs = np.asarray(found, np.float32)
    answers = Answers(np.stack([probs] * 3), np.full(3, 0.5, np.float32), np.arange(1), probs[:1, None])
    return diagnose(trained, trained.trained, answers, is_suspect=is_suspect, limits=limits)


def codes(faults: Sequence[ParityFault]) -> list[str]:
    return [fault.code.removeprefix("parity.") for fault in faults]


@pytest.mark.parametrize(
    ("code", "images"),
    [
        ("unnormalised_0_to_1", LEVELS),
        ("unnormalised_0_to_255", LEVELS * 255),
        ("mean_not_subtracted", LEVELS / STD),
        ("std_not_divided", LEVELS - MEAN),
        ("imagenet_normalisation", (LEVELS - IMAGENET_MEAN) / IMAGENET_STD),
        ("half_normalisation", (LEVELS - 0.5) / 0.5),
        ("normalised_twice", (NORMAL - MEAN) / STD),
        ("mirrored", NORMAL[:, :, :, ::-1]),
        ("upside_down", NORMAL[:, :, ::-1]),
    ],
)
def test_pictures_that_go_in_otherwise(code: str, images: NDArray[np.float64]) -> None:
    assert codes(causes(reference(), answer(images))) == [code]


@pytest.mark.parametrize("order", [one for one in permutations(range(3)) if one != (0, 1, 2)])
def test_channels_in_another_order(order: tuple[int, ...]) -> None:
    channels = "".join("RGB"[channel] for channel in order)
    for code, images in (
        ("swapped_channels", (LEVELS[:, order] - MEAN) / STD),
        ("swapped_channels_normalised", NORMAL[:, order]),
    ):
        found = causes(reference(), answer(images))
        assert codes(found) == [code]
        assert f"({channels} for RGB)" in found[0]


def test_probabilities_that_come_out_otherwise() -> None:
    logits = NORMAL.reshape(len(NORMAL), -1) @ WEIGHTS
    raised = np.exp(logits)
    assert codes(causes(reference(), sigmoid(sigmoid(logits)))) == ["sigmoid_twice"]
    assert codes(causes(reference(), logits)) == ["missing_sigmoid"]
    assert codes(causes(reference(), raised / raised.sum(axis=1, keepdims=True))) == ["softmax_for_sigmoid"]


def test_normalisations_that_are_tried() -> None:
    found = {fault.code: (other.mean_rgb, other.std_rgb) for fault, other in _other_normalisations(SIZE)}
    none, one, half = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), (0.5, 0.5, 0.5)
    imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert found == {
        "parity.unnormalised_0_to_1": (none, one),
        "parity.mean_not_subtracted": (none, SIZE.std_rgb),
        "parity.std_not_divided": (SIZE.mean_rgb, one),
        "parity.imagenet_normalisation": imagenet,
        "parity.half_normalisation": (half, half),
    }
    # What the run does itself is no mistake.
    own = replace(SIZE, mean_rgb=imagenet[0], std_rgb=imagenet[1])
    assert "parity.imagenet_normalisation" not in [fault.code for fault, _ in _other_normalisations(own)]
    assert len(list(_other_normalisations(own))) == 4


def test_when_mistakes_are_looked_for() -> None:
    wrong = answer(NORMAL[:, :, ::-1])
    open_limits = replace(LIMITS, probability=None)
    for is_suspect, limits, people, found in (
        (True, LIMITS, 24, ["upside_down"]),
        (True, open_limits, 24, ["upside_down"]),
        (False, open_limits, 8, ["upside_down"]),
        (False, LIMITS, None, []),
    ):
        runtime = Linear()
        trained = reference(runtime)
        runtime.asked.clear()
        assert codes(causes(trained, wrong, is_suspect=is_suspect, limits=limits)) == found
        assert set(runtime.asked) == ({people} if people else set())
    shifted = sigmoid(NORMAL.reshape(len(NORMAL), -1) @ WEIGHTS + np.array([0.0, 0.7, 0.0]))
    assert codes(causes(reference(), shifted)) == ["bias_differs"]
    assert causes(reference(), shifted, is_suspect=False, limits=open_limits) == []
    assert causes(reference(), np.full((100, 3), np.nan)) == []
    some = np.where(np.arange(100)[:, None] < 40, np.nan, wrong)
    assert codes(causes(reference(), some)) == ["upside_down"]


@pytest.mark.parametrize(("share", "is_named"), [(0.16, True), (0.174, False)])
def test_a_mistake_explains_four_fifths_of_the_difference(share: float, is_named: bool) -> None:
    trained = reference(Linear(0.3), people=12)
    wrong = answer(NORMAL[:12, :, ::-1], 0.3)
    assert share * np.abs(wrong - trained.probs).mean() < 0.027
    found = causes(trained, (1 - share) * wrong + share * trained.probs)
    assert ("upside_down" in codes(found)) is is_named


@pytest.mark.parametrize(("left", "is_named"), [(0.029, True), (0.031, False)])
def test_a_mistake_leaves_what_rounding_does(left: float, is_named: bool) -> None:
    trained = reference(people=12)
    wrong = answer(NORMAL[:12, :, ::-1])
    share = left / float(np.abs(wrong - trained.probs).mean())
    assert share < 0.15
    found = causes(trained, (1 - share) * wrong + share * trained.probs)
    assert ("upside_down" in codes(found)) is is_named


EXPECTED = np.asarray(sigmoid(RNG.normal(size=(30, 6))), np.float32)
NAMES = ("a", "b", "c", "d", "e", "f")


def test_two_labels_that_are_swapped() -> None:
    found = _order_of_labels(NAMES, EXPECTED, EXPECTED[:, [0, 4, 2, 3, 1, 5]])
    assert found is not None
    assert found.code == "parity.swapped_labels"
    assert found.endswith(": b and e")
    assert _order_of_labels(NAMES, EXPECTED, EXPECTED) is None


def test_labels_in_another_order() -> None:
    found = _order_of_labels(NAMES, EXPECTED, EXPECTED[:, [0, 2, 3, 1, 4, 5]])
    assert found is not None
    assert found.code == "parity.reordered_labels"
    assert found.endswith(": d has the answers of b, b has the answers of c, c has the answers of d")
    all_moved = _order_of_labels(NAMES, EXPECTED, EXPECTED[:, [1, 2, 3, 4, 5, 0]])
    assert all_moved is not None
    assert all_moved.count(" has the answers of ") == 4
    assert all_moved.endswith(", …")
    four = _order_of_labels(NAMES, EXPECTED, EXPECTED[:, [1, 2, 3, 0, 4, 5]])
    assert four is not None
    assert four.count(" has the answers of ") == 4
    assert not four.endswith("…")
    # Two labels with the answers of one are no other order.
    assert _order_of_labels(NAMES, EXPECTED, EXPECTED[:, [1, 1, 2, 3, 4, 5]]) is None
    near, far = np.full((4, 1), 0.2, np.float32), np.full((4, 1), 0.9, np.float32)
    expected, found = np.hstack([near, near + 0.01, far]), np.hstack([far, near, near])
    assert _order_of_labels(("a", "b", "c"), expected, found) is None
    assert codes(causes(reference(), reference().probs[:, [1, 0, 2]])) == ["swapped_labels"]


@pytest.mark.parametrize(("off", "is_named"), [(0.095, True), (0.105, False)])
def test_another_order_explains_four_fifths_of_the_difference(off: float, is_named: bool) -> None:
    expected, found = np.array([[0.2, 0.8]], np.float32), np.array([[0.8 - off, 0.2 + off]], np.float32)
    assert (_order_of_labels(("a", "b"), expected, found) is not None) is is_named


def test_a_fifth_of_the_difference_may_stay() -> None:
    expected, found = np.array([[0.0, 0.75]], np.float32), np.array([[0.625, 0.125]], np.float32)
    assert _order_of_labels(("a", "b"), expected, found) is not None


def test_an_answer_that_is_no_number_is_nobodys() -> None:
    expected, found = np.array([[0.99, 0.2]], np.float32), np.array([[0.2, np.nan]], np.float32)
    assert _order_of_labels(("a", "b"), expected, found) is None


def moved(change: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> NDArray[np.float32]:
    """The expected answers with other logits."""
    wide = EXPECTED.astype(np.float64)
    return np.asarray(sigmoid(change(np.log(wide / (1 - wide)))), np.float32)


@pytest.mark.parametrize("shift", [0.7, -0.7])
def test_another_bias(shift: float) -> None:
    found = moved(lambda logits: logits + shift * (np.arange(6) == 2))
    (cause,) = _change_of_logits(NAMES, EXPECTED, found)
    assert cause.code == "parity.bias_differs"
    assert cause.endswith(f" {shift:+.2f} for 'c'")
    # Of people with logits beyond 8, or without a number, nothing is known: they say nothing against it.
    expected = EXPECTED.copy()
    expected[:20, 2] = [0.99975, 1 - 0.99975] * 10
    found[:20, 2] = [0.99975, 1 - 0.99975] * 10
    assert codes(_change_of_logits(NAMES, expected, found)) == ["bias_differs"]
    found[:20, 2], expected[:20, 2] = np.nan, EXPECTED[:20, 2]
    assert codes(_change_of_logits(NAMES, expected, found)) == ["bias_differs"]
    found[:, 4] = np.nan
    assert _change_of_logits(NAMES, expected, found) == []


@pytest.mark.parametrize("factor", [1.5, 0.5, 3.0])
def test_logits_that_are_multiplied(factor: float) -> None:
    (cause,) = _change_of_logits(NAMES, EXPECTED, moved(lambda logits: logits * factor))
    assert cause.code == "parity.logits_scaled"
    assert cause.endswith(f" {factor:.2f}")


@pytest.mark.parametrize(("logit", "factor"), [(8.5, 1.5), (5.0, 3.0)])
def test_a_logit_beyond_eight_says_nothing_of_a_factor(logit: float, factor: float) -> None:
    """Most people's, here or there, are cut off."""
    most = np.repeat([[logit], [-logit]], 15, axis=0).repeat(6, axis=1)
    logits = np.concatenate([most, np.log(EXPECTED / (1 - EXPECTED))])
    expected, found = (np.asarray(sigmoid(values), np.float32) for values in (logits, logits * factor))
    (cause,) = _change_of_logits(NAMES, expected, found)
    assert cause.endswith(f" {factor:.2f}")


def test_neither_a_bias_nor_a_factor() -> None:
    assert _change_of_logits(NAMES, EXPECTED, EXPECTED[::-1]) == []
    two = moved(lambda logits: logits + np.array([1.5, -1.5, 0.0, 0.0, 0.0, 0.0]))
    assert _change_of_logits(NAMES, EXPECTED, two) == []


def test_answers_of_another_network() -> None:
    expected = np.linspace(0.1, 0.9, 16, dtype=np.float32)[:, None]
    same = np.full_like(expected, 0.5)
    twice = np.concatenate([expected, expected], axis=1)

    def with_correlation(value: float) -> NDArray[np.float32]:
        """Answers that correlate so with the expected ones."""
        centred = expected[:, 0] - expected[:, 0].mean()
        other = np.where(np.arange(16) % 2, 1.0, -1.0) * np.where(np.arange(16) < 8, 1.0, -1.0)
        other -= other.mean() + centred * (other @ centred) / (centred @ centred)
        whole = value * centred / np.linalg.norm(centred) + np.sqrt(1 - value**2) * other / np.linalg.norm(other)
        return np.asarray(0.5 + 0.2 * whole, np.float32)[:, None]

    (cause,) = _unrelated(expected, with_correlation(0.29))
    assert cause.code == "parity.other_weights"
    assert cause.endswith("(highest correlation 0.29)")
    assert _unrelated(expected, with_correlation(0.31)) == []
    assert codes(_unrelated(expected, with_correlation(-0.9))) == ["other_weights"]
    # The highest of the labels counts, and a label of one answer for all has none.
    both = np.concatenate([with_correlation(0.1), with_correlation(0.9)], axis=1)
    assert _unrelated(twice, both) == []
    constant = np.concatenate([with_correlation(0.1), same], axis=1)
    assert codes(_unrelated(twice, constant)) == ["other_weights"]
    assert _unrelated(expected, same) == []
    # At least eight people with numbers for every label.
    few = with_correlation(0.0)
    few[8:] = np.nan
    assert codes(_unrelated(expected, few)) == ["other_weights"]
    few[7] = np.inf
    assert _unrelated(expected, few) == []


def test_answers_of_another_network_are_named_last() -> None:
    other = sigmoid(np.random.default_rng(8).normal(size=(100, 3)))
    assert codes(causes(reference(), other)) == ["other_weights"]


def test_half_of_the_people_looked_at_differ_most() -> None:
    expected = np.full((100, 2), 0.5, np.float32)
    found = expected.copy()
    found[[10, 11, 12, 13], 0] = [0.1, 0.2, 0.15, 0.3]
    found[14, 1] = 0.9
    assert _people_to_look_at(expected, found, 8).tolist() == [0, 10, 11, 12, 14, 33, 66, 99]
    assert _people_to_look_at(expected, found, 4).tolist() == [0, 10, 14, 99]
    found[10, 1], found[99] = np.nan, np.inf
    assert _people_to_look_at(expected, found, 4).tolist() == [0, 12, 14, 98]
    assert _people_to_look_at(expected, np.full_like(expected, np.nan), 4).tolist() == [0, 1, 99]
    assert _people_to_look_at(expected[:2], found[:2], 8).tolist() == [0, 1]


def test_differences_are_between_numbers() -> None:
    first, second = (np.array(values, np.float32) for values in ([0.1, np.nan, 0.5, np.inf], [0.3, 0.2, 0.4, 0.1]))
    assert _distance(first, second) == pytest.approx(0.15)
    assert _distance(second, first) == pytest.approx(0.15)
    assert _distance(first[1:2], second[1:2]) == float("inf")


def test_logits_and_softmax() -> None:
    probs = np.array([[0.0, 0.25, 0.5, 1.0]], np.float32)
    np.testing.assert_allclose(_logits(probs), [[-16.118, -np.log(3), 0, 15.94]], atol=5e-3)
    logits = np.array([[1000.0, 1000.0], [0.0, np.log(3)]], np.float32)
    np.testing.assert_allclose(_softmax(logits), [[0.5, 0.5], [0.25, 0.75]], atol=1e-6)


class Mixed(Linear):
    """Takes the mean of the batch away."""

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = super().logits(images)
        return np.asarray(logits - logits.mean(axis=0) * (len(images) > 1), np.float32)


class Random(Linear):
    """Drops answers at random."""

    def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = super().logits(images)
        return np.asarray(logits * (RNG.random(logits.shape) > 0.3), np.float32)


def batch_causes(
    trained: Reference, converted: Classifier, *, is_suspect: bool = True, limits: ParityLimits = LIMITS
) -> list[str]:
    return codes(diagnose(trained, converted, answers_of(converted, trained), is_suspect=is_suspect, limits=limits))


def test_layers_that_mix_the_people_of_a_batch() -> None:
    assert batch_causes(reference(), classifier(Mixed())) == ["mixed_batch"]
    assert batch_causes(reference(), classifier(Random())) == ["dropout_in_training_mode"]

    class WithoutNumbers(Mixed):
        def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.where(images[:, :1, 0, 0] < 0, np.float32(np.nan), super().logits(images))

    assert batch_causes(reference(), classifier(WithoutNumbers())) == ["mixed_batch"]
    open_limits = replace(LIMITS, probability=None)
    assert batch_causes(reference(), classifier(Mixed()), is_suspect=False, limits=open_limits) == []
    # Within its limit, or without one, a difference is none.
    for limit in (None, 1.0):
        assert "mixed_batch" not in batch_causes(reference(), classifier(Mixed()), limits=replace(LIMITS, batch=limit))


def test_a_difference_at_the_limit_of_the_batch_is_within_it() -> None:
    trained = reference()
    converted = classifier(Mixed())
    answers = answers_of(converted, trained)
    for limit, is_named in ((answers.batch_difference, False), (answers.batch_difference * 0.99, True)):
        found = diagnose(trained, converted, answers, is_suspect=True, limits=replace(LIMITS, batch=limit))
        assert ("mixed_batch" in codes(found)) is is_named


def test_a_conversion_that_no_longer_answers_has_no_cause_in_the_batch() -> None:
    class Once(Mixed):
        is_broken = False

        def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
            if self.is_broken:
                raise PredictionError("gone", code="gone", where="here")
            return super().logits(images)

    runtime, trained = Once(), reference()
    converted = classifier(runtime)
    answers = answers_of(converted, trained)
    runtime.is_broken = True
    found = diagnose(trained, converted, answers, is_suspect=True, limits=LIMITS)
    assert "mixed_batch" not in codes(found)


class EndToEnd:
    """Takes cut-outs as they are, and answers probabilities."""

    description = "end to end"

    def __init__(self, inside: Runtime) -> None:
        self.inside = inside

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.asarray(sigmoid(self.inside.logits(SIZE.normalise(images))), np.float32)


def test_batch_normalisation_in_training_mode() -> None:
    torch.manual_seed(3)
    network = nn.Sequential(nn.Flatten(), nn.Linear(72, 5), nn.BatchNorm1d(5), nn.Dropout(0.5), nn.Linear(5, 3))
    norm = network[2]
    assert isinstance(norm, nn.BatchNorm1d)
    norm.running_mean, norm.running_var = torch.linspace(-1, 1, 5), torch.linspace(0.5, 2, 5)
    with torch.no_grad():
        network[4].weight.mul_(3)  # type: ignore[operator]
    trained = reference(TorchRuntime(network.eval()))

    class Training:
        """Batches of one are answered rightly: batch normalisation has no statistics of one."""

        description = "training"

        def __init__(self) -> None:
            self.wrong = copy.deepcopy(network)
            self.wrong[2].train()

        def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
            if len(images) == 1:
                return trained.trained.runtime.logits(images)
            with torch.inference_mode():
                return np.asarray(self.wrong(torch.from_numpy(images)).numpy(), np.float32)

    converted = replace(trained.trained, runtime=Training())
    assert batch_causes(trained, converted) == ["batch_norm_in_training_mode"]
    whole = replace(converted, runtime=EndToEnd(Training()), is_end_to_end=True)
    assert batch_causes(trained, whole) == ["batch_norm_in_training_mode"]

    class Turned(Training):
        def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
            return super().logits(images)[:, [2, 0, 1]]

    turned = replace(converted, runtime=Turned(), labels=("bag", "hat", "cap"))
    assert batch_causes(trained, turned) == ["batch_norm_in_training_mode"]
    # The trained network is as before.
    assert not norm.training
    # Another mistake of the batch, and networks that have no such layer.
    assert batch_causes(trained, replace(converted, runtime=Mixed())) == ["mixed_batch"]
