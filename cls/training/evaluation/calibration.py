"""Temperature scaling, with the shift due to the loss removed, and cross-validation.

Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 4.2.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cls.errors import TrainingError
from cls.files import write_bytes_atomic
from cls.metrics.bootstrap import bootstrap, in_few_units
from cls.metrics.multilabel import BoolArray, FloatArray, IntArray, Truth, choose_thresholds, mean_measures, measure
from cls.metrics.scores import CrossValidatedMetrics, MeasureIntervals, Measures
from cls.people.preprocess import Preprocessing
from cls.training.loop.distributed import torch_device
from cls.training.network.build import head_of, memory_format_of
from cls.training.runs.metrics import Calibration

_BATCH = 32

_FOLDS = 5
_OF_COUNTS = ("precision", "recall", "f1")
_OF_DECISIONS = (*_OF_COUNTS, "ma")
_OF_PROBABILITIES = ("ece", "ece_adaptive", "brier")

# Outside of these temperatures, the network has not learned anything that could be calibrated.
_LOWEST, _HIGHEST = 0.2, 5.0
_FEWEST_OF_EACH = 10
_PICTURES_TRIED = 2


def logits_of(
    network: nn.Module,
    preprocessing: Preprocessing,
    pictures: Iterable[NDArray[np.uint8]],
    *,
    device: str | None = None,
) -> FloatArray:
    """Logits of pictures of people, float64 (pictures, labels), computed in float32; (0, 0) without pictures.

    Args:
        network: evaluation mode, CPU, in the memory format to compute in; it is moved to the device and back.
        preprocessing: mean and deviation.
        pictures: each uint8 (height, width, 3), the network's input before normalisation.
        device: that of a training when not given.
    """
    parts = []
    left = iter(pictures)
    where = torch.device(device or torch_device())
    memory_format = memory_format_of(network)
    network.to(where)
    try:
        # With TF32, thresholds would be chosen on logits that inference does not reproduce.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            while images := list(islice(left, _BATCH)):
                normal = torch.from_numpy(preprocessing.normalise(np.stack(images)))
                with torch.inference_mode():
                    logits = network(normal.to(where, memory_format=memory_format))
                parts.append(logits.cpu().numpy().astype(np.float64))
    finally:
        network.to("cpu")
    return np.concatenate(parts) if parts else np.empty((0, 0))


@dataclass(frozen=True)
class CrossValidatedDecisions:
    """Calibrated probabilities and decisions, (samples, labels), by calibration and thresholds of other samples."""

    probs: FloatArray
    decisions: BoolArray
    folds: int


def cross_validated_decisions(
    logits: FloatArray,
    labels: FloatArray,
    units: Sequence[str],
    loss_shift: Sequence[float],
    *,
    seed: int = 0,
) -> CrossValidatedDecisions | None:
    """Decides on each fold of the units with the temperature and thresholds chosen on the others.

    Args:
        logits: not calibrated, (samples, labels).
        labels: (samples, labels): 1, 0, or NaN for unknown.
        units: the split unit of each sample.
        loss_shift: see `choose_calibration`.
        seed: of the folds.

    Returns:
        None with fewer than two units.
    """
    fold_of = _folds(units, seed)
    if fold_of is None:
        return None
    folds = int(fold_of.max()) + 1
    probs, decisions = np.empty_like(logits), np.empty(logits.shape, np.bool_)
    for fold in range(folds):
        held, others = fold_of == fold, fold_of != fold
        calibration = choose_calibration(logits[others], labels[others], loss_shift)
        thresholds = choose_thresholds(calibration.probs(logits[others]), labels[others])
        probs[held] = calibration.probs(logits[held])
        decisions[held] = probs[held] >= thresholds
    return CrossValidatedDecisions(probs, decisions, folds)


def cross_validate(
    logits: FloatArray, truth: Truth, loss_shift: Sequence[float], *, seed: int = 0
) -> CrossValidatedMetrics | None:
    """Measures the decisions of `cross_validated_decisions`, all folds together; None with fewer than two units.

    Thresholds and temperature that are chosen and measured on the same few hundred people look points of F1 too good.
    (That the best epoch was chosen on them as well remains.)

    The means leave out labels whose positives are in fewer than three units: a fold may have none to choose on.

    Args:
        logits: not calibrated, (samples, labels).
        truth: of the same samples.
        loss_shift: see `choose_calibration`.
        seed: of the folds.
    """
    labels, units, names = truth
    cross_validated = cross_validated_decisions(logits, labels, units, loss_shift, seed=seed)
    if cross_validated is None:
        return None
    half = [0.5] * len(names)
    decisions = cross_validated.decisions.astype(np.float64)
    decided, probable = (measure(values, labels, names, half) for values in (decisions, cross_validated.probs))
    drawn = bootstrap(decisions, truth, half, seed=seed)
    per_label = {name: _both(decided.labels[name], probable.labels[name], _OF_DECISIONS) for name in names}
    left_out = tuple(name for name, is_sparse in zip(names, in_few_units(labels, units), strict=True) if is_sparse)
    kept = [name for name in names if name not in left_out]
    return CrossValidatedMetrics(
        folds=cross_validated.folds,
        macro=mean_measures([per_label[name] for name in kept], (*_OF_DECISIONS, *_OF_PROBABILITIES)),
        micro=_both(decided.micro, probable.micro, _OF_COUNTS),
        instance=decided.instance,
        labels=per_label,
        exact=decided.exact,
        intervals=MeasureIntervals() if drawn is None else _of_decisions(drawn.macro),
        left_out=left_out,
        label_intervals={} if drawn is None else {name: _of_decisions(found) for name, found in drawn.labels.items()},
    )


def _both(decided: Measures, probable: Measures, keys: Sequence[str]) -> Measures:
    """Some measures of decisions, and the calibration errors of probabilities."""
    values = {key: getattr(decided, key) for key in keys}
    return Measures(**values, **{key: getattr(probable, key) for key in _OF_PROBABILITIES})


def _of_decisions(intervals: MeasureIntervals) -> MeasureIntervals:
    return MeasureIntervals(**{key: getattr(intervals, key) for key in _OF_DECISIONS})


def _folds(units: Sequence[str], seed: int) -> IntArray | None:
    """The fold of each sample, from 0, the same for a unit's samples; None with fewer than two units."""
    known, unit_of = np.unique(np.asarray(units, np.str_), return_inverse=True)
    if len(known) < 2:
        return None
    folds = min(_FOLDS, len(known))
    return np.asarray((np.random.default_rng([seed, 6]).permutation(len(known)) % folds)[unit_of], np.int64)


def choose_calibration(logits: FloatArray, labels: FloatArray, loss_shift: Sequence[float]) -> Calibration:
    """The temperature with the highest likelihood, with the loss's shift of the logits removed if that is likelier.

    Nothing is changed with fewer than 10 known positives or negatives in all, or if no temperature from 0.2 to 5 is
    best.

    Args:
        logits: (samples, labels).
        labels: (samples, labels): 1, 0, or NaN for unknown.
        loss_shift: of `shift_of_loss`.
    """
    is_known = ~np.isnan(labels)
    truth = labels[is_known] > 0.5
    count = logits.shape[1]
    if min(int(truth.sum()), int((~truth).sum())) < _FEWEST_OF_EACH:
        return Calibration.identity(count, f"validation has fewer than {_FEWEST_OF_EACH} positives or negatives")
    shifts = [(0.0,) * count]
    if any(loss_shift):
        shifts.append(tuple(float(value) for value in loss_shift))
    fits = []
    for shift in shifts:
        known = (logits - np.asarray(shift))[is_known]
        temperature = _likeliest_temperature(known, truth)
        if _LOWEST * 1.01 < temperature < _HIGHEST / 1.01:
            fits.append((_nll(known, truth, temperature), temperature, shift))
    if not fits:
        return Calibration.identity(count, f"no temperature from {_LOWEST:g} to {_HIGHEST:g} is best on validation")
    _, temperature, shift = min(fits)
    return Calibration(temperature=temperature, logit_shift=shift, source="validation")


def _likeliest_temperature(logits: FloatArray, truth: BoolArray) -> float:
    """To four digits, by golden-section search over log T; the likelihood is concave over 1/T."""
    low, high = np.log(_LOWEST), np.log(_HIGHEST)
    golden = (np.sqrt(5) - 1) / 2
    left, right = high - golden * (high - low), low + golden * (high - low)
    at_left, at_right = _nll(logits, truth, np.exp(left)), _nll(logits, truth, np.exp(right))
    while high - low > 1e-4:
        if at_left < at_right:
            high, right, at_right = right, left, at_left
            left = high - golden * (high - low)
            at_left = _nll(logits, truth, np.exp(left))
        else:
            low, left, at_left = left, right, at_right
            right = low + golden * (high - low)
            at_right = _nll(logits, truth, np.exp(right))
    return round(float(np.exp((low + high) / 2)), 4)


def negative_log_likelihood(logits: FloatArray, labels: FloatArray) -> float | None:
    """Mean over the known decisions, both (samples, labels); None where there are none."""
    is_known = ~np.isnan(labels)
    return _nll(logits[is_known], labels[is_known] > 0.5, 1.0) if is_known.any() else None


def _nll(logits: FloatArray, truth: BoolArray, temperature: float) -> float:
    return float(np.logaddexp(0, np.where(truth, -logits, logits) / temperature).mean())


def fold_into_head(network: nn.Module, calibration: Calibration, height_px: int, width_px: int) -> str | None:
    """Changes the head's weight and bias so that the network, and every export of it, gives calibrated logits.

    Args:
        network: evaluation mode, CPU; changed.
        calibration: what to fold in; checked on an input of noise.
        height_px: height of the input.
        width_px: width of the input.

    Returns:
        None when it is done; else why it cannot be, and the network is unchanged.
    """
    try:
        head = head_of(network)
    except TrainingError as error:
        return error.what
    bias = dict(head.named_parameters()).get("bias")
    if bias is None and any(calibration.logit_shift):
        return "the last linear layer has no bias"
    kept = {name: value.detach().clone() for name, value in head.state_dict().items()}
    noise = torch.randn(_PICTURES_TRIED, 3, height_px, width_px, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = calibration.logits(network(noise).numpy().astype(np.float64))
    with torch.no_grad():
        if bias is not None:
            bias.sub_(torch.tensor(calibration.logit_shift)).div_(calibration.temperature)
        head.weight.div_(calibration.temperature)
    with torch.inference_mode():
        given = network(noise).numpy()
    if np.allclose(given, expected, rtol=1e-3, atol=1e-3):
        return None
    head.load_state_dict(kept)
    return "the network's logits are not its last linear layer's"


def write_weights(network: nn.Module, path: Path, calibration: Calibration) -> None:
    """Writes a checkpoint that `cls.training.network.build.load_network` reads, whole or not at all."""
    content = io.BytesIO()
    state = {f"network.{name}": value.contiguous() for name, value in network.state_dict().items()}
    folded = {"temperature": calibration.temperature, "logit_shift": list(calibration.logit_shift)}
    torch.save({"state_dict": state, "calibration": folded}, content)
    write_bytes_atomic(path, content.getvalue())


def shift_of_loss(loss: nn.Module) -> tuple[float, ...]:
    """How far a `MultiLabelLoss` moves each label's logits: the logarithm of a positive's weight over a negative's.

    The logit that minimises a weighted cross-entropy is the logit of the true probability plus this (Elkan, The
    Foundations of Cost-Sensitive Learning, IJCAI 2001).
    """
    weights = dict(loss.named_buffers())
    return tuple((weights["positive_weights"].double() / weights["negative_weights"].double()).log().tolist())
