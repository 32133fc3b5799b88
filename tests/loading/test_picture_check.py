"""Bytes that are no whole picture are found, wherever they were cut."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cls.loading.download import problem_of_picture
from cls.people.photos import decode_photo
from tests.collector.photos import jpeg

PHOTO = jpeg(3, (200, 150))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_pictures_are_taken_and_can_then_be_read(kind: str, mode: str) -> None:
    stream = io.BytesIO()
    Image.new(mode, (40, 30)).save(stream, kind)
    assert problem_of_picture(stream.getvalue()) is None
    assert decode_photo(stream.getvalue()).shape == (30, 40, 3)


@given(st.integers(0, len(PHOTO) - 3))
def test_a_jpeg_cut_anywhere_is_found(cut: int) -> None:
    assert problem_of_picture(PHOTO[:cut]) is not None


@given(st.binary(max_size=200))
def test_any_bytes_give_an_answer(content: bytes) -> None:
    assert problem_of_picture(content) is None or problem_of_picture(content)


@given(st.binary(min_size=1, max_size=40), st.integers(2, len(PHOTO) - 1))
def test_damaged_pictures_give_an_answer(noise: bytes, place: int) -> None:
    problem_of_picture(PHOTO[:place] + noise + PHOTO[place + len(noise) :])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "empty"),
        (b"<!doctype html><html></html>", "not a picture"),
        (b'{"detail": "no"}', "not a picture"),
        (b"\0" * 5000, "not a picture"),
        (b"GIF89a" + b"\0" * 50, "not a picture"),
        (PHOTO[:600], "damaged or cut off"),
    ],
)
def test_the_reason_is_told(content: bytes, said: str) -> None:
    assert said in (problem_of_picture(content) or "")


def test_a_picture_too_large_to_be_a_photo() -> None:
    stream = io.BytesIO()
    Image.new("1", (20_000, 20_000)).save(stream, "PNG")
    assert "too large" in (problem_of_picture(stream.getvalue()) or "")
