from __future__ import annotations

import shutil
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from cls.bottle.layout import Bottle
from cls.training.run_folder import FINISHED, new_run_folder, run_folders, unfinished_run
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
