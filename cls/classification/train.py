"""Trains a classifier of a loaded group: `python cls/classification/train.py --cat hair_color --epochs 1 --batch 4`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cls.command import Command, main
from cls.training.config import LOSSES, MODES, PEOPLE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import nn

    from cls.people.preprocess import Preprocessing


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("--cat", required=True, metavar="GROUP", help="the group to train a classifier of")
    parser.add_argument("--epochs", type=int, default=12, help="how often every person is seen (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="people a step (default: %(default)s)")
    # Choices are shown here and checked with everything else, so that all that is wrong is said at once.
    parser.add_argument(
        "--mode",
        default="train",
        metavar=_choices(MODES),
        help="train holds picsets out for validation, all trains on everything (default: %(default)s)",
    )
    parser.add_argument(
        "--arch", default="eff", help="backbone: eff, eff_l, res, swin, vit_l_16, lite0, mnv3 or a timm name"
    )
    parser.add_argument("--size", default="256x192", metavar="HxW", help="input in pixels (default: %(default)s)")
    parser.add_argument("--weights", default="auto", help="first weights: auto, none or a file (default: %(default)s)")
    parser.add_argument("--lr", type=float, help="peak learning rate (default: by batch size)")
    parser.add_argument("--decay", type=float, default=0.001, help="weight decay (default: %(default)s)")
    parser.add_argument(
        "--loss",
        default="weighted",
        metavar=_choices(LOSSES),
        help="weighted: rare labels count more (default: %(default)s)",
    )
    parser.add_argument("--valid", type=float, default=0.2, help="share held out (default: %(default)s)")
    parser.add_argument(
        "--people",
        default="largest",
        metavar=_choices(PEOPLE),
        help="whose label it is: the largest person's, the only one's, or everyone's (default: %(default)s)",
    )
    parser.add_argument("--subject", metavar="CLASS", help="class of people the group is about, e.g. female")
    parser.add_argument("--seed", type=int, default=0, help="where all chance comes from (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=0, help="processes that make batches; 0 (default): a thread")
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        help="go on with a cut-off run of the same settings (done by itself; --resume: an error if there is none)",
    )


def _choices(values: Sequence[str]) -> str:
    return f"{{{','.join(values)}}}"


def run(options: argparse.Namespace) -> None:
    """Trains and prints the run folder, its measures and what comes next."""
    import shlex

    from cls.bottle.layout import Bottle
    from cls.machine import wait_passively
    from cls.settings import load_settings
    from cls.training.config import config_of_options

    settings = load_settings(options.cfg)
    wait_passively()
    config = config_of_options(
        group=options.cat,
        epochs=options.epochs,
        batch=options.batch,
        mode=options.mode,
        arch=options.arch,
        size=options.size,
        lr=options.lr,
        decay=options.decay,
        loss=options.loss,
        weights=options.weights,
        valid=options.valid,
        people=options.people,
        subject=options.subject,
        seed=options.seed,
        workers=options.workers,
    )
    from cls.training.train import train

    finished = train(Bottle(settings), config, convert=convert, resume=options.resume)
    print(f"run {finished.folder}")
    print(finished.summary())
    print(f"next: python cls/classification/export.py --group {shlex.quote(config.group)}")


def convert(network: nn.Module, preprocessing: Preprocessing, labels: tuple[str, ...], folder: Path) -> None:
    """Writes TorchScript and ONNX into a run folder."""
    from cls.export.onnx import write_onnx
    from cls.export.torchscript import write_torchscript

    write_torchscript(network, preprocessing, folder / "torchscripts" / "model.pt")
    write_onnx(network, preprocessing, labels, folder / "onnx" / "model.onnx")


COMMAND = Command("train", "train a classifier of a loaded group", add_arguments, run)

if __name__ == "__main__":
    main(COMMAND)
