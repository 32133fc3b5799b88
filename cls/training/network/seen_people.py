"""Whom the first weights of a training were trained on already: these are never validated on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cls.dataset.samples import Sample
from cls.dataset.split.file import trained_on
from cls.training.network.weights import WeightsSource
from cls.training.runs.folder import SPLIT


@dataclass(frozen=True)
class SeenPeople:
    """Pictures that first weights were trained on.

    Attributes:
        origin: for people: whose weights they are.
        pictures: picture -> its picset (empty: of none).
    """

    origin: str = ""
    pictures: Mapping[str, str] = field(default_factory=dict)

    @property
    def members(self) -> frozenset[str]:
        """Pictures and picsets, as `Sample.picture_unit` and `Sample.own_unit` name them."""
        pictures = {f"picture:{name}" for name in self.pictures}
        return frozenset(pictures | {f"picset:{picset}" for picset in self.pictures.values() if picset})

    def among(self, samples: Iterable[Sample]) -> list[Sample]:
        """Those of the samples that are of these pictures or picsets."""
        members = self.members
        return [sample for sample in samples if sample.picture_unit in members or sample.own_unit in members]

    def beside(self, trained: Sequence[Sample]) -> dict[str, str]:
        """Picture -> picset of those that the training itself does not train on."""
        own = {sample.path for sample in trained}
        return {picture: picset for picture, picset in self.pictures.items() if picture not in own}


NOBODY = SeenPeople()


def seen_by(source: WeightsSource) -> SeenPeople:
    """Whom a run that gives the first weights was trained on, and those before it that it started from.

    Weights of a file in a run folder (`--weights models/…/checkpoints/best.ckpt`) are that run's. Of other files
    nothing is known.

    Raises:
        TrainingError: the run's split.json is not a split.
        FileError: it cannot be read.
    """
    if source.file is None:
        return NOBODY
    file = _split_beside(source.file)
    if source.kind != "run" and not (source.kind == "file" and file.is_file()):
        return NOBODY
    return SeenPeople(source.origin, trained_on(file))


def _split_beside(checkpoint: Path) -> Path:
    return checkpoint.resolve().parent.parent / SPLIT
