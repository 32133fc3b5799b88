"""The input's size taken from the people."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cls.dataset.samples import Sample
from cls.errors import UsageError
from cls.people.photos import Person
from cls.training.network.input_size import DEFAULT_PIXELS, pixels_of, size_for


def people(*sizes_px: tuple[float, float]) -> list[Sample]:
    """Samples with boxes of (height, width)."""
    return [
        Sample(f"{n}.jpeg", "", Person("person", 1.0, (10, 20, 10 + width, 20 + height), ()), ())
        for n, (height, width) in enumerate(sizes_px)
    ]


@pytest.mark.parametrize(("text", "pixels"), [("auto", DEFAULT_PIXELS), ("AUTO:20000", 20000), ("256x192", None)])
def test_the_words(text: str, pixels: int | None) -> None:
    assert pixels_of(text) == pixels


@pytest.mark.parametrize("text", ["auto:", "auto:many", "auto:12", "auto:99999999999", "auto:-5"])
def test_what_is_no_number_of_pixels(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        pixels_of(text)
    assert caught.value.code == "usage.invalid_option_value"
    assert "auto:PIXELS" in caught.value.what
    assert text in caught.value.what


def test_standing_people_get_a_high_input() -> None:
    standing = people((760, 290), (740, 300), (700, 280), (400, 400))
    assert size_for(standing, DEFAULT_PIXELS, margin_rel=0.05) == (320, 160)


def test_heads_get_a_square_one() -> None:
    assert size_for(people((200, 200)), 160 * 160, margin_rel=0.05) == (160, 160)


def test_nobody_has_a_box() -> None:
    assert size_for(people((0, 0)), DEFAULT_PIXELS, margin_rel=0.05) == (256, 192)


@given(
    st.lists(st.tuples(st.floats(1, 4000), st.floats(1, 4000)), min_size=1, max_size=8),
    st.integers(64 * 64, 1024 * 1024),
)
def test_the_pixels_are_kept_to(sizes_px: list[tuple[float, float]], pixels: int) -> None:
    height_px, width_px = size_for(people(*sizes_px), pixels, margin_rel=0.05)
    assert height_px % 16 == width_px % 16 == 0
    assert min(height_px, width_px) >= 32
    assert 0.6 < height_px * width_px / pixels < 1.5
