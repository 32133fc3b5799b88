"""A network that cannot be converted: found out after the fit, and no reason to lose it."""

from __future__ import annotations

from pathlib import Path

import pytest

import tests.training.fake_networks as fakes
from cls.cli.command import execute
from cls.training.runs.listing import finished_run
from tests.bottles import GROUP, make_tiny_bottle


def test_the_run_is_finished_without_what_cannot_be_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from cls.cli.export import COMMAND as EXPORT
    from cls.cli.train import COMMAND as TRAIN

    fakes.known_to_child_processes(tmp_path / "path", monkeypatch)
    bottle = make_tiny_bottle(tmp_path)
    words = ["--cfg", str(bottle.settings.file), "--cat", GROUP, "--arch", "undecided_net", "--size", "64x48"]
    assert execute(TRAIN, [*words, "--weights", "none", "--epochs", "1", "--batch", "4"]) == 0
    said = capsys.readouterr()
    run = finished_run(bottle, "newest", GROUP)
    conversions = run.metrics.conversions
    assert conversions["torchscript"] is None
    assert "cannot be converted to ONNX" in conversions["onnx"]
    assert (run.folder / "torchscripts" / "model.pt").is_file()
    assert not (run.folder / "onnx" / "model.onnx").exists()
    (warning,) = (line for line in said.err.splitlines() if "not written" in line)
    assert "cannot be converted to ONNX" in warning
    assert said.out.splitlines()[-1].startswith("next: nothing can be exported of undecided_net")
    assert execute(EXPORT, ["--cfg", str(bottle.settings.file), "--group", GROUP, "--formats", "onnx", "--debug"]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert lines[0].endswith("[export.conversion_failed]")
