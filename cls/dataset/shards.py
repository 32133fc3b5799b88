"""Shards: data files of many records, each with an index that is written last and has a checksum."""

from __future__ import annotations

import secrets
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from cls.errors import FileError
from cls.files import atomic_path, write_json_atomic

_DATA, _INDEX = ".bin", ".json"
_CHECKERS = 2


class RecordKey(NamedTuple):
    """What the index says of a record.

    Attributes:
        key: name of the record: a digest of all it was made from.
        picture: file name of the picture it was made from.
        content: SHA-256 of that picture's bytes.
    """

    key: str
    picture: str
    content: str


class _Index(BaseModel):
    """An index: checksum of the data file; key, picture, content and end in bytes of each record."""

    crc32: int
    records: list[tuple[str, str, str, int]]


class Shard(NamedTuple):
    """What a shard's index says.

    Attributes:
        entries: of its records, in order.
        ends: where each record ends in the data.
    """

    index_file: Path
    entries: tuple[RecordKey, ...]
    ends: tuple[int, ...]

    @property
    def size_bytes(self) -> int:
        """Size of the data."""
        return self.ends[-1]

    def records(self) -> Mapping[str, NDArray[np.uint8]]:
        """Key -> record, uint8 (bytes,), read only; mapped from the file, which stays open while one is held."""
        data = np.memmap(self.index_file.with_suffix(_DATA), np.uint8, mode="r", shape=(self.size_bytes,))
        starts = (0, *self.ends)
        return {entry.key: data[starts[n] : self.ends[n]] for n, entry in enumerate(self.entries)}

    def remove(self) -> None:
        """Removes its files; what is mapped of them stays readable. The index goes first: without it nothing counts."""
        self.index_file.unlink(missing_ok=True)
        self.index_file.with_suffix(_DATA).unlink(missing_ok=True)


@contextmanager
def new_shard(folder: Path) -> Iterator[Callable[[RecordKey, NDArray[np.uint8]], None]]:
    """Yields a function that adds a record to a new shard; nothing is written where the block fails or adds none.

    Raises:
        FileError: no space, no permission.
    """
    path = folder / f"shard-{secrets.token_hex(8)}{_DATA}"
    checksum, end = 0, 0
    rows: list[tuple[str, str, str, int]] = []
    with atomic_path(path) as part, part.open("wb") as stream:

        def add(entry: RecordKey, record: NDArray[np.uint8]) -> None:
            nonlocal checksum, end
            content = np.ascontiguousarray(record).data
            checksum = zlib.crc32(content, checksum)
            end += len(content)
            stream.write(content)
            rows.append((*entry, end))

        yield add
    if rows:
        write_json_atomic(path.with_suffix(_INDEX), {"crc32": checksum, "records": rows}, indent=None)
    else:
        path.unlink()


def open_shards(folder: Path) -> list[Shard]:
    """All shards of a folder; one that cannot be used (of an older version, or damaged) is removed.

    Raises:
        FileError: the folder cannot be read.
    """
    return [shard for file in sorted(folder.glob(f"shard-*{_INDEX}")) if (shard := _opened(file)) is not None]


def _opened(index_file: Path) -> Shard | None:
    try:
        rows = _Index.model_validate_json(index_file.read_bytes()).records
        entries = tuple(RecordKey(key, picture, content) for key, picture, content, _ in rows)
        shard = Shard(index_file, entries, tuple(end for *_, end in rows))
        if index_file.with_suffix(_DATA).stat().st_size == shard.size_bytes:
            return shard
    except (FileNotFoundError, ValidationError):
        pass  # Removed below; its records are made again when they are needed.
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror}", code="unreadable", where=index_file) from error
    Shard(index_file, (), ()).remove()
    return None


def drop_broken_shards(folder: Path) -> list[str]:
    """Removes shards that do not match their index, and data files that a killed build left without one.

    Returns:
        Names of the shards that did not match.
    """
    index_files = sorted(folder.glob(f"shard-*{_INDEX}"))
    with ThreadPoolExecutor(_CHECKERS) as pool:
        broken = [
            file for file, is_whole in zip(index_files, pool.map(_is_whole, index_files), strict=True) if not is_whole
        ]
    for index_file in broken:
        index_file.unlink()
    for data_file in folder.glob(f"shard-*{_DATA}"):
        if not data_file.with_suffix(_INDEX).exists():
            data_file.unlink()
    return [file.stem for file in broken]


def drop_records(shards: Sequence[Shard], is_kept: Callable[[RecordKey], bool]) -> int:
    """Writes shards again without some records; returns how many were dropped.

    Raises:
        FileError: no space, no permission.
    """
    dropped = 0
    for shard in shards:
        kept = [entry for entry in shard.entries if is_kept(entry)]
        if len(kept) == len(shard.entries):
            continue
        dropped += len(shard.entries) - len(kept)
        records = shard.records()
        with new_shard(shard.index_file.parent) as add:
            for entry in kept:
                add(entry, records[entry.key])
        shard.remove()
    return dropped


def _is_whole(index_file: Path) -> bool:
    """Whether a shard's data has the size and the checksum of its index."""
    try:
        index = _Index.model_validate_json(index_file.read_bytes())
        data_file = index_file.with_suffix(_DATA)
        if data_file.stat().st_size != index.records[-1][3]:
            return False
        found = 0
        with data_file.open("rb") as stream:
            while block := stream.read(1 << 22):
                found = zlib.crc32(block, found)
        return found == index.crc32
    except (OSError, ValidationError, IndexError):
        return False
