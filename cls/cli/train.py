"""Trains a classifier of a loaded group: `python cls/classification/train.py --cat hair_color --epochs 1 --batch 4`."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from cls.cli.command import Command
from cls.training.config import Option, TrainConfig, training_options

if TYPE_CHECKING:
    from collections.abc import Mapping


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add_training_arguments(parser)
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        help="resume an interrupted run of the same settings (default: if there is one; --resume: fail without one)",
    )


def add_training_arguments(
    parser: argparse.ArgumentParser, *, without: tuple[str, ...] = (), defaults: Mapping[str, Any] | None = None
) -> None:
    """Adds the fields of `TrainConfig` as options; one that is not given is missing in the parsed options.

    Args:
        parser: gets them, by section.
        without: fields that get no option.
        defaults: by name of an option, what differs from the defaults of `TrainConfig`.
    """
    sections: dict[str, Any] = {}
    for name, option in training_options().items():
        if name not in without:
            section = sections.get(option.section) or parser.add_argument_group(option.section)
            sections[option.section] = section
            section.add_argument(option.flag, **_how(name, option, (defaults or {}).get(option.dest)))


def _how(name: str, option: Option, default: Any) -> dict[str, Any]:
    """What argparse is told of an option; choices and ranges are checked later, so that all problems are listed."""
    text = option.default_text if default is None else str(default)
    how: dict[str, Any] = {
        "dest": option.dest,
        "default": argparse.SUPPRESS if default is None else default,
        "help": option.help + (f" (default: {text})" if text else ""),
    }
    if option.kind is bool:
        return {**how, "action": argparse.BooleanOptionalAction}
    if option.kind is tuple:
        how["nargs"] = "*" if option.may_be_empty else "+"
    elif option.kind is not str:
        how["type"] = option.kind
    return {**how, "metavar": option.metavar, "required": name == "group"}


def config_of(options: argparse.Namespace, **others: Any) -> TrainConfig:
    """The settings of a training: `others`, then what was given as options, then the defaults of `TrainConfig`.

    Raises:
        UsageError: options hold values they cannot take; lists them all.
    """
    from cls.training.config import config_of_options

    names = {option.dest for option in training_options().values()}
    return config_of_options(**{**{name: value for name, value in vars(options).items() if name in names}, **others})


def run(options: argparse.Namespace) -> None:
    """Trains and prints the run folder, its measures and what comes next."""
    import shlex

    from cls.interface import train
    from cls.machine import wait_passively

    wait_passively()
    config = config_of(options)
    finished = train(config, resume=options.resume, cfg=options.cfg)
    print(f"run {finished.folder}")
    print(finished.summary())
    if finished.metrics.conversions["onnx"] is None:
        print(f"next: python cls/classification/export.py --group {shlex.quote(config.group)}")
    else:
        print(f"next: nothing can be exported of {finished.arch}, see the warning above: train with another --arch")


COMMAND = Command("train", "train a classifier of a loaded group", add_arguments, run)
