"""best.ckpt and last.ckpt: written after every epoch, whole or not at all."""

from __future__ import annotations

import io
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint
from torch.serialization import get_unsafe_globals_in_checkpoint

from cls.errors import FileError, TrainingError
from cls.files import ZIP_ERRORS, atomic_path, remove_parts
from cls.training.loop.module import ClassifierModule
from cls.training.network.ema import MovingAverage

BEST, LAST = "best.ckpt", "last.ckpt"
_GO_ON = "make room; the same command then goes on after the last whole epoch"


class PlainFiles(TorchCheckpointIO):
    """Writes a checkpoint straight to where it is asked for; Lightning's own way goes through a file in /tmp."""

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike[str],
        storage_options: object = None,  # noqa: ARG002  Lightning's signature
    ) -> None:
        """Writes it; a full disk is an OSError here, and not a RuntimeError of torch's own writer."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).write_bytes(content.getbuffer())


class EpochCheckpoints(Checkpoint):
    """Writes last.ckpt after every epoch and best.ckpt when validation is better.

    best.ckpt holds the network's weights, the moving average where there is one; last.ckpt all that a training needs to
    go on. Only the first of several processes writes.

    Args:
        folder: the run folder's `checkpoints/`.
        average: the moving average of the weights, if one is kept.
    """

    def __init__(self, folder: Path, average: MovingAverage | None) -> None:
        self._folder = folder
        self._average = average
        self._best: tuple[float, float] | None = None

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """After the epoch's validation.

        Raises:
            FileError: a checkpoint cannot be written; the last one is as it was.
        """
        if not isinstance(pl_module, ClassifierModule):
            return
        epoch = pl_module.history[-1]
        # Higher is better. Of two that rank all people alike, the one with the lower loss.
        score = (epoch.valid_map or 0.0, -(epoch.valid_loss or 0.0))
        is_best = self._best is None or epoch.valid_map is None or score > self._best
        if is_best:
            self._best = score
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self._folder / LAST)  # writes nothing, and meets the first process when it has
            return
        try:
            if is_best:
                self._write_best(trainer, pl_module)
            with atomic_path(self._folder / LAST) as part:
                trainer.save_checkpoint(part)
        except FileError as error:
            raise FileError(error.what, code=error.case, where=error.where, hint=_GO_ON) from error

    def _write_best(self, trainer: lightning.Trainer, module: ClassifierModule) -> None:
        state = module.state_dict() if self._average is None else self._average.averaged_state()
        with atomic_path(self._folder / BEST) as part:
            PlainFiles().save_checkpoint(
                {
                    "state_dict": module.own_state(state),
                    "epoch": trainer.current_epoch,
                    "global_step": trainer.global_step,
                },
                part,
            )

    def state_dict(self) -> dict[str, tuple[float, float] | None]:
        """The best score so far, kept in checkpoints."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, tuple[float, float] | None]) -> None:
        """Takes it up again."""
        self._best = state_dict["best"]


def checkpoint_to_go_on_with(folder: Path) -> Path | None:
    """The folder's last.ckpt, if there is one; what a killed writer left is removed.

    Args:
        folder: the run folder's `checkpoints/`.

    Raises:
        TrainingError: it is damaged, or holds more than tensors and plain values.
    """
    remove_parts(folder)
    file = folder / LAST
    if not file.exists():
        return None
    if not _is_whole(file):
        raise TrainingError(
            "is damaged: it is no checkpoint",
            code="checkpoint_damaged",
            where=file,
            hint="start anew with --no-resume, or put back a copy of it",
        )
    _check_plain(file)
    return file


def _check_plain(file: Path) -> None:
    """Refuses what is more than tensors, numbers, texts, lists and mappings: to read it would be to run its code."""
    try:
        torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError) as error:
        named = sorted(get_unsafe_globals_in_checkpoint(file)) if "GLOBAL" in str(error) else []
        what, code = "it cannot be read", "checkpoint_unreadable"
        if named:
            what, code = f"it holds code ({', '.join(named[:3])}), which is not run", "checkpoint_holds_code"
        raise TrainingError(
            f"is no checkpoint to go on with: {what}", code=code, where=file, hint="start anew with --no-resume"
        ) from error


def _is_whole(file: Path) -> bool:
    """Whether a checkpoint, which is a zip, holds all that its checksums speak of."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except ZIP_ERRORS:
        return False
