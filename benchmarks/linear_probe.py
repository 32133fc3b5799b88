"""The peer of two benchmarks: frozen ImageNet features of a timm backbone, and a logistic regression on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cls.training.network.build import build_network
from cls.training.network.weights import find_weights, load_weights

ARCH = "tf_efficientnet_lite0"
# Strengths of the ridge tried; the caller keeps the one that does best, which is kind to the peer.
STRENGTHS = (0.1, 0.03, 0.01, 0.003, 0.001)


class FrozenFeatures:
    """The backbone without its head: uint8 pictures of one size -> float32 (pictures, features)."""

    def __init__(self, height_px: int, width_px: int) -> None:
        source = find_weights("auto", ARCH)
        if not source.is_pretrained:
            raise SystemExit(f"no ImageNet weights of {ARCH}: {source.origin}")
        network = build_network(ARCH, 2, height_px, width_px)
        load_weights(network, source, ARCH)
        network.reset_classifier(0)  # type: ignore[operator]
        config = timm.get_pretrained_cfg(ARCH)
        self._mean, self._std = (torch.tensor(values).view(1, 3, 1, 1) for values in (config.mean, config.std))
        self._network: nn.Module = network.eval().to(memory_format=torch.channels_last)

    def __call__(self, images_rgb: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Features of at most a few dozen pictures at a time."""
        images = torch.from_numpy(np.stack(images_rgb)).permute(0, 3, 1, 2).float() / 255
        with torch.inference_mode():
            features: Tensor = self._network(((images - self._mean) / self._std).contiguous(memory_format=_LAST))
        return features.numpy()


_LAST = torch.channels_last


def standardised(train: NDArray[np.float32], *others: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """Features with the mean 0 and the deviation 1 that they have in the training part."""
    mean, std = train.mean(axis=0), train.std(axis=0) + 1e-6
    return tuple((part - mean) / std for part in (train, *others))


class LogisticRegression:
    """One logistic regression a label, all at once, with a ridge; positives and negatives of a label weigh the same.

    Args:
        features: float32 (samples, features), standardised.
        labels: (samples, labels), 0 or 1.
        strength: of the ridge; the objective is mean loss + strength / 2 * |weights|².
    """

    def __init__(self, features: NDArray[np.float32], labels: NDArray[np.float64], strength: float) -> None:
        self._inputs = torch.from_numpy(features)
        self._targets = torch.from_numpy(labels).float()
        rate = self._targets.mean(dim=0).clamp(1e-6, 1 - 1e-6)
        self._importance = torch.where(self._targets > 0.5, 0.5 / rate, 0.5 / (1 - rate))
        self._strength = strength
        self._weight = torch.zeros(features.shape[1], labels.shape[1], requires_grad=True)
        self._bias = torch.zeros(labels.shape[1], requires_grad=True)

    def fit(self, iterations: int) -> LogisticRegression:
        """Goes on for some iterations of L-BFGS; enough of them reach the optimum."""
        optimizer = torch.optim.LBFGS(
            [self._weight, self._bias], max_iter=iterations, history_size=20, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            optimizer.zero_grad()
            logits = self._inputs @ self._weight + self._bias
            losses = nn.functional.binary_cross_entropy_with_logits(logits, self._targets, weight=self._importance)
            objective = losses + self._strength / 2 * (self._weight**2).sum() / self._targets.shape[1]
            objective.backward()  # type: ignore[no-untyped-call]
            return objective

        optimizer.step(closure)  # type: ignore[no-untyped-call]
        return self

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """Probabilities, (samples, labels)."""
        with torch.inference_mode():
            logits = torch.from_numpy(features) @ self._weight + self._bias
            return torch.sigmoid(logits).double().numpy()
