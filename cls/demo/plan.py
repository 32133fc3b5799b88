"""What a demonstration runs on: photos, group, segmentation model, training options, folders."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from cls.errors import UsageError
from cls.sample.figure.wardrobe import GROUPS
from cls.settings import REPOSITORY
from cls.wording import counted

SAMPLE_MODEL = REPOSITORY / "cls" / "sample" / "person_model" / "best.pt"
SAMPLE_PHOTOS = 1200
SAMPLE_SEED = 1


@dataclass(frozen=True)
class DemoPlan:
    """One demonstration.

    Attributes:
        folder: everything it makes goes here.
        group: the group of labels to train.
        source: folder of labelled photos; None for the sample photo set, which is made.
        segmenter: the segmentation model the storage offers as `other/best.pt`.
        limit: how many of the source's photos are served; None for all.
        train_options: options of train.py beside `--cat`.
    """

    folder: Path
    group: str
    source: Path | None
    segmenter: Path
    limit: int | None
    train_options: tuple[str, ...]

    @property
    def photos(self) -> Path:
        """The folder of labelled photos that the collector serves."""
        return self.source if self.source is not None else self.folder / "photos"

    @property
    def bottle(self) -> Path:
        """The demonstration's own data folder."""
        return self.folder / "classification_data"

    @property
    def storage(self) -> Path:
        """The root of the demonstration's model storage."""
        return self.folder / "storage"

    @property
    def person_model(self) -> Path:
        """Where scp puts the segmentation model."""
        return self.folder / "person_models" / "best.pt"

    def signature(self) -> dict[str, str]:
        """What a folder was made from: a demonstration of other photos must not go on in it."""
        return {
            "group": self.group,
            "source": "sample" if self.source is None else self.source.name,
            "limit": str(self.limit),
            "segmenter": self.segmenter.name if self.source is not None else "sample",
        }


def plan_demo(
    folder: Path, *, group: str | None, source: Path | None, segmenter: Path | None, limit: int | None
) -> DemoPlan:
    """Completes what the user gave with what suits the photos.

    Raises:
        UsageError: a file or folder does not exist, or the options do not fit together; lists every problem.
    """
    problems = []
    if source is not None and not source.is_dir():
        problems.append(f"there is no folder of photos at {source}")
    if segmenter is not None and not segmenter.is_file():
        problems.append(f"there is no segmentation model at {segmenter}")
    if limit is not None and limit < 40:
        problems.append(f"a limit of {counted(limit, 'photo')} is too few to train and validate on: give 40 or more")
    if source is not None and group is None:
        offered = ", ".join(_groups_of(source))
        problems.append(
            f"say which group of {source} to train: GROUP=..." + (f" (there are: {offered})" if offered else "")
        )
    groups = _groups_of(source)
    if group is not None and groups and group not in groups:
        problems.append(
            f"there is no group '{group}' in {source or 'the sample photo set'} (there are: {', '.join(groups)})"
        )
    if source is not None and segmenter is None:
        problems.append("photos of your own need a segmentation model of your own: SEGMENTER=path/to/best.pt")
    if problems:
        raise UsageError("; ".join(problems))
    is_sample = source is None
    return DemoPlan(
        folder=folder,
        group=group or "top_color",
        source=source,
        segmenter=segmenter or SAMPLE_MODEL,
        limit=limit,
        train_options=SAMPLE_TRAINING if is_sample else PHOTO_TRAINING,
    )


# Chosen by measurement, benchmarks/RESULTS.md: a small input shows a colour, real photographs need more of it.
SAMPLE_TRAINING = ("--arch", "lite0", "--size", "160x112", "--epochs", "6", "--batch", "16")
PHOTO_TRAINING = ("--arch", "lite0", "--size", "256x192", "--epochs", "10", "--batch", "16")


def _groups_of(source: Path | None) -> list[str]:
    """The groups a source says it has; none when it does not say."""
    if source is None:
        return list(GROUPS)
    try:
        return [str(name) for name in json.loads((source / "groups.json").read_text())]
    except (OSError, ValueError):
        return []
