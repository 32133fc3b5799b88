"""One training from the dataset file to a finished run folder."""

from __future__ import annotations

import datetime
import hashlib
import json
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch
from torch import nn

import cls
from cls.bottle.dataset_file import GroupDataset, read_dataset
from cls.bottle.layout import Bottle
from cls.dataset.augment import Augmentation
from cls.dataset.batches import EpochSampler, ExactBatches, Loader, TrainBatches
from cls.dataset.cutouts import CutoutFormat, Cutouts, load_cutouts
from cls.dataset.samples import Ledger, Sample, collect_samples, drop_broken, labels_of, log_ledger
from cls.dataset.split import TRAIN, VALID, Split, check_split, split_samples
from cls.dataset.split_file import read_split, remember_split, remembered_split, write_split
from cls.errors import TrainingError
from cls.files import sha256_of_file, write_json_atomic
from cls.people.preprocess import Preprocessing
from cls.training.architectures import timm_name
from cls.training.checks import check_trainable, warn_of_missing_labels
from cls.training.config import TrainConfig
from cls.training.evaluate import Evaluation, evaluate
from cls.training.fit import FitResult, accelerator, fit
from cls.training.grids import write_train_grids
from cls.training.losses import MultiLabelLoss, positive_weights
from cls.training.module import ClassifierModule
from cls.training.network import build_network, check_size, mean_and_std, parameter_count, start_head_at
from cls.training.report import ReportMatter, write_report
from cls.training.run import MODEL_CKPT, Run, find_runs, open_run
from cls.training.run_folder import (
    FINISHED,
    LEDGER,
    SPLIT,
    RunFolder,
    new_run_folder,
    unfinished_run,
    write_args,
)
from cls.training.speed import cores, prepare_process
from cls.training.weights import WeightsSource, find_weights, load_weights

_log = logging.getLogger("cls.training")

# Writes the network's other forms into the run folder: network, preprocessing, labels, folder.
Convert = Callable[[nn.Module, Preprocessing, tuple[str, ...], Path], None]


@dataclass(frozen=True)
class Material:
    """Everything a fit needs, checked.

    Attributes:
        config: what was asked for.
        timm_arch: timm's name of the backbone.
        dataset: the labelled pictures.
        dataset_sha256: digest of the dataset file.
        samples: all people used.
        cutouts: theirs, in the same order.
        ledger: what was left out.
        split: who is on which side.
        preprocessing: what makes the network's input.
        source: where the first weights come from.
        network: with those weights.
    """

    config: TrainConfig
    timm_arch: str
    dataset: GroupDataset
    dataset_sha256: str
    samples: list[Sample]
    cutouts: Cutouts
    ledger: Ledger
    split: Split
    preprocessing: Preprocessing
    source: WeightsSource
    network: nn.Module

    def part(self, side: str) -> tuple[list[Sample], Cutouts]:
        """Samples and cut-outs of one side of the split."""
        indices = [i for i, sample in enumerate(self.samples) if self.split.sides.get(sample.unit) == side]
        return [self.samples[i] for i in indices], self.cutouts.take(indices)

    @property
    def identity(self) -> str:
        """Digest of everything that decides the result: a run of the same identity can be gone on with."""
        labels = [[sample.path, sample.number, sample.picset, *map(str, sample.labels)] for sample in self.samples]
        people = hashlib.sha256()
        for record in self.cutouts.records:
            people.update(np.ascontiguousarray(record[:: max(len(record) // 4096, 1)]).data)
        values = [
            cls.__version__, torch.__version__, self.config.identity, self.timm_arch, self.source.to_dict(), labels,
            sorted(self.split.sides.items()), people.hexdigest(), self.preprocessing.to_dict(), accelerator(),
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def train(bottle: Bottle, config: TrainConfig, *, convert: Convert | None = None, resume: bool | None = None) -> Run:
    """Trains a classifier of a group and leaves a finished run folder.

    A training of the same settings on the same samples that was cut off is gone on with after its last whole epoch.

    Args:
        bottle: the data folder.
        config: what to do.
        convert: writes TorchScript, ONNX, … into the run folder once the weights are final.
        resume: None goes on with a cut-off run if there is one; True demands one; False starts anew.

    Returns:
        The run.

    Raises:
        TrainingError: it cannot start (no run folder has been made then), or cannot go on.
        BottleError: the group has not been loaded.
        DatabaseError: the pictures database cannot be reached or used.
        KeyboardInterrupt: the user stopped it.
    """
    prepare_process()
    material = prepare(bottle, config)
    folder = _claim_folder(bottle, material, resume)
    try:
        _log.info("run folder %s", folder.path)
        result, evaluation = _fit_in(bottle, material, folder)
        if convert is not None:
            network = evaluation.network
            convert(network, material.preprocessing, material.dataset.labels, folder.path)
        write_json_atomic(folder.path / FINISHED, _metrics(material, folder.path, result, evaluation))
    finally:
        folder.release()
    return open_run(bottle, folder.path)


def prepare(bottle: Bottle, config: TrainConfig) -> Material:
    """Reads, checks and cuts out everything a training needs; makes no run folder.

    Raises:
        TrainingError: something is missing or cannot be learnt from; says what, where and what next.
    """
    timm_arch = timm_name(config.arch)
    file = bottle.dataset_file(config.group)
    dataset = read_dataset(file, config.group)
    samples, ledger = collect_samples(bottle, dataset, people=config.people, subject=config.subject)
    check_trainable(samples, ledger, dataset, where=file)
    mean, std = mean_and_std(timm_arch)
    preprocessing = Preprocessing(config.height_px, config.width_px, mean_rgb=mean, std_rgb=std)
    source = find_weights(config.weights, timm_arch)
    network = _start_network(config, timm_arch, source, samples, dataset)
    cutouts, broken = load_cutouts(bottle, samples, CutoutFormat(preprocessing), workers=cores())
    samples = drop_broken(samples, broken, ledger)
    if broken:
        check_trainable(samples, ledger, dataset, where=file)
    log_ledger(ledger, samples, dataset.labels)
    split = _split(bottle, config, samples)
    _say_weights(source)
    _log.info("%s: %.1f M parameters, input %dx%d", timm_arch, parameter_count(network) / 1e6, *config.size_px)
    return Material(
        config,
        timm_arch,
        dataset,
        sha256_of_file(file),
        samples,
        cutouts,
        ledger,
        split,
        preprocessing,
        source,
        network,
    )


def _start_network(
    config: TrainConfig, timm_arch: str, source: WeightsSource, samples: list[Sample], dataset: GroupDataset
) -> nn.Module:
    lightning.seed_everything(config.seed, verbose=False)
    network = build_network(timm_arch, len(dataset.labels), config.height_px, config.width_px, dropout=config.dropout)
    check_size(network, timm_arch, config.height_px, config.width_px)
    load_weights(network, source, timm_arch)
    start_head_at(network, np.nan_to_num(np.nanmean(labels_of(samples), axis=0)))
    return network.to(memory_format=torch.channels_last)


def _say_weights(source: WeightsSource) -> None:
    if source.is_pretrained or source.origin.endswith("--weights none"):
        _log.info("weights: %s", source.origin)
    else:
        _log.warning("weights: %s", source.origin)


def _split(bottle: Bottle, config: TrainConfig, samples: list[Sample]) -> Split:
    """The split: an earlier training's where there is one of the same seed and share, with new picsets added."""
    if config.mode == "all":
        return Split({sample.unit: TRAIN for sample in samples})
    file = bottle.models(config.group) / "splits.json"
    known = remembered_split(file, seed=config.seed, valid_share=config.valid)
    split = split_samples(samples, valid_share=config.valid, seed=config.seed, known=known)
    remember_split(file, split, seed=config.seed, valid_share=config.valid)
    train, valid = split.part(samples, TRAIN), split.part(samples, VALID)
    check_split(train, valid)
    _log.info("split by picset: %d people for training, %d for validation", len(train), len(valid))
    return split


def _claim_folder(bottle: Bottle, material: Material, resume: bool | None) -> RunFolder:
    config, identity = material.config, material.identity
    found = None if resume is False else unfinished_run(bottle, config.group, identity)
    if found is not None:
        _log.info("going on with %s, which was cut off (--no-resume starts anew)", found.path.name)
        return found
    if resume:
        raise TrainingError(
            f"no cut-off run of group '{config.group}' has these settings and samples",
            where=bottle.models(config.group),
            hint="start one without --resume",
        )
    return new_run_folder(bottle, config.group, config.folder_tail, identity)


def _fit_in(bottle: Bottle, material: Material, folder: RunFolder) -> tuple[FitResult, Evaluation]:
    """Fits, measures and reports in a run folder."""
    config = material.config
    _write_beginning(material, folder.path)
    # What is trained on is what split.json says: it is read back and checked.
    train_paths, valid_paths = read_split(folder.path / SPLIT)
    (train_samples, train_cutouts), (valid_samples, valid_cutouts) = material.part(TRAIN), material.part(VALID)
    check_split(train_samples, valid_samples, where=folder.path / SPLIT)
    if {s.path for s in train_samples} != train_paths or {s.path for s in valid_samples} != valid_paths:
        raise TrainingError("does not hold the split of this training", where=folder.path / SPLIT, hint="train again")
    warn_of_missing_labels(train_samples, valid_samples, material.dataset.labels)
    train_labels = labels_of(train_samples)
    batches = TrainBatches(train_cutouts, train_labels, Augmentation(), seed=config.seed)
    sampler = EpochSampler(len(train_samples), config.batch, seed=config.seed)
    write_train_grids(folder.path / "train_batches", batches, sampler, material.dataset.labels, material.preprocessing)
    module = ClassifierModule(
        material.network,
        MultiLabelLoss(
            positive_weights(np.nanmean(train_labels, axis=0).tolist(), config.loss), smoothing=config.smoothing
        ),
        config,
        material.preprocessing,
        material.dataset.labels,
        is_pretrained=material.source.is_pretrained,
    )
    valid_loader = _exact_loader(valid_cutouts, valid_samples, config) if valid_samples else None
    result = fit(
        module, Loader(batches, sampler, workers=config.workers), valid_loader, config, folder.path,
        accelerator=accelerator(),
    )  # fmt: skip
    evaluation = evaluate(
        folder.path, material.timm_arch, material.preprocessing, material.dataset.labels, valid_samples, valid_cutouts,
        earlier=find_runs(bottle, config.group),
    )  # fmt: skip
    matter = ReportMatter(
        config, material.timm_arch, material.dataset.labels, train_samples, material.ledger, material.preprocessing,
        material.source, result, evaluation,
    )  # fmt: skip
    write_report(folder.path, matter)
    return result, evaluation


def _exact_loader(cutouts: Cutouts, samples: list[Sample], config: TrainConfig) -> Loader:
    sampler = EpochSampler(len(samples), max(config.batch, 16), is_shuffled=False)
    return Loader(ExactBatches(cutouts, labels_of(samples)), sampler)


def _write_beginning(material: Material, folder: Path) -> None:
    """args.yaml, split.json and ledger.json."""
    config = material.config
    write_args(
        folder,
        {
            "settings": config.to_dict(),
            "timm_arch": material.timm_arch,
            "weights": material.source.to_dict(),
            "preprocessing": material.preprocessing.to_dict(),
            "labels": list(material.dataset.labels),
            "dataset_sha256": material.dataset_sha256,
            "code_version": cls.__version__,
            "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        },
    )
    write_split(folder / SPLIT, material.split, material.samples, seed=config.seed, valid_share=config.valid)
    write_json_atomic(folder / LEDGER, material.ledger.to_dict(), indent=1)


def _metrics(material: Material, folder: Path, result: FitResult, evaluation: Evaluation) -> dict[str, Any]:
    """What metrics.json says."""
    sides = {side: len(material.part(side)[0]) for side in (TRAIN, VALID)}
    names = material.dataset.labels
    return {
        "run": folder.name,
        "group": material.config.group,
        "labels": list(names),
        "thresholds": dict(zip(names, evaluation.thresholds, strict=True)),
        "thresholds_from": evaluation.thresholds_from,
        "validation": None if evaluation.metrics is None else evaluation.metrics.to_dict(),
        "samples": sides,
        "pictures": {key: value for key, value in material.ledger.to_dict().items() if key != "left_out"},
        "weights": material.source.to_dict(),
        "history": result.history,
        "seconds": round(result.seconds, 2),
        "waiting_share": round(result.waiting_share, 5),
        "dataset_sha256": material.dataset_sha256,
        "split_sha256": sha256_of_file(folder / SPLIT),
        "weights_sha256": sha256_of_file(folder / "checkpoints" / MODEL_CKPT),
        "segmentation_models": sorted(material.ledger.segmentation_models),
        "code_version": cls.__version__,
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


__all__ = ["Convert", "Material", "prepare", "train"]
