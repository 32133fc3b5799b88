"""Parts that a dataset brings with it, by name: `official` as a public set was published, `identity` without leaks.

They stand in the dataset file under `parts`: {name: {"train": [picture, …], "valid": […], "test": […]}}. Unlike the
split that a training makes, published parts may show one person on two sides: that is counted and said, not refused,
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
PART_SIDES = (TRAIN, VALID, TEST)
_PICTURES_BY_SIDE = TypeAdapter(dict[str, list[str]], config=ConfigDict(coerce_numbers_to_str=True))
PARTS_KEY = "parts"
IN_TEST = "kept for the test"
IN_NO_PART = "in none of the dataset's parts"


class PartsUsed(Record):
    """Which named parts a training uses, and whether they leak, as metrics.json keeps it.

    Attributes:
        name: e.g. `official`.
        is_leaking: whether anybody stands on two sides.
        picsets: people (picsets) there are in all three parts.
        picsets_on_two_sides: people who stand on two sides or three.
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
            shared: those on two sides or three.
            unnamed: pictures of no picset.
        """
        parts = f"parts '{name}' of the dataset"
        unknown = f"; {unnamed} pictures are of none" if unnamed else ""
        if not units:
            note = f"{parts}: it does not say whom its pictures show, so leaks cannot be seen"
        elif not shared:
            note = f"{parts}: nobody of {units} picsets is on two sides{unknown}"
        else:
            note = (
                f"{parts} LEAK: {shared} of {units} picsets stand on two sides; "
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
        samples: those of training and validation, in order; people on two sides are taken apart into their pictures.
        indices: their places among the samples given.
        test: the test part's samples, as given.
        split: who of `samples` is on which side.
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


def parts_content(sides: Mapping[str, str]) -> dict[str, list[str]]:
    """Picture -> side as the dataset file keeps it; pictures in their order."""
    return {side: [name for name, found in sides.items() if found == side] for side in PART_SIDES}


def sides_of(dataset: GroupDataset, name: str, *, where: object = None) -> dict[str, str]:
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
    pairs = [(picture, side) for side in PART_SIDES for picture in content.get(side, [])]
    sides = dict(pairs)
    if len(sides) != len(pairs):
        raise TrainingError(
            f"a picture stands in two of the parts '{name}'",
            code="overlapping_parts",
            where=where,
            hint="load the set again",
        )
    return sides


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
    sides = sides_of(dataset, name, where=where)
    by_unit: dict[str, set[str]] = {}
    by_picset: dict[str, set[str]] = {}
    for sample in samples:
        if sample.path in sides:
            by_unit.setdefault(sample.unit, set()).add(sides[sample.path])
            by_picset.setdefault(sample.picset, set()).add(sides[sample.path])
    shared = {unit for unit, found in by_unit.items() if len(found) > 1}
    indices = [i for i, sample in enumerate(samples) if sides.get(sample.path) in (TRAIN, VALID)]
    kept = [_taken_apart(samples[i]) if samples[i].unit in shared else samples[i] for i in indices]
    split = Split({sample.unit: sides[sample.path] for sample in kept})
    for side in (TRAIN, VALID):
        if side not in split.sides.values():
            raise TrainingError(
                f"part '{side}' of '{name}' has no usable picture",
                code="empty_part",
                where=where,
                hint="look at what was left out, above",
            )
    test = [sample for sample in samples if sides.get(sample.path) == TEST]
    if ledger is not None:
        unused = [sample.path for sample in samples if sides.get(sample.path) not in (TRAIN, VALID)]
        ledger.left_out.update({path: IN_TEST if path in sides else IN_NO_PART for path in unused})
    unnamed = len({sample.path for sample in samples if sample.path in sides and not sample.picset})
    by_picset.pop("", None)
    leaking = sum(len(found) > 1 for found in by_picset.values())
    used = PartsUsed.of(name, test=len(test), units=len(by_picset), shared=leaking, unnamed=unnamed)
    return NamedSplit(kept, indices, test, split, used)


def _taken_apart(sample: Sample) -> Sample:
    """The sample as a unit of its own picture: published parts divide pictures, not people."""
    return replace(sample, picset="", joined="")
