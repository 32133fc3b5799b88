"""An earlier run as the place to start from: its backbone, and its head's rows of labels that are the same."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import nn

from cls.bottle.layout import Bottle
from cls.dataset.samples import Sample
from cls.dataset.split.file import trained_on
from cls.errors import TrainingError
from cls.training.config import TrainConfig
from cls.training.network.build import head_of
from cls.training.network.weights import WeightsSource, find_weights, read_state
from cls.training.runs.folder import SPLIT, run_number
from cls.training.runs.listing import find_run


@dataclass(frozen=True)
class PretrainingPictures:
    """Pictures that first weights were trained on.

    Attributes:
        origin: for people: whose weights they are.
        pictures: picture -> its picset (empty: of none).
    """

    origin: str = ""
    pictures: Mapping[str, str] = field(default_factory=dict)

    @property
    def split_units(self) -> frozenset[str]:
        """Pictures and picsets, as `Sample.picture_unit` and `Sample.unjoined_unit` name them."""
        pictures = {f"picture:{name}" for name in self.pictures}
        return frozenset(pictures | {f"picset:{picset}" for picset in self.pictures.values() if picset})

    def overlapping(self, samples: Iterable[Sample]) -> list[Sample]:
        """Those of the samples that are of these pictures or picsets."""
        members = self.split_units
        return [sample for sample in samples if sample.picture_unit in members or sample.unjoined_unit in members]

    def not_in(self, trained: Sequence[Sample]) -> dict[str, str]:
        """Picture -> picset of those that the training itself does not train on."""
        own = {sample.path for sample in trained}
        return {picture: picset for picture, picset in self.pictures.items() if picture not in own}


NO_PRETRAINING = PretrainingPictures()


def pretraining_pictures(source: WeightsSource) -> PretrainingPictures:
    """Whom a run that gives the first weights was trained on, and those before it that it started from.

    Weights of a file in a run folder (`--weights models/…/checkpoints/best.ckpt`) are that run's. Of other files
    nothing is known.

    Raises:
        TrainingError: the run's split.json is not a split.
        FileError: it cannot be read.
    """
    if source.file is None:
        return NO_PRETRAINING
    file = _split_beside(source.file)
    if source.kind != "run" and not (source.kind == "file" and file.is_file()):
        return NO_PRETRAINING
    return PretrainingPictures(source.origin, trained_on(file))


def _split_beside(checkpoint: Path) -> Path:
    return checkpoint.resolve().parent.parent / SPLIT


_log = logging.getLogger("cls.training")


def find_run_weights(bottle: Bottle, asked: str, group: str, timm_arch: str) -> WeightsSource:
    """The kept weights of an earlier run.

    Args:
        bottle: where the runs are.
        asked: as `find_run` takes it; a folder's name may be that of another group's run.
        group: the group that is trained.
        timm_arch: timm's name of the backbone.
    """
    # Another group's run may be given by its folder's name alone.
    is_elsewhere = run_number(Path(asked)) is not None and not (bottle.models(group) / asked).is_dir()
    run = find_run(bottle, asked, None if is_elsewhere else group).open(bottle)
    if run.arch != timm_arch:
        raise TrainingError(
            f"run {run.name} is of backbone {run.arch}, and {timm_arch} is to be trained",
            code="wrong_backbone",
            where=run.folder,
            hint=f"give --arch {run.arch}, or a run of {timm_arch} to --pretrained",
        )
    return WeightsSource("run", f"run {run.name} of group '{run.group}'", run.checkpoint, labels=run.labels)


def initial_weights(bottle: Bottle, config: TrainConfig, timm_arch: str) -> WeightsSource:
    """The weights that a training starts from: those of an earlier run, or what `--weights` says.

    Raises:
        BottleError: there is no such finished run, or several are meant.
        TrainingError: the file was asked for and is not there, or the weights are of another backbone.
    """
    if config.pretrained is None:
        return find_weights(config.weights, timm_arch)
    return find_run_weights(bottle, config.pretrained, config.group, timm_arch)


def carry_head(network: nn.Module, source: WeightsSource, labels: Sequence[str]) -> list[str]:
    """Copies the head's rows of those labels that the earlier run has under the same name.

    Args:
        network: of `build_network`; changed.
        source: of `find_run_weights`; another kind changes nothing.
        labels: the network's labels, in output order.

    Returns:
        The labels whose rows were copied.
    """
    if source.file is None or not source.labels:
        return []
    head = head_of(network)
    prefix = next(name for name, module in network.named_modules() if module is head)
    state = read_state(source.file)
    if state[f"{prefix}.weight"].shape[1] != head.in_features:
        _log.info("the head of %s pools in another way: this one starts anew", source.origin)
        return []
    shared = [label for label in labels if label in source.labels]
    rows = [source.labels.index(label) for label in shared]
    places = [list(labels).index(label) for label in shared]
    with torch.no_grad():
        head.weight[places] = state[f"{prefix}.weight"][rows]
        if head.bias is not None:
            head.bias[places] = state[f"{prefix}.bias"][rows]
    if shared:
        _log.info("labels taken over from %s: %s", source.origin, ", ".join(shared))
    return shared
