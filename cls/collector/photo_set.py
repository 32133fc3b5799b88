"""A folder of labelled photos as a collector sees it: groups, categories, picsets, addresses."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cls.collector.client import PictureMissingError
from cls.collector.listing import ListedPhoto, Listing, evenly_spaced, is_trash, merge_categories, trash_category
from cls.collector.payloads import (
    GroupOfPicsetPayload,
    Picset,
    ServedHead,
    ServedItem,
    ServedOrigin,
    ServedPicset,
    picset_of,
)
from cls.errors import CollectorError
from cls.files import sha256_of_file

# Picsets without a GUID get one made from their name, so that it is the same on every machine and at every start.
_NAMESPACE = uuid.UUID("5f0c6f9e-6c1b-5b0e-9a53-0d6a3c1b8c4e")


def guid_of(name: str) -> str:
    """The GUID of a picset: its name when that is a GUID, otherwise one made from the name."""
    try:
        return str(uuid.UUID(name))
    except ValueError:
        return str(uuid.uuid5(_NAMESPACE, name))


@dataclass(frozen=True)
class FoundPhoto:
    """One photo file with its labels, as a reader of folders or tables finds it.

    Attributes:
        file: where it lies.
        categories: group -> categories of that group.
        picset_name: name or GUID of its picset; empty: the photo is a picset of its own.
    """

    file: Path
    categories: Mapping[str, tuple[str, ...]]
    picset_name: str = ""


@dataclass(frozen=True)
class Photo:
    """One photo of a set.

    Attributes:
        file: where it lies.
        name: file name in its address; unique in the set.
        picset: GUID of its picset.
        picset_name: what the picset was called before it had a GUID.
        categories: group -> its categories in that group; a photo with none of a group's tags stands under trash.
    """

    file: Path
    name: str
    picset: str
    picset_name: str
    categories: Mapping[str, tuple[str, ...]]

    @property
    def filepath(self) -> str:
        """Its address, in the form the collector uses: `d/9/e/<guid>/p/<name>`."""
        return f"{'/'.join(self.picset[:3])}/{self.picset}/p/{self.name}"


class PhotoSet:
    """A folder of labelled photos. It is a `Source`, and what `cls collector serve` serves."""

    def __init__(self, name: str, photos: Iterable[Photo]) -> None:
        self.name = name
        self.photos = tuple(sorted(photos, key=lambda photo: (photo.name, photo.filepath)))
        self._sizes: dict[str, tuple[int, int]] = {}
        self._sizes_lock = threading.Lock()

    @property
    def description(self) -> str:
        """The set's name: the path of a machine has no place in a bottle."""
        return f"folder {self.name}"

    @cached_property
    def groups(self) -> list[str]:
        """Names of all groups, sorted."""
        return sorted({group for photo in self.photos for group in photo.categories})

    @cached_property
    def by_filepath(self) -> dict[str, Photo]:
        """Address -> photo."""
        return {photo.filepath: photo for photo in self.photos}

    @cached_property
    def by_picset(self) -> dict[str, list[Photo]]:
        """Picset GUID -> its photos."""
        picsets: dict[str, list[Photo]] = {}
        for photo in self.photos:
            picsets.setdefault(photo.picset, []).append(photo)
        return picsets

    def categories(self, group: str) -> dict[str, list[Photo]]:
        """Category -> its photos, for one group; empty for an unknown group."""
        found: dict[str, list[Photo]] = {}
        for photo in self.photos:
            for category in photo.categories.get(group, ()):
                found.setdefault(category, []).append(photo)
        return dict(sorted(found.items(), key=lambda pair: (is_trash(pair[0]), pair[0])))

    def listing(self, group: str) -> Listing:
        """The photos and labels of a group; see `Source`."""
        if group not in self.groups:
            raise CollectorError(
                f"there is no group '{group}'", code="group_not_found", where=self.name, hint=self.groups_hint()
            )
        categories = self.categories(group)
        return merge_categories(
            group, {name: [ListedPhoto(p.filepath, p.picset) for p in photos] for name, photos in categories.items()}
        )

    def groups_hint(self) -> str:
        """The groups there are, for a message."""
        return f"its groups are: {', '.join(self.groups)}" if self.groups else "it has no groups"

    def served_picset(self, guid: str) -> ServedPicset | None:
        """The PICSET of a GUID as the collector's interface has it, without states; None when unknown."""
        photos = self.by_picset.get(guid)
        if photos is None:
            return None
        groups = sorted({group for photo in photos for group in photo.categories})
        categories = sorted({name for photo in photos for names in photo.categories.values() for name in names})
        head = ServedHead(
            guid=guid,
            name=photos[0].picset_name,
            group=[GroupOfPicsetPayload(group=group) for group in groups],
            category=categories,
        )
        return ServedPicset(picset=head, items=[self._item(photo) for photo in photos])

    def _item(self, photo: Photo) -> ServedItem:
        width_px, height_px = self._size_px(photo)
        origin = ServedOrigin(filename=photo.name, filepath=photo.filepath, width=width_px, height=height_px)
        return ServedItem(origin=origin, trained=[])

    def _size_px(self, photo: Photo) -> tuple[int, int]:
        """Width and height as stored, from the file's head; 0, 0 for a file that is no picture."""
        from PIL import Image, UnidentifiedImageError

        with self._sizes_lock:
            known = self._sizes.get(photo.filepath)
        if known is not None:
            return known
        try:
            with Image.open(photo.file) as image:
                size = image.size
        except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError, SyntaxError):
            size = (0, 0)
        with self._sizes_lock:
            self._sizes[photo.filepath] = size
        return size

    def picsets(self, guids: Sequence[str]) -> Iterator[Picset]:
        """What the set says of picsets; see `Source`."""
        for guid in guids:
            served = self.served_picset(guid)
            if served is not None:
                yield picset_of(served.model_dump(exclude_unset=True), where=self.name)

    def read(self, filepath: str) -> bytes:
        """The bytes of a photo; see `Source`."""
        photo = self.by_filepath.get(filepath)
        if photo is None:
            raise PictureMissingError("the set has no such photo", code="picture_missing", where=filepath)
        try:
            return photo.file.read_bytes()
        except OSError as error:
            raise PictureMissingError(
                f"the file cannot be read: {error.strerror}", code="picture_unreadable", where=photo.file
            ) from error


def build_photo_set(name: str, found: Iterable[FoundPhoto], *, limit: int | None = None) -> PhotoSet:
    """Makes a set of what a reader found: one photo a content where names clash, trash for photos without a tag.

    A photo keeps its own file name. Where files of one name hold different contents, none of them keeps it:
    each gets the first 8 digits of its SHA-256 behind the stem. Files of one name and one content (the same photo in
    two category folders) become one photo with the labels of both.

    Args:
        name: what the set is called.
        found: the photos in any order.
        limit: serve at most this many, spread evenly over the names.
    """
    by_name: dict[str, list[FoundPhoto]] = {}
    for photo in found:
        by_name.setdefault(photo.file.name, []).append(photo)
    named: dict[str, list[FoundPhoto]] = {}
    for file_name, photos in by_name.items():
        digests = [sha256_of_file(photo.file) for photo in photos] if len(photos) > 1 else [""]
        is_clash = len(set(digests)) > 1
        for photo, digest in zip(photos, digests, strict=True):
            file = Path(file_name)
            named.setdefault(f"{file.stem}-{digest[:8]}{file.suffix}" if is_clash else file_name, []).append(photo)
    kept = evenly_spaced(sorted(named), limit)
    return PhotoSet(name, [_photo(file_name, named[file_name]) for file_name in kept])


def _photo(name: str, found: Sequence[FoundPhoto]) -> Photo:
    """One photo with the labels of all the places it was found at."""
    categories: dict[str, set[str]] = {}
    for photo in found:
        for group, names in photo.categories.items():
            categories.setdefault(group, set()).update(names or (trash_category(group),))
    picset_name = min((photo.picset_name for photo in found if photo.picset_name), default=name)
    # A photo that stands under a label in one place and nowhere in another is not trash.
    merged = {
        group: tuple(sorted(names - {trash_category(group)} or names)) for group, names in sorted(categories.items())
    }
    return Photo(found[0].file, name, guid_of(picset_name), picset_name, merged)
