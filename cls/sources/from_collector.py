"""The collector as a source of labelled photos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from cls.collector.client import CollectorClient
from cls.collector.listing import Listing, merge_categories
from cls.collector.payloads import Picset


class CollectorSource:
    """A collector behind its client; see `Source`."""

    def __init__(self, client: CollectorClient) -> None:
        self._client = client

    @property
    def description(self) -> str:
        """The collector's address."""
        return f"collector {self._client.url}"

    def listing(self, group: str) -> Listing:
        """The photos and labels of a group."""
        return merge_categories(group, self._client.list_pictures(group))

    def picsets(self, guids: Sequence[str]) -> Iterator[Picset]:
        """What the collector says of picsets."""
        return self._client.picsets(guids)

    def read(self, filepath: str) -> bytes:
        """The bytes of a photo."""
        return self._client.picture(filepath)
