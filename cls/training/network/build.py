"""The network: a timm backbone with pooling and a head of one logit a label, from a name or a checkpoint."""

from __future__ import annotations

import difflib
import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cls.errors import BottleError, NetworkError, TrainingError, first_line
from cls.people.preprocess import Preprocessing

_PREFIX = "network."

# Mean and maximum of each stripe.
_FEATURES_A_STRIPE = 2

SHORT_NAMES = {
    "eff": "tf_efficientnetv2_s",
    "eff_l": "tf_efficientnetv2_l",
    "res": "resnet50",
    "swin": "swin_small_patch4_window7_224",
    "vit_l_16": "vit_large_patch16_224",
    "lite0": "tf_efficientnet_lite0",
    "mnv3": "mobilenetv3_small_100",
}

# Vision transformers and Swin are built for one input size; timm resamples what depends on it.
_BUILT_FOR_ONE_SIZE = ("swin", "vit_", "deit", "beit", "eva", "cait", "xcit", "volo", "maxvit", "maxxvit", "coatnet")


@dataclass(frozen=True)
class NetworkSpec:
    """A network without its weights."""

    timm_arch: str
    labels: tuple[str, ...]
    preprocessing: Preprocessing


def load_network(path: Path, spec: NetworkSpec) -> nn.Module:
    """Builds a network and loads a run's checkpoint into it.

    Returns:
        The network in evaluation mode, float32, on the CPU.

    Raises:
        BottleError: the checkpoint is missing, broken, or another network's.
    """
    if not path.is_file():
        raise BottleError("the run's checkpoint is missing", code="checkpoint_missing", where=path, hint="train again")
    size = spec.preprocessing
    network = build_network(spec.timm_arch, len(spec.labels), size.height_px, size.width_px)
    try:
        saved = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        state = {name.removeprefix(_PREFIX): value for name, value in saved.items() if name.startswith(_PREFIX)}
        network = pool_by_stripes(network, stripes_of(network, state))
        network.load_state_dict(state)
    except Exception as error:  # torch raises many kinds for broken files
        raise BottleError(
            f"is not a checkpoint of {spec.timm_arch}: {first_line(error)}",
            code="checkpoint_damaged",
            where=path,
            hint="train again",
        ) from error
    return network.float().eval()


class StripePool(nn.Module):
    """Mean and maximum of each of several horizontal stripes of a feature map, as equal as whole rows allow."""

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
    """Replaces the pooling of a timm network by `StripePool`, and its head by one that fits; 0 stripes: no change.

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
            code="stripes_unsupported",
            hint="leave out --stripes, or take an --arch such as eff, res or tf_efficientnet_lite0",
        )
    network.global_pool = StripePool(stripes)
    wide = nn.Linear(head.in_features * stripes * _FEATURES_A_STRIPE, head.out_features, bias=head.bias is not None)
    network.set_submodule(head_names(network)[0], wide)
    return network


def stripes_of(network: nn.Module, state: Mapping[str, Tensor]) -> int:
    """How many stripes the network of a state_dict had, by its head's width; `network` is the same without any."""
    weight = state.get(f"{head_names(network)[0]}.weight")
    width = head_of(network).in_features
    if weight is None or weight.ndim != 2 or weight.shape[1] == width:
        return 0
    return int(weight.shape[1]) // (width * _FEATURES_A_STRIPE)


def timm_name(arch: str) -> str:
    """The timm model behind a short name, or the name itself where timm knows it.

    Raises:
        TrainingError: neither; suggests the closest names.
    """
    if arch in SHORT_NAMES:
        return SHORT_NAMES[arch]
    if timm.is_model(arch):
        return arch
    close = difflib.get_close_matches(arch, [*SHORT_NAMES, *timm.list_models()], n=3, cutoff=0.5)
    shorts = ", ".join(SHORT_NAMES)
    meant = f"did you mean {' or '.join(close)}? " if close else ""
    raise TrainingError(
        f"there is no architecture '{arch}'",
        code="unknown_architecture",
        hint=f"{meant}Short names: {shorts}; or any name that `timm.list_models()` lists",
    )


def build_network(
    timm_arch: str, label_count: int, height_px: int, width_px: int, *, dropout: float = 0.0
) -> nn.Module:
    """An untrained network.

    Args:
        timm_arch: the backbone.
        label_count: how many logits.
        height_px: height of the input.
        width_px: width of the input.
        dropout: rate before the head.

    Returns:
        A module: float32 (batch, 3, height_px, width_px), normalised -> logits float32 (batch, label_count).

    Raises:
        NetworkError: the backbone cannot be built for this size.
    """
    logging.getLogger("timm").setLevel(logging.ERROR)
    options: dict[str, Any] = {"num_classes": label_count, "drop_rate": dropout}
    if is_built_for_one_size(timm_arch):
        options["img_size"] = (height_px, width_px)
    try:
        network: nn.Module = timm.create_model(timm_arch, pretrained=False, **options)
    except Exception as error:  # each of timm's networks has its own kinds
        raise NetworkError(
            f"backbone {timm_arch} cannot be built for inputs of {height_px}x{width_px}: {first_line(error)}",
            code="cannot_be_built",
            hint="choose another --size or --arch",
        ) from error
    _make_head_linear(network)
    _share_head(network)
    return network


class _LinearOfPooled(nn.Linear):
    """A linear layer of pooled features (batch, width, 1, 1)."""

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        return super().forward(pooled.flatten(1))


def _make_head_linear(network: nn.Module) -> None:
    """Makes a linear layer of a classifier that is a 1x1 convolution of pooled features (DLA, DPN, ResNetV2)."""
    for head in _classifiers(network):
        if isinstance(head, nn.Conv2d) and head.kernel_size == (1, 1) and head.groups == 1:
            name = next(name for name, module in network.named_modules() if module is head)
            linear = _LinearOfPooled(head.in_channels, head.out_channels, bias=head.bias is not None)
            network.set_submodule(name, linear)


def _classifiers(network: nn.Module) -> list[nn.Module]:
    """The network's classifiers; a distilled backbone has a second one, for its teacher."""
    get = getattr(network, "get_classifier", None)
    found = None if get is None else get()
    several = found if isinstance(found, (tuple, list)) else (found,)
    return [part for part in several if isinstance(part, nn.Module)]


def _share_head(network: nn.Module) -> None:
    """Makes the two heads of a distilled backbone (LeViT, DeiT, PiT), whose output is their mean, one module.

    Without a teacher both learn the same; one linear layer can be initialised, calibrated and exported.
    """
    heads = _classifiers(network)
    shapes = [[(name, p.shape) for name, p in head.named_parameters()] for head in heads]
    if any(shape != shapes[0] for shape in shapes):
        return
    for other in heads[1:]:
        network.set_submodule(next(name for name, module in network.named_modules() if module is other), heads[0])


def check_size(network: nn.Module, timm_arch: str, height_px: int, width_px: int) -> None:
    """Runs one blank input: some backbones reduce a small one to nothing.

    Raises:
        NetworkError: the backbone cannot take inputs of this size.
    """
    was_training = network.training
    try:
        with torch.inference_mode():
            network.eval()(torch.zeros(1, 3, height_px, width_px))
    except Exception as error:  # each of timm's networks has its own kinds
        raise NetworkError(
            f"backbone {timm_arch} cannot take inputs of {height_px}x{width_px}: {first_line(error)}",
            code="unsupported_input_size",
            hint="choose another --size or --arch",
        ) from error
    finally:
        network.train(was_training)


def is_built_for_one_size(timm_arch: str) -> bool:
    """Whether a backbone is built for one input size."""
    config = timm.get_pretrained_cfg(timm_arch, allow_unregistered=True)
    is_fixed = bool(config is not None and config.fixed_input_size)
    return is_fixed or timm_arch.startswith(_BUILT_FOR_ONE_SIZE)


def mean_and_std(timm_arch: str) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Mean and standard deviation that a backbone's published weights expect; used for random weights too."""
    config = timm.get_pretrained_cfg(timm_arch, allow_unregistered=True)
    if config is None:
        return (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    mean, std = (tuple(float(value) for value in values) for values in (config.mean, config.std))
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def head_of(network: nn.Module) -> nn.Linear:
    """The last linear layer: features -> logits.

    Raises:
        NetworkError: the network has none (a backbone of another kind).
    """
    heads = [module for part in _classifiers(network) for module in part.modules() if isinstance(module, nn.Linear)]
    if not heads:
        raise NetworkError(
            f"backbone {type(network).__name__} has no linear classifier",
            code="no_linear_classifier",
            hint="choose another --arch",
        )
    return heads[-1]


def head_names(network: nn.Module) -> list[str]:
    """The names of the head in the network; several for a distilled backbone."""
    head = head_of(network)
    return [str(name) for name, module in network.named_modules(remove_duplicate=False) if module is head]


def memory_format_of(network: nn.Module) -> torch.memory_format:
    """The memory format of the network's convolutions; contiguous where it has none."""
    kernels = [weight for weight in network.parameters() if weight.ndim == 4]
    is_last = any(
        weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous() for weight in kernels
    )
    return torch.channels_last if is_last else torch.contiguous_format


def initialise_head(network: nn.Module, base_rates: Sequence[float] | NDArray[np.float64]) -> None:
    """Initialises the head so that its probabilities are the labels' base rates, clipped to 0.01..0.99."""
    head = head_of(network)
    rates = torch.as_tensor(np.clip(base_rates, 0.01, 0.99), dtype=torch.float32)
    with torch.no_grad():
        nn.init.normal_(head.weight, std=0.01)
        if head.bias is not None:
            head.bias.copy_(torch.logit(rates))


def parameter_count(network: nn.Module) -> int:
    """How many weights are trained."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
