"""The checkpoint a training goes on with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cls.errors import TrainingError
from cls.training.epoch_checkpoints import LAST, checkpoint_to_go_on_with


def whole(path: Path) -> bytes:
    torch.save({"weights": torch.arange(20_000)}, path)
    return path.read_bytes()


def test_a_whole_one_is_taken_and_none_is_none(tmp_path: Path) -> None:
    assert checkpoint_to_go_on_with(tmp_path) is None
    whole(tmp_path / LAST)
    assert checkpoint_to_go_on_with(tmp_path) == tmp_path / LAST


@pytest.mark.parametrize(
    "spoil",
    [
        lambda content: b"no checkpoint",
        lambda content: content[: len(content) // 2],
        lambda content: content[:40_000] + bytes(4_000) + content[44_000:],
        lambda content: content[:20_000] + content[60_000:],
    ],
)
def test_a_damaged_one_is_refused(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    path = tmp_path / LAST
    path.write_bytes(spoil(whole(path)))
    with pytest.raises(TrainingError, match="is damaged") as caught:
        checkpoint_to_go_on_with(tmp_path)
    assert "--no-resume" in caught.value.line()
