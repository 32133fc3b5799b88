"""`cls forget` on a bottle in which every room has left something: nothing of the pictures is left anywhere."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
from filelock import FileLock

from cls.bottle.dataset_file import read_dataset
from cls.dataset.cache import FolderUse, record_folders
from cls.errors import BottleError, UsageError
from cls.forgetting.removal import allow, forget, lock_bottle
from cls.prediction.journal import JournalEntry, lock_of, open_journal
from cls.settings import REPOSITORY
from cls.training.runs.run import open_run
from tests.bottles import train_tiny_run
from tests.forgetting.bottles import GROUPS, FullBottle
from tests.preloaded import run_program
from tests.segmentation.samples import MODEL, run_builder

# Kills its process at the N-th file that is removed or put into place below a folder.
_KILLED = """
import os, signal, sys
from cls.cli.forget import COMMAND
from cls.cli.command import execute
left, root = int(sys.argv[1]), sys.argv[2]
def hook(event, args):
    global left
    if event in ("os.remove", "os.rename", "os.rmdir") and os.fspath(args[0]).startswith(root):
        left -= 1
        if not left:
            os.kill(os.getpid(), 9)
sys.addaudithook(hook)
sys.exit(execute(COMMAND, sys.argv[3:]))
"""


def everything_of(full: FullBottle, picset: str) -> list[str | bytes]:
    """What is searched for: a picset's GUID, its pictures' names without endings, bytes of theirs and of cut-outs."""
    names = full.pictures_of(picset)
    photos = [full.bottle.picture(name).read_bytes() for name in names]
    cutouts = full.cutouts_of(names)
    assert len(names) >= 2
    assert len(cutouts) == len(names)
    return [picset, *(Path(name).stem for name in names), *(photo[-300:-200] for photo in photos), *cutouts]


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("pictures.sqlite")]
    return {str(path): path.read_bytes() for path in files}


def without_locks(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if not name.endswith(".lock")}


def last_error(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().err.strip().splitlines()[-1]


def test_it_shows_what_would_go_and_changes_nothing(copied: FullBottle, capsys: pytest.CaptureFixture[str]) -> None:
    picset = copied.picset_of_training()
    names = copied.pictures_of(picset)
    before = contents(copied.bottle.root)
    assert copied.forget("--picset", picset) == 0
    assert contents(copied.bottle.root) == before
    shown = capsys.readouterr().out
    assert all(name in shown for name in names)
    assert f"pictures/: {len(names)} files" in shown
    for place in ("cache", "datasets", "inference", "ledger", "masks", "meta"):
        assert f"  {place}/: " in shown
    assert f"run {copied.run.relative_to(copied.bottle.root)}: named in " in shown
    assert "pictures of people, these and others: report.html, train_batches, bad_batch\n" in shown
    assert shown.endswith("nothing was removed; --yes does it\n")


def test_nothing_is_left(copied_on_each: FullBottle, capsys: pytest.CaptureFixture[str]) -> None:
    full, bottle = copied_on_each, copied_on_each.bottle
    picset = full.picset_of_training()
    names = full.pictures_of(picset)
    wanted = everything_of(full, picset)
    assert len({Path(file).parts[0] for file in full.files_with(*wanted)}) >= 8, "the search finds what is there"
    others = full.rows() - set(names)
    weights = (full.run / "checkpoints" / "model.ckpt").read_bytes()
    cards = list(bottle.root.glob("inference_models/*/model_card.html"))
    assert any("/report.html" in card.read_text(encoding="utf-8") for card in cards)
    assert full.forget("--picset", picset, "--yes", "--runs", "delete-pictures") == 0
    assert "model_onnx.zip carries cut-outs of people" in capsys.readouterr().out
    assert full.files_with(*wanted) == set()
    assert full.rows() == others
    for group in GROUPS:
        rows = read_dataset(bottle.dataset_file(group)).rows
        assert rows
        assert not {row.path for row in rows} & set(names)
    run = open_run(bottle, full.run)
    assert run.samples("train")
    assert run.validation_samples()
    assert (full.run / "checkpoints" / "model.ckpt").read_bytes() == weights
    assert not (full.run / "report.html").exists()
    assert not any("/report.html" in card.read_text(encoding="utf-8") for card in cards)
    assert not (full.run / "train_batches").exists()
    assert full.forget("--picset", picset, "--yes") == 0, "a second time it is known, and nothing is left to do"
    assert "nothing was left of them" in capsys.readouterr().out
    full.load()
    assert full.files_with(*wanted) == set(), "a load does not bring them back"
    assert train_tiny_run(bottle, arch="test_efficientnet", height_px=32, width_px=32).validation_samples()
    assert full.files_with(*wanted) == set()


def test_segmentation_passes_over_what_somebody_put_back(copied: FullBottle) -> None:
    name = copied.pictures_of(copied.picset_of_training())[0]
    photo = copied.bottle.picture(name).read_bytes()
    assert copied.forget(name, "--yes", "--runs", "keep") == 0
    copied.bottle.picture(name).write_bytes(photo)
    done = run_builder(Path(copied.cfg), MODEL)
    assert done.returncode == 0, done.stderr
    assert "1 picture passed over: forgotten, and back" in done.stderr
    assert name not in copied.rows()


def test_killed_again_and_again_it_comes_to_the_same_end(copied: FullBottle) -> None:
    picset = copied.picset_of_training()
    wanted = everything_of(copied, picset)
    words = ["--picset", picset, "--yes", "--runs", "delete-pictures", "--cfg", copied.cfg]
    for nth in (2, 9, 14, 5):
        program = ["-c", _KILLED, str(nth), str(copied.bottle.root), *map(str, words)]
        killed = run_program(program, 120, cwd=REPOSITORY)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert copied.files_with(*wanted), "killed in the middle"
    assert copied.forget(*words[:-2]) == 0
    assert copied.files_with(*wanted) == set()
    assert open_run(copied.bottle, copied.run).samples("train")


def test_runs_are_left_as_they_are_only_when_that_is_said(
    copied: FullBottle, capsys: pytest.CaptureFixture[str]
) -> None:
    name = copied.pictures_of(copied.picset_of_training())[0]
    before = contents(copied.bottle.root)
    assert copied.forget(name, "--yes", "--debug") == 2
    line = last_error(capsys)
    assert line.endswith("[usage.missing_option]")
    assert all(option in line for option in ("--runs keep", "--runs delete-pictures"))
    with pytest.raises(UsageError) as caught:
        forget(copied.bottle, [name], [], runs=None, is_for_real=True)
    assert caught.value.code == "usage.missing_option"
    assert {path: content for path, content in contents(copied.bottle.root).items() if path in before} == before
    assert copied.forget(name, "--yes", "--runs", "keep") == 0
    assert "kept as it was: models/" in capsys.readouterr().out
    assert {Path(file).parts[0] for file in copied.files_with(name)} == {"models"}
    assert {path: before[path] for path in contents(copied.run)} == contents(copied.run)
    assert copied.forget(name, "--yes", "--runs", "delete-pictures") == 0, "later all the same"
    assert copied.files_with(name) == set()
    copied.load()
    assert len(copied.pictures_of(copied.picset_of_training())) >= 1, "others of the picset stay"


def test_unknown_names_are_told_all_at_once(copied: FullBottle, capsys: pytest.CaptureFixture[str]) -> None:
    known = copied.pictures_of(copied.picset_of_training())
    before = contents(copied.bottle.root)
    listed = copied.folder / "list.txt"
    listed.write_text(f"d/9/{known[0]}\r\nother.jpeg\r\n")
    assert copied.forget("nobody.jpeg", "--list", listed, "--picset", "no-guid", "--yes", "--runs", "keep") == 1
    assert "nobody.jpeg, other.jpeg, no-guid" in last_error(capsys)
    with pytest.raises(BottleError) as unknown:
        forget(copied.bottle, ["nobody.jpeg", known[0]], ["no-guid"], runs="keep", is_for_real=True)
    assert (unknown.value.code, unknown.value.where) == ("bottle.unknown_names", str(copied.bottle.root))
    assert "2 names" in unknown.value.what
    assert unknown.value.what.endswith(": nobody.jpeg, no-guid")
    assert before.items() <= contents(copied.bottle.root).items()
    listed.write_text(f"d/9/{known[0]}\r\n")
    assert copied.forget("--list", listed, "--yes", "--runs", "keep") == 0
    assert copied.forget("--yes") == 2
    with pytest.raises(UsageError) as caught:
        forget(copied.bottle, [], [], runs=None, is_for_real=True)
    assert caught.value.code == "usage.nothing_named"


def test_allowed_again_a_load_brings_it_back(copied: FullBottle, capsys: pytest.CaptureFixture[str]) -> None:
    name, other = copied.pictures_of(copied.picset_of_training())[:2]
    assert copied.forget(name, "--yes", "--runs", "delete-pictures") == 0
    assert copied.forget("--allow", name, other) == 1
    assert last_error(capsys).startswith(f"error: {copied.bottle.root}: 1 name ")
    with pytest.raises(BottleError) as caught:
        allow(copied.bottle, [name, other])
    assert caught.value.code == "bottle.not_forgotten"
    assert caught.value.what.endswith(f": {other}")
    assert copied.forget("--allow", name) == 0
    copied.load()
    assert copied.bottle.picture(name).is_file()
    assert name in {row.path for row in read_dataset(copied.bottle.dataset_file(GROUPS[0])).rows}


@pytest.mark.parametrize("who", ["training", "reader", "load", "prediction"])
def test_it_waits_for_nobody_and_disturbs_nobody(
    copied: FullBottle, capsys: pytest.CaptureFixture[str], who: str
) -> None:
    name = copied.pictures_of(copied.picset_of_training())[0]
    folder = record_folders(copied.bottle.cache)[0]
    places = {
        "training": copied.run / ".lock",
        "load": copied.bottle.ledger / ".load.lock",
        "prediction": lock_of(copied.bottle.inference(GROUPS[0]) / ".predictions.journal"),
    }
    with FolderUse(folder) if who == "reader" else FileLock(places[who]):
        before = without_locks(contents(copied.bottle.root))
        assert copied.forget(name, "--yes", "--runs", "keep") == 1
        with pytest.raises(BottleError) as caught, lock_bottle(copied.bottle):
            pass
        place = folder if who == "reader" else places[who].parent
        code = "bottle.in_use_by_training" if who == "reader" else "bottle.in_use"
        assert (caught.value.code, caught.value.where) == (code, str(place))
        assert last_error(capsys).startswith(f"error: {place}: ")
        assert without_locks(contents(copied.bottle.root)) == before
        assert copied.forget(name) == 0, "looking disturbs nobody"


def test_a_prediction_leaves_neither_lock_nor_empty_folder(copied: FullBottle) -> None:
    name = copied.pictures_of(copied.picset_of_training())[0]
    done, killed = (copied.bottle.inference(GROUPS[0]) / part for part in ("elsewhere", "killed"))
    for folder in (done, killed):
        folder.mkdir()
    with open_journal(done / ".predictions.journal", "x") as journal:
        journal.add([JournalEntry(name)])
    lock_of(killed / ".predictions.journal").touch()
    assert copied.forget(name, "--yes", "--runs", "keep") == 0
    assert not done.exists()
    assert not killed.exists()
    assert not list(copied.bottle.root.rglob("*.journal.lock"))


def test_a_damaged_list_is_never_taken_for_empty(copied: FullBottle) -> None:
    name = copied.pictures_of(copied.picset_of_training())[0]
    assert copied.forget(name, "--yes", "--runs", "keep") == 0
    (copied.bottle.ledger / "forgotten.json").write_text(json.dumps({"salt": "x"}))
    with pytest.raises(BottleError) as caught:
        copied.load()
    assert caught.value.code == "bottle.damaged_forgotten_list"
    assert caught.value.where == str(copied.bottle.ledger / "forgotten.json")


def test_what_is_not_there_is_not_made_and_others_files_stay(copied: FullBottle) -> None:
    for file in copied.bottle.root.glob("pictures.sqlite*"):
        file.unlink()
    name = copied.pictures_of(copied.picset_of_training())[0]
    notes = copied.run / "uv.lock"
    notes.write_text("a lock file of somebody else's")
    assert copied.forget(name, "--yes", "--runs", "delete-pictures") == 0
    assert notes.read_text() == "a lock file of somebody else's"
    assert copied.files_with(name) == set()
    assert not (copied.bottle.root / "pictures.sqlite").exists()


def test_a_package_that_cannot_be_read_is_not_taken_for_one_without_people(
    copied: FullBottle, capsys: pytest.CaptureFixture[str]
) -> None:
    name = copied.pictures_of(copied.picset_of_training())[0]
    (package,) = copied.bottle.root.glob(f"{copied.bottle.settings.inference_models_dir}/**/model_onnx.zip")
    package.write_bytes(package.read_bytes()[:-30])
    before = contents(copied.bottle.root)
    assert copied.forget(name, "--yes", "--runs", "delete-pictures", "--debug") == 1
    line = last_error(capsys)
    assert line.endswith("[file.unreadable]")
    assert str(package) in line
    assert {path: content for path, content in contents(copied.bottle.root).items() if path in before} == before
