"""split.json, the splits kept in the dataset file, and the official parts (train, valid, test) of public datasets."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError

from cls.bottle.dataset_file import GroupDataset, change_splits
from cls.dataset.samples import Ledger, Sample
from cls.dataset.split.assign import JOIN_RULE, TRAIN, VALID, Split, split_samples
from cls.errors import TrainingError
from cls.files import read_json, sha256_of_bytes, write_json_atomic
from cls.records import Record, faults_of

TEST = "test"
PART_SUBSETS = (TRAIN, VALID, TEST)
_PICTURES_BY_SUBSET = TypeAdapter(dict[str, list[str]], config=ConfigDict(coerce_numbers_to_str=True))
PARTS_KEY = "parts"
IN_TEST = "kept for the test"
IN_NO_PART = "in none of the dataset's parts"

_SPLITS = TypeAdapter(dict[str, JsonValue])

# Picset or picture, as a unit -> its subset.
_SUBSETS = TypeAdapter(dict[str, Literal["train", "valid"]])


class PartsUsed(Record):
    """Which named parts a training uses, and whether they leak, as metrics.json keeps it.

    Attributes:
        name: e.g. `official`.
        is_leaking: whether a picset is in two subsets.
        picsets: picsets in all three parts.
        picsets_in_two_subsets: picsets in two or three subsets.
        pictures_of_no_picset: pictures whose picset is unknown.
        test_pictures: pictures in the test part, which is used neither for training nor for choosing a model.
        note: the same in words, for reports and logs.
    """

    name: str
    is_leaking: bool
    picsets: int
    # Runs of earlier versions have the second name.
    picsets_in_two_subsets: int = Field(validation_alias=AliasChoices("picsets_in_two_subsets", "picsets_on_two_sides"))
    pictures_of_no_picset: int = 0
    test_pictures: int = 0
    note: str = ""

    @classmethod
    def of(cls, name: str, *, test: int, picsets: int, shared: int, unknown: int = 0) -> PartsUsed:
        """The counts, with a note made of them.

        Args:
            name: of the parts.
            test: pictures in the test part.
            picsets: picsets in all three parts.
            shared: picsets in two or three subsets.
            unknown: pictures of no picset.
        """
        note = f"parts '{name}' of the dataset"
        if not picsets:
            note += ": the picsets of its pictures are not known, so leaks cannot be detected"
        elif not shared:
            note += f": none of {picsets} picsets is in two subsets"
            note += f"; {unknown} pictures belong to no picset" if unknown else ""
        else:
            note += f" LEAK: {shared} of {picsets} picsets are in two subsets; compare scores with published ones only"
        return cls(
            name=name,
            is_leaking=shared > 0,
            picsets=picsets,
            picsets_in_two_subsets=shared,
            pictures_of_no_picset=unknown,
            test_pictures=test,
            note=note,
        )


@dataclass(frozen=True)
class NamedSplit:
    """Samples divided into a dataset's own parts.

    Attributes:
        samples: those of training and validation, in order; a unit in two subsets is taken apart into its pictures.
        indices: their places among the samples given.
        test: the test part's samples, as given.
        split: the subset of each of `samples`.
        used: the parts' counts.
    """

    samples: list[Sample]
    indices: list[int]
    test: list[Sample]
    split: Split
    used: PartsUsed


def part_names(dataset: GroupDataset) -> list[str]:
    """The names of a dataset's own parts, e.g. `official`."""
    parts = dataset.extra.get(PARTS_KEY)
    return sorted(parts) if isinstance(parts, dict) else []


def parts_content(subsets: Mapping[str, str]) -> dict[str, list[str]]:
    """Picture -> subset as the dataset file keeps it; pictures in their order."""
    return {subset: [name for name, found in subsets.items() if found == subset] for subset in PART_SUBSETS}


def subsets_of(dataset: GroupDataset, name: str, *, where: object = None) -> dict[str, str]:
    """Picture -> `train`, `valid` or `test`, of the parts of a name.

    Raises:
        TrainingError: the dataset has no such parts, they are not readable, or a picture is in two of them.
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
        content = _PICTURES_BY_SUBSET.validate_python(dataset.extra[PARTS_KEY][name])
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
            f"a picture is in two of the parts '{name}'",
            code="overlapping_parts",
            where=where,
            hint="load the set again",
        )
    return subsets


def split_by_parts(
    samples: Sequence[Sample], dataset: GroupDataset, name: str, *, ledger: Ledger | None = None, where: object = None
) -> NamedSplit:
    """Divides samples into the parts of a name. Samples of pictures in none of them are left out.

    Args:
        samples: of `collect_samples`.
        dataset: the labelled pictures, with their parts.
        name: which parts.
        ledger: the samples' ledger; pictures outside training and validation are entered.
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
    unknown = len({sample.path for sample in samples if sample.path in subsets and not sample.picset})
    by_picset.pop("", None)
    leaking = sum(len(found) > 1 for found in by_picset.values())
    used = PartsUsed.of(name, test=len(test), picsets=len(by_picset), shared=leaking, unknown=unknown)
    return NamedSplit(kept, indices, test, split, used)


def _taken_apart(sample: Sample) -> Sample:
    """The sample with its picture as its unit: published parts divide pictures, not picsets."""
    return replace(sample, picset="", joined="")


# The splits kept in a dataset file: seed and share -> subsets by unit, validated when they are used.
_Splits = Mapping[str, JsonValue]


class SplitRule(NamedTuple):
    """How a split is made.

    Attributes:
        valid_share: share of the samples wanted in validation.
        by: by `picset`, or the name of parts that the dataset brought.
    """

    seed: int
    valid_share: float
    by: str = "picset"


class SplitRow(NamedTuple):
    """A picture of split.json: its name, its picset (empty: none), and a value a label (None: unknown)."""

    picture: str
    picset: str
    labels: tuple[float | None, ...] = ()


class SplitFile(BaseModel):
    """split.json; those of earlier versions lack all but the two subsets.

    Attributes:
        by: how the split was made: by `picset`, or the name of parts that the dataset brought.
        seed: of the split.
        valid_share: share wanted in validation.
        join_rule: by which rule near duplicates were found (`assign.JOIN_RULE`).
        joined: name of a cluster -> the picsets and pictures that belong together.
        train: training: picture, picset (empty where it is in none), and a value for each label: 1, 0 or None, which is
            unknown.
        valid: validation, in the same form.
        seen_earlier: picture and picset of those that the initial weights were trained on and this training is not.
    """

    by: str = "picset"
    seed: int | None = None
    valid_share: float | None = None
    join_rule: int = 1
    joined: dict[str, list[str]] = {}
    train: list[SplitRow]
    valid: list[SplitRow]
    seen_earlier: list[tuple[str, str]] = []

    @property
    def cluster_of_unit(self) -> dict[str, str]:
        """Picset or picture, as a unit -> the cluster it belongs to."""
        return {unit: cluster for cluster, members in self.joined.items() for unit in members}


def write_split(
    path: Path,
    split: Split,
    samples: Sequence[Sample],
    rule: SplitRule,
    *,
    seen_earlier: Mapping[str, str] | None = None,
) -> None:
    """Writes a split.json.

    Args:
        path: the file.
        split: the subset of each sample.
        samples: those of training and validation.
        rule: how the split was made.
        seen_earlier: picture -> picset, of `SplitFile.seen_earlier`.
    """
    rows: dict[str, dict[str, SplitRow]] = {TRAIN: {}, VALID: {}}
    for sample in samples:
        labels = tuple(None if math.isnan(value) else value for value in sample.labels)
        rows[split.subsets[sample.split_unit]][sample.path] = SplitRow(sample.path, sample.picset, labels)
    joined: dict[str, set[str]] = {}
    for sample in samples:
        if sample.joined:
            joined.setdefault(sample.joined, set()).add(sample.unjoined_unit)
    clusters = {cluster: sorted(members) for cluster, members in sorted(joined.items())}
    content = SplitFile(
        by=rule.by,
        seed=rule.seed,
        valid_share=rule.valid_share,
        join_rule=JOIN_RULE,
        joined=clusters,
        train=list(rows[TRAIN].values()),
        valid=list(rows[VALID].values()),
    )
    if seen_earlier:
        content.seen_earlier = sorted(seen_earlier.items())
    write_json_atomic(path, content.model_dump(exclude_unset=True), indent=None)


def read_split(path: Path) -> tuple[set[str], set[str]]:
    """Reads the pictures of a split.json: of training, of validation.

    Raises:
        TrainingError: the file is not a split, or a picture, a picset or joined picsets are in both subsets.
        FileError: it cannot be read.
    """
    content = read_split_file(path)
    pictures = [{row.picture for row in subset} for subset in (content.train, content.valid)]
    units = [_units_of(subset, content.cluster_of_unit) for subset in (content.train, content.valid)]
    both = sorted(pictures[0] & pictures[1]) + sorted(units[0] & units[1])
    if both:
        raise TrainingError(
            f"the split leaks: {', '.join(both[:3])} in training and in validation",
            code="split_leaks",
            where=path,
            hint="train again",
        )
    return pictures[0], pictures[1]


def trained_on(path: Path) -> dict[str, str]:
    """Picture -> picset of all that a run's weights were trained on, in this run and before it.

    Raises:
        TrainingError: the file is not a split.
        FileError: it cannot be read.
    """
    content = read_split_file(path, hint="start from another run")
    return {**{row.picture: row.picset for row in content.train}, **dict(content.seen_earlier)}


def read_split_file(path: Path, hint: str = "train again") -> SplitFile:
    """Reads a split.json.

    Raises:
        TrainingError: the file is not a split.
        FileError: it cannot be read.
    """
    content = read_json(path)
    try:
        return SplitFile.model_validate(content)
    except ValidationError as error:
        raise TrainingError(f"is not a split: {faults_of(error)}", code="not_a_split", where=path, hint=hint) from error


def _units_of(rows: Sequence[SplitRow], clusters: Mapping[str, str]) -> set[str]:
    """Picsets, and clusters of picsets and pictures, that are in one subset."""
    own = {f"picset:{row.picset}" if row.picset else f"picture:{row.picture}" for row in rows}
    return own | {clusters[unit] for unit in own if unit in clusters}


def split_with_memory(
    file: Path, older: Path, samples: Sequence[Sample], rule: SplitRule, *, trained_on: Collection[str] = ()
) -> Split:
    """Divides samples as earlier trainings with this seed and share did, and keeps the split in the dataset file.

    The file is locked meanwhile, so that trainings started together have the same split.

    Where that split would put pictures into validation that the initial weights were trained on, another split is made
    and kept by itself: these pictures are in training, and validation is made of the others.

    Args:
        file: the dataset file; `splits` is added to it: {"seed …, share …": {picset or picture: subset}}.
        older: where earlier versions kept the splits; read, where it exists, never written.
        samples: the samples to divide.
        rule: seed and share of the split.
        trained_on: picsets and pictures that the initial weights were trained on, as in `Split.remembered_subsets`.

    Raises:
        TrainingError: no split can be made, or the splits kept are not readable.
        FileError: the dataset file cannot be read or written.
    """
    key = f"seed {rule.seed}, share {rule.valid_share:g}"
    splits: list[Split] = []

    def add_split(content: object) -> _Splits:
        kept = _validated(_SPLITS, {} if content is None else content, file)
        earlier = _validated(_SPLITS, read_json(older), older) if older.exists() else {}
        known = {**_subsets_in(earlier, key, older), **_subsets_in(kept, key, file)}
        split = split_samples(samples, valid_share=rule.valid_share, seed=rule.seed, known=known)
        if _holds_out(split, samples, trained_on):
            key_after = f"{key}, after {sha256_of_bytes(repr(sorted(trained_on)).encode())[:12]}"
            known = {**_subsets_in(kept, key_after, file), **dict.fromkeys(trained_on, TRAIN)}
            split = split_samples(samples, valid_share=rule.valid_share, seed=rule.seed, known=known)
            splits.append(split)
            return {**kept, key_after: {**split.remembered_subsets(samples)}}
        splits.append(split)
        return {**kept, key: {**known, **split.remembered_subsets(samples)}}

    change_splits(file, add_split)
    return splits[0]


def _holds_out(split: Split, samples: Sequence[Sample], members: Collection[str]) -> bool:
    """Whether a split has one of these picsets and pictures in validation."""
    valid = split.select(samples, VALID)
    return any(sample.unjoined_unit in members or sample.picture_unit in members for sample in valid)


def _subsets_in(splits: _Splits, key: str, where: Path) -> dict[str, str]:
    subsets = _validated(_SUBSETS, splits.get(key, {}), where)
    return {**subsets}


_Value = TypeVar("_Value")


def _validated(kind: TypeAdapter[_Value], content: object, where: Path) -> _Value:
    """A part of the splits kept in a file."""
    try:
        return kind.validate_python(content)
    except ValidationError as error:
        raise TrainingError(
            "holds earlier splits that cannot be read",
            code="split_memory_unreadable",
            where=where,
            hint="remove 'splits' from it (or the file itself, if it is splits.json): a new split is made",
        ) from error
