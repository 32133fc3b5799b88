"""What a public attribute set holds, whatever layout it was published in."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cls.dataset.split.file import PART_SUBSETS
from cls.wording import counted


@dataclass(frozen=True)
class SetPicture:
    """One picture of a set: one person, cut out already.

    Attributes:
        file: where it lies.
        name: its name in the set, unique there and safe as a file name.
        labels: one value a label: 1.0 present, 0.0 absent, NaN unknown.
        identity: who it shows, or the tracklet it is of; empty when the set does not say.
        row: file and row its labels come from, for messages.
        odd_values: what stands in its row in the place of 0 or 1, once a label; these labels are unknown.
    """

    file: Path
    name: str
    labels: tuple[float, ...]
    identity: str
    row: str
    odd_values: tuple[float, ...] = ()


@dataclass(frozen=True)
class AttributeSet:
    """A public attribute set.

    Attributes:
        layout: which one: `pa100k`, `peta` or `rapv2`.
        labels: names of the attributes that the papers evaluate, in the set's order.
        pictures: all of them, names are unique.
        official: name of a picture -> `train`, `valid` or `test` as published; empty where the layout has no split.
        problems: what could not be used, one line a row.
    """

    layout: str
    labels: tuple[str, ...]
    pictures: tuple[SetPicture, ...]
    official: Mapping[str, str]
    problems: tuple[str, ...] = field(default=(), repr=False)

    @property
    def has_identities(self) -> bool:
        """Whether every picture's person or tracklet is known."""
        return bool(self.pictures) and all(picture.identity for picture in self.pictures)


def some_pictures(whole: AttributeSet, limit: int) -> AttributeSet:
    """At most `limit` pictures of a set, spread evenly over its order, each official part in proportion.

    Every part that the set has keeps one picture at least.
    """
    if limit >= len(whole.pictures):
        return whole
    by_part: dict[str, list[SetPicture]] = {subset: [] for subset in ("", *PART_SUBSETS)}
    for picture in whole.pictures:
        by_part[whole.official.get(picture.name, "")].append(picture)
    kept: set[str] = set()
    for pictures in by_part.values():
        if pictures:
            count = max(round(limit * len(pictures) / len(whole.pictures)), 1)
            kept.update(pictures[index * len(pictures) // count].name for index in range(count))
    chosen = tuple(picture for picture in whole.pictures if picture.name in kept)
    official = {name: subset for name, subset in whole.official.items() if name in kept}
    return AttributeSet(whole.layout, whole.labels, chosen, official, whole.problems)


def value_of(raw: float) -> float:
    """A label value as the sets write it: 1 present, 0 absent; any other (RAP's 2: uncertain) is unknown."""
    return float(raw) if raw in (0, 1) else float("nan")


def odd_values_of(values: Sequence[float]) -> tuple[float, ...]:
    """The values of a row that are neither 0 nor 1."""
    return tuple(float(value) for value in values if value not in (0, 1))


def odd_cells(pictures: Iterable[SetPicture]) -> dict[str, int]:
    """How many cells of the labels hold something else than 0 and 1, by what they hold: `{"-1": 37}`."""
    counts = Counter(f"{value:g}" for picture in pictures for value in picture.odd_values)
    return dict(sorted(counts.items()))


def odd_cells_line(cells: Mapping[str, int]) -> str:
    """`37 label values are -1, 2 are 5: neither 0 nor 1, so unknown, and left out of training and measures`."""
    values = list(cells.items())
    (value, count), others = values[0], values[1:]
    first = f"{counted(count, 'label value')} {'is' if count == 1 else 'are'} {value}"
    more = "".join(f", {count} {'is' if count == 1 else 'are'} {value}" for value, count in others)
    return f"{first}{more}: neither 0 nor 1, so unknown, and left out of training and measures"


def first_file(root: Path, candidates: Sequence[str]) -> Path | None:
    """The first of some relative paths that exists below a folder."""
    return next((root / name for name in candidates if (root / name).exists()), None)


def listing_of(root: Path) -> str:
    """What lies in a folder, for a message: its first names."""
    names = sorted(path.name + ("/" if path.is_dir() else "") for path in root.iterdir())
    more = f", … ({len(names)} in all)" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more if names else "nothing"
