"""CLS: from an annotation service to a served, versioned classifier of people's attributes in photos.

`import cls` is fast: each function and class below is loaded when it is first used.

    load_group   loads a labelled group of photos     -> LoadedGroup
    segment      finds the people in every photo      -> BuildReport
    train        trains a classifier of a group       -> Run
    open_run     opens a finished run                 -> Run
    evaluate     measures a run on labelled photos    -> Metrics
    export       converts and packages a run          -> Exported
    open_model   opens a package, a run or a server   -> PeopleModel

Expected errors are `cls.ClsError` and its subclasses in `cls.errors`; `except cls.ClsError` catches them all.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cls import errors
    from cls.errors import ClsError
    from cls.exporting.formats.files import ExportRequest
    from cls.exporting.publish import Exported
    from cls.interface import Run, evaluate, export, load_group, open_run, segment, train
    from cls.loading.load import LoadedGroup
    from cls.metrics.scores import Metrics
    from cls.prediction.config import PredictConfig
    from cls.prediction.people_model import LabelledPerson, People, PeopleModel, open_model
    from cls.segmentation.builder import BuildReport
    from cls.segmentation.config import SegmentConfig
    from cls.training.config import TrainConfig

__version__ = "0.1.0"

__all__ = [
    "BuildReport",
    "ClsError",
    "ExportRequest",
    "Exported",
    "LabelledPerson",
    "LoadedGroup",
    "Metrics",
    "People",
    "PeopleModel",
    "PredictConfig",
    "Run",
    "SegmentConfig",
    "TrainConfig",
    "errors",
    "evaluate",
    "export",
    "load_group",
    "open_model",
    "open_run",
    "segment",
    "train",
]
_MODULES = {
    "cls.errors": ("ClsError",),
    "cls.exporting.formats.files": ("ExportRequest",),
    "cls.exporting.publish": ("Exported",),
    "cls.interface": ("Run", "evaluate", "export", "load_group", "open_run", "segment", "train"),
    "cls.loading.load": ("LoadedGroup",),
    "cls.metrics.scores": ("Metrics",),
    "cls.prediction.config": ("PredictConfig",),
    "cls.prediction.people_model": ("LabelledPerson", "People", "PeopleModel", "open_model"),
    "cls.segmentation.builder": ("BuildReport",),
    "cls.segmentation.config": ("SegmentConfig",),
    "cls.training.config": ("TrainConfig",),
}


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("cls.errors")
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'cls' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
