"""Exports of which some formats fail: the others are packaged, and what was proven before stays."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cls.bottle.ledger import KnownModel, remember_models
from cls.cli.command import execute
from cls.cli.export import COMMAND
from cls.cli.package import VERIFY
from cls.errors import PackageError
from cls.exporting.convert import readable_error
from cls.exporting.formats.files import FORMATS
from cls.package.meta import read_meta
from tests.bottles import GROUP
from tests.exporting.runs import ExportedBottle, fabricate_run
from tests.exporting.test_precision_steps import ONE, run_with_outliers

pytestmark = pytest.mark.usefixtures("shared_conversions")

# No half precision keeps this.
STRICT = "{fp16: {probability: 1.0e-9}}"


def export(cfg: Path, *arguments: str) -> int:
    return execute(COMMAND, ["--group", GROUP, *arguments, "--cfg", str(cfg)])


def test_one_format_takes_no_other_one_with_it_and_the_same_run_keeps_what_it_has(
    copied: ExportedBottle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, parent = copied.package, copied.package.parent
    with monkeypatch.context() as limits:
        limits.setenv("CLS_PARITY_LIMITS", STRICT)
        assert export(copied.cfg, "--formats", "all", "--carry-samples", "2") == 0
    said = capsys.readouterr()
    assert "model_onnx.zip: agrees with" in said.out
    assert "    holds cut-outs of 2 people: whoever gets it sees them" in said.out
    lines = [line.split(" INFO ", 1)[1] for line in said.err.splitlines() if " INFO " in line]
    begun = [line for line in lines if line.endswith(": converting")]
    assert [line.split()[0] for line in begun][:2] == ["model_onnx.zip", "model_onnx_fp16.zip"]
    assert begun[0] == f"model_onnx.zip (1 of {len(begun)}): converting"
    assert "model_onnx.zip: comparing with the trained network" in lines
    assert any(line.startswith("model_onnx.zip: agrees with the trained network (") for line in lines)
    assert any(line.startswith("model_onnx_fp16.zip: is left out (") for line in lines)
    (line,) = [line for line in said.err.splitlines() if "model_onnx_fp16.zip is left out: " in line]
    assert "probabilities differ by up to 0.0" in line
    assert "(limit 1e-09)" in line
    assert str(parent / "parity_report_refused.html") in line
    assert not list(folder.glob("*fp16*"))
    refused = json.loads((parent / "parity_report_refused.json").read_text())["formats"]
    # Every try was one that runs.
    assert all("probabilities differ" in step["faults"][0] for step in refused["onnx_fp16"]["tries"])
    assert len(refused["onnx_fp16"]["tries"]) == 3
    passed = json.loads((parent / "parity_report.json").read_text())["formats"]
    assert {"onnx", "openvino", "torchscript"} <= set(passed)
    assert "onnx_fp16" not in passed
    others = json.loads((parent / "parity_report.json").read_text())["others"]
    assert others["onnx_fp16"]["state"] == "refused"
    assert "(limit 1e-09)" in others["onnx_fp16"]["reason"]
    missing = [name for name, other in others.items() if other["state"] == "not made"]
    assert {*passed, "onnx_fp16", *missing} == set(FORMATS)
    page = (parent / "parity_report.html").read_text()
    assert '<a href="parity_report_refused.html#onnx_fp16">' in page
    assert all(f"<dt>{name}</dt><dd><b>not made</b>: {others[name]['reason']}" in page for name in missing)
    refused_page = (parent / "parity_report_refused.html").read_text()
    assert '<dt>onnx</dt><dd><b>agrees</b> (<a href="parity_report.html#onnx">' in refused_page

    before = copied.files()
    assert export(copied.cfg, "--formats", "openvino") == 0
    said = capsys.readouterr()
    assert "made before and still there: model_onnx.zip, " in said.out
    now = json.loads((parent / "parity_report.json").read_text())
    assert list(now["formats"]) == ["openvino"]
    assert now["others"]["onnx"]["state"] == "agrees"
    page = (parent / "parity_report.html").read_text()
    assert "<dt>onnx</dt><dd><b>agrees</b>: made by an earlier export of this run and still there: " in page
    line = f"next: cls push --group {GROUP} --version 0.0.1"
    assert line in said.out
    assert copied.files() == before
    assert not (parent / "parity_report_refused.html").exists()
    for archive in ("model_onnx.zip", "model_openvino.zip", "model_torchscript.zip"):
        assert execute(VERIFY, [str(folder / archive)]) == 0

    (folder / "model.pt").write_bytes(b"something else")
    shutil.copy(folder / "model_onnx.zip", folder / "model_onnx_rebuilt.zip")
    newer = fabricate_run(copied.bottle, 1, seed=8)
    remember_models(copied.bottle.root, [KnownModel(GROUP, newer.name, newer.metrics.weights_sha256, "0.0.2")])
    assert export(copied.cfg, "--formats", "openvino", "--run", copied.run.name) == 0
    said = capsys.readouterr()
    assert "model_torchscript.zip and what belongs to it were removed: it is not what its meta.json says" in said.out
    assert export(copied.cfg, "--formats", "openvino") == 0
    said = capsys.readouterr()
    assert f"model_onnx.zip and what belongs to it were removed: it is of run {copied.run.name}" in said.out
    assert f"next: cls push --group {GROUP} --format openvino --version 0.0.3\n" in said.out
    assert f"model_onnx_rebuilt.zip stays, and is of run {copied.run.name}: delete it" in said.out
    assert f"report: {parent / 'parity_report.html'}\n" in said.out
    here = {"meta.json", "model.xml", "model.bin", "model_openvino.zip", "model_onnx_rebuilt.zip"}
    assert {path.name for path in folder.iterdir()} == here
    assert read_meta(folder / "meta.json").training.run == newer.name

    assert export(copied.cfg, "--formats", "onnx", "--end-to-end") == 0
    printed = capsys.readouterr().out
    reason = "it is plain, and what is made now is --end-to-end"
    assert f"model_openvino.zip and what belongs to it were removed: {reason}" in printed


def test_the_first_layer_that_departs_is_named_end_to_end_too(
    copied: ExportedBottle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLS_PARITY_LIMITS", STRICT)
    assert export(copied.cfg, "--formats", "onnx,onnx_fp16", "--end-to-end") == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    refused = json.loads((copied.package.parent / "parity_report_refused.json").read_text())["formats"]["onnx_fp16"]
    assert refused["divergence"]["node"].startswith("network/")
    assert refused["divergence"]["node"] in line


def test_a_converter_s_error_keeps_its_case(tmp_path: Path) -> None:
    failure = PackageError(f"{tmp_path}/model.onnx is broken", code="not_onnx", where=tmp_path / "model.onnx")
    error = readable_error(failure, "openvino", "v__0, model.xml", tmp_path)
    assert (error.code, error.where) == ("export.not_onnx", "v__0, model.xml")
    assert str(tmp_path) not in error.line()


def test_a_format_asked_for_by_name_that_cannot_be_converted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_with_outliers(tmp_path, ONE)
    folder = run.bottle.inference_model(GROUP)
    assert export(run.bottle.settings.file, "--formats", "onnx,onnx_fp16", "--debug") == 1
    said = capsys.readouterr()
    line = said.err.strip().splitlines()[-1]
    assert line.startswith(f"error: {run.name}, model_fp16.onnx: ")
    assert line.endswith("[export.fp16_overflow]")
    assert str(folder.parent) not in line  # the files in between are gone
    assert "model_onnx.zip: agrees with" in said.out
    assert {path.name for path in folder.iterdir()} == {"meta.json", "model.onnx", "model_onnx.zip"}
    assert export(run.bottle.settings.file, "--end-to-end", "--formats", "trt", "--debug") == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert "--end-to-end" in line
    assert line.endswith("[export.format_unavailable]")
