"""A split that exists does not change in silence: the log says who moves from validation to training, and where to."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from cls.bottle.layout import Bottle
from cls.files import read_json, write_json_atomic
from cls.training.config import TrainConfig
from cls.training.data import _moved_line, prepare
from tests.bottles import GROUP, make_tiny_bottle

KEY = "seed 0, share 0.3"


@pytest.fixture
def tiny(tmp_path: Path) -> Bottle:
    return make_tiny_bottle(tmp_path)


def config() -> TrainConfig:
    return TrainConfig(group=GROUP, arch="mnv3", height_px=64, width_px=48, weights="none", epochs=1, valid=0.3)


def test_a_join_that_is_found_later_is_said(tiny: Bottle, caplog: pytest.LogCaptureFixture) -> None:
    """An earlier version's split has two copies of one photo on two sides: validation gives its picset up."""
    tiny.picture("0003.jpeg").write_bytes(tiny.picture("0000.jpeg").read_bytes())
    file = tiny.dataset_file(GROUP)
    sides = {f"picset:picset-{n:03d}": "valid" if n in (1, 2, 4) else "train" for n in range(8)}
    pictures = {f"picture:{n:04d}.jpeg": sides[f"picset:picset-{n // 3:03d}"] for n in range(24)}
    write_json_atomic(file, {**read_json(file), "splits": {KEY: {**sides, **pictures}}})
    with caplog.at_level(logging.INFO):
        data = prepare(tiny, config()).data
    said = [
        record.message
        for record in caplog.records
        if record.levelno == logging.WARNING and "1 picset " in record.message
    ]
    assert len(said) == 1
    assert "3 pictures" in said[0]
    assert "picset:picset-001" in said[0]
    now = {sample.picset for sample in data.people.samples if data.split.subsets[sample.split_unit] == "valid"}
    assert now == {"picset-002", "picset-004"}
    assert read_json(file)["splits"][KEY]["picset:picset-001"] == "train"
    caplog.clear()
    with caplog.at_level(logging.INFO):
        prepare(tiny, config())
    assert "picset:picset-001" not in caplog.text, "said once: the split is another one now"


def test_ten_are_named_and_others_counted() -> None:
    pictures = tuple(f"picture:{n:02d}.jpeg" for n in range(25))
    picsets = tuple(f"picset:{n:02d}" for n in range(12))
    line = _moved_line((*picsets, *pictures))
    assert line.startswith("12 picsets and 25 pictures ")
    assert "picset:09 and 2 more." in line
    assert "picset:10" not in line
    assert "picture:00" not in line
    alone = _moved_line(pictures[:10])
    assert alone.startswith("0 picsets and 10 pictures ")
    assert alone.split(": ", 1)[1].startswith("picture:00.jpeg, ")
    assert "more" not in alone
