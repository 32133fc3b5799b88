"""Frames of a video, as displayed, a few at a time."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cls.errors import FileError, UsageError

# What FFmpeg prints about broken videos is in the errors raised here (AV_LOG_QUIET).
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

_EVERY = re.compile(r"^(?P<number>\d+(\.\d+)?)(?P<unit>s?)$")
# Containers say about how many frames they hold; what lacks more than this was cut off.
_MISSING_REL, _MISSING_FRAMES = 0.02, 2


@dataclass(frozen=True)
class Every:
    """Which frames are looked at: the first, and then one every so often.

    Attributes:
        frames: one of so many; 0 where `seconds` counts.
        seconds: one in so many seconds.
    """

    frames: int = 0
    seconds: float = 1.0

    def __str__(self) -> str:
        return str(self.frames) if self.frames else f"{self.seconds:g}s"


@dataclass(frozen=True)
class Frame:
    """One frame.

    Attributes:
        number: from 0.
        time_s: seconds from the video's start.
        image_rgb: uint8 (height, width, 3), as displayed.
    """

    number: int
    time_s: float
    image_rgb: NDArray[np.uint8] = field(repr=False)


def parse_every(text: str) -> Every:
    """Reads `30` (one of 30 frames) or `0.5s` (one each half second).

    Raises:
        UsageError: it is neither.
    """
    found = _EVERY.match(text)
    if found is None or not float(found["number"]) or (not found["unit"] and "." in found["number"]):
        raise UsageError(
            f"--every: expected frames, e.g. 30, or seconds, e.g. 0.5s, found '{text}'", code="invalid_option_value"
        )
    return Every(0, float(found["number"])) if found["unit"] else Every(int(found["number"]), 0.0)


def frames_of(path: Path, every: Every, is_wanted: Callable[[int], bool] = lambda _: True) -> Iterator[Frame]:
    """Reads a video from its start.

    Args:
        path: the video.
        every: which frames.
        is_wanted: by number; frames that are not wanted are passed over without being converted.

    Yields:
        The frames, in order.

    Raises:
        FileError: it is not a video; or, after the frames that can be read, it was cut off.
    """
    if not path.is_file():
        raise FileError("there is no such video", code="not_found", where=path)
    capture = cv2.VideoCapture(str(path))
    try:
        if not capture.isOpened():
            raise FileError(
                "is not a video that can be read", code="not_a_video", where=path, hint="remove or replace the file"
            )
        claimed = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        rate = capture.get(cv2.CAP_PROP_FPS)
        count = yield from _frames(capture, every, rate if rate > 0 else 25.0, is_wanted)
    finally:
        capture.release()
    if not count:
        raise FileError(
            "is a video without a frame that can be read",
            code="no_frames",
            where=path,
            hint="remove or replace the file",
        )
    if claimed - count > max(_MISSING_FRAMES, _MISSING_REL * claimed):
        raise FileError(f"is cut off or damaged: {count} of {claimed} frames can be read", code="cut_short", where=path)


def _frames(
    capture: cv2.VideoCapture, every: Every, rate: float, is_wanted: Callable[[int], bool]
) -> Generator[Frame, None, int]:
    """Yields the frames that are due; returns how many there are in all."""
    number, next_s = 0, 0.0
    while capture.grab():
        # Containers without time stamps say 0 everywhere.
        time_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 or number / rate
        is_due = number % every.frames == 0 if every.frames else time_s >= next_s - 0.5 / rate
        if is_due:
            next_s += every.seconds
            if is_wanted(number):
                is_read, image_bgr = capture.retrieve()
                if is_read:
                    image_rgb = np.asarray(cv2.cvtColor(image_bgr, cv2.COLOR_BGR2RGB), np.uint8)
                    yield Frame(number, round(time_s, 3), image_rgb)
        number += 1
    return number
