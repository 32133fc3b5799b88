"""Multi-label losses, auxiliary labels, AdamW and its schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from cls.bottle.dataset_file import read_dataset
from cls.bottle.layout import Bottle
from cls.dataset.samples import Sample
from cls.errors import TrainingError
from cls.training.config import TrainConfig
from cls.training.network.build import head_of

# Every other group of the bottle that shares photos with this one.
EVERY_GROUP = "all"

_LARGEST_POSITIVE_WEIGHT = 10.0

# Smallest base of a power: the gradient of x**0.5 at 0 is infinite.
_TINY = 1e-8

# Peak learning rate of the head for steps of 16 people; it grows with the root of their number.
_LR_AT_16 = 1.5e-3


@dataclass(frozen=True)
class AuxiliaryLabels:
    """Labels of other groups.

    Attributes:
        groups: their names.
        names: of the labels, each after its group's name.
        rows: picture's file name -> one value per label: 1 present, 0 absent, NaN unknown.
    """

    groups: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    rows: dict[str, tuple[float, ...]] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def of(self, samples: Sequence[Sample]) -> NDArray[np.float32]:
        """Values for samples, float32 (samples, labels); NaN where a picture is in no other group."""
        nothing = (np.nan,) * len(self)
        rows = self.rows or {}
        table = [rows.get(sample.path, nothing) for sample in samples]
        return np.array(table, np.float32).reshape(len(samples), len(self))


NO_AUXILIARY = AuxiliaryLabels()


class JointLoss(nn.Module):
    """The sum of the losses of a group's `count` labels (`own`) and of the auxiliary labels (`others`)."""

    def __init__(self, own: nn.Module, others: nn.Module, count: int) -> None:
        super().__init__()
        self._own = own
        self._others = others
        self._count = count

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Logits and labels, float (batch, all labels) -> a scalar."""
        own: Tensor = self._own(logits[:, : self._count], labels[:, : self._count])
        others: Tensor = self._others(logits[:, self._count :], labels[:, self._count :])
        return own + others


def auxiliary_labels(bottle: Bottle, group: str, asked: Sequence[str], samples: Sequence[Sample]) -> AuxiliaryLabels:
    """Reads the labels of other groups for the pictures of samples.

    Args:
        bottle: the data folder.
        group: the group that is trained.
        asked: names of groups, or `all` alone.
        samples: of the group.

    Raises:
        TrainingError: a named group has none of the samples' pictures, or is the group itself.
        BottleError: a group has not been loaded.
    """
    is_every = tuple(asked) == (EVERY_GROUP,)
    groups = [name for name in groups_of(bottle) if name != group] if is_every else list(asked)
    if group in groups:
        raise TrainingError(
            f"--auxiliary: '{group}' is the group that is trained", code="group_is_trained", hint="name other groups"
        )
    wanted = {sample.path for sample in samples}
    used, names = [], []
    columns: list[dict[str, float]] = []
    for name in groups:
        dataset = read_dataset(bottle.dataset_file(name), name)
        rows = [row for row in dataset.rows if row.path in wanted]
        if not rows:
            if not is_every:
                raise TrainingError(
                    f"--auxiliary: group '{name}' has none of the {len(wanted)} pictures of group '{group}'",
                    code="no_shared_pictures",
                    where=bottle.dataset_file(name),
                    hint="name groups over the same pictures",
                )
            continue
        used.append(name)
        for place, label in enumerate(dataset.labels):
            column = {row.path: row.labels[place] for row in rows}
            if {0.0, 1.0} <= set(column.values()):  # nothing is learned from a constant
                names.append(f"{name}: {label}")
                columns.append(column)
    rows_of = {
        path: tuple(column.get(path, float("nan")) for column in columns)
        for path in sorted({path for column in columns for path in column})
    }
    return AuxiliaryLabels(tuple(used), tuple(names), rows_of)


def groups_of(bottle: Bottle) -> list[str]:
    """The groups that have been loaded into a bottle, by name."""
    files = [file for file in bottle.datasets.glob("*.json") if not file.name.startswith(".")]
    return sorted(read_dataset(file).group for file in files)


def without_auxiliary(state: dict[str, Tensor], head: str, count: int) -> dict[str, Tensor]:
    """A copy of a network's state with only the first `count` outputs of the module named `head`."""
    narrow = dict(state)
    for part in ("weight", "bias"):
        name = f"{head}.{part}"
        if name in narrow:
            narrow[name] = narrow[name][:count].clone()
    return narrow


@dataclass(frozen=True)
class FocalParameters:
    """Focusing parameters: each term of a loss is multiplied by (1 - probability of the truth)**gamma.

    Attributes:
        positive: gamma of labels that are present.
        negative: gamma of labels that are absent.
        clip: probability margin of absent labels, subtracted from their probability first.
    """

    positive: float = 0.0
    negative: float = 0.0
    clip: float = 0.0


class MultiLabelLoss(nn.Module):
    """Binary cross-entropy with weights, focusing and label smoothing, averaged over the known labels.

    Args:
        positive_weights: of each label's positives, (labels,).
        negative_weights: of each label's negatives; 1 when not given.
        focusing: of `focal` and `asymmetric`.
        smoothing: distance of the targets from 0 and 1.
    """

    def __init__(
        self,
        positive_weights: Tensor,
        *,
        negative_weights: Tensor | None = None,
        focusing: FocalParameters = FocalParameters(),
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
        """The loss of each label if it is present, and if it is absent; both (batch, labels)."""
        focusing = self._focusing
        present, absent = functional.softplus(-logits), functional.softplus(logits)  # -log p, -log (1 - p)
        if focusing == FocalParameters():
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
    """The loss of a training.

    - `bce`: binary cross-entropy.
    - `weighted`: the same with `positive_weights`.
    - `focal`: Lin et al., Focal Loss for Dense Object Detection, ICCV 2017, equation 4.
    - `asymmetric`: Ridnik et al., Asymmetric Loss for Multi-Label Classification, ICCV 2021, equations 5 and 6.
    - `ratio`: Li et al., Multi-attribute Learning for Pedestrian Attribute Recognition (DeepMAR), ACPR 2015: of a
      label with share r of positives, a positive has weight exp(1 - r) and a negative exp(r).

    Args:
        config: `loss` and its parameters, `smoothing`.
        base_rates: share of positives of each label in training; NaN where nothing is known.
    """
    rates = torch.as_tensor(list(base_rates), dtype=torch.float32).nan_to_num(0.5)
    ones = torch.ones_like(rates)
    if config.loss == "ratio":
        return MultiLabelLoss(torch.exp(1 - rates), negative_weights=torch.exp(rates), smoothing=config.smoothing)
    if config.loss == "focal":
        focusing = FocalParameters(config.focal_gamma, config.focal_gamma)
        return MultiLabelLoss(ones, focusing=focusing, smoothing=config.smoothing)
    if config.loss == "asymmetric":
        focusing = FocalParameters(config.gamma_positive, config.gamma_negative, config.negative_clip)
        return MultiLabelLoss(ones, focusing=focusing, smoothing=config.smoothing)
    return MultiLabelLoss(positive_weights(rates.tolist(), config.loss), smoothing=config.smoothing)


def positive_weights(base_rates: Sequence[float], loss: str) -> Tensor:
    """The weight of each label's positives, float32 (labels,), from 1 to 10.

    `weighted` is the square root of negatives per positive: with the full ratio, the few positives of rare labels, and
    their label errors, would dominate the loss.

    Args:
        base_rates: share of positives of each label in training.
        loss: `bce` or `weighted`.
    """
    rates = torch.as_tensor(list(base_rates), dtype=torch.float32)
    if loss == "bce":
        return torch.ones_like(rates)
    return ((1 - rates) / rates).sqrt().clamp(1.0, _LARGEST_POSITIVE_WEIGHT)


class FrozenStages:
    """The first `count` stages of a timm network, the stem included: weights and norms' statistics are not trained.

    Raises:
        TrainingError: the network has no stage left to train before its head.
    """

    def __init__(self, network: nn.Module, count: int) -> None:
        self._modules: list[nn.Module] = []
        if not count:
            return
        stages = stages_of(network)
        last = max(stages.values(), default=0)
        if count >= last:
            raise TrainingError(
                f"--freeze {count}: {type(network).__name__} has {last} stages before its head, and one must be left "
                "to train",
                code="too_many_frozen_stages",
                hint=f"give --freeze 0 to {max(last - 1, 0)}",
            )
        frozen = {name for name, stage in stages.items() if stage < count}
        for name, parameter in network.named_parameters():
            if name in frozen:
                parameter.requires_grad_(False)
        for prefix, module in network.named_modules():
            own = [f"{prefix}.{name}" for name, _ in module.named_parameters(recurse=False)]
            if own and all(name in frozen for name in own):
                self._modules.append(module)

    def set_eval(self) -> None:
        """Puts the frozen modules into evaluation mode; to be called after `network.train()`."""
        for module in self._modules:
            module.eval()


def stages_of(network: nn.Module) -> dict[str, int]:
    """The stage of each weight, from timm: 0 is the stem, the last one the head."""
    from timm.models._manipulate import group_with_matcher

    matcher = network.group_matcher(coarse=True)  # type: ignore[operator]
    groups = group_with_matcher(network.named_parameters(), matcher, reverse=True)
    order = {number: place for place, number in enumerate(sorted(set(groups.values())))}
    return {str(name): order[number] for name, number in groups.items()}


def optimizer_for(network: nn.Module, config: TrainConfig, *, is_pretrained: bool) -> AdamW:
    """AdamW over a network's weights; no decay for biases and norms; the head's groups last.

    Args:
        network: of `build_network`.
        config: learning rates, decay.
        is_pretrained: whether the backbone is pretrained, and so has a lower learning rate than the head.
    """
    return AdamW(_groups(network, config, is_pretrained=is_pretrained))


def schedule_for(optimizer: AdamW, config: TrainConfig, steps: int) -> LambdaLR:
    """A linear warm-up over the share `warmup` of the steps, then a cosine down to a hundredth of the peak."""
    warmup = max(round(steps * config.warmup), 1)

    def share_of_peak(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        progress = min((step - warmup) / max(steps - warmup, 1), 1.0)
        return 0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2

    return LambdaLR(optimizer, share_of_peak)


def _groups(
    network: nn.Module, config: TrainConfig, *, is_pretrained: bool
) -> list[dict[str, list[nn.Parameter] | float]]:
    """Weights by learning rate and decay; `layer_decay` lowers a layer's rate by its distance from the head."""
    peak = config.lr or _LR_AT_16 * math.sqrt(config.samples_per_step / 16)
    backbone_lr = peak * (config.backbone_lr if is_pretrained else 1.0)
    scales = _layer_scales(network, config.layer_decay)
    head = {id(parameter) for parameter in head_of(network).parameters()}
    head_lr = peak * _share_of_width(network)
    groups: dict[tuple[bool, float, bool], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        if parameter.requires_grad:
            key = (id(parameter) in head, scales.get(id(parameter), 1.0), parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": head_lr if is_head else backbone_lr * scale,
            "weight_decay": config.decay if is_decayed else 0.0,
        }
        for (is_head, scale, is_decayed), parameters in sorted(groups.items(), key=lambda group: group[0])
    ]


def _share_of_width(network: nn.Module) -> float:
    """Factor of the head's learning rate where it has more inputs than the backbone has channels.

    AdamW moves every weight by about the learning rate: a logit of eight times as many features would move eight times
    as far (Yang et al., Tensor Programs V, NeurIPS 2021, table 3).
    """
    channels = getattr(network, "head_hidden_size", None) or getattr(network, "num_features", None)
    width = head_of(network).in_features
    return min(channels / width, 1.0) if isinstance(channels, int) else 1.0


def _layer_scales(network: nn.Module, layer_decay: float) -> dict[int, float]:
    """Factor of the learning rate by a weight's id: timm's layer-wise decay, as of BEiT."""
    if layer_decay == 1.0:
        return {}
    from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]

    groups = param_groups_layer_decay(network, layer_decay=layer_decay)
    return {id(parameter): float(group["lr_scale"]) for group in groups for parameter in group["params"]}
