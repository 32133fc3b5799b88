"""train_batches/*.jpg: what the network sees in its first batches, with labels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

from cls.dataset.batches import EpochSampler, TrainBatches
from cls.files import atomic_path
from cls.people.preprocess import Preprocessing
from cls.training.captions import Tile, sheet

_BATCHES = 3
_TILES, _COLUMNS = 24, 8
# Small inputs are shown enlarged, so that their captions can be read.
_SHOWN_WIDTH_PX = 150
_NONE = "none of them"


def write_train_grids(
    folder: Path,
    batches: TrainBatches,
    sampler: EpochSampler,
    names: Sequence[str],
    preprocessing: Preprocessing,
) -> list[Path]:
    """Writes the first batches of the first epoch as `batch_<n>.jpg`, augmented as the network sees them.

    Small batches are shown several to a sheet.

    Args:
        folder: `train_batches/` of a run.
        batches: training batches.
        sampler: their order.
        names: label names.
        preprocessing: size of the pictures.

    Returns:
        The files.
    """
    factor = max(round(_SHOWN_WIDTH_PX / preprocessing.width_px), 1)
    sampler.set_epoch(0)
    tiles: list[Tile] = []
    for key in islice(sampler, max(_BATCHES * _TILES // max(len(next(iter(sampler)).indices), 1), _BATCHES)):
        batch = batches[key]
        for image, labels in zip(batch.images.numpy(), batch.labels.numpy(), strict=True):
            shown = np.repeat(np.repeat(image, factor, axis=0), factor, axis=1)
            tiles.append(Tile(shown, (caption(labels.tolist(), names),)))
        if len(tiles) >= _BATCHES * _TILES:
            break
    files = []
    for number, start in enumerate(range(0, min(len(tiles), _BATCHES * _TILES), _TILES)):
        path = folder / f"batch_{number}.jpg"
        page = sheet(tiles[start : start + _TILES], f"Training pictures, augmented ({number + 1})", columns=_COLUMNS)
        save_jpeg(page, path)
        files.append(path)
    return files


def caption(labels: Sequence[float], names: Sequence[str]) -> str:
    """The labels a sample has, as text."""
    return ", ".join(name for name, value in zip(names, labels, strict=True) if value > 0.5) or _NONE


def save_jpeg(page: Image.Image, path: Path) -> None:
    """Writes a picture as JPEG, whole or not at all."""
    with atomic_path(path) as part:
        page.save(part, format="JPEG", quality=90)
