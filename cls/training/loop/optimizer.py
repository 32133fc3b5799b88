"""Losses over several labels (NaN: unknown) and of labels learnt alongside, AdamW, and its schedule."""

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

# Asks for every other group of the bottle that shares photos with this one.
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
        groups: whose they are.
        names: of the labels, each behind its group's name.
        rows: a picture's file name -> one value a label: 1 present, 0 absent, NaN unknown.
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


NOTHING = AuxiliaryLabels()


class JointLoss(nn.Module):
    """A group's loss and that of the auxiliary labels; each is a mean over its labels, and counts alike.

    Args:
        own: of the first `count` labels.
        others: of the labels behind them.
        count: how many labels the group has.
    """

    def __init__(self, own: nn.Module, others: nn.Module, count: int) -> None:
        super().__init__()
        self._own = own
        self._others = others
        self._count = count

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Float (batch, own and other labels), both -> a scalar."""
        own: Tensor = self._own(logits[:, : self._count], labels[:, : self._count])
        others: Tensor = self._others(logits[:, self._count :], labels[:, self._count :])
        return own + others


def auxiliary_labels(bottle: Bottle, group: str, asked: Sequence[str], samples: Sequence[Sample]) -> AuxiliaryLabels:
    """Reads the labels of other groups for the pictures of samples.

    Args:
        bottle: the data folder.
        group: the group that is trained.
        asked: names of groups, or `all` alone.
        samples: the group's.

    Raises:
        TrainingError: a group that was named has no picture among the samples' or is the group itself.
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
            if {0.0, 1.0} <= set(column.values()):  # all alike, it teaches nothing
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
    """A network's weights with the first `count` outputs of its head alone.

    Args:
        state: of the wide network; not changed.
        head: name of the head's module in `state`.
        count: how many labels the group has.
    """
    narrow = dict(state)
    for part in ("weight", "bias"):
        name = f"{head}.{part}"
        if name in narrow:
            narrow[name] = narrow[name][:count].clone()
    return narrow


@dataclass(frozen=True)
class FocalParameters:
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
        """What each label costs if it is present, and if it is absent; both (batch, labels)."""
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
        focusing = FocalParameters(config.focal_gamma, config.focal_gamma)
        return MultiLabelLoss(ones, focusing=focusing, smoothing=config.smoothing)
    if config.loss == "asymmetric":
        focusing = FocalParameters(config.gamma_positive, config.gamma_negative, config.negative_clip)
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


class FrozenStages:
    """Stages of a network that are not trained: neither their weights nor the statistics of their norms.

    Args:
        network: of timm; its frozen weights no longer ask for gradients.
        count: how many stages from the input on, the stem being the first; 0: none.

    Raises:
        TrainingError: the network has no more stages than that beside its head.
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
        """Puts the frozen modules into evaluation mode; called whenever training mode was switched on."""
        for module in self._modules:
            module.eval()


def stages_of(network: nn.Module) -> dict[str, int]:
    """The stage of each weight, counted from the input: 0 is the stem, the last one the head (timm knows them)."""
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
        is_pretrained: whether the backbone has learned weights, which are then moved more slowly than the head.
    """
    return AdamW(_groups(network, config, is_pretrained=is_pretrained))


def schedule_for(optimizer: AdamW, config: TrainConfig, steps: int) -> LambdaLR:
    """A linear rise over the first `warmup` of the steps, then half a cosine down."""
    rise = max(round(steps * config.warmup), 1)
    return LambdaLR(optimizer, lambda step: _rise_and_fall(step, rise, steps))


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
    """What a head's rate is divided by where it sees more features than the backbone has channels.

    AdamW moves every weight by about the rate; a logit that adds up eight times as many features would move eight times
    as far (Yang et al., Tensor Programs V, NeurIPS 2021, table 3).
    """
    channels = getattr(network, "head_hidden_size", None) or getattr(network, "num_features", None)
    width = head_of(network).in_features
    return min(channels / width, 1.0) if isinstance(channels, int) else 1.0


def _layer_scales(network: nn.Module, layer_decay: float) -> dict[int, float]:
    """Share of the learning rate by a weight's id, as BEiT's layer-wise decay gives it (timm knows the layers)."""
    if layer_decay == 1.0:
        return {}
    from timm.optim import param_groups_layer_decay  # type: ignore[attr-defined]

    groups = param_groups_layer_decay(network, layer_decay=layer_decay)
    return {id(parameter): float(group["lr_scale"]) for group in groups for parameter in group["params"]}


def _rise_and_fall(step: int, rise: int, steps: int) -> float:
    """Share of the peak learning rate at a step: a line up, half a cosine down to a hundredth."""
    if step < rise:
        return (step + 1) / rise
    progress = min((step - rise) / max(steps - rise, 1), 1.0)
    return 0.01 + 0.99 * (1 + math.cos(math.pi * progress)) / 2
