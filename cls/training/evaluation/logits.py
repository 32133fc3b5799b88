"""Pictures -> logits, batch by batch, exactly as inference will do it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cls.people.preprocess import Preprocessing
from cls.training.loop.device import torch_device
from cls.training.network.build import memory_format_of

_BATCH = 32


def logits_of(
    network: nn.Module,
    preprocessing: Preprocessing,
    pictures: Iterable[NDArray[np.uint8]],
    *,
    device: str | None = None,
) -> NDArray[np.float64]:
    """Logits of pictures of people, in float32 proper on a GPU too.

    Args:
        network: evaluation mode, on the CPU, in the memory format to compute in; is there again afterwards.
        preprocessing: mean and deviation.
        pictures: each uint8 (height, width, 3), the network's input before normalisation.
        device: where it is computed; None: where a training is.

    Returns:
        float64 (pictures, labels); (0, 0) without pictures.
    """
    parts = []
    left = iter(pictures)
    where = torch.device(device or torch_device())
    memory_format = memory_format_of(network)
    network.to(where)
    try:
        # A GPU's convolutions would else round to ten bits, and thresholds be chosen on what nobody will see again.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            while images := list(islice(left, _BATCH)):
                normal = torch.from_numpy(preprocessing.normalise(np.stack(images)))
                with torch.inference_mode():
                    logits = network(normal.to(where, memory_format=memory_format))
                parts.append(logits.cpu().numpy().astype(np.float64))
    finally:
        network.to("cpu")
    return np.concatenate(parts) if parts else np.empty((0, 0))
