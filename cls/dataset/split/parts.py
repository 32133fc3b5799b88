"""Parts that a dataset brings with it, by name: `official` as a public set was published, `identity` without leaks.

They stand in the dataset file under `parts`: {name: {"train": [picture, …], "valid": […], "test": […]}}. Unlike the
split that a training makes, published parts may show one person in two subsets: that is counted and said, not refused,
because only so is a published table reproduced.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import ConfigDict, TypeAdapter, ValidationError

from cls.bottle.dataset_file import GroupDataset
from cls.dataset.samples import Ledger, Sample
from cls.dataset.split.assign import TRAIN, VALID, Split
from cls.errors import TrainingError
from cls.records import Record, faults_of

TEST = "test"
PART_SUBSETS = (TRAIN, VALID, TEST)
_PICTURES_BY_SIDE = TypeAdapter(dict[str, list[str]], config=ConfigDict(coerce_numbers_to_str=True))
PARTS_KEY = "parts"
IN_TEST = "kept for the test"
IN_NO_PART = "in none of the dataset's parts"


class PartsUsed(Record):
    """Which named parts a training uses, and whether they leak, as metrics.json keeps it.

    Attributes:
        name: e.g. `official`.
        is_leaking: whether anybody is in two subsets.
        picsets: people (picsets) there are in all three parts.
        picsets_on_two_sides: people in two or three subsets.
        pictures_of_no_picset: nothing is known of them.
        test_pictures: pictures in the test part, which nobody trains on or chooses by.
        note: what a reader of the figures has to know.
    """

    name: str
    is_leaking: bool
    picsets: int
    picsets_on_two_sides: int
    pictures_of_no_picset: int = 0
    test_pictures: int = 0
    note: str = ""

    @classmethod
    def of(cls, name: str, *, test: int, units: int, shared: int, unnamed: int = 0) -> PartsUsed:
        """Counts, with what they mean.

        Args:
            name: of the parts.
            test: pictures in the test part.
            units: people (picsets) in all three parts.
            shared: those in two subsets or three.
            unnamed: pictures of no picset.
        """
        parts = f"parts '{name}' of the dataset"
        unknown = f"; {unnamed} pictures are of none" if unnamed else ""
        if not units:
            note = f"{parts}: it does not say whom its pictures show, so leaks cannot be seen"
        elif not shared:
            note = f"{parts}: nobody of {units} picsets is in two subsets{unknown}"
        else:
            note = (
                f"{parts} LEAK: {shared} of {units} picsets are in two subsets; "
                "what is measured on them is for comparison with published figures only"
            )
        return cls(
            name=name,
            is_leaking=shared > 0,
            picsets=units,
            picsets_on_two_sides=shared,
            pictures_of_no_picset=unnamed,
            test_pictures=test,
            note=note,
        )


@dataclass(frozen=True)
class NamedSplit:
    """Samples divided as the dataset says.

    Attributes:
        samples: those of training and validation, in order; people in two subsets are taken apart into their pictures.
        indices: their places among the samples given.
        test: the test part's samples, as given.
        split: who of `samples` is in which subset.
        used: what to say of it.
    """

    samples: list[Sample]
    indices: list[int]
    test: list[Sample]
    split: Split
    used: PartsUsed


def part_names(dataset: GroupDataset) -> list[str]:
    """The names of the parts a dataset brings."""
    parts = dataset.extra.get(PARTS_KEY)
    return sorted(parts) if isinstance(parts, dict) else []


def parts_content(subsets: Mapping[str, str]) -> dict[str, list[str]]:
    """Picture -> subset as the dataset file keeps it; pictures in their order."""
    return {subset: [name for name, found in subsets.items() if found == subset] for subset in PART_SUBSETS}


def subsets_of(dataset: GroupDataset, name: str, *, where: object = None) -> dict[str, str]:
    """Picture -> `train`, `valid` or `test`, of the parts of a name.

    Raises:
        TrainingError: the dataset has no such parts, or they are not readable, or a picture stands in two of them.
    """
    known = part_names(dataset)
    if name not in known:
        group = json.dumps(dataset.group, ensure_ascii=False)
        raise TrainingError(
            f"group {group} has no parts named '{name}'",
            code="unknown_parts",
            where=where,
            hint=f"use one of {', '.join(known)}" if known else "leave out --split: the split is made by picset",
        )
    try:
        content = _PICTURES_BY_SIDE.validate_python(dataset.extra[PARTS_KEY][name])
    except ValidationError as error:
        raise TrainingError(
            f"parts '{name}' are not readable: {faults_of(error)}",
            code="parts_unreadable",
            where=where,
            hint="load the set again",
        ) from error
    pairs = [(picture, subset) for subset in PART_SUBSETS for picture in content.get(subset, [])]
    subsets = dict(pairs)
    if len(subsets) != len(pairs):
        raise TrainingError(
            f"a picture stands in two of the parts '{name}'",
            code="overlapping_parts",
            where=where,
            hint="load the set again",
        )
    return subsets


def split_by_parts(
    samples: Sequence[Sample],
    dataset: GroupDataset,
    name: str,
    *,
    ledger: Ledger | None = None,
    where: object = None,
) -> NamedSplit:
    """Divides samples into the parts of a name. Samples of pictures that stand in none of them are left out.

    Args:
        samples: of `collect_samples`.
        dataset: the labelled pictures, with their parts.
        name: which parts.
        ledger: the samples' ledger: what nobody trains on is entered.
        where: the dataset's file, for messages.

    Raises:
        TrainingError: there are no such parts, or training or validation is empty.
    """
    subsets = subsets_of(dataset, name, where=where)
    by_unit: dict[str, set[str]] = {}
    by_picset: dict[str, set[str]] = {}
    for sample in samples:
        if sample.path in subsets:
            by_unit.setdefault(sample.split_unit, set()).add(subsets[sample.path])
            by_picset.setdefault(sample.picset, set()).add(subsets[sample.path])
    shared = {unit for unit, found in by_unit.items() if len(found) > 1}
    indices = [i for i, sample in enumerate(samples) if subsets.get(sample.path) in (TRAIN, VALID)]
    kept = [_taken_apart(samples[i]) if samples[i].split_unit in shared else samples[i] for i in indices]
    split = Split({sample.split_unit: subsets[sample.path] for sample in kept})
    for subset in (TRAIN, VALID):
        if subset not in split.subsets.values():
            raise TrainingError(
                f"part '{subset}' of '{name}' has no usable picture",
                code="empty_part",
                where=where,
                hint="look at what was left out, above",
            )
    test = [sample for sample in samples if subsets.get(sample.path) == TEST]
    if ledger is not None:
        unused = [sample.path for sample in samples if subsets.get(sample.path) not in (TRAIN, VALID)]
        ledger.left_out.update({path: IN_TEST if path in subsets else IN_NO_PART for path in unused})
    unnamed = len({sample.path for sample in samples if sample.path in subsets and not sample.picset})
    by_picset.pop("", None)
    leaking = sum(len(found) > 1 for found in by_picset.values())
    used = PartsUsed.of(name, test=len(test), units=len(by_picset), shared=leaking, unnamed=unnamed)
    return NamedSplit(kept, indices, test, split, used)


def _taken_apart(sample: Sample) -> Sample:
    """The sample as a unit of its own picture: published parts divide pictures, not people."""
    return replace(sample, picset="", joined="")
