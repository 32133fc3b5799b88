"""Network inputs made of a run's training people: what a quantisation is calibrated on, never the validation's."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from cls.bottle.layout import Bottle
from cls.errors import ExportError, FileError
from cls.people.photos import read_photo
from cls.training.runs.run import FinishedRun

_log = logging.getLogger("cls.exporting")

# Ranges hardly change beyond some hundred people; calibration time grows with them.
MOST_PEOPLE = 192
_BATCH = 16


class CalibrationImages:
    """Network inputs, given out in batches of one size.

    Args:
        images: float32 (people, 3, height, width), normalised; at least one.
    """

    def __init__(self, images: NDArray[np.float32]) -> None:
        self._images = images

    @classmethod
    def of_run(cls, bottle: Bottle, run: FinishedRun) -> CalibrationImages:
        """A seeded choice of a run's training people, as training cuts them out without augmentation.

        Raises:
            ExportError: none of the training photos can be read.
        """
        samples = run.samples("train")
        crops, broken = [], []
        for index in np.random.default_rng(0).permutation(len(samples)).tolist():
            sample = samples[index]
            try:
                crops.append(run.preprocessing.cut(read_photo(bottle.picture(sample.path)), sample.person))
            except FileError as error:
                broken.append(error.line())
            if len(crops) == MOST_PEOPLE:
                break
        if not crops:
            reason = f": {broken[0]}" if broken else ""
            raise ExportError(
                f"none of the training photos of run {run.name} can be read to calibrate with{reason}",
                code="unreadable_photos",
                hint="load and segment the group again, or leave out fp16 and int8",
            )
        if broken:
            _log.warning("calibration: %d training photos left out, first: %s", len(broken), broken[0])
        return cls(run.preprocessing.normalise(np.stack(crops)))

    def batches(self, most: int = MOST_PEOPLE) -> Iterator[NDArray[np.float32]]:
        """Batches float32 (batch, 3, height, width), all of one size: histograms cannot be merged otherwise."""
        count = min(most, len(self._images))
        size = min(_BATCH, count)
        for start in range(0, count - size + 1, size):
            yield self._images[start : start + size]
