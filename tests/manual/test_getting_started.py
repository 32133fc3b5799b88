"""The guide, typed word for word: every command of docs/getting-started.md runs in a copy of the repository."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from cls.settings import REPOSITORY
from tests.manual.commands import blocks_of
from tests.manual.conftest import Shell

GUIDE = REPOSITORY / "docs" / "getting-started.md"


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_every_command_of_the_guide_does_what_it_says(shell: Shell, checkout: Path) -> None:
    printed = {}
    for block in blocks_of(GUIDE):
        if (text := shell.type(block)) is not None:
            printed[block.text] = text

    bottle = checkout / "classification_data"
    run = bottle / "models" / "top_color" / "v__0_train_lite0_16_0.001"
    for part in ("checkpoints", "csv_logs", "onnx", "torchscripts", "train_batches"):
        assert any((run / part).iterdir()), part
    assert (run / "report.html").stat().st_size > 10_000
    macro = json.loads((run / "metrics.json").read_text())["validation"]["macro"]
    assert macro["f1"] >= 0.90
    upload = next(text for typed, text in printed.items() if "upload_new_version" in typed)
    assert json.loads(upload) == {"version": "0.0.1"}
    repository = checkout / "storage" / "model_repository" / "top_color"
    versions = {json.loads(file.read_text())["model_version"] for file in repository.glob("*/meta.json")}
    assert versions == {"0.0.1", "0.0.2"}
    assert len((checkout / "new_predictions" / "predictions.csv").read_text().splitlines()) >= 12
    bound = re.compile(re.escape(str(checkout)))
    texts = [file for file in bottle.rglob("*") if file.suffix in (".json", ".yaml", ".csv", ".html", ".jsonl")]
    assert texts
    assert not [file for file in texts if bound.search(file.read_text())], "the bottle names a path of this machine"


def test_the_guide_holds_the_commands_of_every_stage() -> None:
    text = "\n".join(block.text for block in blocks_of(GUIDE))
    for words in ("load_group.py", "segment_builder.py", "train.py", "export.py", "upload_new_version", "scp -P 4000"):
        assert words in text
