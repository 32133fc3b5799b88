"""Lightning's Trainer set up for a run folder: csv logs, checkpoints that appear whole, quiet, resumable."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning.pytorch.loggers import CSVLogger

from cls.dataset.batches import Batch, Loader
from cls.files import atomic_path
from cls.progress import Ticker, progress
from cls.training.config import TrainConfig
from cls.training.module import ClassifierModule

_log = logging.getLogger("cls.training")

BEST, LAST = "best.ckpt", "last.ckpt"
# What makes a checkpoint the best; higher is better. A tiny gain in mAP is noise where the loss says otherwise.
_SCORE = "valid_map"


@dataclass(frozen=True)
class FitResult:
    """What a fit leaves.

    Attributes:
        history: one entry an epoch.
        waiting_share: share of the training time spent waiting for batches.
        seconds: duration of the fit.
    """

    history: list[dict[str, float]]
    waiting_share: float
    seconds: float


def fit(
    module: ClassifierModule,
    train: Loader,
    valid: Loader | None,
    config: TrainConfig,
    folder: Path,
    *,
    accelerator: str = "auto",
) -> FitResult:
    """Trains, from the last checkpoint of the folder if there is one.

    Args:
        module: what is trained; holds the last epoch's weights afterwards.
        train: training batches.
        valid: validation batches; None with mode `all`.
        config: epochs, clipping.
        folder: the run folder: `checkpoints/` and `csv_logs/` are written.
        accelerator: Lightning's word for the device.

    Raises:
        KeyboardInterrupt: the user stopped it; the last whole epoch is in last.ckpt.
        TrainingError: the loss is not a number.
        FileError: a checkpoint cannot be written.
    """
    started_s = time.monotonic()
    last = folder / "checkpoints" / LAST
    waiting = _WaitingClock(train)
    with _silenced(), progress("training steps", config.epochs * len(train)) as ticker:
        trainer = lightning.Trainer(
            accelerator=accelerator,
            devices=1,
            max_epochs=config.epochs,
            gradient_clip_val=config.clip,
            logger=CSVLogger(save_dir=folder, name="csv_logs"),
            callbacks=[_EpochCheckpoints(last.parent), _Clock(config, waiting, ticker)],
            log_every_n_steps=10,
            num_sanity_val_steps=0,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        try:
            trainer.fit(module, waiting, valid, ckpt_path=str(last) if last.exists() else None, weights_only=False)
        except SystemExit:
            # Lightning ends the process on Ctrl-C; the command decides how that is said.
            raise KeyboardInterrupt from None
        if trainer.interrupted:
            raise KeyboardInterrupt
    seconds = time.monotonic() - started_s
    return FitResult(module.history, waiting.share, seconds)


class _WaitingClock:
    """A loader that measures how long its reader waits for batches."""

    def __init__(self, loader: Loader) -> None:
        self.sampler = loader.sampler
        self.batch_sampler = loader.batch_sampler
        self._loader = loader
        self._waited_s = 0.0
        self._total_s = 0.0

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        # The reader may stop asking after the last batch: every batch is accounted for when it is handed over.
        asked_s = given_s = time.perf_counter()
        for batch in self._loader:
            now_s = time.perf_counter()
            self._waited_s += now_s - asked_s
            self._total_s += now_s - given_s
            given_s = now_s
            yield batch
            asked_s = time.perf_counter()

    @property
    def share(self) -> float:
        """Share of the training time spent waiting."""
        return self._waited_s / self._total_s if self._total_s else 0.0


class _EpochCheckpoints(Checkpoint):
    """Writes last.ckpt after every epoch and best.ckpt when validation is better; whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._best: tuple[float, float] | None = None

    def on_train_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """After the epoch's validation."""
        if not isinstance(pl_module, ClassifierModule):
            return
        epoch = pl_module.history[-1]
        score = (epoch.get(_SCORE, 0.0), -epoch.get("valid_loss", 0.0))
        if self._best is None or _SCORE not in epoch or score > self._best:
            self._best = score
            with atomic_path(self._folder / BEST) as part:
                trainer.save_checkpoint(part, weights_only=True)
        with atomic_path(self._folder / LAST) as part:
            trainer.save_checkpoint(part)

    def state_dict(self) -> dict[str, Any]:
        """The best score so far, kept in checkpoints."""
        return {"best": self._best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes it up again."""
        self._best = None if state_dict["best"] is None else (state_dict["best"][0], state_dict["best"][1])


class _Clock(Callback):
    """Counts steps, and says early how long all will take."""

    def __init__(self, config: TrainConfig, waiting: _WaitingClock, ticker: Ticker) -> None:
        self._config = config
        self._waiting = waiting
        self._ticker = ticker
        self._started_s = 0.0
        self._steps = 0

    def on_train_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Starts the clock."""
        self._started_s = time.monotonic()
        if trainer.current_epoch:
            _log.info("going on after epoch %d of %d", trainer.current_epoch, self._config.epochs)
            self._ticker.advance(trainer.current_epoch * len(self._waiting))

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any, **__: Any) -> None:
        """Counts; after a few batches, says how long all will take."""
        self._ticker.advance()
        self._steps += 1
        if self._steps == min(3, len(self._waiting)):
            step_s = (time.monotonic() - self._started_s) / self._steps
            left = (self._config.epochs - trainer.current_epoch) * len(self._waiting) - self._steps
            _log.info("%.2f s a step: about %.0f s for the %d steps to come", step_s, left * step_s, left)


@contextmanager
def _silenced() -> Iterator[None]:
    """Lightning's banners, tips and warnings off: our own lines say what a user needs."""
    loggers = [logging.getLogger(name) for name in ("lightning", "lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def accelerator() -> str:
    """`gpu` where CUDA works, else `cpu`."""
    return "gpu" if torch.cuda.is_available() else "cpu"
