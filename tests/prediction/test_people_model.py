"""The Python interface: the same answers as the command, whatever form the photo comes in."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import cls
from cls.errors import FileError, PredictionError
from cls.people.photos import read_photo
from cls.prediction.opening import open_classifier
from cls.prediction.people_of_photos import whole_photo
from tests.export.runs import ExportedBottle

DOCUMENT = Path(cls.__file__).parent.parent / "docs" / "prediction.md"


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


def test_photos_as_they_come(exported: ExportedBottle, tmp_path: Path) -> None:
    model = cls.open_model(exported.package, whole=True)
    base = Image.fromarray(read_photo(exported.bottle.picture("0001.jpeg"))).resize((40, 64))
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(np.asarray(base.convert("L"), np.uint16) * 257)
    for number, (image, options) in enumerate(
        [
            (base, {"exif": exif}),
            (base.convert("L"), {}),
            (base.convert("RGBA"), {}),
            (base.convert("P"), {}),
            (deep, {}),
            (base, {"save_all": True, "append_images": [base.rotate(180)]}),
        ]
    ):
        stream = io.BytesIO()
        image.save(stream, "PNG", **options)
        file = tmp_path / f"{number}.png"
        file.write_bytes(stream.getvalue())
        by_file, by_pil = model([file, Image.open(file)])
        assert by_file[0].box_xyxy_px == by_pil[0].box_xyxy_px
        np.testing.assert_allclose(
            list(by_file[0].probabilities.values()), list(by_pil[0].probabilities.values()), atol=0.02
        )


def test_what_is_no_photo(exported: ExportedBottle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = cls.open_model(exported.package, whole=True)
    for wrong in (np.zeros((4, 4, 3), np.float32), np.zeros((4, 4, 2), np.uint8), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(FileError, match="is no photo"):
            model(wrong)
    (tmp_path / "x.jpg").write_bytes(b"x")
    with pytest.raises(FileError, match=r"x\.jpg"):
        model(tmp_path / "x.jpg")
    monkeypatch.setattr("cls.prediction.people_of_photos.REPOSITORY", tmp_path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PredictionError, match="segmenter=, or take whole photos with whole=True"):
        cls.open_model(exported.package)
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
