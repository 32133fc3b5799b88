"""Which pixels an outline fills, to the unit of 1/256 pixel around their centres."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from cls.people.polygons import fill_outlines

NEAR = (-2, -1, 0, 1, 2)


@pytest.mark.parametrize("is_turned", [False, True])
def test_a_pixel_is_filled_where_its_centre_is_inside_or_on_the_outline(is_turned: bool) -> None:
    """Rectangles that begin and end around the centres of pixels: 128, 384, 640 and 896."""
    centres = 128 + 256 * np.arange(4)
    for left, top, right, bottom in itertools.product(NEAR, repeat=4):
        x, y = (128 + left, 640 + right), (384 + top, 896 + bottom)
        corners = [(x[0], y[0]), (x[1], y[0]), (x[1], y[1]), (x[0], y[1])]
        outline = np.array(corners[::-1] if is_turned else corners, np.int64)
        expected = ((centres >= y[0]) & (centres <= y[1]))[:, None] & ((centres >= x[0]) & (centres <= x[1]))[None]
        np.testing.assert_array_equal(fill_outlines([outline], 4, 4) == 255, expected)


@pytest.mark.parametrize("change", NEAR)
def test_a_slanted_outline_around_the_centres_of_the_diagonal(change: int) -> None:
    """The lower left of a square: centres on the diagonal are inside where it is moved no further than onto them."""
    outline = np.array([(0, change), (1024, 1024 + change), (0, 1024 + change)], np.int64)
    rows, columns = np.mgrid[:4, :4]
    expected = (rows > columns) | ((rows == columns) & (change <= 0))
    np.testing.assert_array_equal(fill_outlines([outline], 4, 4) == 255, expected)
