"""Trains a classifier of a loaded group: `python cls/classification/train.py --cat hair_color --epochs 1 --batch 4`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from cls.cli.command import Command
from cls.training.config import AUGMENTERS, CACHES, LOGGERS, LOSSES, MODES, PEOPLE, PRECISIONS, STRATEGIES, TrainConfig

if TYPE_CHECKING:
    from collections.abc import Sequence


# Options that are fields of TrainConfig under the same name.
_AS_TYPED = (
    "epochs", "batch", "mode", "arch", "lr", "backbone_lr", "layer_decay", "decay", "warmup", "clip", "accumulate",
    "ema", "dropout", "smoothing", "loss", "focal_gamma", "gamma_positive", "gamma_negative", "negative_clip",
    "weights", "pretrained", "freeze", "stripes", "auxiliary", "head_start", "split", "valid", "people", "subject",
    "seed", "workers", "precision", "compile", "devices", "nodes", "strategy", "backgrounds", "background_people",
    "background_share", "cache", "augment_on", "incomplete", "join_by", "near_duplicates", "leak_tax",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    parser.add_argument("--cat", required=True, metavar="GROUP", help="the group to train a classifier of")
    add_training_arguments(parser)


def add_training_arguments(parser: argparse.ArgumentParser, *, is_alone: bool = True) -> None:
    """All options of a training but its group; where it is not alone, without those that are about one run."""
    parser.add_argument("--epochs", type=int, default=12, help="how often every person is seen (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=16, help="batch size, in people (default: %(default)s)")
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
    parser.add_argument(
        "--size",
        default="256x192",
        metavar="HxW",
        help="input in pixels, or auto: as many in the people's own proportions (default: %(default)s)",
    )
    parser.add_argument("--weights", default="auto", help="first weights: auto, none or a file (default: %(default)s)")
    parser.add_argument("--pretrained", metavar="RUN", help="start from an earlier run: its name, GROUP/NAME or folder")
    _add_learning_arguments(parser)
    parser.add_argument(
        "--split",
        default=TrainConfig.split,
        metavar="PARTS",
        help="picset: no picset on both sides; or parts the dataset brings, e.g. official (default: %(default)s)",
    )
    parser.add_argument("--valid", type=float, default=0.2, help="share held out (default: %(default)s)")
    parser.add_argument(
        "--people",
        default="largest",
        metavar=_choices(PEOPLE),
        help="whose label it is: the largest person's, the only one's, or everyone's (default: %(default)s)",
    )
    parser.add_argument("--subject", metavar="CLASS", help="class of people the group is about, e.g. female")
    _add_data_arguments(parser)
    if is_alone:
        _add_run_arguments(parser)
    else:
        parser.set_defaults(leak_tax=False, resume=None)
    parser.add_argument(
        "--backgrounds",
        type=int,
        default=8,
        metavar="N",
        help="put validation people before N other backgrounds and count the changes; 0: don't (default: %(default)s)",
    )
    parser.add_argument(
        "--background-people", type=int, metavar="N", help="how many people at most (default: by epochs, 8 to 64)"
    )
    parser.add_argument("--seed", type=int, default=0, help="where all chance comes from (default: %(default)s)")
    parser.add_argument("--workers", type=int, default=0, help="processes that make batches; 0 (default): a thread")
    _add_machine_arguments(parser)
    parser.add_argument(
        "--log",
        nargs="+",
        default=[],
        metavar="LOGGER",
        help=f"log to {', '.join(LOGGERS)} too, on this machine unless their own settings say otherwise",
    )


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
    """What is done about the run as a whole."""
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        help="go on with a cut-off run of the same settings (done by itself; --resume: an error if there is none)",
    )
    parser.add_argument(
        "--leak-tax",
        action="store_true",
        help="train once more on a random split and say how much better it looks (doubles the time)",
    )


def _add_data_arguments(parser: argparse.ArgumentParser) -> None:
    """What labels mean, and what a split must keep together."""
    group = parser.add_argument_group("labels and splits")
    group.add_argument(
        "--incomplete",
        nargs="*",
        metavar="LABEL",
        help="a picture without one of these labels (none named: of all) is unknown for it, unless it is trash",
    )
    group.add_argument(
        "--join-by",
        nargs="*",
        default=TrainConfig.join_by,
        metavar="KEY",
        help="picsets whose meta has the same value here stay on one side (default: model shoot; none named: none)",
    )
    group.add_argument(
        "--near-duplicates",
        action=argparse.BooleanOptionalAction,
        default=TrainConfig.near_duplicates,
        help="picsets with near-duplicate pictures stay on one side (default: yes)",
    )


def _add_learning_arguments(parser: argparse.ArgumentParser) -> None:
    """How the network learns."""
    group = parser.add_argument_group("learning")
    default = "(default: %(default)s)"
    group.add_argument(
        "--freeze",
        type=int,
        default=TrainConfig.freeze,
        metavar="STAGES",
        help=f"number of first stages of a pretrained backbone to freeze {default}",
    )
    group.add_argument(
        "--stripes",
        type=int,
        default=TrainConfig.stripes,
        help=f"pool mean and maximum over this many horizontal stripes, e.g. 4; 0: one global average {default}",
    )
    group.add_argument(
        "--auxiliary",
        nargs="+",
        default=(),
        metavar="GROUP",
        help="groups over the same pictures whose labels are auxiliary targets, against overfitting; all: "
        "every other group of the bottle (default: none)",
    )
    group.add_argument(
        "--head-start", action="store_true", help="fit the head to the frozen backbone first (pretrained weights only)"
    )
    group.add_argument("--lr", type=float, help="peak learning rate of the head (default: by batch size)")
    group.add_argument(
        "--backbone-lr",
        type=float,
        default=TrainConfig.backbone_lr,
        help=f"a pretrained backbone's learning rate as a share of the head's {default}",
    )
    group.add_argument(
        "--layer-decay",
        type=float,
        default=TrainConfig.layer_decay,
        help=f"a layer's learning rate as a share of the next one's {default}",
    )
    group.add_argument("--decay", type=float, default=TrainConfig.decay, help=f"weight decay {default}")
    group.add_argument(
        "--warmup", type=float, default=TrainConfig.warmup, help=f"share of the steps with a rising rate {default}"
    )
    group.add_argument("--clip", type=float, default=TrainConfig.clip, help=f"largest norm of the gradient {default}")
    group.add_argument(
        "--accumulate", type=int, default=TrainConfig.accumulate, help=f"batches whose gradients make a step {default}"
    )
    group.add_argument(
        "--ema",
        type=float,
        default=TrainConfig.ema,
        metavar="DECAY",
        help=f"validate and keep a moving average of the weights, e.g. 0.99; 0: none {default}",
    )
    group.add_argument(
        "--background-share",
        type=float,
        default=TrainConfig.background_share,
        help=f"share of the views with another background than the flat colour of inference {default}",
    )
    group.add_argument("--dropout", type=float, default=TrainConfig.dropout, help=f"before the head {default}")
    group.add_argument(
        "--smoothing",
        type=float,
        default=TrainConfig.smoothing,
        help=f"targets are moved so far from 0, 1 {default}",
    )
    group.add_argument(
        "--loss",
        default=TrainConfig.loss,
        metavar=_choices(LOSSES),
        help=f"weighted and ratio: rare labels count more; focal and asymmetric: what is hard counts more {default}",
    )
    for name, meaning in (
        ("focal_gamma", "focal: how much less what is easy counts"),
        ("gamma_positive", "asymmetric: the same for labels that are present"),
        ("gamma_negative", "asymmetric: the same for labels that are absent"),
        ("negative_clip", "asymmetric: absent labels below this probability count for nothing"),
    ):
        group.add_argument(
            f"--{name.replace('_', '-')}", type=float, default=getattr(TrainConfig, name), help=f"{meaning} {default}"
        )


def _add_machine_arguments(parser: argparse.ArgumentParser) -> None:
    """What it is computed with."""
    group = parser.add_argument_group("machine")
    default = "(default: %(default)s)"
    group.add_argument(
        "--cache",
        default=TrainConfig.cache,
        metavar=_choices(CACHES),
        help=f"how cut-outs are stored: jpeg and png take less disk and more time {default}",
    )
    group.add_argument(
        "--augment-on",
        default=TrainConfig.augment_on,
        metavar=_choices(AUGMENTERS),
        help=f"what makes the views; auto: the GPU where there is one {default}",
    )
    group.add_argument(
        "--precision",
        default=TrainConfig.precision,
        metavar=_choices(PRECISIONS),
        help=f"auto: mixed on a GPU, 32 on a CPU {default}",
    )
    group.add_argument("--compile", action="store_true", help="compile the network (torch.compile)")
    group.add_argument(
        "--devices", type=int, default=TrainConfig.devices, help=f"processes a node, each with its own batch {default}"
    )
    group.add_argument("--nodes", type=int, default=TrainConfig.nodes, help=f"machines; see docs/training.md {default}")
    group.add_argument(
        "--strategy",
        default=TrainConfig.strategy,
        metavar=_choices(STRATEGIES),
        help=f"how they work together {default}",
    )


def _choices(values: Sequence[str]) -> str:
    return f"{{{','.join(values)}}}"


def config_of(options: argparse.Namespace, group: str) -> TrainConfig:
    """The settings of a training, as typed.

    Raises:
        UsageError: options hold values they cannot take; lists them all.
    """
    from cls.training.config import config_of_options

    return config_of_options(
        group=group,
        loggers=tuple(dict.fromkeys(options.log)),
        size=options.size,
        **{name: getattr(options, name) for name in _AS_TYPED},
    )


def run(options: argparse.Namespace) -> None:
    """Trains and prints the run folder, its measures and what comes next."""
    import shlex

    from cls.interface import train
    from cls.machine import wait_passively

    wait_passively()
    config = config_of(options, options.cat)
    finished = train(config, resume=options.resume, cfg=options.cfg)
    print(f"run {finished.folder}")
    print(finished.summary())
    if finished.metrics["conversions"]["onnx"] is None:
        print(f"next: python cls/classification/export.py --group {shlex.quote(config.group)}")
    else:
        print(f"next: nothing can be exported of {finished.arch}, see the warning above: train with another --arch")


COMMAND = Command("train", "train a classifier of a loaded group", add_arguments, run)
