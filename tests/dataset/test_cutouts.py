from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cls.bottle.dataset_file import read_dataset
from cls.bottle.layout import Bottle
from cls.dataset.cache import GIB
from cls.dataset.cutouts import CutoutFormat, Cutouts, load_cutouts
from cls.dataset.samples import Sample, collect_samples
from cls.dataset.split.signatures import signatures_of
from cls.errors import FileError
from cls.people.photos import read_photo
from cls.people.preprocess import Preprocessing
from cls.settings import REPOSITORY
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
        np.testing.assert_array_equal(cutouts.input_rgb(index), expected)


def test_the_wide_picture_has_the_photo_and_a_soft_mask(tiny: Bottle) -> None:
    cutouts, _ = load_cutouts(tiny, samples_of(tiny), FORMAT, workers=2)
    rgb_and_mask = cutouts.rgb_and_mask(0)
    assert rgb_and_mask.shape == (80, 60, 4)
    assert rgb_and_mask.dtype == np.uint8
    mask = rgb_and_mask[..., 3]
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
    assert not np.array_equal(first.input_rgb(0), second.input_rgb(0))
    np.testing.assert_array_equal(first.input_rgb(1), second.input_rgb(1))


@pytest.mark.parametrize("harm", ["flip a bit", "cut off", "index lost", "index not JSON"])
def test_a_broken_shard_is_made_again(tiny: Bottle, harm: str) -> None:
    samples = samples_of(tiny)
    first, _ = load_cutouts(tiny, samples, FORMAT, workers=2)
    expected = np.stack([first.input_rgb(index) for index in range(len(first))])
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
    np.testing.assert_array_equal(np.stack([again.input_rgb(index) for index in range(len(again))]), expected)
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


def test_a_touched_picture_is_not_cut_out_again(tiny: Bottle) -> None:
    samples = samples_of(tiny)
    load_cutouts(tiny, samples, FORMAT, workers=2)
    before = shard_files(tiny)
    content = tiny.picture("0000.jpeg").read_bytes()
    os.utime(tiny.picture("0001.jpeg"), (1, 1))
    tiny.picture("0000.jpeg").write_bytes(content)
    load_cutouts(tiny, samples, FORMAT, workers=2)
    assert shard_files(tiny) == before


def test_a_changed_outline_is_cut_out_again(tiny: Bottle) -> None:
    samples = samples_of(tiny)
    first, _ = load_cutouts(tiny, samples, FORMAT, workers=2)
    moved = tuple(polygon * 0.9 for polygon in samples[0].person.polygons_xy_rel)
    samples[0] = replace(samples[0], person=replace(samples[0].person, polygons_xy_rel=moved))
    second, _ = load_cutouts(tiny, samples, FORMAT, workers=2)
    assert not np.array_equal(first.input_rgb(0), second.input_rgb(0))
    assert len(shard_files(tiny)) == 2, "only one person was cut out"


def content_of_cache(bottle: Bottle) -> bytes:
    return b"".join(file.read_bytes() for file in sorted((bottle.cache / "cutouts").rglob("shard-*.*")))


@pytest.mark.parametrize("what", ["deleted", "replaced"])
def test_what_was_made_of_a_removed_picture_leaves_the_cache(tiny: Bottle, what: str) -> None:
    other = CutoutFormat(Preprocessing(32, 24))
    samples = samples_of(tiny)
    first, _ = load_cutouts(tiny, samples, FORMAT, workers=2)
    small, _ = load_cutouts(tiny, samples, other, workers=2)
    secrets = [np.array(first.input_rgb(2)).tobytes(), np.array(small.input_rgb(2)).tobytes()]
    assert all(secret in content_of_cache(tiny) for secret in secrets)
    if what == "deleted":
        tiny.picture("0002.jpeg").unlink()
    else:
        tiny.picture("0002.jpeg").write_bytes(tiny.picture("0013.jpeg").read_bytes())
    # A training of one size is enough: all sizes are looked through.
    left = samples_of(tiny)
    again, _ = load_cutouts(tiny, left, FORMAT, workers=2)
    assert not any(secret in content_of_cache(tiny) for secret in secrets)
    if what == "deleted":
        assert b"0002.jpeg" not in content_of_cache(tiny)
    # Others' cut-outs, also those being read while the shards were written again, are what they were.
    np.testing.assert_array_equal(first.input_rgb(3), again.input_rgb(3 - (len(samples) - len(left))))
    assert first.input_rgb(2).tobytes() == secrets[0]


def test_a_training_that_joins_nothing_forgets_removed_pictures_too(tiny: Bottle) -> None:
    signatures_of(tiny, samples_of(tiny), workers=2)
    load_cutouts(tiny, samples_of(tiny), FORMAT, workers=2)
    tiny.picture("0002.jpeg").unlink()
    load_cutouts(tiny, samples_of(tiny)[:1], FORMAT, workers=2)
    for file in tiny.cache.rglob("*.*"):
        assert b"0002.jpeg" not in file.read_bytes(), file.name


@pytest.mark.parametrize("storage", ["raw", "jpeg", "png"])
def test_each_storage_gives_the_person_back(tiny: Bottle, storage: str) -> None:
    samples = samples_of(tiny)
    raw, _ = load_cutouts(tiny, samples, FORMAT, workers=2)
    stored, _ = load_cutouts(tiny, samples, CutoutFormat(FORMAT.preprocessing, storage=storage), workers=2)
    for index in range(len(samples)):
        np.testing.assert_array_equal(stored.input_rgb(index), raw.input_rgb(index))
        np.testing.assert_array_equal(stored.rgb_and_mask(index)[..., 3], raw.rgb_and_mask(index)[..., 3])
        assert stored.box(index) == raw.box(index)
        difference = np.abs(stored.rgb_and_mask(index).astype(int) - raw.rgb_and_mask(index))
        assert difference.mean() < 3 if storage == "jpeg" else not difference.any()
    left, top, right, bottom = raw.box(0)
    outside = np.array(raw.rgb_and_mask(0)[..., 3])
    assert outside[top + 1 : bottom - 1, left + 1 : right - 1].any()
    outside[top:bottom, left:right] = 0
    assert not outside.any()


def limited(bottle: Bottle, limit_bytes: float) -> Bottle:
    return Bottle(replace(bottle.settings, cache_limit_gb=limit_bytes / GIB))


def cached(bottle: Bottle, *sizes: int) -> dict[int, bool]:
    folders = {size: bottle.cache / "cutouts" / CutoutFormat(Preprocessing(size, size)).digest for size in sizes}
    return {size: any(folder.glob("shard-*.bin")) for size, folder in folders.items()}


def load_size(bottle: Bottle, samples: list[Sample], size: int) -> Cutouts:
    return load_cutouts(bottle, samples, CutoutFormat(Preprocessing(size, size)), workers=2)[0]


@pytest.mark.parametrize("storage", ["jpeg", "png"])
def test_how_large_compressed_cutouts_are_is_measured(tiny: Bottle, storage: str) -> None:
    """Twice too high a guess refused sets that fit: under a limit hardly above their size they are stored."""
    samples = samples_of(tiny)
    form = CutoutFormat(Preprocessing(128, 96), storage=storage)
    stored, _ = load_cutouts(tiny, samples, form, workers=2)
    total = sum(record.nbytes for record in stored.records)
    del stored
    shutil.rmtree(tiny.cache)
    again, _ = load_cutouts(limited(tiny, 1.1 * total), samples, form, workers=2)
    assert len(again) == len(samples)
    del again
    shutil.rmtree(tiny.cache)
    with pytest.raises(FileError) as caught:
        load_cutouts(limited(tiny, 0.8 * total), samples, form, workers=2)
    assert caught.value.code == "file.cache_limit"
    tiny.picture(samples[0].path).write_bytes(b"no picture")
    left, broken = load_cutouts(limited(tiny, 1.1 * total), samples, form, workers=2)
    assert broken == [samples[0].path]
    assert len(left) == len(samples) - 1


def test_the_longest_unused_makes_room(tiny: Bottle) -> None:
    samples = samples_of(tiny)
    bottle = limited(tiny, 3.5 * 24 * CutoutFormat(Preprocessing(40, 40)).record_bytes)
    for size in (40, 39, 38):
        load_size(bottle, samples, size)
    load_size(bottle, samples, 40)
    load_size(bottle, samples, 37)
    assert cached(bottle, 40, 39, 38, 37) == {40: True, 39: False, 38: True, 37: True}


def test_what_is_in_use_is_not_removed(tiny: Bottle) -> None:
    samples = samples_of(tiny)
    record_bytes = CutoutFormat(Preprocessing(40, 40)).record_bytes
    bottle = limited(tiny, 1.5 * 24 * record_bytes)
    read_now = load_size(bottle, samples, 40)
    before = np.array(read_now.rgb_and_mask(0))
    with pytest.raises(FileError) as caught:
        load_size(bottle, samples, 39)
    assert caught.value.code == "file.cache_limit"
    assert "cache_limit_gb" in str(caught.value.hint)
    np.testing.assert_array_equal(read_now.rgb_and_mask(0), before)
    assert cached(bottle, 40) == {40: True}
    del read_now
    load_size(bottle, samples, 39)
    assert cached(bottle, 40, 39) == {40: False, 39: True}


def test_a_full_disk_is_said_in_one_line_and_what_is_stored_stays(tiny: Bottle) -> None:
    """The kernel refuses to write on, as on a full disk, in the middle of the second shard."""
    samples = samples_of(tiny)
    script = f"""
import resource, sys
from pathlib import Path
from cls.bottle.dataset_file import read_dataset
from cls.bottle.layout import Bottle
from cls.dataset import cache
from cls.dataset.cutouts import CutoutFormat, load_cutouts
from cls.dataset.samples import collect_samples
from cls.errors import FileError
from cls.people.preprocess import Preprocessing
from cls.settings import load_settings
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
bottle = Bottle(load_settings(Path({str(tiny.settings.file)!r}), environment={{}}))
samples, _ = collect_samples(bottle, read_dataset(bottle.dataset_file({GROUP!r})))
format_ = CutoutFormat(Preprocessing(64, 48))
cache._PICTURES_PER_SHARD = 10
load_cutouts(bottle, samples[:10], format_, workers=1)
resource.setrlimit(resource.RLIMIT_FSIZE, (12 * format_.record_bytes, resource.RLIM_INFINITY))
cache._PICTURES_PER_SHARD = 14
try:
    load_cutouts(bottle, samples, format_, workers=1)
except FileError as error:
    print(error.code)
    print(error.line())
"""
    made = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    code, *lines = made.stdout.splitlines()
    assert code == "file.no_space"
    assert len(lines) == 1, made
    assert lines[0].startswith(str(tiny.cache / "cutouts" / FORMAT.digest))
    assert f"needs about {14 * FORMAT.record_bytes:,} bytes more" in lines[0]
    assert "File too large" in lines[0]
    folder = tiny.cache / "cutouts" / FORMAT.digest
    assert not list(folder.glob(".*.part"))
    assert len(shard_files(tiny)) == 1
    before = shard_files(tiny)[0].stat().st_mtime_ns
    cutouts, _ = load_cutouts(tiny, samples, FORMAT, workers=2)
    assert len(cutouts) == 24
    assert before in [file.stat().st_mtime_ns for file in shard_files(tiny)]
    assert len(shard_files(tiny)) == 2


def test_more_than_the_disk_holds_is_refused_before_the_work(tiny: Bottle, monkeypatch: pytest.MonkeyPatch) -> None:
    from cls.dataset import cache

    monkeypatch.setattr(cache.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 1000})())
    with pytest.raises(FileError) as caught:
        load_cutouts(tiny, samples_of(tiny), FORMAT, workers=2)
    assert caught.value.code == "file.no_space"
    assert "1,000 bytes" in caught.value.what
    assert not shard_files(tiny)


def test_cut_outs_go_to_worker_processes(tiny: Bottle) -> None:
    import pickle

    cutouts, _ = load_cutouts(tiny, samples_of(tiny), FORMAT, workers=2)
    again = pickle.loads(pickle.dumps(cutouts))
    np.testing.assert_array_equal(again.input_rgb(3), cutouts.input_rgb(3))
