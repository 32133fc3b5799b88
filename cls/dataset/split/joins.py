"""Picsets that a split must not tear apart: near duplicates, the same model, the same shoot."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from pydantic import BaseModel, JsonValue

from cls.bottle.layout import Bottle
from cls.dataset.samples import Sample
from cls.dataset.split.near_duplicates import near_pairs
from cls.dataset.split.signatures import signatures_of
from cls.errors import FileError
from cls.loading.load import meta_file
from cls.machine import cores
from cls.records import read_record

_log = logging.getLogger("cls.dataset")

NEAR_DUPLICATES = "near duplicates"
# What annotators type where they do not know: it says nothing.
_NOTHING = frozenset({"", "-", "?", "0", "n/a", "na", "none", "null", "unknown", "undefined", "other"})
# Which of an object's keys name it.
_NAMING_KEYS = ("guid", "id", "name")


@dataclass(frozen=True)
class JoinedUnits:
    """Which units belong together.

    Attributes:
        clusters: unit (picset or picture) -> name of its cluster; units that stand alone are missing.
        reasons: why -> how many links it gave.
    """

    clusters: Mapping[str, str] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)

    def apply_to(self, samples: Iterable[Sample]) -> list[Sample]:
        """The samples with their clusters."""
        return [replace(sample, joined=self.clusters.get(sample.unjoined_unit, "")) for sample in samples]

    def line(self) -> str:
        """What was joined, in a few words."""
        clusters = len(set(self.clusters.values()))
        whys = ", ".join(f"{why} {count}" for why, count in self.reasons.items())
        return f"{len(self.clusters)} picsets (or pictures of none) belong together in {clusters} clusters: {whys}"


def find_joined_units(
    bottle: Bottle,
    group: str,
    samples: Sequence[Sample],
    *,
    keys: Sequence[str] = (),
    has_near_duplicates: bool = True,
) -> JoinedUnits:
    """Finds what belongs together.

    Args:
        bottle: the data folder: pictures, and what the collector said of picsets.
        group: of which the samples are.
        samples: whose picsets and pictures.
        keys: fields of a picset's meta.json (under `picset`); picsets with an equal value belong together.
        has_near_duplicates: whether pictures are compared.

    Raises:
        FileError: the cache cannot be written.
    """
    links: list[tuple[str, str, str]] = []
    if has_near_duplicates:
        links += [(NEAR_DUPLICATES, *pair) for pair in _duplicate_links(bottle, samples)]
    if keys:
        links += _meta_links(bottle, group, sorted({sample.picset for sample in samples if sample.picset}), keys)
    reasons = Counter(why for why, _, _ in links)
    return JoinedUnits(connected([(left, right) for _, left, right in links]), dict(reasons))


def connected(links: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Member -> name of its cluster, after its first member in the alphabet (union-find)."""
    parents: dict[str, str] = {}

    def root(member: str) -> str:
        parents.setdefault(member, member)
        while parents[member] != member:
            parents[member] = parents[parents[member]]
            member = parents[member]
        return member

    for left, right in links:
        first, second = sorted((root(left), root(right)))
        parents[second] = first
    return {member: f"joined:{root(member)}" for member in sorted(parents)}


def _duplicate_links(bottle: Bottle, samples: Sequence[Sample]) -> list[tuple[str, str]]:
    """Pairs of different units that have near duplicates: enough of them to connect all that belong together."""
    found = signatures_of(bottle, samples, workers=cores())
    signed = [(sample, one) for sample, one in zip(samples, found, strict=True) if one is not None]
    if not signed:
        return []
    names, units = np.unique([sample.unjoined_unit for sample, _ in signed], return_inverse=True)
    pairs = near_pairs(np.stack([signature for _, signature in signed]), units.reshape(-1))
    return [(str(names[left]), str(names[right])) for left, right in units[pairs].tolist()]


def _meta_links(bottle: Bottle, group: str, picsets: Sequence[str], keys: Sequence[str]) -> list[tuple[str, str, str]]:
    """Key and pair of each two picsets that have a value in common."""
    first: dict[tuple[str, str], str] = {}
    links = []
    for picset in picsets:
        for key, value in _head_values(meta_file(bottle, group, picset), keys):
            other = first.setdefault((key, value), picset)
            if other != picset:
                links.append((key, f"picset:{other}", f"picset:{picset}"))
    return links


class _PicsetFile(BaseModel):
    """What is read of a picset's meta.json."""

    picset: dict[str, JsonValue]


def _head_values(file: Path, keys: Sequence[str]) -> list[tuple[str, str]]:
    """Key and value of what the collector said of a picset; nothing where there is no readable meta.json."""
    if not file.exists():
        return []
    try:
        head = read_record(file, _PicsetFile).picset
    except FileError as error:
        _log.warning("%s: its picset is joined with no other by it", error.line())
        return []
    return [(key, value) for key in keys for value in sorted(_values(head.get(key)))]


def _values(value: JsonValue) -> set[str]:
    """The names in a field: text, number, an object with a guid, id or name, or a list of these."""
    if isinstance(value, list):
        return {name for entry in value for name in _values(entry)}
    if isinstance(value, dict):
        naming = next((value[key] for key in _NAMING_KEYS if value.get(key)), None)
        return set() if naming is None else _values(naming)
    if value is None or isinstance(value, bool):
        return set()
    name = " ".join(str(value).split()).casefold()
    return set() if name in _NOTHING else {name}
