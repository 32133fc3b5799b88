"""Pictures -> logits, batch by batch, exactly as inference will do it, and probabilities."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cls.people.preprocess import Preprocessing

_BATCH = 32


def logits_of(
    network: nn.Module, preprocessing: Preprocessing, pictures: Iterable[NDArray[np.uint8]]
) -> NDArray[np.float64]:
    """Logits of pictures of people.

    Args:
        network: evaluation mode, on the CPU.
        preprocessing: mean and deviation.
        pictures: each uint8 (height, width, 3), the network's input before normalisation.

    Returns:
        float64 (pictures, labels); (0, 0) without pictures.
    """
    parts = []
    left = iter(pictures)
    # Channels last is half as fast again on a CPU.
    network.to(memory_format=torch.channels_last)
    try:
        while images := list(islice(left, _BATCH)):
            normal = torch.from_numpy(preprocessing.normalise(np.stack(images)))
            with torch.inference_mode():
                logits = network(normal.contiguous(memory_format=torch.channels_last))
            parts.append(logits.numpy().astype(np.float64))
    finally:
        network.to(memory_format=torch.contiguous_format)
    return np.concatenate(parts) if parts else np.empty((0, 0))


def probabilities_of(logits: NDArray[np.float64], temperature: float = 1.0) -> NDArray[np.float64]:
    """The sigmoid of logits divided by a temperature, without overflow."""
    return np.asarray(1 / (1 + np.exp(-np.clip(logits / temperature, -60, 60))), np.float64)
