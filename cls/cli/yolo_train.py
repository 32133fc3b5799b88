"""Trains a person segmenter on a YOLO segmentation dataset."""

from __future__ import annotations

import argparse
from pathlib import Path

from cls.cli.command import Command, bottle_of
from cls.wording import score


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `train_yolo_seg.py`."""
    parser.add_argument("--data", type=Path, required=True, metavar="FILE", help="the dataset's data.yaml")
    parser.add_argument(
        "--model",
        default="yolov8s-seg.pt",
        help="checkpoint (.pt), or a description (.yaml) to start from random weights (default: yolov8s-seg.pt)",
    )
    parser.add_argument("--epochs", type=int, required=True, metavar="N", help="passes over the training part")
    parser.add_argument("--batch", type=int, default=16, metavar="N", help="pictures a step (default: 16)")
    parser.add_argument("--image-size", type=int, default=640, metavar="PX", help="side of the input (default: 640)")
    parser.add_argument(
        "--project", type=Path, default=Path("person_models/runs"), metavar="D", help="folder of the training runs"
    )
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of weights and augmentation (default: 0)")
    parser.add_argument(
        "--nominal-batch",
        type=int,
        default=64,
        metavar="N",
        help="pictures an update of the weights is gathered from (default: 64, as ultralytics; small trainings: 16)",
    )
    parser.add_argument(
        "--patience", type=int, default=0, metavar="N", help="end after N epochs without improvement (default: never)"
    )
    parser.add_argument(
        "--fresh", action="store_true", help="start a new run even where a run of the same arguments was cut off"
    )


def run(options: argparse.Namespace) -> None:
    """Trains and prints where the best checkpoint is."""
    from cls.machine import wait_passively
    from cls.yolo.training import is_offline_wanted, resolve_model

    bottle = bottle_of(options)
    wait_passively()

    from cls.yolo.training import YoloTraining, train_model

    is_offline = is_offline_wanted()
    training = YoloTraining(
        data=options.data,
        model=resolve_model(options.model, bottle.cache / "pretrained", is_offline=is_offline),
        epochs=options.epochs,
        batch=options.batch,
        image_size_px=options.image_size,
        project=options.project,
        seed=options.seed,
        nominal_batch=options.nominal_batch,
        patience=options.patience,
    )
    trained = train_model(training, is_fresh=options.fresh)
    print(
        "masks on the validation part: "
        + ", ".join(f"{name} {score(value)}" for name, value in trained.metrics.items())
    )
    print(f"curves and pictures: {trained.folder}")
    print(f"best model: {trained.best}")
    print(f"next: python cls/classification/segment_builder.py --model-path {trained.best}")


COMMAND = Command("yolo train", "train a person segmenter", add_arguments, run)
