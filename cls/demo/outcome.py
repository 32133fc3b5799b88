"""What a finished demonstration has to show: its numbers, its products, its last lines."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cls.bottle.dataset_file import read_dataset
from cls.demo.unseen import Score, read_predictions, read_truth, score_predictions
from cls.demo.walk import Walk
from cls.files import read_json
from cls.package.model_name import model_name_of_group
from cls.wording import counted


def validation_metrics(walk: Walk) -> dict[str, Any]:
    """The macro means of the run's validation metrics: f1, ap, base_rate, ..."""
    macro: dict[str, Any] = read_json(walk.run / "metrics.json")["validation"]["macro"]
    return macro


def unseen_truth(walk: Walk) -> dict[str, set[str]] | None:
    """The true labels of the sample's new photos, by file name; None for photos whose truth is not known."""
    if walk.plan.source is not None:
        return None
    labels = read_dataset(walk.bottle.dataset_file(walk.plan.group), walk.plan.group).labels
    return read_truth(walk.plan.folder / "new_photos" / "tags.csv", labels)


def unseen_score(walk: Walk) -> Score | None:
    """How the served model did on new people of the sample; None for photos whose truth is not known."""
    truth = unseen_truth(walk)
    if truth is None:
        return None
    labels = read_dataset(walk.bottle.dataset_file(walk.plan.group), walk.plan.group).labels
    return score_predictions(read_predictions(walk.predictions / "predictions.jsonl"), truth, labels)


def headline_numbers(walk: Walk) -> list[tuple[str, str]]:
    """Value and name of what counts, in the order of reading."""
    dataset = read_dataset(walk.bottle.dataset_file(walk.plan.group), walk.plan.group)
    macro = validation_metrics(walk)
    picsets = len({row.picset for row in dataset.rows})
    unseen = unseen_score(walk)
    spent_s = sum(result.seconds for result in walk.results)
    return [
        (f"{len(dataset.rows):,}", f"photos in {picsets:,} picsets"),
        (str(len(dataset.labels)), "labels"),
        (_two(macro["f1"]), "F1, mean over labels, on validation picsets"),
        (_two(macro["ap"]), f"mean average precision (base rate {_two(macro['base_rate'])})"),
        *(
            []
            if unseen is None
            else [(_two(unseen.f1), f"F1 of the served model, {counted(unseen.photos, 'photo')} of new people")]
        ),
        (walk.version, "served version"),
        (f"{spent_s:.0f} s", "for all stages"),
    ]


def _two(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def products(walk: Walk) -> list[tuple[str, Path]]:
    """What was made, and where."""
    bottle, plan = walk.bottle, walk.plan
    package = bottle.inference_model(plan.group)
    return [
        ("photos, as loaded from the collector", bottle.pictures),
        ("labelled dataset", bottle.dataset_file(plan.group)),
        ("who is where in each photo", bottle.root / "pictures.sqlite"),
        ("training run", walk.run),
        ("its report", walk.run / "report.html"),
        ("converted model and its proof", package / "meta.json"),
        ("package for the model storage", package / "model_onnx.zip"),
        ("published model", plan.storage / "model_repository" / model_name_of_group(plan.group)),
        ("predictions for new photos", walk.predictions / "predictions.csv"),
        ("predictions for the group's photos", walk.group_predictions / "predictions.csv"),
    ]


def summary_lines(walk: Walk, page: Path) -> list[str]:
    """The last lines of a demonstration: what was made and where."""
    lines = [f"{walk.plan.group} {walk.version} is published. " + "What was made:"]
    width = max(len(what) for what, _ in products(walk))
    lines += [f"  {what:<{width}}  {os.path.relpath(path)}" for what, path in products(walk)]
    macro = validation_metrics(walk)
    lines.append(
        f"On validation picsets, never seen in training: F1 {_two(macro['f1'])}, mean average precision "
        f"{_two(macro['ap'])} (base rate {_two(macro['base_rate'])})."
    )
    unseen = unseen_score(walk)
    if unseen is not None:
        lines.append(
            f"The served model on {counted(unseen.photos, 'photo')} of people made afterwards: F1 {_two(unseen.f1)}."
        )
    seconds = sum(result.seconds for result in walk.results if not result.was_done)
    lines.append(f"It took {seconds:.0f} s; run it again and it goes on from what is there.")
    lines.append(f"Open {page.absolute()} in a browser to see it.")
    return lines
