"""Where labelled photos come from: the collector, or a folder; all end in one type, `LabelledPicture`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from cls.collector.listing import Listing
from cls.collector.payloads import Picset


class Source(Protocol):
    """A place labelled photos are loaded from."""

    @property
    def description(self) -> str:
        """The description in the ledger and the dataset file; never a path of this machine, never a secret."""

    def listing(self, group: str) -> Listing:
        """The photos and labels of a group.

        Raises:
            CollectorError: the source has no such group.
        """

    def picsets(self, guids: Sequence[str]) -> Iterator[Picset]:
        """What the source says of picsets; unknown ones are missing from the answer."""

    def read(self, filepath: str) -> bytes:
        """The bytes of a photo, unchecked.

        Raises:
            PictureMissingError: the source cannot give this photo, while others may well be had.
            CollectorError: the source cannot be used any more.
        """
