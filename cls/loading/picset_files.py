"""meta/<group>/<picset guid>/meta.json: what the collector said of every picset."""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from cls.bottle.layout import Bottle
from cls.collector.payloads import Picset
from cls.files import remove_parts, safe_name, write_text_atomic

META_FILE = "meta.json"
_WRITERS = 8


@dataclass(frozen=True)
class StoredPicsets:
    """What became of picsets.

    Attributes:
        guids: picsets that were told of, each once.
        written_count: files that are new or have changed.
    """

    guids: frozenset[str]
    written_count: int


def meta_file(bottle: Bottle, group: str, guid: str) -> Path:
    """The meta.json of a picset in a group."""
    return bottle.meta(group) / safe_name(guid) / META_FILE


def store_picsets(bottle: Bottle, group: str, picsets: Iterable[Picset]) -> StoredPicsets:
    """Writes each picset's PICSET as it came, unknown fields included; files that would not change are left alone.

    Raises:
        FileError: a file cannot be written.
    """
    # Making a small file durable is nearly all waiting, and several can wait at once.
    seen: dict[str, Future[bool]] = {}
    with ThreadPoolExecutor(_WRITERS, thread_name_prefix="picset") as executor:
        for picset in picsets:
            if picset.guid not in seen:
                seen[picset.guid] = executor.submit(store_picset, bottle, group, picset)
        written_count = sum(future.result() for future in seen.values())
    return StoredPicsets(frozenset(seen), written_count)


def store_picset(bottle: Bottle, group: str, picset: Picset) -> bool:
    """Writes one picset's meta.json; returns whether it is new or has changed."""
    file = meta_file(bottle, group, picset.guid)
    # Other steps keep files of their own in this folder and may be writing one.
    remove_parts(file.parent, META_FILE)
    text = json.dumps(picset.content, ensure_ascii=False, indent=2) + "\n"
    # Text that no file can hold (half a surrogate pair) is kept as JSON's own escapes.
    if any("\ud800" <= sign <= "\udfff" for sign in text):
        text = json.dumps(picset.content, indent=2) + "\n"
    if file.exists() and file.read_bytes() == text.encode():
        return False
    write_text_atomic(file, text)
    return True
