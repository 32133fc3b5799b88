from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cls.bottle.dataset_file import read_dataset
from cls.bottle.layout import Bottle
from cls.collector.picset_files import meta_file
from cls.dataset.joins import NEAR_DUPLICATES, connected, find_joins
from cls.dataset.picture_signatures import forget_signatures, signatures_of
from cls.dataset.samples import Sample, collect_samples
from tests.bottles import GROUP, make_tiny_bottle


@pytest.fixture
def tiny(tmp_path: Path) -> Bottle:
    return make_tiny_bottle(tmp_path)


def samples_of(bottle: Bottle) -> list[Sample]:
    return collect_samples(bottle, read_dataset(bottle.dataset_file(GROUP)))[0]


def say(bottle: Bottle, picset: int, **head: object) -> None:
    file = meta_file(bottle, GROUP, f"picset-{picset:03d}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"picset": {"guid": f"picset-{picset:03d}", **head}, "items": []}))


def copy_picture(bottle: Bottle, source: str, target: str, quality: int = 60) -> None:
    image = cv2.imread(str(bottle.picture(source)))
    assert image is not None
    cv2.imwrite(str(bottle.picture(target)), cv2.resize(image, (96, 128)), [cv2.IMWRITE_JPEG_QUALITY, quality])


def test_different_photos_are_joined_with_nothing(tiny: Bottle) -> None:
    assert not find_joins(tiny, GROUP, samples_of(tiny), keys=["model"]).clusters


def test_picsets_with_a_copy_of_one_photo_belong_together(tiny: Bottle) -> None:
    copy_picture(tiny, "0000.jpeg", "0005.jpeg")
    copy_picture(tiny, "0004.jpeg", "0010.jpeg")
    joins = find_joins(tiny, GROUP, samples_of(tiny), workers=2)
    name = "joined:picset:picset-000"
    assert joins.clusters == {f"picset:picset-00{number}": name for number in (0, 1, 3)}
    assert joins.reasons == {NEAR_DUPLICATES: 2}
    applied = joins.applied(samples_of(tiny))
    assert {s.unit for s in applied if s.picset in ("picset-000", "picset-001", "picset-003")} == {name}
    assert {s.joined for s in applied if s.picset == "picset-002"} == {""}
    assert not find_joins(tiny, GROUP, samples_of(tiny), has_near_duplicates=False).clusters


def test_flat_and_broken_pictures_join_nothing(tiny: Bottle) -> None:
    for name in ("0000.jpeg", "0005.jpeg", "0010.jpeg"):
        cv2.imwrite(str(tiny.picture(name)), np.full((160, 120, 3), 255, np.uint8))
    for name in ("0001.jpeg", "0006.jpeg"):
        tiny.picture(name).write_bytes(b"no picture")
    assert not find_joins(tiny, GROUP, samples_of(tiny)).clusters


def test_the_same_model_or_shoot_belongs_together(tiny: Bottle) -> None:
    say(tiny, 0, model="Anna ")
    say(tiny, 1, model={"guid": "anna", "name": "somebody"}, shoot=7)
    say(tiny, 2, model=["Eva", "Unknown"], shoot="7")
    say(tiny, 3, model="unknown", shoot=None)
    say(tiny, 4, model="", shoot="-")
    say(tiny, 5, model="unknown", parent="p")
    say(tiny, 6, parent="p")
    meta_file(tiny, GROUP, "picset-007").parent.mkdir(parents=True)
    meta_file(tiny, GROUP, "picset-007").write_text("{")
    samples = samples_of(tiny)
    joins = find_joins(tiny, GROUP, samples, keys=["model", "shoot"])
    assert set(joins.clusters) == {"picset:picset-000", "picset:picset-001", "picset:picset-002"}
    assert joins.reasons == {"model": 1, "shoot": 1}
    assert set(find_joins(tiny, GROUP, samples, keys=["parent"]).clusters) == {"picset:picset-005", "picset:picset-006"}
    assert not find_joins(tiny, GROUP, samples).clusters


def test_signatures_are_remembered_and_made_anew_for_changed_pictures(tiny: Bottle) -> None:
    names = [f"{number:04d}.jpeg" for number in range(4)]
    before = signatures_of(tiny, names, workers=1)
    file = tiny.cache / "picture_signatures.json"
    written_ns = file.stat().st_mtime_ns
    again = signatures_of(tiny, names, workers=1)
    assert file.stat().st_mtime_ns == written_ns
    assert all(np.array_equal(before[name], again[name]) for name in names)  # type: ignore[arg-type]
    copy_picture(tiny, "0009.jpeg", "0000.jpeg")
    changed = signatures_of(tiny, names, workers=1)
    assert not np.array_equal(changed["0000.jpeg"], before["0000.jpeg"])  # type: ignore[arg-type]
    assert np.array_equal(changed["0001.jpeg"], before["0001.jpeg"])  # type: ignore[arg-type]


def test_a_deleted_picture_is_forgotten_as_soon_as_anybody_looks(tiny: Bottle) -> None:
    """Whether or not a new picture is there to be signed: what is removed is removed."""
    file = tiny.cache / "picture_signatures.json"
    names = ["0000.jpeg", "0001.jpeg", "0002.jpeg"]
    before = signatures_of(tiny, names, workers=1)
    tiny.picture("0000.jpeg").unlink()
    tiny.picture("0002.jpeg").unlink()
    after = signatures_of(tiny, ["0000.jpeg", "0001.jpeg"], workers=1)
    assert np.array_equal(after["0000.jpeg"], before["0000.jpeg"]), "a run that has it already goes on"  # type: ignore[arg-type]
    assert set(json.loads(file.read_text())) == {"0001.jpeg"}, "asked for or not"
    assert signatures_of(tiny, ["0003.jpeg", "gone.jpeg"], workers=1)["gone.jpeg"] is None
    tiny.picture("0003.jpeg").unlink()
    forget_signatures(tiny)
    assert set(json.loads(file.read_text())) == {"0001.jpeg"}


@pytest.mark.parametrize("content", ["{", "[]", '{"0000.jpeg": ["1 2", "zz"]}', '{"0000.jpeg": ["1 2", "aa"]}'])
def test_a_damaged_memory_is_made_anew(tiny: Bottle, content: str) -> None:
    (tiny.cache).mkdir(parents=True)
    (tiny.cache / "picture_signatures.json").write_text(content)
    assert signatures_of(tiny, ["0000.jpeg"], workers=1)["0000.jpeg"] is not None


def test_a_picture_that_was_only_touched_gives_the_same(tiny: Bottle) -> None:
    before = signatures_of(tiny, ["0000.jpeg"], workers=1)["0000.jpeg"]
    os.utime(tiny.picture("0000.jpeg"), (1, 1))
    assert np.array_equal(signatures_of(tiny, ["0000.jpeg"], workers=1)["0000.jpeg"], before)  # type: ignore[arg-type]


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("abcdefgh")), max_size=12))
def test_connected_members_share_a_name_and_others_do_not(links: list[tuple[str, str]]) -> None:
    clusters = connected(links)
    assert set(clusters) == {member for link in links for member in link}
    reached = {member: {member} for member in clusters}
    for _ in clusters:
        for left, right in links:
            reached[left] |= reached[right]
            reached[right] |= reached[left]
    for member, cluster in clusters.items():
        assert cluster == f"joined:{min(reached[member])}"
