"""Shards of equal-sized records: a data file and, written after it, an index of its records with a checksum."""

from __future__ import annotations

import json
import secrets
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cls.files import atomic_path, write_json_atomic

_DATA, _INDEX = ".bin", ".json"


@dataclass(frozen=True)
class Shard:
    """An opened shard.

    Attributes:
        keys: names of the records, in order.
        records: uint8 (records, record_bytes), mapped from the file, read only.
    """

    keys: tuple[str, ...]
    records: NDArray[np.uint8]


def write_shard(folder: Path, records: Mapping[str, NDArray[np.uint8]]) -> None:
    """Adds a shard. The index comes last: without it the data file does not count.

    Args:
        folder: where shards are.
        records: key -> uint8 (record_bytes,), all of one size.

    Raises:
        FileError: no space, no permission.
    """
    path = folder / f"shard-{secrets.token_hex(8)}{_DATA}"
    checksum = 0
    with atomic_path(path) as part, part.open("wb") as stream:
        for record in records.values():
            content = np.ascontiguousarray(record).data
            checksum = zlib.crc32(content, checksum)
            stream.write(content)
    size = len(next(iter(records.values())))
    index = {"record_bytes": size, "crc32": checksum, "keys": list(records)}
    write_json_atomic(path.with_suffix(_INDEX), index, indent=None)


def open_shards(folder: Path, record_bytes: int) -> list[Shard]:
    """All shards of a folder whose broken ones have been dropped."""
    shards = []
    for index_file in sorted(folder.glob(f"shard-*{_INDEX}")):
        keys = tuple(json.loads(index_file.read_text(encoding="utf-8"))["keys"])
        data = np.memmap(index_file.with_suffix(_DATA), np.uint8, mode="r", shape=(len(keys), record_bytes))
        shards.append(Shard(keys, data))
    return shards


def drop_broken_shards(folder: Path, record_bytes: int) -> list[str]:
    """Removes shards that are not what their index says, and data files without an index.

    Returns:
        Names of the broken ones; a data file that a killed build left without an index is removed silently.
    """
    broken = []
    for index_file in sorted(folder.glob(f"shard-*{_INDEX}")):
        if not _is_whole(index_file, record_bytes):
            broken.append(index_file.stem)
            index_file.unlink()
    for data_file in folder.glob(f"shard-*{_DATA}"):
        if not data_file.with_suffix(_INDEX).exists():
            data_file.unlink()
    return broken


def _is_whole(index_file: Path, record_bytes: int) -> bool:
    """Whether a shard's data has the size and the checksum of its index."""
    try:
        index = json.loads(index_file.read_text(encoding="utf-8"))
        keys, checksum = index["keys"], index["crc32"]
        data_file = index_file.with_suffix(_DATA)
        if index["record_bytes"] != record_bytes or data_file.stat().st_size != len(keys) * record_bytes:
            return False
        found = 0
        with data_file.open("rb") as stream:
            while block := stream.read(1 << 22):
                found = zlib.crc32(block, found)
        return bool(found == checksum)
    except (OSError, ValueError, KeyError, TypeError):
        return False
