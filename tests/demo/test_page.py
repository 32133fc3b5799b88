"""What the demonstration's page says of the photos it shows."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cls.demo.page import _photos_note


@pytest.mark.parametrize(("loaded", "said"), [("a.jpg", "in the training data"), ("other.jpg", "not in the dataset")])
def test_photos_of_ones_own_are_new_only_where_none_was_loaded(tmp_path: Path, loaded: str, said: str) -> None:
    for file in (tmp_path / "demo" / "new_photos" / "a.jpg", tmp_path / "pictures" / loaded):
        file.parent.mkdir(parents=True)
        file.touch()
    plan = SimpleNamespace(folder=tmp_path / "demo", source=tmp_path)
    guide_run: Any = SimpleNamespace(plan=plan, bottle=SimpleNamespace(pictures=tmp_path / "pictures"))
    assert said in _photos_note(guide_run)
