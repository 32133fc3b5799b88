"""Does a client that has nothing but the zip decide as CLS does, and what does the preprocessing cost?

    python benchmarks/client_decisions.py model_onnx.zip --cfg CONFIGURATION [--people 500]

The people are those of the package's group in the bottle, seeded. Compared are the probabilities of
`docs/reference_client.py` with those of CLS, and the decisions; a decision within 0.001 of its threshold is a tie.
Besides: how many decisions of the same network become another under the other version of the preprocessing, F1 on the
labels under both (means over labels), and the processor time of cutting a person out of a decoded photo.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "docs"))

from reference_client import Client, decode

from cls.bottle.dataset_file import read_dataset
from cls.bottle.layout import Bottle
from cls.dataset.samples import collect_samples
from cls.people.photos import read_photo
from cls.people.preprocess import Preprocessing
from cls.runtimes.classifier import Classifier
from cls.runtimes.open import open_classifier
from cls.settings import load_settings

TIE = 0.001


def main() -> None:
    """Compares, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path)
    parser.add_argument("--cfg", type=Path, required=True)
    parser.add_argument("--people", type=int, default=500)
    options = parser.parse_args()
    bottle = Bottle(load_settings(options.cfg))
    product = open_classifier(str(options.package), bottle)
    client = Client(str(options.package))
    samples, _ = collect_samples(bottle, read_dataset(bottle.dataset_file(product.group)))
    chosen = np.random.default_rng(0).permutation(len(samples))[: options.people]
    ours, theirs, other, truth = [], [], [], []
    seconds = dict.fromkeys((1, 2), 0.0)
    for number in sorted(chosen.tolist()):
        sample = samples[number]
        file = bottle.picture(sample.path)
        photo = read_photo(file)
        crops = {}
        for version in (1, 2, 2, 1):
            preprocessing = replace(product.preprocessing, version=version)
            started = time.process_time()
            crops[version] = preprocessing.cut(photo, sample.person)
            seconds[version] += (time.process_time() - started) / 2
        version = product.preprocessing.version
        ours.append(product.probabilities(crops[version][None])[0])
        other.append(product.probabilities(crops[3 - version][None])[0])
        said = {
            "polygons_xy_rel": [outline.tolist() for outline in sample.person.polygons_xy_rel],
            "box_xyxy_px": sample.person.box_xyxy_px,
        }
        theirs.append(client.probabilities(client.input_of(decode(file.read_bytes()), said)[1]))
        truth.append(sample.labels)
    print(f"{len(ours)} people, {len(product.labels)} labels, input {_size(product.preprocessing)}")
    _compare("reference client", product, np.array(ours), np.array(theirs))
    _compare(f"version {3 - version} of the preprocessing", product, np.array(ours), np.array(other))
    for name, probs in ((f"version {version}", ours), (f"version {3 - version}", other)):
        print(f"F1 under {name}: {_f1(product, np.array(probs), np.array(truth)):.4f}")
    for name, total in seconds.items():
        print(f"version {name}: {1e3 * total / len(ours):.2f} ms a person, decoding left out")


def _size(preprocessing: Preprocessing) -> str:
    return f"{preprocessing.height_px}x{preprocessing.width_px}"


def _compare(name: str, product: Classifier, ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> None:
    thresholds = np.array(product.thresholds)
    is_flipped = (ours >= thresholds) != (theirs >= thresholds)
    beyond = is_flipped & (np.abs(ours - thresholds) > TIE)
    print(
        f"{name}: probabilities differ by {np.abs(ours - theirs).max():.2g} at most, {np.abs(ours - theirs).mean():.2g}"
        f" on average; {is_flipped.sum()} of {is_flipped.size} decisions differ, {beyond.sum()} of them further than"
        f" {TIE:g} from the threshold"
    )


def _f1(product: Classifier, probs: NDArray[np.float64], truth: NDArray[np.float64]) -> float:
    is_chosen, is_known = probs >= np.array(product.thresholds), np.isfinite(truth)
    hits = (is_chosen & (truth == 1)).sum(axis=0)
    wrong = ((is_chosen != (truth == 1)) & is_known).sum(axis=0)
    return float(np.mean(2 * hits / np.maximum(2 * hits + wrong, 1)))


if __name__ == "__main__":
    main()
