"""The settings of one training run: one frozen object that cannot hold a wrong value."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from importlib.util import find_spec
from pathlib import Path, PurePath
from typing import Any

from cls.errors import TrainingError, UsageError
from cls.training.network.input_size import pixels_of

MODES = ("train", "all")
PEOPLE = ("largest", "single", "all")
LOSSES = ("bce", "weighted", "focal", "asymmetric", "ratio")
PRECISIONS = ("auto", "32", "bf16", "16")
STRATEGIES = ("auto", "ddp")
CACHES = ("raw", "jpeg", "png")
AUGMENTERS = ("auto", "cpu", "gpu")
# Logger -> what to install; modules have the names of their loggers.
_LOGGER_PACKAGES = {"tensorboard": "tensorboard", "mlflow": "mlflow-skinny", "wandb": "wandb"}
LOGGERS = tuple(_LOGGER_PACKAGES)
BY_PICSET = "picset"
_LARGEST_SIDE_PX = 2048
_HELP = "see `cls train --help`"


@dataclass(frozen=True)
class TrainConfig:
    """What a training run is asked to do. Checked when made: all problems are listed at once.

    Attributes:
        group: which group's classifier.
        epochs: how often every sample is seen.
        batch: samples a step.
        mode: `train` holds a part out for validation, `all` trains on everything.
        arch: backbone, short name or timm's.
        height_px: height of the network's input.
        width_px: width of the network's input.
        auto_px: the input gets the people's own proportions and about this many pixels; 0: height and width stand.
        lr: peak learning rate of the head; None chooses one by batch size.
        backbone_lr: learning rate of the pretrained backbone as a share of `lr`; a random one uses `lr` itself.
        decay: weight decay (AdamW).
        warmup: share of the steps in which the learning rate rises.
        layer_decay: each layer's learning rate is this share of the next one's, towards the input; 1: all the same.
        loss: `bce`; `weighted`: rare labels' positives count more; `focal`, `asymmetric`, `ratio`: see `losses.py`.
        focal_gamma: focusing of `focal`.
        gamma_positive: focusing of `asymmetric` for labels that are present.
        gamma_negative: focusing of `asymmetric` for labels that are absent.
        negative_clip: `asymmetric` moves the probability of absent labels down by this much.
        weights: `auto`, `none` or a file.
        pretrained: an earlier run to start from: its folder's name, `GROUP/NAME` or path; None starts from `weights`.
        freeze: how many of a pretrained backbone's first stages stay as they came, the stem being the first; 0: none.
        stripes: the head sees mean and maximum of so many horizontal stripes; 0: one mean over everything.
        auxiliary: groups whose labels are learnt alongside; `all`: every other one; (): none.
        head_start: whether the head is fitted to the frozen backbone's features before the training.
        ema: decay of the moving average of the weights that is validated and kept; 0: none.
        dropout: share of features dropped before the head.
        smoothing: how far the targets 0 and 1 are moved towards each other.
        clip: largest norm of the gradient.
        accumulate: batches whose gradients make one step.
        precision: `32`, `bf16` or `16` (mixed); `auto`: mixed on a GPU, 32 on a CPU.
        compile: whether the network is compiled by `torch.compile`.
        devices: processes a node, each with a device and batches of its own.
        nodes: machines.
        strategy: how they work together; `auto` is `ddp` where there are several.
        loggers: what is written beside the csv log: `tensorboard`, `mlflow`, `wandb`.
        split: `picset`: made here, no picset on both sides; else the name of parts that the dataset brings.
        valid: share of samples held out.
        people: whom a picture's label belongs to: `largest`, `single` or `all`.
        subject: class of people the group is about; everyone when None.
        incomplete: labels that are unknown where a picture does not carry them and is not trash; (): all of them; None:
            the labels are complete.
        join_by: fields of picsets' meta; picsets with an equal value are never on two sides.
        near_duplicates: whether picsets with near-duplicate pictures are never on two sides.
        leak_tax: whether the same training is measured on a random split too.
        backgrounds: before how many other backgrounds a person of validation is put; 0: background sensitivity is not
            measured.
        background_people: how many people at most; None: by the training's length, 8 to 64.
        background_share: share of the training views with another background than the flat colour of inference.
        cache: how cut-outs are stored: `raw`, `jpeg` or `png`.
        augment_on: `cpu`, `gpu`, or `auto`: the GPU where there is one.
        seed: where all chance comes from.
        workers: processes that make batches; 0: a thread.
    """

    group: str
    epochs: int = 12
    batch: int = 16
    mode: str = "train"
    arch: str = "eff"
    height_px: int = 256
    width_px: int = 192
    auto_px: int = 0
    lr: float | None = None
    backbone_lr: float = 0.3
    decay: float = 0.001
    warmup: float = 0.1
    layer_decay: float = 1.0
    loss: str = "weighted"
    focal_gamma: float = 2.0
    gamma_positive: float = 0.0
    gamma_negative: float = 4.0
    negative_clip: float = 0.05
    weights: str = "auto"
    pretrained: str | None = None
    freeze: int = 0
    stripes: int = 0
    auxiliary: tuple[str, ...] = ()
    head_start: bool = False
    ema: float = 0.0
    dropout: float = 0.2
    smoothing: float = 0.0
    clip: float = 5.0
    accumulate: int = 1
    precision: str = "auto"
    compile: bool = False
    devices: int = 1
    nodes: int = 1
    strategy: str = "auto"
    loggers: tuple[str, ...] = ()
    split: str = BY_PICSET
    valid: float = 0.2
    people: str = "largest"
    subject: str | None = None
    incomplete: tuple[str, ...] | None = None
    join_by: tuple[str, ...] = ("model", "shoot")
    near_duplicates: bool = True
    leak_tax: bool = False
    backgrounds: int = 8
    background_people: int | None = None
    background_share: float = 0.3
    cache: str = "raw"
    augment_on: str = "auto"
    seed: int = 0
    workers: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "loggers", tuple(self.loggers))
        object.__setattr__(self, "join_by", tuple(self.join_by))
        object.__setattr__(self, "auxiliary", tuple(self.auxiliary))
        if self.incomplete is not None:
            object.__setattr__(self, "incomplete", tuple(self.incomplete))
        problems = [*_integer_problems(self), *_number_problems(self), *_choice_problems(self)]
        if problems:
            raise UsageError("; ".join(problems), code="invalid_options", hint=_HELP)

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
        """The run folder's name after `v__<n>_`: mode, backbone, batch, decay (spec section 2)."""
        from cls.files import safe_name

        return f"{self.mode}_{safe_name(self.arch)}_{self.batch}_{self.decay:g}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for args.yaml; of files and folders given by path, the name alone."""
        values = asdict(self)
        values |= {"loggers": list(self.loggers), "join_by": list(self.join_by), "auxiliary": list(self.auxiliary)}
        if self.incomplete is not None:
            values["incomplete"] = list(self.incomplete)
        for key in ("weights", "pretrained"):
            if values[key] is not None:
                values[key] = PurePath(values[key]).name if PurePath(values[key]).is_absolute() else values[key]
        return values

    @property
    def identity(self) -> dict[str, Any]:
        """The values that decide the result: not the number of workers, other logs, or what is measured after it."""
        values = asdict(self)
        del values["workers"], values["loggers"], values["leak_tax"]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> TrainConfig:
        """Reads what `to_dict` wrote; keys of other versions are left out."""
        known = {field.name for field in fields(cls)}
        try:
            return cls(**{"group": "", **{key: value for key, value in values.items() if key in known}})
        except TypeError as error:
            raise UsageError(f"options have values of another type: {error}", code="invalid_options") from error


def config_of_options(*, size: str, **values: Any) -> TrainConfig:
    """The settings as typed; what is wrong with the size, the backbone and all other options is said at once.

    Args:
        size: `HEIGHTxWIDTH` in pixels, `auto` or `auto:PIXELS`.
        values: the other fields of `TrainConfig`.

    Raises:
        UsageError: options hold values they cannot take; lists them all.
    """
    problems: list[str] = []
    height_px, width_px = TrainConfig.height_px, TrainConfig.width_px
    auto_px = None
    try:
        auto_px = pixels_of(size)
        if auto_px is None:
            height_px, width_px = parse_size(size)
    except UsageError as error:
        problems.append(error.what)
    problems += _outside_problems(values)
    try:
        config = TrainConfig(height_px=height_px, width_px=width_px, auto_px=auto_px or 0, **values)
    except UsageError as error:
        raise UsageError("; ".join([error.what, *problems]), code="invalid_options", hint=error.hint) from None
    if problems:
        raise UsageError("; ".join(problems), code="invalid_options", hint=_HELP)
    return config


def _outside_problems(values: dict[str, Any]) -> list[str]:
    """What only timm and the disk can say: whether there is such a backbone, and such a file."""
    from cls.training.network.build import timm_name

    problems = []
    try:
        timm_name(values.get("arch", TrainConfig.arch))
    except TrainingError as error:
        problems.append(f"--arch: {error.what} ({error.hint})")
    weights = values.get("weights", TrainConfig.weights)
    if weights not in ("", "auto", "none") and not Path(weights).expanduser().is_file():
        problems.append(f"--weights: {weights}: there is no such weights file (give auto, none or an existing file)")
    problems += [
        f"--log: {name} is not installed (`pip install {_LOGGER_PACKAGES[name]}`)"
        for name in values.get("loggers", ())
        if name in LOGGERS and find_spec(name) is None
    ]
    return problems


def parse_size(text: str) -> tuple[int, int]:
    """`256x192` -> (256, 192): height and width in pixels.

    Raises:
        UsageError: the text is no size.
    """
    height, _, width = text.lower().partition("x")
    try:
        return int(height), int(width)
    except ValueError:
        raise UsageError(
            f"--size: expected HEIGHTxWIDTH such as 256x192 or auto, found '{text}'", code="invalid_option_value"
        ) from None


def _integer_problems(config: TrainConfig) -> list[str]:
    low = {
        "epochs": 1, "batch": 1, "seed": 0, "workers": 0, "accumulate": 1, "devices": 1, "nodes": 1, "backgrounds": 0,
        "freeze": 0, "stripes": 0,
    }  # fmt: skip
    problems = [
        f"--{name}: expected a whole number from {least}, found {value}"
        for name, least in low.items()
        if not isinstance(value := getattr(config, name), int) or value < least
    ]
    if config.background_people is not None and config.background_people < 0:
        problems.append(f"--background-people: expected a whole number from 0, found {config.background_people}")
    sides = (config.height_px, config.width_px)
    if not all(32 <= side <= _LARGEST_SIDE_PX for side in sides):
        problems.append(
            f"--size: expected HEIGHTxWIDTH from 32 to {_LARGEST_SIDE_PX} pixels, found {sides[0]}x{sides[1]}"
        )
    return problems


def _number_problems(config: TrainConfig) -> list[str]:
    ranges = {
        "decay": (0.0, 10.0), "backbone_lr": (0.0, 10.0), "warmup": (0.0, 0.9), "dropout": (0.0, 0.9),
        "smoothing": (0.0, 0.4), "clip": (1e-6, 1e6), "ema": (0.0, 0.99999), "layer_decay": (0.1, 1.0),
        "focal_gamma": (0.0, 10.0), "gamma_positive": (0.0, 10.0), "gamma_negative": (0.0, 10.0),
        "negative_clip": (0.0, 0.5), "background_share": (0.0, 1.0),
    }  # fmt: skip
    problems = [
        f"--{name.replace('_', '-')}: expected a number from {low:g} to {high:g}, found {value}"
        for name, (low, high) in ranges.items()
        if not (math.isfinite(value := getattr(config, name)) and low <= value <= high)
    ]
    if config.lr is not None and not (math.isfinite(config.lr) and 0 < config.lr <= 10):
        problems.append(f"--lr: expected a number above 0, found {config.lr}")
    if not 0 < config.valid < 1:
        problems.append(f"--valid: expected a share between 0 and 1, e.g. 0.2, found {config.valid}")
    return problems


def _choice_problems(config: TrainConfig) -> list[str]:
    choices = {
        "mode": MODES, "people": PEOPLE, "loss": LOSSES, "precision": PRECISIONS, "strategy": STRATEGIES,
        "cache": CACHES, "augment_on": AUGMENTERS,
    }  # fmt: skip
    problems = [
        f"--{name.replace('_', '-')}: expected one of {', '.join(known)}, found '{value}'"
        for name, known in choices.items()
        if (value := getattr(config, name)) not in known
    ]
    if not config.group:
        problems.append("--cat: a group's name is missing")
    if not config.weights:
        problems.append("--weights: expected auto, none or a file")
    if not config.split:
        problems.append(f"--split: expected {BY_PICSET} or the name of parts of the dataset, e.g. official")
    if config.leak_tax and (config.mode == "all" or config.split != BY_PICSET):
        problems.append("--leak-tax: compares with a split by picset: needs --mode train and --split picset")
    if config.leak_tax and config.world > 1:
        problems.append("--leak-tax: is measured by one process; leave out --devices and --nodes")
    if config.pretrained is not None and config.weights != "auto":
        problems.append("--pretrained: the weights come from the run; leave out --weights")
    problems += [
        f"--log: expected one of {', '.join(LOGGERS)}, found '{name}'" for name in config.loggers if name not in LOGGERS
    ]
    return problems
