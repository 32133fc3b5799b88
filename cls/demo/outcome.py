"""What a finished demonstration has to show: its numbers, its products, its last lines."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cls.bottle.dataset_file import read_dataset
from cls.demo.unseen import Score, read_predictions, read_truth, score_predictions
from cls.demo.walk import Walk
from cls.errors import ClsError
from cls.files import read_json
from cls.package.model_name import model_name_of_group
from cls.package.validation_scores import MeanScore, ValidationScores, validation_scores
from cls.wording import counted, interval, mean_over, score


def validation_of(walk: Walk) -> tuple[ValidationScores, float | None]:
    """The run's scores on validation, and the mean average precision of guessing.

    Raises:
        ClsError: the run has not been validated.
    """
    metrics: dict[str, Any] = read_json(walk.run / "metrics.json")
    scores = validation_scores(metrics)
    if scores is None:
        raise ClsError("the run has not been validated", where=walk.run)
    return scores, metrics["validation"]["macro"].get("base_rate")


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
    scores, base_rate = validation_of(walk)
    picsets = len({row.picset for row in dataset.rows})
    unseen = unseen_score(walk)
    spent_s = sum(result.seconds for result in walk.results)
    return [
        (f"{len(dataset.rows):,}", f"photos in {counted(picsets, 'picset')}, {counted(len(dataset.labels), 'label')}"),
        (score(scores.f1.value), _cross_validated(scores)),
        *([] if unseen is None else [(score(unseen.f1), _of_new_people(unseen))]),
        (
            score(scores.ap.value),
            f"mean average precision{_inside(scores.ap)}: {scores.ap.over} (guessing: {score(base_rate)})",
        ),
        (walk.version, "served version"),
        (f"{spent_s:.0f} s", "for all stages"),
    ]


def _cross_validated(scores: ValidationScores) -> str:
    if scores.f1.value is None:
        return scores.headline()
    return f"cross-validated F1{_inside(scores.f1)}: {scores.f1.over}, {scores.measured_on()} of validation"


def _of_new_people(unseen: Score) -> str:
    return (
        f"F1 of the served model: {mean_over(unseen.labels, unseen.all_labels)},"
        f" {counted(unseen.photos, 'photo')} of new people"
    )


def _inside(mean: MeanScore) -> str:
    return f" ({interval(mean.bounds)})" if mean.bounds else ""


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
    scores, base_rate = validation_of(walk)
    lines.append(
        f"On validation picsets, never seen in training: {scores.headline()};"
        f" mean average precision {scores.ap.text()}, {scores.ap.over} (guessing: {score(base_rate)})."
    )
    unseen = unseen_score(walk)
    if unseen is not None:
        lines.append(
            f"The served model on {counted(unseen.photos, 'photo')} of people made afterwards: F1 {score(unseen.f1)},"
            f" {mean_over(unseen.labels, unseen.all_labels)}; {unseen.right} with every label right."
        )
    seconds = sum(result.seconds for result in walk.results if not result.was_done)
    lines.append(f"It took {seconds:.0f} s; run it again and it goes on from what is there.")
    lines.append(f"Open {page.absolute()} in a browser to see it.")
    return lines
