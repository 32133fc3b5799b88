"""docs/segmenter.md, typed on a small sample set: fewer photos, one epoch, and from the sample's own segmenter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cls.settings import REPOSITORY
from tests.manual.commands import Block, blocks_of
from tests.manual.conftest import Shell

PAGE = REPOSITORY / "docs" / "segmenter.md"

# What the page says, and what is typed here instead of it: neither a network nor a GPU is needed.
SMALLER = {
    "--photos 120": "--photos 30",
    "--model yolov8s-seg.pt --epochs 100 --batch 16": (
        "--model cls/sample/person_model/best.pt --epochs 1 --batch 4 --image-size 160"
    ),
}


def smaller(block: Block) -> Block:
    text = block.text
    for words, instead in SMALLER.items():
        text = text.replace(words, instead)
    return replace(block, text=text)


def test_the_page_holds_the_words_that_are_replaced() -> None:
    text = "".join(block.text for block in blocks_of(PAGE))
    for words in SMALLER:
        assert text.count(words) == 1, words


@pytest.mark.long
def test_every_command_does_what_the_page_says(shell: Shell, checkout: Path) -> None:
    train, sample, segment, export = map(smaller, blocks_of(PAGE))
    shell.type(sample)
    trained = shell.type(train)
    assert trained is not None
    assert "30 pictures from 1 archive, 0 of them without people" in trained
    assert "dataset: people_yolo/data.yaml" in trained
    assert "person_models/runs/train/weights/best.pt" in trained
    best = checkout / "person_models" / "runs" / "train" / "weights" / "best.pt"
    shell.run(Block("cls load-group --group top_color --source sample_photos"))
    segmented = shell.type(segment)
    assert segmented is not None
    assert "30 photos segmented with best" in segmented
    best.rename(checkout / "person_models" / "best.pt")
    exported = shell.type(export)
    assert exported is not None
    assert "ONNX: person_models/best.onnx" in exported
    assert "agrees with the checkpoint on 24 photos" in exported
    assert (checkout / "person_models" / "best.onnx").is_file()
