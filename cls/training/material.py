"""Everything a fit needs, read and checked before a run folder is made."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass, replace
from functools import cached_property

import lightning
import numpy as np
import torch
from torch import nn

import cls
from cls.bottle.dataset_file import GroupDataset, read_dataset
from cls.bottle.layout import Bottle
from cls.dataset.backgrounds import Backgrounds, background_sources
from cls.dataset.cutouts.cutouts import CutoutFormat, Cutouts, load_cutouts
from cls.dataset.incomplete import with_incomplete
from cls.dataset.samples import Ledger, Sample, collect_samples, drop_broken, labels_of, log_ledger
from cls.dataset.split.assign import TRAIN, Split, split_samples
from cls.dataset.split.parts import PartsUsed, split_by_parts
from cls.people.preprocess import Preprocessing
from cls.training.checks import check_trainable
from cls.training.config import BY_PICSET, TrainConfig
from cls.training.loop.auxiliary import NOTHING, AuxiliaryLabels, auxiliary_labels
from cls.training.loop.device import accelerator
from cls.training.loop.speed import cores
from cls.training.network.architectures import timm_name
from cls.training.network.build import (
    build_network,
    check_size,
    mean_and_std,
    memory_format_of,
    parameter_count,
    start_head_at,
)
from cls.training.network.input_size import size_for
from cls.training.network.pooling import pool_by_stripes
from cls.training.network.pretrained import carry_head, find_run_weights
from cls.training.network.seen_people import NOBODY, SeenPeople, seen_by
from cls.training.network.trial_step import CHANNELS_LAST, CONTIGUOUS, FORMATS, Trial, start_trial
from cls.training.network.weights import WeightsSource, find_weights, load_weights
from cls.training.sides import joined_samples, sides_for
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
        seen: whom the first weights were trained on.
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
    seen: SeenPeople = NOBODY

    def part(self, side: str) -> tuple[list[Sample], Cutouts]:
        """Samples and cut-outs of one side of the split."""
        indices = [i for i, sample in enumerate(self.samples) if self.split.sides.get(sample.unit) == side]
        return [self.samples[i] for i in indices], self.cutouts.take(indices)

    @property
    def memory_format(self) -> str:
        """The memory format that the trial step chose: `channels_last` or `contiguous`."""
        return CHANNELS_LAST if memory_format_of(self.network) == torch.channels_last else CONTIGUOUS

    @cached_property
    def identity(self) -> str:
        """Digest of everything that decides the result: a run of the same identity can be gone on with.

        Of cut-outs, it is what the cache names them by (picture, content, outline) and the format's digest, which
        changes with settings and code: their pixels, which may be many gigabytes, are not read.
        """
        others = self.auxiliary.of(self.samples)
        labels = [
            [sample.path, sample.number, sample.picset, *map(str, sample.labels), *map(str, row)]
            for sample, row in zip(self.samples, others.tolist(), strict=True)
        ]
        people = [self.cutouts.format.digest, list(self.cutouts.keys), [source.identity for source in self.backgrounds]]
        values = [
            cls.__version__, torch.__version__, self.config.identity, self.timm_arch, self.source.to_dict(), labels,
            sorted(self.split.sides.items()), people, self.preprocessing.to_dict(), accelerator(),
        ]  # fmt: skip
        if self.memory_format != CHANNELS_LAST:
            values.append(self.memory_format)
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
    trial = Trial(config, timm_arch, len(dataset.labels) + len(auxiliary), source.is_pretrained)
    with start_trial(trial) as running:  # in a process beside this one, while pictures are cut out
        network = start_network(config, timm_arch, source, samples, dataset, auxiliary)
        format_ = CutoutFormat(preprocessing, storage=config.cache)
        cutouts, broken = load_cutouts(bottle, samples, format_, workers=cores())
        network.to(memory_format=FORMATS[running.memory_format()])
    samples = drop_broken(samples, broken, ledger)
    if broken:
        check_trainable(samples, ledger, dataset, where=file)
    log_ledger(ledger, samples, dataset.labels)
    if config.mode != "all" and named is None:
        samples = joined_samples(bottle, config, samples)
    seen = seen_by(source)
    split = sides_for(bottle, config, samples, named, seen)
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
        seen=seen,
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
    return network


def _say_weights(source: WeightsSource) -> None:
    if source.is_pretrained or source.origin.endswith("--weights none"):
        _log.info("weights: %s", source.origin)
    else:
        _log.warning("weights: %s", source.origin)
