"""The card of a package: the values on it, and where it says that something is not known."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cls.errors import PackageError
from cls.files import sha256_of_file
from cls.package.card import Card, card_of, people_in_words, zips_of
from cls.package.meta import ModelMeta, write_meta
from cls.package.packing import REBUILD_ONNX, REBUILD_SAMPLES, PackedModel, write_package
from tests.package.metas import make_meta, meta_dict
from tests.package.zips import PLAN, onnx_bytes, onnx_zip, plan_bytes, plan_zip

REPORT = {
    "runtime": "ONNX Runtime 1.32", "samples": 195, "part": "validation", "batch_sizes": [1, 7],
    "max_probability_difference": 2.5e-6, "mean_probability_difference": 1e-7, "label_flips": 1,
    "label_flips_beyond_limit": 0, "limit": 0.001,
}  # fmt: skip


def card(files: dict[str, int] | None = None, **changes: Any) -> Card:
    return Card(Path("a.zip"), make_meta(**changes), files or {"model.onnx": 5})


def row(text: str, name: str) -> str:
    """The rest of the first line that begins with a name."""
    return next(line for line in text.splitlines() if line.strip().startswith(name)).strip()[len(name) :].strip()


def test_what_it_is() -> None:
    text = card().text()
    assert text.splitlines()[0] == "a.zip"
    assert row(text, "group") == "hair_color, not published yet"
    assert row(card(model_version="1.2.3").text(), "group") == "hair_color, version 1.2.3"
    assert row(text, "run") == "v__0_train_eff_4_0.001 (efficientnet_b0), 2026-01-02T03:04:05Z, CLS 0.1.0"
    assert row(text, "segmentation") == "model best"
    unknown = {**meta_dict()["person"], "segmentation_models": []}
    assert row(card(person=unknown).text(), "segmentation") == "model unknown"


def test_the_page(tmp_path: Path) -> None:
    card().write_page(tmp_path / "card.html")
    page = (tmp_path / "card.html").read_text()
    assert "hair_color" in page.split("<title>")[1].split("</title>")[0]
    assert "efficientnet_b0" in page


def test_sizes_of_files() -> None:
    assert (
        row(card({"b": 99_949, "a": 100_000, "c": 1_560_000}).text(), "files") == "a (0.1 MB), b (99.9 kB), c (1.6 MB)"
    )
    assert row(card({"a": 99_999}).text(), "files") == "a (100.0 kB)"


def test_the_input() -> None:
    text = card().text()
    assert (
        row(text, "input") == "crop of a person, margin 0.05 of the longer side, background flat, RGB [124, 116, 104]"
    )
    assert "letterbox to 64x48 (height x width), area when shrinking, linear when enlarging" in text
    assert "RGB, 1/255, minus (0.485, 0.456, 0.406), divided by (0.229, 0.224, 0.225), NCHW; then sigmoid" in text
    assert row(text, "input tensor") == "images: FP32 [-1, 3, 64, 48]"
    assert row(text, "output tensor") == "logits: FP32 [-1, 3]"
    assert row(text, "in model") == "network"
    assert row(text, "after model") == "activation, thresholds"
    assert row(text, "before model").startswith("decode, cut_out, letterbox, fill_background")
    kept = {**meta_dict()["preprocessing"], "is_background_kept": True}
    assert row(card(preprocessing=kept).text(), "input").endswith("background of the photo")
    whole = card(
        inputs=[{"name": "images", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}],
        outputs=[{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}],
    ).text()
    assert "uint8 RGB of any size in, probabilities out" in whole
    assert "divided by" not in whole


def test_scores_of_labels() -> None:
    scores = {"black hair": {"f1": 0.91234, "positives": 12}, "blonde hair": {"f1": None}, "red hair": 3}
    metrics = {"validation": {"labels": scores, "macro": {"f1": 0.8765, "ma": 0.7654}}}
    thresholds = {"black hair": 0.25, "blonde hair": 0.5, "red hair": 0.123456}
    text = card(metrics=metrics, thresholds=thresholds).text()
    assert row(text, "black hair ").split() == ["0.2500", "-", "0.912", "of", "12"]
    assert row(text, "blonde hair ").split() == ["0.5000", "-", "-", "of", "?"]
    assert row(text, "red hair ").split() == ["0.1235", "-", "-", "of", "?"]
    assert "\n  black hair   0.2500" in text, "thresholds stand below each other"
    assert "\n  blonde hair  0.5000" in text
    assert row(text, "validation ") == "cross-validated F1 not measured"
    assert "chosen on the same people 0.876, mean over 1 of 3 labels" in text
    cross_validated = {"macro": {"f1": 0.9996}, "labels": {"black hair": {"f1": 0.9996}}, "left_out": ["red hair"]}
    text = card(
        metrics={"validation": {**metrics["validation"], "cross_fitted": cross_validated, "samples": 40}}
    ).text()
    assert row(text, "validation ") == "cross-validated F1 0.999, mean over 1 of 3 labels, 40 people"
    assert row(text, "black hair ").split() == ["0.5000", "0.999", "0.912", "of", "12"]
    for odd in ({}, {"validation": 3}, {"validation": {"labels": []}}, {"validation": {"macro": {"f1": "x"}}}):
        text = card(metrics=odd).text()
        assert "F1 0" not in text
        assert row(text, "black hair ").split() == ["0.5000", "-", "-", "of", "?"]


def test_parity() -> None:
    assert row(card().text(), "parity") == "not measured"
    text = card(
        parity={"onnx": REPORT, "trt": {**REPORT, "samples": 1, "label_flips": 3, "f1_change": -0.00125}}
    ).text()
    assert row(text, "onnx:") == (
        "195 people of the validation part, 1 changed decision (0 more than 0.001 from the threshold), max difference"
        " of probabilities 2.5\u00a0×\u00a010⁻⁶ (ONNX Runtime 1.32)"
    )
    said = row(text, "trt:")
    assert said.startswith("1 person of the validation part, 3 changed decisions")
    assert ", F1 -0.0013 (" in said or ", F1 -0.0012 (" in said
    assert "kept in float32" not in text
    kept = {**REPORT, "f1_change": 0.0, "kept_in_float": ["a", "b"]}
    text = card(parity={"onnx_fp16": kept}).text()
    assert ", F1 unchanged (" in row(text, "onnx_fp16:")
    assert row(text, "kept in float32:") == "a, b"


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (None, "2 people"),
        ("validation", "2 people of the validation part"),
        ("training", "2 people of the training part"),
        ("photos", "2 people in other photos"),
    ],
)
def test_on_whom(part: Any, words: str) -> None:
    assert people_in_words(2, part) == words


def test_digests() -> None:
    text = card().text()
    for name, sign in (("dataset", "a"), ("split", "b"), ("weights", "c"), ("best", "d")):
        assert row(text, f"{name}:") == sign * 16 + "…"
    assert "itself" not in text
    none = {**meta_dict()["digests"], "segmentation_models": {"best": []}, "files": {"model.onnx": "e" * 64}}
    text = card(digests=none).text()
    assert "best:" not in text
    assert row(text, "model.onnx:") == "e" * 16 + "…"


def test_a_zip(tmp_path: Path) -> None:
    path = onnx_zip(tmp_path, people=3)
    found = card_of(path)
    assert (found.sha256, found.people, found.path) == (sha256_of_file(path), 3, path)
    text = found.text()
    assert row(text, "format") == "onnx"
    assert row(text, "people") == "contains cut-outs of 3 people: personal data"
    assert row(text, f"{path.name} itself:") == found.sha256
    assert re.search(r"config\.pbtxt: [0-9a-f]{16}…", text)
    assert "rebuild  " not in text
    assert "GPU" not in text
    content = json.loads(found.to_json())
    assert set(content["files"]) == {"config.pbtxt", "meta.json", "model.onnx", "rebuild/samples.npz"}
    assert (content["sha256"], content["carried_people"], content["carries_onnx"]) == (found.sha256, 3, False)
    assert (content["path"], content["meta"]) == (str(path), found.meta.model_dump(mode="json"))


def test_a_plan(tmp_path: Path) -> None:
    found = card_of(plan_zip(tmp_path))
    assert row(found.text(), "GPU") == "needs compute capability 8.9 and TensorRT 10.13.3 (built on NVIDIA L4)"
    assert row(found.text(), "rebuild").endswith("cls package rebuild")
    assert "personal data" not in found.text()
    assert (json.loads(found.to_json())["carries_onnx"], found.people) == (True, 0)
    nameless = card_of(plan_zip(tmp_path, plan=None))
    assert row(nameless.text(), "GPU").endswith("(not recorded)")


def test_a_folder(tmp_path: Path) -> None:
    meta: ModelMeta = make_meta()
    write_meta(tmp_path / "meta.json", meta)
    (tmp_path / "model.onnx").write_bytes(bytes(7))
    (tmp_path / ".hidden").touch()
    (tmp_path / "folder").mkdir()
    found = card_of(tmp_path)
    assert found.meta == meta
    assert (found.files["model.onnx"], set(found.files)) == (7, {"model.onnx", "meta.json"})
    assert (found.sha256, found.people, json.loads(found.to_json())["sha256"]) == ("", 0, None)
    assert "format" not in found.text()
    assert "itself" not in found.text()


def test_what_is_no_package(tmp_path: Path) -> None:
    with pytest.raises(PackageError) as caught:
        card_of(tmp_path)
    assert caught.value.code == "package.unreadable"
    assert caught.value.where == str(tmp_path / "meta.json")
    with pytest.raises(PackageError) as caught:
        card_of(tmp_path / "none.zip")
    assert caught.value.code == "package.not_found"


def test_the_zips_of_a_path(tmp_path: Path) -> None:
    with pytest.raises(PackageError) as caught:
        zips_of(tmp_path)
    assert caught.value.code == "package.no_packages"
    for name in ("b.zip", "a.zip", "c.txt"):
        (tmp_path / name).touch()
    assert zips_of(tmp_path) == [tmp_path / "a.zip", tmp_path / "b.zip"]
    assert zips_of(tmp_path / "x.zip") == [tmp_path / "x.zip"]


def test_names_inside_a_package() -> None:
    assert (REBUILD_ONNX, REBUILD_SAMPLES) == ("rebuild/model.onnx", "rebuild/samples.npz")


def test_a_plan_travels_with_what_rebuilds_it(tmp_path: Path) -> None:
    own = write_package(
        tmp_path / "a.zip", make_meta(), PackedModel("trt", "tensorrt_plan", {"model.plan": plan_bytes()}, PLAN)
    )
    assert own.package is not None
    assert (own.package.format, own.package.plan, own.schema_version) == ("trt", PLAN, 3)
    assert list(own.package.files) == ["config.pbtxt", "model.plan"]
    assert (own.inputs[0].name, own.outputs[0].name) == ("images", "logits")
    assert onnx_bytes(tmp_path)[:1] == b"\x08"
