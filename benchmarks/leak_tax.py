"""How much a random split flatters: the leak tax of groups of the sample set, whose picsets are shoots of 4 to 12.

Each group is trained twice by `train.py --leak-tax` with the same settings: on a split by picset, and on one that deals
single people, stratified alike and of the same sizes. Differences with their intervals over resampled picsets are
printed as Markdown and written to leak_tax.json.

    .venv/bin/python benchmarks/leak_tax.py --work FOLDER [--photos 300] [--groups top_color hat]
        [--train-options="--arch lite0 --size 128x96 --epochs 8 --batch 16 --valid 0.3"] [--out benchmarks/results]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.guide import environment_of, sample_bottle
from cls.files import write_json_atomic
from cls.settings import REPOSITORY
from cls.training.runs.listing import finished_run

_TRAIN = "--arch lite0 --size 128x96 --epochs 8 --batch 16 --valid 0.3"


def main() -> None:
    """Trains, prints, writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for the sample, kept between runs")
    parser.add_argument("--photos", type=int, default=300)
    parser.add_argument("--sample-seed", type=int, default=0)
    parser.add_argument("--groups", nargs="+", default=["top_color", "hat"])
    parser.add_argument("--train-options", default=_TRAIN)
    parser.add_argument("--out", type=Path, default=REPOSITORY / "benchmarks" / "results")
    options = parser.parse_args()
    bottle, _ = sample_bottle(options.work, photos=options.photos, seed=options.sample_seed, groups=options.groups)
    found: dict[str, Any] = {}
    for group in options.groups:
        words = ["--cat", group, "--leak-tax", "--backgrounds", "0", *options.train_options.split()]
        subprocess.run(
            [sys.executable, "cls/classification/train.py", *words],
            cwd=REPOSITORY, env=environment_of(bottle.root), check=True,
        )  # fmt: skip
        metrics = finished_run(bottle, "newest", group).metrics.to_json_values()
        found[group] = {**metrics["leak_tax"], "samples": metrics["samples"]}
        print("\n".join(rows(group, found[group])), flush=True)
    options.out.mkdir(parents=True, exist_ok=True)
    write_json_atomic(options.out / "leak_tax.json", {"photos": options.photos, "groups": found}, indent=1)


def rows(group: str, tax: dict[str, Any]) -> list[str]:
    """A group's lines of the table."""
    lines = []
    for name, value in tax["by_picset"].items():
        bounds = tax["intervals"][name]
        shown = "-" if bounds is None else f"{bounds[0]:+.3f} to {bounds[1]:+.3f}"
        numbers = [value, tax["random_split"][name]]
        texts = ["-" if number is None else f"{number:.3f}" for number in numbers]
        difference = tax["difference"][name]
        change = "-" if difference is None else f"{difference:+.3f}"
        lines.append(f"| {group} | {name} | {texts[0]} | {texts[1]} | {change} | {shown} |")
    return lines


if __name__ == "__main__":
    main()
