"""Predictions on their way to a bad collector: server errors, cut connections, expired tokens, and kill -9."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cls.bottle.layout import Bottle
from cls.collector.client import CollectorClient
from cls.files import write_json_atomic
from cls.settings import REPOSITORY, load_settings
from cls.write_back.ret_meta import PredictedPerson, with_predictions
from cls.write_back.statements import JOURNAL
from tests.bottles import make_tiny_bottle
from tests.collector.servers import environment, flaky_collector, run_script, stats
from tests.exporting.runs import export_run, fabricate_run
from tests.preloaded import Program

GROUP, RUN = "hair_color", "v__0_train_eff_4_0.001"
PICSETS = 12
# Two picsets meet all five faults of the collector once, sending as well as withdrawing; every fault is waited for.
FAULTY_PICSETS = 4
GUIDS = [f"{number:08x}-0000-4000-8000-{number:012x}" for number in range(PICSETS)]
MAN = PredictedPerson("male", (0.1, 0.1, 0.4, 0.9), {GROUP: ("black hair",)})
WOMAN = PredictedPerson("female", (0.5, 0.1, 0.9, 0.9), {GROUP: ()})


def predicted(bottle: Bottle, url: str) -> dict[str, list[Any]]:
    """Writes meta.json and ret_meta.json of every picset of the collector; returns the entries expected there."""
    expected: dict[str, list[Any]] = {}
    with CollectorClient(url) as client:
        for picset in client.picsets(GUIDS):
            people = {str(item.picture): [MAN, WOMAN] for item in picset.items}
            merged = with_predictions(picset, people, {GROUP: RUN})
            write_json_atomic(bottle.meta(GROUP) / picset.guid / "meta.json", picset.content)
            write_json_atomic(bottle.meta(GROUP) / picset.guid / "ret_meta.json", merged.picset.content)
            expected[picset.guid] = entries_of(merged.picset.content)
    return expected


def entries_of(content: Any) -> list[Any]:
    return [item["trained"] for item in content["items"]]


def at_collector(url: str) -> dict[str, list[Any]]:
    with CollectorClient(url) as client:
        return {picset.guid: entries_of(picset.content) for picset in client.picsets(GUIDS)}


def start(script: str, cfg: Path, *arguments: str) -> Program:
    words = [str(REPOSITORY / "cls" / "classification" / script), "--cfg", str(cfg), *arguments]
    return Program(words, cwd=REPOSITORY, env=environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_when(process: Program, is_time: Callable[[], bool]) -> None:
    ends_s = time.monotonic() + 90
    while process.poll() is None and time.monotonic() < ends_s and not is_time():
        time.sleep(0.005)
    assert process.poll() is None, "it was done before it could be killed"
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


def test_errors_cuts_and_expired_tokens(configuration: Callable[..., Path]) -> None:
    with flaky_collector(
        pictures=2 * FAULTY_PICSETS, picsets=FAULTY_PICSETS, trained_faults=True, token_uses=4, retry_after="0"
    ) as url:
        cfg = configuration(collector_url=url)
        expected = predicted(Bottle(load_settings(cfg)), url)
        done = run_script("post_ret_meta.py", "--groups", GROUP, "--cfg", str(cfg))
        assert done.returncode == 0, done.stderr
        assert f"{FAULTY_PICSETS} picsets sent to {url}" in done.stdout
        assert at_collector(url) == expected
        assert stats(url)["refused"] > 0
        withdrawn = run_script("post_ret_meta.py", "--groups", GROUP, "--cfg", str(cfg), "--withdraw", RUN, "--yes")
        assert withdrawn.returncode == 0, withdrawn.stderr
        assert all(entries == [[], []] for entries in at_collector(url).values())


def test_what_others_change_meanwhile_is_kept(configuration: Callable[..., Path]) -> None:
    """Somebody works on a picset while the one before it is sent, and while it waits for another attempt."""
    with flaky_collector(
        pictures=2 * FAULTY_PICSETS, picsets=FAULTY_PICSETS, trained_faults=True, edits=True, retry_after="0"
    ) as url:
        cfg = configuration(collector_url=url)
        expected = predicted(Bottle(load_settings(cfg)), url)
        shown = run_script("post_ret_meta.py", "--groups", GROUP, "--cfg", str(cfg), "--preview")
        assert shown.returncode == 0, shown.stderr
        done = run_script("post_ret_meta.py", "--groups", GROUP, "--cfg", str(cfg))
        assert done.returncode == 0, done.stderr
        assert f"{FAULTY_PICSETS} picsets sent to {url}" in done.stdout
        assert f"{FAULTY_PICSETS} picsets changed there since the preview, and what others said stays" in done.stdout
        found, by_hand = at_collector(url), []
        for guid, entries in found.items():
            by_hand += [entry["by hand"] for photo in entries for entry in photo if "by hand" in entry]
            ours = [[entry for entry in photo if "by hand" not in entry] for photo in entries]
            assert ours == expected[guid]
        assert sorted(by_hand) == list(range(1, stats(url)["edits"] + 1))


@pytest.mark.parametrize("is_withdrawal", [False, True])
def test_killed_while_sending_and_run_again(configuration: Callable[..., Path], is_withdrawal: bool) -> None:
    with flaky_collector(pictures=24, picsets=PICSETS, trained_latency_s=0.1) as url:
        cfg = configuration(collector_url=url)
        bottle = Bottle(load_settings(cfg))
        expected = predicted(bottle, url)
        options = ["--groups", GROUP]
        if is_withdrawal:
            assert run_script("post_ret_meta.py", *options, "--cfg", str(cfg)).returncode == 0
            options += ["--withdraw", RUN, "--yes"]
        kept_before, journal = stats(url).get("kept", 0), bottle.root / JOURNAL
        lines_before = len(lines_of(journal))
        process = start("post_ret_meta.py", cfg, *options)
        # Two lines a picset: killed while the fifth is under way.
        kill_when(process, lambda: len(lines_of(journal)) >= lines_before + 9)
        assert kept_before < stats(url)["kept"] < kept_before + PICSETS
        done = run_script("post_ret_meta.py", *options, "--cfg", str(cfg))
        assert done.returncode == 0, done.stderr
        assert at_collector(url) == ({guid: [[], []] for guid in GUIDS} if is_withdrawal else expected)
        # The one under way may have arrived: it is looked at again, and sent at most once more.
        assert stats(url)["kept"] <= kept_before + PICSETS + 1
        again = run_script("post_ret_meta.py", "--groups", GROUP, "--cfg", str(cfg), "--preview")
        assert f"{PICSETS if is_withdrawal else 0} picsets would be sent" in again.stdout


@pytest.mark.usefixtures("shared_conversions")
def test_killed_while_predicting_and_run_again(tmp_path: Path) -> None:
    """The second build looks at the rest alone, and ends as one build would."""
    photos, picsets = 210, 70
    bottle = make_tiny_bottle(tmp_path / "made", photos)
    export_run(bottle, fabricate_run(bottle))
    group = "top_color"
    for number in range(picsets):
        guid = f"picset-{number:03d}"
        names = [f"{number * 3 + place:04d}.jpeg" for place in range(3)]
        items = [{"origin": {"filepath": f"d/9/e/{guid}/p/{name}"}, "trained": []} for name in names]
        content = {"picset": {"guid": guid, "group": [{"group": group}]}, "items": items}
        write_json_atomic(bottle.meta(group) / guid / "meta.json", content)
    cfg = bottle.settings.file
    process = start("segment_meta_builder.py", cfg, "--groups", group)
    kill_when(process, lambda: len(list(bottle.meta(group).glob("*/ret_meta.json"))) >= 5)
    done = run_script("segment_meta_builder.py", "--groups", group, "--cfg", str(cfg))
    assert done.returncode == 0, done.stderr
    assert f"{photos} people in {photos} photos of {picsets} picsets" in done.stdout
    remembered = int(done.stdout.split(" of them were looked at before")[0].splitlines()[-1])
    assert 60 <= remembered < photos
    files = sorted(bottle.meta(group).glob("*/ret_meta.json"))
    assert len(files) == picsets
    assert all(len(entries) == 1 for file in files for entries in entries_of(json.loads(file.read_text())))
