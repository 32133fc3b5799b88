"""What a wrong conversion looks like: known mistakes are made on purpose with the trained network, and compared.

A mistake that gives the very answers of the conversion is named; nothing is guessed from how far off they are.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from cls.errors import ParityFault, PredictionError
from cls.exporting.parity.results import logits_of_probs
from cls.exporting.parity.samples import BATCH_SIZES, Answers, Reference, raw_answers
from cls.people.preprocess import Preprocessing
from cls.runtimes.classifier import Classifier, sigmoid
from cls.runtimes.local import TorchRuntime
from cls.settings import ParityLimits
from cls.wording import difference

# How many people mistakes are tried on; where nothing is suspected, every export of int8 pays for it.
_PEOPLE, _PEOPLE_UNSUSPECTED = 24, 8
# A mistake explains answers when it leaves at most this share of the difference, and no more than rounding does.
_SHARE_LEFT, _MOST_LEFT = 0.2, 0.03
# Answers that correlate less than this with the right ones are not answers of the same network.
_UNRELATED = 0.3
# Larger logits are not looked at for a factor or a shift: their probabilities are all but 0 or 1.
_MOST_LOGIT = 8.0
_CHANNELS = "RGB"

Mistake = tuple[ParityFault, Callable[[], NDArray[np.float32]]]


def diagnose(
    reference: Reference, converted: Classifier, answers: Answers, *, is_suspect: bool, limits: ParityLimits
) -> list[ParityFault]:
    """What a conversion's answers look like.

    Args:
        reference: the trained network and its answers.
        converted: the conversion.
        answers: its answers.
        is_suspect: it is beyond a limit. Otherwise mistakes are looked for only where no limit of the probabilities
            would have shown them.
        limits: what it is held to.

    Returns:
        Causes, the surest first; empty when nothing known explains the answers.
    """
    if not is_suspect and limits.probability is not None:
        return []
    causes = _causes_in_the_batch(reference, converted, answers, limits) if is_suspect else []
    return causes or _mistakes_in_order(reference, answers, is_suspect=is_suspect)


def _mistakes_in_order(reference: Reference, answers: Answers, *, is_suspect: bool) -> list[ParityFault]:
    found, expected = answers.probs[0], reference.probs
    if not np.isfinite(found).any():
        return []
    order = _order_of_labels(reference.trained.labels, expected, found)
    if order is not None:
        return [order]
    people = _people_to_look_at(expected, found, _PEOPLE if is_suspect else _PEOPLE_UNSUSPECTED)
    before = _distance(expected[people], found[people])
    scored = []
    for mistake, answer in _mistakes(reference, people):
        left = _distance(answer(), found[people])
        if left <= min(_SHARE_LEFT * before, _MOST_LEFT):
            scored.append((left, mistake))
    if scored:
        return [min(scored)[1]]
    if not is_suspect:
        return []
    return _change_of_logits(reference.trained.labels, expected, found) or _unrelated(expected, found)


def _mistakes(reference: Reference, people: NDArray[np.int64]) -> Iterator[Mistake]:
    """Known mistakes with what the trained network answers when they are made."""
    trained, crops = reference.trained, reference.crops_rgb[people]
    normal = trained.preprocessing

    def ask(images: NDArray[np.float32]) -> NDArray[np.float32]:
        return sigmoid(trained.runtime.logits(np.ascontiguousarray(images, np.float32)))

    def swapped_before(order: list[int]) -> NDArray[np.float32]:
        return ask(normal.normalise(crops[..., order]))

    def swapped_after(order: list[int]) -> NDArray[np.float32]:
        return ask(normal.normalise(crops)[:, order])

    def normalised_by(other: Preprocessing) -> NDArray[np.float32]:
        return ask(other.normalise(crops))

    for channels in permutations(range(3)):
        if channels != (0, 1, 2):
            text = _text_of_channels(channels)
            yield ParityFault(text, code="swapped_channels"), partial(swapped_before, list(channels))
            text = f"{text}, after normalisation"
            yield ParityFault(text, code="swapped_channels_normalised"), partial(swapped_after, list(channels))
    for mistake, other in _other_normalisations(normal):
        yield mistake, partial(normalised_by, other)
    levels = replace(normal, mean_rgb=(0.0, 0.0, 0.0), std_rgb=(1 / 255, 1 / 255, 1 / 255))
    text = "the normalisation is missing (levels of 0 to 255 go in)"
    yield ParityFault(text, code="unnormalised_0_to_255"), lambda: ask(levels.normalise(crops))
    text = "the normalisation is done twice"
    yield ParityFault(text, code="normalised_twice"), lambda: ask(_twice(normal, crops))
    yield ParityFault("the picture is mirrored", code="mirrored"), lambda: ask(normal.normalise(crops[:, :, ::-1]))
    yield ParityFault("the picture is upside down", code="upside_down"), lambda: ask(normal.normalise(crops[:, ::-1]))
    expected = reference.probs[people]
    yield ParityFault("the sigmoid is applied twice", code="sigmoid_twice"), lambda: sigmoid(expected)
    yield ParityFault("logits are given out as probabilities", code="missing_sigmoid"), lambda: _logits(expected)
    text = "softmax stands in the place of sigmoid"
    yield ParityFault(text, code="softmax_for_sigmoid"), lambda: _softmax(_logits(expected))


def _other_normalisations(normal: Preprocessing) -> Iterator[tuple[ParityFault, Preprocessing]]:
    none, one = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    half = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    missing = ParityFault("the normalisation is missing (levels of 0 to 1 go in)", code="unnormalised_0_to_1")
    named = {
        missing: (none, one),
        ParityFault("the mean is not subtracted", code="mean_not_subtracted"): (none, normal.std_rgb),
        ParityFault("the deviation is not divided by", code="std_not_divided"): (normal.mean_rgb, one),
        ParityFault("mean and deviation are those of ImageNet", code="imagenet_normalisation"): imagenet,
        ParityFault("mean and deviation are 0.5", code="half_normalisation"): half,
    }
    for mistake, (mean, std) in named.items():
        if (mean, std) != (normal.mean_rgb, normal.std_rgb):
            yield mistake, replace(normal, mean_rgb=mean, std_rgb=std)


def _twice(normal: Preprocessing, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    mean = np.array(normal.mean_rgb, np.float32)[:, None, None]
    std = np.array(normal.std_rgb, np.float32)[:, None, None]
    return np.asarray((normal.normalise(crops) - mean) / std, np.float32)


def _text_of_channels(channels: tuple[int, ...]) -> str:
    order = "".join(_CHANNELS[channel] for channel in channels)
    return f"the channels are swapped ({order} for {_CHANNELS})"


def _order_of_labels(
    labels: tuple[str, ...], expected: NDArray[np.float32], found: NDArray[np.float32]
) -> ParityFault | None:
    """Whether the columns stand in another order: every label's answers are those of one other."""
    finite = np.nan_to_num(found, nan=2.0)
    costs = np.abs(expected[:, :, None] - finite[:, None, :]).mean(axis=0)
    best = costs.argmin(axis=1)
    own = np.diag(costs).sum()
    left = costs[np.arange(len(labels)), best].sum()
    moved = [index for index in range(len(labels)) if best[index] != index]
    if not moved or len(set(best.tolist())) != len(labels) or left > _SHARE_LEFT * own:
        return None
    if len(moved) == 2:
        text = f"two labels are swapped: {labels[moved[0]]} and {labels[moved[1]]}"
        return ParityFault(text, code="swapped_labels")
    pairs = ", ".join(f"{labels[best[index]]} has the answers of {labels[index]}" for index in moved[:4])
    text = f"the labels are in another order: {pairs}{', …' if len(moved) > 4 else ''}"
    return ParityFault(text, code="reordered_labels")


def _causes_in_the_batch(
    reference: Reference, converted: Classifier, answers: Answers, limits: ParityLimits
) -> list[ParityFault]:
    """Why the same person gets several answers."""
    if limits.batch is None or answers.batch_difference <= limits.batch:
        return []
    people = answers.alone[: BATCH_SIZES[1]]
    crops = reference.crops_of(converted.preprocessing)[people]
    try:
        first, second = raw_answers(converted, crops), raw_answers(converted, crops)
    except PredictionError:
        return []
    if not np.allclose(first, second, rtol=1e-3, atol=limits.batch, equal_nan=True):
        what = "something in the network is random: dropout left in training mode"
        return [ParityFault(what, code="dropout_in_training_mode")]
    training = _in_training_mode(reference, crops)
    found = first if converted.is_end_to_end else sigmoid(first)
    order = [converted.labels.index(label) for label in reference.trained.labels]
    before = _distance(reference.probs[people], found[:, order])
    if training is not None and _distance(training, found[:, order]) <= _SHARE_LEFT * before:
        return [ParityFault("batch normalisation left in training mode", code="batch_norm_in_training_mode")]
    what = "a layer mixes the people of a batch: one left in training mode, or a batch size kept fixed"
    return [ParityFault(what, code="mixed_batch")]


def _in_training_mode(reference: Reference, crops: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    """What the trained network says of one batch when its batch normalisations take the batch's own statistics."""
    from torch.nn.modules.batchnorm import _BatchNorm

    runtime = reference.trained.runtime
    if not isinstance(runtime, TorchRuntime):
        return None
    network = copy.deepcopy(runtime.network)
    spoilt = TorchRuntime(network)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.train()
    return sigmoid(spoilt.logits(reference.trained.preprocessing.normalise(crops)))


def _change_of_logits(
    labels: tuple[str, ...], expected: NDArray[np.float32], found: NDArray[np.float32]
) -> list[ParityFault]:
    """Whether something is added to the logits of one label, or all logits are multiplied by one number."""
    right, wrong = logits_of_probs(expected), logits_of_probs(found)
    # Where both are far from the ends, at which logits are cut off.
    is_usable = np.isfinite(found) & (np.abs(right) < _MOST_LOGIT) & (np.abs(wrong) < _MOST_LOGIT)
    if not is_usable.any(axis=0).all():
        return []
    shifts = [float(np.median((wrong - right)[is_usable[:, index], index])) for index in range(len(labels))]
    index = int(np.argmax(np.abs(shifts)))
    factor = float((right * wrong)[is_usable].sum() / np.square(right[is_usable]).sum())
    shifted = right + shifts[index] * (np.arange(len(labels)) == index)
    before = _distance(expected, found)
    scored = []
    bias = f"the bias of one label is another: {difference(shifts[index], 2)} for '{labels[index]}'"
    for mistake, logits in (
        (ParityFault(bias, code="bias_differs"), shifted),
        (ParityFault(f"the logits are multiplied by {factor:.2f}", code="logits_scaled"), right * factor),
    ):
        left = _distance(sigmoid(logits.astype(np.float32)), found)
        if left <= min(_SHARE_LEFT * before, _MOST_LEFT):
            scored.append((left, mistake))
    return [min(scored)[1]] if scored else []


def _unrelated(expected: NDArray[np.float32], found: NDArray[np.float32]) -> list[ParityFault]:
    """Whether the answers are those of another network: no label's answers go along with the right ones."""
    is_finite = np.isfinite(found).all(axis=1)
    if is_finite.sum() < 8:
        return []
    correlations = []
    for index in range(expected.shape[1]):
        pair = np.stack([expected[is_finite, index], found[is_finite, index]]).astype(np.float64)
        if (np.ptp(pair, axis=1) > 0).all():
            correlations.append(float(np.asarray(np.corrcoef(pair))[0, 1]))
    if not correlations or max(correlations) > _UNRELATED:
        return []
    highest = f"highest correlation {max(correlations):.2f}"
    what = f"the weights are of another model: the answers have nothing to do with the trained network's ({highest})"
    return [ParityFault(what, code="other_weights")]


def _people_to_look_at(expected: NDArray[np.float32], found: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """At most so many people with numbers as answers: half of them those who differ most, half spread over all."""
    usable = np.flatnonzero(np.isfinite(found).all(axis=1))
    usable = usable if len(usable) else np.arange(len(found))
    badness = np.abs(np.nan_to_num(found[usable], nan=1.0) - expected[usable]).max(axis=1)
    worst = usable[np.argsort(-badness, kind="stable")[: count // 2]]
    spread = usable[np.linspace(0, len(usable) - 1, count // 2).astype(np.int64)]
    return np.unique(np.concatenate([worst, spread]))


def _distance(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """Mean difference, where both are numbers."""
    is_finite = np.isfinite(first) & np.isfinite(second)
    return float(np.abs(first[is_finite] - second[is_finite]).mean()) if is_finite.any() else float("inf")


def _logits(probs: NDArray[np.float32]) -> NDArray[np.float32]:
    clipped = np.clip(probs, 1e-7, 1 - 1e-7)
    return np.asarray(np.log(clipped / (1 - clipped)), np.float32)


def _softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    raised = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=1, keepdims=True), np.float32)
