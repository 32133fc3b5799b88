"""meta.json names the version of the preprocessing, and its rules."""

from __future__ import annotations

import json
from typing import Any

import pytest

from cls.errors import PackageError
from cls.package.meta import ModelMeta, parse_meta, published_schema
from cls.package.processing_steps import steps_of
from cls.people.preprocess import Preprocessing
from tests.package.metas import meta_dict


def _meta(changes: dict[str, Any] | None = None) -> dict[str, Any]:
    return meta_dict(schema_version=3, preprocessing=Preprocessing(64, 48).to_dict() | (changes or {}))


def test_a_package_that_names_no_version_is_of_the_first() -> None:
    meta = parse_meta(meta_dict())
    assert meta.preprocessing.version == 1
    assert meta.preprocessing_object() == Preprocessing(64, 48, version=1)
    assert meta.all_steps.rules is None


def test_the_second_version_is_read_back_with_a_rule_for_every_step() -> None:
    meta = parse_meta(_meta())
    assert meta.preprocessing_object() == Preprocessing(64, 48)
    steps = meta.all_steps
    assert steps.rules is not None
    assert set(steps.rules) == {*steps.before, *steps.inside, *steps.after}
    assert all(steps.rules.values())
    assert parse_meta(meta.model_dump(mode="json")) == meta


@pytest.mark.parametrize("is_end_to_end", [False, True])
@pytest.mark.parametrize("is_kept", [False, True])
def test_rules_are_of_the_steps_there_are(is_end_to_end: bool, is_kept: bool) -> None:
    steps = steps_of(is_end_to_end=is_end_to_end, is_background_kept=is_kept, version=2)
    assert set(steps.rules or ()) == {*steps.before, *steps.inside, *steps.after}
    assert steps_of(is_end_to_end=is_end_to_end, is_background_kept=is_kept).rules is None


@pytest.mark.parametrize(
    "preprocessing",
    [
        {"version": 1},
        {"resize": "letterbox"},
        {"version": 3},
        {"version": True},
        {"height_px": 16385},
        {"width_px": 0},
        {"std_rgb": [0.2, 0.0, 0.2]},
        {"margin_rel": 101},
        {"fill_rgb": [0, 0, 256]},
    ],
)
def test_what_contradicts_itself_or_is_beyond_its_bound_is_refused(preprocessing: dict[str, Any]) -> None:
    with pytest.raises(PackageError):
        parse_meta(_meta(preprocessing))


def test_the_schema_says_the_rules() -> None:
    definitions = json.loads(published_schema())["$defs"]
    rules = parse_meta(_meta()).all_steps.rules
    assert rules is not None
    assert all(rule in definitions["StepsMeta"]["properties"]["rules"]["description"] for rule in rules.values())
    assert all("description" in said for said in definitions["PreprocessingMeta"]["properties"].values())


def test_an_older_package_keeps_its_version_through_every_copy() -> None:
    meta = ModelMeta.model_validate(parse_meta(meta_dict()).model_dump(mode="json"))
    assert meta.with_model_version("1.0.0").preprocessing_object().version == 1
