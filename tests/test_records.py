from __future__ import annotations

import pytest
from pydantic import ValidationError

from cls.records import Record


class _Counts(Record):
    train: int = 0


def test_a_change_of_a_field_that_is_not_there_is_refused() -> None:
    assert _Counts(train=1).replaced(train=2) == _Counts(train=2)
    with pytest.raises(TypeError, match="trian"):
        _Counts(train=1).replaced(trian=2)


def test_a_change_is_validated_and_keeps_what_was_read() -> None:
    read = _Counts.model_validate({"later": [1]})
    assert read.replaced().to_json_values() == {"later": [1]}
    assert read.replaced(train="2").to_json_values() == {"later": [1], "train": 2}
    with pytest.raises(ValidationError):
        read.replaced(train="many")
