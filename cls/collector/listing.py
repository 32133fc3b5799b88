"""What a group consists of: categories with photos, merged into one row a photo."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cls.errors import CollectorError

_TRASH = "trash"
MIN_FILEPATH_SIGNS = 5
# The dataset file holds one column a label beside the column of file names.
RESERVED_LABELS = ("path",)
_MAX_NAME_BYTES = 255


@dataclass(frozen=True)
class ListedPhoto:
    """One entry of a category, as a source lists it.

    Attributes:
        filepath: address of the photo in its source, e.g. `d/9/e/<guid>/p/<md5>.jpeg`.
        picset: GUID of its picset; empty when the source names none.
    """

    filepath: str
    picset: str = ""


@dataclass(frozen=True)
class LabelledPicture:
    """One photo of a group with its labels: what every source ends in.

    Attributes:
        filepath: address of the photo in its source.
        picset: GUID of its picset; empty when unknown.
        labels: its labels, sorted; none for a photo that only stands under trash.
    """

    filepath: str
    picset: str
    labels: tuple[str, ...]

    @property
    def name(self) -> str:
        """File name in pictures/: the last part of the address."""
        return picture_name(self.filepath)


@dataclass(frozen=True)
class SkippedPicture:
    """A photo that is left out, and why.

    Attributes:
        is_temporary: the source answered with server errors; a later load tries the photo again.
    """

    filepath: str
    reason: str
    is_temporary: bool = False


@dataclass(frozen=True)
class Listing:
    """A group as a source lists it.

    Attributes:
        labels: its labels in stable (sorted) order; trash is none of them.
        pictures: one entry an address, sorted by file name and address.
        skipped: entries that cannot be photos of the pool, with the reason.
        placeholder_count: entries too short to be an address.
        contradictory: addresses that stand under trash and under a label at once (the label counts).
    """

    group: str
    labels: tuple[str, ...]
    pictures: tuple[LabelledPicture, ...]
    skipped: tuple[SkippedPicture, ...] = ()
    placeholder_count: int = 0
    contradictory: tuple[str, ...] = ()

    @property
    def picsets(self) -> list[str]:
        """GUIDs of all picsets, each once, sorted."""
        return sorted({picture.picset for picture in self.pictures if picture.picset})


def is_trash(category: str) -> bool:
    """Whether a category means: none of the labels."""
    return _TRASH in category.lower()


def trash_category(group: str) -> str:
    """The name of a group's trash category."""
    return f"{group} {_TRASH}"


def picture_name(filepath: str) -> str:
    """The file name in pictures/ of a photo: the last part of its address."""
    return filepath.rsplit("/", 1)[-1]


def problem_of_filepath(filepath: str) -> str | None:
    """Why an address cannot be fetched and stored safely, or None when it can."""
    name = picture_name(filepath)
    if not name or name.startswith("."):
        return "its address does not end in a file name"
    if "\\" in filepath or any(ord(sign) < 32 for sign in filepath):
        return "its address holds signs that no file name may have"
    if any(part in ("", ".", "..") for part in filepath.split("/")):
        return "its address leads out of the photos"
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        return "its address is not valid text"
    if size > _MAX_NAME_BYTES:
        return f"its file name is longer than {_MAX_NAME_BYTES} bytes"
    return None


@dataclass
class _CollectedLabels:
    """What the categories say of one address so far."""

    picset: str
    labels: set[str] = field(default_factory=set)
    is_in_trash: bool = False


def merge_categories(group: str, categories: Mapping[str, Iterable[ListedPhoto]]) -> Listing:
    """Merges categories into one entry a photo: several labels where it stands under several, none for trash alone.

    Args:
        group: the group's name.
        categories: category -> its entries. Names are stripped of spaces around them; equal ones become one.

    Raises:
        CollectorError: a category has no name, or a name that the dataset file cannot hold.
    """
    gathered: dict[str, _CollectedLabels] = {}
    labels: set[str] = set()
    skipped: dict[str, str] = {}
    placeholder_count = 0
    for raw_category, photos in categories.items():
        category = raw_category.strip()
        _check_category(group, category)
        trash = is_trash(category)
        if not trash:
            labels.add(category)
        for photo in photos:
            if len(photo.filepath) < MIN_FILEPATH_SIGNS:
                placeholder_count += 1
                continue
            problem = problem_of_filepath(photo.filepath)
            if problem:
                skipped[photo.filepath] = problem
                continue
            entry = gathered.setdefault(photo.filepath, _CollectedLabels(photo.picset))
            # The smallest GUID wins, so that the order of an answer never changes a dataset.
            entry.picset = min(filter(None, (entry.picset, photo.picset)), default="")
            if trash:
                entry.is_in_trash = True
            else:
                entry.labels.add(category)
    pictures = [LabelledPicture(path, entry.picset, tuple(sorted(entry.labels))) for path, entry in gathered.items()]
    return Listing(
        group=group,
        labels=tuple(sorted(labels)),
        pictures=tuple(sorted(pictures, key=lambda picture: (picture.name, picture.filepath))),
        skipped=tuple(SkippedPicture(path, reason) for path, reason in sorted(skipped.items())),
        placeholder_count=placeholder_count,
        contradictory=tuple(sorted(path for path, entry in gathered.items() if entry.is_in_trash and entry.labels)),
    )


def _check_category(group: str, category: str) -> None:
    if not category:
        raise CollectorError(
            f"group '{group}' has a category without a name", code="unnamed_category", hint="name it in the collector"
        )
    if category in RESERVED_LABELS:
        raise CollectorError(
            f"group '{group}' has a category named '{category}', which the dataset file keeps for file names",
            code="reserved_category",
            hint="rename the category in the collector",
        )


def evenly_spaced(items: Sequence[str], limit: int | None) -> list[str]:
    """At most `limit` items, taken at even distances: the same ones every time."""
    if limit is None or limit >= len(items):
        return list(items)
    return [items[index * len(items) // limit] for index in range(limit)]
