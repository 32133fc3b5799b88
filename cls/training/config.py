"""The settings of one training run. An option is declared once, at its field of `TrainConfig`."""

from __future__ import annotations

import math
import operator
import os
import sys
from collections.abc import Mapping
from dataclasses import MISSING, InitVar, asdict, dataclass, field, fields
from functools import cache
from importlib.util import find_spec
from numbers import Integral, Real
from pathlib import Path, PurePath
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from cls.errors import Fault, TrainingError, UsageError, UsageFault
from cls.files import safe_name
from cls.training.network.input_size import is_pixels, parse_size

MODES = ("train", "all")
PEOPLE = ("largest", "single", "all")
LOSSES = ("bce", "weighted", "focal", "asymmetric", "ratio")
# Logger -> what to install; modules have the names of their loggers.
_LOGGER_PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow-skinny", "wandb": "wandb"}
LOGGERS = tuple(_LOGGER_PACKAGES)
BY_PICSET = "picset"
_LARGEST_SIDE_PX = 2048
_HELP = "see `cls train --help`"

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Option:
    """A field of `TrainConfig` as an option of the command line.

    Attributes:
        help: what it does, for `--help` and the reference.
        section: the heading it stands under.
        flag: its name on the command line.
        dest: its name in parsed options.
        metavar: stands for its value in `--help`.
        values: what it takes, in words, where neither a range nor choices say it.
        unset: its default in words, where the value itself does not say it.
        choices: the values it takes.
        ge, gt, le, lt: bounds of a number: from, above, to, below.
        may_be_empty: whether a list may be given without values.
        kind: type of its value as typed, without None.
        is_optional: whether None is a value.
        default: the field's default.
    """

    help: str
    section: str
    flag: str
    dest: str
    metavar: str = ""
    values: str = ""
    unset: str = ""
    choices: tuple[str, ...] = ()
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    may_be_empty: bool = False
    kind: type = str
    is_optional: bool = False
    default: Any = None

    @property
    def expected(self) -> str:
        """The values it takes, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        kinds = {int: "a whole number", float: "a number", bool: "true or false", tuple: "names"}
        at_most = " to" if self.ge is not None else ", at most"
        bounds = ((" from", self.ge), (" above", self.gt), (at_most, self.le), (", below", self.lt))
        limits = [f"{word} {bound:g}" for word, bound in bounds if bound is not None]
        return self.values or kinds.get(self.kind, "a name") + "".join(limits)

    @property
    def default_text(self) -> str:
        """Its default, as typed or in words; empty where there is none."""
        if self.unset or self.default is None:
            return self.unset
        if isinstance(self.default, bool):
            return "yes" if self.default else "no"
        return " ".join(self.default) if isinstance(self.default, tuple) else f"{self.default}"

    def has_type_of(self, value: Any) -> bool:
        """Whether the value has the field's type, whatever the choices and bounds are."""
        if value is None:
            return self.is_optional
        is_of_kind = isinstance(value, (int, float) if self.kind is float else self.kind)
        is_finite = not isinstance(value, float) or math.isfinite(value)
        return is_of_kind and is_finite and isinstance(value, bool) == (self.kind is bool) and value != ""

    def takes(self, value: Any) -> bool:
        """Whether the field of a new training can have the value."""
        if value is None or not self.has_type_of(value):
            return self.has_type_of(value)
        if self.choices:
            return set([value] if isinstance(value, str) else value) <= set(self.choices)
        bounds = ((operator.ge, self.ge), (operator.gt, self.gt), (operator.le, self.le), (operator.lt, self.lt))
        return all(holds(value, bound) for holds, bound in bounds if bound is not None)


def option(default: T, section: str, help: str, **how: Any) -> T:  # noqa: A002 - argparse's own word
    """A field of `TrainConfig`; `how` has the other attributes of its `Option`."""
    made: T = field(default=default, metadata={"section": section, "help": help, **how})
    return made


_DATA, _NETWORK, _OPTIMIZER, _LOSS = "data and split", "network", "optimization", "loss and regularization"
_EVALUATION, _MACHINE = "evaluation", "hardware and logging"


@dataclass(frozen=True)
class TrainConfig:
    """What a training run is asked to do. Checked when made: all problems are listed at once.

    `training_options` has range, section and meaning of every field; `from_dict` checks the types alone.
    """

    group: str = field(
        metadata={"help": "group to train a classifier of", "section": _DATA, "flag": "--cat", "metavar": "GROUP"}
    )
    mode: str = option("train", _DATA, "train: hold a validation part out; all: train on all data", choices=MODES)
    split: str = option(
        BY_PICSET,
        _DATA,
        "picset: split made by CLS, no picset in both subsets; or parts that the dataset brings, e.g. official",
        metavar="PARTS",
        values="picset or the name of parts of the dataset, e.g. official",
    )
    valid: float = option(0.2, _DATA, "share of the samples held out for validation", gt=0, lt=1)
    people: str = option(
        "largest",
        _DATA,
        "whom a photo's labels belong to: the largest person, the only person, or every person",
        choices=PEOPLE,
    )
    subject: str | None = option(
        None, _DATA, "class of people the group is about, e.g. female", metavar="CLASS", unset="everyone"
    )
    incomplete: tuple[str, ...] | None = option(
        None,
        _DATA,
        "labels that are unknown, not absent, for photos without them (no names: all labels), except for trash",
        metavar="LABEL",
        may_be_empty=True,
        values="labels, or nothing for all of them",
        unset="labels are complete",
    )
    join_by: tuple[str, ...] = option(
        ("model", "shoot"),
        _DATA,
        "keep picsets with the same value of these metadata fields in one subset (no names: none)",
        metavar="KEY",
        may_be_empty=True,
        values="fields of the picsets' metadata, or nothing",
    )
    near_duplicates: bool = option(True, _DATA, "keep picsets with near-duplicate photos in one subset of the split")
    seed: int = option(0, _DATA, "random seed of initialization, sampling, augmentation and split", ge=0)

    arch: str = option(
        "eff",
        _NETWORK,
        "backbone: eff, eff_l, res, swin, vit_l_16, lite0, mnv3 or a timm model",
        metavar="NAME",
        values="a short name or a timm model",
    )
    height_px: int = option(
        256,
        _NETWORK,
        "input size in pixels; auto: as many pixels in the median aspect ratio of the people",
        flag="--size",
        dest="size",
        kind=str,
        metavar="HxW",
        values=f"HEIGHTxWIDTH from 32 to {_LARGEST_SIDE_PX} pixels, auto or auto:PIXELS",
        unset="256x192",
    )
    width_px: int = 192
    auto_px: int = 0
    weights: str = option(
        "auto",
        _NETWORK,
        "initial weights: auto (pretrained where available), none (random) or a file",
        metavar="WEIGHTS",
        values="auto, none or a file",
    )
    pretrained: str | None = option(
        None,
        _NETWORK,
        "earlier run to fine-tune from: its name, GROUP/NAME, number, newest or folder",
        metavar="RUN",
        values="a run",
        unset="none",
    )
    freeze: int = option(0, _NETWORK, "number of first stages of a pretrained backbone to freeze", ge=0)
    stripes: int = option(
        0, _NETWORK, "pool mean and maximum over this many horizontal stripes, e.g. 4; 0: global average pooling", ge=0
    )
    dropout: float = option(0.2, _NETWORK, "dropout rate before the head", ge=0, le=0.9)

    epochs: int = option(12, _OPTIMIZER, "number of epochs", ge=1)
    batch: int = option(16, _OPTIMIZER, "batch size of each process", ge=1)
    accumulate: int = option(1, _OPTIMIZER, "gradient accumulation: batches per optimizer step", ge=1)
    lr: float | None = option(None, _OPTIMIZER, "peak learning rate of the head", gt=0, le=10, unset="by batch size")
    backbone_lr: float = option(
        0.3, _OPTIMIZER, "learning rate of a pretrained backbone as a multiple of the head's", ge=0, le=10
    )
    layer_decay: float = option(
        1.0, _OPTIMIZER, "layer-wise learning-rate decay towards the input; 1: none", ge=0.1, le=1
    )
    decay: float = option(0.001, _OPTIMIZER, "weight decay (AdamW)", ge=0, le=10)
    warmup: float = option(0.1, _OPTIMIZER, "learning-rate warm-up as a share of all steps", ge=0, le=0.9)
    clip: float = option(5.0, _OPTIMIZER, "gradient clipping: largest norm", ge=1e-6, le=1e6)
    ema: float = option(
        0.0,
        _OPTIMIZER,
        "decay of the exponential moving average (EMA) of the weights that is validated and kept; 0: none",
        ge=0,
        le=0.99999,
    )
    head_start: bool = option(False, _OPTIMIZER, "fit the head to a frozen pretrained backbone before the fine-tuning")

    loss: str = option(
        "weighted",
        _LOSS,
        "binary cross-entropy (bce), with rare labels weighted up (weighted, ratio), focal or asymmetric loss",
        choices=LOSSES,
    )
    focal_gamma: float = option(2.0, _LOSS, "focusing parameter of the focal loss", ge=0, le=10)
    gamma_positive: float = option(
        0.0, _LOSS, "focusing parameter of the asymmetric loss for labels that are present", ge=0, le=10
    )
    gamma_negative: float = option(
        4.0, _LOSS, "focusing parameter of the asymmetric loss for labels that are absent", ge=0, le=10
    )
    negative_clip: float = option(
        0.05, _LOSS, "probability margin of the asymmetric loss for labels that are absent", ge=0, le=0.5
    )
    smoothing: float = option(0.0, _LOSS, "label smoothing: distance of the targets from 0 and 1", ge=0, le=0.4)
    auxiliary: tuple[str, ...] = option(
        (),
        _LOSS,
        "groups over the same photos whose labels are learned as auxiliary targets; all: every other group",
        metavar="GROUP",
        values="groups, or all",
        unset="none",
    )
    background_share: float = option(
        0.3, _LOSS, "augmentation: share of training samples placed on another background", ge=0, le=1
    )

    backgrounds: int = option(
        8,
        _EVALUATION,
        "background sensitivity: other backgrounds tried for each person of validation; 0: not measured",
        ge=0,
    )
    background_people: int | None = option(
        None, _EVALUATION, "background sensitivity: largest number of people", ge=0, unset="8 to 64, by epochs"
    )
    leak_tax: bool = option(
        False, _EVALUATION, "train again on a random split and report how much better it scores (doubles the time)"
    )

    precision: str = option(
        "auto",
        _MACHINE,
        "numeric precision; auto: mixed precision on a GPU, 32 bits on a CPU",
        choices=("auto", "32", "bf16", "16"),
    )
    compile: bool = option(False, _MACHINE, "compile the network with torch.compile")
    devices: int = option(1, _MACHINE, "processes on each node, each with a device of its own", ge=1)
    nodes: int = option(1, _MACHINE, "number of machines; see docs/training.md", ge=1)
    strategy: str = option(
        "auto", _MACHINE, "distributed training; auto: ddp with several processes", choices=("auto", "ddp")
    )
    workers: int = option(0, _MACHINE, "data loader processes; 0: a thread", ge=0)
    cache: str = option(
        "raw",
        _MACHINE,
        "format of cached cut-outs: jpeg and png need less disk and more time",
        choices=("raw", "jpeg", "png"),
    )
    augment_on: str = option(
        "auto",
        _MACHINE,
        "where samples are augmented; auto: on the GPU if there is one",
        choices=("auto", "cpu", "gpu"),
    )
    loggers: tuple[str, ...] = option(
        (),
        _MACHINE,
        "loggers beside csv_logs/, on this machine unless their own environment variables say otherwise",
        flag="--log",
        metavar="LOGGER",
        choices=LOGGERS,
        unset="none",
    )
    is_new: InitVar[bool] = True

    def __post_init__(self, is_new: bool) -> None:
        problems: list[Fault] = []
        for one in fields(self):
            object.__setattr__(self, one.name, _plain(getattr(self, one.name)))
        for name, known in training_options().items():
            value = getattr(self, name)
            if known.flag != "--size" and not (known.takes(value) if is_new else known.has_type_of(value)):
                wrong = [one for one in value if one not in known.choices] if isinstance(value, tuple) else [value]
                what = f"{known.flag}: expected {known.expected}, found {', '.join(map(repr, wrong))}"
                problems.append(UsageFault(what, code="invalid_option_value"))
        if is_new:
            problems += _problems_together(self)
        elif not all(type(pixels) is int for pixels in (*self.size_px, self.auto_px)):
            problems.append(UsageFault("--size: expected whole numbers of pixels", code="invalid_option_value"))
        if problems:
            raise UsageError("; ".join(problems), code="invalid_options", hint=_HELP, faults=problems)

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        return self.height_px, self.width_px

    @property
    def world(self) -> int:
        """How many processes train together."""
        return self.devices * self.nodes

    @property
    def people_a_step(self) -> int:
        """Samples behind one step of the optimizer: all processes' and all accumulated batches'."""
        return self.batch * self.world * self.accumulate

    @property
    def folder_tail(self) -> str:
        """The run folder's name after `v__<n>_`: mode, backbone, batch, decay."""
        return f"{self.mode}_{safe_name(self.arch)}_{self.batch}_{self.decay:g}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for args.yaml; of files and folders given by absolute path, the name alone."""
        values: dict[str, Any] = asdict(self)
        values |= {key: list(value) for key, value in values.items() if isinstance(value, tuple)}
        for key in ("weights", "pretrained"):
            if values[key] is not None and PurePath(values[key]).is_absolute():
                values[key] = PurePath(values[key]).name
        return values

    @property
    def identity(self) -> dict[str, Any]:
        """The values that decide the result: not the number of workers, other logs, or what is measured after it."""
        values = asdict(self)
        del values["workers"], values["loggers"], values["leak_tax"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Reads what `to_dict` of any version wrote: other keys are left out, other choices and ranges are kept.

        Raises:
            UsageError: values have other types than the fields; lists them all.
        """
        known = {field.name for field in fields(cls)}
        return cls(**{"group": "", **{key: value for key, value in values.items() if key in known}}, is_new=False)


@cache
def training_options() -> dict[str, Option]:
    """Field of `TrainConfig` -> its option, in the order of the fields; `--size` stands for three of them."""
    hints = get_type_hints(TrainConfig)
    found = {}
    for one in fields(TrainConfig):
        if not one.metadata:
            continue
        parts = get_args(hints[one.name])
        kind = parts[0] if NoneType in parts else hints[one.name]
        kind = get_origin(kind) or kind
        choices = f"{{{','.join(one.metadata.get('choices', ()))}}}"
        how: dict[str, Any] = {
            "kind": kind,
            "flag": f"--{one.name.replace('_', '-')}",
            "dest": one.name,
            "metavar": {int: "N", float: "X"}.get(kind, choices),
            **one.metadata,
        }
        default = None if one.default is MISSING else one.default
        found[one.name] = Option(**how, is_optional=NoneType in parts, default=default)
    return found


def _plain(value: Any) -> Any:
    """A value as args.yaml has it: paths as text, numbers of numpy as Python's, lists as tuples without repeats."""
    if isinstance(value, (list, tuple)):
        return tuple(dict.fromkeys(map(str, value)))
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if type(value) in (bool, int, float) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def _problems_together(config: TrainConfig) -> list[UsageFault]:
    """What several fields say together; each of them may be wrong by itself."""
    problems, conflicts = [], []
    fits = all(isinstance(side, int) and 32 <= side <= _LARGEST_SIDE_PX for side in config.size_px)
    if not fits or (config.auto_px != 0 and not is_pixels(config.auto_px)):
        found = f"auto_px {config.auto_px!r}" if fits else f"{config.height_px}x{config.width_px}"
        expected = training_options()["height_px"].expected
        problems.append(UsageFault(f"--size: expected {expected}, found {found}", code="invalid_option_value"))
    if config.leak_tax and (config.mode == "all" or config.split != BY_PICSET):
        conflicts.append("--leak-tax: compares with a split by picset: needs --mode train and --split picset")
    if config.leak_tax and (config.devices, config.nodes) != (1, 1):
        conflicts.append("--leak-tax: is measured by one process; leave out --devices and --nodes")
    if config.pretrained is not None and config.weights != "auto":
        conflicts.append("--pretrained: the weights come from the run; leave out --weights")
    return problems + [UsageFault(what, code="options_conflict") for what in conflicts]


def config_of_options(*, size: str | tuple[int, int] | None = None, **values: Any) -> TrainConfig:
    """The settings as typed; what is wrong with the size, the backbone and all other options is said at once.

    Args:
        size: `HEIGHTxWIDTH` in pixels or both in a pair, `auto` or `auto:PIXELS`; None for that of the other fields.
        values: the other fields of `TrainConfig`, or the names of their options (`log` for `loggers`).

    Raises:
        UsageError: options hold values they cannot take; lists them all.
    """
    problems: list[Fault] = []
    for name, known in training_options().items():
        typed = known.flag[2:].replace("-", "_")
        if typed in values and name not in values:
            values[name] = values.pop(typed)
    if size is not None:
        try:
            values |= zip(("height_px", "width_px", "auto_px"), parse_size(size), strict=True)
        except UsageError as error:
            problems.append(UsageFault.of(error))
    problems += _outside_problems(values)
    try:
        config = TrainConfig(**values)
    except UsageError as error:
        problems = [*error.faults, *problems]
    if problems:
        raise UsageError("; ".join(problems), code="invalid_options", hint=_HELP, faults=problems)
    return config


def _outside_problems(values: Mapping[str, Any]) -> list[UsageFault]:
    """What only timm and the disk can say: whether there is such a backbone, and such a file."""
    from cls.training.network.build import timm_name

    problems = []
    arch, loggers = values.get("arch"), values.get("loggers")
    try:
        timm_name(arch if arch and isinstance(arch, str) else TrainConfig.arch)
    except TrainingError as error:
        problems.append(UsageFault(f"--arch: {error.what} ({error.hint})", code="unknown_architecture"))
    weights = _plain(values.get("weights", TrainConfig.weights))
    if isinstance(weights, str) and weights not in ("", "auto", "none") and not Path(weights).expanduser().is_file():
        what = f"--weights: {weights}: there is no such weights file (give auto, none or an existing file)"
        problems.append(UsageFault(what, code="weights_not_found"))
    problems += [
        UsageFault(f"--log: {name} is not installed (`pip install {_LOGGER_PACKAGES[name]}`)", code="not_installed")
        for name in (loggers if isinstance(loggers, (list, tuple)) else ())
        if name in LOGGERS and find_spec(name) is None
    ]
    return problems


def options_page() -> str:
    """The reference page of all options, in Markdown."""
    lines = [
        "# Options of `cls train`",
        "",
        "Made by `python -m cls.training.config > docs/training-options.md`; [Training](training.md) explains them.",
        "Options may be written with underscores too, and `--group` for `--cat`.",
    ]
    section = ""
    for known in training_options().values():
        if known.section != section:
            section = known.section
            lines.append(f"\n## {section.capitalize()}\n\n| option | takes | default | meaning |\n|---|---|---|---|")
        flags, takes = f"`{known.flag}`", known.expected
        if known.kind is bool:
            flags, takes = f"{flags}, `--no-{known.flag[2:]}`", ""
        lines.append(f"| {flags} | {takes} | {known.default_text} | {known.help} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.stdout.write(options_page())
