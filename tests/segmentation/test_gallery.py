"""mask_builder.py: cut-outs for annotators; resumable, and nothing of anybody else's is touched."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from html import unescape
from pathlib import Path

import cv2
import numpy as np
import pytest

from cls.bottle.dataset_file import GroupDataset, LabelledRow, write_dataset
from cls.bottle.layout import Bottle
from cls.cli.masks import report_lines
from cls.errors import BottleError, UsageError
from cls.people.photos import Person
from cls.pictures.database import PictureRecord, PicturesDatabase, Status
from cls.segmentation.gallery import CARDS_A_PAGE, JOURNAL_NAME, GalleryConfig, GalleryJournal, build_gallery
from cls.settings import REPOSITORY
from tests.preloaded import Program, run_program

GROUP = "hair color / 'é' <b>"
LABELS = ("black hair", "blonde & <i>")


def _square(x: float, y: float, side: float, cls: str = "female") -> Person:
    points = np.array([(x, y), (x + side, y), (x + side, y + side), (x, y + side)])
    return Person(cls, 0.9, (0.0, 0.0, 10.0, 10.0), (points,))


def _fill(bottle: Bottle, names: list[str], people: dict[str, list[Person] | None] | None = None) -> None:
    """A group of drawn photos, each with a small man and a larger woman unless told otherwise."""
    bottle.pictures.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name in names:
        image = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (320, 240))
        encoded = cv2.imencode(".png" if name.endswith(".png") else ".jpg", image)[1]
        bottle.picture(name).write_bytes(encoded.tobytes())
    rows = [LabelledRow(name, (float(n % 2), float(n % 3 == 0)), f"set {n // 4}") for n, name in enumerate(names)]
    write_dataset(bottle.dataset_file(GROUP), GroupDataset(GROUP, LABELS, tuple(rows)))
    default = [_square(0.1, 0.1, 0.2, "male"), _square(0.4, 0.2, 0.5)]
    records = []
    for name in names:
        found = (people or {}).get(name, default)
        records.append(PictureRecord(name, "best", Status.UNCHECKED, None if found is None else tuple(found)))
    with PicturesDatabase.open(bottle.database_url) as database:
        database.write_people(records, replace=True)


def _files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


def test_cut_outs_and_their_page(bottle: Bottle) -> None:
    _fill(bottle, ["a.jpeg", "b.jpeg"])
    report = build_gallery(bottle, GROUP, GalleryConfig(people="all"))
    folder = bottle.masks(GROUP)
    assert _files(folder) == ["a_0.png", "a_1.png", "b_0.png", "b_1.png", "index.html"]
    assert (report.made, report.kept, report.pages) == (4, 0, [folder / "index.html"])
    image = cv2.imread(str(folder / "a_1.png"), cv2.IMREAD_UNCHANGED)
    assert image.shape[2] == 4
    assert image[image.shape[0] // 2, image.shape[1] // 2, 3] == 255
    assert image[0, 0].tolist() == [0, 0, 0, 0]
    photo = cv2.imread(str(bottle.picture("a.jpeg")))
    middle = photo[int(0.45 * 240), int(0.65 * 320)].astype(int)
    assert np.abs(image[image.shape[0] // 2, image.shape[1] // 2, :3] - middle).max() < 12
    page = (folder / "index.html").read_text()
    assert "<i>" not in page.split("<style>")[1]
    assert GROUP in unescape(page)
    assert 'href="../../pictures/a.jpeg"' in page
    assert str(bottle.root) not in page


def test_whom_to_show(bottle: Bottle) -> None:
    _fill(bottle, ["a.jpeg", "b.jpeg", "c.jpeg"], {"b.jpeg": [_square(0.1, 0.1, 0.3, "male")], "c.jpeg": []})
    assert build_gallery(bottle, GROUP, GalleryConfig()).made == 2
    report = build_gallery(bottle, GROUP, GalleryConfig(subject="female"))
    assert (report.kept, report.removed) == (1, 1)
    assert report.left_out == {"nobody of those asked for": 1, "nobody found": 1}
    assert _files(bottle.masks(GROUP)) == ["a_0.png", "index.html"]
    report = build_gallery(bottle, GROUP, GalleryConfig(format="jpg", size_px=64))
    assert _files(bottle.masks(GROUP)) == ["a_0.jpg", "b_0.jpg", "index.html"]
    assert max(cv2.imread(str(bottle.masks(GROUP) / "a_0.jpg")).shape) == 64
    with pytest.raises(UsageError) as caught:
        GalleryConfig(size_px=0)
    assert caught.value.code == "usage.invalid_options"
    assert "--size" in caught.value.what


def test_what_is_left_out_is_counted(bottle: Bottle) -> None:
    _fill(bottle, ["a.jpeg", "bad.jpeg", "gone.jpeg", "new.jpeg", "broken.jpeg"], {"new.jpeg": None})
    with PicturesDatabase.open(bottle.database_url) as database:
        database.set_status(["bad.jpeg"], Status.REJECTED)
    bottle.picture("gone.jpeg").unlink()
    bottle.picture("broken.jpeg").write_bytes(b"no picture")
    report = build_gallery(bottle, GROUP, GalleryConfig())
    assert report.made == 1
    assert report.left_out == {"rejected": 1, "the picture is not in the pool": 1, "not segmented yet": 1}
    assert report.failed.keys() == {"broken.jpeg"}
    assert any("broken.jpeg left out: is not a picture" in line for line in report_lines(report))


def test_made_again_only_when_something_changed(bottle: Bottle) -> None:
    _fill(bottle, ["a.jpeg", "b.jpeg"])
    build_gallery(bottle, GROUP, GalleryConfig())
    before = {name: (bottle.masks(GROUP) / name).stat().st_mtime_ns for name in ("a_0.png", "b_0.png")}
    with PicturesDatabase.open(bottle.database_url) as database:
        changed = PictureRecord("b.jpeg", "new", Status.UNCHECKED, (_square(0.0, 0.0, 0.9),))
        database.write_people([changed], replace=True)
    (bottle.masks(GROUP) / "a_0.png").rename(bottle.root / "moved.png")
    report = build_gallery(bottle, GROUP, GalleryConfig())
    assert (report.made, report.kept) == (2, 0)
    after = {name: (bottle.masks(GROUP) / name).stat().st_mtime_ns for name in ("a_0.png", "b_0.png")}
    assert all(after[name] > before[name] for name in before)
    assert build_gallery(bottle, GROUP, GalleryConfig()).kept == 2


def test_a_file_of_somebody_else_stays(bottle: Bottle) -> None:
    _fill(bottle, ["a.jpeg", "b.jpeg"])
    folder = bottle.masks(GROUP)
    folder.mkdir(parents=True)
    (folder / "a_0.png").write_bytes(b"an annotator's own")
    (folder / "notes_0.png").write_bytes(b"notes")
    report = build_gallery(bottle, GROUP, GalleryConfig())
    assert (report.made, report.foreign) == (1, ["a_0.png"])
    assert (folder / "a_0.png").read_bytes() == b"an annotator's own"
    build_gallery(bottle, GROUP, GalleryConfig(subject="nobody"))
    assert _files(folder) == ["a_0.png", "index.html", "notes_0.png"]


def test_pictures_that_differ_in_their_extension_alone(bottle: Bottle) -> None:
    _fill(bottle, ["a.jpeg", "a.png", "b.jpeg"])
    build_gallery(bottle, GROUP, GalleryConfig())
    assert _files(bottle.masks(GROUP)) == ["a.jpeg_0.png", "a.png_0.png", "b_0.png", "index.html"]


def test_many_cut_outs_take_several_pages(bottle: Bottle) -> None:
    names = [f"{n:04}.jpeg" for n in range(30)]
    crowd = [_square(0.02 * n, 0.1, 0.05) for n in range(20)]
    _fill(bottle, names, dict.fromkeys(names, crowd))
    report = build_gallery(bottle, GROUP, GalleryConfig(people="all", size_px=32))
    assert [page.name for page in report.pages] == ["index.html", "index_2.html"]
    assert report.pages[0].read_text().count("<article") == CARDS_A_PAGE
    assert report.pages[1].read_text().count("<article") == 600 - CARDS_A_PAGE
    build_gallery(bottle, GROUP, GalleryConfig(size_px=32))
    assert not report.pages[1].exists()


def test_a_journal_that_leads_elsewhere_is_not_followed(bottle: Bottle, tmp_path: Path) -> None:
    _fill(bottle, ["a.jpeg"])
    victim = tmp_path / "victim.png"
    victim.write_bytes(b"precious")
    bottle.masks(GROUP).mkdir(parents=True)
    (bottle.masks(GROUP) / JOURNAL_NAME).write_text(
        f'{{"file": "{os.path.relpath(victim, bottle.masks(GROUP))}", "key": "x"}}\nrubbish\n{{"file": "a_0.p'
    )
    build_gallery(bottle, GROUP, GalleryConfig())
    assert victim.read_bytes() == b"precious"


def test_before_segmentation_the_next_step_is_named(bottle: Bottle) -> None:
    with pytest.raises(BottleError) as caught:
        build_gallery(bottle, GROUP, GalleryConfig())
    assert "load-group" in (caught.value.hint or "")
    _fill(bottle, ["a.jpeg"], {"a.jpeg": None})
    with pytest.raises(BottleError) as caught:
        build_gallery(bottle, GROUP, GalleryConfig())
    assert caught.value.code == "bottle.not_segmented"
    assert "cls segment" in (caught.value.hint or "")
    assert not bottle.masks(GROUP).exists()


def test_killed_in_the_middle_it_goes_on(bottle: Bottle, configuration: Callable[..., Path]) -> None:
    names = [f"{n:04}.jpeg" for n in range(150)]
    _fill(bottle, names)
    folder = bottle.masks(GROUP)
    script = "cls/classification/mask_builder.py"
    words = [script, "--group", GROUP, "--people", "all", "--cfg", str(configuration())]
    process = Program(words, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline_s = time.monotonic() + 60
    while len(list(folder.glob("*.png"))) < 40 and time.monotonic() < deadline_s:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    n_finished = len(list(folder.glob("*.png")))
    assert 40 <= n_finished < 300
    done = run_program(words, 120, cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert len(list(folder.glob("*.png"))) == 300
    assert not list(folder.glob(".*.part"))
    made = int(done.stdout.split(": ")[1].split(" made")[0])
    assert 300 - n_finished <= made <= 300 - n_finished + 1
    assert "0 made, 300 were there" in run_program(words, 60, cwd=REPOSITORY).stdout
    assert len(GalleryJournal(folder).files) == 301
