"""Drawn photos: what the labels and masks say must be what the pixels show."""

import colorsys
from collections import Counter

import cv2
import numpy as np
import pytest

from cls.sample.canvas import Canvas, Lamp
from cls.sample.config import SampleConfig
from cls.sample.figure.body import BodyFrame
from cls.sample.figure.painting import frame_of, paint_figure
from cls.sample.figure.pose import draw_pose, skeleton
from cls.sample.figure.wardrobe import draw_person
from cls.sample.photo import _setting, annotation, polygons, render_photo, stage
from cls.sample.plan import PHOTO, Plan, main_person
from tests.made_once import made_once

CONFIG = SampleConfig(photos=2000, seed=11)
PLAN = Plan(CONFIG)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return made_once(
        tmp_path_factory,
        "rendered_photos",
        lambda _: {index: render_photo(CONFIG, PLAN, index) for index in range(0, 300, 6)},
    )


def colour_name(rgb: np.ndarray) -> str:
    """What anybody would call a colour (0..255)."""
    hue, saturation, value = colorsys.rgb_to_hsv(*(rgb / 255))
    if value < 0.3 and (value < 0.2 or saturation < 0.4):
        return "black top"
    if saturation < 0.25:
        return "white top" if value > 0.6 else ""
    for name, low, high in (
        ("red top", -14, 12),
        ("yellow top", 38, 64),
        ("green top", 85, 165),
        ("blue top", 195, 245),
    ):
        if low <= hue * 360 <= high or low <= hue * 360 - 360 <= high:
            return name
    return ""


def main_frame(index: int) -> BodyFrame:
    place, light = _setting(CONFIG, PLAN.picset_of(index))
    person = main_person(CONFIG, PLAN.picset_of(index))
    scene = stage(CONFIG.stream(PHOTO, index), person, place, CONFIG.width_px, CONFIG.height_px)
    actor = scene.actors[-1]
    assert actor.is_main
    canvas = Canvas(1, 1, light.lamp)
    return frame_of(canvas, person, actor.pose, (actor.foot_x_px, actor.foot_y_px), actor.unit_px)


def test_the_colour_of_the_top_is_what_its_label_says(photos):
    right = total = 0
    for index, photo in photos.items():
        person = main_person(CONFIG, PLAN.picset_of(index))
        if not person.top_label or person.scarf or person.bag:
            continue
        frame = main_frame(index)
        votes: Counter[str] = Counter()
        for share in (0.45, 0.55, 0.65, 0.75):
            for aside in (-0.3, -0.15, 0.15, 0.3):
                joints = frame.skeleton
                spot = joints.pelvis[:2] + (joints.neck[:2] - joints.pelvis[:2]) * share + (aside, 0)
                x, y = (int(value) for value in frame.at(spot))
                if 4 <= x < CONFIG.width_px - 4 and 4 <= y < CONFIG.height_px - 4 and photo.masks[0][y, x]:
                    patch = photo.image_rgb[y - 3 : y + 4, x - 3 : x + 4].reshape(-1, 3)
                    votes[colour_name(np.median(patch, axis=0))] += 1
        total += 1
        right += votes.most_common(1)[0][0] == person.top_label
    assert total > 12
    assert right >= 0.93 * total, f"{right} of {total}"


def test_masks_share_no_pixel_and_the_main_person_is_the_largest(photos):
    for index, photo in photos.items():
        stack = np.stack([mask > 0 for mask in photo.masks])
        assert stack.sum(axis=0).max() <= 1, index
        areas = stack.sum(axis=(1, 2))
        assert areas[0] == areas.max(), index
        assert areas[0] > 0.015 * CONFIG.width_px * CONFIG.height_px, index


def test_polygons_cover_what_the_masks_cover(photos):
    for index, photo in photos.items():
        for mask in photo.masks:
            entry = annotation(mask, 1)
            if entry is None:
                continue
            drawn = np.zeros_like(mask)
            outlines = [np.array(polygon).reshape(-1, 2) for polygon in entry.segmentation]
            for outline in outlines:
                cv2.fillPoly(drawn, [np.rint(outline).astype(np.int32)], 255)
            both, either = cv2.countNonZero(drawn & mask), cv2.countNonZero(drawn | mask)
            assert both > 0.9 * either, index
            x, y, width, height = entry.bbox
            points = np.concatenate(outlines)
            assert (points >= (x, y)).all()
            assert (points <= (x + width, y + height)).all()
            assert entry.area == cv2.countNonZero(mask)


def test_a_hole_stays_open():
    mask = np.zeros((120, 160), np.uint8)
    cv2.circle(mask, (80, 60), 50, 255, -1)
    cv2.circle(mask, (80, 60), 25, 0, -1)
    drawn = np.zeros_like(mask)
    for polygon in polygons(mask):
        cv2.fillPoly(drawn, [np.rint(np.array(polygon).reshape(-1, 2)).astype(np.int32)], 255)
    assert drawn[60, 80] == 0
    assert cv2.countNonZero(drawn & mask) > 0.95 * cv2.countNonZero(mask)


def test_specks_and_empty_masks_are_left_out():
    mask = np.zeros((50, 50), np.uint8)
    assert annotation(mask, 1) is None
    mask[3:6, 3:6] = 255
    assert annotation(mask, 1) is None


def test_a_photo_depends_on_its_index_alone():
    alone = render_photo(CONFIG, PLAN, 40).image_rgb
    _setting.cache_clear()
    for index in (3, 700, 40):
        last = render_photo(CONFIG, Plan(CONFIG), index).image_rgb
    assert np.array_equal(alone, last)


def test_photos_of_one_picset_differ():
    first, second = (render_photo(CONFIG, PLAN, index).image_rgb for index in PLAN.picsets[0][:2])
    assert np.abs(first.astype(int) - second).mean() > 3


def test_there_are_one_to_four_people_and_sometimes_several(photos):
    counts = Counter(len(photo.masks) for photo in photos.values())
    assert set(counts) <= {1, 2, 3, 4}
    assert counts[1] > 5
    assert sum(count for people, count in counts.items() if people > 1) > 10


def test_any_person_can_be_painted_in_any_pose_at_any_size():
    rng = np.random.default_rng(5)
    for unit_px in (1.5, 4.0, 9.0, 30.0, 90.0):
        for _ in range(6):
            person, pose = draw_person(rng), draw_pose(rng)
            canvas = Canvas(120, 160, Lamp(0.6, -0.8, 0.5))
            frame = frame_of(canvas, person, pose, (60.0, 140.0), unit_px)
            paint_figure(frame)
            assert np.isfinite(canvas.albedo_rgb).all()
            assert np.isfinite(canvas.shade).all()
            assert canvas.alpha.max() > 0.5
            assert canvas.albedo_rgb.min() >= -0.01
            assert canvas.albedo_rgb.max() <= 255.01


def test_limbs_keep_their_length_in_space():
    rng = np.random.default_rng(6)
    for _ in range(50):
        person, pose = draw_person(rng), draw_pose(rng)
        bones = skeleton(pose, person.build)
        for side in (0, 1):
            spans = (bones.shoulders[side], bones.elbows[side]), (bones.elbows[side], bones.wrists[side])
            for (start, end), length in zip(spans, (1.28, 1.12), strict=True):
                step = end - start
                step[1] -= 0.14 * step[2]  # the camera's tilt
                assert np.isclose(np.linalg.norm(step), length)
