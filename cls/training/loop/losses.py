"""Losses over several labels at once; unknown labels (NaN) count for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from cls.training.config import TrainConfig

_LARGEST_POSITIVE_WEIGHT = 10.0
# Smallest base of a power: the gradient of x**0.5 at 0 is infinite.
_TINY = 1e-8


@dataclass(frozen=True)
class Focusing:
    """How much a loss turns away from what is easy: each term is multiplied by (1 - probability of the truth)**gamma.

    Attributes:
        positive: gamma of labels that are present.
        negative: gamma of labels that are absent.
        clip: the probability of absent labels is moved down by this much first; below it they count for nothing.
    """

    positive: float = 0.0
    negative: float = 0.0
    clip: float = 0.0


class MultiLabelLoss(nn.Module):
    """Cross-entropy of each label, weighted and focused, averaged over the labels that are known.

    Args:
        positive_weights: what a positive of each label counts; (labels,).
        negative_weights: what a negative of each label counts; 1 when not given.
        focusing: of `focal` and `asymmetric`.
        smoothing: targets are moved this far from 0 and 1.
    """

    def __init__(
        self,
        positive_weights: Tensor,
        *,
        negative_weights: Tensor | None = None,
        focusing: Focusing = Focusing(),
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        negative = torch.ones_like(positive_weights) if negative_weights is None else negative_weights
        self.register_buffer("positive_weights", positive_weights.float(), persistent=False)
        self.register_buffer("negative_weights", negative.float(), persistent=False)
        self._focusing = focusing
        self._smoothing = smoothing

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean loss.

        Args:
            logits: float (batch, labels).
            labels: float (batch, labels): 1 present, 0 absent, NaN unknown.

        Returns:
            A scalar; 0 (with a gradient of 0) where nothing is known.
        """
        is_known = ~torch.isnan(labels)
        targets = torch.nan_to_num(labels).clamp(self._smoothing, 1 - self._smoothing)
        present, absent = self._terms(logits)
        losses = targets * self.get_buffer("positive_weights") * present
        losses = losses + (1 - targets) * self.get_buffer("negative_weights") * absent
        return (losses * is_known).sum() / is_known.sum().clamp(min=1)

    def _terms(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """What each label costs if it is present, and if it is absent; both (batch, labels)."""
        focusing = self._focusing
        present, absent = functional.softplus(-logits), functional.softplus(logits)  # -log p, -log (1 - p)
        if focusing == Focusing():
            return present, absent
        probs = torch.sigmoid(logits)
        if focusing.positive:
            present = present * (1 - probs).clamp(min=_TINY) ** focusing.positive
        if focusing.clip:
            probs = (probs - focusing.clip).clamp(min=0)
            absent = -torch.log1p(-probs)
        if focusing.negative:
            absent = absent * probs.clamp(min=_TINY) ** focusing.negative
        return present, absent


def loss_for(config: TrainConfig, base_rates: Sequence[float]) -> MultiLabelLoss:
    """The loss a training asks for.

    - `bce`: binary cross-entropy.
    - `weighted`: the same, a positive counting as `positive_weights` says.
    - `focal`: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, equation 4.
    - `asymmetric`: Ridnik et al., Asymmetric Loss for Multi-Label Classification, ICCV 2021, equations 5 and 6.
    - `ratio`: Li et al., Multi-attribute Learning for Pedestrian Attribute Recognition (DeepMAR), ACPR 2015: of a
      label with share r of positives, a positive counts exp(1 - r) and a negative exp(r).

    Args:
        config: `loss` and its parameters, `smoothing`.
        base_rates: share of positives of each label in the training part; NaN where nothing is known.
    """
    rates = torch.as_tensor(list(base_rates), dtype=torch.float32).nan_to_num(0.5)
    ones = torch.ones_like(rates)
    if config.loss == "ratio":
        return MultiLabelLoss(torch.exp(1 - rates), negative_weights=torch.exp(rates), smoothing=config.smoothing)
    if config.loss == "focal":
        focusing = Focusing(config.focal_gamma, config.focal_gamma)
        return MultiLabelLoss(ones, focusing=focusing, smoothing=config.smoothing)
    if config.loss == "asymmetric":
        focusing = Focusing(config.gamma_positive, config.gamma_negative, config.negative_clip)
        return MultiLabelLoss(ones, focusing=focusing, smoothing=config.smoothing)
    return MultiLabelLoss(positive_weights(rates.tolist(), config.loss), smoothing=config.smoothing)


def positive_weights(base_rates: Sequence[float], loss: str) -> Tensor:
    """What a positive of each label counts.

    `weighted` takes the square root of negatives per positive: the full ratio makes rare labels' few positives, and
    their label errors, drown everything else.

    Args:
        base_rates: share of positives of each label in the training part.
        loss: `bce` or `weighted`.

    Returns:
        float32 (labels,), from 1 to 10.
    """
    rates = torch.as_tensor(list(base_rates), dtype=torch.float32)
    if loss == "bce":
        return torch.ones_like(rates)
    return ((1 - rates) / rates).sqrt().clamp(1.0, _LARGEST_POSITIVE_WEIGHT)
