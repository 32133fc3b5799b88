"""What `--source` names: folders, files, patterns and videos, as photos and frames of videos in a fixed order."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cls.errors import FileError, UsageError
from cls.people.photos import PHOTO_SUFFIXES

# What FFmpeg prints about broken videos is in the errors raised here (AV_LOG_QUIET).
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

_EVERY = re.compile(r"^(?P<number>\d+(\.\d+)?)(?P<unit>s?)$")
# Containers say about how many frames they hold; what lacks more than this was cut off.
_MISSING_REL, _MISSING_FRAMES = 0.02, 2

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv")


@dataclass(frozen=True)
class FrameInterval:
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


def parse_frame_interval(text: str) -> FrameInterval:
    """Reads `30` (one of 30 frames) or `0.5s` (one each half second).

    Raises:
        UsageError: it is neither.
    """
    found = _EVERY.match(text)
    if found is None or not float(found["number"]) or (not found["unit"] and "." in found["number"]):
        raise UsageError(
            f"--every: expected frames, e.g. 30, or seconds, e.g. 0.5s, found '{text}'", code="invalid_option_value"
        )
    return FrameInterval(0, float(found["number"])) if found["unit"] else FrameInterval(int(found["number"]), 0.0)


def frames_of(path: Path, every: FrameInterval, is_wanted: Callable[[int], bool] = lambda _: True) -> Iterator[Frame]:
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
    capture: cv2.VideoCapture, every: FrameInterval, rate: float, is_wanted: Callable[[int], bool]
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


@dataclass(frozen=True)
class Sources:
    """What is looked at.

    Attributes:
        photos: in order, each once.
        videos: in order, each once.
        root: names in results are relative to this folder.
        every: which frames of videos.
    """

    photos: tuple[Path, ...]
    videos: tuple[Path, ...]
    root: Path
    every: FrameInterval = field(default_factory=FrameInterval)

    def name(self, file: Path) -> str:
        """What a photo or video is called in results."""
        return file.relative_to(self.root).as_posix() if file.is_relative_to(self.root) else file.name


def sources_of(given: Sequence[str]) -> Sources:
    """Finds what is named.

    A folder stands for the photos in it and in the folders below, in order of their names; videos are looked at when
    they are named, by themselves or by a pattern.

    Args:
        given: folders, files, patterns (`*`, `?`, `[…]`, `**`).

    Raises:
        FileError: one of them is not there, or holds no photo.
    """
    files: list[Path] = []
    roots: list[Path] = []
    for text in given:
        found, root = _found(text)
        files += found
        roots.append(root)
    unique = list(dict.fromkeys(files))
    root = roots[0] if len(set(roots)) == 1 else Path(os.path.commonpath([folder.absolute() for folder in roots]))
    if len(set(roots)) > 1:
        unique = list(dict.fromkeys(file.absolute() for file in unique))
    return Sources(
        tuple(file for file in unique if not _is_video(file)), tuple(file for file in unique if _is_video(file)), root
    )


def finds_below(given: Sequence[str], folder: Path) -> bool:
    """Whether the photos in subfolders of a folder would be found, by a folder that is named or by a pattern."""
    place = folder.resolve()
    for text in given:
        path = Path(text)
        if path.is_dir() and path.resolve() in (place, *place.parents):
            return True
        if not path.exists() and glob.has_magic(text):
            plain = _plain_part(path)
            parts = (*plain.resolve().parts, *path.parts[len(plain.parts) :])
            is_deep = "**" in parts and plain.resolve() in (place, *place.parents)
            pairs = zip(place.parts, parts, strict=False)
            if is_deep or (len(parts) > len(place.parts) and all(fnmatch(part, pattern) for part, pattern in pairs)):
                return True
    return False


def photos_below(source: Path) -> list[Path]:
    """The photos in a folder and the folders below, in order of their names; a single file stands for itself."""
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise FileError(
            "there is no such file or folder",
            code="not_found",
            where=source,
            hint="give photos, folders, patterns or videos with --source",
        )
    files = sorted(
        file
        for file in source.rglob("*")
        if file.suffix.lower() in PHOTO_SUFFIXES and not file.name.startswith(".") and file.is_file()
    )
    if not files:
        raise FileError(
            f"holds no photo ({', '.join(PHOTO_SUFFIXES)})",
            code="no_photos",
            where=source,
            hint="give another --source",
        )
    return files


def _is_video(file: Path) -> bool:
    return file.suffix.lower() in VIDEO_SUFFIXES


def _found(text: str) -> tuple[list[Path], Path]:
    """The files that one `--source` names, and the folder their names are relative to."""
    path = Path(text)
    if path.exists() or not glob.has_magic(text):
        return photos_below(path), path if path.is_dir() else path.parent
    # Path.glob refuses absolute patterns.
    matches = (Path(name) for name in glob.glob(text, recursive=True))  # noqa: PTH207
    files = sorted(
        file for file in matches if file.suffix.lower() in (*PHOTO_SUFFIXES, *VIDEO_SUFFIXES) and file.is_file()
    )
    if not files:
        raise FileError("no photo and no video matches", code="no_match", where=text, hint="give another --source")
    return files, _plain_part(path)


def _plain_part(pattern: Path) -> Path:
    """The folder that a pattern's matches lie in or below."""
    plain = []
    for part in pattern.parts[:-1]:
        if glob.has_magic(part):
            break
        plain.append(part)
    return Path(*plain)
