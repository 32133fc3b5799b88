"""metrics.json of runs that nobody trained."""

from __future__ import annotations

from typing import Any

from cls.training.runs.metrics import RunMetrics


def metrics_dict(labels: tuple[str, ...] = ("hat",), **changes: Any) -> dict[str, Any]:
    """As the file has it; what is not given is as little as a run can say."""
    return {
        "labels": list(labels), "thresholds": dict.fromkeys(labels, 0.5), "dataset_sha256": "d", "split_sha256": "s",
        "weights_sha256": "w", "segmentation_models": [], **changes,
    }  # fmt: skip


def run_metrics(labels: tuple[str, ...] = ("hat",), **changes: Any) -> RunMetrics:
    """The same, read."""
    return RunMetrics.model_validate(metrics_dict(labels, **changes))
