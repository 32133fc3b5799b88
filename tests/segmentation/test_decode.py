"""The decoder against a network's answer made up so that the truth is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cls.errors import SegmentationError
from cls.people.polygons import mask_of_polygons
from cls.segmentation.segmenter import Letterbox, candidates_of, non_max_suppression, objects_of

PROTOTYPES = 4
CLASSES = 2


def prototypes_with(mask: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Prototypes the first of which is positive inside the mask."""
    prototypes = np.zeros((PROTOTYPES, *mask.shape), np.float32)
    prototypes[0] = np.where(mask > 0, 4.0, -4.0)
    return prototypes


def dense_answer(rows: list[tuple[list[float], list[float]]]) -> NDArray[np.float32]:
    """(corner box, score a class) rows -> the dense layout; every mask is the first prototype."""
    answer = np.zeros((4 + CLASSES + PROTOTYPES, len(rows)), np.float32)
    for column, (box, scores) in enumerate(rows):
        left, top, right, bottom = box
        answer[:4, column] = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
        answer[4:6, column] = scores
        answer[6, column] = 1.0
    return answer


def ellipse(height: int, width: int) -> NDArray[np.uint8]:
    mask = np.zeros((height, width), np.uint8)
    cv2.ellipse(mask, (width // 2, height // 2), (width // 5, height // 3), 0, 0, 360, 255, -1)
    return mask


@pytest.mark.parametrize("photo", [(480, 640), (900, 300), (64, 64), (33, 500), (2000, 3000)])
def test_outlines_lie_where_the_mask_is(photo: tuple[int, int]) -> None:
    box = Letterbox.around(*photo, 256, 32)
    coarse = (box.input_height_px // 4, box.input_width_px // 4)
    answer = dense_answer([([0, 0, box.input_width_px, box.input_height_px], [0.9, 0.1])])
    candidates = non_max_suppression(candidates_of(answer, CLASSES, PROTOTYPES, confidence=0.4))
    (found,) = objects_of(candidates, prototypes_with(ellipse(*coarse)), box)
    drawn = mask_of_polygons(found.polygons_xy_rel, *photo) > 0
    # The truth: the coarse mask scaled up to the input, and the input's inside scaled to the photo.
    big = cv2.resize(ellipse(*coarse), (box.input_width_px, box.input_height_px), interpolation=cv2.INTER_LINEAR)
    (left, top), (height, width) = box.offset_px, box.inner_px
    inside = big[top : top + height, left : left + width]
    truth = cv2.resize(inside, (photo[1], photo[0]), interpolation=cv2.INTER_LINEAR) > 127
    iou = np.count_nonzero(drawn & truth) / np.count_nonzero(drawn | truth)
    assert iou > 0.93
    assert found.box_xyxy_px == pytest.approx((0, 0, photo[1], photo[0]), abs=0.05 * max(photo))


def test_both_layouts_say_the_same() -> None:
    rows = [([10.0, 10, 60, 90], [0.9, 0.1]), ([80.0, 20, 120, 100], [0.2, 0.7]), ([0.0, 0, 5, 5], [0.1, 0.3])]
    dense = candidates_of(dense_answer(rows), CLASSES, PROTOTYPES, confidence=0.4)
    ends = np.array([[*box, max(scores), int(np.argmax(scores)), 1, 0, 0, 0] for box, scores in rows], np.float32)
    ended = candidates_of(ends, CLASSES, PROTOTYPES, confidence=0.4)
    assert dense.class_numbers.tolist() == ended.class_numbers.tolist() == [0, 1]
    assert np.allclose(dense.boxes_xyxy_px, ended.boxes_xyxy_px)
    assert np.allclose(dense.coefficients, ended.coefficients)


def test_doubles_of_one_class_go_and_neighbours_stay() -> None:
    rows = [
        ([10.0, 10, 60, 90], [0.8, 0.0]),
        ([11.0, 10, 61, 91], [0.9, 0.0]),  # the same person, surer
        ([45.0, 10, 95, 90], [0.7, 0.0]),  # a neighbour
    ]
    kept = non_max_suppression(candidates_of(dense_answer(rows), CLASSES, PROTOTYPES, confidence=0.4))
    assert kept.scores.tolist() == pytest.approx([0.9, 0.7])


def test_one_person_found_as_two_classes_counts_once() -> None:
    box = Letterbox.around(128, 128, 128, 32)
    rows = [([20.0, 10, 100, 120], [0.0, 0.6]), ([21.0, 10, 101, 120], [0.8, 0.0])]
    kept = non_max_suppression(candidates_of(dense_answer(rows), CLASSES, PROTOTYPES, confidence=0.4))
    assert len(kept.scores) == 2
    found = objects_of(kept, prototypes_with(ellipse(32, 32)), box)
    assert [(one.class_number, round(one.score, 2)) for one in found] == [(0, 0.8)]


def test_an_empty_mask_is_nobody() -> None:
    box = Letterbox.around(128, 128, 128, 32)
    kept = candidates_of(dense_answer([([0.0, 0, 40, 40], [0.9, 0.0])]), CLASSES, PROTOTYPES, confidence=0.4)
    assert objects_of(kept, prototypes_with(np.zeros((32, 32), np.uint8)), box) == []


def test_nothing_found_is_nobody() -> None:
    empty = candidates_of(dense_answer([([0.0, 0, 40, 40], [0.1, 0.0])]), CLASSES, PROTOTYPES, confidence=0.4)
    assert objects_of(non_max_suppression(empty), prototypes_with(ellipse(8, 8)), Letterbox.around(9, 9, 32, 32)) == []


def test_an_unknown_layout_is_refused() -> None:
    with pytest.raises(SegmentationError) as caught:
        candidates_of(np.zeros((5, 7), np.float32), CLASSES, PROTOTYPES, confidence=0.4)
    assert caught.value.code == "segmentation.unknown_output_layout"
