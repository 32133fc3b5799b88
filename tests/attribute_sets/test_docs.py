"""What docs/training.md says of the public sets."""

from __future__ import annotations

import re
import shlex

import pytest

from cls.attribute_sets.layouts import ANNOTATIONS, PICTURES
from cls.attribute_sets.table import PUBLISHED
from cls.cli.main import build_parser
from cls.settings import REPOSITORY

PAGE = (REPOSITORY / "docs" / "training.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## Public attribute sets")[2].partition("\n## ")[0]
COMMANDS = re.findall(r"^cls (.+)$", SECTION, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_can_be_typed(command: str) -> None:
    from cls.cli.main import VERBS

    assert build_parser(VERBS).parse_args(shlex.split(command))


def test_there_are_commands() -> None:
    assert len(COMMANDS) == 3


def test_folders_and_figures_are_those_of_the_code() -> None:
    assert ANNOTATIONS[0] in SECTION
    assert all(f"`{folder}/`" in SECTION for folder in PICTURES)
    values = {f"{row.values[0]:.2f}" for row in PUBLISHED if row.layout == "peta"}
    assert {"83.96", "71.43"} <= values
