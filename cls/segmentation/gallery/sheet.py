"""The contact sheet of a gallery: every cut-out with its labels; pictures can be marked and taken into a badlist."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from os.path import relpath
from pathlib import Path
from urllib.parse import quote

from cls.bottle.dataset_file import GroupDataset, LabelledRow
from cls.bottle.layout import Bottle
from cls.files import write_text_atomic
from cls.people.person import Person
from cls.segmentation.gallery.journal import MaskJournal

CARDS_A_PAGE = 500
_TEMPLATE = Path(__file__).with_name("mask_sheet.html")


@dataclass(frozen=True)
class SheetEntry:
    """One card.

    Attributes:
        file: the cut-out's file name, beside the page.
        row: the labelled picture.
        person: who is seen.
        status: the picture's review status.
    """

    file: str
    row: LabelledRow
    person: Person
    status: str


def write_sheets(
    bottle: Bottle, folder: Path, journal: MaskJournal, dataset: GroupDataset, entries: Sequence[SheetEntry]
) -> list[Path]:
    """Writes index.html, and index_2.html and so on where there are many cut-outs; removes own pages left over.

    Pages refer to pictures by relative paths, so that a bottle can be copied anywhere.

    Returns:
        The pages, the first one first.
    """
    from jinja2 import Environment

    template = Environment(autoescape=True).from_string(_TEMPLATE.read_text(encoding="utf-8"))
    hues = {label: _hue(number) for number, label in enumerate(dataset.labels)}
    parts = [entries[start : start + CARDS_A_PAGE] for start in range(0, len(entries), CARDS_A_PAGE)] or [[]]
    names = [_page_name(number) for number in range(len(parts))]
    counts = Counter(label for entry in entries for label in _labels_of(dataset, entry.row) or ("",))
    photos = quote(relpath(bottle.pictures, folder))
    for name, part in zip(names, parts, strict=True):
        text = template.render(
            group=dataset.group,
            people=len(entries),
            photo_count=len({entry.row.path for entry in entries}),
            pages=names,
            page=name,
            labels=[{"name": label, "hue": hues[label], "count": counts[label]} for label in dataset.labels],
            none_count=counts[""],
            cards=[
                {
                    "file": quote(entry.file),
                    "photo": f"{photos}/{quote(entry.row.path)}",
                    "picture": entry.row.path,
                    "person": entry.person.id,
                    "cls": entry.person.cls,
                    "percent": round(entry.person.conf * 100),
                    "status": entry.status,
                    "chips": [{"name": label, "hue": hues[label]} for label in _labels_of(dataset, entry.row)],
                    "numbers": " ".join(
                        str(dataset.labels.index(label) + 1) for label in _labels_of(dataset, entry.row)
                    )
                    or "0",
                }
                for entry in part
            ],
        )
        journal.claim([name])
        write_text_atomic(folder / name, text)
        journal.finish(name, "page")
    left_over = [name for name in journal.files if name.endswith(".html") and name not in names]
    for name in left_over:
        if name == Path(name).name:
            (folder / name).unlink(missing_ok=True)
    if left_over:
        journal.forget(left_over)
    return [folder / name for name in names]


def _page_name(number: int) -> str:
    return "index.html" if number == 0 else f"index_{number + 1}.html"


def _labels_of(dataset: GroupDataset, row: LabelledRow) -> tuple[str, ...]:
    return tuple(label for label, value in zip(dataset.labels, row.labels, strict=True) if value > 0)


def _hue(number: int) -> str:
    """A colour a label, told apart from its neighbours by the golden angle."""
    return f"oklch(0.66 0.15 {(25 + number * 137.5) % 360:.0f})"
