"""The people the report shows: most mistaken, surest, probably labelled wrongly, before and after augmentation."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cls.dataset.samples import Sample
from cls.metrics.label_errors import LabelError
from cls.training.evaluation.evaluate import Evaluation
from cls.training.report.grids import Pair, caption
from cls.wording import score

_PEOPLE_SHOWN = 14
_ERRORS_SHOWN = 28
_SHOWN_WIDTH_PX = 160


def mistaken_and_sure(
    evaluation: Evaluation, names: Sequence[str]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The most mistaken people, and the surest right ones, one of a unit."""
    odds = _log_odds(evaluation.probs) - _log_odds(np.asarray(evaluation.thresholds))
    truth = np.nan_to_num(evaluation.labels) > 0.5
    # Above 0: on the right side of the threshold, and how far.
    margins = np.where(truth, odds, -odds)
    margins[np.isnan(evaluation.labels)] = np.inf
    lowest = margins.min(axis=1)
    worst = [int(i) for i in np.argsort(lowest, kind="stable") if lowest[i] < 0]
    best = [int(i) for i in np.argsort(-lowest, kind="stable") if lowest[i] > 0 and truth[i].any()]
    return (
        [_person(evaluation, names, index, margins[index]) for index in _one_a_unit(worst, evaluation.samples)],
        [_person(evaluation, names, index, margins[index]) for index in _one_a_unit(best, evaluation.samples)],
    )


def _one_a_unit(indices: Sequence[int], samples: Sequence[Sample]) -> list[int]:
    first: dict[str, int] = {}
    for index in indices:
        first.setdefault(samples[index].unit, index)
    return list(first.values())[:_PEOPLE_SHOWN]


def _person(evaluation: Evaluation, names: Sequence[str], index: int, margins: NDArray[np.float64]) -> dict[str, Any]:
    truth, probs = evaluation.labels[index], evaluation.probs[index]
    wrong = [
        f"{'missed' if truth[label] > 0.5 else 'said'} {names[label]} ({score(probs[label], 2)})"
        for label in np.argsort(margins)
        if margins[label] < 0
    ]
    sure = [f"{names[label]} ({score(probs[label], 2)})" for label in range(len(names)) if truth[label] > 0.5]
    return {
        "image": picture_url(evaluation.cutouts.exact(index)),
        "truth": caption(truth.tolist(), names),
        "wrong": wrong,
        "sure": ", ".join(sure),
        "path": evaluation.samples[index].path,
    }


def suspects(evaluation: Evaluation, names: Sequence[str], errors: Sequence[LabelError]) -> list[dict[str, Any]]:
    """People with a label that is probably wrong, surest first; all such labels of a person together."""
    by_sample: dict[int, list[LabelError]] = {}
    for error in errors:
        by_sample.setdefault(error.sample, []).append(error)
    return [
        {
            "image": picture_url(evaluation.cutouts.exact(index)),
            "truth": caption(evaluation.labels[index].tolist(), names),
            "doubts": [
                f"{'not' if error.is_given else 'rather'} {names[error.label]} ({score(error.prob, 2)})"
                for error in found
            ],
            "path": evaluation.samples[index].path,
        }
        for index, found in list(by_sample.items())[:_ERRORS_SHOWN]
    ]


def before_and_after(pairs: Sequence[Pair]) -> list[dict[str, str]]:
    """Training pictures as they were cut out and as the network saw them."""
    return [
        {"before": picture_url(pair.before), "after": picture_url(pair.after), "caption": pair.caption}
        for pair in pairs
    ]


def picture_url(image_rgb: NDArray[np.uint8]) -> str:
    """A picture to be put into the page, at most 160 pixels wide."""
    width_px = min(_SHOWN_WIDTH_PX, image_rgb.shape[1])
    height_px = round(image_rgb.shape[0] * width_px / image_rgb.shape[1])
    small = cv2.resize(image_rgb, (width_px, height_px), interpolation=cv2.INTER_AREA)
    _, content = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
    return f"data:image/jpeg;base64,{base64.b64encode(content.tobytes()).decode()}"


def _log_odds(probs: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped = np.clip(probs, 1e-6, 1 - 1e-6)
    return np.asarray(np.log(clipped / (1 - clipped)), np.float64)
