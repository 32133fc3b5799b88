from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cls.cli.yolo import merge_lines
from cls.errors import YoloError
from cls.people.photos import read_photo
from cls.yolo.coco import AnnotationFile, list_archives, open_archives, parse_coco
from cls.yolo.merging import MergeReport, merge_archives
from tests.yolo.zips import annotation, picture, write_zip


def merge(folder: Path, **options: bool) -> tuple[MergeReport, AnnotationFile, Path]:
    output = folder.parent / "merged"
    report = merge_archives(open_archives(list_archives(folder)), output, **options)
    content = json.loads((output / "annotations" / "instances_default.json").read_text())
    return report, parse_coco(content, where="merged"), output


def test_archives_become_one_folder(tmp_path: Path) -> None:
    zips = tmp_path / "zips"
    same = picture(1)
    write_zip(zips / "1.zip", {"d/a.jpg": same, "b.jpg": picture(2)}, {"d/a.jpg": [], "b.jpg": [annotation()]})
    write_zip(
        zips / "more" / "2.zip",
        {"x.jpg": same, "b.jpg": picture(3)},
        {"x.jpg": [annotation(name="man")], "b.jpg": [], "gone.jpg": [annotation()]},
    )
    report, merged, output = merge(zips)
    by_name = {one.file_name: one for one in merged.pictures}
    # The same bytes once, with the annotation that is not empty; another picture of one name beside.
    assert len(by_name) == report.pictures == 3
    assert [shape.class_name for shape in by_name["a.jpg"].annotations] == ["man"]
    assert sum(name.startswith("b") for name in by_name) == 2
    assert all((output / "images" / name).is_file() for name in by_name)
    assert report.duplicates == ["1.zip!d/a.jpg and 2.zip!x.jpg: the annotation of 2.zip!x.jpg"]
    assert report.problems == ["2.zip!gone.jpg: the archive does not hold this picture"]
    assert report.empty == 1


def test_doing_it_again_changes_nothing(tmp_path: Path) -> None:
    zips = tmp_path / "zips"
    write_zip(zips / "1.zip", {"a.jpg": picture(1)}, {"a.jpg": [annotation()]})
    _, _, output = merge(zips)
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (output / "images").iterdir()}
    annotations = (output / "annotations" / "instances_default.json").read_bytes()
    merge(zips)
    assert {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (output / "images").iterdir()} == before
    assert (output / "annotations" / "instances_default.json").read_bytes() == annotations


# Mirrored and half-turned pictures (2, 3, 4) have the same size both ways: they are taken as shown upright.
@pytest.mark.parametrize(
    ("orientation", "is_shown_upright"), [*((n, True) for n in range(1, 9)), *((n, False) for n in (1, 5, 6, 7, 8))]
)
def test_pictures_are_written_upright_and_outlines_follow(
    tmp_path: Path, orientation: int, is_shown_upright: bool
) -> None:
    """A red block on a stored picture; its outline as an annotator draws it on the upright or on the stored one."""
    is_turned = orientation >= 5
    stored = np.zeros((40, 60, 3), np.uint8)
    stored[5:20, 10:40] = (255, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "p.png"
    Image.fromarray(stored).save(path.with_suffix(".jpg"), quality=100, subsampling=0, exif=exif)
    content = path.with_suffix(".jpg").read_bytes()
    shown = read_photo(path.with_suffix(".jpg")) if is_shown_upright else stored
    rows, columns = np.nonzero(shown[..., 0] > 128)
    left, right, top, bottom = columns.min(), columns.max() + 1, rows.min(), rows.max() + 1
    outline = {
        "class": "girl",
        "segmentation": [[int(v) for v in (left, top, right, top, right, bottom, left, bottom)]],
    }
    size = (shown.shape[1], shown.shape[0])
    write_zip(tmp_path / "zips" / "1.zip", {"p.jpg": content}, {"p.jpg": [outline]}, sizes={"p.jpg": size})
    report, merged, output = merge(tmp_path / "zips")
    assert report.problems == []
    (one,) = merged.pictures
    assert (one.width_px, one.height_px) == ((40, 60) if is_turned else (60, 40))
    with Image.open(output / "images" / one.file_name) as written:
        pixels = np.asarray(written.convert("RGB"))
        assert written.getexif().get(0x0112, 1) == 1
    points = one.annotations[0].polygons_xy_px[0]
    x0, y0, x1, y1 = (int(v) for v in (*points.min(axis=0), *points.max(axis=0)))
    assert (x1 - x0) * (y1 - y0) == 15 * 30
    assert (pixels[y0 + 1 : y1 - 1, x0 + 1 : x1 - 1, 0] > 200).all()


def test_an_annotation_of_another_size_is_scaled_or_refused(tmp_path: Path) -> None:
    zips = tmp_path / "zips"
    write_zip(
        zips / "1.zip",
        {"even.jpg": picture(1), "odd.jpg": picture(2)},
        {"even.jpg": [annotation(120, 80)], "odd.jpg": [annotation(77, 40)]},
        sizes={"even.jpg": (120, 80), "odd.jpg": (77, 40)},
    )
    report, merged, _ = merge(zips)
    (even,) = merged.pictures
    assert even.annotations[0].polygons_xy_px[0].max(axis=0).tolist() == [30, 30]
    assert report.problems == ["1.zip!odd.jpg: the picture is 60x40, its annotation was made on 77x40"]


def test_backgrounds_can_be_left_out(tmp_path: Path) -> None:
    zips = tmp_path / "zips"
    write_zip(zips / "1.zip", {"a.jpg": picture(1), "b.jpg": picture(2)}, {"a.jpg": [annotation()], "b.jpg": []})
    report, merged, _ = merge(zips, is_empty_kept=False)
    assert [one.file_name for one in merged.pictures] == ["a.jpg"]
    assert report.empty == 0


def test_nothing_usable_is_an_error(tmp_path: Path) -> None:
    write_zip(tmp_path / "zips" / "1.zip", {"a.jpg": b"broken"}, {"a.jpg": [annotation()]})
    with pytest.raises(YoloError) as caught:
        merge(tmp_path / "zips")
    assert caught.value.code == "yolo.no_usable_picture"
    assert "1.zip!a.jpg" in caught.value.line()
    assert not (tmp_path / "merged" / "annotations").exists()


def test_one_is_not_called_many() -> None:
    one = MergeReport(pictures=1, archives=1, turned=1, duplicates=["a.jpg"], crowds=1)
    assert merge_lines(one) == [
        "1 picture from 1 archive, 0 of them without people",
        "outlined: none",
        "1 outline marked as a crowd (painted masks), each of them taken as one person",
        "1 picture turned upright",
        "1 picture of several archives kept once",
    ]
