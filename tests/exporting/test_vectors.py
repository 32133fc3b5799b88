"""Conformance vectors in packages, and a client that has nothing but the zip."""

from __future__ import annotations

import importlib.util
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cls.cli.command import execute
from cls.cli.package import VECTORS, VERIFY
from cls.errors import PackageError
from cls.exporting.package_writer import vectors_of_zip
from cls.exporting.publish import ExportConfig, export_run
from cls.model_storage.checking import check_upload
from cls.package.archive import open_package, pack_files
from cls.package.card import card_of
from cls.package.meta import parse_meta
from cls.package.packing import PackedModel, write_package
from cls.package.vectors import VECTORS_FILE, read_vectors
from cls.people.photos import Person, read_photo
from cls.people.preprocess import Preprocessing
from cls.runtimes.classifier import Classifier
from cls.runtimes.conformance import check_vectors, make_vectors
from cls.runtimes.open import open_classifier
from tests.exporting.runs import ExportedBottle

CLIENT = Path(__file__).parents[2] / "docs" / "reference_client.py"


def _client_module() -> Any:
    spec = importlib.util.spec_from_file_location("reference_client", CLIENT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _zip(exported: ExportedBottle) -> Path:
    return exported.package / "model_onnx.zip"


def _run(command: Any, *arguments: str, cfg: Path) -> int:
    return execute(command, [*arguments, "--cfg", str(cfg)])


def _changed(source: Path, target: Path, edit: Callable[[str, bytes], bytes | None]) -> Path:
    """A package with other vectors, whose digests are right: as another tool would have made it."""
    with open_package(source) as package:
        meta = package.meta()
        files = {name: package.read(name) for name in package.names if name not in ("meta.json", "config.pbtxt")}
    edited = {name: content for name in files if (content := edit(name, files[name])) is not None}
    write_package(target, parse_meta(meta.model_dump(mode="json")), PackedModel("onnx", "onnxruntime_onnx", edited))
    return target


def _edit_json(change: Callable[[dict[str, Any]], None]) -> Callable[[str, bytes], bytes]:
    def edit(name: str, content: bytes) -> bytes:
        if name != VECTORS_FILE:
            return content
        said = json.loads(content)
        change(said)
        return json.dumps(said).encode()

    return edit


def test_a_package_carries_vectors_that_it_meets(
    exported: ExportedBottle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run(VECTORS, str(_zip(exported)), "--json", "--write", str(tmp_path), cfg=exported.cfg) == 0
    said = json.loads(capsys.readouterr().out)
    assert len(said["cases"]) == 7
    assert all(case["is_met"] and case["levels"] == 0 and case["probability"] < 1e-5 for case in said["cases"])
    written = json.loads((tmp_path / VECTORS_FILE).read_text())
    for case in written["cases"]:
        crop = np.asarray(Image.open(tmp_path / "vectors" / f"{case['name']}.crop.png"))
        tensor = np.load(tmp_path / "vectors" / f"{case['name']}.tensor.npy")
        assert crop.shape == (64, 48, 3)
        assert np.array_equal(tensor, exported.run.preprocessing.normalise(crop[None]))
        assert (tmp_path / case["photo"]).is_file()
    assert not (tmp_path / "model.onnx").exists()
    assert _run(VECTORS, str(_zip(exported)), cfg=exported.cfg) == 0
    assert capsys.readouterr().out.count(" met\n") == 7
    assert _run(VERIFY, str(_zip(exported)), cfg=exported.cfg) == 0
    assert "7 conformance vectors met" in capsys.readouterr().out


def test_every_case_is_another_one(exported: ExportedBottle) -> None:
    """Shrunk and enlarged, borders on either side, an odd pixel of border, a frame cut off by the photo's edge."""
    with open_package(_zip(exported)) as package:
        cases = {case.record.name: case for case in read_vectors(package, package.meta()).cases}
    size = exported.run.preprocessing
    frames = {name: case.record.frame_xyxy_px for name, case in cases.items()}
    heights = {name: bottom - top for name, (_, top, _, bottom) in frames.items()}
    assert heights["shrunk"] > size.height_px > heights["enlarged"]
    fill = np.array(size.fill_rgb)
    is_border = (cases["level"].crop_rgb == fill).all(axis=(1, 2))
    assert is_border[0]
    assert is_border[-1]
    assert not (cases["shrunk"].crop_rgb == fill).all(axis=(1, 2))[10:-10].any()
    left, top, right, bottom = frames["box"]
    inner = (2 * (right - left) * size.height_px + bottom - top) // (2 * (bottom - top))
    assert (size.width_px - inner) % 2 == 1
    photo = Image.open(io.BytesIO(cases["beyond_the_edge"].photo))
    assert frames["beyond_the_edge"][2:] == photo.size
    assert len(cases["two_outlines"].record.polygons_xy_rel) == 2
    assert cases["box"].record.polygons_xy_rel == ()
    assert Image.open(io.BytesIO(cases["turned_jpeg"].photo)).getexif()[0x0112] == 6
    assert len({tuple(case.record.probabilities.values()) for case in cases.values()}) >= 6


def _shifted(content: bytes) -> bytes:
    crop = np.asarray(Image.open(io.BytesIO(content)))
    buffer = io.BytesIO()
    Image.fromarray(np.roll(crop, 1, axis=1)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("edit", "case"),
    [
        (lambda name, content: _shifted(content) if name == "vectors/shrunk.crop.png" else content, "shrunk"),
        (
            lambda name, content: content[:-4] + b"\x00\x00\x80\x40" if name == "vectors/level.tensor.npy" else content,
            "level",
        ),
        (_edit_json(lambda said: said["cases"][2]["frame_xyxy_px"].__setitem__(0, 0)), "enlarged"),
        (
            _edit_json(
                lambda said: said["cases"][3]["probabilities"].update(
                    {label: 1 - prob for label, prob in said["cases"][3]["probabilities"].items()}
                )
            ),
            "two_outlines",
        ),
        (_edit_json(lambda said: said["cases"][5].__setitem__("box_xyxy_px", [3, 3, 40, 60])), "box"),
    ],
    ids=["crop", "tensor", "frame", "probabilities", "outline"],
)
def test_vectors_that_are_not_met(
    exported: ExportedBottle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    edit: Callable[[str, bytes], bytes],
    case: str,
) -> None:
    other = _changed(_zip(exported), tmp_path / "other.zip", edit)
    assert _run(VECTORS, str(other), "--json", cfg=exported.cfg) == 1
    said = json.loads(capsys.readouterr().out)
    assert [result["name"] for result in said["cases"] if not result["is_met"]] == [case]
    assert _run(VERIFY, str(other), "--debug", cfg=exported.cfg) == 1
    printed = capsys.readouterr()
    assert f": {case}; " in printed.out
    assert printed.err.strip().endswith("[package.problems_found, package.vectors_failed]")


@pytest.mark.parametrize(
    "edit",
    [
        lambda name, content: content[:50] if name == VECTORS_FILE else content,
        lambda name, content: None if name == "vectors/shrunk.crop.png" else content,
        lambda name, content: None if name == "vectors/shrunk.png" else content,
        lambda name, content: content[:90] if name == "vectors/box.tensor.npy" else content,
        lambda name, content: b"no picture" if name == "vectors/box.crop.png" else content,
        lambda name, content: content.replace(b"<f4", b"<f8") if name.endswith("npy") else content,
        _edit_json(lambda said: said.__setitem__("cases", [])),
        _edit_json(lambda said: said.__setitem__("cases", said["cases"] * 10)),
        _edit_json(lambda said: said.__setitem__("cases", said["cases"] * 2)),
        _edit_json(lambda said: said["cases"][0].__setitem__("photo", "../../model.onnx")),
        _edit_json(lambda said: said["cases"][0].__setitem__("name", "../x")),
        _edit_json(lambda said: said["cases"][0].__setitem__("probabilities", {"another label": 0.5})),
        _edit_json(lambda said: said["cases"][0].__setitem__("box_xyxy_px", [0, 0, 1e9, 1])),
        _edit_json(lambda said: said["cases"][0].__setitem__("polygons_xy_rel", [[[0, 0]] * 20_000])),
    ],
)
def test_damaged_vectors_are_refused(
    exported: ExportedBottle, tmp_path: Path, edit: Callable[[str, bytes], bytes | None]
) -> None:
    other = _changed(_zip(exported), tmp_path / "other.zip", edit)
    with open_package(other) as package, pytest.raises(PackageError):
        read_vectors(package, package.meta())
    assert _run(VECTORS, str(other), cfg=exported.cfg) == 1
    assert _run(VERIFY, str(other), cfg=exported.cfg) == 1


def test_a_package_without_vectors_is_still_one(
    exported: ExportedBottle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = _changed(_zip(exported), tmp_path / "older.zip", lambda name, content: None if "vec" in name else content)
    assert _run(VERIFY, str(older), cfg=exported.cfg) == 0
    capsys.readouterr()
    assert _run(VECTORS, str(older), "--json", cfg=exported.cfg) == 1
    error = json.loads(capsys.readouterr().err)["error"]
    assert (error["code"], error["where"]) == ("package.no_vectors", str(older))
    done = subprocess.run(
        [sys.executable, "-P", str(CLIENT), str(older), "--vectors"], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0


def test_a_changed_vector_is_no_vector_of_the_package(exported: ExportedBottle, tmp_path: Path) -> None:
    with zipfile.ZipFile(_zip(exported)) as source:
        files = {name: source.read(name) for name in source.namelist()}
    files["vectors/shrunk.crop.png"] = files["vectors/box.crop.png"]
    changed = pack_files(tmp_path / "changed.zip", dict(files))
    assert _run(VERIFY, str(changed), cfg=exported.cfg) == 1


@pytest.mark.parametrize("size", [(1, 1), (7, 300), (256, 192), (33, 1), (700, 700)])
@pytest.mark.parametrize("is_kept", [False, True])
def test_vectors_of_every_size_of_input(size: tuple[int, int], is_kept: bool) -> None:
    classifier = _mean_classifier(Preprocessing(*size, is_background_kept=is_kept))
    vectors = make_vectors(classifier, 0.001)
    assert [case.crop_rgb.shape for case in vectors.cases] == [(*size, 3)] * 7
    assert all(result.is_met for result in check_vectors(classifier, vectors))


def test_vectors_of_the_first_version_are_of_the_first_version() -> None:
    older, newer = (_mean_classifier(Preprocessing(64, 48, version=version)) for version in (1, 2))
    vectors = make_vectors(older, 0.001)
    assert all(result.is_met for result in check_vectors(older, vectors))
    assert not all(result.is_met for result in check_vectors(newer, vectors))


class _MeanRuntime:
    """A network of two labels: the mean of the picture and of its upper half."""

    description = "mean"

    def logits(self, images: Any) -> Any:
        pixels = np.asarray(images, np.float32)
        half = pixels[:, :, : max(pixels.shape[2] // 2, 1)]
        return np.stack([pixels.mean(axis=(1, 2, 3)), half.mean(axis=(1, 2, 3))], axis=1)


def _mean_classifier(preprocessing: Preprocessing) -> Classifier:
    return Classifier("g", "r", ("a", "b"), (0.5, 0.5), preprocessing, _MeanRuntime(), "here")


def test_the_client_goes_the_packages_way(exported: ExportedBottle, tmp_path: Path) -> None:
    """In a process of its own, without this project in reach."""
    done = subprocess.run(
        [sys.executable, "-P", str(CLIENT), str(_zip(exported)), "--vectors"],
        capture_output=True, text=True, check=False, cwd=tmp_path, env={"PYTHONPATH": ""},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.splitlines()) == 7
    imported = {line.split()[1].split(".")[0] for line in CLIENT.read_text().splitlines() if line[:7] == "import "}
    imported |= {line.split()[1] for line in CLIENT.read_text().splitlines() if line[:5] == "from "}
    assert imported == {"io", "json", "sys", "zipfile", "zlib", "pathlib", "numpy", "onnxruntime", "PIL"}


def test_the_client_decides_as_the_package(exported: ExportedBottle, tmp_path: Path) -> None:
    product = open_classifier(str(_zip(exported)), exported.bottle)
    client = _client_module().Client(str(_zip(exported)))
    rng, largest = np.random.default_rng(0), 0.0
    samples = [*exported.run.samples("valid"), *exported.run.samples("train")]
    for sample in samples:
        photo = read_photo(exported.bottle.picture(sample.path))
        # The person itself, and parts of it: large and small cut-outs of every shape.
        shrunk = tuple(outline * rng.uniform(0.3, 1, 2) for outline in sample.person.polygons_xy_rel)
        for person in (sample.person, replace(sample.person, polygons_xy_rel=shrunk)):
            said = {
                "polygons_xy_rel": [outline.tolist() for outline in person.polygons_xy_rel],
                "box_xyxy_px": person.box_xyxy_px,
            }
            probs = product.of_people(photo, [person])[0]
            theirs, chosen = client.decide(photo, said)
            difference = np.abs(np.array(list(theirs.values())) - probs)
            largest = max(largest, float(difference.max()))
            near = {
                label
                for label, prob, threshold in zip(product.labels, probs, product.thresholds, strict=True)
                if abs(prob - threshold) <= 0.001
            }
            assert set(chosen) ^ set(product.chosen(probs.tolist())) <= near
    assert len(samples) == 24
    # This network was never trained: its answers change with a level more than a trained one's.
    assert largest < 0.02
    photo_file = exported.bottle.picture(samples[0].path)
    (tmp_path / "people.json").write_text(json.dumps([{"polygons_xy_rel": [], "box_xyxy_px": [5, 5, 60, 90]}]))
    done = subprocess.run(
        [sys.executable, "-P", str(CLIENT), str(_zip(exported)), str(photo_file), str(tmp_path / "people.json")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    probs = product.of_people(read_photo(photo_file), [Person("", 1.0, (5, 5, 60, 90), ())])[0]
    assert list(json.loads(done.stdout)["probabilities"].values()) == pytest.approx(probs.tolist(), abs=0.02)


def test_the_client_says_in_one_line_which_file_is_wrong(exported: ExportedBottle, tmp_path: Path) -> None:
    packed, zips = _zip(exported).read_bytes(), (tmp_path / "cut.zip", tmp_path / "spoilt.zip", tmp_path / "other.zip")
    at = packed.index(b"meta.json") + 60
    zips[0].write_bytes(packed[: len(packed) // 2])
    zips[1].write_bytes(packed[:at] + bytes(byte ^ 0x5A for byte in packed[at : at + 60]) + packed[at + 60 :])
    pack_files(zips[2], {"other.json": b"{}"})
    photo, people, broken = tmp_path / "none.jpg", tmp_path / "people.json", tmp_path / "broken.json"
    people.write_text("[]")
    broken.write_text("[")
    real = exported.bottle.picture(exported.run.samples("valid")[0].path)
    good = _zip(exported)
    wrong = [(good, photo, people), (good, people, people), (good, real, broken), (good, real, tmp_path / "none.json")]
    for arguments in (*wrong, *((package, real, people) for package in zips), (zips[0], "--vectors")):
        command = [sys.executable, "-P", str(CLIENT), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        (line,) = done.stderr.splitlines()
        assert (done.returncode, done.stdout, line.startswith("error: ")) == (1, "", True)


def test_the_client_refuses_what_it_does_not_know(exported: ExportedBottle, tmp_path: Path) -> None:
    with zipfile.ZipFile(_zip(exported)) as source:
        files: dict[str, Path | bytes] = {name: source.read(name) for name in source.namelist()}
        meta = json.loads(source.read("meta.json"))
    meta["preprocessing"] |= {"version": 1, "resize": "letterbox"}
    pack_files(tmp_path / "older.zip", {**files, "meta.json": json.dumps(meta).encode()})
    done = subprocess.run(
        [sys.executable, "-P", str(CLIENT), str(tmp_path / "older.zip"), "--vectors"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "version 1" in done.stderr


@pytest.mark.usefixtures("shared_conversions")
def test_vectors_of_a_model_with_its_preprocessing_inside(copied: ExportedBottle) -> None:
    export_run(copied.bottle, copied.run, ExportConfig(("onnx",), is_end_to_end=True))
    with open_package(_zip(copied)) as package:
        vectors = read_vectors(package, package.meta())
    for case in vectors.cases:
        left, top, right, bottom = case.record.frame_xyxy_px
        assert case.crop_rgb.shape == (bottom - top, right - left, 3)
        assert case.tensor.dtype == np.uint8
    client = _client_module().Client(str(_zip(copied)))
    assert client.missed_vectors() == 0


def test_a_model_storage_does_not_keep_vectors(exported: ExportedBottle, tmp_path: Path) -> None:
    copy = tmp_path / "package.zip"
    copy.write_bytes(_zip(exported).read_bytes())
    checked = check_upload(copy, "0" * 64, is_meta_strict=True)
    names = {path.name for path in checked.folder.rglob("*")}
    assert {"model.onnx", "meta.json", "config.pbtxt"} <= names
    assert not [name for name in names if "vectors" in name or name.endswith((".npy", ".png"))]


def test_the_card_counts_vectors(exported: ExportedBottle) -> None:
    text = card_of(_zip(exported)).text()
    assert "vectors        22 files" in text
    assert "vectors/" not in text


def test_a_model_without_an_answer_to_a_drawn_photo_carries_no_vectors(
    exported: ExportedBottle, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Nothing(_MeanRuntime):
        def logits(self, images: Any) -> Any:
            return super().logits(images) * np.float32("nan")

    silent = replace(_mean_classifier(Preprocessing(16, 12)), runtime=Nothing())
    monkeypatch.setattr("cls.exporting.package_writer.open_classifier", lambda path, bottle: silent)
    assert vectors_of_zip("onnx", _zip(exported), exported.bottle) == {}
    (warning,) = caplog.records
    assert warning.name == "cls.exporting"
    assert "model_onnx.zip" in warning.message
