"""How long is an epoch of our training against a bare PyTorch loop, and how much of it is spent waiting for data?

Ours is what `train.py` runs: Lightning, our module, the loader that makes augmented batches from cut-outs in a thread.
The bare loop is a dozen lines of PyTorch over normalised pictures that lie ready in memory: the same network, loss,
optimizer, schedule, clipping, batch size, channels-last memory and process settings (threads, passive waiting, kept
memory), no augmentation and nothing else. Both in this process, epoch by epoch in turns, first the one, then the other;
the figure is the median over rounds of ours divided by the bare loop's of the same round. Two clocks: the epoch itself,
from its first to its last step, and the whole fit (Lightning's start and the checkpoints included, which the bare loop
has none of). Processor seconds say what the augmentation costs beside the network.

    .venv/bin/python benchmarks/epoch_time.py --work FOLDER [--sizes 160x112 256x192] [--photos 320] [--rounds 5]

Sample photos are made, loaded and segmented in FOLDER by the guide's scripts, once.
"""

from __future__ import annotations

import argparse
import copy
import os
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

# What `wait_passively` does for train.py; torch reads it when it is imported.
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.guide import sample_bottle
from cls.dataset.samples import labels_of
from cls.files import write_json_atomic
from cls.training.config import config_of_options
from cls.training.data import Training, prepare
from cls.training.loop.distributed import prepare_process
from cls.training.loop.fit import base_rates, fit_network
from cls.training.loop.optimizer import loss_for, optimizer_for, schedule_for


@dataclass(frozen=True)
class Round:
    """Seconds of one epoch of each."""

    ours_s: float
    ours_fit_s: float
    ours_processor_s: float
    waiting_share: float
    bare_s: float
    bare_processor_s: float
    load_average: float


class BareLoop:
    """Pictures in memory, and a loop."""

    def __init__(self, training: Training) -> None:
        samples, cutouts = training.data.train.samples, training.data.train.cutouts
        exact = np.stack([cutouts.input_rgb(index) for index in range(len(cutouts))])
        normal = torch.from_numpy(training.network.spec.preprocessing.normalise(exact))
        self._images = normal.contiguous(memory_format=torch.channels_last)
        self._labels = torch.from_numpy(labels_of(samples))
        self._training = training
        self._loss = loss_for(training.config, base_rates(samples))

    def epoch(self, network: nn.Module, seed: int) -> tuple[float, float]:
        """Seconds and processor seconds of one epoch."""
        config = self._training.config
        parts = np.array_split(np.random.default_rng(seed).permutation(len(self._labels)), self.steps)
        optimizer = optimizer_for(network, config, is_pretrained=self._training.network.source.is_pretrained)
        schedule = schedule_for(optimizer, config, self.steps)
        network.train()
        total = 0.0
        started_s, started_processor_s = time.perf_counter(), time.process_time()
        for part in parts:
            index = torch.from_numpy(part)
            images: Tensor = self._images[index].contiguous(memory_format=torch.channels_last)
            loss = self._loss(network(images), self._labels[index])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), config.clip)
            optimizer.step()
            schedule.step()
            total += float(loss.detach())
        return time.perf_counter() - started_s, time.process_time() - started_processor_s

    @property
    def steps(self) -> int:
        """Steps an epoch."""
        return -(-len(self._labels) // self._training.config.batch)


def our_epoch(training: Training, folder: Path) -> tuple[float, float, float, float]:
    """Seconds of the epoch, of the fit, processor seconds of the fit, share of waiting."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "checkpoints").mkdir(parents=True)
    started_s, started_processor_s = time.perf_counter(), time.process_time()
    result = fit_network(training, folder)
    fit_s, processor_s = time.perf_counter() - started_s, time.process_time() - started_processor_s
    shutil.rmtree(folder)
    return result.history[0].seconds, fit_s, processor_s, result.waiting_share


def measure_size(size: str, options: argparse.Namespace) -> dict[str, object]:
    bottle, _ = sample_bottle(options.work, photos=options.photos, seed=5, groups=["top_color"])
    config = config_of_options(
        size=size, group="top_color", epochs=1, batch=options.batch, mode="all", arch=options.arch, weights="none"
    )
    training = prepare(bottle, config)
    bare = BareLoop(training)
    networks = training.network.module, copy.deepcopy(training.network.module)
    rounds = []
    for number in range(options.rounds + 1):
        # Who comes first changes: whatever an epoch leaves behind in caches does not always hit the same.
        order = ("ours", "bare") if number % 2 else ("bare", "ours")
        ours, theirs = (0.0, 0.0, 0.0, 0.0), (0.0, 0.0)
        for who in order:
            if who == "ours":
                ours = our_epoch(training, options.work / "fit")
            else:
                theirs = bare.epoch(networks[1], number)
        if number:  # the first round warms up
            rounds.append(Round(*ours, *theirs, os.getloadavg()[0]))
            print(f"  {size} round {number}: ours {ours[0]:.2f} s, bare {theirs[0]:.2f} s", flush=True)
    return summary(size, len(training.data.people), bare.steps, rounds)


def summary(size: str, samples: int, steps: int, rounds: list[Round]) -> dict[str, object]:
    def median(values: list[float]) -> float:
        return float(np.median(values))

    return {
        "size": size,
        "samples": samples,
        "steps": steps,
        "ours_s": median([r.ours_s for r in rounds]),
        "bare_s": median([r.bare_s for r in rounds]),
        "ratio": median([r.ours_s / r.bare_s for r in rounds]),
        "ratio_of_fastest": min(r.ours_s for r in rounds) / min(r.bare_s for r in rounds),
        "ratio_fit": median([r.ours_fit_s / r.bare_s for r in rounds]),
        "ratio_processor": median([r.ours_processor_s / r.bare_processor_s for r in rounds]),
        "waiting_share": median([r.waiting_share for r in rounds]),
        "load_average": [min(r.load_average for r in rounds), max(r.load_average for r in rounds)],
        "rounds": [vars(r) for r in rounds],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for photos and runs")
    parser.add_argument("--sizes", nargs="+", default=["160x112", "256x192"], help="inputs (default: 160x112 256x192)")
    parser.add_argument("--photos", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--arch", default="lite0")
    parser.add_argument("--out", type=Path, help="write the figures there as JSON")
    options = parser.parse_args()
    options.work = options.work.absolute()
    prepare_process()
    found = [measure_size(size, options) for size in options.sizes]
    print("| input | samples, steps | ours, bare (s an epoch) | ratio | whole fit | processor | waiting | load |")
    print("|---|---|---|---|---|---|---|---|")
    for row in found:
        low, high = row["load_average"]  # type: ignore[misc]
        print(
            f"| {row['size']} | {row['samples']}, {row['steps']} | {row['ours_s']:.2f}, {row['bare_s']:.2f} "
            f"| {row['ratio']:.3f} (fastest {row['ratio_of_fastest']:.3f}) | {row['ratio_fit']:.3f} "
            f"| {row['ratio_processor']:.3f} | {row['waiting_share']:.2%} | {low:.1f}-{high:.1f} |"
        )
    if options.out:
        write_json_atomic(options.out, {"torch": torch.__version__, "sizes": found}, indent=1)


if __name__ == "__main__":
    main()
