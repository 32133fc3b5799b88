"""The papers' table of a set: a run on each of its parts, beside what others published."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from cls.attribute_sets.loading import LoadedSet
from cls.attribute_sets.published import PUBLISHED
from cls.attribute_sets.score import ScoreOnTest, score_on_test
from cls.bottle.dataset_file import GroupDataset, read_dataset
from cls.bottle.layout import Bottle
from cls.dataset.incomplete import with_incomplete
from cls.dataset.samples import collect_samples
from cls.dataset.split.assign import TRAIN, VALID
from cls.dataset.split.parts import sides_of, split_by_parts
from cls.errors import AttributeSetError, UsageError
from cls.files import read_json, write_text_atomic
from cls.metrics.multilabel import Metrics
from cls.package.validation_scores import mean_of
from cls.people.preprocess import Preprocessing
from cls.training.config import TrainConfig
from cls.training.network.input_size import size_for
from cls.training.runs.folder import LEDGER, SPLIT
from cls.training.runs.run import Run, find_runs
from cls.wording import percent

TABLE = "attribute_table.txt"
_COLUMNS = ("mA", "Acc", "Prec", "Rec", "F1")
_WIDTH = 44

_log = logging.getLogger("cls.attribute_sets")


@dataclass(frozen=True)
class PartsResult:
    """A run trained and tested on parts of one name.

    Attributes:
        parts: their name.
        run: the training.
        tested: what it is worth.
    """

    parts: str
    run: Run
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

    Returns:
        The table as text.

    Raises:
        AttributeSetError: the set has no parts, or none of a name asked for.
        UsageError: the settings do not fit a table.
        TrainingError: the training cannot start or go on.
    """
    known = sorted(loaded.part_sizes, reverse=True)  # the published ones first
    if not known:
        raise AttributeSetError("has no parts to train and test on: too few people", where=loaded.dataset_file)
    for name in names:
        if name not in known:
            raise AttributeSetError(
                f"the set has no parts '{name}'", where=loaded.dataset_file, hint=f"it has: {', '.join(known)}"
            )
    if config.world > 1:
        raise UsageError(
            "--devices, --nodes: the table is made with one device",
            hint="train with `cls train --split official` on several, then run this with the same options",
        )
    results = []
    for name in names or known:
        run = _run_of(bottle, replace(config, split=name))
        results.append(PartsResult(name, run, score_on_test(run, name)))
    text = table_of(layout, loaded, results)
    write_text_atomic(bottle.models(config.group) / TABLE, text + "\n")
    return text


def _run_of(bottle: Bottle, config: TrainConfig) -> Run:
    """The finished run of these settings on this dataset, trained now if there is none."""
    from cls.training.train import train

    dataset = read_dataset(bottle.dataset_file(config.group), config.group)
    config = _sized(bottle, config, dataset)
    for run in reversed(find_runs(bottle, config.group)):
        if _decisive(run.args["settings"]) == _decisive(config.to_dict()) and _is_trained_on(run, dataset):
            _log.info("%s has these settings and is finished: it is tested, not trained again", run.name)
            return run
    return train(bottle, config)


def _sized(bottle: Bottle, config: TrainConfig, dataset: GroupDataset) -> TrainConfig:
    """The settings with the size that `--size auto` comes to, as a finished run has written it down."""
    if not config.auto_px:
        return config
    file = bottle.dataset_file(config.group)
    known = dataset if config.incomplete is None else with_incomplete(dataset, config.incomplete, where=file)
    samples, ledger = collect_samples(bottle, known, people=config.people, subject=config.subject)
    used = split_by_parts(samples, known, config.split, ledger=ledger, where=file).samples
    height_px, width_px = size_for(used, config.auto_px, margin_rel=Preprocessing.margin_rel)
    return replace(config, height_px=height_px, width_px=width_px, auto_px=0)


def _decisive(values: dict[str, Any]) -> dict[str, Any]:
    """Settings that decide the result, as a YAML file gives them back."""
    kept: dict[str, Any] = json.loads(json.dumps(values))
    return {key: value for key, value in kept.items() if key not in ("workers", "loggers")}


def _is_trained_on(run: Run, dataset: GroupDataset) -> bool:
    """Whether a run's training and validation are the dataset's parts as they are now, labels and all."""
    sides = sides_of(dataset, run.args["settings"]["split"])
    left_out = read_json(run.folder / LEDGER)["left_out"]
    split = read_json(run.folder / SPLIT)
    for side in (TRAIN, VALID):
        used = {path: labels for path, _, labels in split[side]}
        wanted = {
            row.path: [None if math.isnan(value) else value for value in row.labels]
            for row in dataset.rows
            if sides.get(row.path) == side and (row.path in used or row.path not in left_out)
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
        counts = ", ".join(f"{side} {count:,}" for side, count in sizes.items())
        lines += ["", f"{result.parts} parts ({counts}): {_leak(result.run, loaded)}"]
        settings = result.run.args["settings"]
        name = f"{settings['arch']} {result.run.preprocessing.height_px}x{result.run.preprocessing.width_px}"
        mean = mean_of(result.tested.at_half.to_dict(), "ma")
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


def _leak(run: Run, loaded: LoadedSet) -> str:
    parts = run.metrics["parts"]
    if parts["is_leaking"]:
        return f"LEAKING, {parts['picsets_on_two_sides']:,} of {parts['picsets']:,} people on two sides"
    return f"nobody of {parts['picsets']:,} people on two sides" if loaded.people else "the set does not name people"


def _values(metrics: Metrics) -> tuple[float | None, ...]:
    """Mean accuracy mA and the instance-based measures, in percent; None where not defined."""
    shares = (metrics.macro["ma"], *(metrics.instance[key] for key in ("accuracy", "precision", "recall", "f1")))
    return tuple(None if share is None else 100 * share for share in shares)


def _line(name: str, values: Sequence[float | None]) -> str:
    return f"  {name:{_WIDTH - 2}}" + "".join(
        f"{'-' if value is None else percent(value / 100, 2).removesuffix('%'):>7}" for value in values
    )
