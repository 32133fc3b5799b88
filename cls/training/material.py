"""Everything a fit needs, read and checked before a run folder is made."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from dataclasses import dataclass, replace

import lightning
import numpy as np
import torch
from torch import nn

import cls
from cls.bottle.dataset_file import GroupDataset, read_dataset
from cls.bottle.layout import Bottle
from cls.dataset.backgrounds import Backgrounds, background_sources
from cls.dataset.cutouts import CutoutFormat, Cutouts, load_cutouts
from cls.dataset.incomplete import with_incomplete
from cls.dataset.joins import find_joins
from cls.dataset.parts import NamedSplit, PartsUsed, split_by_parts
from cls.dataset.samples import Ledger, Sample, collect_samples, drop_broken, labels_of, log_ledger
from cls.dataset.split import TRAIN, VALID, Split, check_split, split_samples
from cls.dataset.split_file import split_with_memory
from cls.people.preprocess import Preprocessing
from cls.training.architectures import timm_name
from cls.training.auxiliary import NOTHING, AuxiliaryLabels, auxiliary_labels
from cls.training.checks import check_trainable
from cls.training.config import BY_PICSET, TrainConfig
from cls.training.device import accelerator
from cls.training.input_size import size_for
from cls.training.network import build_network, check_size, mean_and_std, parameter_count, start_head_at
from cls.training.pooling import pool_by_stripes
from cls.training.pretrained import carry_head, find_run_weights
from cls.training.speed import cores
from cls.training.weights import WeightsSource, find_weights, load_weights
from cls.wording import counted

_log = logging.getLogger("cls.training")


@dataclass(frozen=True)
class Material:
    """Everything a fit needs, checked.

    Attributes:
        config: what was asked for.
        timm_arch: timm's name of the backbone.
        dataset: the labelled pictures.
        dataset_sha256: digest of what is labelled in the dataset file.
        samples: all people used.
        cutouts: theirs, in the same order.
        ledger: what was left out.
        split: who is on which side.
        preprocessing: what makes the network's input.
        source: where the first weights come from.
        network: with those weights.
        parts: the dataset's own parts that are used; None where the split is made by picset.
        backgrounds: sources of pictures to put behind people in training.
        auxiliary: labels of other groups, learnt alongside; their outputs stand behind the group's own.
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
    parts: PartsUsed | None = None
    backgrounds: tuple[Backgrounds, ...] = ()
    auxiliary: AuxiliaryLabels = NOTHING

    def part(self, side: str) -> tuple[list[Sample], Cutouts]:
        """Samples and cut-outs of one side of the split."""
        indices = [i for i, sample in enumerate(self.samples) if self.split.sides.get(sample.unit) == side]
        return [self.samples[i] for i in indices], self.cutouts.take(indices)

    @property
    def identity(self) -> str:
        """Digest of everything that decides the result: a run of the same identity can be gone on with."""
        others = self.auxiliary.of(self.samples)
        labels = [
            [sample.path, sample.number, sample.picset, *map(str, sample.labels), *map(str, row)]
            for sample, row in zip(self.samples, others.tolist(), strict=True)
        ]
        people = hashlib.sha256()
        grounds = [source.picture(n).reshape(-1) for source in self.backgrounds for n in range(len(source))]
        for record in (*self.cutouts.records, *grounds):
            people.update(np.ascontiguousarray(record[:: max(len(record) // 4096, 1)]).data)
        values = [
            cls.__version__, torch.__version__, self.config.identity, self.timm_arch, self.source.to_dict(), labels,
            sorted(self.split.sides.items()), people.hexdigest(), self.preprocessing.to_dict(), accelerator(),
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def prepare(bottle: Bottle, config: TrainConfig) -> Material:
    """Reads, checks and cuts out everything a training needs; makes no run folder.

    Raises:
        TrainingError: something is missing or cannot be learnt from; says what, where and what next.
    """
    timm_arch = timm_name(config.arch)
    file = bottle.dataset_file(config.group)
    dataset = read_dataset(file, config.group)
    dataset_sha256 = dataset.sha256
    if config.incomplete is not None:
        dataset = with_incomplete(dataset, config.incomplete, where=file)
    samples, ledger = collect_samples(bottle, dataset, people=config.people, subject=config.subject)
    named = None
    if config.split != BY_PICSET:
        named = split_by_parts(samples, dataset, config.split, ledger=ledger, where=file)
        samples = named.samples
    check_trainable(samples, ledger, dataset, where=file)
    if config.mode != "all" and named is None:
        # Refused before cut-outs are kept in the bottle; the split that counts is made once broken pictures are known.
        split_samples(samples, valid_share=config.valid, seed=config.seed)
    if config.auto_px:
        height_px, width_px = size_for(samples, config.auto_px, margin_rel=Preprocessing.margin_rel)
        config = replace(config, height_px=height_px, width_px=width_px, auto_px=0)
    mean, std = mean_and_std(timm_arch)
    preprocessing = Preprocessing(config.height_px, config.width_px, mean_rgb=mean, std_rgb=std)
    source = (
        find_weights(config.weights, timm_arch)
        if config.pretrained is None
        else find_run_weights(bottle, config.pretrained, config.group, timm_arch)
    )
    auxiliary = auxiliary_labels(bottle, config.group, config.auxiliary, samples)
    network = start_network(config, timm_arch, source, samples, dataset, auxiliary)
    cutouts, broken = load_cutouts(bottle, samples, CutoutFormat(preprocessing, storage=config.cache), workers=cores())
    samples = drop_broken(samples, broken, ledger)
    if broken:
        check_trainable(samples, ledger, dataset, where=file)
    log_ledger(ledger, samples, dataset.labels)
    if config.mode != "all" and named is None:
        samples = _joined(bottle, config, samples)
    split = _split(bottle, config, samples, named)
    _say_weights(source)
    if auxiliary:
        _log.info("learnt alongside: %s of %s", counted(len(auxiliary), "label"), ", ".join(auxiliary.groups))
    _log.info("%s: %.1f M parameters, input %dx%d", timm_arch, parameter_count(network) / 1e6, *config.size_px)
    material = Material(
        config,
        timm_arch,
        dataset,
        dataset_sha256,
        samples,
        cutouts,
        ledger,
        split,
        preprocessing,
        source,
        network,
        None if named is None else named.used,
        auxiliary=auxiliary,
    )
    return replace(material, backgrounds=background_sources(bottle, material.part(TRAIN)[1], preprocessing))


def start_network(
    config: TrainConfig,
    timm_arch: str,
    source: WeightsSource,
    samples: list[Sample],
    dataset: GroupDataset,
    auxiliary: AuxiliaryLabels = NOTHING,
) -> nn.Module:
    """The network before training: the first weights, the seed's head, its bias at the labels' base rates."""
    lightning.seed_everything(config.seed, verbose=False)
    count = len(dataset.labels) + len(auxiliary)
    network = build_network(timm_arch, count, config.height_px, config.width_px, dropout=config.dropout)
    network = pool_by_stripes(network, config.stripes)
    check_size(network, timm_arch, config.height_px, config.width_px)
    load_weights(network, source, timm_arch)
    labels = np.concatenate([labels_of(samples), auxiliary.of(samples)], axis=1)
    start_head_at(network, np.nan_to_num(np.nanmean(labels, axis=0)))
    carry_head(network, source, (*dataset.labels, *auxiliary.names))
    return network.to(memory_format=torch.channels_last)


def _say_weights(source: WeightsSource) -> None:
    if source.is_pretrained or source.origin.endswith("--weights none"):
        _log.info("weights: %s", source.origin)
    else:
        _log.warning("weights: %s", source.origin)


def _split(bottle: Bottle, config: TrainConfig, samples: list[Sample], named: NamedSplit | None) -> Split:
    """The split: an earlier training's where there is one of the same seed and share, with new picsets added.

    Where the dataset's own parts are asked for, it is theirs.
    """
    if named is not None:
        (_log.warning if named.used.is_leaking else _log.info)("%s", named.used.line())
    if config.mode == "all":
        return Split({sample.unit: TRAIN for sample in samples})
    if named is not None:
        return named.split
    older = bottle.models(config.group) / "splits.json"
    file = bottle.dataset_file(config.group)
    split = split_with_memory(file, older, samples, seed=config.seed, valid_share=config.valid)
    train, valid = split.part(samples, TRAIN), split.part(samples, VALID)
    check_split(train, valid)
    _log.info("split by picset: %d people for training, %d for validation", len(train), len(valid))
    if split.moved:
        _log.warning(
            "%d picsets and pictures leave validation for training, as they belong together with some trained on "
            "earlier (e.g. %s)", len(split.moved), split.moved[0],
        )  # fmt: skip
    return split


def _joined(bottle: Bottle, config: TrainConfig, samples: list[Sample]) -> list[Sample]:
    """The samples, with the names of those that a split must keep together."""
    joins = find_joins(
        bottle, config.group, samples, keys=config.join_by, has_near_duplicates=config.near_duplicates, workers=cores()
    )
    if not joins.clusters:
        return samples
    _log.info("%s", joins.line())
    joined = joins.applied(samples)
    unit, largest = Counter(sample.unit for sample in joined).most_common(1)[0]
    if largest > len(joined) / 2:
        _log.warning(
            "%d of %d people belong together (%s): see --join-by and --no-near-duplicates if they should not",
            largest, len(joined), unit,
        )  # fmt: skip
    return joined
