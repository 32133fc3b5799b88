"""Outlines: properties of pure geometry."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cls.sample.canvas import area, convex_hull, ellipse, smooth_closed, smooth_open, tapered

coordinate = st.floats(-500, 500, allow_nan=False, width=32)
outlines = st.integers(3, 12).flatmap(lambda n: arrays(np.float64, (n, 2), elements=coordinate))
offsets = st.tuples(coordinate, coordinate)


@given(outlines, st.integers(2, 8))
def test_a_smooth_outline_passes_through_its_points(points, steps):
    assert np.allclose(smooth_closed(points, steps)[::steps], points)


@given(outlines, st.integers(2, 8))
def test_a_smooth_line_begins_ends_and_passes_where_asked(points, steps):
    line = smooth_open(points, steps)
    assert len(line) == (len(points) - 1) * steps + 1
    assert np.allclose(line[::steps], points)


@given(outlines, offsets)
def test_curves_move_with_their_points(points, offset):
    for curve in (smooth_closed, smooth_open, lambda p: tapered(p, [3.0] * len(p))):
        assert np.allclose(curve(points + offset), curve(points) + offset, atol=1e-3)


@given(st.floats(0.5, 40), st.floats(0.5, 40), st.floats(-7, 7), offsets)
def test_an_ellipse_turns_without_changing_its_area(half_x, half_y, angle, centre):
    outline = ellipse(centre, half_x, half_y, angle, count=180)
    assert np.isclose(area(outline), np.pi * half_x * half_y, rtol=0.001)
    assert np.allclose(outline.mean(axis=0), centre, atol=1e-6)


@given(st.floats(10, 300), st.floats(1, 9), st.floats(1, 9))
def test_a_straight_limb_is_as_wide_as_asked_at_its_ends(length, first, last):
    outline = tapered([(0, 0), (length / 2, 0), (length, 0)], [first, (first + last) / 2, last], is_round=False)
    ends = outline[np.isclose(outline[:, 0], 0)], outline[np.isclose(outline[:, 0], length)]
    assert np.isclose(np.ptp(ends[0][:, 1]), 2 * first)
    assert np.isclose(np.ptp(ends[1][:, 1]), 2 * last)


@given(st.floats(20, 300), st.floats(1, 9))
def test_round_ends_reach_past_the_path_by_the_half_width(length, half):
    outline = tapered([(0, 0), (length / 2, 0), (length, 0)], [half] * 3)
    assert -half <= outline[:, 0].min() < 0
    assert length < outline[:, 0].max() <= length + half + 1e-9


def test_a_limb_of_no_length_is_still_a_finite_outline():
    assert np.isfinite(tapered([(5, 5)] * 4, [2.0] * 4)).all()


@given(outlines)
def test_a_hull_is_convex_and_holds_every_point(points):
    hull = convex_hull(points)
    if len(hull) < 3:
        return
    edges = np.roll(hull, -1, axis=0) - hull
    for corner, edge in zip(hull, edges, strict=True):
        cross = edge[0] * (points[:, 1] - corner[1]) - edge[1] * (points[:, 0] - corner[0])
        assert (cross >= -1e-6 * (1 + np.abs(edge).max() * 1000)).all()
