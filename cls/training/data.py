"""Preparation of a training: samples, split and network, checked before a run folder is made."""

from __future__ import annotations

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import lightning
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import cls
from cls.bottle.dataset_file import GroupDataset, read_dataset
from cls.bottle.layout import Bottle
from cls.dataset.backgrounds import Backgrounds, background_sources
from cls.dataset.cutouts import CutoutFormat, Subset, load_cutouts
from cls.dataset.samples import (
    NO_FILE,
    NO_LABEL_KNOWN,
    NOT_SEGMENTED,
    Ledger,
    Sample,
    collect_samples,
    drop_broken,
    labels_of,
    log_ledger,
    mark_incomplete_labels_unknown,
)
from cls.dataset.split.assign import TRAIN, VALID, Split, check_split, find_joined_units, split_samples
from cls.dataset.split.file import NamedSplit, PartsUsed, SplitRule, split_by_parts, split_with_memory
from cls.errors import TrainingError
from cls.machine import cores
from cls.people.preprocess import Preprocessing
from cls.training.config import BY_PICSET, TrainConfig
from cls.training.loop.distributed import accelerator
from cls.training.loop.optimizer import NO_AUXILIARY, AuxiliaryLabels, auxiliary_labels
from cls.training.network.build import (
    NetworkSpec,
    build_network,
    check_size,
    initialise_head,
    mean_and_std,
    memory_format_of,
    parameter_count,
    pool_by_stripes,
    timm_name,
)
from cls.training.network.input_size import size_for
from cls.training.network.smoke_test import CHANNELS_LAST, CONTIGUOUS, FORMATS, RunningSmokeTest, SmokeTest
from cls.training.network.weights import (
    NO_PRETRAINING,
    PretrainingPictures,
    WeightsSource,
    copy_head_rows,
    initial_weights,
    load_weights,
    pretraining_pictures,
)
from cls.wording import counted

_log = logging.getLogger("cls.training")

_MOST_NAMED = 10


def check_trainable(samples: Sequence[Sample], ledger: Ledger, dataset: GroupDataset, *, where: object) -> None:
    """Refuses samples without anything to learn, such as a label without positives.

    Args:
        samples: to train on.
        ledger: why other pictures are left out.
        dataset: group and label names.
        where: the dataset file.

    Raises:
        TrainingError: names the labels.
    """
    group = json.dumps(dataset.group, ensure_ascii=False)
    if not samples:
        raise TrainingError(
            f"group {group} has no usable pictures: {_reasons(ledger)}",
            code="no_usable_pictures",
            where=where,
            hint=_what_next(ledger, group),
        )
    labels = labels_of(samples)
    if not dataset.labels:
        raise TrainingError(
            f"group {group} has no categories besides trash",
            code="no_labels",
            where=where,
            hint="load a group with at least one label",
        )
    blank = [name for name, column in zip(dataset.labels, labels.T, strict=True) if np.isnan(column).all()]
    if blank:
        raise TrainingError(
            f"{', '.join(repr(name) for name in blank)} is unknown for all {len(samples)} people",
            code="label_unknown_for_all",
            where=where,
            hint="load pictures of which it is known, or remove the category from the group and load the group again",
        )
    empty = [name for name, count in zip(dataset.labels, np.nansum(labels, axis=0), strict=True) if count == 0]
    if empty:
        raise TrainingError(
            f"no usable picture shows {', '.join(repr(name) for name in empty)}"
            + (f" (left out: {_reasons(ledger)})" if ledger.left_out else ""),
            code="no_positives",
            where=where,
            hint="load pictures of it, or remove the category from the group and load the group again",
        )
    if len(dataset.labels) == 1 and (labels == 1).all():
        raise TrainingError(
            f"group {group} has one category, '{dataset.labels[0]}', and all {len(samples)} people have it: there is "
            "nothing to tell it from",
            code="no_negatives",
            where=where,
            hint="load the group with a second category, or with a trash category of pictures without it",
        )
    endless = [
        name
        for name, column in zip(dataset.labels, labels.T, strict=True)
        if np.isnan(column).any() and not (column == 0).any()
    ]
    if endless:
        raise TrainingError(
            f"nobody is known to be without {', '.join(repr(name) for name in endless)}: nothing to tell it from",
            code="no_known_negatives",
            where=where,
            hint="load trash pictures, which have none of the labels, or leave it out of --incomplete",
        )


def warn_of_missing_labels(train: Sequence[Sample], valid: Sequence[Sample], names: Sequence[str]) -> None:
    """Warns of labels without positives in training or validation."""
    if not valid:
        return
    for index, name in enumerate(names):
        counts = [int(np.nansum(labels_of(part)[:, index])) for part in (train, valid)]
        if counts[0] == 0:
            _log.warning("label '%s' is not in training (%d in validation): try another --seed", name, counts[1])
        elif counts[1] == 0:
            _log.warning("label '%s' (%d in training) has no picset to spare for validation", name, counts[0])


def _reasons(ledger: Ledger) -> str:
    if not ledger.left_out:
        return "the dataset file lists none"
    return ", ".join(f"{count} {reason}" for reason, count in ledger.reasons.items())


def _what_next(ledger: Ledger, group: str) -> str:
    most_frequent = next(iter(ledger.reasons), "")
    if most_frequent == NOT_SEGMENTED:
        return "run `python cls/classification/segment_builder.py --model-path person_models/best.pt` first"
    if most_frequent == NO_FILE or not most_frequent:
        return f"run `cls load-group --group {group}` first"
    if most_frequent == NO_LABEL_KNOWN:
        return "label some pictures, or load the group again"
    return "review the pictures' statuses, or train with other --people and --subject"


def split_for(
    bottle: Bottle,
    config: TrainConfig,
    samples: list[Sample],
    named: NamedSplit | None,
    pretraining: PretrainingPictures,
) -> Split:
    """The dataset's own split, or that of an earlier training with the same seed and share, with new picsets added.

    Pictures that the initial weights were trained on are always in training.

    Args:
        bottle: the data folder.
        config: mode, seed, share, parts.
        samples: all; of `joined_samples` where the split is made here.
        named: the dataset's own split.
        pretraining: pictures of the initial weights.
    """
    if named is not None:
        (_log.warning if named.used.is_leaking else _log.info)("%s", named.used.note)
    if config.mode == "all":
        return Split({sample.split_unit: TRAIN for sample in samples})
    known = pretraining.overlapping(samples)
    if known and config.leak_tax:
        raise TrainingError(
            f"--leak-tax: {pretraining.origin} was trained on {len(known)} of the {len(samples)} people, so a random "
            "split would be flattered by it and not by itself",
            code="leak_tax_impossible",
            hint="leave out --leak-tax, or --pretrained",
        )
    if named is not None:
        _check_parts(named, pretraining)
        return named.split
    if {sample.split_unit for sample in known} == {sample.split_unit for sample in samples}:
        raise TrainingError(
            f"{pretraining.origin}, which gives the initial weights, was trained on all {len(samples)} people, or on "
            "pictures that belong together with theirs: nobody is left to validate on",
            code="nobody_to_validate_on",
            where=bottle.dataset_file(config.group),
            hint="start from a run that held people out, load more picsets, or train on everything with --mode all",
        )
    file, older = bottle.dataset_file(config.group), bottle.models(config.group) / "splits.json"
    rule, units = SplitRule(config.seed, config.valid), pretraining.split_units if known else ()
    split = split_with_memory(file, older, samples, rule, trained_on=units)
    train, valid = split.select(samples, TRAIN), split.select(samples, VALID)
    check_split(train, valid)
    _log.info("split by picset: %d people for training, %d for validation", len(train), len(valid))
    if known:
        _log_overlap(pretraining, known, valid, wanted=config.valid * len(samples))
    if split.moved:
        _log.warning("%s", _moved_line(split.moved))
    return split


def _moved_line(moved: tuple[str, ...]) -> str:
    """A warning of the units that changed subsets."""
    picsets, pictures = ([name for name in moved if name.startswith(kind)] for kind in ("picset:", "picture:"))
    shown = (picsets or pictures)[:_MOST_NAMED]
    others = len(picsets or pictures) - len(shown)
    return (
        f"{counted(len(picsets), 'picset')} and {counted(len(pictures), 'picture')} of validation are now in training, "
        f"as they belong together with others that were trained on: {', '.join(shown)}"
        + (f" and {others} more" if others else "")
        + ". Earlier runs were validated on them"
    )


def _log_overlap(pretraining: PretrainingPictures, known: list[Sample], valid: list[Sample], *, wanted: float) -> None:
    _log.info(
        "%s was trained on %d of these people: they are in training, and nobody of validation is among them",
        pretraining.origin, len(known),
    )  # fmt: skip
    if len(valid) < wanted / 2:
        _log.warning(
            "that leaves %d people for validation where --valid asks for %d: its measures are rough", len(valid), wanted
        )


def _check_parts(named: NamedSplit, pretraining: PretrainingPictures) -> None:
    """Refuses initial weights that were trained on people whom the dataset's own parts hold out."""
    held_out = [*named.split.select(named.samples, VALID), *named.test]
    known = pretraining.overlapping(held_out)
    if known:
        raise TrainingError(
            f"{pretraining.origin}, which gives the initial weights, was trained on {len(known)} of the "
            f"{len(held_out)} people that parts '{named.used.name}' of the dataset hold out (e.g. {known[0].path})",
            code="held_out_people_trained_on",
            hint="start from a run trained on the same parts, or leave out --pretrained",
        )


def joined_samples(bottle: Bottle, config: TrainConfig, samples: list[Sample]) -> list[Sample]:
    """The samples, with the clusters that a split must keep together."""
    joins = find_joined_units(
        bottle, config.group, samples, keys=config.join_by, has_near_duplicates=config.near_duplicates
    )
    if not joins.clusters:
        return samples
    _log.info("%s", joins.line())
    joined = joins.apply_to(samples)
    unit, largest = Counter(sample.split_unit for sample in joined).most_common(1)[0]
    if largest > len(joined) / 2:
        _log.warning(
            "%d of %d people belong together (%s): see --join-by and --no-near-duplicates if they should not",
            largest, len(joined), unit,
        )  # fmt: skip
    return joined


@dataclass(frozen=True)
class TrainingData:
    """The samples of training and validation, and their labels.

    Attributes:
        dataset_sha256: digest of the labelled pictures in the dataset file.
        people: all samples used.
        parts: the dataset's own parts; None where the split is made by picset.
        backgrounds: sources of backgrounds for augmentation.
        auxiliary: labels of other groups; their outputs follow the group's own.
        pretraining: pictures that the initial weights were trained on.
    """

    dataset: GroupDataset
    dataset_sha256: str
    people: Subset
    split: Split
    ledger: Ledger
    parts: PartsUsed | None = None
    backgrounds: tuple[Backgrounds, ...] = ()
    auxiliary: AuxiliaryLabels = NO_AUXILIARY
    pretraining: PretrainingPictures = NO_PRETRAINING

    @cached_property
    def train(self) -> Subset:
        """The training samples."""
        return self._subset(TRAIN)

    @cached_property
    def valid(self) -> Subset:
        """The validation samples; none with mode `all`."""
        return self._subset(VALID)

    def targets(self, samples: Sequence[Sample]) -> NDArray[np.float32]:
        """The group's labels, followed by the auxiliary ones; float32 (samples, labels)."""
        return np.concatenate([labels_of(samples), self.auxiliary.of(samples)], axis=1)

    def _subset(self, subset: str) -> Subset:
        subsets = self.split.subsets
        return self.people.take(
            [i for i, sample in enumerate(self.people.samples) if subsets.get(sample.split_unit) == subset]
        )


@dataclass(frozen=True)
class InitialNetwork:
    """The network before training.

    Attributes:
        module: with the initial weights, in the memory format that the smoke test chose.
        source: where these weights come from.
    """

    spec: NetworkSpec
    module: nn.Module
    source: WeightsSource

    @property
    def memory_format(self) -> str:
        """The memory format that the smoke test chose: `channels_last` or `contiguous`."""
        return CHANNELS_LAST if memory_format_of(self.module) == torch.channels_last else CONTIGUOUS


@dataclass(frozen=True)
class Training:
    """The checked inputs of a training. Made by `prepare`."""

    config: TrainConfig
    data: TrainingData
    network: InitialNetwork

    @cached_property
    def identity(self) -> str:
        """Digest of everything that decides the result: a run with the same identity can be resumed.

        Cut-outs are identified by their keys in the cache (picture, content, outline) and the format's digest, which
        changes with settings and code: their pixels may be many gigabytes.
        """
        data, network = self.data, self.network
        samples, cutouts = data.people.samples, data.people.cutouts
        labels = [
            [sample.path, sample.number, sample.picset, *map(str, sample.labels), *map(str, row)]
            for sample, row in zip(samples, data.auxiliary.of(samples).tolist(), strict=True)
        ]
        people = [cutouts.format.digest, list(cutouts.keys), [source.identity for source in data.backgrounds]]
        values = [
            cls.__version__, torch.__version__, self.config.identity, network.spec.timm_arch,
            network.source.record().model_dump(), labels, sorted(data.split.subsets.items()), people,
            network.spec.preprocessing.to_dict(), accelerator(),
        ]  # fmt: skip
        if network.memory_format != CHANNELS_LAST:
            values.append(network.memory_format)
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def prepare(bottle: Bottle, config: TrainConfig) -> Training:
    """Reads and checks everything a training needs, and fills the cache of cut-outs; makes no run folder.

    Raises:
        TrainingError: something is missing or cannot be learned from.
    """
    timm_arch, file = timm_name(config.arch), bottle.dataset_file(config.group)
    dataset = read_dataset(file, config.group)
    dataset_sha256 = dataset.sha256
    if config.incomplete is not None:
        dataset = mark_incomplete_labels_unknown(dataset, config.incomplete, where=file)
    samples, ledger = collect_samples(bottle, dataset, people=config.people, subject=config.subject)
    named = None
    if config.split != BY_PICSET:
        named = split_by_parts(samples, dataset, config.split, ledger=ledger, where=file)
        samples = named.samples
    check_trainable(samples, ledger, dataset, where=file)
    if config.mode != "all" and named is None:
        # Refused before cut-outs are cached; the final split is made once broken pictures are known.
        split_samples(samples, valid_share=config.valid, seed=config.seed)
    if config.auto_px:
        height_px, width_px = size_for(samples, config.auto_px, margin_rel=Preprocessing.margin_rel)
        config = replace(config, height_px=height_px, width_px=width_px, auto_px=0)
    mean, std = mean_and_std(timm_arch)
    preprocessing = Preprocessing(config.height_px, config.width_px, mean_rgb=mean, std_rgb=std)
    spec = NetworkSpec(timm_arch, dataset.labels, preprocessing)
    source = initial_weights(bottle, config, timm_arch)
    auxiliary = auxiliary_labels(bottle, config.group, config.auxiliary, samples)
    outputs = len(dataset.labels) + len(auxiliary)
    test = SmokeTest(config=config, timm_arch=timm_arch, outputs=outputs, is_pretrained=source.is_pretrained)
    with RunningSmokeTest(test) as running:  # in a child process, while pictures are cut out
        network = build_initial_network(config, spec, source, samples, auxiliary)
        format_ = CutoutFormat(preprocessing, storage=config.cache)
        cutouts, broken = load_cutouts(bottle, samples, format_, workers=cores())
        network.to(memory_format=FORMATS[running.memory_format()])
    samples = drop_broken(samples, broken, ledger)
    if broken:
        check_trainable(samples, ledger, dataset, where=file)
    log_ledger(ledger, samples, dataset.labels)
    if config.mode != "all" and named is None:
        samples = joined_samples(bottle, config, samples)
    pretraining = pretraining_pictures(source)
    split = split_for(bottle, config, samples, named, pretraining)
    _log_weights(source)
    if auxiliary:
        _log.info("auxiliary labels: %s of %s", counted(len(auxiliary), "label"), ", ".join(auxiliary.groups))
    _log.info("%s: %.1f M parameters, input %dx%d", timm_arch, parameter_count(network) / 1e6, *config.size_px)
    people, parts = Subset(samples, cutouts), None if named is None else named.used
    data = TrainingData(
        dataset, dataset_sha256, people, split, ledger, parts, auxiliary=auxiliary, pretraining=pretraining
    )
    data = replace(data, backgrounds=background_sources(bottle, data.train.cutouts, preprocessing))
    return Training(config, data, InitialNetwork(spec, network, source))


def build_initial_network(
    config: TrainConfig,
    spec: NetworkSpec,
    source: WeightsSource,
    samples: Sequence[Sample],
    auxiliary: AuxiliaryLabels = NO_AUXILIARY,
) -> nn.Module:
    """The network before training: initial weights, and a random head with its bias at the labels' base rates."""
    lightning.seed_everything(config.seed, verbose=False)
    count, arch = len(spec.labels) + len(auxiliary), spec.timm_arch
    network = build_network(arch, count, config.height_px, config.width_px, dropout=config.dropout)
    network = pool_by_stripes(network, config.stripes)
    check_size(network, arch, config.height_px, config.width_px)
    load_weights(network, source, arch)
    labels = np.concatenate([labels_of(samples), auxiliary.of(samples)], axis=1)
    initialise_head(network, np.nan_to_num(np.nanmean(labels, axis=0)))
    copy_head_rows(network, source, (*spec.labels, *auxiliary.names))
    return network


def _log_weights(source: WeightsSource) -> None:
    if source.is_pretrained or source.origin.endswith("--weights none"):
        _log.info("weights: %s", source.origin)
    else:
        _log.warning("weights: %s", source.origin)
