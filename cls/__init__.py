"""CLS: from an annotation service to a served, versioned classifier of people's attributes in photos.

`import cls` is fast: each function and class below is loaded when it is first used.

    load_group   loads a labelled group of photos     -> LoadedGroup
    segment      finds the people in every photo      -> BuildReport
    train        trains a classifier of a group       -> Run
    open_run     opens a finished run                 -> Run
    evaluate     measures a run on labelled photos    -> Metrics
    export       converts and packages a run          -> Exported
    open_model   opens a package, a run or a server   -> PeopleModel
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cls.interface import Run, evaluate, export, load_group, open_run, segment, train
    from cls.prediction.people_model import LabelledPerson, People, PeopleModel, open_model
    from cls.training.config import TrainConfig

__version__ = "0.1.0"

__all__ = [
    "LabelledPerson",
    "People",
    "PeopleModel",
    "Run",
    "TrainConfig",
    "evaluate",
    "export",
    "load_group",
    "open_model",
    "open_run",
    "segment",
    "train",
]
_MODULES = {
    "cls.interface": ("Run", "evaluate", "export", "load_group", "open_run", "segment", "train"),
    "cls.prediction.people_model": ("LabelledPerson", "People", "PeopleModel", "open_model"),
    "cls.training.config": ("TrainConfig",),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module 'cls' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})
