"""The settings of one training run. An option is declared once, at its field of `TrainConfig`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import InitVar, asdict, dataclass, field, fields
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Any

from cls.errors import Fault, TrainingError, UsageError, UsageFault
from cls.options import Option, by_field, make_plain, option, options_of, plain, refuse
from cls.people import CHOICES
from cls.training.network.input_size import is_pixels, parse_size

MODES = ("train", "all")
LOSSES = ("bce", "weighted", "focal", "asymmetric", "ratio")
# Logger -> what to install; modules have the names of their loggers.
_LOGGER_PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow-skinny", "wandb": "wandb"}
LOGGERS = tuple(_LOGGER_PACKAGES)
BY_PICSET = "picset"
_LARGEST_SIDE_PX = 2048
_COMMAND = "cls train"

_DATA, _NETWORK, _OPTIMIZER, _LOSS = "data and split", "network", "optimization", "loss and regularization"
_EVALUATION, _MACHINE = "evaluation", "hardware and logging"


@dataclass(frozen=True)
class TrainConfig:
    """The settings of a training. All problems are reported at once; `from_dict` checks the types alone."""

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
        "people who have their photo's labels: the largest person, the only person, or every person",
        choices=CHOICES,
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
        is_file=True,
        values="auto, none or a file",
    )
    pretrained: str | None = option(
        None,
        _NETWORK,
        "earlier run to fine-tune from: its name, GROUP/NAME, number, newest or folder",
        metavar="RUN",
        is_file=True,
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
    nodes: int = option(1, _MACHINE, "number of nodes (machines)", ge=1)
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
        make_plain(self)
        for name, known in training_options().items():
            value = getattr(self, name)
            if known.flag != "--size" and not (known.takes(value) if is_new else known.has_type_of(value)):
                problems.append(known.fault(value))
        if is_new:
            problems += _problems_together(self)
        elif not all(type(pixels) is int for pixels in (*self.size_px, self.auto_px)):
            problems.append(UsageFault("--size: expected whole numbers of pixels", code="invalid_option_value"))
        refuse(problems, _COMMAND)

    @property
    def size_px(self) -> tuple[int, int]:
        """Height and width of the network's input."""
        return self.height_px, self.width_px

    @property
    def world_size(self) -> int:
        """The number of processes."""
        return self.devices * self.nodes

    @property
    def samples_per_step(self) -> int:
        """Samples per optimizer step, over all processes and accumulated batches."""
        return self.batch * self.world_size * self.accumulate

    @property
    def folder_tail(self) -> str:
        """The run folder's name after `v__<n>_`: mode, backbone, batch, decay."""
        from cls.files import safe_name  # late: `--help` has no use for it

        return f"{self.mode}_{safe_name(self.arch)}_{self.batch}_{self.decay:g}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for args.yaml; files and folders with an absolute path are reduced to their name."""
        values = asdict(self)
        values |= {key: list(value) for key, value in values.items() if isinstance(value, tuple)}
        for key in (name for name, known in training_options().items() if known.is_file):
            if values[key] is not None and PurePath(values[key]).is_absolute():
                values[key] = PurePath(values[key]).name
        return values

    @property
    def identity(self) -> dict[str, Any]:
        """The values that decide the result: all but workers, loggers and leak tax."""
        values = asdict(self)
        del values["workers"], values["loggers"], values["leak_tax"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainConfig:
        """Reads values of `to_dict` of any version: unknown keys are left out, other choices and ranges accepted.

        Raises:
            UsageError: values have other types than the fields; lists them all.
        """
        known = {field.name for field in fields(cls)}
        return cls(**{"group": "", **{key: value for key, value in values.items() if key in known}}, is_new=False)


def training_options() -> dict[str, Option]:
    """Field of `TrainConfig` -> its option, in the order of the fields; `--size` stands for three of them."""
    return options_of(TrainConfig)


def _problems_together(config: TrainConfig) -> list[UsageFault]:
    """Errors in combinations of fields that are each valid."""
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
    """The settings of options; all errors are reported at once.

    Args:
        size: `HEIGHTxWIDTH` in pixels or both in a pair, `auto` or `auto:PIXELS`; None for that of the other fields.
        values: the other fields of `TrainConfig`, or the names of their options (`log` for `loggers`).

    Raises:
        UsageError: options hold values they cannot take; lists them all.
    """
    problems: list[Fault] = []
    values = by_field(TrainConfig, values)
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
    refuse(problems, _COMMAND)
    return config


def _outside_problems(values: Mapping[str, Any]) -> list[UsageFault]:
    """Backbones, files and packages that do not exist."""
    from cls.training.network.build import timm_name

    problems = []
    arch, loggers = values.get("arch"), values.get("loggers")
    try:
        timm_name(arch if arch and isinstance(arch, str) else TrainConfig.arch)
    except TrainingError as error:
        problems.append(UsageFault(f"--arch: {error.what} ({error.hint})", code="unknown_architecture"))
    weights = plain(values.get("weights", TrainConfig.weights))
    if isinstance(weights, str) and weights not in ("", "auto", "none") and not Path(weights).expanduser().is_file():
        what = f"--weights: {weights}: there is no such weights file (give auto, none or an existing file)"
        problems.append(UsageFault(what, code="weights_not_found"))
    problems += [
        UsageFault(f"--log: {name} is not installed (`pip install {_LOGGER_PACKAGES[name]}`)", code="not_installed")
        for name in ([loggers] if isinstance(loggers, str) else loggers if isinstance(loggers, (list, tuple)) else ())
        if name in LOGGERS and find_spec(name) is None
    ]
    return problems
