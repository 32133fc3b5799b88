from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from cls.bottle.dataset_file import read_dataset
from cls.bottle.layout import Bottle
from cls.dataset.samples import BROKEN, NO_FILE, NO_PERSON_FOUND, NOT_SEGMENTED, REJECTED, collect_samples, drop_broken
from tests.bottles import GROUP, make_tiny_bottle


@pytest.fixture
def tiny(tmp_path: Path) -> Bottle:
    return make_tiny_bottle(tmp_path)


def change(bottle: Bottle, statement: str) -> None:
    with sqlite3.connect(bottle.root / "pictures.sqlite") as connection:
        connection.execute(statement)
    connection.close()


def test_every_picture_gives_its_person(tiny: Bottle) -> None:
    dataset = read_dataset(tiny.dataset_file(GROUP))
    samples, ledger = collect_samples(tiny, dataset)
    assert [s.path for s in samples] == [row.path for row in dataset.rows]
    assert [s.labels for s in samples] == [row.labels for row in dataset.rows]
    assert not ledger.left_out
    assert ledger.segmentation_models == {"tiny_person": 24}


def test_what_is_left_out_is_counted_and_listed(tiny: Bottle) -> None:
    change(tiny, "UPDATE pictures SET status = 'rejected' WHERE path IN ('0000.jpeg', '0001.jpeg')")
    change(tiny, "UPDATE pictures SET segments = '{}' WHERE path = '0002.jpeg'")
    change(tiny, "UPDATE pictures SET segments = NULL WHERE path = '0003.jpeg'")
    change(tiny, "DELETE FROM pictures WHERE path = '0004.jpeg'")
    tiny.picture("0005.jpeg").unlink()
    samples, ledger = collect_samples(tiny, read_dataset(tiny.dataset_file(GROUP)))
    assert len(samples) == 18
    assert ledger.left_out == {
        "0000.jpeg": REJECTED,
        "0001.jpeg": REJECTED,
        "0002.jpeg": NO_PERSON_FOUND,
        "0003.jpeg": NOT_SEGMENTED,
        "0004.jpeg": NOT_SEGMENTED,
        "0005.jpeg": NO_FILE,
    }
    assert ledger.reasons == {REJECTED: 2, NOT_SEGMENTED: 2, NO_PERSON_FOUND: 1, NO_FILE: 1}
    assert ledger.counts().used == 18
    left = drop_broken(samples, ["0006.jpeg"], ledger)
    assert len(left) == 17
    assert ledger.left_out["0006.jpeg"] == BROKEN


def test_people_and_subject_decide_whose_label_it_is(tiny: Bottle) -> None:
    change(
        tiny,
        'UPDATE pictures SET segments = json_set(segments, \'$.1\', json(\'{"cls": "male", "conf": 0.8, '
        '"bbox": [0, 0, 20, 40], "segments": [[0, 0, 0.1, 0, 0.1, 0.2]]}\')) WHERE path = \'0000.jpeg\'',
    )
    dataset = read_dataset(tiny.dataset_file(GROUP))
    everyone, _ = collect_samples(tiny, dataset, people="all")
    assert [(s.path, s.number, s.person.cls) for s in everyone[:2]] == [
        ("0000.jpeg", 0, "female"),
        ("0000.jpeg", 1, "male"),
    ]
    single, ledger = collect_samples(tiny, dataset, people="single")
    assert len(single) == 23
    assert list(ledger.left_out) == ["0000.jpeg"]
    men, ledger = collect_samples(tiny, dataset, subject="male")
    assert [s.person.cls for s in men] == ["male"]
    assert set(ledger.reasons.values()) == {23}
