"""The kept weights measured on validation, exactly as they will be used: thresholds, metrics, predictions."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cls.dataset.cutouts import Cutouts
from cls.dataset.samples import Sample, labels_of
from cls.files import write_text_atomic
from cls.people.preprocess import Preprocessing
from cls.training.checkpoint import load_network
from cls.training.metrics import Metrics, measure
from cls.training.module import probabilities
from cls.training.run import MODEL_CKPT, Run
from cls.training.thresholds import choose_thresholds

_BATCH = 32


@dataclass(frozen=True)
class Evaluation:
    """What the kept weights are worth.

    Attributes:
        network: with those weights; evaluation mode, float32, CPU.
        thresholds: one a label.
        thresholds_from: where they come from.
        metrics: on validation; None with mode `all`.
        samples: the validation samples.
        cutouts: theirs.
        labels: float64 (samples, labels).
        probs: float64 (samples, labels).
    """

    network: nn.Module
    thresholds: tuple[float, ...]
    thresholds_from: str
    metrics: Metrics | None
    samples: Sequence[Sample]
    cutouts: Cutouts
    labels: NDArray[np.float64]
    probs: NDArray[np.float64]


def evaluate(
    folder: Path,
    timm_arch: str,
    preprocessing: Preprocessing,
    names: tuple[str, ...],
    samples: Sequence[Sample],
    cutouts: Cutouts,
    *,
    earlier: Sequence[Run],
) -> Evaluation:
    """Measures the kept checkpoint of a run folder, and writes predictions.csv.

    Args:
        folder: the run folder.
        timm_arch: timm's name of the backbone.
        preprocessing: what makes the network's input.
        names: label names.
        samples: validation samples; none with mode `all`.
        cutouts: theirs.
        earlier: finished runs of the group: without validation, thresholds are taken from the newest that has any.

    Raises:
        BottleError: the checkpoint cannot be read.
    """
    path = folder / "checkpoints" / MODEL_CKPT
    network = load_network(path, timm_arch, len(names), preprocessing.height_px, preprocessing.width_px)
    if not samples:
        thresholds, origin = _thresholds_of_earlier(names, earlier)
        nothing = np.empty((0, len(names)))
        return Evaluation(network, thresholds, origin, None, samples, cutouts, nothing, nothing)
    labels = labels_of(samples).astype(np.float64)
    probs = predict(network, preprocessing, cutouts)
    thresholds = tuple(choose_thresholds(probs, labels).tolist())
    _write_predictions(folder / "predictions.csv", names, samples, labels, probs)
    metrics = measure(probs, labels, names, thresholds)
    return Evaluation(network, thresholds, "validation", metrics, samples, cutouts, labels, probs)


def predict(network: nn.Module, preprocessing: Preprocessing, cutouts: Cutouts) -> NDArray[np.float64]:
    """Probabilities of cut-outs, float64 (samples, labels)."""
    parts = []
    for start in range(0, len(cutouts), _BATCH):
        images = np.stack([cutouts.exact(index) for index in range(start, min(start + _BATCH, len(cutouts)))])
        with torch.inference_mode():
            parts.append(network(torch.from_numpy(preprocessing.normalise(images))).numpy())
    return probabilities(np.concatenate(parts))


def _thresholds_of_earlier(names: tuple[str, ...], earlier: Sequence[Run]) -> tuple[tuple[float, ...], str]:
    for run in reversed(earlier):
        if run.labels == names and run.metrics.get("validation") is not None:
            return run.thresholds, f"validation of run {run.name}"
    return (0.5,) * len(names), "default (no run of this group has been validated)"


def _write_predictions(
    path: Path,
    names: Sequence[str],
    samples: Sequence[Sample],
    labels: NDArray[np.float64],
    probs: NDArray[np.float64],
) -> None:
    """One line a validation sample: picture, person, picset, then truth and probability of each label."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["picture", "person", "picset", *(f"{what} {name}" for name in names for what in ("is", "prob"))])
    for sample, truth, prob in zip(samples, labels, probs, strict=True):
        pairs = [value for pair in zip(truth, prob, strict=True) for value in (f"{pair[0]:g}", f"{pair[1]:.6f}")]
        writer.writerow([sample.path, sample.number, sample.picset, *pairs])
    write_text_atomic(path, text.getvalue())
