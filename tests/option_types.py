"""The types of the keyword options of `import cls`, made from the settings classes.

`python -m tests.option_types` writes them.
"""

from __future__ import annotations

from dataclasses import MISSING, Field, fields
from typing import Any

from cls.exporting.formats.files import FORMATS, ExportRequest
from cls.options import options_of
from cls.prediction.config import PredictConfig
from cls.segmentation.config import SegmentConfig
from cls.settings import REPOSITORY
from cls.training.config import TrainConfig

FILE = REPOSITORY / "cls" / "option_types.py"
_SETTINGS = {
    "SegmentOptions": (SegmentConfig, "cls.segment"),
    "TrainOptions": (TrainConfig, "cls.train"),
    "PredictOptions": (PredictConfig, "cls.open_model"),
    "ExportOptions": (ExportRequest, "cls.export"),
}
_MOST_CHOICES = 5  # of one that is spelt out
_FORMAT_LINES = f"Format = Literal[\n    {', '.join(map(repr, FORMATS))}\n]"
_OF_FORMATS = {
    "formats": "Collection[Format | Literal['all']] | Format | Literal['all'] | None",
    "require": "Format | None",
}
# Options that stand for several fields.
_COMPOSED = {"size": "str | tuple[int, int]"}


def _type_of(one: Field[Any]) -> str:
    """What may be given for a field."""
    written = str(one.type)
    if one.name in _OF_FORMATS:
        return _OF_FORMATS[one.name]
    choices, is_file = one.metadata.get("choices"), one.metadata.get("is_file", False)
    plain, *none = written.split(" | ")
    if choices and len(choices) <= _MOST_CHOICES:
        plain = plain.replace("str", f"Literal[{', '.join(repr(choice) for choice in choices)}]")
    if is_file:
        plain = plain.replace("str", "str | PathLike[str]")
    if plain.startswith("tuple"):
        one = plain.removeprefix("tuple[").removesuffix(", ...]")
        plain, none = f"{one} | Collection[{one}]", [part for part in none if part != one]
    return " | ".join([plain, *none])


def text() -> str:
    """The module."""
    lines = [
        '"""Keyword options of `import cls`, for type checkers and editors.',
        "",
        "Made from the settings classes: `python -m tests.option_types` writes it again.",
        '"""',
        "",
        "from __future__ import annotations",
        "",
        "from collections.abc import Collection",
        "from os import PathLike",
        "from typing import Literal, TypedDict",
        "",
        _FORMAT_LINES,
    ]
    for name, (settings, function) in _SETTINGS.items():
        options = options_of(settings)
        lines += ["", "", f"class {name}(TypedDict, total=False):", f'    """Options of `{function}`."""', ""]
        for one in fields(settings):
            if one.default is MISSING or not one.init:
                continue
            known = options.get(one.name)
            spoken = one.name if known is None else known.flag[2:].replace("-", "_")
            if spoken != one.name:
                lines.append(f"    {spoken}: {_COMPOSED.get(spoken, _type_of(one))}")
            lines.append(f"    {one.name}: {_type_of(one)}")
    return "\n".join(lines).replace("'", '"') + "\n"


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
