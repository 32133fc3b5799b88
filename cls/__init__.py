"""CLS: from an annotation service to a served, versioned classifier of people's attributes in photos."""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PYTHON_INTERFACE = ("LabelledPerson", "PeopleModel", "open_model")


def __getattr__(name: str) -> Any:
    """`cls.open_model` and its types come with what they need, and nothing of that with `import cls`."""
    if name in _PYTHON_INTERFACE:
        return getattr(import_module("cls.prediction.people_model"), name)
    raise AttributeError(f"module 'cls' has no attribute '{name}'")
