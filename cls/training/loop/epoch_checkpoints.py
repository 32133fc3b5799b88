"""best.ckpt and last.ckpt, written whole after every epoch; the moving average of the weights (EMA)."""

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
from lightning.pytorch.callbacks import Checkpoint, WeightAveraging
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.serialization import get_unsafe_globals_in_checkpoint

from cls.errors import FileError, TrainingError
from cls.files import ZIP_ERRORS, atomic_path, remove_parts
from cls.training.loop.module import ClassifierModule
from cls.training.runs.run import BEST_CKPT

_PREFIX = "module."

LAST = "last.ckpt"
_RESUME = "free some space; the same command then resumes after the last whole epoch"


class MovingAverage(WeightAveraging):
    """An exponential moving average (EMA) of weights and batch norms' statistics, updated after every step.

    Validation uses the average. Full checkpoints hold the average under `state_dict` and the weights beside it. At step
    n the decay is at most (1 + n) / (10 + n), as in TensorFlow: else a short run would keep its untrained weights.
    """

    def __init__(self, decay: float) -> None:
        def average(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
            if not torch.is_floating_point(averaged[0]):
                for kept, value in zip(averaged, current, strict=True):
                    kept.copy_(value)  # counters
                return
            steps = int(count)
            average_at = get_ema_multi_avg_fn(min(decay, (1 + steps) / (10 + steps)))  # type: ignore[no-untyped-call]
            average_at(averaged, current, count)

        super().__init__(multi_avg_fn=average)

    def averaged_state(self) -> dict[str, Tensor]:
        """The average, with the names of the module's state_dict."""
        if self._average_model is None:
            return {}
        state = self._average_model.state_dict()
        return {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}


class PlainCheckpointIO(TorchCheckpointIO):
    """Writes a checkpoint straight to its path; Lightning's own writer goes through a file in /tmp."""

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | os.PathLike[str],
        storage_options: object = None,  # noqa: ARG002  Lightning's signature
    ) -> None:
        """Writes it; on a full disk, torch's own writer would raise RuntimeError instead of OSError."""
        content = io.BytesIO()
        torch.save(checkpoint, content)
        Path(path).write_bytes(content.getbuffer())


class EpochCheckpoints(Checkpoint):
    """Writes last.ckpt after every epoch and best.ckpt when validation is better.

    best.ckpt holds the network's weights, their moving average if there is one; last.ckpt everything needed to resume.
    Only rank 0 writes.
    """

    def __init__(self, folder: Path, average: MovingAverage | None) -> None:
        self._folder = folder
        self._average = average
        self._best: tuple[float, float] | None = None

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Writes the checkpoints.

        Raises:
            FileError: one cannot be written; the earlier one is unchanged.
        """
        if not isinstance(pl_module, ClassifierModule):
            return
        epoch = pl_module.history[-1]
        # Higher is better; with equal mAP, a lower loss.
        score = (epoch.valid_map or 0.0, -(epoch.valid_loss or 0.0))
        is_best = self._best is None or epoch.valid_map is None or score > self._best
        if is_best:
            self._best = score
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self._folder / LAST)  # writes nothing; waits for rank 0
            return
        try:
            if is_best:
                self._write_best(trainer, pl_module)
            with atomic_path(self._folder / LAST) as part:
                trainer.save_checkpoint(part)
        except FileError as error:
            raise FileError(error.what, code=error.case, where=error.where, hint=_RESUME) from error

    def _write_best(self, trainer: lightning.Trainer, module: ClassifierModule) -> None:
        state = module.state_dict() if self._average is None else self._average.averaged_state()
        with atomic_path(self._folder / BEST_CKPT) as part:
            PlainCheckpointIO().save_checkpoint(
                {
                    "state_dict": module.state_without_auxiliary(state),
                    "epoch": trainer.current_epoch,
                    "global_step": trainer.global_step,
                },
                part,
            )

    def state_dict(self) -> dict[str, tuple[float, float] | None]:
        """The best score so far, kept in checkpoints."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, tuple[float, float] | None]) -> None:
        """Restores it."""
        self._best = state_dict["best"]


def resumable_checkpoint(folder: Path) -> Path | None:
    """The folder's last.ckpt, if there is one; partial files of a killed process are removed.

    Raises:
        TrainingError: it is damaged, or holds more than tensors and plain values.
    """
    remove_parts(folder)
    file = folder / LAST
    if not file.exists():
        return None
    if not _is_whole(file):
        raise TrainingError(
            "is damaged",
            code="checkpoint_damaged",
            where=file,
            hint="start a new run with --no-resume, or put back a copy of it",
        )
    _check_plain(file)
    return file


def _check_plain(file: Path) -> None:
    """Refuses pickled objects other than tensors and plain values: reading them would run code."""
    try:
        torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, EOFError) as error:
        named = sorted(get_unsafe_globals_in_checkpoint(file)) if "GLOBAL" in str(error) else []
        what, code = "it cannot be read", "checkpoint_unreadable"
        if named:
            what, code = f"it holds code ({', '.join(named[:3])}), which is not run", "checkpoint_holds_code"
        raise TrainingError(
            f"cannot be resumed from: {what}", code=code, where=file, hint="start a new run with --no-resume"
        ) from error


def _is_whole(file: Path) -> bool:
    """Whether a checkpoint is a zip with correct checksums."""
    try:
        with zipfile.ZipFile(file) as archive:
            return archive.testzip() is None
    except ZIP_ERRORS:
        return False
