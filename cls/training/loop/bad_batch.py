"""A batch whose loss is not a number, saved so that somebody can look at it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from torch import Tensor

from cls.dataset.batches import Batch
from cls.errors import TrainingError
from cls.files import write_bytes_atomic, write_text_atomic

FOLDER = "bad_batch"
_NAMED = 3


class NotANumberError(TrainingError):
    """The loss became NaN or infinite; every process of a training raises it at the same step."""


@dataclass(frozen=True)
class BadBatches:
    """Saves bad batches of a run.

    Attributes:
        folder: the run folder.
        train: names of the training samples' pictures.
        valid: names of the validation samples' pictures.
    """

    folder: Path
    train: Sequence[str]
    valid: Sequence[str]

    def save(self, batch: Batch, logits: Tensor, *, name: str, is_training: bool = True) -> str:
        """Writes `bad_batch/<name>.npz` (images, labels, indices, pictures, logits) and the pictures' names as text.

        Args:
            batch: as the network saw it.
            logits: what the network said, (batch, labels).
            name: e.g. `epoch_3_batch_7`.
            is_training: which side of the split it is of.

        Returns:
            Where it is and whose pictures these are, for the error's line.

        Raises:
            FileError: it cannot be written.
        """
        names = self.train if is_training else self.valid
        pictures = [names[index] for index in batch.indices.tolist()]
        content = io.BytesIO()
        np.savez_compressed(
            content,
            images=batch.images.cpu().numpy(),
            labels=batch.labels.cpu().numpy(),
            indices=batch.indices.cpu().numpy(),
            pictures=np.array(pictures),
            logits=logits.detach().float().cpu().numpy(),
        )
        file = self.folder / FOLDER / f"{name}.npz"
        write_bytes_atomic(file, content.getvalue())
        write_text_atomic(file.with_suffix(".txt"), "".join(f"{picture}\n" for picture in pictures))
        unique = list(dict.fromkeys(pictures))
        more = f" and {len(unique) - _NAMED} more" if len(unique) > _NAMED else ""
        return f"the batch is saved in {file} (pictures {', '.join(unique[:_NAMED])}{more})"
