from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cls.errors import PackageError
from cls.package.meta import SCHEMA_FILE, parse_meta, parse_meta_text, published_schema, read_meta, write_meta
from tests.package.metas import make_meta, meta_dict


def test_published_schema_is_what_the_types_say() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == published_schema(), (
        "write published_schema() into meta.schema.json"
    )


def test_schema_is_a_valid_schema() -> None:
    from jsonschema import Draft202012Validator

    Draft202012Validator.check_schema(json.loads(published_schema()))


@given(labels=st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=6, unique=True))
def test_written_meta_is_read_back(labels: list[str]) -> None:
    meta = make_meta(tuple(labels))
    again = parse_meta_text(meta.to_json())
    assert again == meta
    assert again.threshold_values == (0.5,) * len(labels)


def test_file_round_trip_with_version_and_unknown_keys(tmp_path: Path) -> None:
    meta = make_meta(later_key={"x": 1}).with_model_version("0.0.2")
    write_meta(tmp_path / "meta.json", meta)
    again = read_meta(tmp_path / "meta.json")
    assert again.model_version == "0.0.2"
    assert again.model_dump(mode="json")["later_key"] == {"x": 1}


def test_preprocessing_is_the_one_that_runs() -> None:
    preprocessing = make_meta().preprocessing_object()
    assert (preprocessing.height_px, preprocessing.width_px) == (64, 48)
    assert preprocessing.to_dict() == make_meta().model_dump(mode="json")["preprocessing"]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"labels": ["black hair", 2, "red hair"]}, "$.labels[1]"),
        ({"labels": []}, "$.labels"),
        ({"thresholds": {"black hair": 1.2, "blonde hair": 0.5, "red hair": 0.5}}, "$.thresholds.black hair"),
        ({"schema_version": 0}, "$.schema_version"),
        ({"activation": "softmax"}, "$.activation"),
        ({"digests": {"dataset": "x", "split": "b" * 64, "weights": "c" * 64}}, "$.digests.dataset"),
        ({"model_version": "1.0"}, "$.model_version"),
        ({"group": None}, "$.group"),
    ],
)
def test_a_fault_is_named_by_its_path(change: dict[str, object], place: str) -> None:
    with pytest.raises(PackageError) as caught:
        parse_meta(meta_dict(**change), "some.zip")
    assert caught.value.code == "package.invalid_meta"
    assert place.replace("$.thresholds.black hair", "$.thresholds") in caught.value.line()
    assert caught.value.line().startswith("some.zip: ")


def test_every_fault_is_named_at_once() -> None:
    content = meta_dict(activation="x")
    del content["labels"], content["digests"]
    with pytest.raises(PackageError) as caught:
        parse_meta(content)
    assert caught.value.code == "package.invalid_meta"
    assert all(word in caught.value.line() for word in ("'labels'", "'digests'", "$.activation"))


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"thresholds": {"black hair": 0.5}}, "thresholds"),
        ({"outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, 4]}]}, "output"),
        ({"inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, 3, 9, 9]}]}, "input"),
    ],
)
def test_parts_that_contradict_each_other_are_refused(change: dict[str, object], part: str) -> None:
    with pytest.raises(PackageError) as caught:
        parse_meta(meta_dict(**change))
    assert caught.value.code == f"package.meta_{part}"


@pytest.mark.parametrize("text", [b"\xff", b"", b"[]", b"{", b'{"a": NaN}', b"[" * 100_000])
def test_texts_that_are_no_meta(text: bytes) -> None:
    with pytest.raises(PackageError):
        parse_meta_text(text)


@pytest.mark.parametrize("version", [1, None])
def test_packages_of_version_1_still_open(version: int | None) -> None:
    content = meta_dict()
    del content["schema_version"]
    if version is not None:
        content["schema_version"] = version
    meta = parse_meta(content)
    assert (meta.schema_version, meta.package) == (1, None)


def test_a_later_version_asks_for_an_update() -> None:
    with pytest.raises(PackageError) as caught:
        parse_meta(meta_dict(schema_version=4, labels="of another kind by then"))
    assert caught.value.code == "package.unsupported_version"
    assert "schema version 4" in caught.value.what
    assert "up to 3" in caught.value.what


def test_missing_file_says_what_next(tmp_path: Path) -> None:
    with pytest.raises(PackageError) as caught:
        read_meta(tmp_path / "meta.json")
    assert caught.value.code == "package.unreadable"
    assert caught.value.where == str(tmp_path / "meta.json")


def test_digests_of_segmentation_models(tmp_path: Path) -> None:
    content = meta_dict()
    assert parse_meta(content).digests.segmentation_models == {"best": ("d" * 64,)}
    del content["digests"]["segmentation_models"]  # of a package made before they were kept
    older = parse_meta(content)
    assert older.digests.segmentation_models == {}
    write_meta(tmp_path / "meta.json", older)
    assert json.loads((tmp_path / "meta.json").read_text())["digests"]["segmentation_models"] == {}
    content["digests"]["segmentation_models"] = {"best": ["no digest"]}
    with pytest.raises(PackageError) as caught:
        parse_meta(content)
    assert caught.value.code == "package.invalid_meta"
    assert "segmentation_models.best[0]" in caught.value.what
