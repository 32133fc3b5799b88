from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from cls.bottle.dataset_file import GroupDataset, LabelledRow, read_dataset, write_dataset
from cls.bottle.layout import Bottle
from cls.dataset.backgrounds import (
    BACKGROUND_GROUP,
    background_pictures,
    background_sources,
    crop_to_fill,
    put_on_background,
    scene_without_person,
)
from cls.dataset.cutouts import CutoutFormat, Cutouts, load_cutouts
from cls.dataset.samples import collect_samples
from cls.people.preprocess import Preprocessing
from tests.bottles import GROUP, make_tiny_bottle, segments_of_mask, write_rows

PREPROCESSING = Preprocessing(64, 48)


@pytest.fixture
def tiny(tmp_path: Path) -> Bottle:
    return make_tiny_bottle(tmp_path)


def cutouts_of(bottle: Bottle) -> Cutouts:
    samples, _ = collect_samples(bottle, read_dataset(bottle.dataset_file(GROUP)))
    return load_cutouts(bottle, samples, CutoutFormat(PREPROCESSING), workers=2)[0]


def add_backgrounds(bottle: Bottle, colors: list[tuple[int, int, int]]) -> list[str]:
    names = []
    for number, color in enumerate(colors):
        names.append(f"wall-{number}.png")
        image = np.full((90, 120, 3), color, np.uint8)
        cv2.imwrite(str(bottle.picture(names[-1])), cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
    rows = tuple(LabelledRow(name, (1.0,)) for name in names)
    write_dataset(bottle.dataset_file(BACKGROUND_GROUP), GroupDataset(BACKGROUND_GROUP, ("any walls",), rows))
    return names


def test_pictures_of_the_group_are_used_whole(tiny: Bottle) -> None:
    add_backgrounds(tiny, [(10, 20, 30), (200, 100, 50)])
    backgrounds = background_sources(tiny, cutouts_of(tiny), PREPROCESSING)[0]
    assert len(backgrounds) == 2
    assert backgrounds.picture(0).shape == (64, 48, 3)
    assert backgrounds.picture(0).dtype == np.uint8
    assert (backgrounds.picture(0) == (10, 20, 30)).all()
    assert (backgrounds.picture(1) == (200, 100, 50)).all()


def test_a_background_with_a_person_or_rejected_is_left_out(tiny: Bottle) -> None:
    names = add_backgrounds(tiny, [(10, 20, 30), (200, 100, 50), (0, 0, 0)])
    mask = np.zeros((90, 120), np.uint8)
    mask[20:60, 30:60] = 255
    write_rows(tiny, [(names[0], "unchecked", {"0": segments_of_mask(mask)}), (names[1], "rejected", {})])
    assert background_pictures(tiny) == [names[2]]


def test_a_broken_background_is_left_out(tiny: Bottle) -> None:
    names = add_backgrounds(tiny, [(10, 20, 30), (200, 100, 50)])
    tiny.picture(names[0]).write_bytes(b"not a picture")
    backgrounds = background_sources(tiny, cutouts_of(tiny), PREPROCESSING)[0]
    assert len(backgrounds) == 1


def test_backgrounds_are_kept_in_the_cache_until_their_picture_is_removed(tiny: Bottle) -> None:
    names = add_backgrounds(tiny, [(10, 20, 30), (200, 100, 50)])
    cutouts = cutouts_of(tiny)
    background_sources(tiny, cutouts, PREPROCESSING)[0]
    shards = list((tiny.cache / "backgrounds").rglob("shard-*.bin"))
    assert len(shards) == 1
    before = shards[0].stat().st_mtime_ns
    sources = background_sources(tiny, cutouts, PREPROCESSING)
    assert [len(source) for source in sources] == [2, 24]
    assert shards[0].stat().st_mtime_ns == before
    del sources
    tiny.picture(names[0]).unlink()
    assert len(background_sources(tiny, cutouts, PREPROCESSING)[0]) == 1
    (left,) = (tiny.cache / "backgrounds").rglob("shard-*.bin")
    assert left.stat().st_size == 64 * 48 * 3


def test_without_the_group_other_photos_scenes_are_used(tiny: Bottle) -> None:
    cutouts = cutouts_of(tiny)
    backgrounds = background_sources(tiny, cutouts, PREPROCESSING)[0]
    assert len(backgrounds) == len(cutouts)
    photo = np.asarray(cv2.resize(cutouts.photo(0), (48, 64), interpolation=cv2.INTER_LINEAR), np.uint8)
    mask = photo[..., 3] > 250
    # Where the person stood, colours of the surroundings; far from there, the photo itself.
    scene, before = backgrounds.picture(0).astype(int), photo[..., :3].astype(int)
    assert np.abs(scene[mask] - before[mask]).mean() > 20
    assert np.abs(scene[:3, :3] - before[:3, :3]).mean() < 3


def test_nothing_of_the_person_is_left_in_a_scene() -> None:
    photo = np.full((80, 40, 4), (90, 140, 90, 0), np.uint8)
    photo[8:72, 8:32] = (255, 0, 0, 255)
    scene = scene_without_person(photo, PREPROCESSING).astype(int)
    assert np.abs(scene - (90, 140, 90)).max() <= 3


def person_mask(rgb_and_mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(cv2.resize(rgb_and_mask[..., 3], (48, 64), interpolation=cv2.INTER_AREA), np.uint8)


def test_a_person_is_placed_as_in_the_exact_picture(tiny: Bottle) -> None:
    cutouts = cutouts_of(tiny)
    flat = np.full((64, 48, 3), PREPROCESSING.fill_rgb, np.uint8)
    for index in range(4):
        placed = put_on_background(cutouts.rgb_and_mask(index), flat, PREPROCESSING).astype(int)
        assert np.abs(placed - cutouts.input_rgb(index)).mean() < 3
    red = np.full((64, 48, 3), (255, 0, 0), np.uint8)
    placed = put_on_background(cutouts.rgb_and_mask(0), red, PREPROCESSING)
    outside = person_mask(cutouts.rgb_and_mask(0)) == 0
    assert (placed[outside] == (255, 0, 0)).all()


@pytest.mark.parametrize("shape", [(64, 48), (500, 20), (20, 500), (1, 1), (640, 480)])
def test_cover_keeps_proportions(shape: tuple[int, int]) -> None:
    image = np.zeros((*shape, 3), np.uint8)
    image[shape[0] // 2 :] = 255
    covered = crop_to_fill(image, PREPROCESSING)
    assert covered.shape == (64, 48, 3)
    if shape[0] > 1:
        assert (covered[:28] < 128).all()
        assert (covered[36:] > 127).all()
