"""Runs listed, compared and their reports opened, whatever state their folders are in."""

from __future__ import annotations

import json
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import JsonValue

from cls.bottle.layout import Bottle
from cls.cli.command import execute
from cls.cli.report import COMMAND as REPORT
from cls.cli.runs import COMMAND as RUNS
from cls.dataset.samples import Sample
from cls.errors import BottleError, FileError
from cls.files import read_json, safe_name
from cls.people.photos import Person
from cls.people.preprocess import Preprocessing
from cls.training.runs.args import write_args
from cls.training.runs.folder import new_run_folder
from cls.training.runs.listing import find_run, finished_run, list_runs
from cls.training.runs.run import open_run
from cls.training.runs.table import validated_on
from tests.bottles import make_empty_bottle, run_args
from tests.training.made_metrics import metrics_dict

LABELS = ("cap", "beanie")


@pytest.fixture
def bottle(tmp_path: Path) -> Bottle:
    return make_empty_bottle(tmp_path)


def make_run(
    bottle: Bottle,
    name: str,
    group: str = "hat",
    *,
    ap: float = 0.8,
    interval: tuple[float, float] | None = (0.7, 0.9),
    split: str = "s1",
    **settings: JsonValue,
) -> Path:
    """A run folder as a training leaves it, without its weights."""
    folder = bottle.root / bottle.settings.models_dir / safe_name(group) / name
    folder.mkdir(parents=True)
    values = {"epochs": 6, "arch": "lite0", "height_px": 160, "width_px": 112, "lr": None, **settings}
    write_args(folder, run_args(group, "tf_efficientnet_lite0", Preprocessing(160, 112), values))
    macro = {"ap": ap, "f1": ap - 0.05, "auroc": 0.9, "ma": 0.85, "precision": None, "recall": 0.7}
    scores = {"f1": ap - 0.1, "ma": 0.825}
    found = {
        "labels": {label: {"ap": ap, "f1": ap - 0.05} for label in LABELS},
        "macro": macro,
        "exact": 0.5,
        "samples": 240,
        "cross_fitted": {"macro": scores, "labels": dict.fromkeys(LABELS, scores), "intervals": {"f1": interval}},
        "intervals": None if interval is None else {"macro": {"ap": list(interval), "f1": None}},
    }
    metrics = metrics_dict(
        LABELS, validation=found, samples={"train": 960, "valid": 240}, seconds=64.2, run_seconds=131.4,
        split_sha256=split, finished="2026-11-22T10:05:00+00:00",
    )  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    (folder / "report.html").write_text("<html></html>", encoding="utf-8")
    return folder


def say(command: Any, bottle: Bottle, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert execute(command, [*words, "--cfg", str(bottle.settings.file)]) == 0
    return capsys.readouterr().out


def test_runs_of_all_groups_in_order(bottle: Bottle, capsys: pytest.CaptureFixture[str]) -> None:
    for number in (0, 2, 10):
        make_run(bottle, f"v__{number}_train_lite0_16_0.001", seed=number)
    make_run(bottle, "v__0_all_eff_16_0.001", "Цвет: верх/?", ap=0.5, interval=None)
    lines = say(RUNS, bottle, capsys).splitlines()
    assert [line.split()[0] for line in lines if "v__" in line] == [
        "v__0_train_lite0_16_0.001", "v__2_train_lite0_16_0.001", "v__10_train_lite0_16_0.001", "v__0_all_eff_16_0.001",
    ]  # fmt: skip
    assert lines[0] == "hat"
    assert "Цвет: верх/?" in lines
    assert all(len(line) <= 120 for line in lines)
    assert lines[1].split()[7:] == ["CV", "F1", "mAP", "CV", "mA", "time"]
    assert "finished  2026-11-22  lite0  160x112       6  960+240  0.700 .70–.90  0.800  0.825  131 s" in lines[2]
    starts = {line.index("finished") for line in lines[2:5]}
    assert len(starts) == 1, "columns are aligned"
    only = say(RUNS, bottle, capsys, "hat")
    assert "верх" not in only
    assert only.count("v__") == 3


def test_long_names_fit_into_a_terminal_and_stay_whole_in_a_pipe(
    bottle: Bottle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arch = "mobilenetv3_large_150d.ra4_e3600_r256_in1k"
    name = make_run(bottle, f"v__0_train_{arch}_16_0.001", arch=arch).name
    assert name in say(RUNS, bottle, capsys).splitlines()[2].split()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    lines = say(RUNS, bottle, capsys).splitlines()
    assert all(len(line) <= 120 for line in lines)
    assert "…" in lines[2]
    assert arch in say(RUNS, bottle, capsys, "--json")


def test_running_and_cut_off_runs(bottle: Bottle, capsys: pytest.CaptureFixture[str]) -> None:
    held = new_run_folder(bottle, "hat", "train_eff_4_0.001", "identity")
    assert "running" in say(RUNS, bottle, capsys)
    held.release()
    assert "unfinished" in say(RUNS, bottle, capsys)
    assert json.loads(say(RUNS, bottle, capsys, "--json"))[0]["state"] == "unfinished"


def spoil_metrics(folder: Path) -> None:
    (folder / "metrics.json").write_text('{"labels": ["ca')


def empty_metrics(folder: Path) -> None:
    (folder / "metrics.json").write_text("")


def list_for_metrics(folder: Path) -> None:
    (folder / "metrics.json").write_text("[1, 2]")


def strange_metrics(folder: Path) -> None:
    values = metrics_dict(LABELS, validation=7, samples=[], seconds="long", finished=3)
    (folder / "metrics.json").write_text(json.dumps(values))


def binary_args(folder: Path) -> None:
    (folder / "args.yaml").write_bytes(b"\xff\xfe\x00: [")


def no_args(folder: Path) -> None:
    (folder / "args.yaml").unlink()


def folder_for_args(folder: Path) -> None:
    (folder / "args.yaml").unlink()
    (folder / "args.yaml").mkdir()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (spoil_metrics, "metrics.json is not JSON"),
        (empty_metrics, "metrics.json is not JSON"),
        (list_for_metrics, "metrics.json does not hold what it should"),
        (strange_metrics, "metrics.json does not hold what it should: validation: "),
        (binary_args, "args.yaml cannot be read"),
        (no_args, "args.yaml is missing"),
        (folder_for_args, "args.yaml cannot be read"),
    ],
)
def test_damaged_runs_are_shown_and_crash_nothing(
    bottle: Bottle, capsys: pytest.CaptureFixture[str], spoil: Any, said: str
) -> None:
    name, good = "v__0_train_eff_4_0.001", "v__1_train_eff_4_0.001"
    spoil(make_run(bottle, name))
    make_run(bottle, good)
    shown = say(RUNS, bottle, capsys)
    assert said in shown
    assert "damaged" in shown
    assert len(json.loads(say(RUNS, bottle, capsys, "--json"))) == 2
    assert "NOT COMPARABLE" in say(RUNS, bottle, capsys, "--compare", name, good) or spoil in (
        binary_args, no_args, folder_for_args,
    )  # fmt: skip
    assert say(REPORT, bottle, capsys, name, "--print").strip().endswith("report.html")


def test_an_empty_folder_is_unfinished(bottle: Bottle, capsys: pytest.CaptureFixture[str]) -> None:
    (bottle.models("hat") / "v__3_train_eff_4_0.001").mkdir(parents=True)
    (bottle.models("hat") / "notes").mkdir()
    shown = say(RUNS, bottle, capsys)
    assert "unfinished" in shown
    assert "notes" not in shown


def test_two_runs_side_by_side(bottle: Bottle, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(bottle, "v__0_train_lite0_16_0.001", ap=0.6, interval=(0.55, 0.65))
    make_run(bottle, "v__1_train_lite0_16_0.001", ap=0.8, seed=3, loss="focal")
    shown = say(RUNS, bottle, capsys, "hat", "--compare", "v__0_train_lite0_16_0.001", "newest")
    assert "Both were validated on the same people" in shown
    assert ["loss", "-", "focal"] in [line.split() for line in shown.splitlines()]
    assert "epochs" not in shown
    (line,) = (line for line in shown.splitlines() if line.startswith("mAP"))
    assert "0.600 (0.550–0.650)  0.800 (0.700–0.900)" in " ".join(line.split()).replace(") 0", ")  0")
    assert line.endswith("+0.200  intervals lie apart")
    assert "AP of beanie" in shown
    compared = json.loads(
        say(RUNS, bottle, capsys, "hat", "--json", "--compare", "v__0_train_lite0_16_0.001", "newest")
    )
    assert compared["is_comparable"] is True
    assert compared["settings"] == {"loss": [None, "focal"], "seed": [None, 3]}


def test_runs_validated_on_other_people_are_not_comparable(bottle: Bottle, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(bottle, "v__0_train_lite0_16_0.001")
    make_run(bottle, "v__1_train_lite0_16_0.001", split="s2")
    assert "2 runs were validated on 2 different sets of people or labels" in say(RUNS, bottle, capsys)
    words = ("--compare", "v__0_train_lite0_16_0.001", "v__1_train_lite0_16_0.001")
    shown = say(RUNS, bottle, capsys, *words)
    assert "NOT COMPARABLE: different splits." in shown
    assert "intervals overlap" in shown
    assert "All settings are the same." in shown
    make_run(bottle, "v__0_all_eff_16_0.001", "top_color")
    other = say(RUNS, bottle, capsys, "--compare", "v__0_train_lite0_16_0.001", "v__0_all_eff_16_0.001")
    assert "NOT COMPARABLE: they are of different groups." in other


def sample(path: str, *labels: float, number: int = 0, left_px: float = 0.0) -> Sample:
    return Sample(path, "set", Person("female", 0.9, (left_px, 0, 40, 90), ()), labels, number)


def rewrite(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    metrics = json.loads((folder / "metrics.json").read_text())
    change(metrics)
    (folder / "metrics.json").write_text(json.dumps(metrics))


ONE, TWO = sample("1.jpeg", 1.0, 0.0), sample("2.jpeg", 0.0, float("nan"))


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        ((TWO, ONE), "Both were validated on the same people: their measures can be compared."),
        ((ONE,), "NOT COMPARABLE: different people, or other outlines of them, in validation."),
        ((ONE, TWO, sample("2.jpeg", 0.0, float("nan"), number=1)), "NOT COMPARABLE: different people"),  # --people all
        ((ONE, sample("2.jpeg", 0.0, float("nan"), left_px=20)), "NOT COMPARABLE: different people"),  # --subject
        ((ONE, sample("2.jpeg", 0.0, 0.0)), "NOT COMPARABLE: the same people in validation, but other labels of"),
    ],
)
def test_the_same_people_are_told_by_themselves_and_what_is_known_of_them(
    bottle: Bottle, capsys: pytest.CaptureFixture[str], samples: tuple[Sample, ...], said: str
) -> None:
    """split.json is the same with `--people all` or `--subject` as without: it names pictures."""
    for number, people in enumerate([(ONE, TWO), samples]):
        folder = make_run(bottle, f"v__{number}_train_lite0_16_0.001")
        rewrite(
            folder, lambda metrics, people=people: metrics.update(validated_on=validated_on(people).to_json_values())
        )  # type: ignore[misc]
    assert said in say(RUNS, bottle, capsys, "--compare", "0", "1")
    is_warned = "validated on 2 different sets of people" in say(RUNS, bottle, capsys)
    assert is_warned == said.startswith("NOT")


def test_more_people_to_train_on_can_be_compared(bottle: Bottle, capsys: pytest.CaptureFixture[str]) -> None:
    for number, split in enumerate("ab"):
        folder = make_run(bottle, f"v__{number}_train_lite0_16_0.001", split=split)
        rewrite(folder, lambda metrics: metrics.update(validated_on=validated_on([ONE, TWO]).to_json_values()))
    assert "can be compared. They were trained on different ones." in say(RUNS, bottle, capsys, "--compare", "0", "1")


def test_another_seed_alone_is_not_another_training_set(bottle: Bottle, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        folder = make_run(bottle, f"v__{seed}_train_lite0_16_0.001", split="ab"[seed])
        rewrite(folder, lambda metrics: metrics.update(validated_on=validated_on([ONE, TWO]).to_json_values()))
        rows = [["a.jpeg", "a", [1]], ["b.jpeg", "b", [0]]]
        train = rows[:: -1 if seed else 1]
        (folder / "split.json").write_text(json.dumps({"seed": seed, "train": train, "valid": [["1.jpeg", "c", [1]]]}))
    said = say(RUNS, bottle, capsys, "--compare", "0", "1")
    assert "can be compared." in said
    assert "trained on different ones" not in said


def test_older_runs_are_the_same_only_with_the_same_settings(
    bottle: Bottle, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(bottle, "v__0_train_lite0_16_0.001")
    make_run(bottle, "v__1_train_lite0_16_0.001", people="all", incomplete=["cap"])
    shown = say(RUNS, bottle, capsys, "--compare", "0", "1")
    assert "NOT COMPARABLE: different --people (not given and all); different --incomplete (not given" in shown


def test_labels_left_out_of_intervals_are_named(bottle: Bottle, capsys: pytest.CaptureFixture[str]) -> None:
    thin = {"left_out": ["cap"], "macro": {"ap": [0.55, 0.75], "f1": None}, "means": {"ap": 0.66, "f1": 0.5}}
    make_run(bottle, "v__0_train_lite0_16_0.001")
    rewrite(make_run(bottle, "v__1_train_lite0_16_0.001"), lambda m: m["validation"].update(intervals=thin))
    said = "are over 1 of 2 labels (positives in fewer than 3 picsets: cap)"
    listed = say(RUNS, bottle, capsys)
    assert said in listed
    assert ".55" not in listed, "an interval of another mean than the one shown"
    shown = say(RUNS, bottle, capsys, "--compare", "0", "1")
    assert said in shown
    assert "0.660 (0.550–0.750)" in shown
    assert json.loads(say(RUNS, bottle, capsys, "--json"))[1]["left_out_of_intervals"] == ["cap"]


@pytest.mark.parametrize(
    ("words", "code", "values"),
    [
        (("gloves",), "bottle.no_runs", ["'gloves'", "hat, top_color"]),
        (("--compare", "v__7", "newest"), "bottle.run_not_found", ["'v__7'", "`cls runs`"]),
        (
            ("--compare", "v__0_train_eff_4_0.001", "newest"),
            "bottle.ambiguous_run",
            ["v__0_train_eff_4_0.001", "hat, top_color"],
        ),
    ],
)
def test_what_is_not_there(
    bottle: Bottle, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: str, values: list[str]
) -> None:
    for group in ("hat", "top_color"):
        make_run(bottle, "v__0_train_eff_4_0.001", group)
    with pytest.raises(BottleError) as caught:
        _ = list_runs(bottle, words[0]) if len(words) == 1 else find_run(bottle, words[1])
    assert caught.value.code == code
    assert all(value in caught.value.line() for value in values)
    assert execute(RUNS, [*words, "--cfg", str(bottle.settings.file)]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {caught.value.line()}"


def test_the_newest_run_has_the_highest_number(bottle: Bottle, caplog: pytest.LogCaptureFixture) -> None:
    """A run with a lower number may be finished later, when an interrupted training went on."""
    for group, number, hour in (("hat", 2, 9), ("hat", 10, 8), ("top_color", 1, 10), ("top_color", 3, 7)):
        file = make_run(bottle, f"v__{number}_train_eff_4_0.001", group) / "metrics.json"
        finished = f"2026-11-22T{hour:02d}:00:00+00:00"
        file.write_text(json.dumps({**read_json(file), "finished": finished}), encoding="utf-8")
    broken = make_run(bottle, "v__11_train_eff_4_0.001") / "metrics.json"
    broken.write_text("{")
    for name, of_group in (("newest", "hat"), ("hat/newest", None), ("newest", None)):
        found = find_run(bottle, name, of_group)
        assert (found.group, found.name) == ("hat", "v__10_train_eff_4_0.001")
        assert str(broken.parent) in caplog.text
        caplog.clear()
    assert finished_run(bottle, group="top_color").name == "v__3_train_eff_4_0.001"
    assert not caplog.records


@pytest.mark.parametrize("content", [None, "{"])
def test_a_file_of_a_run_that_cannot_be_read_has_the_files_case(bottle: Bottle, content: str | None) -> None:
    file = make_run(bottle, "v__0_train_eff_4_0.001") / "metrics.json"
    file.unlink()
    if content is not None:
        file.write_text(content)
    with pytest.raises(FileError) as unread:
        read_json(file)
    with pytest.raises(BottleError) as caught:
        open_run(bottle, file.parent)
    assert caught.value.code.partition(".")[::2] == ("bottle", unread.value.code.partition(".")[2])
    assert caught.value.where == unread.value.where
    assert caught.value.hint


def test_no_runs_at_all(bottle: Bottle, capsys: pytest.CaptureFixture[str]) -> None:
    assert say(RUNS, bottle, capsys).strip() == "no runs yet; train one: `cls train --cat GROUP`"
    assert say(RUNS, bottle, capsys, "--json").strip() == "[]"
    with pytest.raises(BottleError) as caught:
        find_run(bottle, "newest")
    assert caught.value.code == "bottle.no_finished_run"
    assert execute(REPORT, ["newest", "--cfg", str(bottle.settings.file)]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == f"error: {caught.value.line()}"


@pytest.mark.parametrize("display", [True, False])
def test_the_report_is_opened_where_there_is_a_browser(
    bottle: Bottle,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    display: bool,
) -> None:
    """With a browser of our own, which writes down what it was asked to open."""
    import webbrowser

    folder = make_run(bottle, "v__0_train_lite0_16_0.001", "Цвет: верх")
    opened, browser = tmp_path / "opened", tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\nprintf %s "$1" > "{opened}"\n')
    browser.chmod(browser.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setattr(webbrowser, "_tryorder", [str(browser)])
    monkeypatch.setattr(webbrowser, "_browsers", {str(browser): [None, webbrowser.GenericBrowser(str(browser))]})
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    if display:
        monkeypatch.setenv("DISPLAY", ":0")
    for words in (("newest",), ("0", "--group", "Цвет: верх"), ("v__0",), (folder.name,), (str(folder),)):
        opened.unlink(missing_ok=True)
        assert say(REPORT, bottle, capsys, *words).strip() == str(folder / "report.html")
        assert opened.exists() == display
        if display:
            assert opened.read_text() == (folder / "report.html").as_uri()
    opened.unlink(missing_ok=True)
    say(REPORT, bottle, capsys, "newest", "--print")
    assert not opened.exists()


def test_a_run_without_a_report(bottle: Bottle, capsys: pytest.CaptureFixture[str]) -> None:
    new_run_folder(bottle, "hat", "train_eff_4_0.001", "identity").release()
    assert execute(REPORT, ["v__0_train_eff_4_0.001", "--cfg", str(bottle.settings.file), "--debug"]) == 1
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.endswith("[bottle.no_report]")
    assert "unfinished" in line


def test_the_time_is_that_of_the_whole_run(bottle: Bottle, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(bottle, "v__0_train_lite0_16_0.001")
    older = make_run(bottle, "v__1_train_lite0_16_0.001")
    rewrite(older, lambda metrics: metrics.pop("run_seconds"))
    lines = say(RUNS, bottle, capsys).splitlines()
    assert [line.rsplit(maxsplit=2)[-2:] for line in lines if " finished " in line] == [["131", "s"], ["≥64", "s"]]
    assert "≥: the fit alone; an earlier version did not keep the time of the whole run" in "\n".join(lines)
    compared = say(RUNS, bottle, capsys, "--compare", "0", "1")
    assert ["seconds,", "whole", "run", "131.4", "-"] in [line.split() for line in compared.splitlines()]
    first, second = json.loads(say(RUNS, bottle, capsys, "--json"))
    assert (first["run_seconds"], second["run_seconds"], second["seconds"]) == (131.4, None, 64.2)


def test_a_mean_over_some_labels_says_over_how_many(
    bottle: Bottle, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def thin(metrics: dict[str, Any]) -> None:
        found = metrics["validation"]
        found["labels"]["beanie"]["ap"] = None
        found["cross_fitted"] |= {"left_out": ["beanie"]}

    rewrite(make_run(bottle, "v__0_train_lite0_16_0.001", ap=0.9965), thin)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    listed = say(RUNS, bottle, capsys)
    (line,) = (line for line in listed.splitlines() if " finished " in line)
    assert line.split("960+240")[1].split() == ["0.897", "(1/2)", "0.996", "(1/2)", "0.825", "131", "s"]
    assert "v__0_train_lite0_16_0.001: mAP is the mean over 1 of 2 labels" in listed
    assert len(line) <= 120
    crossed = json.loads(say(RUNS, bottle, capsys, "--json"))[0]["cross_validated"]
    assert (crossed["mean_over_labels"], crossed["labels"], crossed["people"]) == (1, 2, 240)


def test_cross_validated_scores_are_compared_first(bottle: Bottle, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(bottle, "v__0_train_lite0_16_0.001", ap=0.6, interval=(0.45, 0.55))
    older = make_run(bottle, "v__1_train_lite0_16_0.001", ap=0.8)
    shown = say(RUNS, bottle, capsys, "--compare", "0", "1")
    names = [line.split("  ")[0] for line in shown.splitlines()]
    in_sample = "in-sample F1 (thresholds chosen on these people)"
    assert names.index("cross-validated F1") < names.index("mAP") < names.index(in_sample)
    (line,) = (line for line in shown.splitlines() if line.startswith("cross-validated F1 "))
    assert line.split()[2:] == [
        "0.500",
        "(0.450–0.550)",
        "0.700",
        "(0.700–0.900)",
        "+0.200",
        "intervals",
        "lie",
        "apart",
    ]
    rewrite(older, lambda metrics: metrics["validation"].pop("cross_fitted"))
    assert "0.500 (0.450–0.550)" in say(RUNS, bottle, capsys, "--compare", "0", "1")
