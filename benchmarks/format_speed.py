"""How fast is each format of an export on the CPU, and what does the way from a photo's bytes to its labels cost?

Three questions, each with its peers in the same rounds; a ratio is of one round, medians of the rounds are printed.

1. The network: latency at batch 1 and throughput at the best batch of 1, 4, 16, 32. From cut-outs (uint8) to
   probabilities for each format as `Classifier.probabilities` gives them, and for ultralytics' classification
   `predict()` of the same ONNX; on prepared tensors for timm in eager mode and for plain ONNX Runtime.
2. The whole way, bytes to labels, of photos whose people are known, against the same by hand (the sum of bare parts).
3. Photos a second with segmentation, against ultralytics' `predict()` twice.

    .venv/bin/python benchmarks/format_speed.py --cfg FILE --group top_color [--run NAME] [--formats all]
        [--segmenter best.pt] [--photos 96] [--rounds 7] [--no-limits] [--processor-time]

Where other processes compete for the cores, `taskset -c 1 ... --processor-time` compares what cannot be taken away: one
core and thread for everybody, seconds of processor time instead of the clock's.

The bottle needs a finished run; its packages are written into a temporary folder, not into the bottle, and held to the
bottle's parity limits. The change of F1 is the parity report's, on the run's own validation people.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from numpy.typing import NDArray

from benchmarks.format_peers import BareParts, bare_session, timm_eager, ultralytics_classifier, ultralytics_photos
from cls.bottle.layout import Bottle
from cls.errors import ClsError
from cls.exporting.formats.files import FILES, FORMATS, why_not
from cls.exporting.publish import ExportConfig, Exported, export_run
from cls.machine import cores
from cls.people.photos import Person
from cls.prediction.predict import PeopleFinder, predict_photos
from cls.runtimes.classifier import Classifier
from cls.runtimes.open import open_classifier
from cls.settings import ParityLimits, load_settings
from cls.training.runs.listing import finished_run
from cls.training.runs.run import FinishedRun

BATCHES = (1, 4, 16, 32)
PEOPLE = 32
LATENCY_CALLS = 10
Call = Callable[[NDArray], object]
IS_PROCESSOR_TIME = "--processor-time" in sys.argv
clock = time.process_time if IS_PROCESSOR_TIME else time.perf_counter


def exported_in(
    folder: Path, bottle: Bottle, run: FinishedRun, formats: Sequence[str], *, is_refusing: bool
) -> tuple[Exported, Bottle]:
    """Packages of a run in another folder, under the bottle's limits (what its user gets) or under none."""
    limits = bottle.settings.parity_limits if is_refusing else dict.fromkeys(("fp32", "fp16", "int8"), ParityLimits())
    settings = replace(bottle.settings, inference_models_dir=str(folder), parity_limits=limits)
    elsewhere = Bottle(settings)
    try:
        exported = export_run(elsewhere, run, ExportConfig(tuple(name for name in FORMATS if name in formats)))
    except ClsError as error:
        raise SystemExit(f"there is nothing to measure: {error.line()}") from error
    for name, refusal in exported.refused.items():
        print(f"{name} is refused: {refusal.line()}")
    if "onnx" not in exported.reports:
        onnx_refusal = exported.refused.get("onnx")
        why = f"onnx is refused: {onnx_refusal.what}" if onnx_refusal else "onnx is not among --formats"
        raise SystemExit(f"there is nothing to measure against: {why}")
    for name, layers in [(name, one.kept_in_float) for name, one in exported.reports.items() if one.kept_in_float]:
        print(f"{name}: {len(layers)} layers kept in 32 bits, so that it holds the limits")
    return exported, elsewhere


class Contender:
    """Something that answers for people, on what it takes: tensors or cut-outs."""

    def __init__(self, name: str, call: Call, inputs: NDArray) -> None:
        self.name, self.call, self.inputs = name, call, inputs
        self.batch = 1
        self.latencies_ms: list[float] = []
        self.rates: list[float] = []

    def warm_up(self) -> None:
        """Runs every batch size once before the clock, then finds the best."""
        for batch in BATCHES:
            self.call(self.inputs[:batch])
        self.batch = max(BATCHES, key=self.rate)

    def rate(self, batch: int) -> float:
        """People a second."""
        started_s = clock()
        for start in range(0, PEOPLE, batch):
            self.call(self.inputs[start : start + batch])
        return PEOPLE / (clock() - started_s)

    def round(self) -> None:
        """One measurement of both."""
        times_ms = []
        for number in range(LATENCY_CALLS):
            one = self.inputs[number : number + 1]
            started_s = clock()
            self.call(one)
            times_ms.append(1000 * (clock() - started_s))
        self.latencies_ms.append(float(np.median(times_ms)))
        self.rates.append(self.rate(self.batch))


def contenders_of(
    exported: Exported, elsewhere: Bottle, run: FinishedRun, crops: NDArray[np.uint8], folder: Path
) -> list[Contender]:
    tensors = run.preprocessing.normalise(crops)
    model = exported.folder / "model.onnx"
    found = [
        Contender("peer: timm eager (tensors)", timm_eager(run), tensors),
        Contender("peer: ONNX Runtime fp32 (tensors)", bare_session(model), tensors),
        Contender(
            "peer: ultralytics predict(), ONNX",
            ultralytics_classifier(model, run.labels, run.preprocessing, folder),
            crops,
        ),
    ]
    for name in exported.reports:
        classifier = open_classifier(str(exported.folder / FILES[name].archive), elsewhere)
        found.append(Contender(name, lambda part, c=classifier: c.probabilities(part, batch=len(part)), crops))  # type: ignore[misc]
    return found


def networks(contenders: Sequence[Contender], exported: Exported, rounds: int) -> None:
    for contender in contenders:
        contender.warm_up()
    for _ in range(rounds):
        for contender in contenders:
            contender.round()
    eager, bare = contenders[0], contenders[1]
    print(f"{'':36} batch 1 ms   people/s (batch)   vs timm eager   vs ONNX Runtime   F1 change, decisions changed")
    for one in contenders:
        ratios = [np.median(np.array(one.rates) / np.array(peer.rates)) for peer in (eager, bare)]
        report = exported.reports.get(one.name)  # type: ignore[call-overload]
        worth = "" if report is None else f"{report.f1_change or 0:+.4f}, {report.label_flips} of {report.decisions}"
        print(
            f"{one.name:36} {np.median(one.latencies_ms):10.1f}   {np.median(one.rates):8.1f} ({one.batch:2})"
            f"   {ratios[0]:13.2f}   {ratios[1]:15.2f}   {worth}"
        )


def whole_way(
    classifier: Classifier, bare: BareParts, files: Sequence[Path], people: Sequence[Sequence[Person]], rounds: int
) -> None:
    known = PeopleFinder({file: tuple(those) for file, those in zip(files, people, strict=True)}, None)

    def ours() -> NDArray[np.bool_]:
        thresholds = np.array(classifier.thresholds, np.float32)
        skipped: dict[Path, str] = {}
        found = [photo.probs[0] >= thresholds for photo in predict_photos(files, [classifier], known, skipped)]
        assert not skipped
        return np.concatenate(found)

    same = float((ours() == bare.run(files, people)).mean())
    walls, sums, ratios = [], [], []
    parts: dict[str, list[float]] = {name: [] for name in bare.seconds}
    for _ in range(rounds):
        started_s = clock()
        ours()
        walls.append(clock() - started_s)
        bare.run(files, people)
        sums.append(sum(bare.seconds.values()))
        ratios.append(walls[-1] / sums[-1])
        for name, seconds in bare.seconds.items():
            parts[name].append(seconds)
    count = len(files)
    print(f"\nbytes to labels, {count} photos, fp32 ONNX: {1000 * np.median(walls) / count:.1f} ms a photo,"
          f" sum of bare parts {1000 * np.median(sums) / count:.1f} ms, ratio {np.median(ratios):.2f};"
          f" the same decisions: {100 * same:.1f} %")  # fmt: skip
    print(
        "  bare parts, ms a photo: "
        + ", ".join(f"{name} {1000 * np.median(v) / count:.2f}" for name, v in parts.items())
    )


def with_segmentation(
    classifier: Classifier, segmenter: Path, peer_model: Call, files: Sequence[Path], rounds: int
) -> None:
    from cls.segmentation.config import SegmenterConfig
    from cls.segmentation.segmenter import load_segmenter

    loaded = load_segmenter(segmenter, people_classes={}, config=SegmenterConfig(confidence=0.4))
    finder = PeopleFinder({}, loaded)
    peer = ultralytics_photos(segmenter, peer_model, classifier.preprocessing, loaded.image_size_px)  # type: ignore[attr-defined]

    def ours(those: Sequence[Path]) -> int:
        return sum(len(photo.people) for photo in predict_photos(those, [classifier], finder, {}))

    counts = (ours(files), peer(files))
    rates: dict[str, list[float]] = {"ours": [], "ultralytics": []}
    for _ in range(rounds):
        for name, call in (("ours", ours), ("ultralytics", peer)):
            started_s = clock()
            call(files)
            rates[name].append(len(files) / (clock() - started_s))
    ratio = np.median(np.array(rates["ours"]) / np.array(rates["ultralytics"]))
    print(f"with segmentation ({segmenter.suffix}): {np.median(rates['ours']):.1f} photos/s ({counts[0]} people),"
          f" ultralytics {np.median(rates['ultralytics']):.1f} ({counts[1]} people), ratio {ratio:.2f}")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cfg", type=Path, required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--run", default="newest")
    parser.add_argument("--formats", default="all")
    parser.add_argument("--segmenter", type=Path)
    parser.add_argument("--photos", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--packages", type=Path, help="where the packages are written (default: a temporary folder)")
    parser.add_argument("--no-limits", action="store_true", help="time formats too that the parity limits would refuse")
    parser.add_argument("--processor-time", action="store_true", help="seconds of processor time; pin to one core")
    options = parser.parse_args()
    bottle = Bottle(load_settings(options.cfg))
    run = finished_run(bottle, options.run, options.group)
    asked = FORMATS if options.formats == "all" else tuple(options.formats.split(","))
    samples = run.validation_samples()
    files = list(dict.fromkeys(bottle.picture(sample.path) for sample in samples))[: options.photos]
    people = [[sample.person for sample in samples if bottle.picture(sample.path) == file] for file in files]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) if options.packages is None else options.packages.absolute()
        possible = [one for one in asked if why_not(one) is None]  # type: ignore[arg-type]
        exported, elsewhere = exported_in(folder, bottle, run, possible, is_refusing=not options.no_limits)
        classifier = open_classifier(str(exported.folder / "model_onnx.zip"), elsewhere)
        crops = np.stack(
            [run.preprocessing.cut(_read(bottle, sample.path), sample.person) for sample in samples[:PEOPLE]]
        )
        crops = np.resize(crops, (PEOPLE, *crops.shape[1:]))
        size = run.preprocessing
        unit = "processor time, " if IS_PROCESSOR_TIME else ""
        print(f"{run.arch} at {size.height_px}x{size.width_px}, {len(run.labels)} labels, {cores()} cores, {unit}load"
              f" {os.getloadavg()[0]:.1f}, {options.rounds} rounds", flush=True)  # fmt: skip
        contenders = contenders_of(exported, elsewhere, run, crops, folder)
        networks(contenders, exported, options.rounds)
        bare = BareParts(exported.folder / "model.onnx", size, run.thresholds, clock)
        whole_way(classifier, bare, files, people, options.rounds)
        if options.segmenter:
            with_segmentation(classifier, options.segmenter, contenders[2].call, files, max(options.rounds // 2, 1))
        print(f"load at the end {os.getloadavg()[0]:.1f}")


def _read(bottle: Bottle, name: str) -> NDArray[np.uint8]:
    from cls.people.photos import read_photo

    return read_photo(bottle.picture(name))


if __name__ == "__main__":
    main()
