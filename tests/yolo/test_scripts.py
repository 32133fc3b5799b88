"""The scripts as users type them: archives in, a dataset out, and refusals in one line."""

from __future__ import annotations

import subprocess
import zipfile
from pathlib import Path

from cls.settings import REPOSITORY
from tests.preloaded import run_program
from tests.yolo.zips import annotation, picture, write_zip


def run(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    script = REPOSITORY / "cls" / "instance_segmentation" / name
    return run_program([str(script), *map(str, arguments)], 60)


def assert_refused(done: subprocess.CompletedProcess[str], text: str) -> None:
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert text in line


def test_from_archives_to_a_dataset(tmp_path: Path) -> None:
    names = {f"s{n}_{k}.jpg": f"picset-{n}" for n in range(4) for k in range(2)}
    write_zip(
        tmp_path / "zips" / "1.zip",
        {name: picture(number) for number, name in enumerate(names)},
        {name: [annotation()] for name in names},
        picsets=names,
    )
    parsed = run("parse_archives.py", "--input_dir", tmp_path / "zips", "--output_dir", tmp_path / "merged")
    assert parsed.returncode == 0, parsed.stderr
    assert "8 pictures from 1 archive, 0 of them without people" in parsed.stdout
    made = run("create_yolo_dataset.py", "--src_dir", tmp_path / "merged", "--dst_dir", tmp_path / "dataset")
    assert made.returncode == 0, made.stderr
    assert f"dataset: {tmp_path / 'dataset' / 'data.yaml'}" in made.stdout
    assert "train: " in made.stdout
    assert "val: " in made.stdout
    # A dataset can be moved: nothing in it names a place.
    for path in (tmp_path / "dataset").rglob("*"):
        if path.suffix in (".yaml", ".json", ".txt"):
            assert str(tmp_path) not in path.read_text()


def test_refusals(tmp_path: Path) -> None:
    output = tmp_path / "merged"
    assert_refused(run("parse_archives.py", "--input_dir", tmp_path / "none", "--output_dir", output), "no such folder")
    archive = write_zip(tmp_path / "zips" / "1.zip", {"a.jpg": picture(1)}, {"a.jpg": [annotation()]})
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr("../../out.jpg", b"x")
    assert_refused(
        run("parse_archives.py", "--input_dir", tmp_path / "zips", "--output_dir", output), "would leave its folder"
    )
    assert not output.exists()
    assert_refused(
        run("create_yolo_dataset.py", "--src_dir", tmp_path, "--dst_dir", tmp_path / "d"), "there are no annotations"
    )
    training = ("--data", tmp_path / "data.yaml", "--epochs", 1, "--model")
    assert_refused(run("train_yolo_seg.py", *training, "mine.pt"), "there is no such checkpoint")
    assert_refused(run("train_yolo_seg.py", *training, "yolov8s-seg.pt"), "--model yolov8s-seg.yaml")
    assert_refused(
        run("export_to_trt.py", "--src_path", tmp_path / "best.pt", "--dst_path", tmp_path), "there is no such model"
    )
