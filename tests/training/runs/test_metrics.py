"""metrics.json: read as all versions wrote it, and a broken one refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from cls.bottle.layout import Bottle
from cls.errors import BottleError, FileError
from cls.exporting.package_writer import meta_of_run
from cls.metrics.scores import Metrics, metrics_of_package
from cls.people.preprocess import Preprocessing
from cls.records import read_record, write_record
from cls.training.report.labels import label_rows
from cls.training.report.page import (
    backgrounds_of_run,
    calibration_of_run,
    cards,
    leak_tax_of_run,
    measured_text,
    overall,
)
from cls.training.runs.args import write_args
from cls.training.runs.listing import FINISHED_STATE, list_runs
from cls.training.runs.metrics import RunMetrics
from cls.training.runs.run import open_run
from cls.training.runs.table import compared, comparison, run_table
from tests.bottles import GROUP, LABELS, make_empty_bottle, run_args
from tests.training.made_metrics import metrics_dict

EARLIER = sorted((Path(__file__).parent / "earlier_metrics").glob("*.json"))


def run_with(file: Path, bottle: Bottle, number: int = 0) -> Path:
    """A run folder with that metrics.json."""
    folder = bottle.models(GROUP) / f"v__{number}_train_mnv3_4_0.001"
    folder.mkdir(parents=True)
    write_args(folder, run_args(GROUP, "mobilenetv3_small_100", Preprocessing(64, 48), {"epochs": 2}))
    shutil.copy(file, folder / "metrics.json")
    return folder


@pytest.mark.parametrize("file", EARLIER, ids=lambda file: file.stem)
def test_earlier_forms_are_read_and_written_again_as_they_were(file: Path, tmp_path: Path) -> None:
    metrics, said = read_record(file, RunMetrics), json.loads(file.read_text(encoding="utf-8"))
    assert metrics.to_json_values() == said
    write_record(tmp_path / "again.json", metrics)
    assert json.loads((tmp_path / "again.json").read_text(encoding="utf-8")) == said
    validation = metrics.validation
    assert validation is not None
    assert (validation.macro.ap, validation.samples) == (said["validation"]["macro"]["ap"], metrics.samples.valid)  # type: ignore[union-attr]
    assert (metrics.calibration is None) == ("calibration" not in said)
    assert validation.left_out == tuple(said["validation"].get("cross_fitted", {}).get("left_out", ()))


@pytest.mark.parametrize("file", EARLIER, ids=lambda file: file.stem)
def test_runs_of_earlier_versions_are_listed_reported_and_packaged(file: Path, tmp_path: Path) -> None:
    bottle = make_empty_bottle(tmp_path)
    run = open_run(bottle, run_with(file, bottle))
    run_with(EARLIER[-1], bottle, 1)
    entries = list_runs(bottle)
    assert [entry.state for entry in entries] == [FINISHED_STATE] * 2
    said = json.loads(file.read_text(encoding="utf-8"))
    row = next(line for line in run_table(entries).splitlines() if run.name in line)
    assert f"{said['samples']['train']}+{said['samples']['valid']}" in row
    listed = entries[0].listed()
    assert (listed.ap, listed.run_seconds) == (said["validation"]["macro"]["ap"], said.get("run_seconds"))
    assert "mAP" in comparison(*entries)
    assert compared(*entries).measures["mAP"].values[0] == listed.ap
    assert run.summary().startswith("cross-validated F1 ")
    validation = run.metrics.validation or Metrics()
    rows = label_rows(LABELS, np.ones((4, 3), np.float32), validation)
    assert [row["name"] for row in rows[:3]] == list(LABELS)
    assert rows[0]["positives"] == str(said["validation"]["labels"][LABELS[0]]["positives"])
    shown = 5 + ("background_sensitivity" in said) + (validation.scores.ma.value is not None)
    assert len(cards(run.metrics)) == shown
    assert overall(validation)
    assert measured_text(validation, 12, 4).startswith("Measured on 12 people of 4 picsets")
    assert bool(calibration_of_run(run.metrics.calibration).rows) == ("calibration" in said)
    assert (backgrounds_of_run(run.metrics.background_sensitivity, LABELS) is None) == (
        "background_sensitivity" not in said
    )
    assert (leak_tax_of_run(run.metrics.leak_tax) is None) == ("leak_tax" not in said)
    meta = meta_of_run(run, bottle.segments)
    assert meta.metrics["validation"] == said["validation"]
    assert metrics_of_package(meta.metrics["validation"]) == validation
    assert meta.digests.weights == said["weights_sha256"]


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"validation": {"macro": {"f1": "high"}}}, "validation.macro.f1"),
        ({"labels": []}, "labels"),
        ({"thresholds": {}}, "hat"),
        ({"thresholds": {"hat": float("nan")}}, "thresholds.hat"),
        ({"thresholds": {"hat": -0.1}}, "thresholds.hat"),
        ({"thresholds": {"hat": 1.5}}, "thresholds.hat"),
        ({"labels": ["hat", "hat"]}, "labels: hat"),
        ({"samples": {"train": 2.5}}, "samples.train"),
        ({"leak_tax": {"by_picset": {}}}, "leak_tax.random_split"),
    ],
)
def test_what_is_no_metrics_file_is_one_error(tmp_path: Path, changes: dict[str, object], named: str) -> None:
    file = run_with(EARLIER[0], make_empty_bottle(tmp_path)) / "metrics.json"
    file.write_text(json.dumps(metrics_dict() | changes), encoding="utf-8")
    with pytest.raises(FileError) as caught:
        read_record(file, RunMetrics)
    assert caught.value.code == "file.invalid_content"
    assert named in caught.value.what
    assert caught.value.where == str(file)
    with pytest.raises(BottleError) as refused:
        open_run(make_empty_bottle(tmp_path / "other"), file.parent)
    assert refused.value.code == "bottle.run_unreadable"


def test_keys_of_later_versions_are_kept(tmp_path: Path) -> None:
    said = metrics_dict(later={"x": [1, None]}, validation={"macro": {"f1": 0.5, "later": 3}})
    (tmp_path / "metrics.json").write_text(json.dumps(said), encoding="utf-8")
    metrics = read_record(tmp_path / "metrics.json", RunMetrics)
    assert metrics.replaced(run_seconds=3.5).to_json_values() == {**said, "run_seconds": 3.5}
