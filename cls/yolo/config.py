"""The settings of a YOLO dataset and of a YOLO training. An option is declared once, at its field."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cls.options import check_options, option


@dataclass(frozen=True)
class DatasetConfig:
    """What goes into a dataset. Checked when made: all problems are listed at once."""

    val_share: float = option(0.15, "", "fraction kept for validation", gt=0, lt=1, metavar="F")
    class_names: tuple[str, ...] = option(
        (),
        "",
        "classes to keep, in the order of their numbers",
        flag="--classes",
        dest="classes",
        metavar="NAME",
        unset="all, sorted",
    )

    def __post_init__(self) -> None:
        check_options(self, "cls yolo dataset")


@dataclass(frozen=True)
class YoloTraining:
    """What is trained, and how. Checked when made: all problems are listed at once.

    Attributes:
        data: the dataset's data.yaml.
        model: a checkpoint or a description, see `resolve_model`.
        project: folder of the runs.
    """

    data: Path
    model: str
    epochs: int = field(metadata={"help": "passes over the training part", "section": "", "ge": 1, "is_required": True})
    batch: int = option(16, "", "pictures a step", ge=1)
    image_size_px: int = option(
        640,
        "",
        "side of the squares that pictures are letterboxed into",
        flag="--image-size",
        dest="image_size",
        ge=32,
        metavar="PX",
    )
    project: Path = Path("person_models/runs")
    seed: int = option(0, "", "random seed of weights and augmentation", ge=0)
    nominal_batch: int = option(
        64, "", "pictures for each update of the weights, a multiple of the batch; for small datasets: 16", ge=1
    )
    patience: int = option(0, "", "end after N epochs without improvement; 0: never", ge=0)

    def __post_init__(self) -> None:
        check_options(self, "cls yolo train")

    def arguments(self) -> dict[str, str | int]:
        """What identifies this training among the runs of a project, in ultralytics' words."""
        return {
            "data": str(self.data.resolve()),
            "model": str(Path(self.model).resolve()) if Path(self.model).exists() else self.model,
            "epochs": self.epochs,
            "batch": self.batch,
            "imgsz": self.image_size_px,
            "seed": self.seed,
            "nbs": self.nominal_batch,
            "patience": self.patience,
        }
