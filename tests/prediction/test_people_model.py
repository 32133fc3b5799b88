"""The Python interface: the same answers as the command, whatever form the photo comes in."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

import cls
from cls.errors import FileError, PredictionError, UsageError
from cls.people.photos import read_photo, whole_photo
from cls.runtimes.open import open_classifier
from tests.exporting.runs import ExportedBottle
from tests.prediction.inferring import infer, lines_of

SRGB = ImageCms.createProfile("sRGB")
DOCUMENT = Path(cls.__file__).parent.parent / "docs" / "predict.md"


def test_three_lines(exported: ExportedBottle) -> None:
    model = cls.open_model(exported.package / "model_onnx.zip", whole=True)
    file = exported.bottle.picture("0003.jpeg")
    people = model(file)
    assert isinstance(people[0], cls.LabelledPerson)
    assert model.labels == exported.run.labels
    direct = open_classifier(str(exported.package), exported.bottle)
    photo = read_photo(file)
    np.testing.assert_allclose(
        list(people[0].probabilities.values()), direct.of_people(photo, [whole_photo(photo)])[0], atol=1e-5
    )
    pil = Image.fromarray(photo)
    several = model([file, str(file), photo, pil])
    assert [[one.to_dict() for one in answer] for answer in several] == [[several[0][0].to_dict()]] * 4
    assert [len(answer) for answer in model.each(file for _ in range(20))] == [1] * 20
    assert json.loads(json.dumps(several[0][0].to_dict()))["person_class"] == "whole photo"
    sure = cls.open_model(exported.package, whole=True, threshold=0)(file)[0]
    assert sure.labels == exported.run.labels


def test_a_model_of_another_group_than_asked_for(exported: ExportedBottle) -> None:
    package = exported.package / "model_onnx.zip"
    assert cls.open_model(package, whole=True, group=exported.run.group).labels == exported.run.labels
    for model in (package, exported.package, exported.run.folder):
        with pytest.raises(PredictionError) as caught:
            cls.open_model(model, whole=True, group="hat")
        assert caught.value.code == "prediction.wrong_group"
        assert all(group in caught.value.what for group in ("'top_color'", "'hat'"))


def pictures_of_every_kind(folder: Path, photo: NDArray[np.uint8]) -> dict[str, Path]:
    """A photo in every form that cameras, scanners and editors leave behind."""
    base = Image.fromarray(photo).resize((40, 64))
    grey = base.convert("L")
    deep = np.asarray(grey, np.uint16) * 257
    colour = np.asarray(base, np.uint16)[..., ::-1] * 257
    half = grey.copy()
    half.putalpha(Image.linear_gradient("L").resize(grey.size))
    turned = Image.Exif()
    turned[0x0112] = 6
    files: dict[str, Path] = {}

    def save(name: str, image: Image.Image, **options: Any) -> None:
        files[name] = folder / name
        image.save(files[name], **options)

    save("rgb.jpg", base, quality=95)
    save("turned.jpg", base, quality=95, exif=turned)
    save("turned.png", base, exif=turned)
    save("turned.tif", base, exif=turned)
    save("cmyk.jpg", base.convert("CMYK"), quality=95)
    save("cmyk turned.jpg", base.convert("CMYK"), quality=95, exif=turned)
    save("cmyk.tif", base.convert("CMYK"), compression="tiff_lzw")
    save("lab.tif", ImageCms.profileToProfile(base, SRGB, ImageCms.createProfile("LAB"), outputMode="LAB"))
    save("grey.png", grey)
    save("black and white.png", grey.convert("1"))
    save("grey and alpha.png", half)
    save("grey and alpha turned.png", half, exif=turned)
    save("rgba.webp", half.convert("RGBA"), lossless=True)
    save("palette.png", base.quantize(32))
    save("palette with a hole.png", base.quantize(32), transparency=3)
    save("animated.png", base, save_all=True, append_images=[base.rotate(180)])
    save("deep grey.png", Image.fromarray(deep))
    save("deep grey turned.tif", Image.fromarray(deep), exif=turned)
    for name in ("deep colour.png", "deep colour.tif"):
        files[name] = folder / name
        assert cv2.imwrite(str(files[name]), colour)
    return files


def test_photos_as_they_come(exported: ExportedBottle, tmp_path: Path) -> None:
    """A path gives what the command gives for the file, and a Pillow picture or an array of it the same."""
    source = tmp_path / "photos"
    source.mkdir()
    files = pictures_of_every_kind(source, read_photo(exported.bottle.picture("0001.jpeg")))
    assert infer(exported, "--source", source, "--model", exported.package, "--whole", "--out", tmp_path / "out") == 0
    told = {line["picture"]: line for line in lines_of(tmp_path / "out")}
    assert set(told) == set(files)
    model = cls.open_model(exported.package, whole=True)
    for name, file in files.items():
        shape = (40, 64) if "turned" in name else (64, 40)
        forms = [file, file.read_bytes(), Image.open(file), read_photo(file)]
        if "turned" not in name and "palette" not in name and Image.open(file).mode in ("L", "LA", "RGB", "RGBA"):
            forms.append(np.asarray(Image.open(file)))
        if name.startswith("deep colour"):
            forms.append(cv2.imread(str(file), cv2.IMREAD_UNCHANGED)[..., ::-1])
        if name == "deep grey.png":
            forms.append(np.asarray(Image.open(file)))
        assert not name.startswith("deep colour") or forms[-1].dtype == np.uint16
        for form in forms:
            (person,) = model(form)
            assert person.box_xyxy_px[2:] == (shape[1], shape[0]) == tuple(told[name]["box_xyxy_px"][2:]), name
            probs = list(told[name]["probs"].values())
            np.testing.assert_allclose(
                list(person.probabilities.values()),
                probs,
                atol=1e-5 if form is file or isinstance(form, bytes) else 0.02,
                err_msg=name,
            )
    # Pictures that differ give answers that differ: the comparison above can fail.
    assert told["rgb.jpg"]["probs"] != pytest.approx(told["turned.jpg"]["probs"], abs=0.02)
    assert told["rgb.jpg"]["probs"] != pytest.approx(told["grey and alpha.png"]["probs"], abs=0.02)
    assert told["deep colour.png"]["probs"] == pytest.approx(told["rgb.jpg"]["probs"], abs=0.02)
    assert told["cmyk.jpg"]["probs"] == pytest.approx(told["rgb.jpg"]["probs"], abs=0.05)


def test_what_is_no_photo(exported: ExportedBottle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = cls.open_model(exported.package, whole=True)
    boundless = Image.fromarray(np.zeros((4, 4), np.int32))
    for wrong, case in (
        (np.zeros((4, 4, 3), np.float32), "unsupported_array"),
        (np.zeros((4, 4, 5), np.uint8), "unsupported_array"),
        (np.zeros((0, 4, 3), np.uint8), "unsupported_array"),
        (boundless, "unsupported_mode"),
        (5, "not_a_photo"),
        (b"x", "not_an_image"),
    ):
        with pytest.raises(FileError) as caught:
            model(wrong)
        assert caught.value.code == f"file.{case}"
    (tmp_path / "x.jpg").write_bytes(b"x")
    with pytest.raises(FileError) as caught:
        model(tmp_path / "x.jpg")
    assert caught.value.code == "file.not_an_image"
    assert caught.value.where == str(tmp_path / "x.jpg")
    monkeypatch.setattr("cls.prediction.predict.project_folder", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PredictionError) as caught:
        cls.open_model(exported.package)
    assert caught.value.code == "prediction.no_segmentation_model"
    assert "segmenter=" in (caught.value.hint or "")
    assert "whole=True" in (caught.value.hint or "")
    with pytest.raises(AttributeError):
        _ = cls.nothing


def test_the_import_is_light() -> None:
    code = "import sys, cls; print(sorted({'torch', 'numpy', 'cv2', 'onnxruntime'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_the_documents_snippet_runs(
    exported: ExportedBottle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model_onnx.zip").write_bytes((exported.package / "model_onnx.zip").read_bytes())
    (tmp_path / "photo.jpg").write_bytes(exported.bottle.picture("0003.jpeg").read_bytes())
    snippets = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL)
    assert snippets
    for snippet in snippets:
        exec(compile(snippet, str(DOCUMENT), "exec"), {})
    assert "whole photo" in capsys.readouterr().out


@pytest.mark.parametrize("threshold", [7, -0.1, float("nan")])
def test_a_threshold_that_is_none(exported: ExportedBottle, threshold: float) -> None:
    with pytest.raises(UsageError) as caught:
        cls.open_model(exported.package, whole=True, threshold=threshold)
    assert caught.value.code == "usage.invalid_options"
