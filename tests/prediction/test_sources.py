"""What can be looked at, what comes out, and that an interrupted run ends as an undisturbed one."""

from __future__ import annotations

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars
import pytest
from filelock import FileLock, Timeout

from cls.errors import FileError, PredictionError, UsageError
from cls.people.photos import read_photo
from cls.prediction import session
from cls.prediction.journal import JournalEntry, PredictionJournal, lock_of, open_journal
from cls.prediction.sources import FrameInterval, finds_below, frames_of, parse_frame_interval, sources_of
from tests.bottles import GROUP
from tests.exporting.runs import ExportedBottle
from tests.prediction.inferring import error_of, infer, lines_of, write_video
from tests.preloaded import Program


def test_folders_files_and_patterns(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "a/deep/2.PNG", "b/3.jpeg", "b/notes.txt", "clip.avi", "a/.hidden.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")

    def names(*given: object) -> list[str]:
        sources = sources_of([str(text) for text in given])
        return [sources.name(file) for file in (*sources.photos, *sources.videos)]

    assert names(tmp_path) == ["a/1.jpg", "a/deep/2.PNG", "b/3.jpeg"]
    assert names(tmp_path / "*" / "*.jp*g") == ["a/1.jpg", "b/3.jpeg"]
    assert names(tmp_path / "**" / "*") == ["a/1.jpg", "a/deep/2.PNG", "b/3.jpeg", "clip.avi"]
    assert names(tmp_path / "a", tmp_path / "b" / "3.jpeg") == ["a/1.jpg", "a/deep/2.PNG", "b/3.jpeg"]
    assert names(tmp_path / "clip.avi") == ["clip.avi"]
    for missing in ("nothing", "*.gif"):
        with pytest.raises(FileError):
            names(tmp_path / missing)


def test_whether_a_folder_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photos = tmp_path / "photos"
    (photos / "day1").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for given in (".", "photos", "photos/**/*.jpeg", "**/*.jpg", "ph*/s*/*/*.jpg", str(photos / "**" / "*.jpg")):
        assert finds_below([given], photos / "sorted"), given
    assert finds_below(["photos"], photos)
    assert finds_below(["other/*.jpg", "photos/**/*.jpg"], Path("photos"))
    for given in ("photos/day1", "photos/*.jpg", "*.jpg", "photos/day*/*.jpg", "photos/1.jpg", "other/**/*.jpg"):
        assert not finds_below([given], photos / "sorted"), given
    assert not finds_below(["photos"], tmp_path / "sorted")


def test_every() -> None:
    assert (parse_frame_interval("30"), parse_frame_interval("0.5s")) == (FrameInterval(30, 0.0), FrameInterval(0, 0.5))
    for text in ("", "0", "-3", "1.5", "s", "0s", "often"):
        with pytest.raises(UsageError) as caught:
            parse_frame_interval(text)
        assert caught.value.code == "usage.invalid_option_value"
        assert "--every" in caught.value.what
        assert f"'{text}'" in caught.value.what


def test_frames(exported: ExportedBottle, tmp_path: Path) -> None:
    video = write_video(exported, tmp_path / "clip.avi")
    assert [frame.number for frame in frames_of(video, FrameInterval(5))] == [0, 5, 10, 15, 20]
    assert [(frame.number, frame.time_s) for frame in frames_of(video, FrameInterval(0, 1.0))] == [
        (0, 0),
        (8, 1),
        (16, 2),
    ]
    (tmp_path / "cut.avi").write_bytes(video.read_bytes()[: video.stat().st_size // 2])
    (tmp_path / "no.mp4").write_bytes(b"no video at all")
    seen = []
    with pytest.raises(FileError) as caught:
        seen.extend(frames_of(tmp_path / "cut.avi", FrameInterval(1)))
    assert (caught.value.code, caught.value.where) == ("file.cut_short", str(tmp_path / "cut.avi"))
    assert f"{len(seen)} of 24 frames" in caught.value.what
    assert 5 < len(seen) < 20
    with pytest.raises(FileError) as caught:
        list(frames_of(tmp_path / "no.mp4", FrameInterval(1)))
    assert (caught.value.code, caught.value.where) == ("file.not_a_video", str(tmp_path / "no.mp4"))


def test_a_video_and_one_that_is_none(
    exported: ExportedBottle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_video(exported, tmp_path / "clip.avi")
    (tmp_path / "no.mp4").write_bytes(b"no video")
    out = tmp_path / "out"
    arguments = ("--group", GROUP, "--whole", "--every", "2", "--sort-into", tmp_path / "sorted", "--out", out)
    assert infer(exported, "--source", tmp_path / "*.*", *arguments) == 0
    lines = lines_of(out)
    assert [(line["picture"], line["frame"]) for line in lines] == [("clip.avi", number) for number in range(0, 24, 2)]
    assert lines[4]["time_s"] == 1.0
    printed = capsys.readouterr().out
    assert "12 people in 12 frames" in printed
    assert "no.mp4: is not a video that can be read" in printed
    pictures = list((tmp_path / "sorted").rglob("clip.avi_*.jpg"))
    assert len({picture.name for picture in pictures}) == 12
    assert read_photo(pictures[0]).ndim == 3
    head = (out / "predictions.csv").read_text().splitlines()[0]
    assert head.startswith("picture,frame,time_s,person,class,conf")
    error = error_of(exported, "--source", tmp_path / "no.mp4", "--group", GROUP, "--whole", "--out", tmp_path / "x")
    assert (error.code, error.where) == ("prediction.no_usable_photo", str(tmp_path / "no.mp4"))


def test_parquet_holds_what_the_others_do(copied: ExportedBottle, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert infer(copied, "--group", GROUP, "--format", "parquet,csv,jsonl", "--out", out) == 0
    assert infer(copied, "--group", GROUP, "--out", tmp_path / "alone.parquet") == 0
    names = sorted(path.name for path in tmp_path.iterdir() if not path.name.startswith("."))
    assert names == ["alone.parquet", "copy", "out"]
    table = polars.read_parquet(out / "predictions.parquet")
    assert table.equals(polars.read_parquet(tmp_path / "alone.parquet"))
    lines = lines_of(out)
    assert table["picture"].to_list() == [line["picture"] for line in lines]
    assert table["labels"].to_list() == [line["labels"] for line in lines]
    assert table["p red top"].to_list() == [line["probs"]["red top"] for line in lines]
    assert table.columns == (out / "predictions.csv").read_text().splitlines()[0].split(",")


def test_other_peoples_files_stay(copied: ExportedBottle, tmp_path: Path) -> None:
    (tmp_path / "predictions.csv").write_text("my,own,table\n")
    (tmp_path / "mine.parquet").write_bytes(b"PAR1 no")
    error = error_of(copied, "--group", GROUP, "--out", tmp_path)
    assert (error.code, error.where) == ("file.already_exists", str(tmp_path / "predictions.csv"))
    error = error_of(copied, "--group", GROUP, "--out", tmp_path / "mine.parquet")
    assert (error.code, error.where) == ("file.already_exists", str(tmp_path / "mine.parquet"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["copy", "mine.parquet", "predictions.csv"]
    for options, code in (
        (["--format", "xlsx"], "usage.unknown_option_value"),
        (["--out", tmp_path / "a.csv", "--format", "jsonl"], "usage.options_conflict"),
        (["--every", "x"], "usage.invalid_option_value"),
    ):
        error = error_of(copied, "--group", GROUP, *options)
        assert error.code == code
        assert str(options[0]) in error.what


def test_sorted_again_by_another_threshold(
    copied: ExportedBottle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    into = tmp_path / "sorted"
    arguments = ("--group", GROUP, "--out", tmp_path / "out", "--sort-into", into)
    assert infer(copied, *arguments, "--conf_thresh", "0") == 0
    labels = copied.run.labels
    assert all(len(list((into / label).iterdir())) == 24 for label in labels)
    assert (into / labels[0] / "0003.jpeg").samefile(copied.bottle.picture("0003.jpeg"))
    (into / labels[0] / "mine.txt").write_text("mine")
    (into / "none of them").mkdir()
    (into / "none of them" / "0003.jpeg").write_bytes(b"mine too")
    assert infer(copied, *arguments, "--conf_thresh", "1") == 0
    assert "not sorted, since other files have these names there: 1 (none of them/0003.jpeg)" in capsys.readouterr().out
    assert sorted(path.name for path in into.iterdir() if path.name[0] != ".") == sorted([labels[0], "none of them"])
    assert [path.name for path in (into / labels[0]).iterdir()] == ["mine.txt"]
    assert (into / "none of them" / "0003.jpeg").read_bytes() == b"mine too"
    assert len(list((into / "none of them").iterdir())) == 24
    error = error_of(copied, "--source", into.parent, "--group", GROUP, "--whole", "--sort-into", into)
    assert error.code == "usage.folder_inside_source"


def test_done_pictures_are_not_done_again(
    copied: ExportedBottle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, whole = tmp_path / "out", tmp_path / "whole"
    assert infer(copied, "--group", GROUP, "--out", whole) == 0
    looked: list[int] = []
    original = session.records_of_photos

    def until_the_second(*arguments: object) -> object:
        for number, records in enumerate(original(*arguments)):
            if number == 1:
                raise KeyboardInterrupt
            looked.append(len(records))
            yield records

    monkeypatch.setattr(session, "records_of_photos", until_the_second)
    assert infer(copied, "--group", GROUP, "--out", out) == 130
    assert not (out / "predictions.csv").exists()
    journal = out / ".predictions.journal"
    with journal.open("ab") as stream:  # a line cut off by a kill
        stream.write(b'{"key": "ab')

    def counting(*arguments: object) -> object:
        for records in original(*arguments):
            looked.append(len(records))
            yield records

    monkeypatch.setattr(session, "records_of_photos", counting)
    assert infer(copied, "--group", GROUP, "--out", out) == 0
    assert looked == [8, 8, 8]
    for name in ("predictions.csv", "predictions.jsonl", "contact_sheet.html"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert infer(copied, "--group", GROUP, "--out", out, "--conf_thresh", "0") == 0
    assert looked == [8, 8, 8]
    assert all(len(line["labels"]) == 3 for line in lines_of(out))
    # A photo that changed is looked at again, and so is everything by another model or other people.
    os.utime(copied.bottle.picture("0009.jpeg"))
    assert infer(copied, "--group", GROUP, "--out", out) == 0
    assert looked[3:] == [8]
    assert infer(copied, "--group", GROUP, "--out", out, "--model", copied.run.folder) == 0
    assert looked[4:] == [8, 8, 8]


def test_pictures_that_failed_are_tried_again(
    copied: ExportedBottle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photo = copied.bottle.picture("0002.jpeg")
    content, state = photo.read_bytes(), photo.stat()
    photo.write_bytes(b"x" * len(content))
    os.utime(photo, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert infer(copied, "--group", GROUP, "--out", tmp_path / "out") == 0
    assert "0002.jpeg: is not a picture" in capsys.readouterr().out
    with monkeypatch.context() as alone:
        alone.setattr("cls.prediction.session.records_of_chunk", None)  # no second look at those beside it
        assert infer(copied, "--group", GROUP, "--out", tmp_path / "out") == 0
    assert "0002.jpeg: is not a picture" in capsys.readouterr().out
    photo.write_bytes(content)
    os.utime(photo, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert infer(copied, "--group", GROUP, "--out", tmp_path / "out") == 0
    assert "24 people in 24 photos" in capsys.readouterr().out


def test_killed_in_the_middle(copied: ExportedBottle, tmp_path: Path) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    for number in range(200):
        shutil.copy(copied.bottle.picture(f"{number % 24:04d}.jpeg"), source / f"{number:04d}.jpeg")
    script = Path(session.__file__).parent.parent / "classification" / "inference.py"
    words = ["--source", source, "--group", GROUP, "--whole"]
    out = tmp_path / "out"
    journal = out / ".predictions.journal"
    command = [str(script), *map(str, words), "--cfg", str(copied.cfg), "--out", str(out)]
    process = Program(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None and not (journal.exists() and journal.stat().st_size > 10_000):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = len(journal.read_bytes().splitlines()) - 1
    assert 0 < done < 200
    assert infer(copied, *words, "--out", out) == 0
    assert infer(copied, *words, "--out", tmp_path / "whole") == 0
    for name in ("predictions.csv", "predictions.jsonl", "contact_sheet.html"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_journal_of_another_inference_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    first = PredictionJournal(path, "one")
    first.finish()
    first.close()
    path.write_bytes(path.read_bytes() + b"damaged\n" + b'{"key": "a"}\n')
    again = PredictionJournal(path, "one")
    assert ("a" in again, len(again)) == (True, 1)
    again.close()
    other = PredictionJournal(path, "two")
    assert len(other) == 0
    other.close()


def test_an_output_that_is_being_written(copied: ExportedBottle, tmp_path: Path) -> None:
    with open_journal(tmp_path / ".predictions.journal", "x"):
        error = error_of(copied, "--group", GROUP, "--out", tmp_path)
    assert (error.code, error.where) == ("prediction.output_in_use", str(tmp_path))
    assert np.array_equal(sorted(path.name for path in tmp_path.iterdir()), ["copy"])


def test_the_lock_goes_when_nobody_predicts_any_more(tmp_path: Path) -> None:
    journal = tmp_path / ".predictions.journal"
    with open_journal(journal, "x") as kept:
        kept.add([JournalEntry("a")])
        assert lock_of(journal).exists()
        with pytest.raises(PredictionError) as caught, open_journal(journal, "x"):
            pass
        assert caught.value.code == "prediction.output_in_use"
        assert lock_of(journal).exists(), "who came too late must not remove it"
        # Who has opened the file before it went holds nothing that anybody else looks for.
        late = lock_of(journal).open("rb")
    assert [path.name for path in tmp_path.iterdir()] == [journal.name]
    with late:
        assert os.fstat(late.fileno()).st_nlink == 0
        fcntl.flock(late, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with open_journal(journal, "x"):
            pass
    assert [path.name for path in tmp_path.iterdir()] == [journal.name]


class _LockThatGoes(FileLock):
    """Another process ends between our opening of the lock and our taking it."""

    goes: ClassVar[list[Callable[[Path], None]]] = []

    def acquire(self, *arguments: Any, **options: Any) -> Any:
        if self.goes:
            self.goes.pop()(Path(self.lock_file))
        return super().acquire(*arguments, **options)


def _refused_and_gone(lock: Path) -> None:
    raise Timeout(str(lock))


def _gone_with_its_folder(lock: Path) -> None:
    lock.parent.rmdir()
    raise FileNotFoundError(lock)


def test_a_lock_that_goes_while_it_is_taken_is_nobodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cls.prediction.journal.FileLock", _LockThatGoes)
    folder = tmp_path / "out"
    _LockThatGoes.goes[:] = [_refused_and_gone, _gone_with_its_folder]
    with open_journal(folder / ".predictions.journal", "x") as journal:
        journal.add([JournalEntry("a")])
    assert not _LockThatGoes.goes
    assert [path.name for path in folder.iterdir()] == [".predictions.journal"]


def test_an_output_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    for folder in (tmp_path / "out", tmp_path / "out" / "deeper"):
        with pytest.raises(FileError) as caught, open_journal(folder / ".a.journal", "x"):
            pass
        assert (caught.value.code, caught.value.where) == ("file.unwritable", str(folder))
        assert "\n" not in caught.value.line()


def test_one_at_a_time_writes_an_output(tmp_path: Path) -> None:
    """Two processes and a folder that goes with each: nobody is ever there beside another, and both get their turns."""
    code = (
        "import sys, pathlib\n"
        "from cls.errors import PredictionError\n"
        "from cls.prediction.journal import open_journal\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "done = 0\n"
        "while done < 60:\n"
        "    try:\n"
        "        with open_journal(folder / '.predictions.journal', 'x'):\n"
        "            (folder / 'alone').mkdir()\n"
        "            (folder / 'alone').rmdir()\n"
        "        done += 1\n"
        "    except PredictionError as error:\n"
        "        assert 'another process' in str(error)\n"
        "print(done)\n"
    )
    folder = tmp_path / "out"
    words = [sys.executable, "-c", code, str(folder)]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [one.communicate(timeout=120)[0] for one in both] == ["60\n", "60\n"]
    assert not folder.exists()
