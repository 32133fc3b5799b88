"""The one command, end to end, on small files in the published layouts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from cls.attribute_sets.table import PUBLISHED, _is_trained_on
from cls.bottle.dataset_file import read_dataset
from cls.bottle.layout import Bottle
from cls.cli.attribute_set import LOAD, TABLE
from cls.cli.command import execute
from cls.cli.train import COMMAND as TRAIN
from cls.training.runs.metrics import SampleCounts
from cls.training.runs.run import find_runs
from tests.attribute_sets.published import write_pa100k, write_peta, write_peta_archives
from tests.bottles import make_empty_bottle, train_tiny_run

TINY = (
    "--arch",
    "test_resnet",
    "--weights",
    "none",
    "--epochs",
    "1",
    "--batch",
    "8",
    "--size",
    "64x32",
    "--backgrounds",
    "0",
)


@pytest.fixture
def bottle(tmp_path: Path) -> Bottle:
    return make_empty_bottle(tmp_path / "bottle")


def run(command: object, bottle: Bottle, *words: object) -> int:
    return execute(command, ["--cfg", str(bottle.settings.file), *map(str, words)])  # type: ignore[arg-type]


def test_one_command_makes_the_table(bottle: Bottle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_peta(tmp_path / "set", people=16)
    assert run(TABLE, bottle, root, "--layout", "peta", *TINY) == 0
    printed, logged = capsys.readouterr()
    table = (bottle.models("peta") / "attribute_table.txt").read_text()
    assert table in printed
    lines = table.splitlines()
    official = next(i for i, line in enumerate(lines) if line.startswith("official parts"))
    identity = next(i for i, line in enumerate(lines) if line.startswith("identity parts"))
    assert "LEAKING, 11 of 16 people in two subsets" in lines[official]
    assert "nobody of 16 people in two subsets" in lines[identity]
    assert lines[official + 1].split()[:4] == ["test_resnet", "64x32,", "threshold", "0.5"]
    assert len(lines[official + 1].split()) == 9
    assert lines[official + 3].split()[-5:] == ["83.96", "78.65", "87.08", "85.62", "86.35"]
    assert "parts 'official' of the dataset LEAK" in logged
    leaking, clean = find_runs(bottle, "peta")
    assert leaking.metrics.parts.is_leaking
    assert leaking.metrics.parts.name == "official"
    assert "LEAK" in leaking.summary()
    assert "LEAK: 11 of 16 picsets" in leaking.metrics.parts.note
    assert "LEAK: 11 of 16 picsets" in (leaking.folder / "report.html").read_text()
    assert not clean.metrics.parts.is_leaking
    assert "LEAK" not in clean.summary()
    tested = json.loads((clean.folder / "test_metrics.json").read_text())
    assert tested["people"] == 15
    assert tested["threshold_0.5"]["labels"]["hairLong"]["threshold"] == 0.5
    seen = {
        row[0] for side in ("train", "valid") for row in json.loads((clean.folder / "split.json").read_text())[side]
    }
    dataset = json.loads(bottle.dataset_file("peta").read_text())
    assert seen.isdisjoint(dataset["parts"]["identity"]["test"])
    assert len(seen) == 33

    # Again: what is finished is tested, not trained again.
    assert run(TABLE, bottle, root, "--layout", "peta", *TINY, "--parts", "identity") == 0
    assert len(find_runs(bottle, "peta")) == 2
    assert "official parts" not in (bottle.models("peta") / "attribute_table.txt").read_text()
    # Of another dataset it is another run.
    known = read_dataset(bottle.dataset_file("peta"))
    flipped = replace(known.rows[0], labels=tuple(1 - value for value in known.rows[0].labels))
    changed = replace(known, rows=(flipped, *known.rows[1:]))
    assert _is_trained_on(clean, known)
    assert not _is_trained_on(clean, changed)
    other = {**known.extra["parts"], "identity": known.extra["parts"]["official"]}
    assert not _is_trained_on(clean, replace(known, extra={"parts": other}))


def test_a_size_found_from_the_people_is_not_trained_again(
    bottle: Bottle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_peta(tmp_path / "set", people=16)
    words = (root, "--layout", "peta", *TINY, "--size", "auto:2048", "--parts", "identity")
    assert run(TABLE, bottle, *words) == 0
    (first,) = find_runs(bottle, "peta")
    assert first.args.config.auto_px == 0, "the run has written down what auto came to"
    capsys.readouterr()
    assert run(TABLE, bottle, *words) == 0
    assert find_runs(bottle, "peta") == [first]
    assert f"INFO {first.name} " in capsys.readouterr().err


@pytest.mark.parametrize("word", ["--leak-tax", "--resume"])
def test_what_is_about_one_run_is_not_offered(
    bottle: Bottle, tmp_path: Path, capsys: pytest.CaptureFixture[str], word: str
) -> None:
    with pytest.raises(SystemExit):
        run(TABLE, bottle, tmp_path, "--layout", "peta", word)
    assert f"unrecognized arguments: {word}" in capsys.readouterr().err


def test_load_then_train_on_the_published_parts(
    bottle: Bottle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = write_pa100k(tmp_path / "set")
    assert run(LOAD, bottle, root, "--layout", "pa100k", "--group", "walkers", "--limit", 20) == 0
    printed = capsys.readouterr().out
    assert "group 'walkers': 20 pictures, 4 labels, the set does not name people; 20 new, 0 kept, 0 left out" in printed
    assert "parts 'official': train 11, valid 4, test 5" in printed
    assert "next: python cls/classification/train.py --cat walkers --split official" in printed
    trained = train_tiny_run(bottle, "walkers", split="official", height_px=64, width_px=32)
    assert trained.metrics.samples == SampleCounts(train=11, valid=4)
    assert json.loads((trained.folder / "ledger.json").read_text())["left_out_by_reason"] == {"kept for the test": 5}
    assert run(TRAIN, bottle, "--cat", "walkers", "--split", "identity", *TINY, "--debug") == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.endswith("[training.unknown_parts]")
    assert all(value in line for value in ('"walkers"', "'identity'", " official "))


@pytest.mark.parametrize(
    ("words", "codes", "values"),
    [
        (("--layout", "voc"), "usage.unknown_option_value", ["--layout", "'voc'"]),
        (("--layout", "peta", "--limit", "0"), "usage.out_of_range", ["--limit", " 0 "]),
        (("--layout", "peta", "--partition", "9"), "usage.out_of_range", ["--partition", " 9;"]),
        (("--layout", "rapv2"), "attribute_set.wrong_layout", ["RAPv2"]),
        (("--layout", "peta", "--parts", "zero-shot"), "attribute_set.unknown_parts", ["'zero-shot'"]),
        (("--layout", "peta", "--devices", "2"), "usage.unsupported_option", ["--devices"]),
        (
            ("--layout", "peta", "--epochs", "0", "--split", ""),
            "usage.invalid_options, usage.invalid_option_value, usage.invalid_option_value",
            ["--split", "''; --epochs", " 0;"],
        ),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    bottle: Bottle,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    codes: str,
    values: list[str],
) -> None:
    root = write_peta(tmp_path / "set", people=4)
    status = run(TABLE, bottle, root, *words, *TINY[:4], "--debug")
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert error.endswith(f" [{codes}]")
    assert status == (2 if codes.startswith("usage.") else 1)
    assert all(value in error for value in values)


def test_a_layout_without_published_parts_has_a_leak_free_table(
    bottle: Bottle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(LOAD, bottle, write_peta_archives(tmp_path), "--layout", "peta") == 0
    printed = capsys.readouterr().out
    assert "8 pictures, 35 labels, 5 people" in printed
    assert "official" not in printed


def test_published_figures_are_whole() -> None:
    for row in PUBLISHED:
        _, _, precision, recall, f1 = row.values
        # F1 is that of the mean precision and recall in these papers; a typing error would show.
        assert f1 == pytest.approx(2 * precision * recall / (precision + recall), abs=0.05)
        assert row.source
