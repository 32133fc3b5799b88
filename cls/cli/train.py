"""Trains a classifier of a loaded group: `python cls/classification/train.py --cat hair_color --epochs 1 --batch 4`."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cls.cli.command import Command, add_options, bottle_of, given
from cls.errors import BottleError, Fault, UsageError
from cls.training.config import TrainConfig, config_of_options

_log = logging.getLogger("cls.training")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of the verb."""
    add_options(parser, TrainConfig)
    # Whether --cat is needed is known when --from is.
    parser.set_defaults(refuse=parser.error)
    parser.add_argument(
        "--from",
        dest="source",
        metavar="RUN",
        help="train with the settings of an earlier run (its name, GROUP/NAME, number, newest or folder) or of a YAML "
        "file like its args.yaml; "
        "options that are given override them, and --cat may be left out",
    )
    parser.add_argument(
        "--resume",
        action=argparse.BooleanOptionalAction,
        help="resume an interrupted run of the same settings (default: if there is one; --resume: fail without one)",
    )


def config_of(options: argparse.Namespace, **others: Any) -> TrainConfig:
    """The settings of a training: `others`, then what was given as options, then the defaults of `TrainConfig`.

    Raises:
        UsageError: options hold values they cannot take; lists them all.
    """
    return config_of_options(**{**given(options, TrainConfig), **others})


def config_of_source(options: argparse.Namespace) -> TrainConfig:
    """The settings of the run, or the args.yaml, that `--from` names, with the options that are given beside it.

    Raises:
        UsageError: options that are given are wrong; lists what is wrong with the other settings, too.
        BottleError: there is no such run or file, or its settings cannot be used; lists them all.
    """
    from cls.training.network.build import timm_name
    from cls.training.network.weights import initial_weights
    from cls.training.runs.args import read_settings
    from cls.training.runs.listing import find_run

    bottle, words = bottle_of(options), given(options, TrainConfig)
    file = Path(options.source).expanduser()
    earlier = read_settings(file if file.is_file() else find_run(bottle, options.source).folder)
    settings, unknown = earlier.settings_with(words), earlier.unknown_names()
    faults = [*_faults_of(settings), *unknown]
    if faults:
        what = "; ".join(faults)
        hint = f"what is not given as an option is from {options.source}; see `cls train --help`"
        own = {*_faults_of(earlier.settings_with({})), *unknown}
        if not set(faults) <= own or _faults_of({"group": "any", **words}):
            raise UsageError(what, code="invalid_options", hint=hint, faults=faults)
        raise BottleError(what, code="invalid_settings", where=options.source, hint=hint, faults=faults)
    config = config_of_options(**settings)
    if (
        earlier.weights is not None
        and not {"weights", "pretrained"} & words.keys()
        and (config.pretrained, config.weights) != (None, "auto")
    ):
        found = initial_weights(bottle, config, timm_name(config.arch)).record()
        if found.sha256 != earlier.weights.sha256:
            _log.warning(
                "initial weights: %s; the earlier training had others: %s", found.origin, earlier.weights.origin
            )
    return config


def _faults_of(settings: dict[str, Any]) -> Sequence[Fault]:
    """What is wrong with settings of a training."""
    try:
        config_of_options(**settings)
    except UsageError as error:
        return error.faults
    return ()


def run(options: argparse.Namespace) -> None:
    """Trains and prints the run folder, its measures and what comes next."""
    import shlex

    from cls.interface import train
    from cls.machine import wait_passively

    wait_passively()
    if options.source is None and "group" not in options:
        options.refuse("--cat is required, or --from")
    config = config_of(options) if options.source is None else config_of_source(options)
    finished = train(config, resume=options.resume, cfg=options.cfg)
    print(f"run {finished.folder}")
    print(finished.summary())
    if finished.metrics.conversions["onnx"] is None:
        print(f"next: python cls/classification/export.py --group {shlex.quote(config.group)}")
    else:
        print(f"next: nothing can be exported of {finished.arch}, see the warning above: train with another --arch")


COMMAND = Command("train", "train a classifier of a loaded group", add_arguments, run, extra="train")
