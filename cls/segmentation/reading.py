"""Reading photos ahead in threads, no larger than a segmentation model needs them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cls.errors import FileError
from cls.people.person import Person
from cls.people.photos import decode_photo_reduced

# Large photos are read smaller while the longer side stays above this. Masks lose nothing: a network sees less than
# that, and its masks are drawn no finer.
_ENOUGH_PX = 640


@dataclass(frozen=True)
class ReadPhoto:
    """A photo as displayed, perhaps smaller than its file.

    Attributes:
        path: its file.
        image_rgb: uint8 (height, width, 3).
        width_px: width of the whole photo.
        height_px: height of the whole photo.
    """

    path: Path
    image_rgb: NDArray[np.uint8]
    width_px: int
    height_px: int

    def in_full_size(self, person: Person) -> Person:
        """A person found in `image_rgb`, with the box in pixels of the whole photo."""
        scale_x = self.width_px / self.image_rgb.shape[1]
        scale_y = self.height_px / self.image_rgb.shape[0]
        left, top, right, bottom = person.box_xyxy_px
        return replace(person, box_xyxy_px=(left * scale_x, top * scale_y, right * scale_x, bottom * scale_y))


@dataclass(frozen=True)
class BrokenPhoto:
    """A file that cannot be read as a photo.

    Attributes:
        path: the file.
        why: one line.
    """

    path: Path
    why: str


def read_for_segmentation(path: Path) -> ReadPhoto:
    """Reads a photo as displayed, a large JPEG at reduced size.

    Raises:
        FileError: the file is missing or is not a picture that can be decoded.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileError("there is no such picture", where=path) from None
    except OSError as error:
        raise FileError(f"cannot be read: {error.strerror}", where=path) from error
    image_rgb, (height_px, width_px) = decode_photo_reduced(content, _ENOUGH_PX, where=path)
    return ReadPhoto(path, image_rgb, width_px, height_px)


def read_ahead(paths: Iterable[Path], *, threads: int, depth: int) -> Iterator[ReadPhoto | BrokenPhoto]:
    """Yields photos in the order of their paths while the next ones are read in threads.

    Args:
        paths: files to read.
        threads: how many are read at a time.
        depth: how many may wait, read, for the caller.
    """
    waiting: deque[Future[ReadPhoto | BrokenPhoto]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="photos")
    try:
        for path in paths:
            waiting.append(pool.submit(_read_or_say_why, path))
            if len(waiting) >= depth:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _read_or_say_why(path: Path) -> ReadPhoto | BrokenPhoto:
    try:
        return read_for_segmentation(path)
    except FileError as error:
        return BrokenPhoto(path, error.what)
