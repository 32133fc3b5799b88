"""What a run of one epoch shows when validation has nobody with a label."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from cls.bottle.dataset_file import GroupDataset, LabelledRow, read_dataset, write_dataset
from cls.settings import REPOSITORY
from cls.training.figures import curves_svg, precision_recall_svg
from cls.training.run import newest_run
from tests.bottles import make_tiny_bottle

GROUP = "hat"


def test_one_epoch_without_positives_in_validation(tmp_path: Path) -> None:
    bottle = make_tiny_bottle(tmp_path, group=GROUP, labels=("red top",))
    file = bottle.dataset_file(GROUP)
    rows = (LabelledRow(row.path, (float(row.picset == "picset-000"),), row.picset) for row in read_dataset(file).rows)
    write_dataset(file, GroupDataset(GROUP, ("hat",), tuple(rows)))
    words = ["--cfg", str(bottle.settings.file), "--cat", GROUP, "--arch", "mnv3", "--size", "64x48"]
    done = subprocess.run(
        [sys.executable, "cls/classification/train.py", *words, "--weights", "none", "--epochs", "1", "--batch", "4"],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert "no picset to spare for validation" in done.stderr
    page = (newest_run(bottle, GROUP).folder / "report.html").read_text(encoding="utf-8")
    assert "Nobody in validation has hat: nothing can be said of how well it is found." in page
    assert "None: nobody in validation who has a label" in page
    assert page.count("<svg") == 2, "loss and confusions; no empty precision and recall"
    assert not re.search(r'<div class="card people">\s*</div>', page)


def test_a_single_epoch_is_a_dot_at_a_whole_number(monkeypatch: pytest.MonkeyPatch) -> None:
    import cls.training.figures as figures

    drawn: list[Figure] = []
    keep = figures._svg

    def watch(figure: Figure) -> str:
        drawn.append(figure)
        return keep(figure)

    monkeypatch.setattr(figures, "_svg", watch)
    curves_svg([{"epoch": 0, "train_loss": 0.7, "valid_loss": 0.6}], None)
    curves_svg([{"epoch": 0, "train_loss": 0.7, "valid_loss": 0.6, "valid_map": 0.5, "valid_auroc": 0.6}], 0.3)
    for figure, n_axes in zip(drawn, (1, 2), strict=True):
        assert len(figure.axes) == n_axes
        low, high = figure.axes[0].get_xlim()
        assert [tick for tick in figure.axes[0].get_xticks() if low <= tick <= high] == [1]
        lines = {line.get_label(): line for line in figure.axes[0].get_lines()}
        assert set(lines) == {"training", "validation"}
        assert all(line.get_marker() == "o" for line in lines.values())


@pytest.mark.filterwarnings("error")
def test_nobody_to_draw_precision_and_recall_of() -> None:
    probs, labels = np.array([[0.2], [0.4]]), np.array([[0.0], [np.nan]])
    assert precision_recall_svg(probs, labels, ["hat"], [0.5]) is None
    labels[1] = 1.0
    assert "<svg" in str(precision_recall_svg(probs, labels, ["hat"], [0.5]))
