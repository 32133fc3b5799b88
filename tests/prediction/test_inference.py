from __future__ import annotations

import csv
import json
import shutil
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

from cls.errors import PredictionError
from cls.people.photos import read_photo, whole_photo
from cls.prediction.predict import known_people
from cls.runtimes.open import open_classifier, open_exported
from tests.bottles import GROUP, write_rows
from tests.exporting.runs import ExportedBottle
from tests.prediction.inferring import error_of, infer, lines_of


def test_a_group_by_its_exported_model(copied: ExportedBottle, capsys: pytest.CaptureFixture[str]) -> None:
    assert infer(copied, "--group", GROUP) == 0
    folder = copied.bottle.inference(GROUP)
    lines = lines_of(folder)
    assert len(lines) == 24
    assert set(lines[0]) == {"picture", "person", "class", "conf", "box_xyxy_px", "probs", "labels"}
    assert list(lines[0]["probs"]) == list(copied.run.labels)
    with (folder / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["picture"] for row in rows] == [line["picture"] for line in lines]
    assert float(rows[3]["p red top"]) == lines[3]["probs"]["red top"]
    assert rows[3]["labels"] == ";".join(lines[3]["labels"])
    for line in lines:
        thresholds = dict(zip(copied.run.labels, copied.run.thresholds, strict=True))
        assert line["labels"] == [label for label, prob in line["probs"].items() if prob >= thresholds[label]]
    printed = capsys.readouterr().out
    assert "24 people in 24 photos" in printed
    assert "thresholds: of the model, one a label" in printed


def test_the_sheet_needs_no_other_file(copied: ExportedBottle) -> None:
    copied.bottle.picture("0001.jpeg").write_bytes(b"no picture")
    assert infer(copied, "--group", GROUP, "--out", copied.cfg.parent / "out") == 0
    page = (copied.cfg.parent / "out" / "contact_sheet.html").read_text(encoding="utf-8")
    assert page.count("<article") == 23
    assert page.count("data:image/jpeg;base64,") == 23
    assert "http" not in page.replace("http-equiv", "")
    assert "0001.jpeg: is not a picture" in page
    assert str(copied.bottle.root) not in page


def test_one_threshold_for_all_labels(copied: ExportedBottle, capsys: pytest.CaptureFixture[str]) -> None:
    assert infer(copied, "--group", GROUP, "--conf_thresh", "0") == 0
    assert "thresholds: 0 for all labels (--conf-thresh)" in capsys.readouterr().out
    assert all(len(line["labels"]) == 3 for line in lines_of(copied.bottle.inference(GROUP)))


def test_every_way_of_opening_answers_the_same(exported: ExportedBottle) -> None:
    photos = [read_photo(exported.bottle.picture(f"{number:04d}.jpeg")) for number in range(6)]
    run, package = exported.run, exported.package
    models = [package, package / "model.onnx", package / "model_onnx.zip", run.folder, run.checkpoint]
    answers = [
        np.concatenate([opened.of_people(photo, [whole_photo(photo)]) for photo in photos])
        for opened in (open_classifier(str(model), exported.bottle) for model in models)
    ]
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], atol=1e-5)
    assert np.ptp(answers[0], axis=0).max() > 0.01


def test_a_folder_elsewhere_by_whole_photos(
    exported: ExportedBottle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "photos" / "deeper"
    source.mkdir(parents=True)
    shutil.copy(exported.bottle.picture("0000.jpeg"), source / "a b.JPG")
    (source / "broken.png").write_bytes(b"")
    (source / "notes.txt").write_text("no photo")
    model = exported.package / "model_onnx.zip"
    out = tmp_path / "out"
    assert infer(exported, "--source", source.parent, "--model", model, "--whole", "--out", out) == 0
    assert [line["picture"] for line in lines_of(out)] == ["deeper/a b.JPG"]
    printed = capsys.readouterr().out
    assert "1 skipped:" in printed
    assert "deeper/broken.png: is empty" in printed


def test_people_of_the_database_are_for_photos_of_the_pool_alone(exported: ExportedBottle, tmp_path: Path) -> None:
    pooled = exported.bottle.picture("0000.jpeg")
    shutil.copy(pooled, tmp_path / "0000.jpeg")
    assert list(known_people(exported.bottle, [pooled])) == [pooled]
    assert known_people(exported.bottle, [tmp_path / "0000.jpeg"]) == {}


def test_nobody_known_and_no_segmenter(
    exported: ExportedBottle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cls.prediction.predict.project_folder", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    shutil.copy(exported.bottle.picture("0000.jpeg"), tmp_path / "0000.jpeg")
    error = error_of(exported, "--source", tmp_path, "--group", GROUP)
    assert error.code == "prediction.no_segmentation_model"
    assert "--whole" in (error.hint or "")


def test_a_photo_that_cannot_be_opened_is_told_before_the_segmenter_that_is_missing(
    exported: ExportedBottle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cls.prediction.predict.project_folder", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "broken.jpg").write_bytes(b"no photo at all")
    unusable = "prediction.no_usable_photo"
    error = error_of(exported, "--source", photos / "broken.jpg", "--group", GROUP)
    assert (error.code, error.where) == (unusable, str(photos / "broken.jpg"))
    assert "segment" not in error.line()
    (photos / "empty.jpg").write_bytes(b"")
    error = error_of(exported, "--source", photos, "--group", GROUP)
    assert (error.code, error.where) == (unusable, str(photos / "broken.jpg"))
    assert "2 photos" in error.what
    assert "segment" not in error.line()
    (tmp_path / "broken.mp4").write_bytes(b"no video at all")
    error = error_of(exported, "--source", tmp_path / "broken.mp4", "--group", GROUP)
    assert (error.code, error.where) == (unusable, str(tmp_path / "broken.mp4"))
    assert "segment" not in error.line()
    error = error_of(exported, "--source", photos, tmp_path / "broken.mp4", "--group", GROUP)
    assert error.code == unusable
    assert all(word in error.what for word in ("3 ", "photos", "videos"))
    # One that can be opened needs the segmenter.
    shutil.copy(exported.bottle.picture("0000.jpeg"), photos / "good.jpg")
    assert error_of(exported, "--source", photos, "--group", GROUP).code == "prediction.no_segmentation_model"


def test_some_not_segmented_are_listed(
    copied: ExportedBottle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("cls.prediction.predict.project_folder", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    shutil.copy(copied.bottle.picture("0000.jpeg"), copied.bottle.picture("new.jpeg"))
    shutil.copy(copied.bottle.picture("0000.jpeg"), copied.bottle.picture("empty.jpeg"))
    write_rows(copied.bottle, [("empty.jpeg", "unchecked", {})])
    assert infer(copied, "--source", copied.bottle.pictures, "--group", GROUP) == 0
    printed = capsys.readouterr().out
    assert "24 people in 25 photos" in printed
    assert "new.jpeg: not segmented yet: run `cls segment`" in printed


def other_width(folder: Path) -> Path:
    model = onnx.load(folder / "model.onnx")
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 2
    last = model.graph.node[-1]
    name = last.output[0]
    last.output[0] = "wide"
    starts, ends, axes = (onnx.numpy_helper.from_array(np.array([v]), k) for k, v in (("s", 0), ("e", 2), ("x", 1)))
    model.graph.initializer.extend([starts, ends, axes])
    model.graph.node.append(onnx.helper.make_node("Slice", ["wide", "s", "e", "x"], [name]))
    onnx.save(model, folder / "model.onnx")
    return folder


def swapped(text: str) -> str:
    """A meta.json with two labels in each other's place."""
    meta = json.loads(text)
    meta["labels"] = [meta["labels"][1], meta["labels"][0], *meta["labels"][2:]]
    return json.dumps(meta)


def other_labels(folder: Path) -> Path:
    file = folder / "meta.json"
    file.write_text(swapped(file.read_text()))
    return folder


def labels_swapped_in_the_zip(folder: Path) -> Path:
    path = folder / "model_onnx.zip"
    with zipfile.ZipFile(path) as package:
        entries = {name: package.read(name) for name in package.namelist()}
    entries["meta.json"] = swapped(entries["meta.json"].decode()).encode()
    with zipfile.ZipFile(path, "w") as package:
        for name, content in entries.items():
            package.writestr(name, content)
    return path


def broken_zip(folder: Path) -> Path:
    (folder / "model_onnx.zip").write_bytes((folder / "model_onnx.zip").read_bytes()[:5000])
    return folder / "model_onnx.zip"


def lonely_onnx(folder: Path) -> Path:
    (folder / "meta.json").unlink()
    return folder / "model.onnx"


def no_onnx(folder: Path) -> Path:
    (folder / "model.onnx").write_bytes(b"no network")
    return folder


def bad_meta(folder: Path) -> Path:
    (folder / "meta.json").write_text('{"group": "x"}')
    return folder


@pytest.mark.parametrize(
    ("spoil", "codes", "value"),
    [
        (other_width, ["package.digest_mismatch", "package.digest_mismatch"], "model.onnx"),
        (other_labels, ["package.other_model", "package.label_order_mismatch"], "model.onnx"),
        (labels_swapped_in_the_zip, ["package.invalid", "package.config_meta_mismatch"], "config.pbtxt"),
        (broken_zip, ["package.invalid", "package.not_a_zip"], "model_onnx.zip"),
        (lonely_onnx, ["package.missing_file"], "meta.json"),
        (no_onnx, ["package.digest_mismatch", "package.digest_mismatch"], "model.onnx"),
        (bad_meta, ["package.invalid_meta"], "$: "),
        (lambda folder: folder.parent, ["prediction.no_model"], "inference_models"),
        (lambda folder: folder / "nothing.zip", ["prediction.not_found"], "nothing.zip"),
        (lambda folder: "http://127.0.0.1:9/v2/models/hair", ["prediction.unreachable"], "127.0.0.1:9"),
        (lambda folder: "http://127.0.0.1:9/other", ["prediction.unreachable"], "127.0.0.1:9"),
    ],
)
def test_models_that_cannot_be_used(copied: ExportedBottle, spoil: object, codes: list[str], value: str) -> None:
    model = spoil(copied.package)  # type: ignore[operator]
    error = error_of(copied, "--group", GROUP, "--model", model)
    assert [*error.codes[: len(codes)]] == codes
    assert value in error.line()
    assert not copied.bottle.inference(GROUP).exists()


def test_a_network_of_another_width(exported: ExportedBottle) -> None:
    class Narrow:
        description = "narrow"

        def logits(self, images: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.zeros((len(images), 2), np.float32)

    narrow = replace(open_exported(exported.bottle, GROUP), runtime=Narrow())
    size = narrow.preprocessing
    with pytest.raises(PredictionError) as caught:
        narrow.probabilities(np.zeros((4, size.height_px, size.width_px, 3), np.uint8))
    assert caught.value.code == "prediction.wrong_output_shape"
    assert all(shape in caught.value.what for shape in ("(4, 2)", "(4, 3)"))


def call_it_a_hat(at: ExportedBottle) -> None:
    meta = at.package / "meta.json"
    meta.write_text(meta.read_text().replace(f'"group": "{GROUP}"', '"group": "hat"'))


def test_a_model_of_another_group_is_refused(copied: ExportedBottle) -> None:
    """Where the group says which model: the exported one, or beside --source."""
    call_it_a_hat(copied)
    photos = ("--source", copied.bottle.pictures)
    for options in ((), photos, (*photos, "--model", copied.package)):
        error = error_of(copied, "--group", GROUP, *options)
        assert error.code == "prediction.wrong_group"
        assert "'hat'" in error.what
        assert f"'{GROUP}'" in error.what
        assert f"'{GROUP}'" in (error.hint or "")
        assert not copied.bottle.inference(GROUP).exists()


def test_a_model_of_another_group_on_a_groups_photos_is_told_of(
    copied: ExportedBottle, capsys: pytest.CaptureFixture[str]
) -> None:
    call_it_a_hat(copied)
    assert infer(copied, "--group", GROUP, "--model", copied.package) == 0
    said = capsys.readouterr().err
    assert f"the model is of group 'hat', and looks at the photos of group '{GROUP}'" in said
    assert infer(copied, "--source", copied.bottle.pictures, "--model", copied.package, "--out", copied.cfg.parent) == 0
    assert "of group" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        ([], "usage.missing_option", "--source"),
        (["--source", "."], "usage.missing_option", "--model"),
        (["--group", GROUP, "--conf_thresh", "50"], "usage.invalid_options", "--conf-thresh"),
        (["--group", GROUP, "--served"], "usage.missing_setting", "inference_url"),
        (["--source", "/nowhere", "--group", GROUP], "file.not_found", "/nowhere"),
        (["--group", GROUP, "--out", "people.xlsx"], "usage.unknown_option_value", "--out people.xlsx"),
        (["--group", GROUP, "--whole", "--segmenter", "x.pt"], "usage.invalid_options", "--whole and --segmenter"),
    ],
)
def test_options_that_do_not_go_together(exported: ExportedBottle, arguments: list[str], code: str, named: str) -> None:
    error = error_of(exported, *arguments)
    assert error.code == code
    assert named in error.line()


def test_all_wrong_options_are_told_at_once(exported: ExportedBottle) -> None:
    words = "--group x --conf-thresh 3 --format nope --every xx --whole --segmenter x --out a.xlsx --model m --served"
    error = error_of(exported, *words.split())
    assert error.code == "usage.invalid_options"
    for named in (
        "--conf-thresh: ",
        "--format: ",
        "--every: ",
        "--out a.xlsx: ",
        "--segmenter",
        "--served and --model",
    ):
        assert named in error.what


def test_a_group_that_was_not_loaded(exported: ExportedBottle) -> None:
    error = error_of(exported, "--group", "hat")
    assert error.code == "bottle.group_not_loaded"
    assert "'hat'" in error.what


def test_a_table_named_in_capitals_is_written_again(copied: ExportedBottle, tmp_path: Path) -> None:
    for _ in range(2):
        assert infer(copied, "--group", GROUP, "--out", tmp_path / "people.CSV") == 0


def test_no_photo_can_be_used(copied: ExportedBottle) -> None:
    for photo in copied.bottle.pictures.iterdir():
        photo.write_bytes(b"no")
    error = error_of(copied, "--group", GROUP)
    assert error.code == "prediction.no_usable_photo"
    assert "24 photos" in error.what


def test_without_an_export(copied: ExportedBottle) -> None:
    shutil.rmtree(copied.package)
    error = error_of(copied, "--group", GROUP)
    assert error.code == "prediction.not_exported"
    assert "`cls export " in (error.hint or "")
    with pytest.raises(PredictionError) as caught:
        open_exported(copied.bottle, GROUP)
    assert caught.value.code == "prediction.not_exported"
