"""The fit: Lightning's Trainer with the run folder's loggers and checkpoints, resumable."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback
from numpy.typing import NDArray
from torch import nn

from cls.dataset.backgrounds import Augmentation
from cls.dataset.batches import (
    Batch,
    EpochSampler,
    GpuViews,
    Loader,
    TrainBatches,
    UnaugmentedBatches,
    ValidationBatches,
)
from cls.dataset.cutouts import Subset
from cls.dataset.samples import Sample, labels_of
from cls.files import safe_name, write_error, write_text_atomic
from cls.progress import Ticker, progress
from cls.training.config import TrainConfig
from cls.training.data import Training
from cls.training.loop.distributed import accelerator, precision_of, quiet_lightning
from cls.training.loop.epoch_checkpoints import (
    LAST,
    EpochCheckpoints,
    MovingAverage,
    PlainCheckpointIO,
    resumable_checkpoint,
)
from cls.training.loop.module import BadBatchWriter, ClassifierModule
from cls.training.loop.optimizer import JointLoss, MultiLabelLoss, loss_for
from cls.training.network.head_start import start_head
from cls.training.runs.metrics import Epoch

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger

_log = logging.getLogger("cls.training")


def loggers_for(config: TrainConfig, folder: Path) -> list[Logger]:
    """The loggers of a run: CSV, and those of `config.loggers`.

    TensorBoard writes to `tensorboard/`, MLflow to `mlflow/` or to MLFLOW_TRACKING_URI, W&B to `wandb/` (upload it with
    `wandb sync`) or, with WANDB_MODE=online, to its server. A resumed run continues the same log.
    """
    from lightning.pytorch.loggers import CSVLogger

    makers = {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}
    return [CSVLogger(save_dir=folder, name="csv_logs"), *(makers[name](config, folder) for name in config.loggers)]


def _tensorboard(_: TrainConfig, folder: Path) -> Logger:
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(save_dir=folder, name="tensorboard", version="")


def _mlflow(config: TrainConfig, folder: Path) -> Logger:
    # No usage reports.
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    os.environ["DO_NOT_TRACK"] = "true"
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    from lightning.pytorch.loggers import MLFlowLogger

    home = folder / "mlflow"
    home.mkdir(exist_ok=True)
    remembered = home / "run_id.txt"
    logger = MLFlowLogger(
        experiment_name=config.group,
        run_name=folder.name,
        tracking_uri=os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'mlflow.db'}",
        artifact_location=None if os.environ.get("MLFLOW_TRACKING_URI") else (home / "artifacts").as_uri(),
        run_id=remembered.read_text(encoding="utf-8").strip() if remembered.exists() else None,
    )
    if logger.run_id is not None:
        write_text_atomic(remembered, f"{logger.run_id}\n")
    return logger


def _wandb(config: TrainConfig, folder: Path) -> Logger:
    is_online = os.environ.get("WANDB_MODE") == "online"
    os.environ["WANDB_MODE"] = "online" if is_online else "offline"
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    from lightning.pytorch.loggers import WandbLogger

    name = safe_name(f"{config.group} {folder.name}")
    identity = "".join(sign if sign.isalnum() and sign.isascii() else "-" for sign in name)[-64:]
    return WandbLogger(project="cls", name=name, id=identity, save_dir=folder, offline=not is_online, resume="allow")


def fit_network(training: Training, folder: Path, *, rank: int = 0) -> FitResult:
    """Trains in a run folder; in distributed training, every process calls it.

    Raises:
        KeyboardInterrupt: the user stopped it.
        TrainingError: the loss is not a number, or the training cannot go on.
        FileError: something cannot be written.
    """
    config, data, network = training.config, training.data, training.network
    loss = loss_for(config, base_rates(data.train.samples))
    others = loss_for(config, rates_of(data.auxiliary.of(data.train.samples))) if data.auxiliary else None
    if rank == 0 and config.head_start:
        _start_head(training, loss, others, folder)
    names = ([sample.path for sample in part.samples] for part in (data.train, data.valid))
    bad_batches = BadBatchWriter(folder, *names)
    module = ClassifierModule(network, loss, config, auxiliary_loss=others, bad_batches=bad_batches)
    sampler = EpochSampler(len(data.train), config.batch, seed=config.seed, rank=rank, world=config.world_size)
    train_loader = _train_loader(batches_of(training), sampler, config)
    valid_loader = _validation_loader(data.valid, config, rank) if len(data.valid) else None
    return fit(module, train_loader, valid_loader, config, folder)


def batches_of(training: Training) -> TrainBatches:
    """The augmented batches of a training."""
    config, data = training.config, training.data
    # Two thirds of the other backgrounds are pictures, one third is a flat colour.
    augmentation = Augmentation(p_picture=config.background_share * 2 / 3, p_flat=config.background_share / 3)
    targets = data.targets(data.train.samples)
    return TrainBatches(data.train.cutouts, targets, augmentation, seed=config.seed, backgrounds=data.backgrounds)


def _train_loader(batches: TrainBatches, sampler: EpochSampler, config: TrainConfig) -> Loader:
    if config.augment_on == "cpu" or accelerator() == "cpu":
        return Loader(batches, sampler, workers=config.workers)
    return Loader(UnaugmentedBatches(batches), sampler, workers=config.workers, finish=GpuViews(batches))


def base_rates(samples: Sequence[Sample]) -> list[float]:
    """Share of positives of each label among the known ones; NaN where none is known."""
    return rates_of(labels_of(samples))


def rates_of(labels: NDArray[np.float32]) -> list[float]:
    """The same of the columns of (samples, labels)."""
    known = (~np.isnan(labels)).sum(axis=0)
    rates = np.where(known, np.nansum(labels.astype(np.float64), axis=0) / np.maximum(known, 1), np.nan)
    return [float(rate) for rate in rates]


def _validation_loader(part: Subset, config: TrainConfig, rank: int) -> Loader:
    sampler = EpochSampler(len(part), max(config.batch, 16), rank=rank, world=config.world_size, seed=None)
    return Loader(ValidationBatches(part.cutouts, labels_of(part.samples)), sampler)


def _start_head(training: Training, own: nn.Module, others: MultiLabelLoss | None, folder: Path) -> None:
    """Runs the head start, unless the backbone is untrained or the training resumes from a checkpoint."""
    network, data = training.network, training.data
    if not network.source.is_pretrained:
        _log.warning("no head start: the backbone's weights are random")
        return
    if (folder / "checkpoints" / LAST).exists():
        return
    targets = torch.from_numpy(data.targets(data.train.samples))
    loss = own if others is None else JointLoss(own, others, len(network.spec.labels))
    start_head(network.module, loss, data.train.cutouts, targets, data.train.units)


@dataclass(frozen=True)
class FitResult:
    """The result of a fit; for a resumed one, the times include the earlier parts, each up to its last whole epoch.

    Attributes:
        history: one entry per epoch.
        waiting_share: share of the training time spent waiting for batches.
    """

    history: list[Epoch]
    waiting_share: float
    seconds: float


def fit(module: ClassifierModule, train: Loader, valid: Loader | None, config: TrainConfig, folder: Path) -> FitResult:
    """Trains, from the last checkpoint of the folder if there is one.

    Args:
        module: holds the last epoch's weights (or their EMA) afterwards.
        train: training batches of this process.
        valid: validation batches of this process; None with mode `all`.
        config: epochs, clipping, precision, devices, loggers.
        folder: the run folder: `checkpoints/`, `csv_logs/` and the other loggers' folders are written.

    Raises:
        KeyboardInterrupt: the user stopped it; the last whole epoch is in last.ckpt.
        NotANumberError: the loss is not a number.
        TrainingError: last.ckpt is damaged.
        FileError: a checkpoint or a log cannot be written.
    """
    started_s = time.monotonic()
    checkpoints = folder / "checkpoints"
    last = resumable_checkpoint(checkpoints)
    waiting = _DataWaitTimer(train)
    if config.compile:
        module.network.compile()
    with quiet_lightning(), progress("training steps", config.epochs * len(train)) as ticker:
        clock = _FitTimer(config, waiting, ticker, started_s)
        trainer = _trainer(config, folder, clock)
        try:
            # `weights_only`: code in a checkpoint of a foreign bottle is not run.
            trainer.fit(module, waiting, valid, ckpt_path=None if last is None else str(last), weights_only=True)
        except SystemExit:
            # Lightning ends the process on Ctrl-C; here the command does.
            raise KeyboardInterrupt from None
        except OSError as error:
            hint = "check free space and permissions; the same command resumes after the last whole epoch"
            raise write_error(Path(error.filename or folder), error, hint) from error
        if trainer.interrupted:
            raise KeyboardInterrupt
    return FitResult(module.history, waiting.share, clock.seconds)


def _trainer(config: TrainConfig, folder: Path, clock: Callback) -> lightning.Trainer:
    device = accelerator()
    average = MovingAverage(config.ema) if config.ema else None
    is_many = config.world_size > 1
    return lightning.Trainer(
        accelerator=device,
        devices=config.devices,
        num_nodes=config.nodes,
        strategy="ddp" if is_many else "auto",
        # On a CPU, batch norms cannot be synchronised; rank 0's statistics are used then.
        sync_batchnorm=is_many and device == "gpu",
        precision=precision_of(config),
        max_epochs=config.epochs,
        gradient_clip_val=config.clip,
        accumulate_grad_batches=config.accumulate,
        logger=loggers_for(config, folder),
        callbacks=[*([] if average is None else [average]), EpochCheckpoints(folder / "checkpoints", average), clock],
        plugins=[PlainCheckpointIO()],
        log_every_n_steps=10,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )


class _DataWaitTimer:
    """Measures how long the training waits for batches."""

    def __init__(self, loader: Loader) -> None:
        self.sampler = loader.sampler
        self.batch_sampler = loader.batch_sampler
        self._loader = loader
        self.waited_s = 0.0
        self.total_s = 0.0

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[Batch]:
        # The consumer may stop after the last batch: every batch is counted before it is yielded.
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


class _FitTimer(Callback):
    """Advances the progress bar, logs an estimate of the time, and keeps the time so far in checkpoints."""

    def __init__(self, config: TrainConfig, waiting: _DataWaitTimer, ticker: Ticker, fit_started_s: float) -> None:
        self._config = config
        self._waiting = waiting
        self._ticker = ticker
        self._fit_started_s = fit_started_s
        self._earlier_s = 0.0
        self._started_s = 0.0
        self._steps = 0

    @property
    def seconds(self) -> float:
        """Duration of the fit so far, also before it was resumed."""
        return self._earlier_s + time.monotonic() - self._fit_started_s

    def state_dict(self) -> dict[str, float]:
        """The time so far, kept in checkpoints."""
        return {"seconds": self.seconds, "waited_s": self._waiting.waited_s, "total_s": self._waiting.total_s}

    def load_state_dict(self, state_dict: dict[str, float]) -> None:
        """Restores it."""
        self._earlier_s = state_dict["seconds"]
        self._waiting.waited_s += state_dict["waited_s"]
        self._waiting.total_s += state_dict["total_s"]

    def on_train_start(self, trainer: lightning.Trainer, *_: Any) -> None:
        """Starts the clock."""
        self._started_s = time.monotonic()
        if trainer.current_epoch:
            _log.info("resuming after epoch %d of %d", trainer.current_epoch, self._config.epochs)
            self._ticker.advance(trainer.current_epoch * len(self._waiting))

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any, **__: Any) -> None:
        """Advances the progress bar; after three batches, logs the time left."""
        self._ticker.advance()
        self._steps += 1
        if self._steps == min(3, len(self._waiting)):
            step_s = (time.monotonic() - self._started_s) / self._steps
            left = (self._config.epochs - trainer.current_epoch) * len(self._waiting) - self._steps
            if left > 0:
                _log.info("%.2f s a step: about %.0f s for the %d steps left", step_s, left * step_s, left)
