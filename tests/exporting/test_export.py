from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import cls
from cls.bottle.ledger import remember_model
from cls.cli.command import execute
from cls.cli.export import COMMAND
from cls.cli.package import SHOW
from cls.exporting.package_writer import meta_of_run
from cls.files import sha256_of_file
from cls.metrics.scores import metrics_of_package
from cls.package.archive import open_package
from cls.package.meta import read_meta
from cls.training.runs.run import open_run
from tests.bottles import GROUP, make_tiny_bottle
from tests.exporting.runs import ExportedBottle, fabricate_run


def export(cfg: Path, *arguments: str) -> int:
    return execute(COMMAND, [*arguments, "--cfg", str(cfg)])


def test_the_package_says_all_of_spec_section_7(exported: ExportedBottle) -> None:
    meta = read_meta(exported.package / "meta.json")
    run = exported.run
    assert (meta.group, meta.labels, meta.threshold_values) == (GROUP, run.labels, run.thresholds)
    assert meta.preprocessing_object() == run.preprocessing
    assert meta.training.run == run.name
    assert meta.digests.weights == run.metrics.weights_sha256
    assert set(meta.digests.files) == {"model.onnx"}
    assert meta.parity["onnx"].label_flips_beyond_limit == 0
    assert meta.person.segmentation_models == ("tiny_person",)
    assert meta.digests.segmentation_models == {"tiny_person": ()}  # the bottle's masks were made elsewhere
    assert meta.metrics == {"valid": {"f1": 0.5}}
    assert meta.model_version is None
    assert meta.steps is not None  # said, not left to be guessed
    assert (meta.steps.inside, meta.steps.after) == (("network",), ("activation", "thresholds"))


def test_the_code_version_is_that_of_the_training(copied: ExportedBottle) -> None:
    assert read_meta(copied.package / "meta.json").code_version == cls.__version__  # a run that does not say
    said = copied.run.folder / "metrics.json"
    metrics = json.loads(said.read_text())
    said.write_text(json.dumps({**metrics, "code_version": "0.0.7+g0123456789ab.dirty"}))
    run = open_run(copied.bottle, copied.run.folder)
    assert meta_of_run(run, copied.bottle.segments).code_version == "0.0.7+g0123456789ab.dirty"


@pytest.mark.usefixtures("shared_conversions")
def test_the_files_of_the_segmentation_model_are_named(copied: ExportedBottle, tmp_path: Path) -> None:
    files = [tmp_path / "tiny_person.pt", tmp_path / "tiny_person.onnx"]
    for file in files:
        file.write_text(file.name)
        remember_model(copied.bottle.segments, "tiny_person", file)
    remember_model(copied.bottle.segments, "other", files[0])
    assert export(copied.cfg, "--group", GROUP, "--formats", "onnx") == 0
    written = json.loads((copied.package / "meta.json").read_text())
    digests = sorted(sha256_of_file(file) for file in files)
    assert written["digests"]["segmentation_models"] == {"tiny_person": digests}
    with open_package(copied.package / "model_onnx.zip") as package:
        assert package.meta().digests.segmentation_models == {"tiny_person": tuple(digests)}


def test_the_zip_is_complete_and_consistent(exported: ExportedBottle) -> None:
    with open_package(exported.package / "model_onnx.zip") as package:
        vectors = {name for name in package.names if name.startswith("vectors/")}
        assert sorted({*package.names} - vectors) == ["config.pbtxt", "meta.json", "model.onnx"]
        assert len(vectors) == 22
        meta = package.meta()
        assert meta == package.config.meta()
        assert meta.model_copy(update={"package": None}) == read_meta(exported.package / "meta.json")
        assert meta.package is not None
        assert set(meta.package.files) == {"config.pbtxt", "model.onnx"} | vectors
        assert package.read("model.onnx") == (exported.package / "model.onnx").read_bytes()


def test_again_gives_the_same_bytes(copied: ExportedBottle, capsys: pytest.CaptureFixture[str]) -> None:
    before = copied.files()
    (copied.package / "notes.txt").write_text("mine")
    (copied.package / "model.plan").write_text("of an older export")
    assert export(copied.cfg, "--group", GROUP) == 0
    printed = capsys.readouterr().out
    assert (
        "model_onnx.zip: agrees with the trained network on 12 people of the validation part at batch 1, 7, 64"
        in printed
    )
    assert "model.plan and model_trt.zip were not made: " in printed
    after = copied.files()
    assert after.pop("notes.txt") == b"mine"
    assert after == before


@pytest.mark.usefixtures("shared_conversions")
def test_newest_run_unless_one_is_named(copied: ExportedBottle) -> None:
    newest = fabricate_run(copied.bottle, 10, seed=5)
    assert export(copied.cfg, "--group", GROUP, "--formats", "onnx") == 0
    assert read_meta(copied.package / "meta.json").training.run == newest.name
    assert export(copied.cfg, "--group", GROUP, "--run", copied.run.name, "--formats", "onnx") == 0
    assert read_meta(copied.package / "meta.json").training.run == copied.run.name
    assert export(copied.cfg, "--group", GROUP, "--run", "newest", "--formats", "onnx") == 0
    assert read_meta(copied.package / "meta.json").training.run == newest.name


@pytest.mark.parametrize(
    ("arguments", "code", "value"),
    [
        (["--group", "hat"], "bottle.no_finished_run", "'hat'"),
        (["--group", GROUP, "--run", "v__9_x"], "bottle.run_not_found", "'v__9_x'"),
        (["--group", GROUP, "--require", "trt"], "export.format_unavailable", "model_trt.zip"),
        (["--group", GROUP, "--formats", "onnx,trt"], "export.format_unavailable", "model_trt.zip"),
        (["--group", GROUP, "--formats", "tflite"], "usage.unknown_option_value", "'tflite'"),
    ],
)
def test_refusals_are_one_line_and_change_nothing(
    exported: ExportedBottle, capsys: pytest.CaptureFixture[str], arguments: list[str], code: str, value: str
) -> None:
    before = exported.files()
    assert export(exported.cfg, *arguments, "--debug") == (2 if code.startswith("usage.") else 1)
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    assert line.endswith(f"[{code}]")
    assert value in line
    assert exported.files() == before


def test_a_file_in_the_place_of_the_folder_stays(copied: ExportedBottle, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(copied.package)
    copied.package.write_text("mine")
    assert export(copied.cfg, "--group", GROUP, "--formats", "onnx", "--debug") == 1
    assert capsys.readouterr().err.strip().endswith("[file.not_a_folder]")
    assert copied.package.read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("args.yaml", "{a: [", "bottle.run_unreadable"),
        ("args.yaml", None, "bottle.run_unreadable"),
        ("args.yaml", "settings: {}", "bottle.run_unreadable"),
        ("metrics.json", "{", "bottle.not_json"),
        ("split.json", "{", "bottle.not_json"),
    ],
)
def test_a_damaged_run_is_one_line_that_says_what_to_do(
    copied: ExportedBottle, capsys: pytest.CaptureFixture[str], name: str, content: str | None, code: str
) -> None:
    file = copied.run.folder / name
    file.unlink() if content is None else file.write_text(content)
    assert export(copied.cfg, "--group", GROUP, "--formats", "onnx", "--debug") == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.endswith(f"[{code}]")
    assert name in line
    assert "object at 0x" not in line


@pytest.mark.usefixtures("shared_conversions")
def test_a_group_of_any_name(tmp_path: Path) -> None:
    group = 'Größe / "hats" & caps'
    bottle = make_tiny_bottle(tmp_path, 12, group=group)
    fabricate_run(bottle, group=group, valid=6)
    assert export(bottle.settings.file, "--group", group) == 0
    meta = json.loads((bottle.inference_model(group) / "meta.json").read_text(encoding="utf-8"))
    assert meta["group"] == group


@pytest.mark.usefixtures("shared_conversions")
def test_a_run_on_everything_is_compared_on_its_training_photos(tmp_path: Path) -> None:
    bottle = make_tiny_bottle(tmp_path, 12)
    fabricate_run(bottle, valid=0)
    assert export(bottle.settings.file, "--group", GROUP, "--formats", "onnx") == 0
    proven = read_meta(bottle.inference_model(GROUP) / "meta.json").parity["onnx"]
    assert (proven.samples, proven.part) == (12, "training")


@pytest.mark.usefixtures("shared_conversions")
def test_validation_people_who_are_gone_are_told_and_not_replaced_by_others(
    copied: ExportedBottle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert read_meta(copied.package / "meta.json").parity["onnx"].part == "validation"
    held_out = copied.run.pictures("valid")
    for name in held_out[1:]:
        copied.bottle.picture(name).unlink()
    assert export(copied.cfg, "--group", GROUP, "--formats", "onnx") == 0
    said = capsys.readouterr()
    (warning,) = [line for line in said.err.splitlines() if " WARNING " in line]
    assert all(value in warning for value in ("11 of the 12 photos", "validation", copied.run.name))
    assert "agrees with the trained network on 1 person of the validation part" in said.out
    assert execute(SHOW, [str(copied.package / "model_onnx.zip")]) == 0
    assert "  onnx: 1 person of the validation part, 0 changed decisions" in capsys.readouterr().out
    before = copied.files()
    copied.bottle.picture(held_out[0]).unlink()
    assert export(copied.cfg, "--group", GROUP, "--formats", "onnx", "--debug") == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert " 12 photos " in line
    assert line.endswith("[export.no_photos]")
    assert copied.files() == before


def test_the_package_says_the_cross_validated_f1(copied: ExportedBottle) -> None:
    labels = {name: {"f1": 0.5, "ap": 0.6} for name in copied.run.labels}
    cross_validated = {
        "macro": {"f1": 0.4, "ma": 0.7},
        "labels": labels,
        "intervals": {"f1": [0.3, 0.5]},
        "left_out": [],
    }
    validation = {"labels": labels, "macro": {"f1": 0.5}, "samples": 12, "cross_fitted": cross_validated}
    said = copied.run.folder / "metrics.json"
    content = {**json.loads(said.read_text()), "validation": validation, "run_seconds": 31.5, "seconds": 12.5}
    said.write_text(json.dumps(content))
    meta = meta_of_run(open_run(copied.bottle, copied.run.folder), copied.bottle.segments)
    found = metrics_of_package(meta.metrics["validation"])
    assert found is not None
    assert found.scores.headline() == "cross-validated F1 0.400 (0.300–0.500), mean over 3 labels, 12 people"
    assert not {"run_seconds", "seconds"} & meta.metrics.keys(), "how long it took is not the package's"


@pytest.mark.usefixtures("shared_conversions")
def test_a_run_of_the_first_version_is_exported(copied: ExportedBottle) -> None:
    earlier = Path(__file__).parent.parent / "training" / "runs" / "earlier_metrics" / "1_first.json"
    shutil.copy(earlier, copied.run.folder / "metrics.json")
    assert export(copied.cfg, "--group", GROUP, "--formats", "onnx") == 0
    said, meta = json.loads(earlier.read_text()), read_meta(copied.package / "meta.json")
    assert meta.thresholds == said["thresholds"]
    assert meta.metrics["validation"] == said["validation"]
    assert (meta.digests.weights, meta.code_version) == (said["weights_sha256"], "0.1.0")
