"""docs/serve.md, typed word for word, on a group that is exported."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cls.settings import REPOSITORY
from tests.exporting.runs import ExportedBottle
from tests.manual.commands import blocks_of
from tests.manual.conftest import Shell

PAGE = REPOSITORY / "docs" / "serve.md"


@pytest.mark.long
def test_every_command_does_what_the_page_says(exported: ExportedBottle, shell: Shell, checkout: Path) -> None:
    shutil.copytree(exported.bottle.root, checkout / "classification_data")
    shutil.copy(exported.package / "model_onnx.zip", checkout)
    printed = [text for block in blocks_of(PAGE) if (text := shell.type(block)) is not None]
    pushed, uploaded, selected, answered = printed
    assert "top_color 0.0.1 is published as version 1 of model top_color" in pushed
    assert json.loads(uploaded) == {"version": "0.0.2"}
    assert json.loads(selected) == {"version": "1"}
    answer = json.loads(answered.splitlines()[-1])
    assert answer["model_version"] == "1"
    (logits,) = answer["outputs"]
    assert logits["shape"] == [1, len(exported.run.labels)]
