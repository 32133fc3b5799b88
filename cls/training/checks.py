"""Whether samples can teach a classifier anything; said before a run folder is made."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence

import numpy as np

from cls.bottle.dataset_file import GroupDataset
from cls.dataset.samples import NO_FILE, NO_LABEL_KNOWN, NOT_SEGMENTED, Ledger, Sample, labels_of
from cls.errors import TrainingError

_log = logging.getLogger("cls.training")


def check_trainable(samples: Sequence[Sample], ledger: Ledger, dataset: GroupDataset, *, where: object) -> None:
    """Refuses samples nothing can be learnt from.

    Args:
        samples: what is left to train on.
        ledger: why the rest is left out.
        dataset: group and label names.
        where: the dataset file.

    Raises:
        TrainingError: no samples; a label without positives, or that is unknown for everybody; a label that is never
            known to be absent.
    """
    group = json.dumps(dataset.group, ensure_ascii=False)
    if not samples:
        raise TrainingError(
            f"group {group} has no usable pictures: {_reasons(ledger)}", where=where, hint=_what_next(ledger, group)
        )
    labels = labels_of(samples)
    if not dataset.labels:
        raise TrainingError(
            f"group {group} has no categories besides trash", where=where, hint="load a group with at least one label"
        )
    blank = [name for name, column in zip(dataset.labels, labels.T, strict=True) if np.isnan(column).all()]
    if blank:
        raise TrainingError(
            f"{', '.join(repr(name) for name in blank)} is unknown for all {len(samples)} people",
            where=where,
            hint="load pictures of which it is known, or remove the category from the group and load the group again",
        )
    empty = [name for name, count in zip(dataset.labels, np.nansum(labels, axis=0), strict=True) if count == 0]
    if empty:
        raise TrainingError(
            f"no usable picture shows {', '.join(repr(name) for name in empty)}"
            + (f" (left out: {_reasons(ledger)})" if ledger.left_out else ""),
            where=where,
            hint="load pictures of it, or remove the category from the group and load the group again",
        )
    if len(dataset.labels) == 1 and (labels == 1).all():
        raise TrainingError(
            f"group {group} has one category, '{dataset.labels[0]}', and all {len(samples)} people have it: there is "
            "nothing to tell it from",
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
            where=where,
            hint="load trash pictures, which have none of the labels, or leave it out of --incomplete",
        )


def warn_of_missing_labels(train: Sequence[Sample], valid: Sequence[Sample], names: Sequence[str]) -> None:
    """Logs the labels that training or validation says nothing about."""
    if not valid:
        return
    for index, name in enumerate(names):
        counts = [int(np.nansum(labels_of(part)[:, index])) for part in (train, valid)]
        if counts[0] == 0:
            _log.warning(
                "label '%s' is not in training (%d in validation): --seed makes another split", name, counts[1]
            )
        elif counts[1] == 0:
            _log.warning("label '%s' (%d in training) has no picset to spare for validation", name, counts[0])


def _reasons(ledger: Ledger) -> str:
    if not ledger.left_out:
        return "the dataset file lists none"
    return ", ".join(f"{count} {reason}" for reason, count in ledger.reasons.items())


def _what_next(ledger: Ledger, group: str) -> str:
    most_frequent = next(iter(ledger.reasons), "")
    if most_frequent == NOT_SEGMENTED:
        return "run `python cls/classification/segment_builder.py --model_path person_models/best.pt` first"
    if most_frequent == NO_FILE or not most_frequent:
        return f"run `cls load-group --group {group}` first"
    if most_frequent == NO_LABEL_KNOWN:
        return "label some pictures, or load the group again"
    return "review the pictures' statuses, or train with other --people and --subject"
