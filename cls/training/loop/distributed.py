"""Several processes that train together: who is first, what is broadcast to all, and that none outlives the first."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, TypeVar, cast

import torch
import torch.distributed

from cls.errors import TrainingError
from cls.machine import end_with_parent
from cls.training.config import TrainConfig
from cls.training.loop.device import accelerator, quiet_lightning

if TYPE_CHECKING:
    from lightning.fabric import Fabric

_log = logging.getLogger("cls.training")

Value = TypeVar("Value")


class ProcessGroup:
    """The processes of one training: one, or `devices` on each of `nodes`.

    Lightning starts the others by running the same command again (or torchrun, SLURM or the user on each node did);
    they come to `assist` in `cls.training.train`. The first one reads, checks and makes the run folder; the others wait
    in `broadcast` until it is there.
    """

    def __init__(self, config: TrainConfig) -> None:
        self._world = config.world
        self._fabric: Fabric | None = None
        if config.world > 1:
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
        """What the first process says, in every process; starts the others and waits for them.

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


def gathered(value: Value, world: int) -> list[Value]:
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
        if 0 < count < config.world:
            raise TrainingError(
                f"{config.world} processes are more than the {count} people for {subset}",
                code="too_many_processes",
                hint="train with fewer --devices or --nodes",
            )
