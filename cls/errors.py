"""Every error a user can expect, under one root.

    ClsError
    ├── SettingsError        the configuration cannot be used
    ├── UsageError           options that do not go together
    ├── FileError            a file is missing, unreadable, not what it claims to be
    ├── BottleError          the data folder lacks something, or holds something unreadable
    ├── CollectorError       the collector cannot be reached, refuses, or answers nonsense
    ├── DatabaseError        the pictures database cannot be reached or used
    ├── SegmentationError    a segmentation model cannot be loaded or run
    ├── YoloError            archives, a YOLO dataset or a YOLO training cannot be used
    ├── SampleError          a sample photo set cannot be made
    ├── AttributeSetError    a public attribute set is not in its published layout
    ├── TrainingError        a training cannot start or go on
    │   └── NetworkError     a backbone cannot be trained here
    ├── ExportError          a conversion cannot be made
    │   └── ParityError      a conversion was made and disagrees with its source
    ├── PackageError         a model package (zip, meta.json, config.pbtxt) is broken
    │   └── SignatureError   a package is not signed by a trusted key, or was changed since it was signed
    ├── PredictionError      a model cannot be run on the given photos
    ├── StorageError         the model storage cannot be reached, or refuses
    └── InstallError         a package that an extra brings is not installed

Each says what happened, where (file, row, URL, version), and what to do next; `cls.cli.command` prints it as one line.
Each has a code that stays when its words change, such as `collector.login_refused`: its class's area, and the case.
An error or a report that lists several faults keeps each as a `Fault`, which has a code, too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import ClassVar, Self

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_LONGEST_LINE = 300
# What each extra of pyproject.toml brings, as it is imported; the first that has a module is named.
MODULES_OF_EXTRAS = {
    "predict": ("alembic", "cv2", "geventhttpclient", "polars", "psycopg", "sqlalchemy", "stamina"),
    "train": ("lightning", "matplotlib", "onnxscript", "onnxslim", "timm", "torch", "torchmetrics", "torchvision"),
    "yolo": ("ultralytics",),
}


def first_line(error: BaseException) -> str:
    """The first line of a foreign error, after its type, without a terminal's colours: at most 300 characters."""
    lines = _COLOURS.sub("", str(error)).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:_LONGEST_LINE] if lines else 'no details'}"


class Fault(str):
    """One of several faults that an error or a report lists: a sentence with a code, and text in every other respect.

    Args:
        what: what is wrong, in one sentence without a final stop.
        code: the case within the class's area; empty in what is read from a file, which keeps the sentence alone.
    """

    area: ClassVar[str] = "cls"
    code: str

    def __new__(cls, what: str, *, code: str = "") -> Self:
        """The sentence, with its code."""
        fault = super().__new__(cls, what)
        fault.code = f"{cls.area}.{code}" if code else cls.area
        return fault

    @classmethod
    def of(cls, error: ClsError, about: str = "") -> Self:
        """An error as one fault of several: its code, and its sentence after what it is about."""
        fault = cls(f"{about} {error.what}" if about else error.what)
        fault.code = error.code
        return fault


class ClsError(Exception):
    """An expected error.

    Args:
        what: what happened, in one sentence without a final stop.
        code: the case within the class's area, lower case with underscores; empty: none of its own.
        where: file, row, URL or version it happened at, if it is not in `what`.
        hint: what the user can do next, in one sentence without a final stop.
        faults: what `what` lists, where that are several things.

    Attributes:
        code: area and case, `area.case`, or the area alone; programs and tests go by it.
    """

    area: ClassVar[str] = "cls"

    def __init__(
        self,
        what: str,
        *,
        code: str = "",
        where: object = None,
        hint: str | None = None,
        faults: Sequence[Fault] = (),
    ) -> None:
        self.what = what
        self.code = f"{self.area}.{code}" if code else self.area
        self.where = None if where is None else str(where)
        self.hint = hint
        self.faults = tuple(faults)
        super().__init__(self.line())

    def line(self) -> str:
        """The whole error on one line, as printed."""
        text = self.what if self.where is None else f"{self.where}: {self.what}"
        if self.hint:
            text = f"{text}; {self.hint}"
        return " ".join(text.split())

    @property
    def case(self) -> str:
        """The part of the code within the area, to raise it again in another one."""
        return self.code.partition(".")[2]

    @property
    def codes(self) -> tuple[str, ...]:
        """Its code, and those of the faults it lists."""
        return (self.code, *(fault.code for fault in self.faults))

    def to_dict(self) -> dict[str, object]:
        """Its parts, as `--json` prints them."""
        faults = {"faults": [fault.code for fault in self.faults]} if self.faults else {}
        return {"code": self.code, "what": self.what, "where": self.where, "hint": self.hint, **faults}


class SettingsError(ClsError):
    """The configuration cannot be used; lists every problem at once."""

    area = "settings"


class UsageError(ClsError):
    """Options that do not go together, or a value an option cannot take."""

    area = "usage"


class UsageFault(Fault):
    """One of the faults of a command's options."""

    area = "usage"


class FileError(ClsError):
    """A file is missing, cannot be read or written, or is not what it claims to be."""

    area = "file"


class BottleError(ClsError):
    """The data folder lacks something a step needs, or holds something unreadable."""

    area = "bottle"


class CollectorError(ClsError):
    """The collector cannot be reached, refuses, or answers something that is not its interface."""

    area = "collector"


class DatabaseError(ClsError):
    """The pictures database cannot be reached or used."""

    area = "database"


class DatabaseFault(Fault):
    """What is wrong with a row of the pictures database."""

    area = "database"


class SegmentationError(ClsError):
    """A person segmentation model cannot be loaded or run."""

    area = "segmentation"


class YoloError(ClsError):
    """Annotation archives, a YOLO dataset or a YOLO training cannot be used."""

    area = "yolo"


class SampleError(ClsError):
    """A sample photo set cannot be made as asked."""

    area = "sample"


class AttributeSetError(ClsError):
    """A public attribute set is not in its published layout, or a file of it cannot be read."""

    area = "attribute_set"


class TrainingError(ClsError):
    """A training cannot start or cannot go on."""

    area = "training"


class NetworkError(TrainingError):
    """A backbone cannot be trained on this machine with these settings, whatever the data."""

    area = "network"


class ExportError(ClsError):
    """A conversion cannot be made."""

    area = "export"


class ParityError(ExportError):
    """A conversion was made, and it disagrees with the network it was made from."""

    area = "parity"


class ParityFault(Fault):
    """Where a conversion departs from the network it was made from, or what that looks like."""

    area = "parity"


class PackageError(ClsError):
    """A model package (zip, meta.json, config.pbtxt) is broken or incomplete."""

    area = "package"


class PackageFault(Fault):
    """One of the faults of a package."""

    area = "package"


class SignatureError(PackageError):
    """A package is not signed by a trusted key, or was changed since it was signed."""

    area = "signature"


class PredictionError(ClsError):
    """A model cannot be run on the given photos."""

    area = "prediction"


class StorageError(ClsError):
    """The model storage cannot be reached, or refuses a request."""

    area = "storage"


class InstallError(ClsError):
    """A package that an extra brings is not installed."""

    area = "install"

    @classmethod
    def of(cls, error: ModuleNotFoundError, extra: str = "predict") -> Self | None:
        """What to install; None where the module is of no extra.

        Args:
            error: names the module.
            extra: what the command needs as a whole, so that one installation is enough.
        """
        module = (error.name or "").partition(".")[0]
        found = next((name for name, modules in MODULES_OF_EXTRAS.items() if module in modules), None)
        if found is None:
            return None
        if found != "predict":
            extra = found
        return cls(
            f"{module} is not installed; it comes with the extra '{extra}'",
            code="extra_missing",
            hint=f"pip install 'cls[{extra}]'",
        )
