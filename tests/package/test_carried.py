"""People carried along in a package: read back as they were, and refused where they are not of this model."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cls.errors import PackageError
from cls.package.packing import CarriedSamples, people_in, read_samples, samples_as_bytes
from tests.package.metas import make_meta
from tests.package.zips import onnx_zip, some_samples


def test_read_back() -> None:
    samples = some_samples(3)
    samples.truth[0, 0] = np.nan
    found = read_samples(samples_as_bytes(samples), make_meta(), "x")
    np.testing.assert_array_equal(found.crops_rgb, samples.crops_rgb)
    np.testing.assert_array_equal(found.probabilities, samples.probabilities)
    np.testing.assert_array_equal(found.truth, samples.truth)
    assert found.labels == samples.labels == ("black hair", "blonde hair", "red hair")
    assert (found.crops_rgb.dtype, found.probabilities.dtype, found.truth.dtype) == (np.uint8, np.float32, np.float32)


def test_doubles_become_single_precision() -> None:
    samples = some_samples(1)
    doubles = replace(samples, probabilities=samples.probabilities.astype(float), truth=samples.truth.astype(float))
    found = read_samples(samples_as_bytes(doubles), make_meta(), "x")
    assert (found.probabilities.dtype, found.truth.dtype) == (np.float32, np.float32)


def test_how_many_are_in_a_package(tmp_path: Path) -> None:
    assert people_in(onnx_zip(tmp_path)) == 0
    assert people_in(onnx_zip(tmp_path, people=5)) == 5


def shaped(**arrays: tuple[int, ...]) -> CarriedSamples:
    made = some_samples(2)
    parts = {name: np.zeros(shape, getattr(made, name).dtype) for name, shape in arrays.items()}
    return replace(made, **parts)


@pytest.mark.parametrize(
    "samples",
    [
        shaped(crops_rgb=(2, 63, 48, 3)),
        shaped(crops_rgb=(2, 48, 64, 3)),
        shaped(crops_rgb=(2, 64, 48)),
        shaped(crops_rgb=(2, 64, 48, 1)),
        shaped(crops_rgb=(3, 64, 48, 3)),
        shaped(crops_rgb=(0, 64, 48, 3), probabilities=(0, 3), truth=(0, 3)),
        shaped(probabilities=(2, 2)),
        shaped(probabilities=(3, 3)),
        shaped(truth=(2, 2)),
        replace(some_samples(2), crops_rgb=np.zeros((2, 64, 48, 3), np.float32)),
        replace(some_samples(2), probabilities=np.array([[0.1, 0.2, 0.3], [np.nan, 0.2, 0.3]], np.float32)),
        replace(some_samples(2), probabilities=np.array([[0.1, 0.2, 0.3], [np.inf, 0.2, 0.3]], np.float32)),
    ],
)
def test_of_another_shape(samples: CarriedSamples) -> None:
    with pytest.raises(PackageError) as caught:
        read_samples(samples_as_bytes(samples), make_meta(), "x")
    assert caught.value.code == "package.wrong_shape"
    assert caught.value.where == "x"
    assert "64x48 pixels" in caught.value.what
    assert "(of 3)" in caught.value.what
    assert "--carry-samples" in (caught.value.hint or "")


def test_of_another_model() -> None:
    samples = replace(some_samples(2), labels=tuple("abcde"))
    with pytest.raises(PackageError) as caught:
        read_samples(samples_as_bytes(samples), make_meta(), "x")
    assert caught.value.code == "package.other_model"
    assert caught.value.where == "x"
    assert caught.value.what.endswith(" a, b, c, d")
    with pytest.raises(PackageError) as caught:
        read_samples(samples_as_bytes(replace(samples, labels=some_samples(1).labels[::-1])), make_meta(), "x")
    assert caught.value.code == "package.other_model"


def archive(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x03\x04",
        samples_as_bytes(some_samples(1))[:-30],
        archive(crops_rgb=np.zeros(1)),
        archive(crops_rgb=np.array([{}], object), probabilities=0, truth=0, labels=0),
    ],
)
def test_damaged_or_executable(content: bytes) -> None:
    with pytest.raises(PackageError) as caught:
        read_samples(content, make_meta(), "x")
    assert caught.value.code == "package.invalid_samples"
    assert caught.value.where == "x"
