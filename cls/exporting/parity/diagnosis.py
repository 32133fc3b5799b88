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

from cls.errors import PredictionError
from cls.exporting.parity.labels import logits_of_probs
from cls.exporting.parity.samples import BATCH_SIZES, Answers, Reference, raw_answers
from cls.people.preprocess import Preprocessing
from cls.runtimes.classifier import Classifier, sigmoid
from cls.runtimes.local import TorchRuntime
from cls.settings import ParityLimits

# How many people mistakes are tried on; where nothing is suspected, every export of int8 pays for it.
_PEOPLE, _PEOPLE_UNSUSPECTED = 24, 8
# A mistake explains answers when it leaves at most this share of the difference, and no more than rounding does.
_SHARE_LEFT, _MOST_LEFT = 0.2, 0.03
# Answers that correlate less than this with the right ones are not answers of the same network.
_UNRELATED = 0.3
# Larger logits are not looked at for a factor or a shift: their probabilities are all but 0 or 1.
_MOST_LOGIT = 8.0
_CHANNELS = "RGB"

Mistake = tuple[str, Callable[[], NDArray[np.float32]]]


def diagnose(
    reference: Reference, converted: Classifier, answers: Answers, *, is_suspect: bool, limits: ParityLimits
) -> list[str]:
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


def _mistakes_in_order(reference: Reference, answers: Answers, *, is_suspect: bool) -> list[str]:
    found, expected = answers.probs[0], reference.probs
    if not np.isfinite(found).any():
        return []
    order = _order_of_labels(reference.trained.labels, expected, found)
    if order is not None:
        return [order]
    people = _people_to_look_at(expected, found, _PEOPLE if is_suspect else _PEOPLE_UNSUSPECTED)
    before = _distance(expected[people], found[people])
    scored = []
    for text, answer in _mistakes(reference, people):
        left = _distance(answer(), found[people])
        if left <= min(_SHARE_LEFT * before, _MOST_LEFT):
            scored.append((left, text))
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
            yield text, partial(swapped_before, list(channels))
            yield f"{text}, after normalisation", partial(swapped_after, list(channels))
    for text, other in _other_normalisations(normal):
        yield text, partial(normalised_by, other)
    levels = replace(normal, mean_rgb=(0.0, 0.0, 0.0), std_rgb=(1 / 255, 1 / 255, 1 / 255))
    yield "the normalisation is missing (levels of 0 to 255 go in)", lambda: ask(levels.normalise(crops))
    yield "the normalisation is done twice", lambda: ask(_twice(normal, crops))
    yield "the picture is mirrored", lambda: ask(normal.normalise(crops[:, :, ::-1]))
    yield "the picture is upside down", lambda: ask(normal.normalise(crops[:, ::-1]))
    expected = reference.probs[people]
    yield "the sigmoid is applied twice", lambda: sigmoid(expected)
    yield "logits are given out as probabilities", lambda: _logits(expected)
    yield "softmax stands in the place of sigmoid", lambda: _softmax(_logits(expected))


def _other_normalisations(normal: Preprocessing) -> Iterator[tuple[str, Preprocessing]]:
    none, one = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    imagenet = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    half = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    named = {
        "the normalisation is missing (levels of 0 to 1 go in)": (none, one),
        "the mean is not subtracted": (none, normal.std_rgb),
        "the deviation is not divided by": (normal.mean_rgb, one),
        "mean and deviation are those of ImageNet": imagenet,
        "mean and deviation are 0.5": half,
    }
    for text, (mean, std) in named.items():
        if (mean, std) != (normal.mean_rgb, normal.std_rgb):
            yield text, replace(normal, mean_rgb=mean, std_rgb=std)


def _twice(normal: Preprocessing, crops: NDArray[np.uint8]) -> NDArray[np.float32]:
    mean = np.array(normal.mean_rgb, np.float32)[:, None, None]
    std = np.array(normal.std_rgb, np.float32)[:, None, None]
    return np.asarray((normal.normalise(crops) - mean) / std, np.float32)


def _text_of_channels(channels: tuple[int, ...]) -> str:
    order = "".join(_CHANNELS[channel] for channel in channels)
    return f"the channels are swapped ({order} for {_CHANNELS})"


def _order_of_labels(labels: tuple[str, ...], expected: NDArray[np.float32], found: NDArray[np.float32]) -> str | None:
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
        return f"two labels are swapped: {labels[moved[0]]} and {labels[moved[1]]}"
    pairs = ", ".join(f"{labels[best[index]]} has the answers of {labels[index]}" for index in moved[:4])
    return f"the labels are in another order: {pairs}{', …' if len(moved) > 4 else ''}"


def _causes_in_the_batch(
    reference: Reference, converted: Classifier, answers: Answers, limits: ParityLimits
) -> list[str]:
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
        return ["something in the network is random: dropout left in training mode"]
    training = _in_training_mode(reference, crops)
    found = first if converted.is_end_to_end else sigmoid(first)
    order = [converted.labels.index(label) for label in reference.trained.labels]
    before = _distance(reference.probs[people], found[:, order])
    if training is not None and _distance(training, found[:, order]) <= _SHARE_LEFT * before:
        return ["batch normalisation left in training mode"]
    return ["a layer mixes the people of a batch: one left in training mode, or a batch size kept fixed"]


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


def _change_of_logits(labels: tuple[str, ...], expected: NDArray[np.float32], found: NDArray[np.float32]) -> list[str]:
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
    for text, logits in (
        (f"the bias of one label is another: {shifts[index]:+.2f} for '{labels[index]}'", shifted),
        (f"the logits are multiplied by {factor:.2f}", right * factor),
    ):
        left = _distance(sigmoid(logits.astype(np.float32)), found)
        if left <= min(_SHARE_LEFT * before, _MOST_LEFT):
            scored.append((left, text))
    return [min(scored)[1]] if scored else []


def _unrelated(expected: NDArray[np.float32], found: NDArray[np.float32]) -> list[str]:
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
    return [f"the weights are of another model: the answers have nothing to do with the trained network's ({highest})"]


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
