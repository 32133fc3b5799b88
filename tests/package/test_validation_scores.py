"""The scores that a run, a package and their pages say first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cls.metrics.scores import Metrics, ValidationScores, metrics_of_package
from cls.package.card import card_of
from cls.package.meta import write_meta
from tests.package.metas import make_meta

LABELS = ("black hair", "blonde hair", "red hair")


def metrics(**changes: Any) -> dict[str, Any]:
    """As metrics.json has them: of three labels one has nobody in validation, and one too few picsets."""
    own = {"f1": 1.0, "ap": 0.9965, "positives": 20}
    labels = {
        LABELS[0]: own,
        LABELS[1]: {"f1": 0.5, "ap": 0.4, "positives": 2},
        LABELS[2]: {"f1": None, "ap": None},
    }
    cross_validated = {
        "macro": {"f1": 0.9965, "ma": 0.9},
        "labels": {LABELS[0]: {"f1": 0.9965, "ma": 0.9}, LABELS[1]: {"f1": 0.1, "ma": 0.5}, LABELS[2]: {"f1": None}},
        "left_out": [LABELS[1], LABELS[2]],
        "intervals": {"f1": [0.83157, 1.0]},
    }
    validation = {
        "labels": labels, "macro": {"f1": 0.75, "ap": 0.69825}, "samples": 60, "cross_fitted": cross_validated,
        "intervals": {"units": 12, "macro": {"ap": [0.9, 1.0]}, "left_out": [LABELS[1], LABELS[2]]},
    }  # fmt: skip
    return {"validation": {**validation, **changes}, "samples": {"train": 200, "valid": 60}}


def scores_of(metrics: dict[str, Any]) -> ValidationScores | None:
    found = metrics_of_package(metrics.get("validation"))
    return None if found is None else found.scores


def test_the_cross_validated_score_says_over_what() -> None:
    found = scores_of(metrics())
    assert found is not None
    assert found.headline() == (
        "cross-validated F1 0.996 (0.832–1.000), mean over 1 of 3 labels, 60 people of 12 picsets"
    )
    assert (found.f1.value, found.f1.bounds, found.ma.value) == (0.9965, (0.83157, 1.0), 0.9)
    assert (found.ap.text(), found.ap.over) == ("0.698", "mean over 2 of 3 labels"), "an interval of another mean"
    assert (found.f1_in_sample.value, found.f1_in_sample.labels) == (0.75, 2)


@pytest.mark.parametrize("cross_validated", [None, 7, {}, {"macro": {"f1": "high"}, "labels": []}])
def test_what_older_versions_did_not_measure_is_not_measured(cross_validated: object) -> None:
    found = scores_of(metrics(cross_fitted=cross_validated))
    assert found is not None
    assert found.headline().startswith("cross-validated F1 not measured")
    assert found.f1_in_sample.value == 0.75
    for nothing in ({}, {"validation": None}, {"validation": 7}):
        assert scores_of(nothing) is None
    assert Metrics().mean("ap").value is None


def test_only_the_values_that_cannot_be_read_are_not_measured() -> None:
    labels = {"hat": {"f1": "high", "ap": "low", "recall": 0.5}, "cap": 3}
    intervals = {"macro": {"ap": ["low", "high"], "f1": [0.1], "ma": [0.2, 0.3]}, "left_out": [1, 2], "units": 12}
    found = metrics_of_package({"labels": labels, "intervals": intervals, "samples": 60, "macro": {"f1": 0.75}})
    assert found is not None
    assert found.to_json_values() == {
        "labels": {"hat": {"recall": 0.5}, "cap": {}}, "intervals": {"macro": {"ma": [0.2, 0.3]}, "units": 12},
        "samples": 60, "macro": {"f1": 0.75},
    }  # fmt: skip
    assert metrics_of_package({"labels": {"\ud800": {"f1": "high"}}}) == Metrics()


def test_a_mean_over_all_labels_has_its_interval() -> None:
    found = scores_of(metrics(intervals={"units": 12, "macro": {"ap": [0.6, 0.8]}, "left_out": []}))
    assert found is not None
    assert found.ap.bounds == (0.6, 0.8)


def test_labels_of_too_few_picsets_leave_no_cross_validated_score() -> None:
    cross_validated = {"macro": {"f1": None}, "labels": {key: {"f1": 0.5} for key in LABELS}, "left_out": list(LABELS)}
    found = scores_of(metrics(cross_fitted=cross_validated))
    assert found is not None
    assert found.headline() == "cross-validated F1 not measured: every label's positives are in too few picsets"


def test_the_card_says_the_honest_scores_first(tmp_path: Path) -> None:
    write_meta(tmp_path / "meta.json", make_meta(metrics=metrics()))
    lines = card_of(tmp_path).text().splitlines()
    at = lines.index(
        "validation     cross-validated F1 0.996 (0.832–1.000), mean over 1 of 3 labels, 60 people of 12 picsets"
    )
    assert lines[at + 1 : at + 4] == [
        "               cross-validated mA 0.900, mean over 1 of 3 labels",
        "               mAP 0.698, mean over 2 of 3 labels",
        "               F1 with the thresholds chosen on the same people 0.750, mean over 2 of 3 labels",
    ]
    assert "  black hair   0.5000  0.996  1.000  of 20" in lines
    assert "  red hair     0.5000      -      -  of ?" in lines
    write_meta(tmp_path / "meta.json", make_meta(metrics=metrics(cross_fitted=None)))
    assert "validation     cross-validated F1 not measured" in card_of(tmp_path).text()
    write_meta(tmp_path / "meta.json", make_meta(metrics={}))
    assert "validation     not measured" in card_of(tmp_path).text()
    write_meta(tmp_path / "meta.json", make_meta(metrics={"validation": None}))
    assert "validation     none: trained on all people" in card_of(tmp_path).text()
