"""Finished training runs: their files, network and samples."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from cls.bottle.dataset_file import GroupDataset, LabelledRow
from cls.bottle.layout import Bottle
from cls.errors import BottleError, ClsError, FileError
from cls.people.preprocess import Preprocessing
from cls.records import read_record
from cls.training.runs.args import RunArgs, read_args
from cls.training.runs.folder import FINISHED, SPLIT, run_folders
from cls.training.runs.metrics import RunMetrics

if TYPE_CHECKING:
    from torch import nn

    from cls.dataset.samples import Sample
    from cls.dataset.split.file import SplitFile

# The best weights of the fit, and the same with the calibration folded in.
BEST_CKPT, MODEL_CKPT = "best.ckpt", "model.ckpt"

_log = logging.getLogger("cls.training")


@dataclass(frozen=True)
class FinishedRun:
    """A finished training run; `find_runs`, `open_run` and `listing.finished_run` open one.

    Attributes:
        folder: `v__<n>_<mode>_<arch>_<batch>_<decay>`.
        args: the content of args.yaml.
        metrics: the content of metrics.json.
        bottle: the data folder.
    """

    folder: Path
    args: RunArgs = field(repr=False)
    metrics: RunMetrics = field(repr=False)
    bottle: Bottle = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def group(self) -> str:
        """Name of the group as the annotators typed it."""
        return self.args.config.group

    @property
    def preprocessing(self) -> Preprocessing:
        """How the network's input is made."""
        return self.args.preprocessing

    @property
    def arch(self) -> str:
        """The name of the backbone in timm."""
        return self.args.timm_arch

    @property
    def labels(self) -> tuple[str, ...]:
        """Names in output order."""
        return self.metrics.labels

    @property
    def thresholds(self) -> tuple[float, ...]:
        """The threshold of each label, in that order."""
        return self.metrics.threshold_values

    @property
    def checkpoint(self) -> Path:
        """The final weights, of the best epoch on validation (with mode `all`, of the last one), calibrated.

        Runs of versions that did not calibrate have the fit's own checkpoint only.
        """
        return self.folder / "checkpoints" / (BEST_CKPT if self.metrics.calibration is None else MODEL_CKPT)

    def summary(self) -> str:
        """The run's measures in a few lines of text."""
        from cls.training.runs.summary import summary_of

        return summary_of(self.metrics)

    def load_network(self, checkpoint: Path | None = None) -> nn.Module:
        """The trained network: evaluation mode, float32, CPU.

        Args:
            checkpoint: one of the run's checkpoints; the final weights when not given.

        Returns:
            A module: float32 (batch, 3, height, width), normalised -> logits float32 (batch, labels).

        Raises:
            BottleError: the checkpoint is missing or does not fit.
        """
        from cls.training.network.build import NetworkSpec, load_network

        return load_network(checkpoint or self.checkpoint, NetworkSpec(self.arch, self.labels, self.preprocessing))

    def samples(self, subset: str) -> list[Sample]:
        """The samples of `train` or `valid` with the labels of this run, without pictures that were removed since."""
        from cls.dataset.samples import collect_samples

        split = self._split()
        rows = tuple(
            LabelledRow(row.picture, tuple(math.nan if value is None else value for value in row.labels), row.picset)
            for row in (split.train if subset == "train" else split.valid)
        )
        clusters = split.cluster_of_unit
        dataset = GroupDataset(self.group, self.labels, rows)
        config = self.args.config
        samples, _ = collect_samples(self.bottle, dataset, people=config.people, subject=config.subject)
        return [replace(sample, joined=clusters.get(sample.unjoined_unit, "")) for sample in samples]

    def pictures(self, subset: str) -> list[str]:
        """Names of the pictures of `train` or `valid`, including those that were removed since."""
        split = self._split()
        return [row.picture for row in (split.train if subset == "train" else split.valid)]

    def _split(self) -> SplitFile:
        from cls.dataset.split.file import read_split_file

        try:
            return read_split_file(self.folder / SPLIT)
        except FileError as error:
            hint = "train again, or remove the run's folder"
            raise BottleError(error.what, code=error.case, where=error.where, hint=hint) from error

    def validation_samples(self) -> list[Sample]:
        """The samples the run was validated on; with mode `all` there are none."""
        return self.samples("valid")


def find_runs(bottle: Bottle, group: str) -> list[FinishedRun]:
    """The finished runs of a group by number; damaged ones are left out with a warning."""
    runs = []
    for folder in run_folders(bottle, group):
        if not (folder / FINISHED).exists():
            continue
        try:
            runs.append(open_run(bottle, folder))
        except ClsError as error:
            _log.warning("left out: %s", error.line())
    return runs


def open_run(bottle: Bottle, folder: Path) -> FinishedRun:
    """Opens a finished run.

    Raises:
        BottleError: its files cannot be read.
    """
    try:
        metrics = read_record(folder / FINISHED, RunMetrics)
    except FileError as error:
        code = "run_unreadable" if error.case == "invalid_content" else error.case
        hint = "train again, or remove the run's folder"
        raise BottleError(error.what, code=code, where=error.where, hint=hint) from error
    return FinishedRun(folder, read_args(folder), metrics, bottle)
