"""Every group has folders of its own inside the bottle, whatever it is called."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cls.bottle.layout import Bottle
from cls.settings import Settings

BOTTLE = Bottle(Settings(file=Path("/c/configuration.yaml"), data_path=Path("/b")))
GROUP = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=120)


@given(GROUP, GROUP)
def test_groups_never_share_and_never_leave(one: str, other: str) -> None:
    for place in (BOTTLE.meta, BOTTLE.dataset_file, BOTTLE.models, BOTTLE.inference, BOTTLE.masks):
        assert place(one).parent == place(other).parent
        assert (place(one) == place(other)) == (one == other)
        assert place(one).name not in (".", "..")
        assert "/" not in place(one).name
        assert "\0" not in place(one).name


def test_the_layout_of_the_specification() -> None:
    assert BOTTLE.picture("a.jpeg") == Path("/b/pictures/a.jpeg")
    assert BOTTLE.meta("hair_color") == Path("/b/meta/hair_color")
    assert BOTTLE.dataset_file("hair_color") == Path("/b/datasets/hair_color.json")
    assert BOTTLE.models("hair_color") == Path("/b/models/hair_color")
    assert BOTTLE.inference_model("hair_color") == Path("/b/inference_models/hair_color/inference_model")


@pytest.mark.parametrize(
    ("url", "expected"), [("", "sqlite:////b/pictures.sqlite"), ("postgresql://h/d", "postgresql://h/d")]
)
def test_the_database_is_the_configured_one_or_in_the_bottle(url: str, expected: str) -> None:
    settings = Settings(file=Path("/c"), data_path=Path("/b"), pictures_info_db_url=url)
    assert Bottle(settings).database_url == expected
