"""Networks that look at the person, and networks that look past them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cls.bottle.dataset_file import read_dataset
from cls.dataset.backgrounds import Backgrounds
from cls.dataset.cutouts import CutoutFormat, Cutouts, load_cutouts
from cls.dataset.samples import collect_samples
from cls.errors import UsageError
from cls.people.preprocess import Preprocessing
from cls.training.config import TrainConfig
from cls.training.evaluation.background_sensitivity import (
    BackgroundSensitivity,
    BackgroundTrial,
    _flips,
    measure_backgrounds,
    people_tried,
)
from cls.training.network.build import NetworkSpec
from tests.bottles import GROUP, make_tiny_bottle

# Mean and deviation that leave 0..1: the networks below read colours.
PREPROCESSING = Preprocessing(64, 48, mean_rgb=(0.0, 0.0, 0.0), std_rgb=(1.0, 1.0, 1.0))
NAMES = ("a", "b")
SPEC = NetworkSpec("made up", NAMES, PREPROCESSING)


@pytest.fixture(scope="module")
def cutouts(tmp_path_factory: pytest.TempPathFactory) -> Cutouts:
    bottle = make_tiny_bottle(tmp_path_factory.mktemp("tiny"))
    samples, _ = collect_samples(bottle, read_dataset(bottle.dataset_file(GROUP)))
    return load_cutouts(bottle, samples, CutoutFormat(PREPROCESSING), workers=1)[0]


class Corner(nn.Module):
    """Label a: is the upper left corner bright? Label b: always."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        corner = images[:, :, :6, :6].mean(dim=(1, 2, 3))
        return torch.stack([(corner - 0.7) * 50, torch.ones_like(corner)], dim=1)


class Middle(nn.Module):
    """Label a: is the middle, where the person is, red? Label b: never."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        middle = images[:, :, 24:32, 20:28].mean(dim=(2, 3))
        return torch.stack([(middle[:, 0] - middle[:, 2]) * 20, -torch.ones_like(middle[:, 0])], dim=1)


def trial(*levels: int, people: int = 64, per_person: int = 8) -> BackgroundTrial:
    pictures = [np.full((64, 48, 3), level, np.uint8) for level in levels]
    return BackgroundTrial(Backgrounds(pictures, "flat"), people, per_person)


def tried(network: nn.Module, cutouts: Cutouts, what: BackgroundTrial, seed: int = 0) -> BackgroundSensitivity:
    found = measure_backgrounds(network.eval(), SPEC, (0.5, 0.5), cutouts, replace(what, seed=seed))
    assert found is not None
    return found


def test_who_looks_past_the_person_is_found_out(cutouts: Cutouts) -> None:
    found = tried(Corner(), cutouts, trial(255, 0))
    # Of two backgrounds, one is bright; the flat colour of inference is not.
    assert found.background_left_in.labels == {"a": 0.5, "b": 0.0}
    assert found.background_left_in.share == 0.25
    assert found.background_left_in.people == 1.0
    assert found.background_left_in.probability > 0.2
    # Cut out by the mask, nothing of the background reaches the corner.
    assert found.as_served.share == 0
    assert found.as_served.probability < 1e-6
    assert (found.people, found.backgrounds, found.origin) == (24, 2, "flat")


def test_who_looks_at_the_person_does_not_change_the_answer(cutouts: Cutouts) -> None:
    found = tried(Middle(), cutouts, trial(255, 0, 128, 60))
    assert found.as_served.share == 0
    assert found.background_left_in.share == 0


def test_the_cut_is_that_of_inference(cutouts: Cutouts) -> None:
    """What the network gets on the flat colour is what inference would give it, but for resizing twice."""
    seen: list[np.ndarray] = []  # type: ignore[type-arg]

    class Watching(Corner):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            seen.extend(np.rint(images.permute(0, 2, 3, 1).numpy() * 255))
            return super().forward(images)

    tried(Watching(), cutouts, trial(255, 0), seed=1)
    assert len(seen) == 24 * 3 * 2
    for index in range(24):
        exact = cutouts.input_rgb(index).astype(float)
        served = seen[index * 6]
        assert np.abs(served - exact).mean() < 3
        outside = (exact == PREPROCESSING.fill_rgb).all(axis=-1) & (served == PREPROCESSING.fill_rgb).all(axis=-1)
        assert outside.mean() > 0.2
        # A white background shows at the mask's edge alone.
        changed = np.abs(seen[index * 6 + 2] - served).max(axis=-1) > 0
        assert 0 < changed.mean() < 0.25


def test_drawn_by_seed_within_what_there_is(cutouts: Cutouts) -> None:
    few = trial(255, 0, 128, people=5, per_person=2)
    first, again = tried(Corner(), cutouts, few), tried(Corner(), cutouts, few)
    assert first == again
    assert (first.people, first.backgrounds) == (5, 2)
    assert any(tried(Corner(), cutouts, few, seed) != first for seed in range(1, 6))
    nothing = (cutouts.take([]), trial(255)), (cutouts, trial()), (cutouts, trial(255, people=0))
    for people, what in nothing:
        assert measure_backgrounds(Corner(), SPEC, (0.5, 0.5), people, what) is None


def test_a_trial_costs_a_few_percent_of_the_training() -> None:
    assert people_tried(1, 24, 8) == 8
    assert people_tried(12, 1000, 8) == 64
    people = people_tried(6, 950, 8)
    assert people * 2 * 9 / (6 * 950 * 3) < 0.04


def test_numbers_that_cannot_be() -> None:
    with pytest.raises(UsageError) as caught:
        TrainConfig("hat", backgrounds=-1, background_people=-2)
    assert caught.value.code == "usage.invalid_options"
    assert [fault.code for fault in caught.value.faults] == ["usage.invalid_option_value"] * 2
    for fault, option, value in zip(caught.value.faults, ("backgrounds", "background-people"), (-1, -2), strict=True):
        assert fault.startswith(f"--{option}: ")
        assert fault.endswith(f" {value}")
    assert TrainConfig("hat", backgrounds=0, background_people=0).backgrounds == 0


def test_nothing_seen_to_change_is_not_nothing_that_changes() -> None:
    names, half = ("a",), (0.5,)
    calm = np.full((14, 3, 1), 0.9)
    units = [str(number) for number in range(14)]
    assert _flips(calm, names, half, units, 0).interval == (0.0, pytest.approx(0.232, abs=1e-3))
    assert _flips(calm, names, half, ["x"] * 14, 0).interval is None, "one picset tells nothing"
    some = calm.copy()
    some[:3, 1:] = 0.1
    found = _flips(some, names, half, units, 0)
    assert found.interval is not None
    assert found.share == pytest.approx(3 / 14)
    assert found.interval[0] < found.share < found.interval[1]
    alike = _flips(some, names, half, [str(number // 3) for number in range(14)], 0)
    assert alike.interval is not None
    assert alike.interval[1] - alike.interval[0] > found.interval[1] - found.interval[0], "three of one picset"


def test_people_with_a_changed_answer_are_counted_whatever_share_of_answers_changes() -> None:
    """Six of 64 people, each with one changed answer of 8 backgrounds times 8 labels."""
    probs = np.full((64, 9, 8), 0.9)
    for person in range(6):
        probs[person, 1 + person, person] = 0.1
    found = _flips(probs, tuple("abcdefgh"), (0.5,) * 8, [str(number) for number in range(64)], 0)
    assert found.people == 6 / 64
    assert found.share == 6 / (64 * 64)
    assert found.people_interval is not None
    assert found.interval is not None
    assert found.people_interval[0] <= 0.0352, "the exact interval of 6 of 64 is 0.0352 to 0.1930"
    assert found.people_interval[1] >= 0.1929
    assert found.interval[1] < 0.004
