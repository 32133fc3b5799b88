"""Who else keeps a log: TensorBoard, MLflow, Weights & Biases; each on this machine unless told otherwise."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from cls.files import safe_name, write_text_atomic
from cls.training.config import TrainConfig

if TYPE_CHECKING:
    from lightning.pytorch.loggers import Logger


def loggers_for(config: TrainConfig, folder: Path) -> list[Logger]:
    """The loggers of a run: csv always, the others as asked for.

    TensorBoard writes to `tensorboard/`. MLflow writes to `mlflow/`, or to the server that MLFLOW_TRACKING_URI names.
    W&B writes to `wandb/`, from where `wandb sync` uploads it, or online where WANDB_MODE=online. A resumed run goes
    on in the same log.

    Args:
        config: group and loggers.
        folder: the run folder.
    """
    from lightning.pytorch.loggers import CSVLogger

    makers = {"tensorboard": _tensorboard, "mlflow": _mlflow, "wandb": _wandb}
    return [CSVLogger(save_dir=folder, name="csv_logs"), *(makers[name](config, folder) for name in config.loggers)]


def _tensorboard(_: TrainConfig, folder: Path) -> Logger:
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(save_dir=folder, name="tensorboard", version="")


def _mlflow(config: TrainConfig, folder: Path) -> Logger:
    # It reports its use to its makers otherwise.
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
