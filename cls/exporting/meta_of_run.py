"""A training run -> the meta.json of its package."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from cls.bottle.ledger import digests_of_models
from cls.exporting.parity.results import CALIBRATION_MEASURES
from cls.metrics.scores import Measures, Metrics, metrics_of_package
from cls.package.meta import END_TO_END_OUTPUT_NAME, INPUT_NAME, OUTPUT_NAME, SCHEMA_VERSION, ModelMeta, parse_meta
from cls.package.processing_steps import steps_of

if TYPE_CHECKING:
    from cls.exporting.parity.report import ParityReport
    from cls.training.runs.run import Run

_Measures = TypeVar("_Measures", bound=Measures)

# Keys of metrics.json that have a place of their own in meta.json.
_SAID_ELSEWHERE = {
    "labels", "thresholds", "dataset_sha256", "split_sha256", "weights_sha256", "segmentation_models",
    "code_version", "finished",
}  # fmt: skip
# How the training went; that is in the run's own report.
_OF_THE_RUN = {"history", "seconds", "run_seconds", "waiting_share"}


def meta_of_run(run: Run, segments: Path, *, is_end_to_end: bool = False) -> ModelMeta:
    """What a package says of itself, still without parity reports and model files.

    Nothing in it depends on when or where the export runs: the same run of the same bottle gives the same text.

    Args:
        run: a finished run.
        segments: the bottle's segments folder, which knows the files of the segmentation models.
        is_end_to_end: preprocessing and activation are inside the network.
    """
    size = (run.preprocessing.height_px, run.preprocessing.width_px)
    datatype, shape, answered = "FP32", [-1, 3, *size], OUTPUT_NAME
    if is_end_to_end:
        datatype, shape, answered = "UINT8", [-1, -1, -1, 3], END_TO_END_OUTPUT_NAME
    steps = steps_of(
        is_end_to_end=is_end_to_end,
        is_background_kept=run.preprocessing.is_background_kept,
        version=run.preprocessing.version,
    )
    return parse_meta(
        {
            "schema_version": SCHEMA_VERSION,
            "group": run.group,
            "labels": list(run.labels),
            "thresholds": dict(zip(run.labels, run.thresholds, strict=True)),
            "activation": "sigmoid",
            "steps": steps.model_dump(mode="json"),
            # In words, for people who use the package without this code; the numbers stand under `preprocessing`.
            "person": {
                "source": "outline by instance segmentation of the photo as displayed (EXIF orientation applied)",
                "frame": (
                    "box around the outline's points (the segmentation's box where there is no outline), widened on"
                    f" each side by {run.preprocessing.margin_rel:g} of its longer side, rounded outwards to whole"
                    " pixels, cut off at the photo's edge"
                ),
                "background": run.preprocessing.to_dict()["background"],
                "segmentation_models": list(run.metrics.segmentation_models),
            },
            "preprocessing": run.preprocessing.to_dict(),
            "inputs": [{"name": INPUT_NAME, "datatype": datatype, "shape": shape}],
            "outputs": [{"name": answered, "datatype": "FP32", "shape": [-1, len(run.labels)]}],
            "metrics": run.metrics.model_dump(mode="json", exclude_unset=True, exclude=_SAID_ELSEWHERE | _OF_THE_RUN),
            "parity": {},
            "digests": {
                "dataset": run.metrics.dataset_sha256,
                "split": run.metrics.split_sha256,
                "weights": run.metrics.weights_sha256,
                "files": {},
                "segmentation_models": digests_of_models(segments, run.metrics.segmentation_models),
            },
            "training": {"run": run.name, "arch": run.arch, "arguments": _plain(run.args.as_read)},
            "code_version": _code_version(run),
            "created_at": _ended_at(run),
        },
        where=run.folder,
    )


def with_calibration_of(report: ParityReport, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The run's metrics with the calibration errors of one format's own answers in the place of the trained network's.

    Where the format was asked about other people than those that were validated on, they are left out instead: what is
    there would be the trained network's.
    """
    validation = metrics_of_package(metrics.get("validation"))
    if validation is None:
        return dict(metrics)
    is_same = report.part == "validation" and report.samples == validation.samples
    own = report.calibration if is_same else Metrics()
    changed = validation.replaced(
        macro=_calibrated(validation.macro, own.macro),
        micro=_calibrated(validation.micro, own.micro),
        labels={label: _calibrated(values, own.labels.get(label)) for label, values in validation.labels.items()},
    )
    return {**metrics, "validation": changed.to_json_values()}


def _calibrated(values: _Measures, own: Measures | None) -> _Measures:
    known, found = values.to_json_values(), {} if own is None else own.to_json_values()
    kept = {
        key: found.get(key, value) for key, value in known.items() if key not in CALIBRATION_MEASURES or key in found
    }
    return type(values).model_validate(kept)


def _code_version(run: Run) -> str:
    """Of the code that trained: the one that finished the run, or that started it."""
    return run.metrics.code_version or run.args.code_version


def _plain(value: Any) -> Any:
    """YAML's values as JSON's: dates become text, numbers that JSON does not know become null."""
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _ended_at(run: Run) -> str:
    """When the training ended, in UTC: as metrics.json says, else the file's own time."""
    try:
        ended = datetime.fromisoformat(run.metrics.finished).astimezone(UTC)
    except ValueError:
        ended = datetime.fromtimestamp((run.folder / "metrics.json").stat().st_mtime, UTC)
    return ended.replace(microsecond=0).isoformat().replace("+00:00", "Z")
