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


def assert_refused(code: str, name: str, *arguments: object) -> str:
    """One line on stderr, which `--debug` ends with the code; returns the line."""
    done, debugged = run(name, *arguments), run(name, *arguments, "--debug")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert debugged.stderr.splitlines()[-1] == f"{line} [{code}]"
    return line


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
    line = assert_refused(
        "yolo.not_found", "parse_archives.py", "--input_dir", tmp_path / "none", "--output_dir", output
    )
    assert str(tmp_path / "none") in line
    archive = write_zip(tmp_path / "zips" / "1.zip", {"a.jpg": picture(1)}, {"a.jpg": [annotation()]})
    with zipfile.ZipFile(archive, "a") as opened:
        opened.writestr("../../out.jpg", b"x")
    assert_refused("yolo.path_traversal", "parse_archives.py", "--input_dir", tmp_path / "zips", "--output_dir", output)
    assert not output.exists()
    assert_refused("yolo.no_annotations", "create_yolo_dataset.py", "--src_dir", tmp_path, "--dst_dir", tmp_path / "d")
    training = ("--data", tmp_path / "data.yaml", "--epochs", 1, "--model")
    assert "mine.pt" in assert_refused("yolo.not_found", "train_yolo_seg.py", *training, "mine.pt")
    line = assert_refused("yolo.offline", "train_yolo_seg.py", *training, "yolov8s-seg.pt")
    assert "--model yolov8s-seg.yaml" in line
    line = assert_refused(
        "segmentation.not_found", "export_to_trt.py", "--src_path", tmp_path / "best.pt", "--dst_path", tmp_path
    )
    assert str(tmp_path / "best.pt") in line
