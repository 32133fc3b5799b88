"""Checkpoints -> networks ready for inference."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from cls.errors import BottleError
from cls.training.network.build import build_network
from cls.training.network.pooling import pool_by_stripes, stripes_of

_PREFIX = "network."


def load_network(path: Path, timm_arch: str, label_count: int, height_px: int, width_px: int) -> nn.Module:
    """Builds a network and loads a run's checkpoint into it.

    Args:
        path: a checkpoint of this project.
        timm_arch: timm's name of the backbone.
        label_count: how many logits.
        height_px: height of the input.
        width_px: width of the input.

    Returns:
        The network in evaluation mode, float32, on the CPU.

    Raises:
        BottleError: the checkpoint is missing, broken, or another network's.
    """
    if not path.is_file():
        raise BottleError("the run's checkpoint is missing", where=path, hint="train again")
    network = build_network(timm_arch, label_count, height_px, width_px)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        state = {
            name[len(_PREFIX) :]: value for name, value in content["state_dict"].items() if name.startswith(_PREFIX)
        }
        network = pool_by_stripes(network, stripes_of(network, state))
        network.load_state_dict(state)
    except Exception as error:  # torch raises many kinds for broken files
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise BottleError(
            f"is not a checkpoint of {timm_arch}: {first_line}", where=path, hint="train again"
        ) from error
    return network.float().eval()
