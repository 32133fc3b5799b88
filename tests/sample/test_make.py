"""Whole sets: same bytes again, kills, refusals, truth and archives."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from cls.errors import SampleError
from cls.sample.config import SampleConfig
from cls.sample.figure.wardrobe import GROUPS
from cls.sample.make import make_sample
from cls.sample.plan import Plan
from cls.settings import REPOSITORY

SIZE = (320, 240)
CONFIG = SampleConfig(48, 4, "320x240", wrong_labels=0.25, corrupt=0.125, archives=True, workers=1)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as lines:
        return list(csv.DictReader(lines))


def content(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    directory = tmp_path_factory.mktemp("sample") / "set"
    make_sample(directory, CONFIG)
    return directory


def test_the_set_holds_what_the_format_says(whole):
    tags, truth = rows(whole / "tags.csv"), rows(whole / "truth.csv")
    assert list(tags[0]) == ["file", "tags", "picset"]
    assert list(truth[0]) == ["file", "tags", "picset", "person", "wrong", "corrupt"]
    assert [row["file"] for row in tags] == [row["file"] for row in truth]
    assert {row["file"] for row in tags} == {path.name for path in (whole / "images").iterdir()}
    assert json.loads((whole / "groups.json").read_text()) == GROUPS
    assert json.loads((whole / "sample.json").read_text())["seed"] == 4
    known = {name for names in GROUPS.values() for name in names}
    assert {tag for row in tags for tag in row["tags"].split(";") if tag} <= known
    assert not (whole / "journal.jsonl").exists()


def test_photos_of_a_picset_have_the_same_true_tags_and_person(whole):
    by_picset: dict[str, set[tuple[str, str]]] = {}
    for row in rows(whole / "truth.csv"):
        by_picset.setdefault(row["picset"], set()).add((row["tags"], row["person"]))
    assert all(len(found) == 1 for found in by_picset.values())
    assert len({found.copy().pop()[1] for found in by_picset.values()}) == len(by_picset)


def test_wrong_rows_are_exactly_those_the_truth_lists(whole):
    tags, truth = rows(whole / "tags.csv"), rows(whole / "truth.csv")
    assert sum(bool(row["wrong"]) for row in truth) == 12
    for given, true in zip(tags, truth, strict=True):
        assert (given["tags"] != true["tags"]) == bool(true["wrong"])


def test_corrupt_files_are_exactly_those_the_truth_lists(whole):
    truth = rows(whole / "truth.csv")
    assert sum(bool(row["corrupt"]) for row in truth) == 6
    for row in truth:
        data = (whole / "images" / row["file"]).read_bytes()
        is_whole_jpeg = data[:2] == b"\xff\xd8" and data[-2:] == b"\xff\xd9"
        assert is_whole_jpeg == (not row["corrupt"])
        if is_whole_jpeg:
            assert cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR).shape == (240, 320, 3)


def test_annotations_are_coco(whole):
    document = json.loads((whole / "annotations" / "instances_default.json").read_text())
    assert [(entry["id"], entry["name"]) for entry in document["categories"]] == [(1, "girl"), (2, "man")]
    corrupt = {row["file"] for row in rows(whole / "truth.csv") if row["corrupt"]}
    assert len(document["images"]) == 48 - len(corrupt)
    assert not corrupt & {image["file_name"] for image in document["images"]}
    images = {image["id"] for image in document["images"]}
    assert {entry["image_id"] for entry in document["annotations"]} == images
    assert len({entry["id"] for entry in document["annotations"]}) == len(document["annotations"])
    for entry in document["annotations"]:
        assert entry["category_id"] in (1, 2)
        assert entry["iscrowd"] == 0
        assert all(len(polygon) >= 6 and len(polygon) % 2 == 0 for polygon in entry["segmentation"])


def test_an_archive_is_what_the_annotation_service_exports(whole):
    (path,) = sorted((whole / "archives").iterdir())
    assert path.name == "part_000.zip"
    with zipfile.ZipFile(path) as archive:
        document = json.loads(archive.read("annotations/instances_default.json"))
        names = {name for name in archive.namelist() if name.startswith("images/")}
        assert names == {f"images/{image['file_name']}" for image in document["images"]}
        name = min(names)
        assert archive.read(name) == (whole / name).read_bytes()
    assert [image["id"] for image in document["images"]] == list(range(1, len(document["images"]) + 1))


def test_the_same_command_again_draws_nothing_and_repairs_what_is_missing(whole):
    before = content(whole)
    assert make_sample(whole, CONFIG).drawn == 0
    (whole / "images" / Plan(CONFIG).file_name(30)).unlink()
    assert make_sample(whole, CONFIG).drawn == 1
    assert content(whole) == before


@pytest.mark.parametrize("change", [{"photos": 49}, {"seed": 5}, {"wrong_labels": 0.5}, {"size": "640x480"}])
def test_a_folder_with_another_set_is_refused_and_left_alone(whole, change):
    before = content(whole)
    with pytest.raises(SampleError) as caught:
        make_sample(whole, replace(CONFIG, **change))
    assert (caught.value.code, caught.value.where) == ("sample.other_parameters", str(whole))
    assert "\n" not in caught.value.line()
    assert content(whole) == before


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SampleError) as caught:
        make_sample(tmp_path, SampleConfig(4))
    assert (caught.value.code, caught.value.where) == ("sample.folder_not_empty", str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_script_that_does_not_guard_its_calls_gets_one_error(tmp_path):
    script = tmp_path / "draw.py"
    script.write_text("""from pathlib import Path
import cls
from cls.sample.make import make_sample
from cls.sample.config import SampleConfig
try:
    make_sample(Path("photos"), SampleConfig(40, 4, "128x96", workers=2))
except cls.ClsError as error:
    print(error.code)
""")
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["sample.worker_not_started"]
    assert all(line.endswith("[usage.unguarded_script]") for line in done.stderr.splitlines())


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_killed_in_the_middle_it_finishes_the_same_set_without_redoing_photos(whole, tmp_path):
    directory = tmp_path / "killed"
    command = [sys.executable, "-m", "cls", "sample", "make", str(directory), "--photos", "48", "--seed", "4"]
    command += ["--wrong-labels", "0.25", "--corrupt", "0.125", "--size", "320x240", "--archives", "--workers", "2"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    journal = directory / "journal.jsonl"
    deadline_s = time.monotonic() + 60
    while not (journal.exists() and journal.read_bytes().count(b'"index"') >= 10):
        assert process.poll() is None
        assert time.monotonic() < deadline_s
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (directory / "tags.csv").exists()
    # Workers end by themselves once their parent is gone.
    while process_count(directory):
        assert time.monotonic() < deadline_s
        time.sleep(0.05)
    done = {json.loads(line)["index"] for line in journal.read_text().split("\n") if line.endswith("}")}
    plan = Plan(CONFIG)
    stamps = {index: (directory / "images" / plan.file_name(index)).stat().st_mtime_ns for index in done}
    assert 10 <= len(stamps) < 48
    with journal.open("ab") as torn:
        torn.write(b'\n{"index": 47, "annot')
    subprocess.run(command, check=True, capture_output=True)
    for index, stamp in stamps.items():
        assert (directory / "images" / plan.file_name(index)).stat().st_mtime_ns == stamp
    assert content(directory) == content(whole)


def process_count(directory: Path) -> int:
    """Processes that still have a file of the folder open."""
    count = 0
    for handle in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            count += str(directory) in str(handle.readlink())
        except OSError:
            continue
    return count


def test_help_is_quick_and_a_bad_size_is_told_in_one_line(tmp_path):
    started_s = time.perf_counter()
    command = [sys.executable, "-X", "importtime", "-m", "cls", "sample", "make", "--help"]
    shown = subprocess.run(command, check=True, capture_output=True, text=True)
    assert "--wrong-labels" in shown.stdout
    assert "numpy" not in shown.stderr
    assert "cv2" not in shown.stderr
    assert time.perf_counter() - started_s < 5
    command = [sys.executable, "-m", "cls", "sample", "make", str(tmp_path / "x"), "--size", "10x10"]
    refused = subprocess.run(command, check=False, capture_output=True, text=True)
    assert refused.returncode == 2
    assert len(refused.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "x").exists()
