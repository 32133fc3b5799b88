"""How many seconds and epochs until a classifier of people never seen reaches an F1, ours and its peers'?

Photos of the sample set, group `top_color` (one colour a person, or none), cut out by the sample's segmentation model.
Scored on another sample set: other people, other picsets. All with the same square input, the same people for training
and the same held-out part, one after another, each in a process of its own with both cores:

- ours: `train.py`, a cut-out of the main person, ImageNet weights; and the same from random weights;
- `yolo classify train` (ultralytics, from scratch: its pretrained weights cannot be had offline), on whole photos and
  on boxes of the main person, with its own defaults, for as many epochs as fit into the processor seconds of ours;
- frozen ImageNet features of timm's tf_efficientnet_lite0 and a logistic regression, on whole photos and on boxes.

Kind to the peers: photos and boxes lie ready as small squares, so that they neither decode large photos nor lose a
person to a centre crop; ultralytics gets both cores. Both clocks start with the process: processor seconds, which other
work on the machine changes little (and in which a core that waits for a loader costs nothing), and seconds. After every
epoch the weights the tool would hand out then (its best on the held-out part) are put aside and scored later. F1 is the
mean over labels; ours and the regressions' decide by thresholds chosen on the held-out part, ultralytics by its largest
probability. The segmentation that ours and the boxes need is not in the clock; its seconds are printed.

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
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import numpy as np

from benchmarks.f1_peers import (
    GROUP,
    Curve,
    Point,
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
from benchmarks.guide import environment_of, probabilities, sample_bottle
from cls.bottle.layout import Bottle
from cls.files import read_json, write_json_atomic
from cls.settings import REPOSITORY

AIMS = (0.8, 0.9)


def run_ours(work: Path, bottle: Bottle, options: Sequence[str], name: str) -> tuple[list[dict[str, Any]], Any]:
    """Runs train.py and puts the best weights aside after every epoch; gives what was put aside, and the run."""
    from cls.training.runs.listing import finished_run

    folder = work / "runs" / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    before = set(bottle.models(GROUP).glob("v__*"))
    command = [sys.executable, "cls/classification/train.py", "--cat", GROUP, "--no-resume", *options]
    kept: list[dict[str, Any]] = []
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
                    spent = {"wall_s": time.monotonic() - started_s, "processor_s": processor_seconds(process.pid)}
                    kept.append({**spent, "epochs": len(kept) + 1, "file": str(copy)})
                    shutil.copyfile(last.with_name("best.ckpt"), copy)
    if process.returncode:
        raise SystemExit(f"train.py failed: {(folder / 'log.txt').read_text()[-500:]}")
    return kept, finished_run(bottle, "newest", GROUP)


def processor_seconds(pid: int) -> float:
    """Processor seconds that a process has used, all its threads together (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def score_ours(kept: Sequence[dict[str, Any]], run: Any, test: TestSet, name: str) -> Curve:
    """F1 of the weights put aside, with thresholds chosen on the run's validation part; the last are the final ones."""
    from cls.dataset.cutouts import CutoutFormat, load_cutouts
    from cls.dataset.samples import labels_of
    from cls.machine import cores
    from cls.metrics.multilabel import choose_thresholds

    size = run.preprocessing
    valid = run.validation_samples()
    found = list(test.people.values())
    valid_cutouts, _ = load_cutouts(run.bottle, valid, CutoutFormat(size), workers=cores())
    test_cutouts, _ = load_cutouts(test.bottle, found, CutoutFormat(size), workers=cores())

    def f1_of(network: Any, thresholds: Any) -> float:
        is_said = probabilities(network, size, test_cutouts) >= thresholds
        by_path = dict(zip((sample.path for sample in found), is_said, strict=True))
        nothing = np.zeros(len(run.labels), bool)
        return mean_f1(np.array([by_path.get(path, nothing) for path in test.paths]), test.truth)

    curve = Curve(name)
    for entry in kept[:-1]:
        network = run.load_network(Path(entry["file"]))
        thresholds = choose_thresholds(probabilities(network, size, valid_cutouts), labels_of(valid).astype(np.float64))
        curve.points.append(Point(entry["wall_s"], entry["processor_s"], entry["epochs"], f1_of(network, thresholds)))
    last, final = kept[-1], f1_of(run.load_network(), np.array(run.thresholds))
    curve.points.append(Point(last["wall_s"], last["processor_s"], last["epochs"], final))
    return curve


def yolo_epochs(work: Path, arguments: Sequence[str], kind: str, processor_s: float) -> int:
    """How many epochs ultralytics does in some processor seconds, from two epochs tried."""
    times = read_json(run_peer(work, f"yolo trial {kind}", [*arguments, "--epochs", "2"]) / "times.json")
    first, second = (float(entry["processor_s"]) for entry in times)
    return max(round(1 + (processor_s - first) / (second - first)), 1)


def compare(options: argparse.Namespace) -> dict[str, Any]:
    """Runs everybody, one after another."""
    work: Path = options.work
    bottle, segment_s = sample_bottle(work, photos=options.photos, seed=11, groups=[GROUP])
    test_bottle, _ = sample_bottle(work, photos=options.test_photos, seed=12, groups=[GROUP])
    size = f"{options.size}x{options.size}"
    ours = ["--arch", options.arch, "--size", size, "--batch", "16", "--epochs", str(options.epochs)]
    # After the last weights are put aside, so not in the clock: as many people as say something of rare changes.
    ours += ["--background-people", "150"]
    loads = [os.getloadavg()[0]]
    kept, run = run_ours(work, bottle, ours, "ours")
    test = open_test(test_bottle, run.labels)
    equal_s = float(kept[-1]["processor_s"])
    curves = [said(score_ours(kept, run, test, "ours"))]
    for kind in ("photos", "boxes"):
        folder = write_squares(work, run, test, kind)
        loads.append(os.getloadavg()[0])
        given = ["--folder", str(folder), "--size", str(options.size)]
        out = run_peer(work, f"probe {kind}", ["--peer", "probe", *given])
        curves.append(said(score_probe(out, test, f"timm linear probe, {kind}")))
        yolo = ["--peer", "yolo", *given, "--model", options.model]
        epochs = yolo_epochs(work, yolo, kind, equal_s * options.peer_factor)
        loads.append(os.getloadavg()[0])
        out = run_peer(work, f"yolo {kind}", [*yolo, "--epochs", str(epochs)])
        curves.append(said(score_yolo(folder, out, options.size, test, f"yolo classify train, {kind}")))
    if options.scratch:
        kept, random_run = run_ours(work, bottle, [*ours, "--weights", "none"], "ours-random")
        curves.append(said(score_ours(kept, random_run, test, "ours, random weights")))
    return {
        "group": GROUP,
        "photos": [len(run.samples("train")), len(run.validation_samples())],
        "test_photos": len(test.paths),
        "input_px": size,
        "arch": run.arch,
        "yolo_model": options.model,
        "aims": AIMS,
        "equal_processor_s": equal_s,
        "segmentation_s": segment_s,
        "load_average": [min(loads), max(loads)],
        "background_sensitivity": read_json(run.folder / "metrics.json").get("background_sensitivity"),
        "curves": [asdict(curve) for curve in curves],
    }


def said(curve: Curve) -> Curve:
    """The same, printed."""
    last = curve.points[-1]
    print(
        f"{curve.name}: F1 {last.f1:.3f} after {last.epochs} epochs, {last.processor_s:.0f} processor seconds, "
        f"{last.wall_s:.0f} s",
        flush=True,
    )
    return curve


def curves_of(found: dict[str, Any]) -> list[Curve]:
    return [Curve(entry["name"], [Point(**point) for point in entry["points"]]) for entry in found["curves"]]


def table(found: dict[str, Any]) -> str:
    """One line a contender, as Markdown."""
    equal_s = found["equal_processor_s"]
    reached = " | ".join(f"to {aim:g}: processor s, epochs" for aim in found["aims"])
    lines = [f"| | epochs | F1 after {equal_s:.0f} processor s | best F1 | {reached} |"]
    lines.append("|---|---|---|---|" + "---|" * len(found["aims"]))
    for curve in curves_of(found):
        # Ultralytics' last epoch may end a little later than ours: whole epochs cannot be fitted exactly.
        at = curve.at(equal_s * 1.05)
        firsts = [curve.first(aim) for aim in found["aims"]]
        when = " | ".join("not reached" if p is None else f"{p.processor_s:.0f}, {p.epochs}" for p in firsts)
        best = max(point.f1 for point in curve.points)
        shown = "-" if at is None else f"{at:.3f}"
        lines.append(f"| {curve.name} | {curve.points[-1].epochs} | {shown} | {best:.3f} | {when} |")
    return "\n".join(lines)


def draw(found: dict[str, Any], file: Path) -> None:
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4))
    for curve in curves_of(found):
        seconds, scores = [p.processor_s for p in curve.points], [p.f1 for p in curve.points]
        if len(scores) > 1:
            axes.step(seconds, scores, where="post", marker="o", markersize=3, label=curve.name)
        else:
            axes.plot(seconds, scores, "s", label=curve.name)
    for aim in found["aims"]:
        axes.axhline(aim, color="grey", linewidth=0.8, linestyle=":")
    axes.set(xlabel="processor seconds", ylabel="mean F1, people never seen", ylim=(0, 1), xlim=(0, None))
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
    parser.add_argument("--peer-factor", type=float, default=1.0, help="processor seconds of ultralytics in ours")
    parser.add_argument("--scratch", action="store_true", help="ours from random weights, too")
    parser.add_argument("--out", type=Path, help="folder for time_to_f1.json and .png")
    for name, kind in (
        ("--peer", str),
        ("--folder", Path),
        ("--peer-out", Path),
        ("--started", float),
    ):
        parser.add_argument(name, type=kind, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.work = options.work.absolute()
    if options.peer:
        from cls.training.loop.distributed import prepare_process

        prepare_process()
        out, folder = options.peer_out, options.folder
        if options.peer == "yolo":
            peer_yolo(folder, out, options)
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
