"""The device to train on, and distributed training in several processes."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Literal, TypeVar, cast

import cv2
import torch
import torch.distributed

from cls.errors import TrainingError
from cls.machine import cores, end_with_parent, keep_memory
from cls.training.config import TrainConfig

if TYPE_CHECKING:
    from lightning.fabric import Fabric

_log = logging.getLogger("cls.training")

_PRECISIONS: dict[str, Precision] = {"32": "32-true", "bf16": "bf16-mixed", "16": "16-mixed"}


def prepare_process() -> None:
    """Sets up this process for training: all cores to torch, one thread for each OpenCV call, memory kept."""
    torch.set_num_threads(cores())
    cv2.setNumThreads(1)
    if keep_memory():
        _log.debug("freed memory is kept for the next step")


@contextmanager
def quiet_lightning() -> Iterator[None]:
    """For the length of a block, only Lightning's errors are shown."""
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


Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


def accelerator() -> str:
    """`gpu` where CUDA works, else `cpu`, as Lightning names them."""
    return "gpu" if torch.cuda.is_available() else "cpu"


def torch_device() -> str:
    """The same as torch names it: `cuda` or `cpu`."""
    return "cuda" if accelerator() == "gpu" else "cpu"


def precision_of(config: TrainConfig) -> Precision:
    """Lightning's name of the precision; `auto`: 32 bits on a CPU, bf16 on a GPU that supports it, else 16."""
    if config.precision != "auto":
        return _PRECISIONS[config.precision]
    if accelerator() == "cpu":
        return _PRECISIONS["32"]
    return _PRECISIONS["bf16" if torch.cuda.is_bf16_supported() else "16"]


def check_machine(config: TrainConfig) -> None:
    """Refuses options that this machine does not support.

    Raises:
        TrainingError: lists them all.
    """
    problems = []
    if config.precision == "16" and accelerator() == "cpu":
        problems.append("--precision 16 needs a GPU; give bf16 or 32")
    if config.augment_on == "gpu" and accelerator() == "cpu":
        problems.append("--augment-on gpu needs a GPU; give auto or cpu")
    if accelerator() == "gpu" and config.devices > torch.cuda.device_count():
        problems.append(f"--devices {config.devices}: there are {torch.cuda.device_count()} GPUs")
    if config.compile and (reason := _why_not_compiling()):
        problems.append(f"--compile does not work here ({reason}); leave it out, or install a C++ compiler such as g++")
    if problems:
        raise TrainingError(
            "this machine does not support these options: " + "; ".join(problems), code="machine_unsuitable"
        )


def _why_not_compiling() -> str | None:
    """Why torch.compile fails on a tiny network; None if it works."""
    # It warns of a CUDA toolkit without a GPU, which does not matter for compiling for the CPU.
    logger = logging.getLogger("torch.utils.cpp_extension")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        torch.compile(lambda values: values.sin() + 1)(torch.ones(8, device=torch_device()))
    except Exception as error:  # noqa: BLE001  dynamo and inductor raise many kinds
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    finally:
        logger.setLevel(level)
    return None


Value = TypeVar("Value")


class ProcessGroup:
    """The processes of one training: one, or `devices` on each of `nodes`.

    Lightning starts the others by running the same command again (or torchrun, SLURM or the user on each node does);
    they call `cls.training.train.train_in_other_rank`. Rank 0 prepares the data and makes the run folder; the others
    wait for it in `broadcast`.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._world = config.world_size
        self._fabric: Fabric | None = None
        if config.world_size > 1:
            from lightning.fabric import Fabric

            with quiet_lightning():
                self._fabric = Fabric(
                    accelerator=accelerator(), devices=config.devices, num_nodes=config.nodes, strategy="ddp"
                )

    @property
    def is_first(self) -> bool:
        """Whether this process is rank 0, which writes the files."""
        return self.rank == 0

    @property
    def rank(self) -> int:
        """The number of this process, from 0."""
        return 0 if self._fabric is None else int(self._fabric.global_rank)

    def broadcast(self, value: Value | None) -> Value:
        """Sends a value of rank 0 to every process; starts the others and waits for them.

        Raises:
            TrainingError: the processes cannot connect.
        """
        if self._fabric is None:
            return cast("Value", value)
        if not self.is_first:
            end_with_parent()
        try:
            with quiet_lightning():
                self._fabric.launch()
                received = self._fabric.broadcast(value)
        except (RuntimeError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise TrainingError(
                f"the {self._world} processes cannot work together: {reason}",
                code="processes_not_connected",
                hint="check MASTER_ADDR, MASTER_PORT and NODE_RANK on every node, or train with --devices 1 --nodes 1",
            ) from error
        if self.is_first:
            _log.info("%d processes train together", self._world)
        return cast("Value", received)


def all_gather(value: Value, world: int) -> list[Value]:
    """The values of all processes, by rank."""
    if world == 1:
        return [value]
    values: list[Value | None] = [None] * world
    torch.distributed.all_gather_object(values, value)
    return cast("list[Value]", values)


def check_process_count(config: TrainConfig, train_count: int, valid_count: int) -> None:
    """Refuses more processes than there are people in a subset of the split.

    Raises:
        TrainingError: a process would have nothing to do.
    """
    for count, subset in ((train_count, "training"), (valid_count, "validation")):
        if 0 < count < config.world_size:
            raise TrainingError(
                f"{config.world_size} processes are more than the {count} people for {subset}",
                code="too_many_processes",
                hint="train with fewer --devices or --nodes",
            )
