"""Photos to a segmentation network's input, and its coordinates back to the photo."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

_BORDER = 114  # the grey ultralytics trains with


@dataclass(frozen=True)
class Letterbox:
    """How a photo lies in a network's input: scaled by `scale`, then moved by (`left_px`, `top_px`).

    Attributes:
        photo_height_px: height of the photo.
        photo_width_px: width of the photo.
        input_height_px: height of the network's input.
        input_width_px: width of the network's input.
    """

    photo_height_px: int
    photo_width_px: int
    input_height_px: int
    input_width_px: int

    @classmethod
    def around(cls, photo_height_px: int, photo_width_px: int, size_px: int, stride_px: int) -> Letterbox:
        """The smallest input, in whole strides, for a photo whose longer side becomes `size_px`."""
        scale = size_px / max(photo_height_px, photo_width_px)
        sides = [max(-(-round(side * scale) // stride_px), 1) * stride_px for side in (photo_height_px, photo_width_px)]
        return cls(photo_height_px, photo_width_px, sides[0], sides[1])

    @property
    def scale(self) -> float:
        """Input pixels per photo pixel."""
        return min(self.input_height_px / self.photo_height_px, self.input_width_px / self.photo_width_px)

    @property
    def inner_px(self) -> tuple[int, int]:
        """Height and width of the scaled photo inside the input."""
        return (
            min(max(round(self.photo_height_px * self.scale), 1), self.input_height_px),
            min(max(round(self.photo_width_px * self.scale), 1), self.input_width_px),
        )

    @property
    def offset_px(self) -> tuple[int, int]:
        """Left and top border."""
        height_px, width_px = self.inner_px
        return (self.input_width_px - width_px) // 2, (self.input_height_px - height_px) // 2

    def apply(self, image_rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Photo uint8 (height, width, 3) -> uint8 (input_height_px, input_width_px, 3)."""
        height_px, width_px = self.inner_px
        left_px, top_px = self.offset_px
        frame = np.full((self.input_height_px, self.input_width_px, 3), _BORDER, np.uint8)
        inner = frame[top_px : top_px + height_px, left_px : left_px + width_px]
        if image_rgb.shape[:2] == inner.shape[:2]:
            inner[:] = image_rgb
        else:
            # Linear also when shrinking: the networks were trained on photos loaded that way.
            inner[:] = cv2.resize(image_rgb, (width_px, height_px), interpolation=cv2.INTER_LINEAR)
        return frame

    def to_photo(self, boxes_xyxy_px: NDArray[np.float32]) -> NDArray[np.float64]:
        """Boxes (n, 4) in input pixels -> float64 (n, 4) in photo pixels, cut off at the photo's edge."""
        left_px, top_px = self.offset_px
        boxes = (boxes_xyxy_px.astype(np.float64) - (left_px, top_px, left_px, top_px)) / self.scale
        limit = (self.photo_width_px, self.photo_height_px, self.photo_width_px, self.photo_height_px)
        return np.clip(boxes, 0.0, limit)
