"""A source without forgotten pictures and picsets."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import replace

from cls.bottle.layout import ForgottenNames
from cls.collector.listing import Listing, picture_name
from cls.collector.payloads import Picset
from cls.sources import Source
from cls.wording import counted

_log = logging.getLogger("cls.collector")


class SourceWithoutForgotten:
    """Another source, less what the bottle's list of forgotten names holds; see `Source`."""

    def __init__(self, source: Source, forgotten: ForgottenNames) -> None:
        self._source = source
        self._forgotten = forgotten

    @property
    def description(self) -> str:
        """The source's own."""
        return self._source.description

    def listing(self, group: str) -> Listing:
        """The photos and labels of a group."""
        listing = self._source.listing(group)
        pictures = tuple(one for one in listing.pictures if self._is_kept(one.filepath))
        if len(pictures) < len(listing.pictures):
            count = counted(len(listing.pictures) - len(pictures), "picture")
            _log.warning("%s passed over: forgotten here (`cls forget --allow NAME` takes that back)", count)
        return replace(
            listing,
            pictures=pictures,
            skipped=tuple(one for one in listing.skipped if self._is_kept(one.filepath)),
            contradictory=tuple(filepath for filepath in listing.contradictory if self._is_kept(filepath)),
        )

    def picsets(self, guids: Sequence[str]) -> Iterator[Picset]:
        """What the source says of picsets, their forgotten pictures left out."""
        asked = [guid for guid in guids if guid not in self._forgotten]
        if len(asked) < len(guids):
            _log.warning("%s passed over: forgotten here", counted(len(guids) - len(asked), "picset"))
        for picset in self._source.picsets(asked):
            yield picset.without_photos(self._is_kept)

    def read(self, filepath: str) -> bytes:
        """The bytes of a photo."""
        return self._source.read(filepath)

    def _is_kept(self, filepath: str) -> bool:
        return picture_name(filepath) not in self._forgotten
