"""The people a conversion is proven on, and what the trained network says of them."""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cls.errors import ExportError, FileError, ParityError
from cls.package.meta import PeoplePart
from cls.people.person import Person
from cls.people.photos import read_photo
from cls.people.preprocess import Preprocessing
from cls.progress import track
from cls.runtimes.classifier import Classifier
from cls.wording import counted

if TYPE_CHECKING:
    from cls.export.parity.sizes import SizedCutouts

_log = logging.getLogger("cls.export")

MAX_SAMPLES = 512


@dataclass(frozen=True)
class ParitySample:
    """One person in one photo.

    Attributes:
        file: the photo.
        person: who is meant.
        labels: what people said of the person, in the trained network's order: 1, 0, NaN for unknown; empty: nothing.
    """

    file: Path
    person: Person
    labels: tuple[float, ...] = ()


@dataclass(frozen=True, eq=False)
class Reference:
    """What a conversion is held against. Made by `reference_of`.

    Attributes:
        trained: the trained network, with its run's labels, thresholds and preprocessing.
        pictures: where each person is from, for people to read.
        crops_rgb: the people as the trained network sees them, uint8 (people, height, width, 3).
        probs: what it says of them, float32 (people, labels).
        truth: what people said of them, float64 (people, labels): 1, 0, NaN for unknown.
        samples: the same people in their photos; empty where only the cut-outs are at hand.
        part: who they are; None where nobody says.
    """

    trained: Classifier
    pictures: tuple[str, ...]
    crops_rgb: NDArray[np.uint8] = field(repr=False)
    probs: NDArray[np.float32] = field(repr=False)
    truth: NDArray[np.float64] = field(repr=False)
    samples: tuple[ParitySample, ...] = field(default=(), repr=False)
    part: PeoplePart | None = None

    def __len__(self) -> int:
        return len(self.pictures)

    @cached_property
    def sized(self) -> list[SizedCutouts]:
        """Cut-outs of other sizes than the network's input, for end-to-end models; made once for all of them."""
        from cls.export.parity.sizes import sized_cutouts

        return sized_cutouts(self)

    def crops_of(self, preprocessing: Preprocessing) -> NDArray[np.uint8]:
        """The people as another preprocessing cuts them out of their photos' bytes.

        Raises:
            ParityError: the preprocessing is another one, and the photos are not at hand.
        """
        if preprocessing == self.trained.preprocessing:
            return self.crops_rgb
        if not self.samples:
            raise ParityError(
                "the preprocessing is not that of the trained network, and only its own cut-outs are at hand",
                where=self.trained.source,
                hint="export again where the photos are",
            )
        return np.stack([preprocessing.cut(read_photo(sample.file), sample.person) for sample in self.samples])


def choose_samples(samples: Sequence[ParitySample], *, seed: int = 0) -> list[ParitySample]:
    """All samples, or a seeded choice of `MAX_SAMPLES` where there are more."""
    if len(samples) <= MAX_SAMPLES:
        return list(samples)
    chosen = np.random.default_rng(seed).choice(len(samples), MAX_SAMPLES, replace=False)
    return [samples[number] for number in sorted(chosen.tolist())]


def reference_of(
    trained: Classifier,
    samples: Sequence[ParitySample],
    truth: NDArray[np.float64] | None = None,
    *,
    part: PeoplePart | None = None,
) -> Reference:
    """Cuts people out of their photos' bytes and asks the trained network; photos damaged since are left out.

    Args:
        trained: the network as trained, PyTorch float32.
        samples: at least one.
        truth: (samples, labels): 1, 0, NaN for unknown; the samples' own labels when not given.
        part: who they are.

    Raises:
        ExportError: none of the photos can be read.
        PredictionError: the trained network answers nonsense.
    """
    width = len(trained.labels)
    if truth is None:
        truth = np.array([sample.labels or (math.nan,) * width for sample in samples], np.float64)
    readable, crops = [], []
    broken: list[str] = []
    for number, sample in enumerate(track(samples, "parity: people cut out")):
        try:
            crops.append(trained.preprocessing.cut(read_photo(sample.file), sample.person))
        except FileError as error:
            broken.append(error.line())
            continue
        readable.append(number)
    if broken:
        _log.warning("parity: %d of %s left out, first: %s", len(broken), counted(len(samples), "person"), broken[0])
    if not readable:
        what = f"none of the run's {len(samples)} photos" if len(samples) > 1 else "not even the run's only photo"
        raise ExportError(
            f"{what} can be read to compare with: {broken[0]}",
            hint="load the group again",
        )
    kept = tuple(samples[number] for number in readable)
    crops_rgb = np.stack(crops)
    return Reference(
        trained=trained,
        pictures=tuple(sample.file.name for sample in kept),
        crops_rgb=crops_rgb,
        probs=trained.probabilities(crops_rgb),
        truth=truth[readable],
        samples=kept,
        part=part,
    )
