"""docs/reference/python.md: the public Python interface, whose docstrings Sphinx reads."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator

import cls
from cls.options import options_of
from tests.reference.configuration import meanings_of

# Classes whose fields are options -> the command that explains them.
_OF_COMMANDS = {
    "TrainConfig": "train",
    "SegmentConfig": "segment",
    "PredictConfig": "infer",
    "ExportRequest": "export",
}
_INTRODUCTION = """\
# Python interface

`import cls` offers what the commands do as functions. It is fast: each part is loaded when it is used. A script calls
the functions under `if __name__ == "__main__":`, since Python may import it again in worker processes. This page is
generated from the code: `python -m tests.reference` writes it, and the site adds signatures and descriptions.

```python
import cls

cls.load_group("hair_color", source="photos")
cls.segment("person_models/best.pt")
run = cls.train("hair_color", epochs=10)
exported = cls.export(run, formats=["onnx"])
people = cls.open_model(exported.folder)("photo.jpg")
```

[`docs/notebook.ipynb`](../notebook.ipynb) goes through all of it on drawn photos.
"""

_ERRORS = """\
## Errors

Every expected error is a `cls.ClsError`: `except cls.ClsError` catches them all. `code` names the case and stays when
the words change. `what`, `where` and `hint` are the parts of the message, and `faults` lists the single ones of
several. What to do for each code: [Error codes](errors.md).
"""


def page() -> str:
    """The page as Markdown."""
    public = {name: getattr(cls, name) for name in cls.__all__ if name not in ("errors", "ClsError")}
    functions = {name: value for name, value in public.items() if inspect.isfunction(value)}
    classes = {name: value for name, value in public.items() if inspect.isclass(value)}
    lines = [_INTRODUCTION, "| name | what it is |", "|---|---|"]
    for name, value in {**functions, **classes}.items():
        lines.append(f"| `cls.{name}` | {_first_sentence(value)} |")
    lines += ["| `cls.ClsError` | The root of all expected errors; the tree is in `cls.errors` |", "", "## Functions"]
    for name in functions:
        lines += ["", f"### `{name}`", "", *_directive("autofunction", f"cls.{name}")]
    lines += ["", "## Classes"]
    for name, value in classes.items():
        lines += ["", f"### `{name}`", ""]
        if name in _OF_COMMANDS:
            lines += [*_options(name, value), ""]
            lines += _directive("autoclass", f"cls.{name}", ":no-members:")
        else:
            # Functions return them: how they are made is of no use.
            members = (":members:", ":inherited-members: object, BaseModel", ":exclude-members: model_config")
            lines += [*_attributes(value), *_directive("autoclass", f"cls.{name}()", *members)]
    return "\n".join([*lines, "", *_errors()]) + "\n"


def _first_sentence(value: object) -> str:
    return " ".join((inspect.getdoc(value) or "").partition("\n\n")[0].split()).rstrip(".").replace("|", "\\|")


def _directive(*lines: str) -> Iterator[str]:
    kind, name, *options = lines
    yield from ("```{eval-rst}", f".. {kind}:: {name}", *(f"   {option}" for option in options), "```")


def _options(name: str, kind: type) -> Iterator[str]:
    command = _OF_COMMANDS[name]
    count = len(options_of(kind))
    yield f"Its {count} fields are the options of [`cls {command}`](commands.md#cls-{command}), which explains them."


def _attributes(kind: type) -> Iterator[str]:
    """The fields of a class that its docstring does not explain, since their names and types say enough."""
    annotated = {name: text for one in reversed(kind.__mro__) for name, text in inspect.get_annotations(one).items()}
    known = {name for one in kind.__mro__ for name in meanings_of(one)}
    plain = [
        f"`{name}` (`{text}`)"
        for name, text in annotated.items()
        if not name.startswith("_") and name not in known and isinstance(text, str) and not text.startswith("ClassVar")
    ]
    if plain:
        text = f"Attributes beside those below: {', '.join(plain)}."
        yield from textwrap.wrap(text, 120, break_long_words=False, break_on_hyphens=False)
        yield ""


def _errors() -> Iterator[str]:
    yield _ERRORS
    tree = (cls.errors.__doc__ or "").partition("\n\n")[2].partition("\n\n")[0]
    yield "```text"
    yield inspect.cleandoc(tree)
    yield "```\n"
    yield from _directive("autoclass", "cls.errors.ClsError", ":members:")
