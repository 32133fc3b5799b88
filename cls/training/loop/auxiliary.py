"""Labels of other groups, auxiliary labels: what they teach the backbone serves the group that is asked for.

One bottle often has several groups over the same photos. A few hundred photos of one group are soon learned by heart;
the other groups' labels cost no further photo and hold the backbone to what is really there (Caruana, Multitask
Learning, Machine Learning 28, 1997). Only labels of people in the training part are used, and the finished network has
the group's own outputs alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from cls.bottle.dataset_file import read_dataset
from cls.bottle.layout import Bottle
from cls.dataset.samples import Sample
from cls.errors import TrainingError

# Asks for every other group of the bottle that shares photos with this one.
EVERY_GROUP = "all"


@dataclass(frozen=True)
class AuxiliaryLabels:
    """Labels of other groups.

    Attributes:
        groups: whose they are.
        names: of the labels, each behind its group's name.
        rows: a picture's file name -> one value a label: 1 present, 0 absent, NaN unknown.
    """

    groups: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    rows: dict[str, tuple[float, ...]] | None = None

    def __len__(self) -> int:
        return len(self.names)

    def of(self, samples: Sequence[Sample]) -> NDArray[np.float32]:
        """Values for samples, float32 (samples, labels); NaN where a picture is in no other group."""
        nothing = (np.nan,) * len(self)
        rows = self.rows or {}
        table = [rows.get(sample.path, nothing) for sample in samples]
        return np.array(table, np.float32).reshape(len(samples), len(self))


NOTHING = AuxiliaryLabels()


class JointLoss(nn.Module):
    """A group's loss and that of the auxiliary labels; each is a mean over its labels, and counts alike.

    Args:
        own: of the first `count` labels.
        others: of the labels behind them.
        count: how many labels the group has.
    """

    def __init__(self, own: nn.Module, others: nn.Module, count: int) -> None:
        super().__init__()
        self._own = own
        self._others = others
        self._count = count

    def forward(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Float (batch, own and other labels), both -> a scalar."""
        own: Tensor = self._own(logits[:, : self._count], labels[:, : self._count])
        others: Tensor = self._others(logits[:, self._count :], labels[:, self._count :])
        return own + others


def auxiliary_labels(bottle: Bottle, group: str, asked: Sequence[str], samples: Sequence[Sample]) -> AuxiliaryLabels:
    """Reads the labels of other groups for the pictures of samples.

    Args:
        bottle: the data folder.
        group: the group that is trained.
        asked: names of groups, or `all` alone.
        samples: the group's.

    Raises:
        TrainingError: a group that was named has no picture among the samples' or is the group itself.
        BottleError: a group has not been loaded.
    """
    is_every = tuple(asked) == (EVERY_GROUP,)
    groups = [name for name in groups_of(bottle) if name != group] if is_every else list(asked)
    if group in groups:
        raise TrainingError(
            f"--auxiliary: '{group}' is the group that is trained", code="group_is_trained", hint="name other groups"
        )
    wanted = {sample.path for sample in samples}
    used, names = [], []
    columns: list[dict[str, float]] = []
    for name in groups:
        dataset = read_dataset(bottle.dataset_file(name), name)
        rows = [row for row in dataset.rows if row.path in wanted]
        if not rows:
            if not is_every:
                raise TrainingError(
                    f"--auxiliary: group '{name}' has none of the {len(wanted)} pictures of group '{group}'",
                    code="no_shared_pictures",
                    where=bottle.dataset_file(name),
                    hint="name groups over the same pictures",
                )
            continue
        used.append(name)
        for place, label in enumerate(dataset.labels):
            column = {row.path: row.labels[place] for row in rows}
            if {0.0, 1.0} <= set(column.values()):  # all alike, it teaches nothing
                names.append(f"{name}: {label}")
                columns.append(column)
    rows_of = {
        path: tuple(column.get(path, float("nan")) for column in columns)
        for path in sorted({path for column in columns for path in column})
    }
    return AuxiliaryLabels(tuple(used), tuple(names), rows_of)


def groups_of(bottle: Bottle) -> list[str]:
    """The groups that have been loaded into a bottle, by name."""
    files = [file for file in bottle.datasets.glob("*.json") if not file.name.startswith(".")]
    return sorted(read_dataset(file).group for file in files)


def without_auxiliary(state: dict[str, Tensor], head: str, count: int) -> dict[str, Tensor]:
    """A network's weights with the first `count` outputs of its head alone.

    Args:
        state: of the wide network; not changed.
        head: name of the head's module in `state`.
        count: how many labels the group has.
    """
    narrow = dict(state)
    for part in ("weight", "bias"):
        name = f"{head}.{part}"
        if name in narrow:
            narrow[name] = narrow[name][:count].clone()
    return narrow
