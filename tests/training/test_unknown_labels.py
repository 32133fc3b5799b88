"""Unknown labels, missing masks and vanishing pictures, from the dataset file to metrics.json."""

from __future__ import annotations

import json
import logging
import math
import re
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from cls.bottle.dataset_file import GroupDataset, LabelledRow, read_dataset, write_dataset
from cls.bottle.layout import Bottle
from cls.dataset.samples import BROKEN, NO_FILE, NO_LABEL_KNOWN, NOT_SEGMENTED, collect_samples
from cls.dataset.split import signatures
from cls.dataset.split.assign import NEAR_DUPLICATES
from cls.errors import TrainingError
from cls.files import read_json
from cls.training.config import TrainConfig
from cls.training.data import prepare
from tests.bottles import GROUP, LABELS, make_tiny_bottle, train_tiny_run

UNKNOWN = math.nan


@pytest.fixture
def tiny(tmp_path: Path) -> Bottle:
    return make_tiny_bottle(tmp_path)


def config(**options: object) -> TrainConfig:
    values = {"arch": "mnv3", "batch": 4, "height_px": 64, "width_px": 48, "weights": "none", **options}
    return TrainConfig(GROUP, **values)  # type: ignore[arg-type]


def relabel(bottle: Bottle, change: dict[str, tuple[float, ...]]) -> None:
    """Gives pictures other labels."""
    file = bottle.dataset_file(GROUP)
    dataset = read_dataset(file)
    rows = tuple(replace(row, labels=change.get(row.path, row.labels)) for row in dataset.rows)
    write_dataset(file, replace(dataset, rows=rows))


def named(*numbers: int) -> list[str]:
    return [f"{number:04d}.jpeg" for number in numbers]


def test_incomplete_labels_are_masked_everywhere(tiny: Bottle) -> None:
    """Of the 24 people 6 are trash, 6 have each label; what they do not carry is unknown."""
    run = train_tiny_run(tiny, incomplete=())
    validation = run.metrics.validation.labels
    split = read_json(run.folder / "split.json")
    for index, label in enumerate(LABELS):
        known = [row[2][index] for row in split["valid"] if row[2][index] is not None]
        assert (validation[label].positives, validation[label].negatives) == (known.count(1.0), known.count(0.0))
    rows = [row[2] for row in split["train"] + split["valid"]]
    assert rows.count([1.0, None, None]) == 6
    assert rows.count([0.0, 0.0, 0.0]) == 6
    assert {math.isnan(value) for sample in run.samples("train") for value in sample.labels} == {True, False}
    assert all(math.isfinite(epoch.train_loss) for epoch in run.metrics.history)
    assert run.args.config.incomplete == ()


def test_writing_the_split_does_not_change_the_dataset_digest(tiny: Bottle) -> None:
    before = read_dataset(tiny.dataset_file(GROUP)).sha256
    data = prepare(tiny, config()).data
    assert data.dataset_sha256 == before == read_dataset(tiny.dataset_file(GROUP)).sha256
    assert "splits" in read_json(tiny.dataset_file(GROUP))
    assert prepare(tiny, config(incomplete=())).data.dataset_sha256 == before


def test_all_labels_unknown_is_refused(tiny: Bottle) -> None:
    relabel(tiny, dict.fromkeys(named(*range(24)), (UNKNOWN,) * 3))
    with pytest.raises(TrainingError) as caught:
        prepare(tiny, config())
    assert caught.value.code == "training.no_usable_pictures"
    assert f"24 {NO_LABEL_KNOWN}" in caught.value.what


def test_a_label_that_is_unknown_for_everybody_is_refused(tiny: Bottle) -> None:
    dataset = read_dataset(tiny.dataset_file(GROUP))
    rows = tuple(LabelledRow(row.path, (*row.labels[:2], UNKNOWN), row.picset) for row in dataset.rows)
    write_dataset(tiny.dataset_file(GROUP), GroupDataset(GROUP, LABELS, rows))
    with pytest.raises(TrainingError) as caught:
        prepare(tiny, config())
    assert caught.value.code == "training.label_unknown_for_all"
    assert "'white top'" in caught.value.what
    assert "24 people" in caught.value.what


def test_a_label_that_nobody_is_known_to_be_without_is_refused(tmp_path: Path) -> None:
    bottle = make_tiny_bottle(tmp_path, has_trash=False)
    with pytest.raises(TrainingError) as caught:
        prepare(bottle, config(incomplete=()))
    assert caught.value.code == "training.no_known_negatives"
    assert "'red top'" in caught.value.what
    assert "trash" in str(caught.value.hint)


def test_a_label_with_one_positive_is_trained(tiny: Bottle, caplog: pytest.LogCaptureFixture) -> None:
    relabel(tiny, dict.fromkeys(named(1, 2, 12, 13, 14), (0.0, 0.0, 0.0)))
    with caplog.at_level(logging.WARNING):
        run = train_tiny_run(tiny)
    assert "0000.jpeg" in {sample.path for sample in run.samples("train")}
    assert run.metrics.validation.labels["red top"].positives == 0
    assert run.metrics.validation.labels["red top"].ap is None
    assert ("red top", 1) in [record.args for record in caplog.records]


def test_an_empty_validation_part_is_refused(tiny: Bottle) -> None:
    """Everybody that was held out has been rejected since."""
    valid = [s.path for s in prepare(tiny, config()).data.valid.samples]
    with sqlite3.connect(tiny.root / "pictures.sqlite") as connection:
        connection.executemany("UPDATE pictures SET status = 'rejected' WHERE path = ?", [(name,) for name in valid])
    connection.close()
    with pytest.raises(TrainingError) as caught:
        prepare(tiny, config())
    assert caught.value.code in {"training.empty_part", "training.no_positives"}


def test_a_group_whose_masks_are_half_missing_is_trained_and_says_so(
    tiny: Bottle, caplog: pytest.LogCaptureFixture
) -> None:
    with sqlite3.connect(tiny.root / "pictures.sqlite") as connection:
        connection.execute("DELETE FROM pictures WHERE id % 2 = 0")
    connection.close()
    with caplog.at_level(logging.WARNING):
        run = train_tiny_run(tiny)
    assert run.metrics.samples.train + run.metrics.samples.valid == 12
    assert run.metrics.pictures.left_out_by_reason == {NOT_SEGMENTED: 12}
    assert ("12 pictures", NOT_SEGMENTED) in [record.args for record in caplog.records]
    assert "run `python cls/classification/segment_builder.py" in caplog.text


def test_a_picture_deleted_before_it_is_decoded_is_left_out(tiny: Bottle, monkeypatch: pytest.MonkeyPatch) -> None:
    """It goes between the look at the pool and the cutting out."""
    import cls.training.data as material_module

    real = collect_samples

    def collect_then_delete(*args: object, **options: object) -> object:
        found = real(*args, **options)  # type: ignore[arg-type]
        tiny.picture("0004.jpeg").unlink()
        return found

    monkeypatch.setattr(material_module, "collect_samples", collect_then_delete)
    data = prepare(tiny, config()).data
    assert len(data.people) == 23
    assert data.ledger.left_out == {"0004.jpeg": BROKEN}
    monkeypatch.undo()
    assert prepare(tiny, config()).data.ledger.left_out == {"0004.jpeg": NO_FILE}


def test_a_picture_deleted_after_it_was_cut_out_is_trained_on(tiny: Bottle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Training reads the cache alone; the run ends well, with the picture in it."""
    import cls.training.train as train_module

    real = train_module.prepare

    def prepare_then_delete(bottle: Bottle, config: TrainConfig) -> object:
        data = real(bottle, config)
        for picture in sorted(tiny.pictures.iterdir()):
            picture.unlink()
        return data

    monkeypatch.setattr(train_module, "prepare", prepare_then_delete)
    run = train_tiny_run(tiny)
    assert run.metrics.samples.train + run.metrics.samples.valid == 24
    assert json.loads((run.folder / "ledger.json").read_text())["left_out"] == {}


def test_joined_picsets_are_on_one_side_of_a_run(tiny: Bottle, caplog: pytest.LogCaptureFixture) -> None:
    """Two picsets hold a copy of one photo each; the run's own files say what was joined."""
    tiny.picture("0003.jpeg").write_bytes(tiny.picture("0000.jpeg").read_bytes())
    with caplog.at_level(logging.INFO):
        run = train_tiny_run(tiny)
    assert any(
        re.findall(r"\d+", text)[:2] == ["2", "1"] for text in caplog.messages if text.endswith(f"{NEAR_DUPLICATES} 1")
    )
    assert read_json(run.folder / "split.json")["joined"] == {
        "joined:picset:picset-000": ["picset:picset-000", "picset:picset-001"]
    }
    sides = {s.picset: side for side in ("train", "valid") for s in run.samples(side)}
    assert sides["picset-000"] == sides["picset-001"]
    assert {s.split_unit for side in ("train", "valid") for s in run.samples(side) if s.picset == "picset-001"} == {
        "joined:picset:picset-000"
    }
    assert (tiny.cache / signatures._FILE).exists()


def test_a_copy_added_later_never_puts_into_validation_what_was_trained_on(tiny: Bottle) -> None:
    first = prepare(tiny, config()).data
    train, valid = ({s.path for s in part.samples} for part in (first.train, first.valid))
    held, learned = min(valid), min(train)
    tiny.picture(held).write_bytes(tiny.picture(learned).read_bytes())
    # As many labels as before on both sides: nothing but the copy has changed.
    try:
        second = prepare(tiny, config()).data
    except TrainingError as error:
        assert error.code == "training.empty_part"  # noqa: PT017
        return
    assert train <= {s.path for s in second.train.samples}
    assert held in {s.path for s in second.train.samples}
