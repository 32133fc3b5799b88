from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from cls.bottle.dataset_file import read_dataset
from cls.bottle.layout import Bottle
from cls.dataset.cutouts import CutoutFormat, load_cutouts
from cls.dataset.samples import Sample, collect_samples
from cls.people.photos import read_photo
from cls.people.preprocess import Preprocessing
from tests.bottles import GROUP, make_tiny_bottle

FORMAT = CutoutFormat(Preprocessing(64, 48))


@pytest.fixture
def tiny(tmp_path: Path) -> Bottle:
    return make_tiny_bottle(tmp_path)


def samples_of(bottle: Bottle) -> list[Sample]:
    return collect_samples(bottle, read_dataset(bottle.dataset_file(GROUP)))[0]


def shard_files(bottle: Bottle) -> list[Path]:
    return sorted((bottle.cache / "cutouts" / FORMAT.digest).glob("shard-*.bin"))


def test_the_exact_picture_is_what_preprocessing_cuts(tiny: Bottle) -> None:
    samples = samples_of(tiny)
    cutouts, broken = load_cutouts(tiny, samples, FORMAT, workers=2)
    assert not broken
    assert len(cutouts) == len(samples)
    for index, sample in enumerate(samples):
        expected = FORMAT.preprocessing.cut(read_photo(tiny.picture(sample.path)), sample.person)
        np.testing.assert_array_equal(cutouts.exact(index), expected)


def test_the_wide_picture_has_the_photo_and_a_soft_mask(tiny: Bottle) -> None:
    cutouts, _ = load_cutouts(tiny, samples_of(tiny), FORMAT, workers=2)
    wide = cutouts.wide(0)
    assert wide.shape == (80, 60, 4)
    assert wide.dtype == np.uint8
    mask = wide[..., 3]
    assert 0.2 < (mask > 127).mean() < 0.9
    assert ((mask > 0) & (mask < 255)).any()


def test_a_second_look_makes_nothing_again(tiny: Bottle) -> None:
    samples = samples_of(tiny)
    load_cutouts(tiny, samples, FORMAT, workers=2)
    before = {file: file.stat().st_mtime_ns for file in shard_files(tiny)}
    load_cutouts(tiny, samples, FORMAT, workers=2)
    assert {file: file.stat().st_mtime_ns for file in shard_files(tiny)} == before


def test_a_changed_picture_is_cut_out_again(tiny: Bottle) -> None:
    samples = samples_of(tiny)
    first, _ = load_cutouts(tiny, samples, FORMAT, workers=2)
    tiny.picture("0000.jpeg").write_bytes(tiny.picture("0013.jpeg").read_bytes())
    second, _ = load_cutouts(tiny, samples, FORMAT, workers=2)
    assert not np.array_equal(first.exact(0), second.exact(0))
    np.testing.assert_array_equal(first.exact(1), second.exact(1))


@pytest.mark.parametrize("harm", ["flip a bit", "cut off", "index lost", "index not JSON"])
def test_a_broken_shard_is_made_again(tiny: Bottle, harm: str) -> None:
    samples = samples_of(tiny)
    first, _ = load_cutouts(tiny, samples, FORMAT, workers=2)
    expected = np.stack([first.exact(index) for index in range(len(first))])
    data = shard_files(tiny)[0]
    content = bytearray(data.read_bytes())
    # Another file under the name: the mapping of the first one stays as it was.
    data.unlink()
    if harm == "flip a bit":
        content[1234] ^= 1
    elif harm == "cut off":
        del content[-100:]
    elif harm == "index lost":
        data.with_suffix(".json").unlink()
    else:
        data.with_suffix(".json").write_text("{")
    data.write_bytes(content)
    again, broken = load_cutouts(tiny, samples, FORMAT, workers=2)
    assert not broken
    np.testing.assert_array_equal(np.stack([again.exact(index) for index in range(len(again))]), expected)
    assert len(shard_files(tiny)) == 1


def test_half_written_files_are_removed(tiny: Bottle) -> None:
    folder = tiny.cache / "cutouts" / FORMAT.digest
    folder.mkdir(parents=True)
    (folder / ".shard-0.bin.1-ab.part").write_bytes(b"x")
    (folder / "shard-feed.bin").write_bytes(b"x" * 100)
    load_cutouts(tiny, samples_of(tiny), FORMAT, workers=2)
    assert not list(folder.glob("*.part"))
    assert not list(folder.glob(".*.part"))
    assert not (folder / "shard-feed.bin").exists()


def test_a_broken_picture_is_named_and_the_others_are_kept(tiny: Bottle) -> None:
    samples = samples_of(tiny)
    tiny.picture("0003.jpeg").write_bytes(b"not a picture")
    os.truncate(tiny.picture("0004.jpeg"), 300)
    cutouts, broken = load_cutouts(tiny, samples, FORMAT, workers=2)
    assert broken == ["0003.jpeg", "0004.jpeg"]
    assert len(cutouts) == 22


def test_other_settings_are_another_cache() -> None:
    digests = {
        CutoutFormat(Preprocessing(64, 48)).digest,
        CutoutFormat(Preprocessing(64, 64)).digest,
        CutoutFormat(Preprocessing(64, 48, margin_rel=0.1)).digest,
        CutoutFormat(Preprocessing(64, 48, is_background_kept=True)).digest,
        CutoutFormat(Preprocessing(64, 48), scale=1.5).digest,
    }
    assert len(digests) == 5
    # Mean and deviation do not touch the pixels.
    assert CutoutFormat(Preprocessing(64, 48, mean_rgb=(0.5, 0.5, 0.5))).digest == FORMAT.digest
