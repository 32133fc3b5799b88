"""A finished run measured on the test part of a set: people that neither training nor any choice has seen."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from cls.bottle.dataset_file import GroupDataset, read_dataset
from cls.dataset.cutouts.cutouts import CutoutFormat, load_cutouts
from cls.dataset.samples import collect_samples, drop_broken, labels_of
from cls.dataset.split.parts import TEST, sides_of
from cls.errors import AttributeSetError
from cls.files import write_json_atomic
from cls.machine import cores
from cls.metrics.multilabel import Metrics, measure
from cls.training.evaluation.logits import logits_of, probabilities_of
from cls.training.network.checkpoint import load_network
from cls.training.network.trial_step import CHANNELS_LAST, FORMATS
from cls.training.runs.run import BEST_CKPT, Run

TEST_METRICS = "test_metrics.json"
_HALF = 0.5

_log = logging.getLogger("cls.attribute_sets")


@dataclass(frozen=True)
class ScoreOnTest:
    """What a run is worth on the test part.

    Attributes:
        at_half: the network's own probabilities at threshold 0.5, as the papers measure.
        as_served: calibrated, at the thresholds chosen on validation: what the exported model says.
        people: how many people were tested on.
    """

    at_half: Metrics
    as_served: Metrics
    people: int


def score_on_test(run: Run, parts: str) -> ScoreOnTest:
    """Measures a run on the test part, and writes test_metrics.json into its folder.

    Raises:
        AttributeSetError: the test part has no usable picture.
        BottleError: the run or the dataset cannot be read.
    """
    dataset = read_dataset(run.bottle.dataset_file(run.group), run.group)
    sides = sides_of(dataset, parts)
    rows = tuple(row for row in dataset.rows if sides.get(row.path) == TEST)
    settings = run.args["settings"]
    samples, ledger = collect_samples(
        run.bottle,
        GroupDataset(run.group, run.labels, rows),
        people=settings["people"],
        subject=settings["subject"],
    )
    format_ = CutoutFormat(run.preprocessing, storage=settings.get("cache", CutoutFormat.storage))
    cutouts, broken = load_cutouts(run.bottle, samples, format_, workers=cores())
    samples = drop_broken(samples, broken, ledger)
    if not samples:
        raise AttributeSetError(f"the test part of '{parts}' has no usable picture", where=run.bottle.root)
    _log.info("%s: testing on %d people (%d left out)", run.name, len(samples), len(ledger.left_out))
    labels = labels_of(samples).astype(np.float64)
    size = run.preprocessing.height_px, run.preprocessing.width_px
    fitted = load_network(run.folder / "checkpoints" / BEST_CKPT, run.arch, len(run.labels), *size)
    # Runs of versions without a trial step were trained in channels_last.
    memory_format = FORMATS[run.args.get("memory_format", CHANNELS_LAST)]

    def measured(network: nn.Module, thresholds: Sequence[float]) -> Metrics:
        network.to(memory_format=memory_format)
        logits = logits_of(network, run.preprocessing, (cutouts.exact(index) for index in range(len(cutouts))))
        return measure(probabilities_of(logits), labels, run.labels, thresholds)

    result = ScoreOnTest(
        at_half=measured(fitted, (_HALF,) * len(run.labels)),
        as_served=measured(run.load_network(), run.thresholds),
        people=len(samples),
    )
    content = {
        "run": run.name,
        "parts": parts,
        "people": result.people,
        "left_out": dict(ledger.left_out),
        "threshold_0.5": result.at_half.to_dict(),
        "chosen_thresholds": result.as_served.to_dict(),
    }
    write_json_atomic(run.folder / TEST_METRICS, content, indent=1)
    return result
