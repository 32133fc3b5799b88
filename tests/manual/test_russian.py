"""The Russian guides show the commands of the English pages, which are typed word for word by their own tests."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from cls.settings import REPOSITORY
from tests.manual.commands import Block, blocks_of

DOCS = REPOSITORY / "docs"
TYPED = {"classification": "getting-started", "segmentation": "segmenter", "model-storage": "serve"}


def without_comments(block: Block) -> Block:
    return replace(block, text=re.sub(r" +# .*$", "", block.text, flags=re.MULTILINE))


@pytest.mark.parametrize("guide", TYPED)
def test_its_commands_are_those_of_the_english_page(guide: str) -> None:
    russian = list(map(without_comments, blocks_of(DOCS / "ru" / f"{guide}.md")))
    english = list(map(without_comments, blocks_of(DOCS / f"{TYPED[guide]}.md")))
    assert english
    assert russian[: len(english)] == english
    others = {block.text for block in blocks_of(DOCS / "storage.md")} if guide == "model-storage" else set()
    assert {block.text for block in russian[len(english) :]} <= others


def test_every_russian_guide_is_compared() -> None:
    assert {page.stem for page in (DOCS / "ru").glob("*.md")} == {*TYPED, "index"}
