"""What docs/attribute-sets.md says of the public sets."""

from __future__ import annotations

import re
import shlex

import pytest

from cls.attribute_sets.layouts import ANNOTATIONS, PICTURES
from cls.attribute_sets.table import PUBLISHED
from cls.cli.main import build_parser
from cls.settings import REPOSITORY

PAGE = (REPOSITORY / "docs" / "attribute-sets.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^cls (.+)$", PAGE, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_can_be_typed(command: str) -> None:
    from cls.cli.main import VERBS

    assert build_parser(VERBS).parse_args(shlex.split(command))


def test_there_are_commands() -> None:
    assert len(COMMANDS) == 3


def test_folders_and_figures_are_those_of_the_code() -> None:
    assert ANNOTATIONS[0] in PAGE
    assert all(f"`{folder}/`" in PAGE for folder in PICTURES)
    values = {f"{row.values[0]:.2f}" for row in PUBLISHED if row.layout == "peta"}
    assert {"83.96", "71.43"} <= values
    assert "83.96" in PAGE
    assert "71.43" in PAGE
