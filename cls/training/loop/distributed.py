"""Devices: what this machine computes with, and several processes that train together."""

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


__all__ = ["cores", "keep_memory", "prepare_process"]

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
    """Lightning's word for the precision; `auto`: 32 bits on a CPU, bf16 on a GPU that has it, else 16 with scaling."""
    if config.precision != "auto":
        return _PRECISIONS[config.precision]
    if accelerator() == "cpu":
        return _PRECISIONS["32"]
    return _PRECISIONS["bf16" if torch.cuda.is_bf16_supported() else "16"]


def check_machine(config: TrainConfig) -> None:
    """Refuses what this machine cannot do, before anything is read.

    Raises:
        TrainingError: lists all that it cannot do.
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
        raise TrainingError("this machine cannot train so: " + "; ".join(problems), code="machine_unsuitable")


def _why_not_compiling() -> str | None:
    """Why torch.compile fails on a tiny network; None if it works."""
    # It warns of a CUDA toolkit without a GPU, which says nothing about compiling for the CPU.
    warns = logging.getLogger("torch.utils.cpp_extension")
    level = warns.level
    warns.setLevel(logging.ERROR)
    try:
        torch.compile(lambda values: values.sin() + 1)(torch.ones(8, device=torch_device()))
    except Exception as error:  # noqa: BLE001  dynamo and inductor raise many kinds; the reason is told
        return (str(error).strip().splitlines() or [type(error).__name__])[0]
    finally:
        warns.setLevel(level)
    return None


Value = TypeVar("Value")


class ProcessGroup:
    """The processes of one training: one, or `devices` on each of `nodes`.

    Lightning starts the others by running the same command again (or torchrun, SLURM or the user on each node did);
    they come to `train_in_other_rank` in `cls.training.train`. The first one reads, checks and makes the run folder;
    the others wait in `broadcast` until it is there.
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
        """Whether this process is the one that writes."""
        return self._fabric is None or self._fabric.global_rank == 0

    @property
    def rank(self) -> int:
        """This process's number, from 0."""
        return 0 if self._fabric is None else int(self._fabric.global_rank)

    def broadcast(self, value: Value | None) -> Value:
        """Sends a value of the first process to every process; starts the others and waits for them.

        Raises:
            TrainingError: the processes do not find each other.
        """
        if self._fabric is None:
            return cast("Value", value)
        if not self.is_first:
            end_with_parent()
        try:
            with quiet_lightning():
                self._fabric.launch()
                told = self._fabric.broadcast(value)
        except (RuntimeError, ValueError) as error:
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise TrainingError(
                f"the {self._world} processes cannot work together: {reason}",
                code="processes_not_connected",
                hint="check MASTER_ADDR, MASTER_PORT and NODE_RANK on every node, or train with --devices 1 --nodes 1",
            ) from error
        if self.is_first:
            _log.info("%d processes train together", self._world)
        return cast("Value", told)


def all_gather(value: Value, world: int) -> list[Value]:
    """What every process has, by rank."""
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
