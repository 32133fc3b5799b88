from __future__ import annotations

import errno
import os
import shutil
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest

from cls.bottle.layout import Bottle
from cls.errors import FileError, TrainingError
from cls.files import write_json_atomic
from cls.training.runs.folder import FINISHED, RunTime, new_run_folder, run_folders, unfinished_run
from tests.bottles import make_empty_bottle

GROUP = "a/b: ü"


def make_one(folder: Path) -> str:
    made = new_run_folder(make_empty_bottle(folder), GROUP, "train_eff_4_0.001", "same")
    made.release()
    return made.path.name


def test_numbers_never_repeat_when_runs_start_together(tmp_path: Path) -> None:
    make_empty_bottle(tmp_path)
    with ProcessPoolExecutor(6, mp_context=get_context("spawn")) as pool:
        names = list(pool.map(make_one, [tmp_path] * 18))
    assert sorted(names, key=lambda name: int(name.split("_")[2])) == [f"v__{n}_train_eff_4_0.001" for n in range(18)]


def test_numbers_of_deleted_runs_are_not_given_again(tmp_path: Path) -> None:
    bottle = make_empty_bottle(tmp_path)
    for _ in range(3):
        make_one(tmp_path)
    for path in run_folders(bottle, GROUP)[1:]:
        shutil.rmtree(path)
    assert make_one(tmp_path) == "v__3_train_eff_4_0.001"
    # Folders copied in from elsewhere count too.
    (bottle.models(GROUP) / "v__9_all_res_8_0.01").mkdir()
    assert make_one(tmp_path) == "v__10_train_eff_4_0.001"


@pytest.mark.parametrize("content", ["[]", '{"next": "many"}', "{"])
def test_a_damaged_counter_gives_no_number_twice(tmp_path: Path, content: str) -> None:
    bottle = make_empty_bottle(tmp_path)
    make_one(tmp_path)
    (bottle.models(GROUP) / ".runs.json").write_text(content)
    with pytest.raises(FileError) as caught:
        make_one(tmp_path)
    assert caught.value.code == ("file.not_json" if content == "{" else "file.invalid_content")


@pytest.mark.parametrize("content", ["[]", '{"identity": 3}', "{"])
def test_a_run_of_a_damaged_identity_is_not_gone_on_with(tmp_path: Path, content: str) -> None:
    bottle = make_empty_bottle(tmp_path)
    (bottle.models(GROUP) / make_one(tmp_path) / ".identity.json").write_text(content)
    assert unfinished_run(bottle, GROUP, "same") is None


def test_only_a_cut_off_run_of_the_same_identity_is_gone_on_with(tmp_path: Path) -> None:
    bottle: Bottle = make_empty_bottle(tmp_path)
    held = new_run_folder(bottle, GROUP, "train_eff_4_0.001", "same")
    assert unfinished_run(bottle, GROUP, "same") is None, "a running training is left alone"
    held.release()
    assert unfinished_run(bottle, GROUP, "other") is None
    found = unfinished_run(bottle, GROUP, "same")
    assert found is not None
    assert found.path == held.path
    found.release()
    (held.path / FINISHED).write_text("{}")
    assert unfinished_run(bottle, GROUP, "same") is None


def write_time(folder: Path, seconds: float, since: float | None) -> None:
    write_json_atomic(folder / ".time.json", {"seconds": seconds, "since": since})


def test_a_run_takes_as_long_as_all_its_parts(tmp_path: Path) -> None:
    now_s = time.time()
    with RunTime(tmp_path, now_s - 60) as clock:
        assert clock.seconds == pytest.approx(60, abs=5)
    with RunTime(tmp_path, time.time()) as clock:
        assert clock.seconds == pytest.approx(60, abs=5), "the time in between does not count"


def test_a_part_that_was_killed_counts_up_to_its_last_file(tmp_path: Path) -> None:
    now_s = time.time()
    write_time(tmp_path, 100.0, now_s - 5000)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    for path in tmp_path.rglob("*"):
        os.utime(path, (now_s - 4970, now_s - 4970))
    assert RunTime(tmp_path, now_s).seconds == pytest.approx(130, abs=5)


@pytest.mark.parametrize(
    "content", ["", "[]", '{"seconds": "long", "since": null}', '{"seconds": 5}', '{"seconds": NaN, "since": null}']
)
def test_a_damaged_time_costs_no_run(tmp_path: Path, content: str) -> None:
    (tmp_path / ".time.json").write_text(content)
    assert RunTime(tmp_path, time.time()).seconds == pytest.approx(0, abs=5)


def test_a_clock_that_was_set_back_makes_no_time_up(tmp_path: Path) -> None:
    now_s = time.time()
    write_time(tmp_path, 100.0, now_s + 5000)
    assert RunTime(tmp_path, now_s).seconds == pytest.approx(100, abs=5)
    write_time(tmp_path, 100.0, now_s - 10)
    os.utime(tmp_path / ".time.json", (now_s + 5000, now_s + 5000))
    assert RunTime(tmp_path, now_s).seconds == pytest.approx(110, abs=5)


def test_a_full_disk_is_named_where_no_run_folder_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bottle = make_empty_bottle(tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cls.training.runs.folder.write_record", full)
    with pytest.raises(TrainingError) as caught:
        new_run_folder(bottle, GROUP, "train_eff_4_0.001", "same")
    assert caught.value.code == "training.no_space"
    assert not run_folders(bottle, GROUP)
