"""The head start: linear probing before fine-tuning.

The first gradients of a random head distort the features of a pretrained backbone (Kumar et al., Fine-Tuning can
Distort Pretrained Features and Underperform Out-of-Distribution, ICLR 2022).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cls.dataset.cutouts import Cutouts
from cls.errors import TrainingError
from cls.training.loop.distributed import torch_device
from cls.training.network.build import head_of, memory_format_of

_log = logging.getLogger("cls.training")

_BATCH = 32
_FOLDS = 3
# For features with mean square 1 in all; the best for ImageNet features was at 1 and at 0.001.
_PENALTIES = (300.0, 30.0, 3.0, 0.3, 0.03, 0.003, 0.0003)
# Holds the bias of a label that hardly anybody has near its base rate.
_BIAS_PENALTY = 0.01
_STEPS = 60


def start_head(network: nn.Module, loss: nn.Module, cutouts: Cutouts, labels: Tensor, units: Sequence[str]) -> None:
    """Fits the head by logistic regression on the backbone's features, with a penalty cross-validated over units.

    Args:
        network: with pretrained weights; its head is changed.
        loss: of the training.
        cutouts: of the training samples, not augmented.
        labels: float32 (samples, labels); NaN where unknown.
        units: the split unit of each sample.

    Raises:
        TrainingError: the backbone's features are not its head's inputs.
    """
    started_s = time.monotonic()
    features = _features(network, cutouts, torch_device())
    head = head_of(network)
    if features.ndim != 2 or features.shape[1] != head.in_features:
        raise TrainingError(
            f"--head-start does not support this backbone: its features are {tuple(features.shape)[1:]}, "
            f"its head takes {head.in_features}",
            code="head_start_unsupported",
            hint="leave out --head-start",
        )
    mean, std = features.mean(0), features.std(0)
    # A feature that hardly changes here must not be scaled up: augmentation will change it.
    scale = std.clamp(min=0.1 * float(std.mean()) + 1e-8) * math.sqrt(features.shape[1])
    scaled = (features - mean) / scale
    penalty, held_out = _best_penalty(loss, scaled, labels, units)
    weight, bias = _fit(loss, scaled, labels, penalty, None)
    with torch.no_grad():
        head.weight.copy_(weight / scale)
        head.bias.copy_(bias - (weight / scale) @ mean)
    _log.info(
        "head start: %d people, penalty %g, loss %.4f on units left out; %.1f s",
        len(features), penalty, held_out, time.monotonic() - started_s,
    )  # fmt: skip


def _features(network: nn.Module, cutouts: Cutouts, device: str) -> Tensor:
    """The head's inputs, float32 (samples, features)."""
    was_training = network.training
    network.eval().to(device)
    memory_format = memory_format_of(network)
    preprocessing = cutouts.format.preprocessing
    parts = []
    for start in range(0, len(cutouts), _BATCH):
        images = np.stack([cutouts.input_rgb(index) for index in range(start, min(start + _BATCH, len(cutouts)))])
        batch = torch.from_numpy(preprocessing.normalise(images)).to(device, memory_format=memory_format)
        with torch.no_grad():
            maps = network.forward_features(batch)  # type: ignore[operator]
            parts.append(network.forward_head(maps, pre_logits=True).float().cpu())  # type: ignore[operator]
    network.train(was_training).to("cpu")
    return torch.cat(parts)


def _best_penalty(loss: nn.Module, scaled: Tensor, labels: Tensor, units: Sequence[str]) -> tuple[float, float]:
    """The penalty with the least mean loss over folds of units, and that loss."""
    folds = _folds_of(units)
    losses = dict.fromkeys(_PENALTIES, 0.0)
    for fold in range(_FOLDS):
        inside = torch.from_numpy(folds != fold)
        if bool(inside.all()) or not bool(inside.any()):
            continue
        # A label that nobody has inside, or all have, is not learned there: it does not depend on the penalty.
        seen = torch.nan_to_num(labels[inside], 0.5)
        can_tell = (seen == 1).any(dim=0) & (seen == 0).any(dim=0)
        outside_labels = torch.where(can_tell, labels[~inside], torch.nan)
        found = None
        for penalty in _PENALTIES:
            found = _fit(loss, scaled[inside], labels[inside], penalty, found)
            weight, bias = found
            outside = loss(scaled[~inside] @ weight.T + bias, outside_labels)
            losses[penalty] += float(outside) * int((~inside).sum()) / len(labels)
    best = min(losses, key=lambda penalty: losses[penalty])
    return best, losses[best]


def _folds_of(units: Sequence[str]) -> NDArray[np.int64]:
    """The fold of each sample, the same for a unit's samples; random with a fixed seed."""
    names = sorted(set(units))
    order = np.random.default_rng(0).permutation(len(names))
    fold_of = {names[place]: number % _FOLDS for number, place in enumerate(order)}
    return np.array([fold_of[unit] for unit in units], np.int64)


def _fit(
    loss: nn.Module, scaled: Tensor, labels: Tensor, penalty: float, start: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor]:
    """Weight (labels, features) and bias (labels,) that minimise the loss plus penalty times the squared weights."""
    count = labels.shape[1]
    known = torch.nanmean(labels, dim=0).nan_to_num(0.5).clamp(0.01, 0.99)
    weight = torch.zeros(count, scaled.shape[1]) if start is None else start[0].clone()
    base = torch.logit(known)
    bias = base.clone() if start is None else start[1].clone()
    weight.requires_grad_(True)
    bias.requires_grad_(True)
    search = torch.optim.LBFGS([weight, bias], max_iter=_STEPS, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        search.zero_grad()
        penalties = penalty * (weight**2).sum() + _BIAS_PENALTY * ((bias - base) ** 2).sum()
        value: Tensor = loss(scaled @ weight.T + bias, labels) + penalties / count
        value.backward()  # type: ignore[no-untyped-call]
        return value

    search.step(closure)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()
