"""A public attribute set as a group of the bottle: pictures, rows in the pictures database, dataset file."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from cls.attribute_sets.attribute_set import AttributeSet, SetPicture, odd_cells, odd_cells_line
from cls.attribute_sets.matlab import MatlabValue
from cls.bottle.dataset_file import GroupDataset, LabelledRow, read_dataset, write_dataset_if_changed
from cls.bottle.layout import Bottle, read_forgotten
from cls.dataset.split.assign import TRAIN, VALID
from cls.dataset.split.file import PART_SUBSETS, PARTS_KEY, TEST, part_names, parts_content, subsets_of
from cls.errors import AttributeSetError, FileError, UsageError
from cls.files import atomic_path, remove_parts, safe_name, write_json_atomic
from cls.loading.load import load_lock
from cls.machine import cores
from cls.people.photos import Person, decode_photo
from cls.pictures.database import PicturesDatabase
from cls.pictures.segments import PictureRecord, Status
from cls.progress import progress

_log = logging.getLogger("cls.attribute_sets")

_SEPARATORS = ("/", "\\", "\0")

# What stands in the pictures database where a segmentation model's name stands otherwise.
WHOLE_PICTURE = "whole-picture"
PEOPLE_CLASS = "person"
_CORNERS_XY_REL = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])

# PETA's: 9,500 training, 1,900 validation, 7,600 test; used where a layout has no published parts.
_SHARES = {TRAIN: 0.5, VALID: 0.1, TEST: 0.4}
OFFICIAL, IDENTITY = "official", "identity"
_LEDGER_KEY = "ledger"
_CHUNK = 1_000


def pool_name(file_name: str, folder: str = "") -> str | None:
    """The name a picture gets in its set: its file name, with its folder before it where the set has several.

    Args:
        file_name: as the set's annotations give it.
        folder: e.g. the subset; empty for none.

    Returns:
        None when the annotations hold something that is no plain file name, such as a path that leads elsewhere.
    """
    if not file_name.strip() or file_name in (".", "..") or any(sign in file_name for sign in _SEPARATORS):
        return None
    return safe_name(f"{folder}-{file_name}" if folder else file_name)


@dataclass(frozen=True)
class PlacedPicture:
    """What became of one picture.

    Attributes:
        record: its row for the pictures database; None where it has one, or cannot be used.
        is_new: whether it was put into the pool now.
    """

    picture: SetPicture
    name: str
    record: PictureRecord | None = None
    problem: str | None = None
    is_new: bool = False


def name_in_pool(group: str, picture: SetPicture) -> str:
    """A picture's file name in the pool: sets number their pictures alike, so the group stands before it."""
    return f"{safe_name(group)}-{picture.name}"


def place(bottle: Bottle, group: str, picture: SetPicture, *, has_row: bool) -> PlacedPicture:
    """Puts a picture into the pool, as a hard link where the disk allows it, as a copy elsewhere.

    A picture that is there already, with a row in the database, is not read again: a load that was cut off goes on
    quickly. A file of the name that is another picture is left alone.

    Raises:
        FileError: the pool cannot be written.
    """
    name = name_in_pool(group, picture)
    target = bottle.picture(name)
    try:
        size_bytes = picture.file.stat().st_size
    except OSError as error:
        why = (
            "there is no such picture" if isinstance(error, FileNotFoundError) else f"cannot be read: {error.strerror}"
        )
        return PlacedPicture(picture, name, problem=why)
    is_there = target.exists()
    if is_there and target.stat().st_size == size_bytes and has_row:
        return PlacedPicture(picture, name)
    try:
        content = picture.file.read_bytes()
        image_rgb = decode_photo(content, where=picture.file)
    except FileError as error:
        return PlacedPicture(picture, name, problem=error.what)
    except OSError as error:
        return PlacedPicture(picture, name, problem=f"cannot be read: {error.strerror}")
    if is_there and target.read_bytes() != content:
        return PlacedPicture(
            picture, name, problem="the bottle has another picture of this name: load under another --group"
        )
    if not is_there:
        _link_or_copy(picture.file, target)
    record = None if has_row else whole_picture(name, image_rgb.shape[1], image_rgb.shape[0])
    return PlacedPicture(picture, name, record, is_new=not is_there)


def whole_picture(name: str, width_px: int, height_px: int) -> PictureRecord:
    """The row of a picture that is one person, cut out already: the outline is the picture's edge."""
    person = Person(PEOPLE_CLASS, 1.0, (0.0, 0.0, float(width_px), float(height_px)), (_CORNERS_XY_REL,))
    return PictureRecord(name, WHOLE_PICTURE, Status.APPROVED, (person,))


def _link_or_copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), target)
    except OSError:
        # Another disk, or one that knows no hard links: a copy costs space and is as good.
        with atomic_path(target) as part:
            shutil.copyfile(source, part)


def partition_of(partitions: MatlabValue, number: int) -> MatlabValue:
    """One of a cell array of partitions.

    Args:
        partitions: the cell array.
        number: which one, from 1.

    Raises:
        UsageError: there is no such partition.
        AttributeSetError: it is no cell array.
    """
    cells = partitions.cells()
    if not 1 <= number <= len(cells):
        raise UsageError(
            f"--partition: expected a number from 1 to {len(cells)}, found {number}",
            code="out_of_range",
            hint="the published one is 1",
        )
    return cells[number - 1]


def subsets_of_partition(partition: MatlabValue, fields: Mapping[str, str], count: int) -> dict[int, str]:
    """Picture number (from 0) -> subset.

    Args:
        partition: a structure of three vectors of picture numbers (from 1).
        fields: subset -> name of its vector.
        count: how many pictures there are.

    Raises:
        AttributeSetError: a vector is missing or points outside, or a picture stands in two of them.
    """
    subsets: dict[int, str] = {}
    for subset, name in fields.items():
        vector = partition.field(name)
        for index in vector.indices(count):
            if subsets.setdefault(index, subset) != subset:
                raise AttributeSetError(
                    f"picture {index + 1} is in '{subsets[index]}' too", code="overlapping_parts", where=vector.where
                )
    return subsets


def identity_parts(pictures: Sequence[SetPicture], official: Mapping[str, str]) -> dict[str, str]:
    """Picture -> subset, whole people in each subset.

    People are put in the order of their rarest label, at random within it, and dealt one after the other to the subset
    that lags most behind its share of pictures: so every stretch of the order, and with it every label, is divided in
    proportion. Sets of tens of thousands of people, for which dealing label by label takes minutes, take a second.

    Args:
        pictures: all with an identity.
        official: the published parts, whose proportions are kept; may be empty.

    Returns:
        The same for the same pictures; empty where there are too few people for three parts.
    """
    counts = Counter(official.values())
    shares = {subset: counts[subset] / len(official) for subset in _SHARES} if official else _SHARES
    by_person: dict[str, list[SetPicture]] = {}
    for picture in pictures:
        by_person.setdefault(picture.identity, []).append(picture)
    if not by_person:
        return {}
    dealt = dict.fromkeys(_SHARES, 0)
    subsets: dict[str, str] = {}
    for person in _by_rarest_label(by_person):
        size, total = len(by_person[person]), sum(dealt.values())
        subset = max(_SHARES, key=lambda name: shares[name] * (total + size) - dealt[name])
        dealt[subset] += size
        subsets[person] = subset
    if set(subsets.values()) != set(_SHARES):
        return {}
    return {picture.name: subsets[picture.identity] for picture in pictures}


def _by_rarest_label(by_person: Mapping[str, Sequence[SetPicture]]) -> list[str]:
    """People by the rarest label they have, those without labels last; at random, and always alike, among equals."""
    people = list(by_person)
    has = np.array([np.nan_to_num([p.labels for p in by_person[person]]).max(axis=0) > 0.5 for person in people])
    order = np.argsort(has.sum(axis=0), kind="stable")
    ranked = np.hstack([has[:, order], np.ones((len(people), 1), bool)])
    rarest = ranked.argmax(axis=1)
    return [person for _, _, person in sorted(zip(rarest.tolist(), map(_chance, people), people, strict=True))]


def _chance(person: str) -> bytes:
    return hashlib.sha256(person.encode()).digest()


@dataclass(frozen=True)
class LoadedSet:
    """What a load made.

    Attributes:
        dataset_file: where it is kept.
        new: pictures put into the bottle now.
        people: how many people or tracklets the set names; 0 when it names none.
        left_out: pictures that cannot be used and rows that cannot be read, with row and reason.
        odd_cells: what the labels of its pictures hold besides 0 and 1 -> how many cells; these are unknown.
    """

    dataset: GroupDataset
    dataset_file: Path
    new: int
    kept: int
    people: int
    left_out: tuple[str, ...]
    odd_cells: Mapping[str, int]
    report_file: Path

    @property
    def part_sizes(self) -> dict[str, dict[str, int]]:
        """Name of the parts -> subset -> pictures."""
        found = {name: list(subsets_of(self.dataset, name).values()) for name in part_names(self.dataset)}
        return {name: {subset: subsets.count(subset) for subset in PART_SUBSETS} for name, subsets in found.items()}


def load_set(bottle: Bottle, attribute_set: AttributeSet, group: str) -> LoadedSet:
    """Loads a set: nothing is lost or doubled when it is killed and run again.

    Raises:
        AttributeSetError: the group is another one's, or not one picture can be used.
        FileError: the bottle cannot be written.
        DatabaseError: the pictures database cannot be reached or used.
    """
    with load_lock(bottle):
        file = bottle.dataset_file(group)
        known = _known_set(file, group)
        remove_parts(bottle.pictures)
        placed = _place_all(bottle, attribute_set, group)
        usable = [one for one in placed if one.problem is None]
        left_out = (
            *attribute_set.problems,
            *(f"{p.picture.row}: {p.picture.file}: {p.problem}" for p in placed if p.problem),
        )
        if not usable:
            raise AttributeSetError(
                f"not one of {len(placed)} pictures can be used",
                code="no_usable_pictures",
                where=left_out[0] if left_out else None,
            )
        dataset = _dataset(attribute_set, usable, group, known)
        write_dataset_if_changed(file, dataset, ignoring=[_LEDGER_KEY])
        loaded = LoadedSet(
            dataset=dataset,
            dataset_file=file,
            new=sum(one.is_new for one in usable),
            kept=sum(not one.is_new for one in usable),
            people=len({one.picture.identity for one in usable} - {""}),
            left_out=left_out,
            odd_cells=odd_cells(one.picture for one in usable),
            report_file=bottle.ledger / "load" / f"{safe_name(group)}.json",
        )
        _write_report(loaded, attribute_set)
    if loaded.odd_cells:
        _log.warning("%s", odd_cells_line(loaded.odd_cells))
    return loaded


def _known_set(file: Path, group: str) -> GroupDataset | None:
    """The group as it was loaded before; refuses a group that came from elsewhere."""
    if not file.exists():
        return None
    known = read_dataset(file, group)
    if PARTS_KEY not in known.extra:
        raise AttributeSetError(
            f"group '{group}' is there already and is no attribute set",
            code="group_taken",
            where=file,
            hint="give another --group",
        )
    return known


def _place_all(bottle: Bottle, attribute_set: AttributeSet, group: str) -> list[PlacedPicture]:
    """All pictures into the pool and the database, a thousand at a time."""
    forgotten = read_forgotten(bottle)
    pictures = [picture for picture in attribute_set.pictures if name_in_pool(group, picture) not in forgotten]
    placed: list[PlacedPicture] = []
    with (
        PicturesDatabase.open(bottle.database_url) as database,
        ThreadPoolExecutor(cores()) as pool,
        progress("pictures loaded", len(pictures)) as ticker,
    ):
        known = database.known_paths(name_in_pool(group, picture) for picture in pictures)
        for chunk in _chunks(pictures, _CHUNK):
            futures = [
                pool.submit(place, bottle, group, picture, has_row=name_in_pool(group, picture) in known)
                for picture in chunk
            ]
            done = []
            for future in futures:
                done.append(future.result())
                ticker.advance()
            database.write_people([one.record for one in done if one.record is not None], replace=False)
            placed += done
    for one in [one for one in placed if one.problem][:5]:
        _log.warning("left out: %s: %s: %s", one.picture.row, one.picture.file, one.problem)
    return placed


def _chunks(items: Sequence[SetPicture], size: int) -> Iterator[Sequence[SetPicture]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _dataset(
    attribute_set: AttributeSet, usable: Sequence[PlacedPicture], group: str, known: GroupDataset | None
) -> GroupDataset:
    """The dataset of the usable pictures, with the published parts and those made without leaks."""
    rows = tuple(LabelledRow(one.name, one.picture.labels, one.picture.identity) for one in usable)
    parts: dict[str, dict[str, list[str]]] = {}
    official = {one.picture.name: subset for one in usable if (subset := attribute_set.official.get(one.picture.name))}
    if official:
        parts[OFFICIAL] = parts_content(_in_pool(official, usable))
    pictures = [one.picture for one in usable]
    if all(picture.identity for picture in pictures):
        _log.info("dividing %d people into parts without leaks", len({picture.identity for picture in pictures}))
        subsets = identity_parts(pictures, official)
        if subsets:
            parts[IDENTITY] = parts_content(_in_pool(subsets, usable))
    ledger = {"source": f"{attribute_set.layout} ({WHOLE_PICTURE})", "loaded_at": _now()}
    # What others have written into the file stays.
    extra = {**(known.extra if known else {}), PARTS_KEY: parts, _LEDGER_KEY: ledger}
    return GroupDataset(group, attribute_set.labels, rows, extra)


def _in_pool(subsets: Mapping[str, str], usable: Sequence[PlacedPicture]) -> dict[str, str]:
    """Sides by name in the pool instead of name in the set."""
    return {one.name: subsets[one.picture.name] for one in usable if one.picture.name in subsets}


def _write_report(loaded: LoadedSet, attribute_set: AttributeSet) -> None:
    content = {
        "group": loaded.dataset.group,
        "source": attribute_set.layout,
        "loaded_at": _now(),
        "photos": len(loaded.dataset.rows),
        "pictures_stored": loaded.new,
        "pictures_kept": loaded.kept,
        "people": loaded.people,
        "parts": loaded.part_sizes,
        "left_out": list(loaded.left_out),
        "label_values_taken_for_unknown": dict(loaded.odd_cells),
    }
    write_json_atomic(loaded.report_file, content)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
