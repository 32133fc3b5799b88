"""Lightning's Trainer set up for a run folder: csv logs, checkpoints that appear whole, quiet, resumable."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning
from lightning.pytorch.callbacks import Callback

from cls.dataset.batches import Batch, Loader
from cls.errors import FileError
from cls.progress import Ticker, progress
from cls.training.config import TrainConfig
from cls.training.loop.device import accelerator, precision_of
from cls.training.loop.epoch_checkpoints import BEST, LAST, EpochCheckpoints, PlainFiles, checkpoint_to_go_on_with
from cls.training.loop.loggers import loggers_for
from cls.training.loop.module import ClassifierModule
from cls.training.loop.quiet import quiet_lightning
from cls.training.network.ema import MovingAverage

__all__ = ["BEST", "LAST", "FitResult", "accelerator", "fit"]

_log = logging.getLogger("cls.training")


@dataclass(frozen=True)
class FitResult:
    """What a fit leaves.

    Attributes:
        history: one entry an epoch.
        waiting_share: share of the training time spent waiting for batches.
        seconds: duration of the fit.

    Of a fit that was cut off and gone on with, time and waiting are those of all its parts, each up to its last whole
    epoch.
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
        module: what is trained; holds the last epoch's weights (their moving average, where one is kept) afterwards.
        train: training batches; of several processes, this one's.
        valid: validation batches; None with mode `all`.
        config: epochs, clipping, precision, devices, loggers.
        folder: the run folder: `checkpoints/`, `csv_logs/` and the other loggers' folders are written.
        accelerator: Lightning's word for the device.

    Raises:
        KeyboardInterrupt: the user stopped it; the last whole epoch is in last.ckpt.
        NotANumberError: the loss is not a number.
        TrainingError: last.ckpt is damaged.
        FileError: a checkpoint or a log cannot be written.
    """
    started_s = time.monotonic()
    checkpoints = folder / "checkpoints"
    last = checkpoint_to_go_on_with(checkpoints)
    waiting = _WaitingClock(train)
    if config.compile:
        module.network.compile()
    with quiet_lightning(), progress("training steps", config.epochs * len(train)) as ticker:
        clock = _Clock(config, waiting, ticker, started_s)
        trainer = _trainer(config, folder, accelerator, clock)
        try:
            # A bottle may come from anywhere: code in its checkpoint is not run.
            trainer.fit(module, waiting, valid, ckpt_path=None if last is None else str(last), weights_only=True)
        except SystemExit:
            # Lightning ends the process on Ctrl-C; the command decides how that is said.
            raise KeyboardInterrupt from None
        except OSError as error:
            raise FileError(
                f"cannot be written: {error.strerror or error}",
                where=error.filename or folder,
                hint="check free space and permissions; the same command goes on after the last whole epoch",
            ) from error
        if trainer.interrupted:
            raise KeyboardInterrupt
    return FitResult(module.history, waiting.share, clock.seconds)


def _trainer(config: TrainConfig, folder: Path, accelerator: str, clock: Callback) -> lightning.Trainer:
    average = MovingAverage(config.ema) if config.ema else None
    is_many = config.world > 1
    return lightning.Trainer(
        accelerator=accelerator,
        devices=config.devices,
        num_nodes=config.nodes,
        strategy="ddp" if is_many else "auto",
        # Batch norms of a CPU cannot be synchronised; the first process's statistics are everybody's then.
        sync_batchnorm=is_many and accelerator == "gpu",
        precision=precision_of(config),
        max_epochs=config.epochs,
        gradient_clip_val=config.clip,
        accumulate_grad_batches=config.accumulate,
        logger=loggers_for(config, folder),
        callbacks=[
            *([] if average is None else [average]),
            EpochCheckpoints(folder / "checkpoints", average),
            clock,
        ],
        plugins=[PlainFiles()],
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


class _WaitingClock:
    """A loader that measures how long its reader waits for batches."""

    def __init__(self, loader: Loader) -> None:
        self.sampler = loader.sampler
        self.batch_sampler = loader.batch_sampler
        self._loader = loader
        self.waited_s = 0.0
        self.total_s = 0.0

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        # The reader may stop asking after the last batch: every batch is accounted for when it is handed over.
        asked_s = given_s = time.perf_counter()
        for batch in self._loader:
            now_s = time.perf_counter()
            self.waited_s += now_s - asked_s
            self.total_s += now_s - given_s
            given_s = now_s
            yield batch
            asked_s = time.perf_counter()

    @property
    def share(self) -> float:
        """Share of the training time spent waiting."""
        return self.waited_s / self.total_s if self.total_s else 0.0


class _Clock(Callback):
    """Counts steps, says early how long all will take, and keeps the time of earlier parts in checkpoints."""

    def __init__(self, config: TrainConfig, waiting: _WaitingClock, ticker: Ticker, fit_started_s: float) -> None:
        self._config = config
        self._waiting = waiting
        self._ticker = ticker
        self._fit_started_s = fit_started_s
        self._earlier_s = 0.0
        self._started_s = 0.0
        self._steps = 0

    @property
    def seconds(self) -> float:
        """Duration of the fit so far, its earlier parts included."""
        return self._earlier_s + time.monotonic() - self._fit_started_s

    def state_dict(self) -> dict[str, Any]:
        """The time so far, kept in checkpoints."""
        return {"seconds": self.seconds, "waited_s": self._waiting.waited_s, "total_s": self._waiting.total_s}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on counting from there."""
        self._earlier_s = float(state_dict["seconds"])
        self._waiting.waited_s += float(state_dict["waited_s"])
        self._waiting.total_s += float(state_dict["total_s"])

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
            if left > 0:
                _log.info("%.2f s a step: about %.0f s for the %d steps to come", step_s, left * step_s, left)
