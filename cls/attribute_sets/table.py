"""The scores of a set: a run on each of its parts, beside what others published."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from pydantic import JsonValue
from torch import nn

from cls.attribute_sets.loading import IDENTITY, OFFICIAL, LoadedSet
from cls.bottle.dataset_file import GroupDataset, read_dataset
from cls.bottle.layout import Bottle
from cls.dataset.cutouts import CutoutFormat, load_cutouts
from cls.dataset.samples import LedgerRecord, collect_samples, drop_broken, labels_of, mark_incomplete_labels_unknown
from cls.dataset.split.assign import TRAIN, VALID
from cls.dataset.split.file import TEST, read_split_file, split_by_parts, subsets_of
from cls.errors import AttributeSetError, UsageError
from cls.files import write_json_atomic, write_text_atomic
from cls.machine import cores
from cls.metrics.multilabel import measure, probabilities_of
from cls.metrics.scores import Metrics
from cls.people.preprocess import Preprocessing
from cls.records import read_record
from cls.training.config import TrainConfig
from cls.training.evaluation.calibration import logits_of
from cls.training.network.input_size import size_for
from cls.training.network.smoke_test import FORMATS
from cls.training.runs.folder import LEDGER, SPLIT
from cls.training.runs.run import BEST_CKPT, FinishedRun, find_runs
from cls.wording import percent

_log = logging.getLogger("cls.attribute_sets")

TEST_METRICS = "test_metrics.json"
_HALF = 0.5

_JIA = "Jia, Huang, Chen, Huang: Rethinking of Pedestrian Attribute Recognition, arXiv:2107.03576; figures of "
JIA = _JIA + "github.com/valencebond/Rethinking_of_PAR (README.md)"
LEE = "github.com/xingzhaolee/pedestrian-attribute-recognition-lightning (modules/README.md)"
ZJYKZJ = "github.com/zjykzj/RethinkingPAR (README.md), a second implementation of arXiv:2107.03576"
TABLE = "attribute_table.txt"
_COLUMNS = ("mA", "Acc", "Prec", "Rec", "F1")
_WIDTH = 44


@dataclass(frozen=True)
class ScoreOnTest:
    """What a run is worth on the test part.

    Attributes:
        at_half: the network's own probabilities at threshold 0.5, as the papers measure.
        as_served: calibrated, at the thresholds chosen on validation: what the exported model says.
    """

    at_half: Metrics
    as_served: Metrics
    people: int


def score_on_test(run: FinishedRun, parts: str) -> ScoreOnTest:
    """Measures a run on the test part, and writes test_metrics.json into its folder."""
    dataset = read_dataset(run.bottle.dataset_file(run.group), run.group)
    subsets = subsets_of(dataset, parts)
    rows = tuple(row for row in dataset.rows if subsets.get(row.path) == TEST)
    config = run.args.config
    samples, ledger = collect_samples(
        run.bottle,
        GroupDataset(run.group, run.labels, rows),
        people=config.people,
        subject=config.subject,
    )
    format_ = CutoutFormat(run.preprocessing, storage=config.cache)
    cutouts, broken = load_cutouts(run.bottle, samples, format_, workers=cores())
    samples = drop_broken(samples, broken, ledger)
    if not samples:
        raise AttributeSetError(
            f"the test part of '{parts}' has no usable picture", code="empty_part", where=run.bottle.root
        )
    _log.info("%s: testing on %d people (%d left out)", run.name, len(samples), len(ledger.left_out))
    labels = labels_of(samples).astype(np.float64)
    fitted = run.load_network(run.folder / "checkpoints" / BEST_CKPT)
    memory_format = FORMATS[run.args.memory_format]

    def measured(network: nn.Module, thresholds: Sequence[float]) -> Metrics:
        network.to(memory_format=memory_format)
        logits = logits_of(network, run.preprocessing, (cutouts.input_rgb(index) for index in range(len(cutouts))))
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
        "threshold_0.5": result.at_half.to_json_values(),
        "chosen_thresholds": result.as_served.to_json_values(),
    }
    write_json_atomic(run.folder / TEST_METRICS, content, indent=1)
    return result


@dataclass(frozen=True)
class PublishedRow:
    """One row of somebody's table.

    Attributes:
        parts: which parts it is to be held against; of `identity`, the authors' own division without shared people,
            which is another one than ours.
        values: mA, instance-based accuracy, precision, recall and F1, in percent.
        source: where the figures stand.
    """

    layout: str
    parts: str
    model: str
    values: tuple[float, float, float, float, float]
    source: str


PUBLISHED = (
    PublishedRow("pa100k", OFFICIAL, "ResNet-50", (80.21, 79.15, 87.79, 87.01, 87.40), JIA),
    PublishedRow("pa100k", OFFICIAL, "Swin-S", (82.19, 80.35, 87.85, 88.51, 88.18), JIA),
    PublishedRow("pa100k", OFFICIAL, "ResNet, weighted loss", (76.76, 75.69, 85.63, 84.92, 85.27), LEE),
    PublishedRow("peta", OFFICIAL, "ResNet-50", (83.96, 78.65, 87.08, 85.62, 86.35), JIA),
    PublishedRow("peta", OFFICIAL, "ResNet, weighted loss", (83.98, 79.41, 88.07, 85.57, 86.80), LEE),
    PublishedRow("peta", IDENTITY, "ResNet-50, PETA-zs", (71.43, 58.69, 74.41, 69.82, 72.04), JIA),
    PublishedRow("peta", IDENTITY, "ResNet-50, PETA-zs", (70.37, 59.11, 75.24, 69.82, 72.43), ZJYKZJ),
    PublishedRow("rapv2", OFFICIAL, "ResNet-50", (78.52, 66.09, 77.20, 80.23, 78.68), JIA),
    PublishedRow("rapv2", IDENTITY, "ResNet-50, RAP-zs", (71.76, 64.83, 78.75, 76.60, 77.66), JIA),
)


@dataclass(frozen=True)
class PartsResult:
    """A run trained and tested on parts of one name."""

    parts: str
    run: FinishedRun
    tested: ScoreOnTest


def make_table(bottle: Bottle, layout: str, loaded: LoadedSet, config: TrainConfig, names: Sequence[str] = ()) -> str:
    """Trains and tests on each of a loaded set's parts, and writes the table beside the group's runs.

    A run that is finished with the same settings on the same dataset is not trained again.

    Args:
        bottle: the data folder.
        layout: which set it is.
        loaded: the set as a group.
        config: how to train; its group is the set's.
        names: which parts; all that the set has when empty.

    Raises:
        AttributeSetError: the set has no parts, or none of a name asked for.
        UsageError: the settings do not fit a table.
        TrainingError: the training cannot start or go on.
    """
    known = sorted(loaded.part_sizes, reverse=True)  # the published ones first
    if not known:
        raise AttributeSetError(
            "has no parts to train and test on: too few people", code="no_parts", where=loaded.dataset_file
        )
    for name in names:
        if name not in known:
            raise AttributeSetError(
                f"the set has no parts '{name}'",
                code="unknown_parts",
                where=loaded.dataset_file,
                hint=f"it has: {', '.join(known)}",
            )
    if config.world_size > 1:
        raise UsageError(
            "--devices, --nodes: the table is made with one device",
            code="unsupported_option",
            hint="train with `cls train --split official` on several, then run this with the same options",
        )
    results = []
    for name in names or known:
        run = _run_of(bottle, replace(config, split=name))
        results.append(PartsResult(name, run, score_on_test(run, name)))
    text = table_of(layout, loaded, results)
    write_text_atomic(bottle.models(config.group) / TABLE, text + "\n")
    return text


def _run_of(bottle: Bottle, config: TrainConfig) -> FinishedRun:
    """The finished run of these settings on this dataset, trained now if there is none."""
    from cls.training.train import train

    dataset = read_dataset(bottle.dataset_file(config.group), config.group)
    config = _sized(bottle, config, dataset)
    for run in reversed(find_runs(bottle, config.group)):
        if _decisive(run.args.settings) == _decisive(config.to_dict()) and _is_trained_on(run, dataset):
            _log.info("%s has these settings and is finished: it is tested, not trained again", run.name)
            return run
    return train(bottle, config)


def _sized(bottle: Bottle, config: TrainConfig, dataset: GroupDataset) -> TrainConfig:
    """The settings with the size that `--size auto` comes to, as a finished run has written it down."""
    if not config.auto_px:
        return config
    file = bottle.dataset_file(config.group)
    known = (
        dataset if config.incomplete is None else mark_incomplete_labels_unknown(dataset, config.incomplete, where=file)
    )
    samples, ledger = collect_samples(bottle, known, people=config.people, subject=config.subject)
    used = split_by_parts(samples, known, config.split, ledger=ledger, where=file).samples
    height_px, width_px = size_for(used, config.auto_px, margin_rel=Preprocessing.margin_rel)
    return replace(config, height_px=height_px, width_px=width_px, auto_px=0)


def _decisive(values: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Settings that decide the result, as a YAML file gives them back."""
    kept: dict[str, JsonValue] = json.loads(json.dumps(values))
    return {key: value for key, value in kept.items() if key not in ("workers", "loggers")}


def _is_trained_on(run: FinishedRun, dataset: GroupDataset) -> bool:
    """Whether a run's training and validation are the dataset's parts as they are now, labels and all."""
    subsets = subsets_of(dataset, run.args.config.split)
    left_out = read_record(run.folder / LEDGER, LedgerRecord).left_out
    split = read_split_file(run.folder / SPLIT)
    for subset, rows in ((TRAIN, split.train), (VALID, split.valid)):
        used = {row.picture: list(row.labels) for row in rows}
        wanted = {
            row.path: [None if math.isnan(value) else value for value in row.labels]
            for row in dataset.rows
            if subsets.get(row.path) == subset and (row.path in used or row.path not in left_out)
        }
        if used != wanted:
            return False
    return True


def table_of(layout: str, loaded: LoadedSet, results: Sequence[PartsResult]) -> str:
    """The table as text: rows of ours and of others, in percent, under a line that says whether the parts leak."""
    n_labels = len(loaded.dataset.labels)
    lines = [
        f"{layout}: {n_labels} attributes, {len(loaded.dataset.rows):,} pictures; test part, percent",
        f"{'':{_WIDTH}}" + "".join(f"{name:>7}" for name in _COLUMNS),
    ]
    sources: list[str] = []
    for result in results:
        sizes = loaded.part_sizes[result.parts]
        counts = ", ".join(f"{subset} {count:,}" for subset, count in sizes.items())
        lines += ["", f"{result.parts} parts ({counts}): {_leak(result.run, loaded)}"]
        config = result.run.args.config
        name = f"{config.arch} {result.run.preprocessing.height_px}x{result.run.preprocessing.width_px}"
        mean = result.tested.at_half.mean("ma")
        if mean.is_partial:
            lines.append(
                f"  mA of ours is the {mean.over}: the others have no positives or no negatives in the test part"
            )
        lines.append(_line(f"{name}, threshold 0.5", _values(result.tested.at_half)))
        lines.append(_line(f"{name}, thresholds of validation", _values(result.tested.as_served)))
        for row in PUBLISHED:
            if (row.layout, row.parts) == (layout, result.parts):
                if row.source not in sources:
                    sources.append(row.source)
                lines.append(_line(f"{row.model} [{sources.index(row.source) + 1}]", row.values))
    if sources:
        lines += ["", *(f"[{number}] {source}" for number, source in enumerate(sources, 1))]
    lines += ["", *(f"{result.parts}: {result.run.folder.name}, {result.tested.people:,} tested" for result in results)]
    return "\n".join(lines)


def _leak(run: FinishedRun, loaded: LoadedSet) -> str:
    parts = run.metrics.parts
    if parts is None or not loaded.people:
        return "the set does not name people"
    if parts.is_leaking:
        return f"LEAKING, {parts.picsets_in_two_subsets:,} of {parts.picsets:,} people in two subsets"
    return f"nobody of {parts.picsets:,} people in two subsets"


def _values(metrics: Metrics) -> tuple[float | None, ...]:
    """Mean accuracy mA and the instance-based measures, in percent; None where not defined."""
    people = metrics.instance
    shares = (metrics.macro.ma, people.accuracy, people.precision, people.recall, people.f1)
    return tuple(None if share is None else 100 * share for share in shares)


def _line(name: str, values: Sequence[float | None]) -> str:
    return f"  {name:{_WIDTH - 2}}" + "".join(
        f"{'-' if value is None else percent(value / 100, 2).removesuffix('%'):>7}" for value in values
    )
