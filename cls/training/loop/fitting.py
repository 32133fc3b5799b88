"""Material -> a fit: batches, loss, module and loaders of one process."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from cls.dataset.augment import Augmentation
from cls.dataset.batches import EpochSampler, ExactBatches, Loader, TrainBatches
from cls.dataset.cutouts.cutouts import Cutouts
from cls.dataset.gpu_batches import GpuViews, WideBatches
from cls.dataset.samples import Sample, labels_of
from cls.dataset.split.assign import TRAIN, VALID
from cls.training.config import TrainConfig
from cls.training.loop.auxiliary import JointLoss
from cls.training.loop.bad_batch import BadBatches
from cls.training.loop.device import accelerator
from cls.training.loop.epoch_checkpoints import LAST
from cls.training.loop.fit import FitResult, fit
from cls.training.loop.losses import MultiLabelLoss, loss_for
from cls.training.loop.module import ClassifierModule
from cls.training.material import Material
from cls.training.network.head_start import start_head

_log = logging.getLogger("cls.training")


def fit_material(material: Material, folder: Path, *, rank: int = 0) -> FitResult:
    """Trains on material in a run folder; each of several processes calls it.

    Args:
        material: what to train on.
        folder: the run folder.
        rank: this process's number; the first one writes.

    Raises:
        KeyboardInterrupt: the user stopped it.
        TrainingError: the loss is not a number, or the training cannot go on.
        FileError: something cannot be written.
    """
    config = material.config
    (train_samples, _), (valid_samples, valid_cutouts) = material.part(TRAIN), material.part(VALID)
    batches = batches_of(material)
    sampler = EpochSampler(len(train_samples), config.batch, seed=config.seed, rank=rank, world=config.world)
    loss = loss_for(config, base_rates(train_samples))
    if rank == 0 and config.head_start:
        _start_head(material, folder)
    others = None if not material.auxiliary else auxiliary_loss(material)
    module = ClassifierModule(
        material.network,
        loss,
        config,
        material.preprocessing,
        material.dataset.labels,
        is_pretrained=material.source.is_pretrained,
        auxiliary_loss=others,
        bad_batches=BadBatches(folder, [s.path for s in train_samples], [s.path for s in valid_samples]),
    )
    valid_loader = _exact_loader(valid_cutouts, valid_samples, config, rank) if valid_samples else None
    return fit(
        module, _train_loader(batches, sampler, config), valid_loader, config, folder,
        accelerator=accelerator(),
    )  # fmt: skip


def batches_of(material: Material) -> TrainBatches:
    """The augmented batches that a training on material is made of."""
    samples, cutouts = material.part(TRAIN)
    # Two in three other backgrounds are pictures, one is a flat colour.
    share = material.config.background_share
    augmentation = Augmentation(p_picture=share * 2 / 3, p_flat=share / 3)
    seed = material.config.seed
    return TrainBatches(cutouts, _labels(material, samples), augmentation, seed=seed, backgrounds=material.backgrounds)


def _train_loader(batches: TrainBatches, sampler: EpochSampler, config: TrainConfig) -> Loader:
    if config.augment_on == "cpu" or accelerator() == "cpu":
        return Loader(batches, sampler, workers=config.workers)
    return Loader(WideBatches(batches), sampler, workers=config.workers, finish=GpuViews(batches))


def auxiliary_loss(material: Material) -> MultiLabelLoss:
    """The loss of the labels learnt alongside: of the same kind as the group's own."""
    return loss_for(material.config, rates_of(material.auxiliary.of(material.part(TRAIN)[0])))


def _labels(material: Material, samples: Sequence[Sample]) -> NDArray[np.float32]:
    """The group's labels, and behind them those learnt alongside; float32 (samples, labels)."""
    return np.concatenate([labels_of(samples), material.auxiliary.of(samples)], axis=1)


def base_rates(samples: Sequence[Sample]) -> list[float]:
    """Share of positives of each label among those that are known; NaN where none is."""
    return rates_of(labels_of(samples))


def rates_of(labels: NDArray[np.float32]) -> list[float]:
    """Share of positives of each column among those that are known; NaN where none is. labels: (samples, labels)."""
    known = (~np.isnan(labels)).sum(axis=0)
    rates = np.where(known, np.nansum(labels.astype(np.float64), axis=0) / np.maximum(known, 1), np.nan)
    return [float(rate) for rate in rates]


def _exact_loader(cutouts: Cutouts, samples: list[Sample], config: TrainConfig, rank: int) -> Loader:
    sampler = EpochSampler(len(samples), max(config.batch, 16), is_shuffled=False, rank=rank, world=config.world)
    return Loader(ExactBatches(cutouts, labels_of(samples)), sampler)


def _start_head(material: Material, folder: Path) -> None:
    """Head start, where there are learnt features and the training does not go on from a checkpoint."""
    if not material.source.is_pretrained:
        _log.warning("no head start: the backbone's weights are random")
        return
    if (folder / "checkpoints" / LAST).exists():
        return
    samples, cutouts = material.part(TRAIN)
    device = "cuda" if accelerator() == "gpu" else "cpu"
    labels = torch.from_numpy(_labels(material, samples))
    units = [sample.unit for sample in samples]
    loss: nn.Module = loss_for(material.config, base_rates(samples))
    if material.auxiliary:
        loss = JointLoss(loss, auxiliary_loss(material), len(material.dataset.labels))
    start_head(material.network, loss, cutouts, labels, units, device=device)
