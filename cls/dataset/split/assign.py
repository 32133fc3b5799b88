"""Joining picsets that belong together, and a split that puts each picset into training or validation as a whole."""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, JsonValue

from cls.bottle.layout import Bottle
from cls.dataset.samples import Sample, labels_of
from cls.dataset.split.near_duplicates import near_pairs
from cls.dataset.split.signatures import signatures_of
from cls.errors import FileError, TrainingError
from cls.machine import cores
from cls.records import read_record

_log = logging.getLogger("cls.dataset")

NEAR_DUPLICATES = "near duplicates"
# Values that annotators type for "unknown": they join nothing.
_UNKNOWN = frozenset({"", "-", "?", "0", "n/a", "na", "none", "null", "unknown", "undefined", "other"})
# Which of an object's keys name it.
_NAMING_KEYS = ("guid", "id", "name")

TRAIN, VALID = "train", "valid"
_SUBSETS = (TRAIN, VALID)

# Which rule finds near duplicates: 1 compared whole pictures, 2 people, 3 people in photos whose borders were cut off,
# and more of those who are similar. Splits say by which they were made.
JOIN_RULE = 3


@dataclass(frozen=True)
class JoinedUnits:
    """Which units belong together.

    Attributes:
        clusters: unit (picset or picture) -> name of its cluster; units that stand alone are missing.
        reasons: why -> how many links it gave.
    """

    clusters: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)

    def apply_to(self, samples: Iterable[Sample]) -> list[Sample]:
        """The samples with their clusters."""
        return [replace(sample, joined=self.clusters.get(sample.unjoined_unit, "")) for sample in samples]

    def line(self) -> str:
        """How much was joined, and why, for the log."""
        clusters = len(set(self.clusters.values()))
        whys = ", ".join(f"{why} {count}" for why, count in self.reasons.items())
        return f"{len(self.clusters)} picsets (or pictures of none) belong together in {clusters} clusters: {whys}"


def find_joined_units(
    bottle: Bottle, group: str, samples: Sequence[Sample], *, keys: Sequence[str] = (), has_near_duplicates: bool = True
) -> JoinedUnits:
    """Finds what belongs together.

    Args:
        bottle: the data folder, with pictures and the picsets' meta.json.
        group: the samples' group.
        samples: of whose picsets and pictures.
        keys: fields of a picset's meta.json (under `picset`); picsets with an equal value belong together.
        has_near_duplicates: whether pictures are compared.

    Raises:
        FileError: the cache cannot be written.
    """
    links: list[tuple[str, str, str]] = []
    if has_near_duplicates:
        links += [(NEAR_DUPLICATES, *pair) for pair in _duplicate_links(bottle, samples)]
    if keys:
        links += _meta_links(bottle, group, sorted({sample.picset for sample in samples if sample.picset}), keys)
    reasons = Counter(why for why, _, _ in links)
    return JoinedUnits(connected([(left, right) for _, left, right in links]), dict(reasons))


def connected(links: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Member -> name of its cluster, after its first member in the alphabet (union-find)."""
    parents: dict[str, str] = {}

    def root(member: str) -> str:
        parents.setdefault(member, member)
        while parents[member] != member:
            parents[member] = parents[parents[member]]
            member = parents[member]
        return member

    for left, right in links:
        first, second = sorted((root(left), root(right)))
        parents[second] = first
    return {member: f"joined:{root(member)}" for member in sorted(parents)}


def _duplicate_links(bottle: Bottle, samples: Sequence[Sample]) -> list[tuple[str, str]]:
    """Pairs of different units that have near duplicates: enough of them to connect all that belong together."""
    found = signatures_of(bottle, samples, workers=cores())
    signed = [(sample, one) for sample, one in zip(samples, found, strict=True) if one is not None]
    if not signed:
        return []
    names, units = np.unique([sample.unjoined_unit for sample, _ in signed], return_inverse=True)
    pairs = near_pairs(np.stack([signature for _, signature in signed]), units.reshape(-1))
    return [(str(names[left]), str(names[right])) for left, right in units[pairs].tolist()]


def _meta_links(bottle: Bottle, group: str, picsets: Sequence[str], keys: Sequence[str]) -> list[tuple[str, str, str]]:
    """Key and pair of each two picsets that have a value in common."""
    first: dict[tuple[str, str], str] = {}
    links = []
    for picset in picsets:
        for key, value in _head_values(bottle.meta_file(group, picset), keys):
            other = first.setdefault((key, value), picset)
            if other != picset:
                links.append((key, f"picset:{other}", f"picset:{picset}"))
    return links


class _PicsetFile(BaseModel):
    """What is read of a picset's meta.json."""

    picset: dict[str, JsonValue]


def _head_values(file: Path, keys: Sequence[str]) -> list[tuple[str, str]]:
    """Key and value pairs of a picset's metadata; none where there is no readable meta.json."""
    if not file.exists():
        return []
    try:
        head = read_record(file, _PicsetFile).picset
    except FileError as error:
        _log.warning("%s: its picset is joined with no other by it", error.line())
        return []
    return [(key, value) for key in keys for value in sorted(_values(head.get(key)))]


def _values(value: JsonValue) -> set[str]:
    """The names in a field: text, number, an object with a guid, id or name, or a list of these."""
    if isinstance(value, list):
        return {name for entry in value for name in _values(entry)}
    if isinstance(value, dict):
        naming = next((value[key] for key in _NAMING_KEYS if value.get(key)), None)
        return set() if naming is None else _values(naming)
    if value is None or isinstance(value, bool):
        return set()
    name = " ".join(str(value).split()).casefold()
    return set() if name in _UNKNOWN else {name}


def split_by_person(samples: Sequence[Sample], *, valid_people: int, seed: int) -> list[str]:
    """Divides people at random, by the stratification of `split_samples`, without keeping units together.

    Args:
        samples: the samples to divide.
        valid_people: how many people validation gets, exactly.
        seed: another seed gives another split.

    Returns:
        `train` or `valid` for every sample.

    Raises:
        TrainingError: there are fewer than two samples.
    """
    alone = [replace(sample, joined=f"person:{sample.path}:{sample.number}") for sample in samples]
    split = split_samples(alone, valid_share=valid_people / len(alone), seed=seed)
    is_valid = np.array([split.subsets[sample.split_unit] == VALID for sample in alone])
    _even_out(_columns(samples), is_valid, valid_people)
    return [VALID if is_held else TRAIN for is_held in is_valid.tolist()]


def _columns(samples: Sequence[Sample]) -> NDArray[np.float64]:
    """Labels of each person, and trash as one more, (samples, labels + 1)."""
    labels = labels_of(samples).astype(np.float64)
    return np.hstack([np.nan_to_num(labels), (labels == 0).all(axis=1, keepdims=True)])


def _even_out(columns: NDArray[np.float64], is_valid: NDArray[np.bool_], valid_people: int) -> None:
    """Moves people from the larger subset, those with its most overrepresented labels; changes `is_valid`.

    Stratification gives every label its share, and can miss the share of all people by a few.
    """
    totals = columns.sum(axis=0)
    while (extra := int(is_valid.sum()) - valid_people) != 0:
        giving = is_valid if extra > 0 else ~is_valid
        share = (valid_people if extra > 0 else len(columns) - valid_people) / len(columns)
        here = columns[giving].sum(axis=0)
        surplus = (here - share * totals) / np.maximum(totals, 1)
        # The subset keeps at least one person of every label it has.
        surplus[here <= 1] = -len(columns)
        people = np.flatnonzero(giving)
        chosen = people[int(np.argmax(columns[people] @ surplus))]
        is_valid[chosen] = not is_valid[chosen]


@dataclass(frozen=True)
class Split:
    """Which unit (joined picsets, picset, or picture) is in which subset.

    Attributes:
        subsets: unit -> `train` or `valid`; units are `Sample.split_unit`.
        moved: picsets and pictures that were in validation and are in training now, as they belong together with
            some that were trained on.
    """

    subsets: Mapping[str, str] = field(default_factory=dict)
    moved: tuple[str, ...] = ()

    def remembered_subsets(self, samples: Iterable[Sample]) -> dict[str, str]:
        """The subset of every picset and every picture by itself, whatever is joined with it later."""
        return {
            member: self.subsets[sample.split_unit]
            for sample in samples
            for member in (sample.unjoined_unit, sample.picture_unit)
        }

    def select(self, samples: Iterable[Sample], subset: str) -> list[Sample]:
        """The samples of one subset, in their order."""
        return [sample for sample in samples if self.subsets.get(sample.split_unit) == subset]


def split_samples(
    samples: Sequence[Sample], *, valid_share: float, seed: int, known: Mapping[str, str] | None = None
) -> Split:
    """Divides samples by unit into training and validation.

    Iterative stratification (Sechidis, Tsoumakas, Vlahavas, ECML PKDD 2011) over whole units: the rarest label's
    units come first, each to the subset that still lacks most of it. "None of the labels" counts as a label, and so
    does the known absence of a label that is unknown for others. The result depends on the seed and the samples, not
    on their order.

    Picsets and pictures of an earlier split stay in their subset, with one exception: a unit of which anything was in
    training is in training, even if the rest of it was in validation. So no picture that was trained on is ever used
    for validation, at the price of a smaller validation set.

    Args:
        samples: the samples to divide.
        valid_share: share of samples wanted in validation, 0 < share < 1.
        seed: another seed gives another split.
        known: subsets of an earlier split, by picset and by picture (`Split.remembered_subsets`).

    Returns:
        A split in which both subsets have samples, and every label with two units or more is in both subsets (where
        the earlier split allows it). A label that one unit alone has is in training.

    Raises:
        TrainingError: there are fewer than two units, or a subset would be empty.
    """
    units = sorted({sample.split_unit for sample in samples}, key=lambda unit: _rank(seed, unit))
    if len(units) < 2:
        raise _one_unit_error(samples)
    counts = _counts_by_unit(samples, units)
    earlier, moved = _earlier_subsets(samples, known or {})
    subsets = np.array([_SUBSETS.index(earlier[unit]) if unit in earlier else -1 for unit in units])
    # What each subset should get of each label, less what it has: (2, labels + trash + all).
    wanted = np.outer([1 - valid_share, valid_share], counts.sum(axis=0))
    for subset in (0, 1):
        wanted[subset] -= counts[subsets == subset].sum(axis=0)
    is_new = subsets < 0
    _assign_new(counts, subsets, wanted)
    _repair(counts, subsets, is_new)
    for subset, name in enumerate(_SUBSETS):
        if not (subsets == subset).any():
            raise TrainingError(
                f"the {name} part is empty: an earlier split has all {len(samples)} samples in the other subset",
                code="empty_part",
                hint="load more picsets, or make another split with another --seed",
            )
    return Split({unit: _SUBSETS[subset] for unit, subset in sorted(zip(units, subsets.tolist(), strict=True))}, moved)


def _one_unit_error(samples: Sequence[Sample]) -> TrainingError:
    what, code = f"all {len(samples)} samples are of one picset", "one_picset"
    hint = "load more picsets, or train on everything with --mode all"
    if len({sample.unjoined_unit for sample in samples}) > 1:
        what, code = f"all {len(samples)} samples are of picsets that belong together", "all_joined"
        hint = "load more picsets, look at --join-by and --no-near-duplicates, or train on everything with --mode all"
    return TrainingError(f"{what}: no part of them can be held out for validation", code=code, hint=hint)


def _earlier_subsets(samples: Sequence[Sample], known: Mapping[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Unit -> its subset in an earlier split, and the picsets and pictures moved from validation into training."""
    found: dict[str, set[str]] = {}
    for sample in samples:
        found.setdefault(sample.split_unit, set()).update(
            subset
            for member in (sample.unjoined_unit, sample.picture_unit)
            if (subset := known.get(member)) in _SUBSETS
        )
    subsets = {unit: TRAIN if TRAIN in several else VALID for unit, several in found.items() if several}
    members = {
        member for s in samples if subsets.get(s.split_unit) == TRAIN for member in (s.unjoined_unit, s.picture_unit)
    }
    return subsets, tuple(sorted(member for member in members if known.get(member) == VALID))


def _rank(seed: int, unit: str) -> bytes:
    """Sorts units in an order that depends on the seed, not on their names or the order of the file."""
    return hashlib.sha256(f"{seed}\n{unit}".encode()).digest()


def _counts_by_unit(samples: Sequence[Sample], units: Sequence[str]) -> NDArray[np.float64]:
    """(units, columns): positives of each label, absences of labels that are unknown for some, trash, all samples."""
    labels = labels_of(samples).astype(np.float64)
    is_absent = labels == 0
    is_incomplete = np.isnan(labels).any(axis=0)
    is_trash = is_absent.all(axis=1, keepdims=True)
    rows = np.hstack([np.nan_to_num(labels), is_absent[:, is_incomplete], is_trash, np.ones((len(samples), 1))])
    place = {unit: index for index, unit in enumerate(units)}
    counts = np.zeros((len(units), rows.shape[1]))
    np.add.at(counts, [place[sample.split_unit] for sample in samples], rows)
    return counts


def _assign_new(counts: NDArray[np.float64], subsets: NDArray[np.int_], wanted: NDArray[np.float64]) -> None:
    """Gives every unit without a subset (-1) the one that most lacks its rarest label; changes `subsets`, `wanted`."""
    has = counts > 0
    is_open = subsets < 0
    left = has[is_open].sum(axis=0)
    # Large units first: small ones then fill the gaps. Units of one size stay in their order.
    by_size = [iter(np.argsort(-counts[:, column], kind="stable")) for column in range(counts.shape[1])]
    for _ in range(int(is_open.sum())):
        # The last column counts all samples: it is used when no unit with a label is left.
        label = int(np.argmin(np.where(left[:-1] > 0, left[:-1], np.inf))) if left[:-1].any() else counts.shape[1] - 1
        unit = next(unit for unit in by_size[label] if subsets[unit] < 0)
        by_need = np.lexsort((wanted[:, -1], wanted[:, label]))
        subset = int(by_need[-1])
        subsets[unit] = subset
        wanted[subset] -= counts[unit]
        left -= has[unit]


def _repair(counts: NDArray[np.float64], subsets: NDArray[np.int_], is_new: NDArray[np.bool_]) -> None:
    """Moves units so that neither subset is empty or lacks a label that two units have; changes `subsets`."""
    columns = sorted(range(counts.shape[1]), key=lambda column: (counts[:, column] > 0).sum(), reverse=True)
    for column in columns:
        having = np.flatnonzero(counts[:, column] > 0)
        for subset in (1, 0):
            if len(having) < 2 or (subsets[having] == subset).any():
                continue
            new = [int(unit) for unit in having if is_new[unit]]
            movable = [unit for unit in new if _is_movable(counts, subsets, unit)]
            if not movable and column == counts.shape[1] - 1:
                # An empty subset is worse than a label that one subset lacks.
                movable = new
            if movable:
                subsets[min(movable, key=lambda unit: counts[unit, -1])] = subset


def _is_movable(counts: NDArray[np.float64], subsets: NDArray[np.int_], unit: int) -> bool:
    """Whether a unit's subset keeps at least one other unit of everything the unit has.

    Validation may lose a label that only this unit has, training may not.
    """
    others = (subsets == subsets[unit]) & (np.arange(len(subsets)) != unit)
    has = counts[unit] > 0
    if _SUBSETS[subsets[unit]] == VALID:
        has &= (counts > 0).sum(axis=0) >= 2
    return bool((counts[others] > 0).any(axis=0)[has].all())


def check_split(train: Sequence[Sample], valid: Sequence[Sample], *, where: object = None) -> None:
    """Refuses a split that leaks.

    Raises:
        TrainingError: joined picsets, a picset or a picture are in both subsets; names some of them.
    """
    both = sorted(_names_of(train) & _names_of(valid))
    if both:
        shown = ", ".join(both[:3]) + (f" and {len(both) - 3} more" if len(both) > 3 else "")
        raise TrainingError(
            f"the split leaks: {shown} in training and in validation",
            code="split_leaks",
            where=where,
            hint="remove the file and train again: a new split is made",
        )


def _names_of(samples: Iterable[Sample]) -> set[str]:
    """Everything that must not be in the other subset too."""
    return {name for sample in samples for name in (sample.split_unit, sample.unjoined_unit, sample.picture_unit)}
