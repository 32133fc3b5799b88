"""Pixels of augmented views: one warp, one colour matrix, one blend, where the person is, straight into the batch."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from cls.dataset.augment import FLAT, PICTURE, Views
from cls.dataset.backgrounds import Backgrounds
from cls.people.preprocess import Preprocessing


def compose(
    rgb_and_mask: Sequence[NDArray[np.uint8]],
    boxes_xyxy_px: Sequence[tuple[int, int, int, int]],
    views: Views,
    preprocessing: Preprocessing,
    backgrounds: Sequence[Backgrounds],
) -> NDArray[np.uint8]:
    """Changed views of people, as the network will see them.

    Args:
        rgb_and_mask: each uint8 (height, width, 4), picture and mask of the cut-out cache.
        boxes_xyxy_px: where in each the person is; outside, the mask is 0.
        views: what was drawn for them.
        preprocessing: size, colour around the person.
        backgrounds: sources of pictures to put behind people; none: the flat colour of inference stays there.

    Returns:
        uint8 (batch, preprocessing.height_px, preprocessing.width_px, 3).
    """
    height_px, width_px = preprocessing.height_px, preprocessing.width_px
    batch = np.empty((len(views), height_px, width_px, 3), np.uint8)
    plain = np.empty((height_px, width_px, 3), np.uint8)
    plain[:] = preprocessing.fill_rgb
    flats = _flat_matrices(views.flat_rgb)
    if preprocessing.is_background_kept:
        # All of the photo matters, and colours change with it.
        boxes_xyxy_px = [(0, 0, picture.shape[1], picture.shape[0]) for picture in rgb_and_mask]
        corners, targets = views.matrices, [[0, 0, width_px, height_px]] * len(views)
    else:
        corners, targets = _targets(views.matrices, boxes_xyxy_px, height_px, width_px)
    blender = _Blender(preprocessing)
    for number, picture in enumerate(rgb_and_mask):
        view = batch[number]
        ground = None if preprocessing.is_background_kept else background_of(views, number, backgrounds)
        if ground is not None:
            np.copyto(view, ground)
        elif views.grounds[number] == FLAT and not preprocessing.is_background_kept:
            cv2.rectangle(view, (0, 0), (width_px, height_px), views.flat_rgb[number].tolist(), cv2.FILLED)
        else:
            np.copyto(view, plain)
        left, top, right, bottom = boxes_xyxy_px[number]
        x0, y0, x1, y1 = targets[number]
        if x1 > x0 and y1 > y0 and right > left and bottom > top:
            person, target = picture[top:bottom, left:right], view[y0:y1, x0:x1]
            blender.blend(
                person, corners[number], views.colours[number], target, None if ground is not None else flats[number]
            )
        top, left, box_height_px, box_width_px = views.boxes_yxhw_px[number].tolist()
        if box_height_px:
            view[top : top + box_height_px, left : left + box_width_px] = preprocessing.fill_rgb
    return batch


class _Blender:
    """Puts people over what is in a view already; holds the memory that every view needs."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._is_background_kept = preprocessing.is_background_kept
        self._around = (*map(float, preprocessing.fill_rgb), 0.0)
        pixels = preprocessing.height_px * preprocessing.width_px
        self._warped = np.empty(pixels * 4, np.uint8)
        self._person, self._mask, self._back = (np.empty(pixels * 3, np.uint8) for _ in range(3))

    def blend(
        self,
        picture: NDArray[np.uint8],
        matrix: NDArray[np.float64],
        colour: NDArray[np.float32],
        target: NDArray[np.uint8],
        flat: NDArray[np.float32] | None,
    ) -> None:
        """Warps a picture with mask onto a part of a view.

        Args:
            picture: uint8 (height, width, 4).
            matrix: float64 (2, 3), its pixels -> those of `target`.
            colour: float32 (3, 4).
            target: uint8 (height, width, 3), holds the background; changed.
            flat: float32 (3, 4), mask -> background, where that is one colour.
        """
        height_px, width_px = target.shape[:2]
        pixels, shape = height_px * width_px, (height_px, width_px, 3)
        warped = self._warped[: pixels * 4].reshape(height_px, width_px, 4)
        person, mask, back = (part[: pixels * 3].reshape(shape) for part in (self._person, self._mask, self._back))
        cv2.warpAffine(picture, matrix, (width_px, height_px), warped, cv2.INTER_LINEAR, borderValue=self._around)
        cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB, person)
        cv2.transform(person, colour, person)
        if self._is_background_kept:
            np.copyto(target, person)
            return
        cv2.cvtColor(cv2.extractChannel(warped, 3), cv2.COLOR_GRAY2RGB, mask)
        cv2.multiply(person, mask, person, 1 / 255)
        if flat is not None:
            cv2.transform(mask, flat, back)
        else:
            cv2.bitwise_not(mask, mask)
            cv2.multiply(target, mask, back, 1 / 255)
        cv2.add(person, back, target)


def background_of(views: Views, number: int, backgrounds: Sequence[Backgrounds]) -> NDArray[np.uint8] | None:
    """The picture behind a view's person, uint8 (height, width, 3); None for a flat colour."""
    sources = [source for source in backgrounds if len(source)]
    if views.grounds[number] != PICTURE or not sources:
        return None
    source = sources[int(views.pictures[number, 0] * len(sources))]
    picture = source.picture(int(views.pictures[number, 1] * len(source)))
    return np.asarray(cv2.flip(picture, 1), np.uint8) if views.is_picture_flipped[number] else picture


def _flat_matrices(flat_rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mask -> the flat colour where nobody is, as a colour matrix: the cheapest of all ways; (batch, 3, 4)."""
    matrices = np.zeros((len(flat_rgb), 3, 4), np.float32)
    matrices[:, [0, 1, 2], [0, 1, 2]] = flat_rgb / -255
    matrices[:, :, 3] = flat_rgb
    return matrices


def _targets(
    matrices: NDArray[np.float64], boxes_xyxy_px: Sequence[tuple[int, int, int, int]], height_px: int, width_px: int
) -> tuple[NDArray[np.float64], list[list[int]]]:
    """Matrices from the boxes' own corners to the parts of the view they reach, and these parts (x0, y0, x1, y1)."""
    boxes = np.asarray(boxes_xyxy_px, np.float64).reshape(-1, 4)
    xs, ys = boxes[:, [0, 2, 2, 0]], boxes[:, [1, 1, 3, 3]]
    corners = matrices[:, :, :2] @ np.stack([xs, ys], axis=1) + matrices[:, :, 2:]
    low = np.maximum(np.floor(corners.min(axis=2)) - 1, 0)
    high = np.minimum(np.ceil(corners.max(axis=2)) + 2, (width_px, height_px))
    moved = matrices.copy()
    moved[:, :, 2] += (matrices[:, :, :2] @ boxes[:, :2, None])[:, :, 0] - low
    return moved, np.concatenate([low, high], axis=1).astype(int).tolist()
