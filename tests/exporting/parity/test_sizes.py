"""Sizes of cut-outs that end-to-end models are asked about, and what resizing inside them changes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cls.errors import ParityError, ParityFault, PredictionError
from cls.exporting.formats.end_to_end import NORMALISED
from cls.exporting.parity.compare import compare_with
from cls.exporting.parity.results import (
    AS_CUT_OUT,
    LARGER,
    MOST_PEOPLE,
    SMALLER,
    SizedCutouts,
    answers_of_sized,
    filled_cutout,
    fitted,
    level_faults,
    odd_sizes,
    size_results,
)
from cls.exporting.parity.samples import ParitySample, reference_of
from cls.people.photos import Person
from cls.people.preprocess import Cutout, Preprocessing, cut_out, inner_size, on_flat_background
from tests.exporting.tables import PIXEL, Table, classifier
from tests.exporting.tables import reference as table_reference

FRAMES = [(160, 160), (768, 288), (64, 48), (256, 192), (32, 24)]


@pytest.mark.parametrize(("height_px", "width_px"), FRAMES)
@pytest.mark.parametrize("factor", [2.4, 0.45])
def test_sizes_show_uneven_borders_and_every_rounding(height_px: int, width_px: int, factor: float) -> None:
    sizes = odd_sizes(height_px, width_px, factor)
    assert len(sizes) == 6
    for number, (height, width) in enumerate(sizes):
        inner = inner_size(height, width, height_px, width_px)
        scale = min(height_px / height, width_px / width)
        assert 0.25 < height * width / (height_px * width_px * factor**2 * 0.72) < 4
        # The borders are at the sides and above and below in turn.
        assert inner[number % 2] == (height_px, width_px)[number % 2]
        axis = 1 - number % 2
        border = (height_px, width_px)[axis] - inner[axis]
        assert border > 0
        exact = (height, width)[axis] * scale
        if number < 4:
            assert border % 2 == 1
            assert (inner[axis] > exact) is (number < 2)
            assert 0.05 <= exact % 1 <= 0.95
        if (height_px, width_px) != (64, 48) and (height_px, width_px) != (32, 24) and number >= 4 and factor > 1:
            assert exact % 1 == 0.5
            # Halves go up; in version 1 of the preprocessing to the even number, down here and up there.
            assert inner[axis] > exact
            even = inner_size(height, width, height_px, width_px, version=1)
            assert (even[axis] > exact) is (number == 5)


def test_sizes_of_some_frames() -> None:
    assert odd_sizes(160, 160, 2.4) == [(383, 275), (275, 383), (382, 275), (275, 382), (320, 229), (231, 320)]
    assert odd_sizes(160, 160, 0.45) == [(71, 51), (51, 71), (75, 54), (54, 75), (64, 45), (47, 64)]
    assert odd_sizes(384, 144, 2.4) == [(922, 247), (665, 346), (921, 248), (666, 346), (768, 209), (551, 288)]
    assert odd_sizes(64, 48, 0.45) == [(24, 13), (26, 28), (29, 16), (17, 18), (24, 13), (29, 32)]
    assert odd_sizes(54, 1, 2.4)[2] == (122, 1)
    assert odd_sizes(150, 160, 0.9)[4][0] == 100
    assert odd_sizes(1, 1, 0.45) == [(3, 2), (2, 3), (3, 1), (1, 3), (3, 2), (2, 3)]


def test_people_are_cut_out_of_their_photos(tmp_path: Path) -> None:
    picture = np.random.default_rng(4).integers(0, 256, (40, 30, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), picture)
    person = Person("f", 0.9, (5.0, 4.0, 25.0, 36.0), ((5, 4), (25, 4), (25, 36), (5, 20)))
    size = replace(PIXEL, margin_rel=0.1)
    trained = replace(classifier(Table(np.array([[0.9, 0.2]] * 256))), preprocessing=size)
    people = reference_of(trained, [ParitySample(tmp_path / "a.png", person, (1.0, 0.0))])
    assert [one.kind for one in people.sized] == [AS_CUT_OUT, LARGER, SMALLER]
    assert (AS_CUT_OUT, LARGER) == ("of their own size", "larger than the input")
    assert SMALLER == "smaller than the input"
    cutout = cut_out(picture[:, :, ::-1], person, margin_rel=0.1)
    np.testing.assert_array_equal(people.sized[0].crops_rgb[0], on_flat_background(cutout, size.fill_rgb))


def test_where_only_cut_outs_are_at_hand_they_are_resized() -> None:
    bare = table_reference(np.linspace(0.1, 0.9, 60)[:, None].repeat(2, axis=1))
    assert [one.kind for one in bare.sized] == [LARGER, SMALLER]
    assert MOST_PEOPLE == 48
    assert bare.sized[0] in {bare.sized[0]}
    assert bare.sized[0] != replace(bare.sized[0])
    assert len(bare.sized[0].people) == 48
    assert (bare.sized[0].people[0], bare.sized[0].people[-1]) == (0, 59)
    for sized, factor in zip(bare.sized, (2.4, 0.45), strict=True):
        wanted = odd_sizes(1, 1, factor)
        assert [crop.shape[:2] for crop in sized.crops_rgb] == wanted * 8
    # 1x1 pixels are resized to more, and say the same of everybody.
    np.testing.assert_allclose(bare.sized[0].probs, bare.probs[bare.sized[0].people], atol=1e-6)


def test_the_background_is_filled_where_it_is_not_kept() -> None:
    cutout = Cutout(np.full((2, 2, 3), 200, np.uint8), np.array([[255, 0], [0, 255]], np.uint8))
    assert filled_cutout(cutout, PIXEL)[:, :, 0].tolist() == [[200, 124], [124, 200]]
    assert filled_cutout(cutout, replace(PIXEL, is_background_kept=True))[:, :, 0].tolist() == [[200, 200], [200, 200]]
    size = Preprocessing(2, 4)
    assert fitted(cutout.image_rgb, size)[:, :, 0].tolist() == [[124, 200, 200, 124]] * 2


class BySize(Table):
    """Answers probabilities, and others where the picture is not one pixel."""

    def __init__(self, probs: NDArray[np.float64], otherwise: NDArray[np.float64]) -> None:
        super().__init__(probs)
        self.otherwise = otherwise

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:  # type: ignore[override]
        people = images.reshape(len(images), -1)[:, 0].astype(int)
        table = self.probs if images.shape[1:3] == (1, 1) else self.otherwise
        return np.asarray(table[people], np.float32)


def test_what_resizing_changes() -> None:
    probs = np.array([[0.9, 0.2], [0.6, 0.7], [0.1, 0.8]])
    otherwise = probs.copy()
    otherwise[1] = [0.45, 0.9]
    bare = table_reference(probs)
    whole = replace(classifier(BySize(probs, otherwise)), is_end_to_end=True)
    larger, smaller = size_results(whole, bare)
    assert (larger.kind, smaller.kind, larger.samples) == (LARGER, SMALLER, 3)
    assert larger.max_probability_difference == pytest.approx(0.2, abs=1e-6)
    assert larger.label_flips == 1
    assert larger.farthest_flip == pytest.approx(0.1, abs=1e-6)
    logits = np.log(probs / (1 - probs))
    difference = np.log(otherwise / (1 - otherwise)) - logits
    expected = np.sqrt(np.square(difference).mean(axis=0)) / logits.std(axis=0)
    assert larger.resize_error == pytest.approx(expected.max(), abs=1e-5)
    # A wrong network that resizes rightly: only the answers differ from the trained network's.
    lower, _ = size_results(replace(classifier(BySize(otherwise, otherwise)), is_end_to_end=True), bare)
    assert (lower.resize_error, lower.label_flips) == (0, 1)
    same, _ = size_results(replace(classifier(BySize(probs, probs)), is_end_to_end=True), bare)
    assert (same.resize_error, same.label_flips, same.farthest_flip) == (0, 0, 0)
    report = compare_with(bare, whole, precision="int8")
    assert report.sizes == (larger, smaller)
    assert any(fault.code == "parity.resizing_changes_logits" and LARGER in fault for fault in report.faults)
    assert report.to_meta().sizes == {LARGER: round(larger.resize_error, 4), SMALLER: round(smaller.resize_error, 4)}
    assert compare_with(bare, classifier(Table(probs))).sizes == ()


def test_labels_in_another_order_are_matched_by_name() -> None:
    probs = np.array([[0.9, 0.2], [0.6, 0.7], [0.1, 0.8]])
    turned = classifier(BySize(probs[:, ::-1], probs[:, ::-1]), names=("cap", "hat"), thresholds=(0.5, 0.5))
    larger, _ = size_results(replace(turned, is_end_to_end=True), table_reference(probs))
    assert (larger.max_probability_difference, larger.label_flips) == (pytest.approx(0, abs=1e-6), 0)
    moved = replace(turned, thresholds=(0.75, 0.5), is_end_to_end=True)
    assert size_results(moved, table_reference(probs))[0].label_flips == 1


def test_a_model_that_does_not_take_other_sizes_is_refused() -> None:
    class Fixed(BySize):
        def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:  # type: ignore[override]
            if images.shape[1:3] != (1, 1):
                raise PredictionError("of one size only", code="wrong_input_shape", where="there")
            return super().logits(images)

    probs = np.array([[0.9, 0.2], [0.6, 0.7]])
    with pytest.raises(ParityError) as refused:
        size_results(replace(classifier(Fixed(probs, probs)), is_end_to_end=True), table_reference(probs))

    assert refused.value.code == "parity.wrong_input_shape"
    assert LARGER in refused.value.what
    assert "of one size only" in refused.value.what
    assert refused.value.where == "there"


def test_cut_outs_of_one_size_go_together_a_few_at_a_time() -> None:
    class Asked(BySize):
        def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:  # type: ignore[override]
            self.asked.append([len(images), *images.shape[1:3]])
            return super().logits(images)

    probs = np.linspace(0.1, 0.9, 9)[:, None].repeat(2, axis=1)
    crops = tuple(np.full((1 if person % 3 else 2, 1, 3), person, np.uint8) for person in range(9))
    fits = np.stack([crop[:1] for crop in crops])
    table = Asked(probs, 1 - probs)
    sized = SizedCutouts("mixed", np.arange(9), crops, fits, np.float32(probs))
    found = answers_of_sized(replace(classifier(table), is_end_to_end=True), sized)
    assert table.asked == [[3, 2, 1], [4, 1, 1], [2, 1, 1]]
    expected = np.where((np.arange(9) % 3 == 0)[:, None], 1 - probs, probs)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def stage_graph(path: Path, offset: NDArray[np.float32], *, name: str = NORMALISED) -> None:
    """An end-to-end model of two pixels in a row that takes pictures of its own size alone."""
    model = helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Cast", ["images"], ["floats"], to=TensorProto.FLOAT),
                helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
                helper.make_node("Add", ["planes", "offset"], [name]),
                helper.make_node("ReduceMean", [name, "axes"], ["probabilities"], keepdims=0),
            ],
            "stage",
            [helper.make_tensor_value_info("images", TensorProto.UINT8, ["batch", 1, 2, 3])],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 3])],
            [numpy_helper.from_array(offset, "offset"), numpy_helper.from_array(np.array([2, 3]), "axes")],
        ),
        opset_imports=[helper.make_opsetid("", 20)],
        ir_version=10,
    )
    onnx.save(model, path)


def test_pixels_inside_the_model_are_those_of_training(tmp_path: Path) -> None:
    probs = np.array([[0.9, 0.2]] * 5)
    bare = table_reference(probs)
    trained = replace(bare.trained, preprocessing=replace(PIXEL, width_px=2, std_rgb=(1 / 255, 2 / 255, 1 / 255)))
    bare = replace(bare, trained=trained)
    crops = tuple(np.full((1, 2, 3), person, np.uint8) for person in range(5))
    fits = np.stack(crops)
    bare.__dict__["sized"] = [SizedCutouts("of one size", np.arange(5), crops, fits, np.float32(probs))]
    # The second channel's deviation is two levels: its values are halves.
    base = np.zeros((1, 3, 1, 2), np.float32)

    def faults(offset: NDArray[np.float32], people: slice = slice(None)) -> list[ParityFault]:
        stage_graph(tmp_path / "stage.onnx", offset)
        return level_faults(tmp_path / "stage.onnx", bare)

    # Levels of 0 to 4, halved: the second channel is off by up to 4 levels.
    (line,) = faults(base)
    assert line.code == "parity.resizing_differs"
    assert line.startswith("cut-outs of one size ")
    assert " 4 levels" in line
    bare.__dict__["sized"] = [SizedCutouts("x", np.arange(5), (crops[0],) * 5, fits[:1].repeat(5, axis=0), bare.probs)]
    assert faults(base) == []
    off = base.copy()
    off[0, 0, 0, 0] = 0.5
    assert faults(off) == []
    off[0, 0, 0, 0] = 1.02
    assert re.findall(r"\d[\d.]*", faults(off)[0]) == ["1.02", "255", "0.17", "1", "0.1"]
    off[0, 0, 0, 0] = -1.02
    assert re.findall(r"\d[\d.]*", faults(off)[0]) == ["1.02", "255", "0.17", "1", "0.1"]
    off[0, 0, 0, 0] = 0.62
    assert len(faults(off)) == 1  # 0.103 on average
    off[0, 0, 0, 0] = np.nan
    assert len(faults(off)) == 1
    stage_graph(tmp_path / "other.onnx", off, name="other")
    assert level_faults(tmp_path / "other.onnx", bare) == []


def test_an_answer_that_falls_counts_as_one_that_rises() -> None:
    probs = np.array([[0.4, 0.2], [0.6, 0.3], [0.1, 0.8]])
    otherwise = probs.copy()
    otherwise[0, 0] = 0.55  # below its threshold, and said to be above
    otherwise[2, 1] = 0.55  # falls by 0.25, further than the other rises
    larger, _ = size_results(replace(classifier(BySize(probs, otherwise)), is_end_to_end=True), table_reference(probs))
    assert larger.max_probability_difference == pytest.approx(0.25, abs=1e-6)
    assert larger.farthest_flip == pytest.approx(0.1, abs=1e-6)


def test_a_filled_cut_out_is_meant_as_a_whole() -> None:
    size = replace(Preprocessing(2, 4), fill_rgb=(0, 0, 0))
    assert fitted(np.full((2, 2, 3), 255, np.uint8), size)[:, :, 0].tolist() == [[0, 255, 255, 0]] * 2


def test_sizes_are_those_of_the_networks_own_frame() -> None:
    bare = table_reference(np.array([[0.9, 0.2]] * 6))
    frame = replace(PIXEL, height_px=20, width_px=12)
    crops = bare.crops_rgb.repeat(20, axis=1).repeat(12, axis=2)
    people = replace(bare, trained=replace(bare.trained, preprocessing=frame), crops_rgb=crops)
    for sized, factor in zip(people.sized, (2.4, 0.45), strict=True):
        assert [crop.shape[:2] for crop in sized.crops_rgb] == odd_sizes(20, 12, factor)
