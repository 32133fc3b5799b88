"""The GPU's way of making views, run on the CPU device: the same people in the same places."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cls.bottle.dataset_file import read_dataset
from cls.dataset.backgrounds import Augmentation, scenes_of
from cls.dataset.batches import BatchKey, EpochSampler, GpuViews, Loader, TrainBatches, UnaugmentedBatches
from cls.dataset.cutouts import CutoutFormat, load_cutouts
from cls.dataset.samples import collect_samples, labels_of
from cls.people.preprocess import Preprocessing
from tests.bottles import GROUP, make_tiny_bottle

STRONG = Augmentation(p_picture=0.4, p_flat=0.3, p_erase=0.5, rotation_deg=20, zoom=0.3)


def batches_of(folder: Path, preprocessing: Preprocessing) -> TrainBatches:
    bottle = make_tiny_bottle(folder)
    samples, _ = collect_samples(bottle, read_dataset(bottle.dataset_file(GROUP)))
    cutouts, _ = load_cutouts(bottle, samples, CutoutFormat(preprocessing), workers=2)
    scenes = scenes_of(cutouts, preprocessing)
    return TrainBatches(cutouts, labels_of(samples), STRONG, seed=3, backgrounds=[scenes])


@pytest.mark.parametrize("is_background_kept", [False, True])
def test_the_gpu_s_views_are_the_cpu_s(tmp_path: Path, is_background_kept: bool) -> None:
    batches = batches_of(tmp_path, Preprocessing(64, 48, is_background_kept=is_background_kept))
    key = BatchKey(2, tuple(range(24)))
    expected = batches[key]
    found = GpuViews(batches, "cpu")(UnaugmentedBatches(batches)[key], key.epoch)
    assert found.images.dtype == torch.uint8
    assert found.images.shape == expected.images.shape
    difference = np.abs(found.images.numpy().astype(int) - expected.images.numpy())
    # OpenCV rounds positions to 1/32 pixel, which is seen at hard edges alone.
    assert np.quantile(difference, 0.9) <= 3
    assert difference.reshape(24, -1).mean(axis=1).max() < 2
    assert torch.equal(found.labels, expected.labels)
    assert torch.equal(found.indices, expected.indices)


def test_a_loader_hands_over_finished_batches_of_the_epoch(tmp_path: Path) -> None:
    batches = batches_of(tmp_path, Preprocessing(64, 48))
    sampler = EpochSampler(24, 10, seed=1)
    sampler.set_epoch(4)
    plain = list(Loader(batches, sampler))
    for workers in (0, 1):
        finished = list(Loader(UnaugmentedBatches(batches), sampler, workers=workers, finish=GpuViews(batches, "cpu")))
        assert len(finished) == len(plain) == 3
        for one, other in zip(finished, plain, strict=True):
            assert torch.equal(one.indices, other.indices)
            difference = one.images.float() - other.images.float()
            assert difference.abs().mean() < 2
