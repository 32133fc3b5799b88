"""The page docs/reference/meta-json.md, made of the types of meta.json."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from cls.metrics.scores import Measures, Metrics
from cls.package.meta import SCHEMA_VERSION, ModelMeta
from cls.package.processing_steps import STEP_MEANINGS, STEP_RULES, StepsMeta, steps_of

_WIDTH = 120
_METRICS = "metrics.validation"
_SHA256_PATTERN = "^[0-9a-f]{64}$"
_INTRODUCTION = f"""\
# meta.json

`meta.json` at the root of a model package says everything needed to use the model. `cls package show --json
model_onnx.zip` prints it under the key `meta`. How a package is checked, signed and used elsewhere:
[Packages](../packages.md).

The JSON schema is [`cls/package/meta.schema.json`](../../cls/package/meta.schema.json), version {SCHEMA_VERSION}. Keys
that a reader does not know are to be ignored. Optional keys that may be ignored without using the model wrongly do not
raise the schema version. Packages of earlier versions open; a CLS that knows an earlier version alone refuses later
ones.

| schema version | what it adds |
|---|---|
| 1 | |
| 2 | `package` |
| 3 | `preprocessing.version` |

Names of formats: `onnx`, `onnx_fp16`, `onnx_int8`, `openvino`, `openvino_int8`, `torchscript`, `trt`, `trt_fp16`,
`trt_int8`. Differences under `parity` are rounded up to a millionth.

This page is generated from the code: `python -m tests.reference` writes it.
"""
_METRICS_TEXT = """\
What was measured on the validation part of the split. `null` where a measure is not defined or was not measured;
everything is optional. Other keys of `metrics` are those of the run's `metrics.json`. In a zip, `ece`, `ece_adaptive`
and `brier` are those of the zip's own format; where the parity check did not ask the people of the validation part,
they are left out.
"""


_KEPT_BACKGROUND = """
`fill_background` is missing where the photo's own background is kept. Steps that contradict the input, the output's
name or the preprocessing are refused when the package is opened. `preprocessing` describes all of the steps, whoever
does them."""


@dataclass(frozen=True)
class JsonField:
    """One key of an object: its name, its type in words, whether it must be there, and what it means."""

    name: str
    type: str
    is_required: bool
    meaning: str


def fields_of(kind: type[BaseModel]) -> list[JsonField]:
    """The keys of an object, in the order of the schema."""
    schema = kind.model_json_schema(mode="validation")
    required = schema.get("required", ())
    attributes = _attributes_of(kind)
    return [
        JsonField(name, _type_of(found), name in required, found.get("description") or attributes.get(name, ""))
        for name, found in schema["properties"].items()
    ]


def objects_of(kind: type[BaseModel], path: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """An object and those below it: where each stands, such as `parity.<format>`, and its type."""
    yield path, kind
    for name, field in kind.model_fields.items():
        for suffix, inner in _models_in(field.annotation):
            yield from objects_of(inner, f"{path}.{name}{suffix}".lstrip("."))


def _models_in(annotation: object, suffix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    origin, inner = get_origin(annotation), get_args(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield suffix, annotation
    elif origin is dict:
        yield from _models_in(inner[1], f"{suffix}.<key>")
    elif origin in (Union, UnionType) or origin is tuple:
        for one in inner:
            if one is not NoneType:
                yield from _models_in(one, suffix + ("[]" if origin is tuple else ""))


def _attributes_of(kind: type[BaseModel]) -> dict[str, str]:
    """What the docstrings of a class and of its parents say of their attributes."""
    found: dict[str, str] = {}
    for parent in reversed(kind.__mro__):
        _, _, listed = (parent.__doc__ or "").partition("Attributes:\n")
        for match in re.finditer(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", listed, re.MULTILINE):
            found[match[1]] = " ".join(match[2].split())
    return found


def _type_of(schema: Mapping[str, Any]) -> str:
    """A type in words."""
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return "step" if values == list(STEP_MEANINGS) else " or ".join(f"`{value}`" for value in values)
    if "anyOf" in schema:
        return " or ".join("`null`" if one.get("type") == "null" else _type_of(one) for one in schema["anyOf"])
    if not schema.keys() - {"title", "default"} or schema.get("$ref", "").endswith("/JsonValue"):
        return "any value"
    kind = schema.get("type", "object")
    if kind == "array":
        items = schema.get("prefixItems") or [schema.get("items", {})]
        return f"array of {f'{len(items)}, each ' if 'prefixItems' in schema else ''}{_type_of(items[0])}"
    if kind == "object":
        values = schema.get("additionalProperties")
        return f"object of {_type_of(values)}" if isinstance(values, dict) and values else "object"
    if schema.get("pattern") == _SHA256_PATTERN:
        return "SHA-256"
    bounds = [
        f"{word} {schema[key]:g}"
        for key, word in (("minimum", "from"), ("exclusiveMinimum", "above"), ("maximum", "to"))
        if key in schema
    ]
    names = {"string": "text", "number": "number", "integer": "whole number", "boolean": "true or false"}
    return " ".join([names[kind], *bounds])


def wrapped(text: str, indent: str = "") -> str:
    """A text in lines of the page's width; all but the first are indented."""
    lines = textwrap.wrap(text, _WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)
    return "\n".join(lines)


def _section(paths: Sequence[str], kind: type[BaseModel]) -> Iterator[str]:
    title, *others = [f"`{path}`" for path in paths]
    yield f"\n## {'The file' if kind is ModelMeta else title}\n"
    if others:
        yield wrapped(f"Also {', '.join(others)}.") + "\n"
    first = " ".join((kind.__doc__ or "").partition("\n\n")[0].split())
    yield wrapped(as_json(first)) + "\n"
    own = fields_of(kind)
    if kind is Metrics:
        yield _METRICS_TEXT
    elif issubclass(kind, Measures) and kind is not Measures:
        own = [one for one in own if one.name not in Measures.model_fields]
        yield "The keys of `metrics.validation.macro`, and:\n"
    elif not any(one.meaning for one in own):  # the class's docstring says it of all of them
        yield wrapped(f"- {', '.join(f'`{one.name}`' for one in own)} ({own[0].type})", "  ")
        return
    for one in own:
        required = ", required" if one.is_required else ""
        yield wrapped(f"- `{one.name}` ({one.type}{required}): {_meaning_of(kind, one)}", "  ")


def _meaning_of(kind: type[BaseModel], one: JsonField) -> str:
    # The schema has the steps and their rules in one text; here they are lists.
    text = one.meaning.partition(". ")[0] if kind is StepsMeta else one.meaning
    return as_json(text).removesuffix(".")


def as_json(text: str) -> str:
    """A text with `null` for None."""
    return re.sub(r"\bNone\b", "`null`", text)


def _steps() -> Iterator[str]:
    plain, inside = (steps_of(is_end_to_end=is_inside, is_background_kept=False) for is_inside in (False, True))
    yield ""
    for name, steps in (("A plain package", plain), ("With `--end-to-end`", inside)):
        parts = [f"`{part}` {', '.join(getattr(steps, part))}" for part in ("before", "inside", "after")]
        yield wrapped(f"- {name}: {'; '.join(parts)}", "  ")
    yield _KEPT_BACKGROUND
    yield "\n### The steps\n"
    for name, meaning in STEP_MEANINGS.items():
        yield wrapped(f"- `{name}`: {meaning}", "  ")
    yield "\n### The rules of preprocessing version 2\n"
    for name, rule in STEP_RULES.items():
        yield wrapped(f"- `{name}`: {rule}", "  ")


def page() -> str:
    """The page as Markdown."""
    places: dict[type[BaseModel], list[str]] = {}
    for path, kind in (*objects_of(ModelMeta), *objects_of(Metrics, _METRICS)):
        places.setdefault(kind, []).append(_named(path))
    lines = [_INTRODUCTION.rstrip()]
    for kind, paths in places.items():
        lines += _section(paths, kind)
        if kind is StepsMeta:
            lines += _steps()
    return "\n".join(lines) + "\n"


def _named(path: str) -> str:
    return path.replace("parity.<key>", "parity.<format>").replace("<key>", "<label>")
