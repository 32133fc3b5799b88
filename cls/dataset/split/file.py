"""split.json of a run, and the dataset's memory of its splits, so that pictures added later move nobody."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from pydantic import BaseModel, JsonValue, TypeAdapter, ValidationError

from cls.bottle.dataset_file import change_splits
from cls.dataset.samples import Sample
from cls.dataset.split.assign import JOIN_RULE, TRAIN, VALID, Split, split_samples
from cls.errors import TrainingError
from cls.files import read_json, sha256_of_bytes, write_json_atomic
from cls.records import faults_of

# A dataset's memory of its splits: seed and share -> what that split says, which is read when it is asked for.
_Memory = Mapping[str, JsonValue]
_MEMORY = TypeAdapter(dict[str, JsonValue])
# Picset or picture, as a unit -> its subset.
_SUBSETS = TypeAdapter(dict[str, Literal["train", "valid"]])


class SplitRule(NamedTuple):
    """How a split is made.

    Attributes:
        seed: of the split.
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
        join_rule: by which rule near duplicates were found.
        joined: name of a cluster -> the picsets and pictures that belong together.
        train: pictures of training.
        valid: pictures of validation.
        seen_earlier: picture and picset of those that the first weights were trained on and this training is not.
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
    """Writes who is in which subset: a list `[picture, picset, labels]` for each subset (null: unknown label).

    `joined` holds what belongs together: name of a cluster -> its picsets and pictures; `join_rule` says by which rule
    near duplicates were found (1 in files without it). `seen_earlier` lists pictures, with their picset, that the first
    weights were trained on and this training is not.

    Args:
        path: the file.
        split: the subsets.
        samples: everyone.
        rule: how the split was made.
        seen_earlier: picture -> picset.
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
    """Whom the weights of a run know: picture -> picset, of its training and of what its first weights came from.

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
    file: Path,
    older: Path,
    samples: Sequence[Sample],
    rule: SplitRule,
    *,
    trained_on: Collection[str] = (),
) -> Split:
    """Divides samples as earlier trainings with this seed and share did, and remembers it in the dataset file.

    Trainings at once take turns, so that all of them agree.

    Where that split would hold out somebody the first weights were trained on, there is another one, with a memory of
    its own: they are in training, and validation is made of the others.

    Args:
        file: the dataset file; `splits` is added to it: {"seed …, share …": {picset or picture: subset}}.
        older: where earlier versions kept the memory; read, where it exists, never written.
        samples: what is to be divided.
        rule: another one gives another split, with a memory of its own.
        trained_on: picsets and pictures that the first weights were trained on, named as in `Split.remembered_subsets`.

    Raises:
        TrainingError: no split can be made, or the memory is not readable.
        FileError: the dataset file cannot be read or written.
    """
    key = f"seed {rule.seed}, share {rule.valid_share:g}"
    splits: list[Split] = []

    def change(content: object) -> _Memory:
        memory = _validated(_MEMORY, {} if content is None else content, file)
        earlier = _validated(_MEMORY, read_json(older), older) if older.exists() else {}
        known = {**_subsets_in(earlier, key, older), **_subsets_in(memory, key, file)}
        split = split_samples(samples, valid_share=rule.valid_share, seed=rule.seed, known=known)
        if _holds_out(split, samples, trained_on):
            key_after = f"{key}, after {sha256_of_bytes(repr(sorted(trained_on)).encode())[:12]}"
            known = {**_subsets_in(memory, key_after, file), **dict.fromkeys(trained_on, TRAIN)}
            split = split_samples(samples, valid_share=rule.valid_share, seed=rule.seed, known=known)
            splits.append(split)
            return {**memory, key_after: {**split.remembered_subsets(samples)}}
        splits.append(split)
        return {**memory, key: {**known, **split.remembered_subsets(samples)}}

    change_splits(file, change)
    return splits[0]


def _holds_out(split: Split, samples: Sequence[Sample], members: Collection[str]) -> bool:
    """Whether a split has one of these picsets and pictures in validation."""
    valid = split.select(samples, VALID)
    return any(sample.unjoined_unit in members or sample.picture_unit in members for sample in valid)


def _subsets_in(memory: _Memory, key: str, where: Path) -> dict[str, str]:
    """The subsets that a memory of splits holds under a key."""
    subsets = _validated(_SUBSETS, memory.get(key, {}), where)
    return dict(subsets.items())


_Value = TypeVar("_Value")


def _validated(kind: TypeAdapter[_Value], content: object, where: Path) -> _Value:
    """A part of a memory of splits."""
    try:
        return kind.validate_python(content)
    except ValidationError as error:
        raise TrainingError(
            "holds a memory of splits that cannot be read",
            code="split_memory_unreadable",
            where=where,
            hint="remove 'splits' from it (or the file itself, if it is splits.json): a new split is made",
        ) from error
