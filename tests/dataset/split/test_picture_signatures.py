"""Signatures of a pool: by how many threads they are made, and what is said of it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from cls import progress
from cls.bottle.dataset_file import read_dataset
from cls.bottle.layout import Bottle
from cls.dataset.samples import Sample, collect_samples
from cls.dataset.split import signatures
from cls.dataset.split.assign import find_joined_units
from cls.dataset.split.signatures import min_longer_side_px, signatures_in, signatures_of
from cls.files import atomic_path
from cls.people.photos import Person
from tests.bottles import GROUP, make_empty_bottle, make_tiny_bottle


@pytest.fixture
def tiny(tmp_path: Path) -> Bottle:
    return make_tiny_bottle(tmp_path)


def samples_of(bottle: Bottle) -> list[Sample]:
    return collect_samples(bottle, read_dataset(bottle.dataset_file(GROUP)))[0]


@pytest.mark.parametrize("how", ["signed", "forgotten"])
def test_what_older_versions_kept_is_removed(tiny: Bottle, how: str) -> None:
    older = tiny.cache / "picture_signatures.json"
    older.parent.mkdir(parents=True, exist_ok=True)
    older.write_text("{}")
    if how == "signed":
        signatures_of(tiny, samples_of(tiny), workers=1)
    else:
        signatures.drop_stale_signatures(tiny)
    assert not older.exists()


@pytest.mark.parametrize(("workers", "at_once"), [(3, 3), (1, 1), (0, 1)])
def test_pictures_are_decoded_by_so_many_threads(
    tiny: Bottle, workers: int, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    met, names = threading.Barrier(at_once), set()
    make = signatures.signatures_in

    def make_together(content: bytes, people: Collection[Person], *, where: object = None) -> list[object]:
        names.add(threading.current_thread().name)
        met.wait(timeout=20)
        return list(make(content, people, where=where))

    monkeypatch.setattr(signatures, "signatures_in", make_together)
    assert len(signatures_of(tiny, samples_of(tiny)[:6], workers=workers)) == 6
    assert len(names) == at_once


def test_how_far_it_is(tiny: Bottle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(progress, "_SECONDS_BETWEEN_LINES", 0.0)
    with caplog.at_level(logging.INFO, logger="cls"):
        signatures_of(tiny, samples_of(tiny)[:3], workers=1)
    lines = [record.getMessage().split(" (")[0] for record in caplog.records]
    assert lines == [f"pictures compared: {done} of 3" for done in (1, 2, 3)]


def test_a_pool_of_more_pictures_than_are_saved_at_once(tiny: Bottle, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was saved when the work was cut off is not made again."""
    samples = samples_of(tiny)[:5]
    expected = signatures_of(tiny, samples, workers=1)
    (tiny.cache / "person_signatures.npz").unlink()
    monkeypatch.setattr(signatures, "_PICTURES_A_SAVE", 2)
    make, made = signatures.signatures_in, []

    def make_four(content: bytes, people: Collection[Person], *, where: object = None) -> list[object]:
        made.append(where)
        if len(made) == 5:
            raise KeyboardInterrupt
        return list(make(content, people, where=where))

    monkeypatch.setattr(signatures, "signatures_in", make_four)
    with pytest.raises(KeyboardInterrupt):
        signatures_of(tiny, samples, workers=1)
    found = signatures_of(tiny, samples, workers=1)
    assert [Path(str(one)).name for one in made] == [f"000{n}.jpeg" for n in (0, 1, 2, 3, 4, 4)]
    assert all(np.array_equal(*pair) for pair in zip(found, expected, strict=True))


def test_an_outline_of_three_points_is_one(tiny: Bottle) -> None:
    """A triangle is looked at as it is; a line is none, and the box counts."""
    sample = samples_of(tiny)[0]
    content = tiny.picture(sample.path).read_bytes()
    left, top, right, bottom = sample.person.box_xyxy_px
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)]) / (120, 160)
    triangle, box, line = (replace(sample.person, polygons_xy_rel=(corners[:n],)) for n in (3, 4, 2))
    none = replace(sample.person, polygons_xy_rel=())
    found = signatures_in(content, [triangle, box, line, none])
    assert not np.array_equal(found[0], found[1])  # type: ignore[arg-type]
    assert np.array_equal(found[2], found[1])  # type: ignore[arg-type]
    assert np.array_equal(found[3], found[1])  # type: ignore[arg-type]


def test_a_bottle_without_a_folder(tmp_path: Path, tiny: Bottle) -> None:
    empty = make_empty_bottle(tmp_path / "empty")
    assert signatures_of(empty, samples_of(tiny)[:1], workers=1) == [None]


def test_what_cannot_be_read_is_logged_as_of_the_dataset(tiny: Bottle, caplog: pytest.LogCaptureFixture) -> None:
    samples = samples_of(tiny)
    file = tiny.meta_file(GROUP, samples[0].picset)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("{")
    tiny.cache.mkdir(parents=True, exist_ok=True)
    (tiny.cache / "person_signatures.npz").write_text("{")
    find_joined_units(tiny, GROUP, samples[:1], keys=["model"])
    said = [record for record in caplog.records if "read" in record.getMessage()]
    assert [(record.name, record.levelname) for record in said] == [("cls.dataset", "WARNING")] * 2


def test_what_a_killed_run_left_half_written_is_removed(tiny: Bottle) -> None:
    file = tiny.cache / "person_signatures.npz"
    file.parent.mkdir(parents=True)
    with atomic_path(file) as part:
        part.touch()
    part.write_bytes(b"half")
    others = tiny.cache / part.name.replace("person_signatures", "something_else")
    others.touch()
    signatures_of(tiny, samples_of(tiny)[:1], workers=1)
    assert file.exists()
    assert not part.exists()
    assert others.exists()


def test_a_photo_is_decoded_as_large_as_its_smallest_person_needs() -> None:
    """Whoever else is in it: two of 2 and of 30 percent of its height."""
    cells = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    ok, content = cv2.imencode(".jpg", cv2.resize(cells, (1600, 1200), interpolation=cv2.INTER_CUBIC))
    assert ok
    corners = np.array([(0, 0), (1, 0), (1, 1), (0, 1)], np.float64)
    small, large = (Person("person", 0.9, (0, 0, 9, 9), (0.5 + side * corners / (4, 3),)) for side in (0.08, 1.2))
    assert min_longer_side_px(large) < 200 < min_longer_side_px(small)
    both = signatures_in(content.tobytes(), [large, small])
    (alone,) = signatures_in(content.tobytes(), [small])
    assert np.array_equal(both[1], alone)  # type: ignore[arg-type]
    (coarse,) = signatures_in(content.tobytes(), [large])
    assert not np.array_equal(both[0], coarse), "it is looked at more finely than alone"  # type: ignore[arg-type]


def test_people_are_known_again_by_box_and_outline() -> None:
    outline = np.array([[0, 0], [1, 0], [1, 1]], np.float64)
    assert signatures._outline_digest(Person("female", 0.9, (1.0, 2.0, 3.0, 4.0), (outline,))) == "595381c8d56b52a9"
