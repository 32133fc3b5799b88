"""What a segmenter makes of a network's answers: photos of several shapes in one batch, and classes that are wanted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cls.errors import SegmentationError
from cls.people.photos import Person
from cls.segmentation import segmenter
from cls.segmentation.config import SegmenterConfig
from cls.segmentation.segmenter import PersonSegmenter, YoloSegmenter, check_model_file, load_segmenter

PEOPLE = {"girl": "female", "man": "male"}


class Answering:
    """Finds a girl, a man and a dog in every photo; the girl's box is as wide as the photo's level."""

    names = ("girl", "man", "dog")
    image_size_px = 64
    stride_px = 32
    fixed_input_px: tuple[int, int] | None = None

    def __init__(self) -> None:
        self.asked: list[tuple[int, ...]] = []

    def run(self, inputs_rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        count, height_px, width_px, _ = inputs_rgb.shape
        self.asked.append((count, height_px, width_px))
        levels = inputs_rgb[:, height_px // 2, width_px // 2, 0].tolist()
        rows = [
            [[4, 4, level, 28, 0.9, 0, 1], [40, 0, 60, 12, 0.8, 1, 1], [40, 16, 60, 28, 0.7, 2, 1]] for level in levels
        ]
        return np.array(rows, np.float32), np.full((count, 1, height_px // 4, width_px // 4), 9, np.float32)


def photo(height_px: int, width_px: int, level: int) -> NDArray[np.uint8]:
    return np.full((height_px, width_px, 3), level, np.uint8)


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Answering:
    made = Answering()
    monkeypatch.setattr(segmenter, "OnnxNetwork", lambda _: made)
    monkeypatch.setattr(segmenter, "UltralyticsNetwork", lambda _: pytest.fail("not a checkpoint"))
    return made


def loaded(folder: Path, people_classes: dict[str, str] | None = None, **options: Any) -> PersonSegmenter:
    path = folder / "best.ONNX"
    path.touch()
    config = SegmenterConfig(**options) if options else None
    return load_segmenter(path, people_classes=PEOPLE if people_classes is None else people_classes, config=config)


def people(found: list[Person]) -> list[tuple[str, float, list[int]]]:
    return [(one.cls, round(one.conf, 3), np.rint(one.box_xyxy_px).astype(int).tolist()) for one in found]


def test_photos_of_one_shape_go_together(tmp_path: Path, network: Answering) -> None:
    made = loaded(tmp_path)
    assert (made.model_version, made.classes) == ("best", ("female", "male", "dog"))
    photos = [photo(64, 64, 20), photo(32, 64, 30), photo(64, 64, 36), photo(128, 128, 16)]
    found = made.predict(photos)
    assert network.asked == [(3, 64, 64), (1, 32, 64)]
    others = [("male", 0.8, [40, 0, 60, 12]), ("dog", 0.7, [40, 16, 60, 28])]
    for number, right in ((0, 20), (1, 30), (2, 36)):
        assert people(found[number]) == [("female", 0.9, [4, 4, right, 28]), *others]
    # Twice as large as the input: so are the boxes.
    assert people(found[3])[0] == ("female", 0.9, [8, 8, 32, 56])
    (outline,) = found[0][1].polygons_xy_rel
    np.testing.assert_allclose(outline.max(axis=0) * 64, [60, 12], atol=1.01)
    assert made.predict([]) == []


def test_the_size_of_the_input(tmp_path: Path, network: Answering) -> None:
    loaded(tmp_path, image_size_px=32).predict([photo(64, 64, 20)])
    loaded(tmp_path).predict([photo(20, 64, 20)])
    network.fixed_input_px = (96, 64)
    loaded(tmp_path).predict([photo(64, 64, 20)])
    assert network.asked == [(1, 32, 32), (1, 32, 64), (1, 96, 64)]
    with pytest.raises(SegmentationError) as caught:
        loaded(tmp_path, image_size_px=31)
    assert caught.value.code == "segmentation.image_size_out_of_range"


def test_the_confidence(tmp_path: Path, network: Answering) -> None:
    assert network.names[2] == "dog"
    (found,) = loaded(tmp_path, confidence=0.75).predict([photo(64, 64, 20)])
    assert [one.cls for one in found] == ["female", "male"]


@pytest.mark.parametrize(
    ("people_classes", "options", "names"),
    [
        ({}, {}, ["girl", "man", "dog"]),
        (PEOPLE, {"only_mapped": True}, ["female", "male"]),
        (PEOPLE, {"classes": ["male", "dog"]}, ["male", "dog"]),
        (PEOPLE, {"classes": ["male", "dog"], "only_mapped": True}, ["male"]),
        ({"girl": "person", "dog": "person"}, {}, ["person", "man", "person"]),
    ],
)
def test_classes_that_are_wanted(
    tmp_path: Path, network: Answering, people_classes: dict[str, str], options: dict[str, Any], names: list[str]
) -> None:
    made = loaded(tmp_path, people_classes, **options)
    (found,) = made.predict([photo(64, 64, 20)])
    assert [one.cls for one in found] == names
    assert made.classes == tuple(dict.fromkeys(names))
    assert network.asked == [(1, 64, 64)]


def test_no_class_is_wanted(tmp_path: Path, network: Answering) -> None:
    with pytest.raises(SegmentationError) as caught:
        loaded(tmp_path, {}, only_mapped=True)
    assert (caught.value.code, caught.value.where) == ("segmentation.no_wanted_class", str(tmp_path / "best.ONNX"))
    assert f"({', '.join(network.names)})" in caught.value.what


def test_names_of_models(tmp_path: Path, network: Answering) -> None:
    longest = tmp_path / f"{'x' * 50}.onnx"
    longest.touch()
    check_model_file(longest)
    assert load_segmenter(longest, people_classes={}).model_version == "x" * 50
    for name, code in ((f"{'x' * 51}.onnx", "name_too_long"), ("best.bin", "unknown_suffix"), ("no.pt", "not_found")):
        path = tmp_path / name
        if code != "not_found":
            path.touch()
        with pytest.raises(SegmentationError) as caught:
            check_model_file(path)
        assert (caught.value.code, caught.value.where) == (f"segmentation.{code}", str(path))
    assert network.asked == []


def test_a_class_of_the_model_that_is_left_out_hides_nobody() -> None:
    """A dog that is not wanted is no better candidate for the place of a person."""
    made = YoloSegmenter(Answering(), model_version="m", names=(None, "male", None), confidence=0.4, image_size_px=64)
    assert people(made.predict([photo(64, 64, 20)])[0]) == [("male", 0.8, [40, 0, 60, 12])]
    assert made.classes == ("male",)
