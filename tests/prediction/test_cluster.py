"""Photos looked at by a real Dask cluster of two workers, one of which is killed in the middle; a video beside them."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from pathlib import Path

import pytest

from cls.prediction import cluster
from tests.bottles import GROUP
from tests.exporting.runs import ExportedBottle
from tests.prediction.inferring import error_of, infer, rows_of, write_video
from tests.required_tools import need_module


@pytest.mark.long
def test_a_worker_killed_in_the_middle(copied: ExportedBottle, tmp_path: Path) -> None:
    need_module("distributed")
    import distributed

    source = tmp_path / "photos"
    source.mkdir()
    for number in range(200):
        shutil.copy(copied.bottle.picture(f"{number % 24:04d}.jpeg"), source / f"{number:04d}.jpeg")
    (source / "0007.jpeg").write_bytes(b"broken")
    video = write_video(copied, tmp_path / "clip.avi")
    arguments = ("--source", source, video, "--group", GROUP, "--whole")
    assert infer(copied, *arguments, "--out", tmp_path / "alone") == 0
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None, memory_limit=0
    ) as workers:
        journal = tmp_path / "out" / ".predictions.journal"
        killed = []

        def kill_one() -> None:
            while not (journal.exists() and journal.stat().st_size > 5_000):
                time.sleep(0.01)
            killed.append(next(iter(workers.workers.values())).pid)
            os.kill(killed[0], signal.SIGKILL)

        killer = threading.Thread(target=kill_one, daemon=True)
        killer.start()
        address = workers.scheduler_address
        assert infer(copied, *arguments, "--out", tmp_path / "out", "--cluster", address) == 0
        killer.join(5)
    assert killed
    alone, spread = rows_of(tmp_path / "alone"), rows_of(tmp_path / "out")
    assert len(alone) == 199 + 3
    keys = ("picture", "frame", "labels")
    assert [[row[key] for key in keys] for row in spread] == [[row[key] for key in keys] for row in alone]
    for one, other in zip(alone, spread, strict=True):
        for label in copied.run.labels:
            assert float(one[f"p {label}"]) == pytest.approx(float(other[f"p {label}"]), abs=1e-5)


def test_what_cannot_be(copied: ExportedBottle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need_module("distributed")
    monkeypatch.setattr(cluster, "_CONNECT_TIMEOUT_S", 1)
    out = tmp_path / "out"
    error = error_of(copied, "--group", GROUP, "--out", out, "--cluster", "tcp://127.0.0.1:9")
    assert (error.code, error.where) == ("prediction.cluster_unreachable", "tcp://127.0.0.1:9")
    assert not out.exists()
    (tmp_path / "clip.mp4").write_bytes(b"x")
    error = error_of(copied, "--source", tmp_path / "clip.mp4", "--group", GROUP, "--cluster")
    assert error.code == "usage.no_photos"
    assert "--cluster" in error.what
