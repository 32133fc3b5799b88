from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cls.errors import SegmentationError, UsageError
from cls.people.photos import Person, read_photo
from cls.people.polygons import mask_of_polygons
from cls.segmentation.config import SegmenterConfig
from cls.segmentation.networks import quiet_ultralytics
from cls.segmentation.segmenter import load_segmenter
from cls.settings import REPOSITORY
from cls.yolo.coco import parse_coco
from cls.yolo.exporting import compare_people
from tests.segmentation.samples import MODEL, PEOPLE

SHARED = REPOSITORY.parent / "shared"


def test_checkpoint_and_onnx_find_the_same_people(onnx_model: Path, sample: Path) -> None:
    images = [read_photo(path) for path in sorted((sample / "images").iterdir())]
    images += [images[0][:, 200:420], images[1][100:220]]  # photos of other shapes in one batch
    first = load_segmenter(MODEL, people_classes=PEOPLE)
    second = load_segmenter(onnx_model, people_classes=PEOPLE)
    assert first.classes == second.classes == ("female", "male")
    sizes = [(image.shape[0], image.shape[1]) for image in images]
    agreement = compare_people(first.predict(images), second.predict(images), sizes, borderline=0.4)
    assert agreement.pairs > 24
    assert agreement.only_first == agreement.only_second == 0
    assert agreement.box_px < 0.05
    assert agreement.mask_iou_min > 0.995


def test_the_people_found_are_those_drawn(onnx_model: Path, sample: Path) -> None:
    truth = parse_coco(json.loads((sample / "annotations/instances_default.json").read_text()), where="truth")
    # The confidence that the model's README advises; measured there: 0.86 and 1.00 on 240 photos.
    segmenter = load_segmenter(onnx_model, people_classes=PEOPLE, config=SegmenterConfig(confidence=0.25))
    main_ious = []
    for picture in truth.pictures:
        image = read_photo(sample / "images" / picture.file_name)
        height_px, width_px = image.shape[:2]
        found = segmenter.predict([image])[0]
        masks = [mask_of_polygons(person.polygons_xy_rel, height_px, width_px) > 0 for person in found]
        drawn = [
            mask_of_polygons([part / (width_px, height_px) for part in shape.polygons_xy_px], height_px, width_px) > 0
            for shape in picture.annotations
        ]
        main = max(drawn, key=np.count_nonzero)
        main_ious.append(
            max((np.count_nonzero(main & mask) / np.count_nonzero(main | mask) for mask in masks), default=0.0)
        )
        assert all(0 <= value <= 1 for person in found for part in person.polygons_xy_rel for value in part.reshape(-1))
    assert np.mean(main_ious) > 0.8
    assert np.mean(np.array(main_ious) > 0.5) > 0.95


def test_a_frozen_model_runs_without_ultralytics_and_torch(onnx_model: Path, sample: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from typing import Any
from cls.people.photos import read_photo
from cls.segmentation.config import SegmenterConfig
from cls.segmentation.segmenter import load_segmenter
segmenter = load_segmenter(Path({str(onnx_model)!r}), people_classes={{}})
assert segmenter.predict([read_photo(next(Path({str(sample / "images")!r}).iterdir()))])[0]
assert not {{"ultralytics", "torch"}} & set(sys.modules), "imported"
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_ultralytics_leaves_the_process_as_it_was() -> None:
    program = f"""
import os, torch
from pathlib import Path
from typing import Any
from PIL import Image
from cls.segmentation.config import SegmenterConfig
from cls.segmentation.segmenter import load_segmenter
torch.set_num_threads(2)
before = (torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS"), Image.open)
load_segmenter(Path({str(MODEL)!r}), people_classes={{}})
assert before == (torch.get_num_threads(), os.environ.get("OMP_NUM_THREADS"), Image.open)
assert os.environ["YOLO_OFFLINE"] == "True"
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_classes_can_be_left_out(onnx_model: Path, sample: Path) -> None:
    images = [read_photo(path) for path in sorted((sample / "images").iterdir())]

    def found(people_classes: dict[str, str] = PEOPLE, **options: Any) -> set[str]:
        config = SegmenterConfig(**options)
        segmenter = load_segmenter(onnx_model, people_classes=people_classes, config=config)
        return {person.cls for people in segmenter.predict(images) for person in people}

    assert found() == {"female", "male"}
    assert found(people_classes={"girl": "female"}) == {"female", "man"}
    assert found(people_classes={"girl": "female"}, only_mapped=True) == {"female"}
    assert found(classes=["male"]) == {"male"}
    assert found(people_classes={"girl": "person", "man": "person"}) == {"person"}
    with pytest.raises(SegmentationError) as caught:
        load_segmenter(onnx_model, people_classes={}, config=SegmenterConfig(only_mapped=True))
    assert (caught.value.code, caught.value.where) == ("segmentation.no_wanted_class", str(onnx_model))
    assert "(girl, man)" in caught.value.what


def test_confidence_and_size_are_checked(onnx_model: Path) -> None:
    for confidence in (0.0, 1.0, 40.0):
        with pytest.raises(UsageError) as refused:
            SegmenterConfig(confidence=confidence)
        assert refused.value.codes == ("usage.invalid_options", "usage.invalid_option_value")
        assert str(confidence) in refused.value.what
    with pytest.raises(SegmentationError) as caught:
        load_segmenter(onnx_model, people_classes={}, config=SegmenterConfig(image_size_px=5))
    assert caught.value.code == "segmentation.image_size_out_of_range"
    assert "5 pixels" in caught.value.what


def write_detector(path: Path) -> None:
    with quiet_ultralytics():
        from ultralytics.models import YOLO

        YOLO("yolov8n.yaml").save(str(path))


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("text.pt", b"no model", "segmentation.not_a_checkpoint"),
        ("empty.pt", b"", "segmentation.not_a_checkpoint"),
        ("cut.pt", MODEL.read_bytes()[:100_000] if MODEL.exists() else b"PK", "segmentation.unreadable_checkpoint"),
        ("text.onnx", b"no model", "segmentation.unreadable_onnx"),
        ("empty.onnx", b"", "segmentation.unreadable_onnx"),
        ("model.engine", b"x", "segmentation.unknown_suffix"),
        (f"{'x' * 51}.pt", b"PK", "segmentation.name_too_long"),
    ],
)
def test_files_that_are_no_model(tmp_path: Path, name: str, content: bytes, code: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(SegmentationError) as caught:
        load_segmenter(path, people_classes={})
    assert (caught.value.code, caught.value.where) == (code, str(path))
    assert caught.value.hint


def test_models_that_find_no_masks(tmp_path: Path) -> None:
    write_detector(tmp_path / "boxes.pt")
    torch.save({"weights": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(SegmentationError) as caught:
        load_segmenter(tmp_path / "boxes.pt", people_classes={})
    assert caught.value.code == "segmentation.no_masks"
    with pytest.raises(SegmentationError) as caught:
        load_segmenter(tmp_path / "other.pt", people_classes={})
    assert caught.value.code == "segmentation.unreadable_checkpoint"


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (Path(tmp_path / "ran"),)  # type: ignore[return-value]

    torch.save({"model": Trap()}, tmp_path / "trap.pt")
    with pytest.raises(SegmentationError):
        load_segmenter(tmp_path / "trap.pt", people_classes={})
    assert not (tmp_path / "ran").exists()


def test_a_missing_model_says_how_to_fetch_one(tmp_path: Path) -> None:
    with pytest.raises(SegmentationError) as caught:
        load_segmenter(tmp_path / "best.pt", people_classes={})
    assert caught.value.code == "segmentation.not_found"
    assert "scp -P 4000 user@HOST:/storage/other/best.pt " in (caught.value.hint or "")


@pytest.mark.shared_data
def test_real_photos_as_ultralytics_predicts_them() -> None:
    model = SHARED / "models" / "person_real.pt"
    photos = sorted((SHARED / "data" / "penn_fudan" / "images").glob("*.jpg"))[:12]
    if not model.exists() or not photos:
        pytest.skip(f"no real photographs: {SHARED} is missing")
    images = [read_photo(path) for path in photos]
    ours = load_segmenter(model, people_classes={}).predict(images)
    theirs: list[list[Person]] = []
    with quiet_ultralytics():
        from ultralytics.models import YOLO

        yolo = YOLO(str(model))
        for image in images:
            bgr = np.ascontiguousarray(image[..., ::-1])
            (result,) = yolo.predict(bgr, imgsz=288, conf=0.4, retina_masks=True, verbose=False)
            outlines = result.masks.xyn if result.masks is not None else []
            theirs.append(
                [
                    Person("person", float(conf), tuple(box), (outline.astype(np.float64),))  # type: ignore[arg-type]
                    for conf, box, outline in zip(
                        result.boxes.conf.tolist(), result.boxes.xyxy.tolist(), outlines, strict=True
                    )
                ]
            )
    sizes = [(image.shape[0], image.shape[1]) for image in images]
    agreement = compare_people(ours, theirs, sizes, borderline=0.4)
    assert agreement.only_first == agreement.only_second == 0
    assert agreement.box_px < 1.5
    assert agreement.mask_iou_mean > 0.97
