"""The settings of a demonstration. An option is declared once, at its field."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cls.errors import UsageFault
from cls.options import check_options, option


@dataclass(frozen=True, kw_only=True)
class DemoOptions:
    """What is shown, and where. Checked when made: all problems are listed at once."""

    folder: Path = option(Path("demo"), "", "where everything goes", metavar="DIR")
    source: Path | None = option(None, "", "folder of labelled photos", metavar="DIR", unset="the sample set, made")
    group: str | None = option(
        None, "", "group of labels to train", metavar="GROUP", unset="top_color of the sample set"
    )
    segmenter: Path | None = option(None, "", "YOLO segmentation model", metavar="FILE", unset="the sample set's")
    limit: int | None = option(None, "", "take only so many photos of the source; fewer are too few to train", ge=40)

    def __post_init__(self) -> None:
        faults = []
        if self.source is not None and not self.source.is_dir():
            faults.append(UsageFault(f"there is no folder of photos at {self.source}", code="not_found"))
        if self.segmenter is not None and not self.segmenter.is_file():
            faults.append(UsageFault(f"there is no segmentation model at {self.segmenter}", code="not_found"))
        groups = _groups_of(self.source)
        offered = f" (there are: {', '.join(groups)})" if groups else ""
        if self.source is not None and self.group is None:
            what = f"say which group of {self.source} to train: GROUP=...{offered}"
            faults.append(UsageFault(what, code="missing_option"))
        if self.group is not None and groups and self.group not in groups:
            what = f"there is no group '{self.group}' in {self.source or 'the sample photo set'}{offered}"
            faults.append(UsageFault(what, code="unknown_group"))
        if self.source is not None and self.segmenter is None:
            what = "photos of your own need a segmentation model of your own: SEGMENTER=path/to/best.pt"
            faults.append(UsageFault(what, code="missing_option"))
        check_options(self, "cls demo", faults)


def _groups_of(source: Path | None) -> list[str]:
    """The groups a source says it has; none when it does not say."""
    if source is None:
        from cls.sample.figure.wardrobe import GROUPS

        return list(GROUPS)
    try:
        return [str(name) for name in json.loads((source / "groups.json").read_text())]
    except (OSError, ValueError):
        return []
