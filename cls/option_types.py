"""Keyword options of `import cls`, for type checkers and editors.

Made from the settings classes: `python -m tests.option_types` writes it again.
"""

from __future__ import annotations

from collections.abc import Collection
from os import PathLike
from typing import Literal, TypedDict

Format = Literal[
    "onnx", "onnx_fp16", "onnx_int8", "openvino", "openvino_int8", "torchscript", "trt", "trt_fp16", "trt_int8"
]


class SegmentOptions(TypedDict, total=False):
    """Options of `cls.segment`."""

    confidence: float
    image_size: int | None
    image_size_px: int | None
    only_mapped: bool
    classes: str | Collection[str] | None
    process_all: bool
    mark_approved: bool
    batch: int


class TrainOptions(TypedDict, total=False):
    """Options of `cls.train`."""

    mode: Literal["train", "all"]
    split: str
    valid: float
    people: Literal["largest", "single", "all"]
    subject: str | None
    incomplete: str | Collection[str] | None
    join_by: str | Collection[str]
    near_duplicates: bool
    seed: int
    arch: str
    size: str | tuple[int, int]
    height_px: int
    width_px: int
    auto_px: int
    weights: str | PathLike[str]
    pretrained: str | PathLike[str] | None
    freeze: int
    stripes: int
    dropout: float
    epochs: int
    batch: int
    accumulate: int
    lr: float | None
    backbone_lr: float
    layer_decay: float
    decay: float
    warmup: float
    clip: float
    ema: float
    head_start: bool
    loss: Literal["bce", "weighted", "focal", "asymmetric", "ratio"]
    focal_gamma: float
    gamma_positive: float
    gamma_negative: float
    negative_clip: float
    smoothing: float
    auxiliary: str | Collection[str]
    background_share: float
    backgrounds: int
    background_people: int | None
    leak_tax: bool
    precision: Literal["auto", "32", "bf16", "16"]
    compile: bool
    devices: int
    nodes: int
    strategy: Literal["auto", "ddp"]
    workers: int
    cache: Literal["raw", "jpeg", "png"]
    augment_on: Literal["auto", "cpu", "gpu"]
    log: Literal["tensorboard", "mlflow", "wandb"] | Collection[Literal["tensorboard", "mlflow", "wandb"]]
    loggers: Literal["tensorboard", "mlflow", "wandb"] | Collection[Literal["tensorboard", "mlflow", "wandb"]]


class PredictOptions(TypedDict, total=False):
    """Options of `cls.open_model`."""

    segmenter: str | PathLike[str] | None
    whole: bool
    conf_thresh: float | None
    threshold: float | None


class ExportOptions(TypedDict, total=False):
    """Options of `cls.export`."""

    formats: Collection[Format | Literal["all"]] | Format | Literal["all"] | None
    end_to_end: bool
    carry_samples: int
    sign: str | PathLike[str] | None
    require: Format | None
