"""Plans, built by our own code with TensorRT-RTX: its package has TensorRT's classes, and builds without a GPU.

What it builds is not for TensorRT and cannot be run here. Seen is that our networks are read, how a build is set up,
what a failure says, and how timings are kept; TensorRT-RTX itself takes no timings, so what is in them stays unseen.
"""

from __future__ import annotations

import logging
import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from cls.errors import ExportError, PackageError
from cls.exporting.convert import Conversions
from cls.exporting.formats.calibration_images import CalibrationImages
from cls.exporting.formats.end_to_end import input_stage, write_end_to_end
from cls.exporting.formats.files import Format, RebuildConfig
from cls.exporting.formats.onnx import load_onnx
from cls.exporting.formats.onnx_int8 import Quantiser
from cls.exporting.formats.tensorrt import FOLDER, PlanTarget, write_plan
from cls.exporting.rebuild import rebuild_package
from cls.package.plans import HEADER_BYTES, Gpu, version_in_plan
from cls.people.preprocess import Preprocessing
from tests.exporting.networks import answers, small_network
from tests.exporting.runs import ExportedBottle
from tests.required_tools import need_module

# That its timing caches do nothing.
pytestmark = pytest.mark.filterwarnings("ignore:.*Timing cache operations are no-ops:DeprecationWarning")
SIZE = Preprocessing(32, 24)  # of `small_network`
GPU = Gpu("NVIDIA L4", "8.9")


@pytest.fixture(scope="module", autouse=True)
def has_wheels() -> None:
    # There are none for other machines, and requirements.lock leaves them out there.
    if sys.platform != "linux" or platform.machine() != "x86_64" or sys.version_info >= (3, 15):
        pytest.skip("TensorRT-RTX has wheels for Linux on x86_64 and Python before 3.15 alone")
    need_module("tensorrt_rtx_bindings")


@pytest.fixture
def rtx(monkeypatch: pytest.MonkeyPatch) -> Any:
    """TensorRT-RTX as what `import tensorrt` gives, on a machine whose GPU PyTorch knows."""
    import tensorrt_rtx_bindings

    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt_rtx_bindings)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: GPU.name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 9))
    return tensorrt_rtx_bindings


def test_every_plan_of_a_run_is_built(
    rtx: Any,
    copied: ExportedBottle,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def exported_before(network: object, preprocessing: object, labels: object, path: Path) -> None:
        shutil.copyfile(copied.package / "model.onnx", path)

    monkeypatch.setattr("cls.exporting.convert.write_onnx", exported_before)
    caplog.set_level(logging.WARNING, "cls.exporting")
    made: tuple[Format, ...] = ("trt", "trt_fp16", "trt_int8")
    sizes = {}
    with Conversions(copied.bottle, copied.run, tmp_path) as conversions:
        conversions.convert_to_onnx()
        for name in made:
            assert conversions.make(name) == ()
        kept = conversions.make("trt_int8", 0.1)
        carried = {name: load_onnx(conversions.onnx_for_plan(name)) for name in made}
    for name in ("model.plan", "model_fp16.plan", "model_int8.plan"):
        content = (tmp_path / name).read_bytes()
        sizes[name] = len(content)
        with pytest.raises(PackageError) as caught:  # and is never taken for one
            version_in_plan(content[:HEADER_BYTES], name)
        assert caught.value.code == "package.not_a_plan"
    assert min(sizes.values()) > 100_000
    assert sizes["model_fp16.plan"] < 0.7 * sizes["model.plan"]
    # A plan's package carries what it is made of elsewhere: this one's is 8-bit already.
    assert len(kept) == 2
    props = {prop.key: prop.value for prop in carried["trt_int8"].metadata_props}
    assert props["kept_in_float"] == ",".join(kept)
    assert props["labels"]
    assert "QuantizeLinear" in {node.op_type for node in carried["trt_int8"].graph.node}
    assert carried["trt"] == carried["trt_fp16"] == load_onnx(copied.package / "model.onnx")
    folder = copied.bottle.cache / FOLDER
    assert [path.name for path in folder.iterdir()] == [f"{rtx.__version__} {GPU.name} 8.9.timings"]
    assert not caplog.records


def test_a_rebuild_builds_and_packs_no_plan_that_is_none(
    rtx: Any, copied: ExportedBottle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    output = copied.package / "rebuilt.zip"
    with pytest.raises(PackageError) as caught:
        rebuild_package(
            copied.package / "model_onnx.zip", copied.bottle, RebuildConfig("trt_fp16", output, copied.bottle.pictures)
        )
    assert caught.value.code == "package.not_a_plan"
    assert Path(caught.value.where or "").name == "model_fp16.plan"
    assert not output.exists()
    assert len(list((copied.bottle.cache / FOLDER).iterdir())) == 1


def test_symmetric_8_bits_are_what_tensorrt_reads(rtx: Any, tmp_path: Path) -> None:
    """Signed, around zero, biases in float: other 8-bit networks are refused in one line."""
    expected = small_network(tmp_path / "model.onnx")
    images = CalibrationImages(np.random.default_rng(0).normal(size=(16, 3, 32, 24)).astype(np.float32))
    for name, is_symmetric in (("symmetric", True), ("unsigned", False)):
        folder = tmp_path / name
        folder.mkdir()
        Quantiser(tmp_path / "model.onnx", images, folder, is_symmetric=is_symmetric).write(tmp_path / f"{name}.onnx")
    model = onnx.load(tmp_path / "symmetric.onnx")
    points = [tensor for tensor in model.graph.initializer if tensor.name.endswith("_zero_point")]
    assert {tensor.data_type for tensor in points} == {onnx.TensorProto.INT8}
    assert not any(onnx.numpy_helper.to_array(tensor).any() for tensor in points)
    assert 0 < np.abs(answers(tmp_path / "symmetric.onnx") - expected).max() < 0.3
    write_plan(tmp_path / "symmetric.onnx", SIZE, tmp_path / "symmetric.plan", tmp_path / "cache")
    with pytest.raises(ExportError) as refused:
        write_plan(tmp_path / "unsigned.onnx", SIZE, tmp_path / "unsigned.plan", tmp_path / "cache")
    assert refused.value.code == "export.unsupported_network"
    assert "zero point" in refused.value.what
    assert "\n" not in refused.value.line()
    assert not (tmp_path / "unsigned.plan").exists()


def test_end_to_end_is_read(rtx: Any, tmp_path: Path) -> None:
    """No plan is made of it, since its sizes are anybody's; but nothing in it is beyond TensorRT."""
    small_network(tmp_path / "model.onnx")
    write_end_to_end(tmp_path / "model.onnx", input_stage(SIZE), tmp_path / "whole.onnx")
    log = rtx.Logger(rtx.Logger.ERROR)
    builder = rtx.Builder(log)
    parser = rtx.OnnxParser(network := builder.create_network(0), log)
    assert parser.parse((tmp_path / "whole.onnx").read_bytes()), parser.get_error(0)
    assert network.get_input(0).dtype == rtx.uint8


def test_timings_that_cannot_be_trusted_are_measured_anew(
    rtx: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "cls.exporting")
    small_network(tmp_path / "model.onnx")
    cache = tmp_path / "cache"

    def build(gpu: Gpu = GPU) -> list[str]:
        caplog.clear()
        write_plan(tmp_path / "model.onnx", SIZE, tmp_path / "model.plan", cache, target=PlanTarget(rtx, gpu))
        return [record.getMessage() for record in caplog.records]

    assert build() == []
    (file,) = (cache / FOLDER).iterdir()
    good = file.read_bytes()
    assert build() == []
    for damaged in (b"", good[:-1], good[:60] + b"\xff" + good[61:], b"x" * 500):
        file.write_bytes(damaged)
        assert build() == [f"{file} is damaged, or of another TensorRT or GPU; the timings are measured again"]
        assert file.read_bytes() == good
    other = Gpu("NVIDIA L40S", "8.9")
    assert build(other) == []
    (others,) = set((cache / FOLDER).iterdir()) - {file}
    shutil.copyfile(file, others)  # of another GPU, under this one's name
    assert build(other) == [f"{others} is damaged, or of another TensorRT or GPU; the timings are measured again"]
    shutil.rmtree(cache)
    cache.write_text("not a folder")
    (first, second) = build()
    assert "cannot be read: " in first
    assert second.endswith("the next plan takes as long as this one")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_plan_that_cannot_be_built_says_why(rtx: Any, tmp_path: Path) -> None:
    small_network(tmp_path / "model.onnx")
    with pytest.raises(ExportError) as caught:
        write_plan(tmp_path / "model.onnx", Preprocessing(8, 8), tmp_path / "model.plan", tmp_path / "cache")
    assert caught.value.code == "export.build_failed"
    (tmp_path / "broken.onnx").write_bytes(b"\x08\x01broken")
    with pytest.raises(ExportError) as caught:
        write_plan(tmp_path / "broken.onnx", SIZE, tmp_path / "model.plan", tmp_path / "cache")
    assert caught.value.code == "export.unsupported_network"
    assert {path.name for path in tmp_path.iterdir()} == {"model.onnx", "broken.onnx"}
