"""meta.json, rule by rule: limits of values, what it must agree with, and what is said of its faults."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cls.errors import PackageError
from cls.package import meta as room
from cls.package.meta import (
    ModelMeta,
    parse_meta,
    parse_meta_text,
    published_schema,
    read_document,
    read_meta,
    schema_faults,
    write_meta,
)
from cls.package.processing_steps import steps_fault, steps_of
from tests.package.metas import make_meta, meta_dict

PARITY = {
    "runtime": "r", "samples": 1, "batch_sizes": [1], "max_probability_difference": 0, "mean_probability_difference": 0,
    "label_flips": 0, "label_flips_beyond_limit": 0, "limit": 0,
}  # fmt: skip


def changed(*path: str, to: Any) -> dict[str, Any]:
    """A good meta.json with one value changed."""
    content: dict[str, Any] = json.loads(json.dumps(meta_dict(parity={"onnx": PARITY})))
    part = content
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = to
    return content


def is_taken(content: dict[str, Any]) -> bool:
    """By the published schema and by the types alike."""
    faults = schema_faults(content)
    try:
        ModelMeta.model_validate(content)
    except ValueError:
        assert faults
        return False
    assert not faults
    return True


def test_names() -> None:
    assert (room.META_FILE_NAME, room.SCHEMA_VERSION, room.SCHEMA_FILE.name) == ("meta.json", 3, "meta.schema.json")
    assert (room.INPUT_NAME, room.OUTPUT_NAME, room.END_TO_END_OUTPUT_NAME) == ("images", "logits", "probabilities")


@pytest.mark.parametrize(
    ("path", "good", "bad"),
    [
        (("preprocessing", "height_px"), [], [0, 64.5]),
        (("preprocessing", "margin_rel"), [0, 3], [-0.01]),
        (("preprocessing", "fill_rgb"), [[0, 255, 7]], [[0, 256, 0], [-1, 0, 0], [1, 2]]),
        (("preprocessing", "mean_rgb"), [[-1, 0, 9.5]], [[1, 2], [1, 2, "x"]]),
        (("thresholds", "red hair"), [0, 1], [-0.01, 1.01]),
        (("labels",), [], [[""], [], "abc"]),
        (("group",), ["x"], ["", 3]),
        (("parity", "onnx", "samples"), [1], [0]),
        (("parity", "onnx", "batch_sizes"), [[1, 2]], [[]]),
        (("parity", "onnx", "max_probability_difference"), [0, 2], [-1e-9]),
        (("parity", "onnx", "label_flips"), [0], [-1]),
        (("parity", "onnx", "limit"), [0], [-1e-9]),
        (("parity", "onnx", "p999_probability_difference"), [0, None], [-1e-9]),
        (("parity", "onnx", "f1_change"), [-1, None, 0.5], ["x"]),
        (("parity", "onnx", "part"), ["validation", "training", "photos", None], ["test"]),
        (("parity", "onnx", "precision"), ["fp32", "fp16", "int8", None], ["fp64"]),
        (("digests", "weights"), ["0" * 64], ["0" * 63, "0" * 65, "A" * 64]),
        (("model_version",), ["1.0.0-rc.1+b", None], ["1.0", "v1.0.0", "1.0.0 "]),
        (("schema_version",), [1, 2], [0, "1"]),
        (("training", "run"), ["x"], [""]),
        (("inputs",), [], [[], [{"name": "", "datatype": "FP32", "shape": [1]}]]),
        (("activation",), ["sigmoid"], ["softmax"]),
        (("package",), [None], [{"format": "", "files": {"a": "0" * 64}}, {"format": "onnx", "files": {}}]),
        (("later",), [{"x": 1}, None], []),
    ],
)
def test_limits(path: tuple[str, ...], good: list[Any], bad: list[Any]) -> None:
    assert [is_taken(changed(*path, to=value)) for value in good] == [True] * len(good)
    assert [is_taken(changed(*path, to=value)) for value in bad] == [False] * len(bad)


PLAN = {"tensorrt_version": "10.1", "gpu": "x", "compute_capability": "8.9"}


@pytest.mark.parametrize(
    ("change", "is_good"),
    [({}, True), ({"compute_capability": "8"}, False), ({"compute_capability": "8.9a"}, False), ({"gpu": ""}, False),
     ({"tensorrt_version": ""}, False), ({"compute_capability": "10.0"}, True)],
)  # fmt: skip
def test_plans(change: dict[str, str], is_good: bool) -> None:
    package = {"format": "trt", "files": {"model.plan": "0" * 64}, "plan": {**PLAN, **change}}
    assert is_taken(changed("package", to=package)) is is_good


@pytest.mark.parametrize(
    ("change", "part", "values"),
    [
        ({"labels": ["a", "a"], "thresholds": {"a": 0.5}}, "labels", []),
        ({"thresholds": {"black hair": 0.5, "blonde hair": 0.5, "grey": 0.5}}, "thresholds", []),
        ({"outputs": [{"name": "l", "datatype": "FP32", "shape": [3, 2]}]}, "output", ["'l'", " 2 ", " 3 "]),
        (
            {"inputs": [{"name": "i", "datatype": "FP32", "shape": [-1, 3, 48, 64]}]},
            "input",
            ["'i'", "[-1, 3, 48, 64]", "[-1, 3, 64, 48]"],
        ),
        (
            {"inputs": [{"name": "i", "datatype": "UINT8", "shape": [-1, 64, 48, 3]}]},
            "input",
            ["'i'", "[-1, 64, 48, 3]", "[-1, -1, -1, 3]"],
        ),
        ({"steps": {"before": [], "inside": [], "after": []}}, "steps", ["steps.before", "decode"]),
        ({"preprocessing": {**meta_dict()["preprocessing"], "version": 2}}, "preprocessing", ["'letterbox'", "2"]),
    ],
)
def test_what_contradicts_itself(change: dict[str, Any], part: str, values: list[str]) -> None:
    with pytest.raises(PackageError) as caught:
        parse_meta(meta_dict(**change), "x")
    assert (caught.value.code, caught.value.where) == (f"package.meta_{part}", "x")
    assert all(value in caught.value.what for value in values)


def test_further_tensors_and_any_first_axis_are_taken() -> None:
    more = {"name": "m", "datatype": "FP16", "shape": [1]}
    inputs = [{"name": "i", "datatype": "FP32", "shape": [8, 3, 64, 48]}, more]
    outputs = [{"name": "o", "datatype": "FP32", "shape": [8, 3]}, more]
    meta = make_meta(inputs=inputs, outputs=outputs)
    assert (len(meta.inputs), len(meta.outputs), meta.is_end_to_end) == (2, 2, False)


def test_the_first_tensors_are_those_of_the_labels() -> None:
    more = {"name": "m", "datatype": "FP32", "shape": [-1, 9]}
    outputs = [{"name": "o", "datatype": "FP32", "shape": [-1, 2]}, more]
    with pytest.raises(PackageError) as caught:
        make_meta(outputs=outputs)
    assert caught.value.code == "package.meta_output"
    assert "'o'" in caught.value.what
    inputs = [{"name": "i", "datatype": "FP32", "shape": [-1, 9]}, more]
    with pytest.raises(PackageError) as caught:
        make_meta(inputs=inputs)
    assert caught.value.code == "package.meta_input"
    assert "'i'" in caught.value.what


def test_thresholds_in_output_order() -> None:
    thresholds = {"red hair": 0.25, "black hair": 0.75, "blonde hair": 0.5}
    assert make_meta(thresholds=thresholds).threshold_values == (0.75, 0.5, 0.25)


def test_where_faults_are() -> None:
    content = meta_dict(labels=["a", "b", 3], thresholds={"a b": 2, "c": 0.5})
    faults = schema_faults(content)
    assert any(fault.startswith("$.labels[2]: 3 is not of type 'string'") for fault in faults)
    assert schema_faults(meta_dict()) == []
    many = meta_dict(labels=list(range(8)))
    with pytest.raises(PackageError) as caught:
        parse_meta(many)
    assert caught.value.code == "package.invalid_meta"
    assert caught.value.line().count("$.labels[") == 5
    assert caught.value.what.endswith(" 3 more")
    with pytest.raises(PackageError) as caught:
        parse_meta(meta_dict(labels=list(range(5))))
    assert not caught.value.what.endswith(" more")
    long = schema_faults(meta_dict(group=["x" * 500]))[0]
    assert long.startswith("$.group: ['xxx")
    assert len(long) == len("$.group: ") + 161
    assert long.endswith("…")
    assert room._shortened("y" * 160) == "y" * 160
    assert room._json_path(("a", 0, "b c", "d")) == "$.a[0]['b c'].d"


@pytest.mark.parametrize(
    ("version", "code"),
    [(4, "package.unsupported_version"), ("3", "package.invalid_meta"), (0, "package.invalid_meta")],
)
def test_versions(version: object, code: str) -> None:
    with pytest.raises(PackageError) as caught:
        parse_meta(meta_dict(schema_version=version))
    assert caught.value.code == code
    assert parse_meta(meta_dict(schema_version=2)).schema_version == 2


def test_texts() -> None:
    content = json.dumps(meta_dict())
    for text in (content, content.encode(), b"\xef\xbb\xbf" + content.encode()):
        assert parse_meta_text(text) == make_meta()
    assert read_document("{}").content == {}
    assert read_document("{}").model_version is None
    assert read_document('{"model_version": 3}').with_model_version("1.0.0").model_version == "1.0.0"
    for text, code in ((b"\xff", "not_utf8"), ("{", "not_json"), ("[]", "invalid_meta")):
        with pytest.raises(PackageError) as caught:
            read_document(text, "x")
        assert (caught.value.code, caught.value.where) == (f"package.{code}", "x")
        assert "`cls export`" in (caught.value.hint or "")
    for constant in ("NaN", "Infinity", "-Infinity"):
        with pytest.raises(PackageError) as caught:
            read_document(f'{{"a": {constant}}}')
        assert caught.value.code == "package.not_json"
        assert constant in caught.value.what


def test_files(tmp_path: Path) -> None:
    file = tmp_path / "meta.json"
    meta = make_meta(group="цвет")
    write_meta(file, meta)
    assert read_meta(file) == meta
    assert "цвет" in meta.to_json()
    assert meta.to_json().endswith("}\n")
    assert '\n  "group"' in meta.to_json()
    with pytest.raises(PackageError) as caught:
        read_meta(tmp_path / "none.json")
    assert caught.value.code == "package.unreadable"
    assert caught.value.where == str(tmp_path / "none.json")
    file.write_text("{")
    with pytest.raises(PackageError) as caught:
        read_meta(file)
    assert caught.value.code == "package.not_json"
    assert caught.value.where == str(file)
    bad = meta.model_copy(update={"group": ""})
    with pytest.raises(PackageError):
        write_meta(file, bad)
    assert file.read_text() == "{"


def test_the_published_schema_says_which_it_is() -> None:
    schema = json.loads(published_schema())
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["title"] == "meta.json of a CLS model package, version 3"


@pytest.mark.parametrize("is_end_to_end", [False, True])
@pytest.mark.parametrize("is_kept", [False, True])
def test_who_does_what(is_end_to_end: bool, is_kept: bool) -> None:
    fill = [] if is_kept else ["fill_background"]
    steps = steps_of(is_end_to_end=is_end_to_end, is_background_kept=is_kept)
    if is_end_to_end:
        assert list(steps.before) == ["decode", "cut_out", *fill]
        assert steps.inside == ("letterbox", "scale", "normalise", "channels_first", "network", "activation")
        assert steps.after == ("thresholds",)
    else:
        assert list(steps.before) == ["decode", "cut_out", "letterbox", *fill, "scale", "normalise", "channels_first"]
        assert (steps.inside, steps.after) == (("network",), ("activation", "thresholds"))


@pytest.mark.parametrize(
    ("is_end_to_end", "output", "fault"),
    [
        (False, "logits", None), (False, "logits__0", None), (False, "anything", None), (True, "probabilities", None),
        (True, "probabilities__0", None), (True, "x", None),
        (False, "probabilities", "output 'probabilities' contradicts the steps: the activation is left to the caller"),
        (True, "logits__0", "output 'logits__0' contradicts the steps: the activation is inside the model"),
    ],
)  # fmt: skip
def test_steps_and_the_name_of_the_output(is_end_to_end: bool, output: str, fault: str | None) -> None:
    said = steps_of(is_end_to_end=is_end_to_end, is_background_kept=False)
    found = steps_fault(said, is_end_to_end=is_end_to_end, is_background_kept=False, output=output)
    assert found == fault


def test_steps_against_the_input_and_the_background() -> None:
    plain = steps_of(is_end_to_end=False, is_background_kept=False)

    def fault(**changes: Any) -> str | None:
        said = plain.model_copy(update=changes)
        return steps_fault(said, is_end_to_end=False, is_background_kept=False, output="x")

    of_floats = " (the input is of floats, the background is filled)"
    assert fault(after=("thresholds", "activation")) == (
        "steps.after is in another order than activation, thresholds" + of_floats
    )
    assert fault(inside=()) == "steps.inside lacks network" + of_floats
    assert fault(inside=("scale", "network")) == "steps.inside has also scale" + of_floats
    assert fault(inside=("scale",)) == "steps.inside lacks network and has also scale" + of_floats
    whole = steps_fault(plain, is_end_to_end=True, is_background_kept=True, output="x")
    assert whole == (
        "steps.before has also letterbox, fill_background, scale, normalise, channels_first"
        " (the input is UINT8, the background is kept)"
    )
