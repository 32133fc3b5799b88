"""kill -9 in the middle of a load, then the same command: nothing lost, nothing doubled, no half file."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cls.bottle.dataset_file import read_dataset
from cls.loading.download import problem_of_picture
from cls.settings import REPOSITORY
from tests.collector.servers import environment, flaky_collector, run_script, stats
from tests.preloaded import Program, run_program

PICTURES = 150


def start_load(cfg: Path) -> Program:
    script = REPOSITORY / "cls" / "classification" / "load_group.py"
    words = [str(script), "--group", "hair_color", "--cfg", str(cfg)]
    return Program(words, cwd=REPOSITORY, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def final_files(folder: Path) -> list[Path]:
    """Files under their final names: temporary ones start with a dot."""
    return [file for file in folder.rglob("*") if file.is_file() and not file.name.startswith(".")]


def assert_no_half_file(bottle: Path) -> None:
    for file in final_files(bottle / "pictures"):
        assert problem_of_picture(file.read_bytes()) is None, file
    for file in [*final_files(bottle / "meta"), *final_files(bottle / "datasets")]:
        json.loads(file.read_text(encoding="utf-8"))


@pytest.mark.parametrize("kill_at", [0.0, 0.1, 0.5, 0.9])
def test_killed_and_run_again(configuration: Callable[..., Path], tmp_path: Path, kill_at: float) -> None:
    """Killed after a share of the pictures; the second run fetches the rest alone and ends as one run would."""
    bottle = tmp_path / "classification_data"
    with flaky_collector(pictures=PICTURES, picsets=40, latency_s=0.02) as url:
        cfg = configuration(collector_url=url)
        process = start_load(cfg)
        pictures = bottle / "pictures"
        deadline_s = time.monotonic() + 60
        while time.monotonic() < deadline_s:
            if kill_at == 0.0 and (bottle / "meta").exists():
                break
            if kill_at and pictures.exists() and len(final_files(pictures)) >= PICTURES * kill_at:
                break
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
        there = len(final_files(pictures)) if pictures.exists() else 0
        assert there < PICTURES
        assert_no_half_file(bottle)
        assert not (bottle / "datasets").exists()
        before = stats(url).get("pictures", 0)

        done = run_script("load_group.py", "--group", "hair_color", "--cfg", str(cfg))
        assert done.returncode == 0, done.stderr
        assert f"{PICTURES - there} pictures fetched, {there} already there" in done.stdout
        assert stats(url)["pictures"] - before == PICTURES - there
    assert_no_half_file(bottle)
    dataset = read_dataset(bottle / "datasets" / "hair_color.json")
    names = [row.path for row in dataset.rows]
    assert len(set(names)) == len(names) == PICTURES
    assert sorted(file.name for file in final_files(pictures)) == sorted(names)
    assert len(final_files(bottle / "meta")) == 40
    assert not list(bottle.rglob("*.part"))
    ledger = [json.loads(line)["name"] for line in (bottle / "ledger" / "pictures.jsonl").read_text().splitlines()]
    assert sorted(ledger) == sorted(names)


def test_killed_again_and_again_it_still_ends(configuration: Callable[..., Path], tmp_path: Path) -> None:
    bottle = tmp_path / "classification_data"
    with flaky_collector(pictures=PICTURES, picsets=40, latency_s=0.02, faults=True) as url:
        cfg = configuration(collector_url=url)
        for delay_s in (0.2, 0.25, 0.3):
            process = start_load(cfg)
            time.sleep(delay_s)
            os.kill(process.pid, signal.SIGKILL)
            process.wait(10)
            assert_no_half_file(bottle)
        done = run_script("load_group.py", "--group", "hair_color", "--cfg", str(cfg))
    assert done.returncode == 0, done.stderr
    assert len(read_dataset(bottle / "datasets" / "hair_color.json").rows) == PICTURES
    assert_no_half_file(bottle)
    assert not list(bottle.rglob("*.part"))


def test_two_loads_of_one_bottle_at_once(configuration: Callable[..., Path], tmp_path: Path) -> None:
    """The second waits for the first, and then finds everything there."""
    with flaky_collector(pictures=40, latency_s=0.02) as url:
        cfg = configuration(collector_url=url)
        first, second = start_load(cfg), start_load(cfg)
        assert (first.wait(60), second.wait(60)) == (0, 0)
        assert stats(url)["pictures"] == 40
    assert_no_half_file(tmp_path / "classification_data")


def test_a_full_disk_is_one_line_and_leaves_no_half_file(configuration: Callable[..., Path], tmp_path: Path) -> None:
    """A limit on file sizes stands for a full disk: writing fails in the middle of a picture."""
    with flaky_collector(pictures=5) as url:
        cfg = configuration(collector_url=url)
        limited = (
            "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000));"
            "from cls.cli.load_group import COMMAND; from cls.cli.command import main; main(COMMAND)"
        )
        words = ["-c", limited, "--group", "hair_color", "--cfg", str(cfg), "--quiet"]
        done = run_program(words, 60, cwd=REPOSITORY, env=environment())
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert str(tmp_path / "classification_data") in done.stderr
    assert os.strerror(errno.EFBIG) in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not final_files(tmp_path / "classification_data" / "pictures")
    assert not list(tmp_path.rglob("*.part"))
