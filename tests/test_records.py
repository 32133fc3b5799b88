from __future__ import annotations

import pytest

from cls.records import Record


class _Counts(Record):
    train: int = 0


def test_a_change_of_a_field_that_is_not_there_is_refused() -> None:
    assert _Counts(train=1).replaced(train=2) == _Counts(train=2)
    with pytest.raises(TypeError, match="trian"):
        _Counts(train=1).replaced(trian=2)
