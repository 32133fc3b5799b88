"""Exports that go wrong: what was there before stays, nothing half is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from cls.cli.command import execute
from cls.cli.export import COMMAND
from cls.exporting import convert
from cls.exporting.parity.check import REPORT_NAME
from cls.package.meta import read_meta
from cls.settings import REPOSITORY
from tests.bottles import GROUP
from tests.exporting.runs import ExportedBottle, exported_once, fabricate_run

pytestmark = pytest.mark.usefixtures("shared_conversions")


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> ExportedBottle:
    return exported_once(tmp_path_factory)


@pytest.fixture
def exported(pristine: ExportedBottle, tmp_path: Path) -> ExportedBottle:
    return pristine.copy_to(tmp_path / "copy")


def swap_two_labels(path: Path) -> None:
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if list(tensor.dims)[:1] == [3] and len(tensor.dims) <= 2:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[[1, 0, 2]].copy(), tensor.name))
    onnx.save(model, path)


def corrupt_a_weight(path: Path) -> None:
    model = onnx.load(path)
    largest = max(model.graph.initializer, key=lambda tensor: int(np.prod(tensor.dims)))
    weights = numpy_helper.to_array(largest).copy()
    weights.flat[: weights.size // 4] *= -1
    largest.CopyFrom(numpy_helper.from_array(weights, largest.name))
    onnx.save(model, path)


@pytest.mark.parametrize(
    ("plant", "causes", "named"),
    [
        (swap_two_labels, ["parity.swapped_labels"], "red top and blue top"),
        (corrupt_a_weight, [], ""),
    ],
)
def test_a_wrong_conversion_is_refused_and_the_old_package_stays(
    exported: ExportedBottle,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    plant: object,
    causes: list[str],
    named: str,
) -> None:
    before = exported.files()
    real = convert.write_onnx

    def write_wrong_onnx(network: object, preprocessing: object, labels: object, path: Path) -> None:
        real(network, preprocessing, labels, path)  # type: ignore[arg-type]
        plant(path)  # type: ignore[operator]

    monkeypatch.setattr(convert, "write_onnx", write_wrong_onnx)
    fabricate_run(exported.bottle, 1, seed=8)
    assert execute(COMMAND, ["--group", GROUP, "--cfg", str(exported.cfg), "--debug"]) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    code, *codes = line.rpartition("[")[2].removesuffix("]").split(", ")
    assert code == "parity.out_of_tolerance"
    assert "parity.probabilities_differ" in codes
    assert [code for code in codes if code == "parity.swapped_labels"] == causes
    assert named in line
    assert str(exported.package.parent / "parity_report_refused.html") in line
    assert exported.files() == before
    folder = exported.package.parent
    # The report beside the package is still that of the package.
    assert json.loads((folder / REPORT_NAME).read_text())["run"].startswith("v__0_")
    report = json.loads((folder / "parity_report_refused.json").read_text())
    assert report["run"].startswith("v__1_")
    assert report["formats"]["onnx"]["faults"]
    assert report["formats"]["onnx"]["divergence"]["node"] in line
    page = (folder / "parity_report_refused.html").read_text()
    assert "refused" in page
    assert page.count("data:image/jpeg;base64,") == 12
    names = {path.name for path in folder.iterdir()}
    assert {name for name in names if "parity_report" not in name} <= {
        "inference_model",
        "model_card.html",
        ".export.lock",
    }


def test_what_is_made_from_a_wrong_onnx_is_refused_with_it_and_torchscript_is_not(
    exported: ExportedBottle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = convert.write_onnx

    def write_wrong_onnx(network: object, preprocessing: object, labels: object, path: Path) -> None:
        real(network, preprocessing, labels, path)  # type: ignore[arg-type]
        swap_two_labels(path)

    monkeypatch.setattr(convert, "write_onnx", write_wrong_onnx)
    names = ["--formats", "onnx,openvino,torchscript"]
    assert execute(COMMAND, ["--group", GROUP, *names, "--cfg", str(exported.cfg), "--debug"]) == 1
    said = capsys.readouterr()
    assert "parity.swapped_labels" in said.err.strip().splitlines()[-1]
    (left_out,) = [line for line in said.err.splitlines() if " WARNING model_openvino.zip " in line]
    assert "model.onnx" in left_out
    # The ONNX that was there was of the same run; what is refused now is not offered any more.
    assert "model_onnx.zip and what belongs to it were removed: this export refuses it" in said.out
    assert f"next: cls push --group {GROUP} --format torchscript --version 0.0.1\n" in said.out
    assert set(exported.files()) == {"meta.json", "model.pt", "model_torchscript.zip"}


@pytest.mark.long
def test_kill_at_any_moment_then_the_same_command(exported: ExportedBottle) -> None:
    newer = fabricate_run(exported.bottle, 1, seed=8)
    before = exported.files()
    command = [
        sys.executable, str(REPOSITORY / "cls/classification/export.py"),
        "--group", GROUP, "--cfg", str(exported.cfg), "--formats", "onnx", "--quiet",
    ]  # fmt: skip
    folder = exported.package.parent
    moments = ["model.onnx", "model_onnx.zip"]
    for name in moments:
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline_s = time.monotonic() + 60
        while not list(folder.glob(f".inference_model.*/{name}")) and process.poll() is None:
            assert time.monotonic() < deadline_s
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert exported.files() == before
    assert subprocess.run(command, cwd=REPOSITORY, check=False).returncode == 0
    assert read_meta(exported.package / "meta.json").training.run == newer.name
    assert not list(folder.glob(".inference_model.*"))


def test_two_exports_at_a_time(exported: ExportedBottle, capsys: pytest.CaptureFixture[str]) -> None:
    from filelock import FileLock

    with FileLock(exported.package.parent / ".export.lock"):
        assert execute(COMMAND, ["--group", GROUP, "--cfg", str(exported.cfg), "--debug"]) == 1
    assert capsys.readouterr().err.strip().endswith("[export.locked]")


def test_a_run_without_its_photos(exported: ExportedBottle, capsys: pytest.CaptureFixture[str]) -> None:
    before = exported.files()
    for photo in exported.bottle.pictures.iterdir():
        photo.unlink()
    assert execute(COMMAND, ["--group", GROUP, "--cfg", str(exported.cfg), "--debug"]) == 1
    assert capsys.readouterr().err.strip().endswith("[export.no_photos]")
    assert exported.files() == before


def test_a_broken_checkpoint(exported: ExportedBottle, capsys: pytest.CaptureFixture[str]) -> None:
    before = exported.files()
    exported.run.checkpoint.write_bytes(b"PK not a checkpoint")
    assert execute(COMMAND, ["--group", GROUP, "--cfg", str(exported.cfg), "--debug"]) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.endswith("[bottle.checkpoint_damaged]")
    assert "best.ckpt" in line
    assert exported.files() == before
