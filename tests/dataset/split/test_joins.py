from __future__ import annotations

import json
import logging
import os
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cls.bottle.dataset_file import read_dataset
from cls.bottle.layout import Bottle
from cls.dataset.samples import Sample, collect_samples
from cls.dataset.split.assign import NEAR_DUPLICATES, connected, find_joined_units
from cls.dataset.split.signatures import drop_stale_signatures, signatures_of
from tests.bottles import GROUP, make_tiny_bottle


@pytest.fixture
def tiny(tmp_path: Path) -> Bottle:
    return make_tiny_bottle(tmp_path)


def samples_of(bottle: Bottle) -> list[Sample]:
    return collect_samples(bottle, read_dataset(bottle.dataset_file(GROUP)))[0]


def say(bottle: Bottle, picset: int, **head: object) -> None:
    file = bottle.meta_file(GROUP, f"picset-{picset:03d}")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"picset": {"guid": f"picset-{picset:03d}", **head}, "items": []}))


def copy_picture(bottle: Bottle, source: str, target: str, quality: int = 60) -> None:
    image = cv2.imread(str(bottle.picture(source)))
    assert image is not None
    cv2.imwrite(str(bottle.picture(target)), cv2.resize(image, (96, 128)), [cv2.IMWRITE_JPEG_QUALITY, quality])


def test_different_photos_are_joined_with_nothing(tiny: Bottle) -> None:
    assert not find_joined_units(tiny, GROUP, samples_of(tiny), keys=["model"]).clusters


def test_picsets_with_a_copy_of_one_photo_belong_together(tiny: Bottle) -> None:
    copy_picture(tiny, "0000.jpeg", "0005.jpeg")
    copy_picture(tiny, "0004.jpeg", "0010.jpeg")
    joins = find_joined_units(tiny, GROUP, samples_of(tiny))
    name = "joined:picset:picset-000"
    assert joins.clusters == {f"picset:picset-00{number}": name for number in (0, 1, 3)}
    assert joins.reasons == {NEAR_DUPLICATES: 2}
    applied = joins.apply_to(samples_of(tiny))
    assert {s.split_unit for s in applied if s.picset in ("picset-000", "picset-001", "picset-003")} == {name}
    assert {s.joined for s in applied if s.picset == "picset-002"} == {""}
    assert not find_joined_units(tiny, GROUP, samples_of(tiny), has_near_duplicates=False).clusters


def test_flat_and_broken_pictures_join_nothing(tiny: Bottle) -> None:
    for name in ("0000.jpeg", "0005.jpeg", "0010.jpeg"):
        cv2.imwrite(str(tiny.picture(name)), np.full((160, 120, 3), 255, np.uint8))
    for name in ("0001.jpeg", "0006.jpeg"):
        tiny.picture(name).write_bytes(b"no picture")
    assert not find_joined_units(tiny, GROUP, samples_of(tiny)).clusters


def test_the_same_model_or_shoot_belongs_together(tiny: Bottle) -> None:
    say(tiny, 0, model="Anna ")
    say(tiny, 1, model={"guid": "anna", "name": "somebody"}, shoot=7)
    say(tiny, 2, model=["Eva", "Unknown"], shoot="7")
    say(tiny, 3, model="unknown", shoot=None)
    say(tiny, 4, model="", shoot="-")
    say(tiny, 5, model="unknown", parent="p")
    say(tiny, 6, parent="p")
    tiny.meta_file(GROUP, "picset-007").parent.mkdir(parents=True)
    tiny.meta_file(GROUP, "picset-007").write_text("{")
    samples = samples_of(tiny)
    joins = find_joined_units(tiny, GROUP, samples, keys=["model", "shoot"])
    assert set(joins.clusters) == {"picset:picset-000", "picset:picset-001", "picset:picset-002"}
    assert joins.reasons == {"model": 1, "shoot": 1}
    assert set(find_joined_units(tiny, GROUP, samples, keys=["parent"]).clusters) == {
        "picset:picset-005",
        "picset:picset-006",
    }
    assert not find_joined_units(tiny, GROUP, samples).clusters


def test_signatures_are_remembered_and_made_anew_for_changed_pictures(tiny: Bottle) -> None:
    samples = samples_of(tiny)[:4]
    before = signatures_of(tiny, samples, workers=1)
    file = tiny.cache / "person_signatures.npz"
    written_ns = file.stat().st_mtime_ns
    again = signatures_of(tiny, samples, workers=1)
    assert file.stat().st_mtime_ns == written_ns
    assert all(np.array_equal(*pair) for pair in zip(before, again, strict=True))
    copy_picture(tiny, "0009.jpeg", "0000.jpeg")
    changed = signatures_of(tiny, samples, workers=1)
    assert not np.array_equal(changed[0], before[0])  # type: ignore[arg-type]
    assert np.array_equal(changed[1], before[1])  # type: ignore[arg-type]


def test_another_outline_is_another_signature_and_replaces_the_one_before(tiny: Bottle) -> None:
    """Two people of one picture have one each; of a picture that is segmented again nothing older is kept."""
    first, second = samples_of(tiny)[:2]
    other = replace(first, person=replace(first.person, polygons_xy_rel=(first.person.polygons_xy_rel[0] * 0.9,)))
    both = signatures_of(tiny, [first, other, second], workers=1)
    assert not np.array_equal(both[0], both[1])  # type: ignore[arg-type]
    assert remembered(tiny) == ["0000.jpeg", "0000.jpeg", "0001.jpeg"]
    (alone,) = signatures_of(tiny, [other], workers=1)
    assert np.array_equal(alone, both[1])  # type: ignore[arg-type]
    assert remembered(tiny) == ["0000.jpeg", "0001.jpeg"]


def test_a_person_without_an_outline_is_compared_by_the_box(tiny: Bottle) -> None:
    sample = samples_of(tiny)[0]
    boxed = replace(sample, person=replace(sample.person, polygons_xy_rel=()))
    left, top, right, bottom = sample.person.box_xyxy_px
    corners = np.array([(left, top), (right, top), (right, bottom), (left, bottom)]) / (120, 160)
    outlined = replace(sample, person=replace(sample.person, polygons_xy_rel=(corners,)))
    first, second = signatures_of(tiny, [boxed, outlined], workers=1)
    assert np.array_equal(first, second)  # type: ignore[arg-type]


def test_a_deleted_picture_is_forgotten_as_soon_as_anybody_looks(tiny: Bottle) -> None:
    """Whether or not a new picture is there to be signed: what is removed is removed."""
    samples = samples_of(tiny)
    before = signatures_of(tiny, samples[:3], workers=1)
    tiny.picture("0000.jpeg").unlink()
    tiny.picture("0002.jpeg").unlink()
    after = signatures_of(tiny, samples[:2], workers=1)
    assert np.array_equal(after[0], before[0]), "a run that has it already goes on"  # type: ignore[arg-type]
    assert remembered(tiny) == ["0001.jpeg"], "asked for or not"
    gone = replace(samples[4], path="gone.jpeg")
    assert signatures_of(tiny, [samples[3], gone], workers=1)[1] is None
    tiny.picture("0003.jpeg").unlink()
    drop_stale_signatures(tiny)
    assert remembered(tiny) == ["0001.jpeg"]


def test_nothing_is_made_where_nothing_is_to_be_forgotten(tiny: Bottle) -> None:
    drop_stale_signatures(tiny)
    assert not (tiny.cache / "person_signatures.npz").exists()


@pytest.mark.parametrize("damage", ["text", "cut off", "pickled", "names", "too few"])
def test_a_damaged_memory_is_made_anew(tiny: Bottle, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    samples = samples_of(tiny)[:2]
    before = signatures_of(tiny, samples, workers=1)
    file = tiny.cache / "person_signatures.npz"
    with np.load(file) as arrays:
        content = dict(arrays)
    if damage == "text":
        file.write_text("{")
    elif damage == "cut off":
        file.write_bytes(file.read_bytes()[:-200])
    elif damage == "pickled":
        np.savez(file, **{**content, "people": np.array([{"a": 1}], dtype=object)})
    elif damage == "names":
        np.savez(file, **{**content, "people": np.frombuffer(b"[[1]]", np.uint8)})
    else:
        np.savez(file, **{**content, "signatures": content["signatures"][:1]})
    again = signatures_of(tiny, samples, workers=1)
    assert all(np.array_equal(*pair) for pair in zip(before, again, strict=True))
    (warning,) = caplog.records
    assert warning.args is not None
    assert file in tuple(warning.args)
    assert remembered(tiny) == ["0000.jpeg", "0001.jpeg"]


def test_what_other_versions_remembered_is_made_anew(tiny: Bottle, caplog: pytest.LogCaptureFixture) -> None:
    """Signatures of whole pictures, which earlier versions kept, are removed; those of another version not used."""
    older = tiny.cache / "picture_signatures.json"
    older.parent.mkdir(parents=True)
    older.write_text('{"0000.jpeg": ["1 2", ""]}')
    samples = samples_of(tiny)[:2]
    before = signatures_of(tiny, samples, workers=1)
    assert not older.exists()
    file = tiny.cache / "person_signatures.npz"
    with np.load(file) as arrays:
        content = dict(arrays)
    np.savez(file, **{**content, "version": np.array(1), "signatures": content["signatures"] * 0})
    with caplog.at_level(logging.INFO):
        again = signatures_of(tiny, samples, workers=1)
    assert "another version" in caplog.text
    assert all(np.array_equal(*pair) for pair in zip(before, again, strict=True))


def remembered(bottle: Bottle) -> list[str]:
    """The pictures whose people's signatures are remembered, one entry a person."""
    with np.load(bottle.cache / "person_signatures.npz") as content:
        return sorted(name for name, *_ in json.loads(content["people"].tobytes()))


def test_a_picture_that_was_only_touched_gives_the_same(tiny: Bottle) -> None:
    samples = samples_of(tiny)[:1]
    (before,) = signatures_of(tiny, samples, workers=1)
    os.utime(tiny.picture("0000.jpeg"), (1, 1))
    (after,) = signatures_of(tiny, samples, workers=1)
    assert np.array_equal(before, after)  # type: ignore[arg-type]


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
