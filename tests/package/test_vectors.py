"""Conformance vectors in a zip: what is written, what is read, and what is refused."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cls.errors import PackageError
from cls.package import vectors as module
from cls.package.archive import ZipContents, open_zip
from cls.package.meta import ModelMeta
from cls.package.packing import VECTORS_FOLDER, PackedModel, write_package
from cls.package.vectors import (
    MAX_CASES,
    Case,
    CaseJson,
    Vectors,
    crop_file,
    has_vectors,
    read_vectors,
    tensor_file,
    vectors_as_files,
)
from cls.package.verifying import verify_zip
from tests.package.metas import make_meta
from tests.package.zips import onnx_bytes

HEIGHT_PX, WIDTH_PX = 64, 48
LABELS = ("black hair", "blonde hair", "red hair")
END_TO_END = {
    "inputs": [{"name": "images", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}],
    "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}],
}


def said(name: str, **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "photo": f"vectors/{name}.png",
        "polygons_xy_rel": [[[0.25, 0.125], [0.5, 0.5], [0.75, 0.125]]],
        "box_xyxy_px": [1.5, 2.5, 30.0, 40.0],
        "frame_xyxy_px": [1, 2, 31, 41],
        "max_level_difference": 2,
        "probabilities": dict(zip(LABELS, (0.25, 0.5, 0.75), strict=True)),
        **changes,
    }


def case(name: str, *, crop: tuple[int, int] = (HEIGHT_PX, WIDTH_PX), tensor: Any = None, **changes: Any) -> Case:
    rng = np.random.default_rng(len(name))
    tensor = rng.normal(size=(1, 3, HEIGHT_PX, WIDTH_PX)).astype(np.float32) if tensor is None else tensor
    picture = rng.integers(0, 256, (*crop, 3), np.uint8)
    return Case(CaseJson.model_validate(said(name, **changes)), f"photo of {name}".encode(), picture, tensor)


def vectors_of(*cases: Case) -> Vectors:
    return Vectors(cases, "ONNX Runtime 1.22", 0.001)


@contextmanager
def opened(folder: Path, files: Mapping[str, bytes], meta: ModelMeta | None = None) -> Iterator[ZipContents]:
    """A package with these files under `vectors/`."""
    path, meta = folder / "model_onnx.zip", meta or make_meta()
    own: dict[str, Path | bytes] = {"model.onnx": onnx_bytes(folder, 1, make_meta()), **files}
    write_package(path, meta, PackedModel("onnx", "onnxruntime_onnx", own))
    with open_zip(path) as contents:
        yield contents


def test_what_is_written() -> None:
    found = vectors_as_files(vectors_of(case("one"), case("two", photo="vectors/two.jpg")))
    assert sorted(found) == sorted(
        [
            "vectors/vectors.json",
            *("vectors/one.png", "vectors/one.crop.png", "vectors/one.tensor.npy"),
            *("vectors/two.jpg", "vectors/two.crop.png", "vectors/two.tensor.npy"),
        ]
    )
    one = case("one")
    assert found["vectors/one.png"] == b"photo of one"
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(found["vectors/one.crop.png"]))), one.crop_rgb)
    np.testing.assert_array_equal(np.load(io.BytesIO(found["vectors/one.tensor.npy"]), allow_pickle=False), one.tensor)
    text = found["vectors/vectors.json"].decode()
    assert text.endswith("}\n")
    content = json.loads(text)
    assert (content["runtime"], content["max_probability_difference"]) == ("ONNX Runtime 1.22", 0.001)
    assert content["cases"] == [said("one"), said("two", photo="vectors/two.jpg")]
    assert content["about"].startswith("Drawn photos and outlines")
    assert found == vectors_as_files(vectors_of(case("one"), case("two", photo="vectors/two.jpg")))
    kept = vectors_as_files(vectors_of(case("a", note="größer")))["vectors/vectors.json"]
    assert "größer".encode() in kept, "in letters, not in escapes"


def test_tensors_are_written_in_one_order() -> None:
    tensor = np.asfortranarray(np.random.default_rng(0).normal(size=(1, 3, HEIGHT_PX, WIDTH_PX)).astype(np.float32))
    plain = np.ascontiguousarray(tensor)
    assert vectors_as_files(vectors_of(case("a", tensor=tensor))) == vectors_as_files(
        vectors_of(case("a", tensor=plain))
    )


def test_what_is_written_is_read(tmp_path: Path) -> None:
    cases = case("one"), case("two", photo="vectors/two.jpg", note="kept")
    with opened(tmp_path, vectors_as_files(vectors_of(*cases))) as contents:
        assert has_vectors(contents)
        found = read_vectors(contents, make_meta())
        verified = verify_zip(tmp_path / "model_onnx.zip")
    assert (found.runtime, found.max_probability_difference, len(found.cases)) == ("ONNX Runtime 1.22", 0.001, 2)
    for one, expected in zip(found.cases, cases, strict=True):
        assert (one.record, one.photo) == (expected.record, expected.photo)
        np.testing.assert_array_equal(one.crop_rgb, expected.crop_rgb)
        np.testing.assert_array_equal(one.tensor, expected.tensor)
        assert one.tensor.dtype == np.float32
    assert (crop_file(found.cases[0].record), tensor_file(found.cases[0].record)) == (
        "vectors/one.crop.png",
        "vectors/one.tensor.npy",
    )
    assert any("2 conformance vectors" in line for line in verified.checked)
    assert not any("conformance" in line for line in verified.problems)


def test_a_package_without_vectors(tmp_path: Path) -> None:
    with opened(tmp_path, {}) as contents:
        assert not has_vectors(contents)
        with pytest.raises(PackageError) as caught:
            read_vectors(contents, make_meta())
        assert caught.value.code == "package.no_vectors"
    assert (str(caught.value.where), caught.value.hint) == (str(tmp_path / "model_onnx.zip"), "export again")


def test_models_with_the_preprocessing_inside_take_the_cut_out(tmp_path: Path) -> None:
    meta = make_meta(**END_TO_END)
    assert meta.is_end_to_end
    crop = case("a", crop=(90, 70))
    right = Case(crop.record, crop.photo, crop.crop_rgb, crop.crop_rgb[None])
    with opened(tmp_path, vectors_as_files(vectors_of(right)), meta) as contents:
        (found,) = read_vectors(contents, meta).cases
        np.testing.assert_array_equal(found.tensor, found.crop_rgb[None])
        with pytest.raises(PackageError) as caught:
            read_vectors(contents, make_meta())
        assert caught.value.code == "package.wrong_shape"
    for wrong in (crop.crop_rgb[None].astype(np.float32), crop.crop_rgb[None, ..., :2], crop.crop_rgb[None, 1:]):
        files = vectors_as_files(vectors_of(Case(crop.record, crop.photo, crop.crop_rgb, wrong)))
        with opened(tmp_path, files, meta) as contents, pytest.raises(PackageError) as caught:
            read_vectors(contents, meta)
        assert caught.value.code == "package.wrong_shape"


@pytest.mark.parametrize(
    ("shape", "kind", "crop"),
    [
        ((1, 3, WIDTH_PX, HEIGHT_PX), np.float32, (HEIGHT_PX, WIDTH_PX)),
        ((1, HEIGHT_PX, WIDTH_PX, 3), np.float32, (HEIGHT_PX, WIDTH_PX)),
        ((2, 3, HEIGHT_PX, WIDTH_PX), np.float32, (HEIGHT_PX, WIDTH_PX)),
        ((1, 3, HEIGHT_PX, WIDTH_PX), np.float64, (HEIGHT_PX, WIDTH_PX)),
        ((1, 3, HEIGHT_PX, WIDTH_PX), np.float32, (WIDTH_PX, HEIGHT_PX)),
        ((1, 3, HEIGHT_PX, WIDTH_PX), np.float32, (HEIGHT_PX, WIDTH_PX + 1)),
    ],
)
def test_what_the_model_does_not_take(tmp_path: Path, shape: tuple[int, ...], kind: Any, crop: tuple[int, int]) -> None:
    files = vectors_as_files(vectors_of(case("good"), case("wrong", crop=crop, tensor=np.zeros(shape, kind))))
    with opened(tmp_path, files) as contents:
        with pytest.raises(PackageError) as caught:
            read_vectors(contents, make_meta())
        assert caught.value.code == "package.wrong_shape"
        assert "case 'wrong'" in caught.value.what
        assert (str(caught.value.where), caught.value.hint) == (str(contents.path), "export again")
        problems = verify_zip(tmp_path / "model_onnx.zip").problems
    assert any(line.startswith("conformance vectors: ") and "case 'wrong'" in line for line in problems)


def edited(change: Callable[[dict[str, Any]], None]) -> dict[str, bytes]:
    files = vectors_as_files(vectors_of(case("one"), case("two")))
    content = json.loads(files["vectors/vectors.json"])
    change(content)
    return {**files, "vectors/vectors.json": json.dumps(content).encode()}


def first(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content["cases"][0].update(changes)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("runtime"),
        lambda content: content.update(cases=[]),
        lambda content: content.update(cases=[said(f"c{n}") for n in range(MAX_CASES + 1)]),
        lambda content: content.update(max_probability_difference=1.01),
        lambda content: content.update(max_probability_difference=-0.01),
        lambda content: content["cases"][0].update(name="two"),
        first(name="UPPER"),
        first(name="a" * 41),
        first(name=""),
        first(photo="vectors/one.gif"),
        first(photo="../one.png"),
        first(photo=f"vectors/{'a' * 41}.png"),
        first(max_level_difference=256),
        first(max_level_difference=-1),
        first(box_xyxy_px=[0, 0, 1]),
        first(box_xyxy_px=[0, 0, 1, 1_000_001]),
        first(box_xyxy_px=[-1_000_001, 0, 1, 1]),
        first(box_xyxy_px=[float("nan"), 0, 1, 1]),
        first(frame_xyxy_px=[0, 0, 1.5, 1]),
        first(polygons_xy_rel=[[[0, 0]]] * 101),
        first(polygons_xy_rel=[[[0, 0]] * 10_001]),
        first(polygons_xy_rel=[[[0, 0, 0]]]),
        first(probabilities={**dict.fromkeys(LABELS, 0.5), LABELS[0]: 1.5}),
        first(probabilities=dict.fromkeys(LABELS[:2], 0.5)),
        first(probabilities=dict.fromkeys(LABELS[::-1], 0.5)),
    ],
)
def test_vectors_that_are_refused(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    with opened(tmp_path, edited(change)) as contents, pytest.raises(PackageError) as caught:
        read_vectors(contents, make_meta())
    assert str(caught.value.where) == f"{tmp_path / 'model_onnx.zip'}!vectors/vectors.json"
    assert caught.value.hint == "export again"


def test_two_cases_of_one_name(tmp_path: Path) -> None:
    with opened(tmp_path, edited(first(name="two"))) as contents, pytest.raises(PackageError) as caught:
        read_vectors(contents, make_meta())
    assert caught.value.code == "package.duplicate_name"


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.update(max_probability_difference=1.0),
        lambda content: content.update(max_probability_difference=0),
        lambda content: content.update(another="key"),
        lambda content: content["cases"][1].update(photo="vectors/one.png"),
        first(max_level_difference=255),
        first(max_level_difference=0),
        first(box_xyxy_px=[-1_000_000, 0, 1, 1_000_000]),
        first(polygons_xy_rel=[[[0, 0]]] * 100),
        first(polygons_xy_rel=[[[0, 0]] * 10_000]),
    ],
)
def test_vectors_within_the_bounds(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    with opened(tmp_path, edited(change)) as contents:
        assert len(read_vectors(contents, make_meta()).cases) == 2


def test_as_many_cases_as_allowed(tmp_path: Path) -> None:
    assert MAX_CASES == 32
    tensor = np.zeros((1, 3, HEIGHT_PX, WIDTH_PX), np.float32)
    with opened(tmp_path, vectors_as_files(vectors_of(*(case(f"c{n}", tensor=tensor) for n in range(32))))) as contents:
        assert [one.record.name for one in read_vectors(contents, make_meta()).cases] == [f"c{n}" for n in range(32)]


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        ("vectors.json", b"{", "vectors.json"),
        ("vectors.json", b"\xff", "vectors.json"),
        ("vectors.json", b"[" * 100_000, "vectors.json"),
        ("one.crop.png", b"no picture", "one.crop.png"),
        ("one.tensor.npy", b"no array", "one.tensor.npy"),
    ],
)
def test_damaged_files(tmp_path: Path, name: str, content: bytes, where: str) -> None:
    files = vectors_as_files(vectors_of(case("one"))) | {f"vectors/{name}": content}
    with opened(tmp_path, files) as contents, pytest.raises(PackageError) as caught:
        read_vectors(contents, make_meta())
    assert str(caught.value.where) == f"{tmp_path / 'model_onnx.zip'}!vectors/{where}"
    assert caught.value.hint == "export again"


def test_pickled_arrays_are_not_read(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    files = vectors_as_files(vectors_of(case("one"))) | {"vectors/one.tensor.npy": buffer.getvalue()}
    with opened(tmp_path, files) as contents, pytest.raises(PackageError) as caught:
        read_vectors(contents, make_meta())
    assert caught.value.code == "package.not_an_array"


@pytest.mark.parametrize("name", ["one.crop.png", "one.tensor.npy", "one.png"])
def test_files_that_are_missing(tmp_path: Path, name: str) -> None:
    files = vectors_as_files(vectors_of(case("one")))
    del files[f"vectors/{name}"]
    with opened(tmp_path, files) as contents, pytest.raises(PackageError):
        read_vectors(contents, make_meta())


@pytest.mark.parametrize(
    ("limit", "name"),
    [
        ("_MAX_JSON_BYTES", "vectors/vectors.json"),
        ("_MAX_PICTURE_BYTES", "vectors/one.crop.png"),
        ("_MAX_TENSOR_BYTES", "vectors/one.tensor.npy"),
    ],
)
def test_files_that_are_too_large(tmp_path: Path, limit: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = vectors_as_files(vectors_of(case("one")))
    with opened(tmp_path, files) as contents:
        monkeypatch.setattr(module, limit, len(files[name]))
        assert len(read_vectors(contents, make_meta()).cases) == 1
        monkeypatch.setattr(module, limit, len(files[name]) - 1)
        with pytest.raises(PackageError) as caught:
            read_vectors(contents, make_meta())
        assert caught.value.code == "package.too_large"
        assert f"{len(files[name]) - 1} bytes" in caught.value.what


def test_the_limits() -> None:
    """4 MB of JSON, 32 MB of a picture, 256 MB of a tensor."""
    assert (module._MAX_JSON_BYTES, module._MAX_PICTURE_BYTES) == (4 * 2**20, 32 * 2**20)
    assert module._MAX_TENSOR_BYTES == 256 * 2**20
    assert VECTORS_FOLDER == "vectors/"
