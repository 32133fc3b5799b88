from __future__ import annotations

import colorsys
import os
import time

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cls.dataset.backgrounds import Augmentation, scenes_of
from cls.dataset.batches import Batch, BatchKey, EpochSampler, Loader, TrainBatches, ValidationBatches
from cls.dataset.cutouts import CutoutFormat, Cutouts
from cls.errors import TrainingError
from cls.people.photos import Person
from cls.people.preprocess import Preprocessing

PREPROCESSING = Preprocessing(64, 48)
FORMAT = CutoutFormat(PREPROCESSING)
NONE = Augmentation(
    p_flip=0, zoom=0, stretch=0, rotation_deg=0, shift=0, brightness=0, contrast=0, saturation=0, p_erase=0, p_flat=0,
    p_picture=0,
)  # fmt: skip


def cutouts(count: int = 11) -> Cutouts:
    rng = np.random.default_rng(0)
    outline = np.array([(0.25, 0.1), (0.75, 0.1), (0.75, 0.9), (0.25, 0.9)])
    person = Person("female", 0.9, (15, 16, 45, 72), (outline,))
    records = []
    for _ in range(count):
        color = rng.integers(40, 220, 3)
        image = np.clip(color + rng.integers(-9, 10, (80, 60, 3)), 0, 255).astype(np.uint8)
        records.append(FORMAT.make(image, person))
    return Cutouts(FORMAT, records)


def labels(count: int = 11) -> NDArray[np.float32]:
    return (np.arange(count * 2).reshape(count, 2) % 3 == 0).astype(np.float32)


def test_every_sample_is_seen_once_an_epoch_in_even_batches() -> None:
    sampler = EpochSampler(11, 4, seed=3)
    sampler.set_epoch(2)
    keys = list(sampler)
    assert [len(key.indices) for key in keys] == [4, 4, 3]
    assert sorted(index for key in keys for index in key.indices) == list(range(11))
    assert len(sampler) == 3
    assert {key.epoch for key in keys} == {2}


@given(
    world=st.integers(1, 7),
    more=st.integers(0, 60),
    batch=st.integers(1, 9),
    epoch=st.integers(0, 3),
    shuffled=st.booleans(),
)
def test_several_processes_share_the_samples(world: int, more: int, batch: int, epoch: int, shuffled: bool) -> None:
    count = world + more
    shares = []
    for rank in range(world):
        sampler = EpochSampler(count, batch, seed=1 if shuffled else None, rank=rank, world=world)
        sampler.set_epoch(epoch)
        keys = list(sampler)
        assert len(keys) == len(sampler)
        shares.append([key.indices for key in keys])
    assert len({len(share) for share in shares}) == 1, "all have equally many batches"
    sizes = [len(indices) for share in shares for indices in share]
    assert min(sizes) > 0
    assert max(sizes) - min(sizes) <= 1
    assert sorted(index for share in shares for indices in share for index in indices) == list(range(count))


def test_order_is_a_function_of_seed_and_epoch() -> None:
    first, second = EpochSampler(50, 8, seed=1), EpochSampler(50, 8, seed=1)
    assert list(first) == list(second)
    second.set_epoch(1)
    assert list(first) != list(second)
    assert list(EpochSampler(50, 8, seed=2)) != list(first)


def test_a_view_is_a_function_of_seed_epoch_and_sample() -> None:
    them = cutouts()
    batches, again = (
        TrainBatches(them, labels(), Augmentation(), seed=5, backgrounds=[scenes_of(them, PREPROCESSING)])
        for _ in range(2)
    )
    key = BatchKey(3, (4, 1, 7))
    torch.testing.assert_close(batches[key].images, again[key].images, rtol=0, atol=0)
    # The same sample in another batch is the same view; in another epoch another one.
    assert torch.equal(batches[BatchKey(3, (1,))].images[0], batches[key].images[1])
    assert not torch.equal(batches[BatchKey(4, (1,))].images[0], batches[key].images[1])


def test_worker_processes_and_the_thread_make_the_same_batches() -> None:
    batches = TrainBatches(cutouts(), labels(), Augmentation(), seed=5)
    made = [list(Loader(batches, EpochSampler(11, 4, seed=1), workers=workers)) for workers in (0, 2)]
    assert len(made[0]) == 3
    for one, other in zip(*made, strict=True):
        for a, b in zip(one, other, strict=True):
            assert torch.equal(a, b)


class _DyingBatches(ValidationBatches):
    def __getitem__(self, key: BatchKey) -> Batch:
        os._exit(9)


def test_a_worker_process_that_ends_is_an_error_of_its_own() -> None:
    with pytest.raises(TrainingError) as died:
        list(Loader(_DyingBatches(cutouts(), labels()), EpochSampler(11, 4, seed=1), workers=1))
    assert died.value.code == "training.worker_died"


def test_validation_is_preprocessing_to_the_letter() -> None:
    them = cutouts()
    batch = ValidationBatches(them, labels())[BatchKey(0, (2, 5))]
    expected = PREPROCESSING.normalise(np.stack([them.input_rgb(2), them.input_rgb(5)]))
    np.testing.assert_array_equal(batch.images.numpy(), expected)
    np.testing.assert_array_equal(batch.labels.numpy(), labels()[[2, 5]])


def view(them: Cutouts, augmentation: Augmentation, *, seed: int = 0, index: int = 0) -> NDArray[np.uint8]:
    batches = TrainBatches(them, labels(), augmentation, seed=seed, backgrounds=[scenes_of(them, PREPROCESSING)])
    images: NDArray[np.uint8] = batches[BatchKey(0, (index,))].images[0].numpy()
    return images


def test_without_augmentation_a_view_is_close_to_the_exact_picture() -> None:
    them = cutouts()
    plain = view(them, NONE)
    assert plain.shape == (64, 48, 3)
    difference = np.abs(plain.astype(int) - them.input_rgb(0).astype(int))
    assert np.median(difference) <= 2
    assert difference.mean() < 6


def test_hue_stays() -> None:
    """Colours may become lighter, darker, paler; red never becomes orange."""
    color = np.array([180, 60, 50], np.uint8)
    image = np.tile(color, (80, 60, 1))
    outline = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])
    red_person = Cutouts(FORMAT, [FORMAT.make(image, Person("", 1, (0, 0, 60, 80), (outline,)))])
    hue, _, saturation = colorsys.rgb_to_hls(*(color / 255))
    for seed in range(60):
        red, green, blue = (
            view(red_person, Augmentation(p_erase=0), seed=seed)[28:36, 20:28].reshape(-1, 3).mean(axis=0) / 255
        )
        found, _, _ = colorsys.rgb_to_hls(red, green, blue)
        distance = min(abs(found - hue), 1 - abs(found - hue)) * 360
        assert distance < 8, (seed, red, green, blue)
    assert saturation > 0.5


def test_an_error_in_the_thread_reaches_the_reader() -> None:
    class Broken(TrainBatches):
        def __getitem__(self, key: BatchKey) -> Batch:
            if 3 in key.indices:
                raise OSError("gone")
            return super().__getitem__(key)

    loader = Loader(Broken(cutouts(), labels(), NONE, seed=0), EpochSampler(11, 4, seed=None))
    iterator = iter(loader)
    with pytest.raises(OSError, match="gone"):
        list(iterator)


def test_a_reader_that_stops_leaves_no_thread() -> None:
    import threading

    loader = Loader(TrainBatches(cutouts(), labels(), NONE, seed=0), EpochSampler(11, 1))
    iterator = iter(loader)
    next(iterator)
    iterator.close()  # type: ignore[attr-defined]
    deadline_s = time.monotonic() + 5
    while any(thread.name == "batches" for thread in threading.enumerate()) and time.monotonic() < deadline_s:
        time.sleep(0.01)
    assert not any(thread.name == "batches" for thread in threading.enumerate())
