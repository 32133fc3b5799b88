from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from cls.errors import YoloError
from cls.people.polygons import mask_of_polygons
from cls.yolo.coco import coco_of_pictures, parse_coco

SQUARE = [10.0, 10, 30, 10, 30, 40, 10, 40]


def document(*annotations: dict[str, Any]) -> dict[str, Any]:
    return {
        "categories": [{"id": 1, "name": "girl"}, {"id": 7, "name": " man "}],
        "images": [{"id": 3, "file_name": "a/b.jpg", "width": 60, "height": 50, "picset": "p1"}],
        "annotations": [{"id": 1, "image_id": 3, "category_id": 7, "iscrowd": 0, **one} for one in annotations],
    }


def test_polygons_and_run_lengths_of_one_shape_are_alike() -> None:
    mask = np.zeros((50, 60), np.uint8)
    mask[10:40, 10:30] = 1
    runs, value = [0], 0
    for pixel in mask.T.reshape(-1):
        if pixel != value:
            runs.append(0)
            value = pixel
        runs[-1] += 1
    read = parse_coco(
        document({"segmentation": [SQUARE]}, {"segmentation": {"size": [50, 60], "counts": runs}, "iscrowd": 1}),
        where="file",
    )
    (picture,) = read.pictures
    assert (picture.file_name, picture.picset) == ("a/b.jpg", "p1")
    assert [one.class_name for one in picture.annotations] == ["man", "man"]
    assert [one.is_crowd for one in picture.annotations] == [False, True]
    drawn = [
        mask_of_polygons([part / (60, 50) for part in one.polygons_xy_px], 50, 60) > 0 for one in picture.annotations
    ]
    assert (drawn[1] == (mask > 0)).all()
    assert np.count_nonzero(drawn[0] ^ drawn[1]) < 80


def test_unreadable_annotations_are_left_out_and_told() -> None:
    read = parse_coco(
        document(
            {"segmentation": [SQUARE]},
            {"segmentation": [SQUARE[:5]]},
            {"segmentation": []},
            {"segmentation": [SQUARE], "category_id": 99},
            {"segmentation": [SQUARE], "image_id": 99},
            {"segmentation": {"size": [50, 60], "counts": [1, 2]}},
            {"segmentation": {"size": [5, 6], "counts": [30]}},
            {"segmentation": [[float("nan")] * 6]},
        ),
        where="file",
    )
    assert len(read.pictures[0].annotations) == 1
    assert len(read.problems) == 7
    assert all(problem.startswith("file: annotation 1 ") for problem in read.problems)


@pytest.mark.parametrize("content", [None, [], {}, {"images": [], "annotations": []}, {"categories": 3}])
def test_something_else_is_refused(content: Any) -> None:
    with pytest.raises(YoloError) as caught:
        parse_coco(content, where="file")
    assert (caught.value.code, caught.value.where) == ("yolo.not_coco", "file")


def test_what_is_written_is_read_again() -> None:
    read = parse_coco(document({"segmentation": [SQUARE, [1, 1, 5, 1, 5, 5]]}), where="file")
    written = json.loads(coco_of_pictures(read.pictures, ["girl", "man"]))
    again = parse_coco(written, where="again")
    assert again.class_names == ("girl", "man")
    for one, other in zip(
        read.pictures[0].annotations[0].polygons_xy_px, again.pictures[0].annotations[0].polygons_xy_px, strict=True
    ):
        assert np.allclose(one, other, atol=0.01)
    (annotation,) = written["annotations"]
    assert annotation["bbox"] == [1, 1, 29, 39]
    assert annotation["area"] == pytest.approx(20 * 30 + 8, rel=0.12)
