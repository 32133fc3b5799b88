"""Pooling that knows where on a person a feature was seen: mean and maximum of horizontal stripes.

Cut-outs are aligned: the head is at the top and the shoes are at the bottom. One mean over everything forgets that, and
lets a pair of glasses vanish among coat and trousers. Stripes come from person re-identification (Sun et al., Beyond
Part Models: Person Retrieval with Refined Part Pooling, ECCV 2018).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cls.errors import TrainingError
from cls.training.network.build import head_of

# Mean and maximum of each stripe.
_FEATURES_A_STRIPE = 2


class StripePool(nn.Module):
    """Mean and maximum of each of several horizontal stripes of a feature map.

    Args:
        stripes: how many, from top to bottom, as equal as whole rows allow.
    """

    def __init__(self, stripes: int) -> None:
        super().__init__()
        self.stripes = stripes

    def forward(self, maps: Tensor) -> Tensor:
        """Maps, float (batch, channels, rows, columns) -> (batch, 2 * stripes * channels): all means, then all maxima.

        Raises:
            ValueError: the maps have fewer rows than there are stripes.
        """
        rows = int(maps.shape[2])
        if rows < self.stripes:
            raise ValueError(f"{self.stripes} stripes of {rows} rows of features")
        edges = [rows * number // self.stripes for number in range(self.stripes + 1)]
        parts = [maps[:, :, top:bottom] for top, bottom in itertools.pairwise(edges)]
        return torch.cat([*(part.mean((2, 3)) for part in parts), *(part.amax((2, 3)) for part in parts)], dim=1)


def pool_by_stripes(network: nn.Module, stripes: int) -> nn.Module:
    """Gives a convolutional network stripes in the place of its one mean, and a new head that fits them.

    Args:
        network: of timm, changed.
        stripes: how many; 0 leaves the network as it is.

    Returns:
        The network.

    Raises:
        TrainingError: its head does not follow right after the pooling of a feature map.
    """
    if not stripes:
        return network
    head = head_of(network)
    pool = getattr(network, "global_pool", None)
    if not isinstance(pool, nn.Module) or head.in_features != getattr(network, "num_features", None):
        raise TrainingError(
            f"--stripes: {type(network).__name__} has no pooled feature map right before its head",
            hint="leave out --stripes, or take an --arch such as eff, res or tf_efficientnet_lite0",
        )
    network.global_pool = StripePool(stripes)
    wide = nn.Linear(head.in_features * stripes * _FEATURES_A_STRIPE, head.out_features, bias=head.bias is not None)
    network.set_submodule(head_name(network), wide)
    return network


def stripes_of(network: nn.Module, state: Mapping[str, Tensor]) -> int:
    """How many stripes the network had that a state_dict was taken of: its head's width says so.

    Args:
        network: of the same backbone, without stripes.
        state: names as in `network.state_dict()`.
    """
    weight = state.get(f"{head_name(network)}.weight")
    width = head_of(network).in_features
    if weight is None or weight.ndim != 2 or weight.shape[1] == width:
        return 0
    return int(weight.shape[1]) // (width * _FEATURES_A_STRIPE)


def head_name(network: nn.Module) -> str:
    """The head's name among the network's modules."""
    head = head_of(network)
    return str(next(name for name, module in network.named_modules() if module is head))
