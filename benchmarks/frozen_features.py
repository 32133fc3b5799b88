"""What the input's size, the cut-out and the pooling are worth, before anything is trained.

Frozen ImageNet features of every person of a bottle (one that `real_photos.py --prepare` made), and a ridge regression
a label, over four folds of picsets. It takes minutes where a training takes an hour, and ranks the choices before it.

    .venv/bin/python benchmarks/frozen_features.py --bottle FOLDER/bottle --sizes 384x144 576x216
    … --picture whole      # whole photos in the place of cut-outs;  kept: the box with its background

Each row is the best of five ridges, by the average over groups, which is equally kind to every row.
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.guide import open_bottle
from benchmarks.linear_probe import ARCH
from cls.bottle.dataset_file import read_dataset
from cls.bottle.layout import Bottle
from cls.dataset.samples import Sample, collect_samples
from cls.metrics.multilabel import average_precision
from cls.people.photos import read_photo
from cls.people.preprocess import Preprocessing
from cls.training.loop.optimizer import auxiliary_labels, groups_of
from cls.training.network.build import StripePool, build_network, mean_and_std
from cls.training.network.input_size import parse_size
from cls.training.network.weights import find_weights, load_weights

PICTURES = ("cut", "kept", "whole")
RIDGES = (1.0, 3.0, 10.0, 30.0, 100.0)
FOLDS = 4
_BATCH = 16


def people_of(bottle: Bottle) -> tuple[list[Sample], tuple[str, ...], NDArray[np.float32]]:
    """The people of the first group, and the labels of all groups, (people, labels)."""
    groups = groups_of(bottle)
    samples = collect_samples(bottle, read_dataset(bottle.dataset_file(groups[0])), people="largest", subject=None)[0]
    labels = auxiliary_labels(bottle, "", groups, samples)
    return samples, labels.names, labels.of(samples)


def maps_of(bottle: Bottle, samples: Sequence[Sample], size: tuple[int, int], picture: str) -> NDArray[np.float16]:
    """The backbone's last feature maps, (people, channels, rows, columns)."""
    mean, std = mean_and_std(ARCH)
    prepare = Preprocessing(*size, mean_rgb=mean, std_rgb=std, is_background_kept=picture == "kept")
    network = build_network(ARCH, 2, *size)
    load_weights(network, find_weights("auto", ARCH), ARCH)
    network.eval().to(memory_format=torch.channels_last)
    parts = []
    for start in range(0, len(samples), _BATCH):
        images = []
        for sample in samples[start : start + _BATCH]:
            photo = read_photo(bottle.picture(sample.path))
            whole = cv2.resize(photo, size[::-1], interpolation=cv2.INTER_AREA) if picture == "whole" else None
            images.append(prepare.cut(photo, sample.person) if whole is None else np.asarray(whole, np.uint8))
        batch = torch.from_numpy(prepare.normalise(np.stack(images))).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            parts.append(network.forward_features(batch).half().numpy())  # type: ignore[operator]
    return np.concatenate(parts)


def out_of_fold(features: Tensor, labels: Tensor, folds: NDArray[np.int64]) -> dict[float, NDArray[np.float64]]:
    """Ridge -> scores of everybody by what the other folds say, (people, labels); unknown labels count as absent."""
    scores = {ridge: np.zeros(tuple(labels.shape)) for ridge in RIDGES}
    for fold in range(FOLDS):
        inside = torch.from_numpy(folds != fold)
        mean, std = features[inside].mean(0), features[inside].std(0)
        scaled = (features - mean) / std.clamp(min=0.1 * float(std.mean())) / features.shape[1] ** 0.5
        targets = torch.nan_to_num(labels[inside]).double()
        values, vectors = torch.linalg.eigh((scaled[inside] @ scaled[inside].T).double())
        across = (scaled[~inside] @ scaled[inside].T).double() @ vectors
        turned = vectors.T @ (targets - targets.mean(0))
        for ridge in RIDGES:
            scores[ridge][(~inside).numpy()] = (across @ (turned / (values + ridge)[:, None])).numpy()
    return scores


def by_group(scores: NDArray[np.float64], labels: NDArray[np.float32], names: Sequence[str]) -> dict[str, float]:
    """Mean average precision of each group."""
    found: dict[str, list[float]] = {}
    for column, name in enumerate(names):
        is_known = ~np.isnan(labels[:, column])
        ap = average_precision(scores[is_known, column], labels[is_known, column] > 0.5)
        if ap is not None:
            found.setdefault(name.partition(": ")[0], []).append(ap)
    return {group: float(np.mean(values)) for group, values in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bottle", type=Path, required=True, help="a data folder with groups and people")
    parser.add_argument("--sizes", nargs="+", default=["384x144"], help="inputs to try (default: 384x144)")
    parser.add_argument("--picture", choices=PICTURES, default="cut", help="what the network sees (default: cut)")
    options = parser.parse_args()
    bottle = open_bottle(options.bottle)
    samples, names, labels = people_of(bottle)
    folds = np.array([zlib.crc32(sample.split_unit.encode()) % FOLDS for sample in samples])
    groups = list(dict.fromkeys(name.partition(": ")[0] for name in names))
    print(f"{len(samples)} people, {len(names)} labels, picture: {options.picture}")
    print("| input | pooling | " + " | ".join(groups) + " | average |")
    print("|---" * (len(groups) + 3) + "|")
    for text in options.sizes:
        maps = torch.from_numpy(maps_of(bottle, samples, parse_size(text)[:2], options.picture)).float()
        poolings = {"mean": maps.mean((2, 3)), **{f"{n} stripes": StripePool(n)(maps) for n in (1, 4)}}
        for pooling, features in poolings.items():
            tried = [
                by_group(scores, labels, names)
                for scores in out_of_fold(features, torch.from_numpy(labels), folds).values()
            ]
            best = max(tried, key=lambda found: float(np.mean(list(found.values()))))
            cells = [f"{best[group]:.3f}" for group in groups] + [f"{np.mean(list(best.values())):.3f}"]
            print(f"| {text} | {pooling} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
