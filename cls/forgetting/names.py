"""Who is meant: pictures by file name or picset, and how the bottle's files name them."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from cls.bottle.dataset_file import read_dataset
from cls.bottle.layout import Bottle
from cls.bottle.ledger import PictureLedger
from cls.collector.payloads import picset_of
from cls.files import read_json, safe_name
from cls.loading.download import PICTURES_LEDGER
from cls.loading.picset_files import META_FILE

_CUTOUT = re.compile(r"(.+)_\d+\.(?:png|jpg)")


@dataclass(frozen=True)
class Names:
    """Pictures and picsets that are to be forgotten.

    Attributes:
        pictures: file names in pictures/.
        picsets: GUIDs; all their pictures are among the former.
        is_among_cutouts: whether files named `<picture's name or its stem>_<person>.png` are of them too.
    """

    pictures: frozenset[str]
    picsets: frozenset[str] = frozenset()
    is_among_cutouts: bool = False

    @property
    def all(self) -> frozenset[str]:
        """Both."""
        return self.pictures | self.picsets

    @cached_property
    def _drawn(self) -> dict[str, str]:
        """How names of cut-outs begin -> the picture."""
        return {safe_name(base): name for name in self.pictures for base in (Path(name).stem or name, name)}

    def named_by(self, text: str) -> str | None:
        """Which of them a text is the name of: alone, as an address, in a split's memory, as a key of predictions."""
        forms = (
            text,
            text.rpartition("/")[2],
            text.removeprefix("picture:"),
            text.removeprefix("picset:"),
            text.rsplit("|", 3)[0],
        )
        name = next((form for form in forms if form in self.pictures or form in self.picsets), None)
        if name is None and self.is_among_cutouts and (drawn := _CUTOUT.fullmatch(text)):
            return self._drawn.get(drawn[1])
        return name

    def named_in_page(self, text: str) -> set[str]:
        """Which of them an HTML page names, in its text or in an address."""
        return {name for name in self.pictures if html.escape(name) in text or quote(name) in text}


def pictures_of_picsets(bottle: Bottle, guids: Sequence[str]) -> dict[str, set[str]]:
    """The pictures of picsets, as datasets, picsets' meta.json and the addresses of the pool's ledger know them.

    Returns:
        GUID -> file names; a picset that nothing is known of is missing.

    Raises:
        FileError, BottleError, CollectorError: a file of the bottle cannot be read.
    """
    found: dict[str, set[str]] = {guid: set() for guid in guids}
    for file in dataset_files(bottle):
        for row in read_dataset(file).rows:
            if row.picset in found:
                found[row.picset].add(row.path)
    for guid in guids:
        for file in (bottle.root / bottle.settings.meta_dir).glob(f"*/{safe_name(guid)}/{META_FILE}"):
            filepaths = picset_of(read_json(file), where=file).filepaths
            found[guid].update(PurePosixPath(path).name for path in filepaths if "/" in path)
    ledger = PictureLedger(bottle.ledger / PICTURES_LEDGER)
    for entry in ledger.entries():
        for part in {part for path in entry.filepaths for part in path.split("/")} & found.keys():
            found[part].add(entry.name)
    return {guid: names for guid, names in found.items() if names}


def dataset_files(bottle: Bottle) -> list[Path]:
    """The dataset files of all groups."""
    return [file for file in sorted(bottle.datasets.glob("*.json")) if not file.name.startswith(".")]
