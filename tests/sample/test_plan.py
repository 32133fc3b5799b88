"""What a set will hold: layout, names and shares, without drawing anything."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cls.errors import UsageError
from cls.sample.config import SampleConfig
from cls.sample.figure.wardrobe import GROUPS, MULTI_LABEL_GROUPS
from cls.sample.plan import Plan, given_tags, main_person, true_tags


@given(st.integers(1, 900), st.integers(0, 2**40))
@settings(max_examples=60)
def test_picsets_hold_4_to_12_photos_and_together_all_of_them(photos, seed):
    picsets = Plan(SampleConfig(photos, seed)).picsets
    assert [index for picset in picsets for index in picset] == list(range(photos))
    if photos >= 4:
        assert all(4 <= len(picset) <= 12 for picset in picsets)


@given(st.integers(1, 400), st.floats(0, 1), st.floats(0, 1))
@settings(max_examples=40)
def test_shares_are_exact(photos, wrong, corrupt):
    plan = Plan(SampleConfig(photos, 3, wrong_labels=wrong, corrupt=corrupt))
    assert len(plan.wrong) == round(wrong * photos)
    assert len(plan.corrupt) == round(corrupt * photos)
    assert sum(bool(plan.corrupt_kind(index)) for index in range(photos)) == len(plan.corrupt)


def test_tens_of_thousands_of_photos_are_planned_at_once():
    started_s = time.perf_counter()
    plan = Plan(SampleConfig(60_000, 1))
    names = {plan.file_name(index) for index in range(60_000)}
    guids = {plan.guid(picset) for picset in range(len(plan.picsets))}
    assert len(names) == 60_000
    assert len(guids) == len(plan.picsets)
    assert plan.picset_of(59_999) == len(plan.picsets) - 1
    assert time.perf_counter() - started_s < 5


def test_names_differ_between_seeds_and_sizes():
    plans = [Plan(SampleConfig(10, 1)), Plan(SampleConfig(10, 2)), Plan(SampleConfig(10, 1, "320x240"))]
    assert len({plan.file_name(4) for plan in plans}) == 3


def test_a_photo_far_into_a_set_is_named_the_same_whatever_the_shares():
    assert Plan(SampleConfig(50, 1, wrong_labels=0.5)).file_name(7) == Plan(SampleConfig(90, 1)).file_name(7)


def test_every_problem_of_the_parameters_is_told_at_once():
    with pytest.raises(UsageError) as caught:
        SampleConfig(0, -1, "10x10", 1.5, -0.1, workers=0)
    assert caught.value.codes == ("usage.invalid_options", *["usage.invalid_option_value"] * 6)
    for word in ("photos", "seed", "size", "wrong-labels", "corrupt", "workers"):
        assert word in caught.value.line()


def test_wrong_tags_are_wrong_in_exactly_the_group_named():
    plan = Plan(SampleConfig(300, 8, wrong_labels=1.0))
    for index in range(300):
        truth = true_tags(main_person(plan.config, plan.picset_of(index)))
        tags, wrong_group = given_tags(plan, index, truth)
        for group, names in GROUPS.items():
            mine, true = {tag for tag in tags if tag in names}, {tag for tag in truth if tag in names}
            assert (mine != true) == (group == wrong_group)
            assert group in MULTI_LABEL_GROUPS or len(mine) <= 1


def test_every_label_is_common_enough_to_learn_and_some_people_have_none():
    plan = Plan(SampleConfig(8000, 0))
    people = [true_tags(main_person(plan.config, picset)) for picset in range(len(plan.picsets))]
    for group, names in GROUPS.items():
        for name in names:
            assert sum(name in tags for tags in people) > 0.05 * len(people), name
        assert sum(not set(names) & set(tags) for tags in people) > 0.08 * len(people), group
