"""A package made again from the ONNX it carries and proven on the people it carries: with OpenVINO, half precision.

A plan goes the same way; only `write_plan` and the GPU are missing here.
"""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest

from cls.cli.command import execute
from cls.cli.package import REBUILD, SHOW, VERIFY
from cls.errors import ExportError, FileError, PackageError, ParityError, UsageError
from cls.exporting.formats.files import RebuildConfig
from cls.exporting.package_writer import people_to_carry
from cls.exporting.parity.samples import Reference
from cls.exporting.publish import ExportConfig, export_run
from cls.exporting.rebuild import rebuild_package
from cls.package.archive import open_package
from cls.package.meta import PlanMeta
from cls.package.packing import (
    REBUILD_ONNX,
    REBUILD_SAMPLES,
    PackedModel,
    people_in,
    read_samples,
    samples_as_bytes,
    write_package,
)
from cls.package.verifying import verify_zip
from cls.runtimes.open import classifier_of_run
from tests.bottles import make_tiny_bottle
from tests.exporting.runs import ExportedBottle, conversions_shared, fabricate_run
from tests.package.zips import changed, plan_bytes


@pytest.fixture(scope="module")
def carrying(tmp_path_factory: pytest.TempPathFactory) -> ExportedBottle:
    """A package that carries 6 people; look, do not touch."""
    bottle = make_tiny_bottle(tmp_path_factory.mktemp("carrying"))
    run = fabricate_run(bottle)
    with conversions_shared(tmp_path_factory):
        return ExportedBottle(bottle, run, export_run(bottle, run, ExportConfig(("onnx",), carry_samples=6)))


@pytest.fixture
def zip_path(carrying: ExportedBottle, tmp_path: Path) -> Path:
    return Path(shutil.copy(carrying.package / "model_onnx.zip", tmp_path))


def without_people(zip_path: Path) -> Path:
    """The same package as an export without people makes it."""
    with open_package(zip_path) as package:
        meta, content = package.meta(), package.read("model.onnx")
    path = zip_path.with_name("plain.zip")
    write_package(path, meta, PackedModel("onnx", "onnxruntime_onnx", {"model.onnx": content}))
    return path


def test_people_go_along_only_when_asked_for(carrying: ExportedBottle, exported: ExportedBottle) -> None:
    assert people_in(exported.package / "model_onnx.zip") == 0
    path = carrying.package / "model_onnx.zip"
    assert people_in(path) == 6
    with open_package(path) as package:
        samples = read_samples(package.read(REBUILD_SAMPLES), package.meta(), "samples")
    trained = classifier_of_run(carrying.run)
    np.testing.assert_allclose(samples.probabilities, trained.probabilities(samples.crops_rgb), atol=2e-6)
    assert set(np.unique(samples.truth[~np.isnan(samples.truth)])) <= {0.0, 1.0}


def test_openvino_and_from_that_again(
    carrying: ExportedBottle, zip_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cfg = ["--cfg", str(carrying.cfg)]
    assert execute(REBUILD, [str(zip_path), "--format", "openvino", *cfg]) == 0
    printed = capsys.readouterr().out
    made = zip_path.with_name("model_openvino_rebuilt.zip")
    assert f"{zip_path} -> {made}" in printed
    assert (
        "proven on 6 people carried along, compared with what the trained network said of them, in OpenVINO" in printed
    )
    assert re.search(r"0 of 18 decisions differ, F1 unchanged \(batch 1, 7, 64\); report: .*_report\.html\n", printed)
    again = rebuild_package(made, carrying.bottle, RebuildConfig(output=zip_path.with_name("again.zip")))
    # OpenVINO numbers nameless constants through a process's life: the graphs differ in names alone.
    with open_package(made) as first, open_package(again.path) as second:
        assert first.read("model.bin") == second.read("model.bin")
        assert first.read(REBUILD_SAMPLES) == second.read(REBUILD_SAMPLES)
        assert first.meta().parity == second.meta().parity
    assert again.meta.parity["openvino"].samples == 6
    assert set(again.meta.parity) == {"onnx", "openvino"}
    with open_package(made) as package:
        assert {name for name in package.names if not name.startswith("vectors/")} == {
            *("model.xml", "model.bin", "meta.json", "config.pbtxt"),
            *(REBUILD_ONNX, REBUILD_SAMPLES),
        }
    assert execute(VERIFY, [str(made), *cfg]) == 0
    verified = capsys.readouterr().out
    assert "warning: holds cut-outs of 6 people" in verified
    assert "ok: model.xml answers at batch 1 and 3 in OpenVINO" in verified
    assert execute(SHOW, [str(made), *cfg]) == 0
    assert "contains cut-outs of 6 people: personal data" in capsys.readouterr().out


def test_half_precision_on_photos(carrying: ExportedBottle, zip_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    bottle = carrying.bottle
    plain = without_people(zip_path)
    with pytest.raises(ExportError) as caught:
        rebuild_package(plain, bottle, RebuildConfig("onnx_fp16"))
    assert caught.value.code == "export.no_samples"
    assert "--carry-samples" in (caught.value.hint or "")
    assert "--photos" in (caught.value.hint or "")
    with pytest.raises(ExportError) as caught:
        rebuild_package(plain, bottle, RebuildConfig("onnx_fp16", photos=bottle.pictures.parent / "none"))
    assert caught.value.code == "export.no_photos"
    (bottle.pictures / "broken.jpg").write_bytes(b"no picture")
    with caplog.at_level("WARNING"):
        made = rebuild_package(plain, bottle, RebuildConfig("onnx_fp16", photos=bottle.pictures))
    (bottle.pictures / "broken.jpg").unlink()
    assert "broken.jpg" in caplog.text
    assert "compared with the carried ONNX (ONNX Runtime" in made.proof
    assert people_in(made.path) == 0
    assert verify_zip(made.path).problems == []
    assert made.meta.package is not None
    assert made.meta.package.format == "onnx_fp16"


def test_an_onnx_that_decides_otherwise_is_not_packaged(carrying: ExportedBottle, zip_path: Path) -> None:
    """A package put together with care, every digest right, around the network of somebody else."""
    with open_package(zip_path) as package:
        meta, content = package.meta(), package.read("model.onnx")
        people = package.read(REBUILD_SAMPLES)
    model = onnx.load_model_from_string(content)
    weights = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 2)
    weights.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weights), weights.name))
    files: dict[str, Path | bytes] = {"model.onnx": model.SerializeToString(), REBUILD_SAMPLES: people}
    other = zip_path.with_name("other.zip")
    write_package(other, meta, PackedModel("onnx", "onnxruntime_onnx", files))
    assert verify_zip(other).problems == []
    with pytest.raises(ParityError) as caught:
        rebuild_package(other, carrying.bottle, RebuildConfig("openvino"))
    assert caught.value.code == "parity.out_of_tolerance"
    assert "parity.decisions_differ" in caught.value.codes
    stem = "model_openvino_rebuilt_parity_report_refused"
    page = zip_path.with_name(f"{stem}.html")
    assert str(page) in str(caught.value.hint)
    assert "refused" in page.read_text(encoding="utf-8")
    report = json.loads(zip_path.with_name(f"{stem}.json").read_text(encoding="utf-8"))["formats"]["openvino"]
    assert (*report["faults"], *report["causes"]) == caught.value.faults
    # No package, and no report that would speak of one.
    names = {path.name for path in zip_path.parent.iterdir()}
    assert names == {zip_path.name, other.name, f"{stem}.html", f"{stem}.json"}


def test_nothing_is_replaced_but_the_same_rebuilt_package(carrying: ExportedBottle, zip_path: Path) -> None:
    before = zip_path.read_bytes()
    with pytest.raises(UsageError) as caught:
        rebuild_package(zip_path, carrying.bottle, RebuildConfig("openvino", zip_path))
    assert caught.value.code == "usage.same_file"
    with pytest.raises(UsageError) as caught:
        rebuild_package(zip_path, carrying.bottle, RebuildConfig("openvino", zip_path.with_name("model")))
    assert caught.value.codes == ("usage.invalid_options", "usage.not_a_zip")
    mine = zip_path.with_name("mine.zip")
    mine.write_bytes(b"hi")
    with pytest.raises(FileError) as caught:
        rebuild_package(zip_path, carrying.bottle, RebuildConfig("openvino", mine))
    assert caught.value.code == "file.not_a_package"
    assert caught.value.where == str(mine)
    other = Path(shutil.copy(zip_path, zip_path.with_name("other.zip")))
    with pytest.raises(FileError) as caught:
        rebuild_package(zip_path, carrying.bottle, RebuildConfig("openvino", other))
    assert caught.value.code == "file.other_package"
    assert caught.value.where == str(other)
    assert "(onnx, of run v__" in caught.value.what
    assert (zip_path.read_bytes(), other.read_bytes(), mine.read_bytes()) == (before, before, b"hi")
    first = rebuild_package(zip_path, carrying.bottle, RebuildConfig("onnx_fp16")).path
    assert rebuild_package(zip_path, carrying.bottle, RebuildConfig("onnx_fp16")).path == first


def test_a_tampered_package_is_not_rebuilt(carrying: ExportedBottle, zip_path: Path) -> None:
    bad = changed(zip_path, "model.onnx", lambda content: content + b"\0")
    with pytest.raises(PackageError) as caught:
        rebuild_package(bad, carrying.bottle, RebuildConfig("openvino"))
    assert caught.value.code == "package.invalid"
    assert "model.onnx" in caught.value.what


def test_a_plan_is_rebuilt_where_there_is_a_gpu(carrying: ExportedBottle, zip_path: Path) -> None:
    """Everything but the plan itself: where TensorRT is missing, that is said."""
    with open_package(zip_path) as package:
        meta, content = package.meta(), package.read("model.onnx")
        people = package.read(REBUILD_SAMPLES)
    plan = PlanMeta(tensorrt_version="10.13.3.9", gpu="NVIDIA L4", compute_capability="8.9")
    files: dict[str, Path | bytes] = {
        "model.plan": plan_bytes(),
        REBUILD_ONNX: content,
        REBUILD_SAMPLES: people,
    }
    path = zip_path.with_name("model_trt.zip")
    write_package(path, meta, PackedModel("trt", "tensorrt_plan", files, plan))
    with pytest.raises(ExportError) as caught:
        rebuild_package(path, carrying.bottle)
    assert caught.value.code == "export.format_unavailable"
    assert "model.plan" in caught.value.what
    made = rebuild_package(path, carrying.bottle, RebuildConfig("openvino"))
    assert made.report.samples == 6
    # Its ONNX is 8-bit already: nothing but the same plan is made of it.
    path = zip_path.with_name("model_trt_int8.zip")
    write_package(path, meta, PackedModel("trt_int8", "tensorrt_plan", files, plan))
    with pytest.raises(ExportError) as caught:
        rebuild_package(path, carrying.bottle)
    assert caught.value.code == "export.format_unavailable"
    assert "model_int8.plan" in caught.value.what
    with pytest.raises(UsageError) as caught:
        rebuild_package(path, carrying.bottle, RebuildConfig("openvino"))
    assert caught.value.code == "usage.wrong_source_package"
    assert "trt_int8" in caught.value.what


@pytest.mark.parametrize(
    ("name", "codes"),
    [
        ("onnx_int8", ("usage.invalid_options", "usage.invalid_option_value")),
        ("torchscript", ("usage.invalid_options", "usage.invalid_option_value")),
        ("trt_int8", ("usage.wrong_source_package",)),
    ],
)
def test_formats_that_cannot(carrying: ExportedBottle, zip_path: Path, name: str, codes: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as caught:
        rebuild_package(zip_path, carrying.bottle, RebuildConfig(format_name=name))  # type: ignore[arg-type]
    assert caught.value.codes == codes
    assert name in caught.value.what


def test_a_package_without_an_onnx(carrying: ExportedBottle, zip_path: Path) -> None:
    with open_package(zip_path) as package:
        meta = package.meta()
    path = zip_path.with_name("model_torchscript.zip")
    write_package(path, meta, PackedModel("torchscript", "pytorch_libtorch", {"model.pt": b"x"}))
    with pytest.raises(PackageError) as caught:
        rebuild_package(path, carrying.bottle, RebuildConfig("openvino"))
    assert caught.value.code == "package.no_onnx"
    assert "model_onnx.zip" in (caught.value.hint or "")


def test_verify_lists_every_package_and_fails_for_one(
    carrying: ExportedBottle, zip_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with zipfile.ZipFile(zip_path.with_name("cut.zip"), "w") as archive:
        archive.writestr("meta.json", "{")
    assert execute(VERIFY, [str(zip_path.parent), "--cfg", str(carrying.cfg), "--debug"]) == 1
    printed = capsys.readouterr()
    assert f"{zip_path}: in order" in printed.out
    assert re.search(r"PROBLEM: .*config\.pbtxt", printed.out)
    line = printed.err.strip().splitlines()[-1]
    assert "cut.zip: 3 problems in 1 of 2 packages" in line
    of_cut = "package.missing_file, package.missing_file, package.not_json"
    assert line.endswith(f"[package.problems_found, {of_cut}]")
    (zip_path.parent / "empty").mkdir()
    paths = [str(zip_path.parent / name) for name in ("empty", "cut.zip", "none.zip")]
    assert execute(VERIFY, [*paths, "--cfg", str(carrying.cfg), "--debug"]) == 1
    printed = capsys.readouterr()
    assert "empty: 1 problem\n  PROBLEM: " in printed.out
    line = printed.err.strip().splitlines()[-1]
    assert f"{', '.join(paths)}: 5 problems in 3 of 3 packages" in line
    assert line.endswith(f"[package.problems_found, package.no_packages, {of_cut}, package.not_found]")


def test_the_choice_of_people_is_seeded(carrying: ExportedBottle) -> None:
    trained = classifier_of_run(carrying.run)
    size = trained.preprocessing
    crops = np.random.default_rng(1).integers(0, 255, (20, size.height_px, size.width_px, 3), np.uint8)
    names = tuple(map(str, range(20)))
    reference = Reference(trained, names, crops, np.zeros((20, 3), np.float32), np.full((20, 3), np.nan))
    chosen = people_to_carry(reference, 5)
    assert samples_as_bytes(chosen) == samples_as_bytes(people_to_carry(reference, 5))
    assert len(people_to_carry(reference, 99).crops_rgb) == 20
