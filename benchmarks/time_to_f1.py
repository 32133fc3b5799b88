"""How many seconds and epochs until a classifier of people never seen reaches an F1, ours and its peers'?

Photos of the sample set, group `top_color` (one colour a person, or none), cut out by the sample's segmentation model.
Scored on another sample set: other people, other picsets. All with the same square input, the same people for training
and the same held-out part, one after another, each in a process of its own with both cores:

- ours: `train.py`, a cut-out of the main person, ImageNet weights; and the same from random weights;
- `yolo classify train` (ultralytics, from scratch: its pretrained weights cannot be had offline), on whole photos and
  on boxes of the main person, with its own defaults, for as long as ours took (`time=`), its schedule fitted to that;
- frozen ImageNet features of timm's tf_efficientnet_lite0 and a logistic regression, on whole photos and on boxes.

Kind to the peers: photos and boxes lie ready as small squares, so that they neither decode large photos nor lose a
person to a centre crop; ultralytics gets both cores. The clock starts with the process. After every epoch the weights
the tool would hand out then (its best on the held-out part) are put aside and scored later. F1 is the mean over labels;
ours and the regressions' decide by thresholds chosen on the held-out part, ultralytics by its largest probability. The
segmentation that ours and the boxes need is not in the clock; its seconds are printed.

    .venv/bin/python benchmarks/time_to_f1.py --work FOLDER [--photos 1000] [--test-photos 300] [--size 160]
        [--epochs 6] [--out benchmarks/results]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import numpy as np
from f1_peers import (
    GROUP,
    Curve,
    TestSet,
    mean_f1,
    open_test,
    peer_probe,
    peer_yolo,
    run_peer,
    score_probe,
    score_yolo,
    write_squares,
)
from guide import environment_of, sample_bottle

from cls.bottle.layout import Bottle
from cls.files import read_json, write_json_atomic
from cls.settings import REPOSITORY

AIM = 0.9


def run_ours(
    work: Path, bottle: Bottle, options: Sequence[str], name: str
) -> tuple[list[tuple[float, Path]], Any, float]:
    """Runs train.py and puts the best weights aside after every epoch: (seconds, file), the finished run, seconds."""
    from cls.training.run import newest_run

    folder = work / "runs" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    before = set(bottle.models(GROUP).glob("v__*"))
    command = [sys.executable, "cls/classification/train.py", "--cat", GROUP, "--no-resume", *options]
    kept: list[tuple[float, Path]] = []
    seen = 0.0
    with (folder / "log.txt").open("w") as log:
        started_s = time.monotonic()
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment_of(bottle.root), stdout=log, stderr=subprocess.STDOUT
        )
        while process.poll() is None:
            time.sleep(0.1)
            # last.ckpt is written after best.ckpt, once an epoch.
            for last in [f for run in set(bottle.models(GROUP).glob("v__*")) - before for f in run.glob("*/last.ckpt")]:
                if last.stat().st_mtime != seen:
                    seen = last.stat().st_mtime
                    copy = folder / f"epoch_{len(kept) + 1:03d}.ckpt"
                    kept.append((time.monotonic() - started_s, copy))
                    shutil.copyfile(last.with_name("best.ckpt"), copy)
        seconds = time.monotonic() - started_s
    if process.returncode:
        raise SystemExit(f"train.py failed: {(folder / 'log.txt').read_text()[-500:]}")
    return kept, newest_run(bottle, GROUP), seconds


def score_ours(kept: Sequence[tuple[float, Path]], run: Any, test: TestSet, name: str, seconds: float) -> Curve:
    from cls.dataset.cutouts import CutoutFormat, load_cutouts
    from cls.dataset.samples import labels_of
    from cls.machine import cores
    from cls.training.checkpoint import load_network
    from cls.training.evaluate import predict
    from cls.training.thresholds import choose_thresholds

    size = run.preprocessing
    valid = run.validation_samples()
    found = list(test.people.values())
    valid_cutouts, _ = load_cutouts(run.bottle, valid, CutoutFormat(size), workers=cores())
    test_cutouts, _ = load_cutouts(test.bottle, found, CutoutFormat(size), workers=cores())

    def f1_of(network: Any, thresholds: Any) -> float:
        by_path = dict(zip((s.path for s in found), predict(network, size, test_cutouts) >= thresholds, strict=True))
        nothing = np.zeros(len(run.labels), bool)
        return mean_f1(np.array([by_path.get(path, nothing) for path in test.paths]), test.truth)

    curve = Curve(name, seconds=seconds)
    for epoch, (when, file) in enumerate(kept, start=1):
        network = load_network(file, run.arch, len(run.labels), size.height_px, size.width_px)
        probs = predict(network, size, valid_cutouts)
        thresholds = choose_thresholds(probs, labels_of(valid).astype(np.float64))
        curve.points.append((when, epoch, f1_of(network, thresholds)))
    final = f1_of(run.load_network(), np.array(run.thresholds))
    curve.points.append((seconds, len(kept), final))
    return curve


def compare(options: argparse.Namespace) -> dict[str, Any]:
    work: Path = options.work
    bottle, segment_s = sample_bottle(work, photos=options.photos, seed=11, groups=[GROUP])
    test_bottle, _ = sample_bottle(work, photos=options.test_photos, seed=12, groups=[GROUP])
    size = f"{options.size}x{options.size}"
    ours = ["--arch", options.arch, "--size", size, "--batch", "16"]
    loads = [os.getloadavg()[0]]
    kept, run, seconds = run_ours(work, bottle, [*ours, "--epochs", str(options.epochs)], "ours")
    test = open_test(test_bottle, run.labels)
    span_s = kept[-1][0]
    curves = [score_ours(kept, run, test, "ours", seconds)]
    say(curves[-1])
    flips = read_json(run.folder / "metrics.json").get("background_sensitivity")
    if options.scratch:
        more = [*ours, "--weights", "none", "--epochs", str(options.epochs)]
        kept, random_run, seconds = run_ours(work, bottle, more, "ours-random")
        curves.append(score_ours(kept, random_run, test, "ours, random weights", seconds))
        say(curves[-1])
    for kind in ("photos", "boxes"):
        folder = write_squares(work, run, test, kind)
        loads.append(os.getloadavg()[0])
        out, _ = run_peer(
            work, f"probe {kind}", ["--peer", "probe", "--folder", str(folder), "--size", str(options.size)]
        )
        curves.append(score_probe(out, test, f"timm linear probe, {kind}"))
        say(curves[-1])
        budget_s = span_s * options.peer_factor
        yolo = ["--peer", "yolo", "--folder", str(folder), "--size", str(options.size), "--seconds", str(budget_s)]
        out, seconds = run_peer(work, f"yolo {kind}", [*yolo, "--model", options.model])
        curves.append(score_yolo(folder, out, options.size, test, f"yolo classify train, {kind}", seconds))
        say(curves[-1])
    return {
        "group": GROUP,
        "photos": len(run.samples("train")) + len(run.validation_samples()),
        "test_photos": len(test.paths),
        "input_px": size,
        "arch": run.arch,
        "yolo_model": options.model,
        "aim": AIM,
        "equal_seconds": span_s,
        "segmentation_s": segment_s,
        "load_average": [min(loads), max(loads)],
        "background_sensitivity": flips,
        "curves": [
            {"name": c.name, "points": [[round(s, 1), e, round(f, 4)] for s, e, f in c.points], "seconds": c.seconds}
            for c in curves
        ],
    }


def say(curve: Curve) -> None:
    when, epochs, f1 = curve.points[-1]
    print(f"{curve.name}: F1 {f1:.3f} after {epochs} epochs, {when:.0f} s", flush=True)


def table(found: dict[str, Any]) -> str:
    lines = [f"| | epochs | F1 after {found['equal_seconds']:.0f} s | best F1 | seconds, epochs to {found['aim']:g} |"]
    lines.append("|---|---|---|---|---|")
    for entry in found["curves"]:
        curve = Curve(entry["name"], [(s, e, f) for s, e, f in entry["points"]])
        at, first = curve.at(found["equal_seconds"] + 0.1), curve.first(found["aim"])
        reached = "not reached" if first is None else f"{first[0]:.0f}, {first[1]}"
        best = max(f1 for _, _, f1 in curve.points)
        lines.append(
            f"| {curve.name} | {curve.points[-1][1]} | {'-' if at is None else f'{at:.3f}'} | {best:.3f} | {reached} |"
        )
    return "\n".join(lines)


def draw(found: dict[str, Any], file: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    for entry in found["curves"]:
        seconds, _, scores = zip(*entry["points"], strict=True)
        style: dict[str, Any] = {"where": "post"} if len(seconds) > 1 else {}
        if style:
            axes.step(seconds, scores, marker="o", markersize=3, label=entry["name"], **style)
        else:
            axes.plot(seconds, scores, "s", label=entry["name"])
    axes.axhline(found["aim"], color="grey", linewidth=0.8, linestyle=":")
    axes.set(xlabel="seconds", ylabel="mean F1, people never seen", ylim=(0, 1), xlim=(0, None))
    axes.legend(fontsize=7)
    figure.tight_layout()
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for photos and runs")
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--test-photos", type=int, default=300)
    parser.add_argument("--size", type=int, default=160, help="side of everybody's input (default: 160)")
    parser.add_argument("--epochs", type=int, default=6, help="ours (default: 6)")
    parser.add_argument("--arch", default="lite0", help="ours (default: lite0)")
    parser.add_argument("--model", default="yolo11n-cls.yaml", help="ultralytics' (default: yolo11n-cls.yaml)")
    parser.add_argument("--peer-factor", type=float, default=1.0, help="ultralytics' time in ours (default: 1)")
    parser.add_argument("--scratch", action="store_true", help="ours from random weights, too")
    parser.add_argument("--out", type=Path, help="folder for time_to_f1.json and .png")
    for name, kind in (
        ("--peer", str),
        ("--folder", Path),
        ("--peer-out", Path),
        ("--started", float),
        ("--seconds", float),
    ):
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work = options.work.absolute()
    if options.peer:
        from cls.training.speed import prepare_process

        prepare_process()
        out, folder = options.peer_out, options.folder
        if options.peer == "yolo":
            peer_yolo(folder, out, options.size, options.seconds, options.started, options.model)
        else:
            peer_probe(folder, out, options.size, options.started)
        return
    found = compare(options)
    print(table(found))
    print(f"segmentation of the training photos: {found['segmentation_s']:.0f} s")
    print(f"background sensitivity: {json.dumps(found['background_sensitivity'])}")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        write_json_atomic(options.out / "time_to_f1.json", found, indent=1)
        draw(found, options.out / "time_to_f1.png")


if __name__ == "__main__":
    main()
