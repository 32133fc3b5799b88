"""How good are classifiers trained by the guide on real photographs, group by group?

Every group goes the guide's way, by the guide's own scripts: `cls collector serve` on the folder of photos,
`load_group.py`, `segment_builder.py` once for all groups, `train.py` with the options given. Pictures, masks and
cut-outs are shared by all groups (cut-outs of one input size are made once). The figures are those of the run's own
validation split, on which the run has also chosen its epoch; `--aside 0.2` keeps that share of the photos away from the
collector, and scores the finished runs on them besides (a photo in which nobody is found scores 0 for every label
there). `--probe` adds the reference that costs a minute: frozen ImageNet features of whole photos at 192x288 with a
balanced logistic regression a label, on the very same split.

    .venv/bin/python benchmarks/real_photos.py --work FOLDER --prepare          # load and segment only
    .venv/bin/python benchmarks/real_photos.py --work FOLDER --name first \
        --train-options="--arch lite0 --size 288x192 --epochs 8 --batch 16"     # all groups
    … --groups headwear details   --minutes 20   --aside 0.2   --probe

A group that has a result under the same `--name` is not done again, and a training that was cut off is gone on with:
run the same command again. Results: FOLDER/results/NAME/<group>.json and table.md; output of each training:
FOLDER/results/NAME/<group>.log. The folder must lie outside the repository: it holds photos of people.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.guide import environment_of, open_bottle, probabilities
from cls.bottle.layout import Bottle
from cls.demo.guide_steps import HOST, GuideStep, run_step, service
from cls.errors import ClsError
from cls.files import atomic_path, read_json, safe_name, write_json_atomic, write_text_atomic
from cls.settings import REPOSITORY

SHARED = REPOSITORY.parent / "shared"
DEFAULT_OPTIONS = "--arch lite0 --size 256x192 --epochs 8 --batch 16"
# Mean average precision listed with the data, on photos kept aside there: frozen features, and a plain fine-tune.
REFERENCES = {
    "headwear": (0.44, 0.61), "lower_body": (0.45, 0.56), "outer_layer": (0.31, 0.39), "top": (0.25, 0.25),
    "bag": (0.43, 0.41), "footwear": (0.22, 0.24), "details": (0.22, 0.28),
}  # fmt: skip
PROBE_SIZE_PX = (288, 192)


@dataclass(frozen=True)
class Plan:
    """Where everything is, and what is asked for."""

    work: Path
    source: Path
    segmenter: Path
    aside: float
    options: tuple[str, ...]
    minutes: float
    results: Path

    @property
    def tail(self) -> str:
        """What tells the files of this share kept aside from those of another."""
        return "" if self.aside == 0 else f"-without-{self.aside:g}"

    @property
    def bottle(self) -> Path:
        """The data folder trained from."""
        return self.work / f"bottle{self.tail}"

    @property
    def aside_bottle(self) -> Path:
        """The data folder of the photos kept aside."""
        return self.work / f"aside-{self.aside:g}"


def groups_of(source: Path) -> list[str]:
    return list(read_json(source / "groups.json"))


def split_source(source: Path, share: float, folder: Path) -> tuple[Path, Path]:
    """The source as two folders of labelled photos, the kept-aside share by a digest of the file's name."""
    sides = folder / f"kept-{share:g}", folder / f"aside-{share:g}-photos"
    header, *rows = (source / "tags.csv").read_text(encoding="utf-8-sig").splitlines()
    is_aside = [int(hashlib.sha256(row.split(",")[0].encode()).hexdigest()[:8], 16) < share * 2**32 for row in rows]
    for side, wanted in zip(sides, (False, True), strict=True):
        side.mkdir(parents=True, exist_ok=True)
        chosen = [row for row, flag in zip(rows, is_aside, strict=True) if flag is wanted]
        write_text_atomic(side / "tags.csv", "\n".join([header, *chosen]) + "\n")
        write_text_atomic(side / "groups.json", (source / "groups.json").read_text(encoding="utf-8"))
        if not (side / "images").exists():
            (side / "images").symlink_to((source / "images").absolute())
    return sides


@contextmanager
def collector(source: Path, work: Path, limit: int | None) -> Iterator[int]:
    """A collector that serves a folder; gives its port."""
    import socket

    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port = int(probe.getsockname()[1])
    arguments = ["collector", "serve", str(source.absolute()), "--port", str(port), "--state", str(work / "state")]
    arguments += ["--limit", str(limit)] if limit else []
    with service("collector", arguments, [port], work / "collector.log", environment_of(work, port)):
        yield port


def load_and_segment(source: Path, bottle: Path, groups: Sequence[str], plan: Plan, limit: int | None) -> None:
    """Loads every group and finds the people of all photos, unless both are done."""
    mark = bottle / ".prepared.json"
    digest = hashlib.sha256((source / "tags.csv").read_bytes() + (source / "groups.json").read_bytes()).hexdigest()
    wanted = {"source": digest, "segmenter": plan.segmenter.name, "groups": list(groups), "limit": limit}
    if mark.exists() and read_json(mark) == wanted:
        print(f"{bottle} is prepared")
        return
    bottle.mkdir(parents=True, exist_ok=True)
    with collector(source, plan.work, limit) as port:
        environment = environment_of(bottle, port)
        for group in groups:
            command = ("python", "cls/classification/load_group.py", "--group", group)
            run_step(GuideStep("load", f"load {group}", command), environment)
        command = ("python", "cls/classification/segment_builder.py", "--model-path", str(plan.segmenter.absolute()))
        run_step(GuideStep("segment", "segment", command), environment)
    write_json_atomic(mark, wanted)


def train_group(plan: Plan, group: str) -> dict[str, Any]:
    """One training by its script; ended when it takes too long."""
    command = [sys.executable, "cls/classification/train.py", "--cat", group, *plan.options]
    print(f"{group}: {shlex.join(command[1:])}", flush=True)
    started_s, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    log = plan.results / f"{safe_name(group)}.log"
    with log.open("a") as stream:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment_of(plan.bottle), stdin=subprocess.DEVNULL, stdout=stream,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            status = process.wait(plan.minutes * 60)
        except subprocess.TimeoutExpired:
            raise ClsError(f"{group} took more than {plan.minutes:g} minutes", where=log) from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                process.wait()
    text = log.read_text(errors="replace").strip()
    if status != 0:
        raise ClsError(f"{group} ended with status {status}: {text.splitlines()[-1] if text else 'nothing'}", where=log)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    runs = [line.removeprefix("run ") for line in text.splitlines() if line.startswith("run ")]
    return {
        "run": Path(runs[-1]).name,
        "script_minutes": (time.monotonic() - started_s) / 60,
        "processor_minutes": (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 60,
        "is_resumed": "resuming " in text,
        "load_average": os.getloadavg()[0],
    }


def measured(plan: Plan, group: str, run_name: str) -> dict[str, Any]:
    """The run's own figures on its validation split."""
    metrics = read_json(open_bottle(plan.bottle).models(group) / run_name / "metrics.json")
    validation = metrics["validation"]
    return {
        "map": validation["macro"]["ap"],
        "base_rate": validation["macro"]["base_rate"],
        "f1": validation["macro"]["f1"],
        "fit_minutes": metrics["seconds"] / 60,
        "waiting_share": metrics["waiting_share"],
        "samples": metrics["samples"],
        "labels": {
            name: {key: label[key] for key in ("positives", "base_rate", "ap")}
            for name, label in validation["labels"].items()
        },
    }


def score_aside(plan: Plan, group: str, run_name: str) -> dict[str, Any]:
    """The run's mean average precision on the photos kept aside."""
    from cls.bottle.dataset_file import read_dataset
    from cls.dataset.cutouts import CutoutFormat, load_cutouts
    from cls.dataset.samples import collect_samples
    from cls.machine import cores
    from cls.training.runs.listing import finished_run

    run = finished_run(open_bottle(plan.bottle), run_name or "newest", group)
    aside = open_bottle(plan.aside_bottle)
    dataset = read_dataset(aside.dataset_file(group))
    config = run.args.config
    samples, ledger = collect_samples(aside, dataset, people=config.people, subject=config.subject)
    cutouts, _ = load_cutouts(aside, samples, CutoutFormat(run.preprocessing), workers=cores())
    probs = probabilities(run.load_network(), run.preprocessing, cutouts)
    by_path: dict[str, NDArray[np.float64]] = {}
    for sample, row in zip(samples, probs, strict=True):
        by_path[sample.path] = np.maximum(by_path.get(sample.path, row), row)
    nothing = np.zeros(len(run.labels))
    order = [dataset.labels.index(name) for name in run.labels]
    truth = np.array([[row.labels[index] for index in order] for row in dataset.rows])
    scores = np.stack([by_path.get(row.path, nothing) for row in dataset.rows])
    result = mean_ap(scores, truth)
    return {**result, "photos": len(dataset.rows), "without_people": len(ledger.left_out)}


def mean_ap(scores: NDArray[np.float64], truth: NDArray[np.float64]) -> dict[str, Any]:
    from cls.metrics.multilabel import average_precision

    aps = [average_precision(column, flags > 0.5) for column, flags in zip(scores.T, truth.T, strict=True)]
    return {"map": float(np.mean([ap for ap in aps if ap is not None])), "base_rate": float(truth.mean()), "ap": aps}


def probe(plan: Plan, group: str, run_name: str) -> dict[str, Any]:
    """Frozen features of whole photos and a balanced logistic regression a label, on the run's split.

    The best of several ridges on the validation part itself, which is kind to it.
    """
    from benchmarks.linear_probe import STRENGTHS, LogisticRegression, standardised
    from cls.dataset.samples import labels_of
    from cls.training.runs.listing import finished_run

    bottle = open_bottle(plan.bottle)
    run = finished_run(bottle, run_name or "newest", group)
    features = whole_photo_features(bottle, plan.work / f"features{plan.tail}.npz")
    sides = [run.samples(side) for side in ("train", "valid")]
    inputs = standardised(*(np.stack([features[sample.path] for sample in side]) for side in sides))
    train_labels, valid_labels = (labels_of(side).astype(np.float64) for side in sides)
    tried = [
        mean_ap(LogisticRegression(inputs[0], train_labels, strength).fit(300).scores(inputs[1]), valid_labels)
        for strength in STRENGTHS
    ]
    return max(tried, key=lambda figures: figures["map"])


def whole_photo_features(bottle: Bottle, file: Path) -> dict[str, NDArray[np.float32]]:
    """Frozen ImageNet features of every photo in the pool, by name; kept in a file."""
    import cv2

    from benchmarks.linear_probe import FrozenFeatures
    from cls.people.photos import read_photo

    names = sorted(path.name for path in bottle.pictures.iterdir() if not path.name.startswith("."))
    if file.exists():
        with np.load(file) as kept:
            if list(kept["names"]) == names:
                return dict(zip(names, kept["features"], strict=True))
    frozen = FrozenFeatures(*PROBE_SIZE_PX)
    rows = []
    for start in range(0, len(names), 16):
        photos = [read_photo(bottle.picture(name)) for name in names[start : start + 16]]
        sized = [cv2.resize(photo, PROBE_SIZE_PX[::-1], interpolation=cv2.INTER_AREA) for photo in photos]
        rows.append(frozen([np.asarray(image, np.uint8) for image in sized]))
    features = np.concatenate(rows)
    with atomic_path(file) as part, part.open("wb") as stream:
        np.savez(stream, names=np.array(names), features=features)
    return dict(zip(names, features, strict=True))


def table(results: Mapping[str, dict[str, Any]]) -> str:
    """The results beside the listed references, as Markdown."""
    has_aside = any("aside" in result for result in results.values())
    has_probe = any("probe" in result for result in results.values())
    head = ["group", "base rate", "mAP, own validation", *(["mAP, kept aside"] if has_aside else [])]
    head += ["frozen probe, same split"] if has_probe else []
    head += ["listed: frozen", "listed: fine-tuned", "fit, min", "processor min", "samples"]
    rows: list[list[float | str | None]] = []
    for group, result in results.items():
        frozen, tuned = REFERENCES.get(group, (None, None))
        row: list[float | str | None] = [group, result["base_rate"], result["map"]]
        row += [result["aside"]["map"] if "aside" in result else None] if has_aside else []
        row += [result["probe"]["map"] if "probe" in result else None] if has_probe else []
        rows.append([*row, frozen, tuned, result["fit_minutes"], result["processor_minutes"], _count(result)])
    means: list[float | str | None] = ["average"]
    for column in range(1, len(head) - 1):
        values = [float(row[column]) for row in rows if row[column] is not None]  # type: ignore[arg-type]
        means.append(float(np.mean(values)) if values else None)
    lines = [head, ["---"] * len(head), *[[_cell(cell) for cell in row] for row in [*rows, [*means, ""]]]]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _count(result: Mapping[str, Any]) -> str:
    return f"{result['samples']['train']} + {result['samples']['valid']}"


def _cell(value: float | str | None) -> str:
    return "-" if value is None else value if isinstance(value, str) else f"{value:.3f}"


def do_group(plan: Plan, group: str, *, has_probe: bool) -> dict[str, Any]:
    """Trains and scores a group; what is there already is taken."""
    file = plan.results / f"{safe_name(group)}.json"
    result: dict[str, Any] = read_json(file) if file.exists() else {}
    if result and result["options"] != list(plan.options):
        raise ClsError(
            f"holds results of other options ({shlex.join(result['options'])})", where=file, hint="give another --name"
        )
    if not result:
        trained = train_group(plan, group)
        result = {"group": group, "options": list(plan.options), **trained, **measured(plan, group, trained["run"])}
        write_json_atomic(file, result, indent=1)
    if plan.aside and "aside" not in result:
        result["aside"] = score_aside(plan, group, result["run"])
    if has_probe and "probe" not in result:
        result["probe"] = probe(plan, group, result["run"])
    write_json_atomic(file, result, indent=1)
    return result


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for everything; outside the repository")
    parser.add_argument("--source", type=Path, default=SHARED / "data" / "street_fashion", help="labelled photos")
    parser.add_argument("--segmenter", type=Path, default=SHARED / "models" / "person_real.pt", help="person model")
    parser.add_argument("--groups", nargs="+", help="groups to do (default: all of groups.json)")
    parser.add_argument("--train-options", default=DEFAULT_OPTIONS, help="of train.py (default: %(default)s)")
    parser.add_argument("--name", default="default", help="results go to FOLDER/results/NAME")
    parser.add_argument("--minutes", type=float, default=15.0, help="longest training of a group (default: 15)")
    parser.add_argument("--aside", type=float, default=0.0, help="share of photos kept away for scoring (default: 0)")
    parser.add_argument("--limit", type=int, help="take only so many photos (to try the benchmark)")
    parser.add_argument("--probe", action="store_true", help="score frozen features on the same split, too")
    parser.add_argument("--prepare", action="store_true", help="load and segment, train nothing")
    return parser.parse_args()


def main() -> None:
    options = arguments()
    work = options.work.absolute()
    if work.is_relative_to(REPOSITORY):
        raise ClsError("lies in the repository", where=work, hint="photos of people stay outside of it")
    name = safe_name(options.name) + (f"-aside-{options.aside:g}" if options.aside else "")
    plan = Plan(
        work, options.source, options.segmenter, options.aside, tuple(shlex.split(options.train_options)),
        options.minutes, work / "results" / name,
    )  # fmt: skip
    plan.results.mkdir(parents=True, exist_ok=True)
    source, every = plan.source, groups_of(plan.source)
    if plan.aside:
        source, aside = split_source(plan.source, plan.aside, work)
        load_and_segment(aside, plan.aside_bottle, every, plan, options.limit)
    load_and_segment(source, plan.bottle, every, plan, options.limit)
    if options.prepare:
        return
    failed = []
    results: dict[str, dict[str, Any]] = {}
    for group in options.groups or every:
        try:
            results[group] = do_group(plan, group, has_probe=options.probe)
        except ClsError as error:
            # One group must not cost the others; it is said again at the end, and the status is 1.
            print(f"error: {error.line()}", file=sys.stderr, flush=True)
            failed.append(group)
            continue
        figures = results[group]
        print(f"{group}: mAP {figures['map']:.3f}, base rate {figures['base_rate']:.3f}", flush=True)
        write_text_atomic(plan.results / "table.md", table(results) + "\n")
    if results:
        print("\n" + table(results))
    if failed:
        raise ClsError(f"not finished: {', '.join(failed)}", hint="run the same command again")


if __name__ == "__main__":
    try:
        main()
    except ClsError as expected:
        print(f"error: {expected.line()}", file=sys.stderr)
        raise SystemExit(1) from None
