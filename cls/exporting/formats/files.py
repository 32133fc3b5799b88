"""The formats of an export: what their files are called, what serves them, and whether this machine can make them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cls.errors import UsageError, UsageFault
from cls.options import check_options, noted, option, refuse_all

if TYPE_CHECKING:
    from cls.package.triton_config import Platform

Format = Literal[
    "onnx", "onnx_fp16", "onnx_int8", "openvino", "openvino_int8", "torchscript", "trt", "trt_fp16", "trt_int8"
]
Precision = Literal["fp32", "fp16", "int8"]

_ONNX, _XML, _PLAN = ("model.onnx",), ("model.xml", "model.bin"), ("model.plan",)

# What is made when no format is named.
DEFAULT_FORMATS: tuple[Format, ...] = ("onnx", "trt")


@dataclass(frozen=True)
class FormatFiles:
    """What a format's files are called, and what serves them.

    Attributes:
        files: its model files in the package's folder; the first is the one to open.
        archive: its zip in the package's folder.
        inner: the same files as they are called inside the zip, at its root.
        platform: what Triton runs them with.
        precision: what its numbers are; the parity check's limits depend on it.
        source: the format whose file it is made from; None where it is made from the trained network.
    """

    files: tuple[str, ...]
    archive: str
    inner: tuple[str, ...]
    platform: Platform
    precision: Precision
    source: Format | None = None

    @property
    def model(self) -> str:
        """The model file in the package's folder that is opened; weights may stand beside it."""
        return self.files[0]


FILES: dict[Format, FormatFiles] = {
    "onnx": FormatFiles(("model.onnx",), "model_onnx.zip", _ONNX, "onnxruntime_onnx", "fp32"),
    "onnx_fp16": FormatFiles(("model_fp16.onnx",), "model_onnx_fp16.zip", _ONNX, "onnxruntime_onnx", "fp16", "onnx"),
    "onnx_int8": FormatFiles(("model_int8.onnx",), "model_onnx_int8.zip", _ONNX, "onnxruntime_onnx", "int8", "onnx"),
    "openvino": FormatFiles(("model.xml", "model.bin"), "model_openvino.zip", _XML, "openvino", "fp32", "onnx"),
    "openvino_int8": FormatFiles(
        ("model_int8.xml", "model_int8.bin"), "model_openvino_int8.zip", _XML, "openvino", "int8", "onnx"
    ),
    "torchscript": FormatFiles(("model.pt",), "model_torchscript.zip", ("model.pt",), "pytorch_libtorch", "fp32"),
    "trt": FormatFiles(("model.plan",), "model_trt.zip", _PLAN, "tensorrt_plan", "fp32", "onnx"),
    "trt_fp16": FormatFiles(("model_fp16.plan",), "model_trt_fp16.zip", _PLAN, "tensorrt_plan", "fp16", "onnx_fp16"),
    # Of an 8-bit ONNX of its own: TensorRT reads no unsigned activations, which `onnx_int8` has.
    "trt_int8": FormatFiles(("model_int8.plan",), "model_trt_int8.zip", _PLAN, "tensorrt_plan", "int8", "onnx"),
}
FORMATS: tuple[Format, ...] = tuple(FILES)


def in_order(formats: Iterable[Format]) -> tuple[Format, ...]:
    """The formats, each once, in the table's order: a format comes after the one it is made from."""
    asked = set(formats)
    return tuple(name for name in FORMATS if name in asked)


def chosen_formats(
    formats: str | Sequence[str] | None,
) -> tuple[tuple[Format, ...], tuple[Format, ...]]:
    """The formats to make, and those of them that were asked for by name.

    Args:
        formats: names, in a sequence or with commas between them, or `all`; the default formats when not given.

    Raises:
        UsageError: there is no such format, or none is named.
    """
    if formats is None:
        return DEFAULT_FORMATS, ()
    names = formats.split(",") if isinstance(formats, str) else formats
    names = [name.strip() for name in names if name.strip()]
    unknown = [name for name in names if name not in (*FORMATS, "all")]
    if unknown or not names:
        raise UsageError(
            f"--formats: expected some of {', '.join(FORMATS)}, or all, found '{', '.join(unknown) or formats}'",
            code="unknown_option_value",
        )
    named = in_order(name for name in FORMATS if name in names)
    return (FORMATS if "all" in names else named), named


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """The options of an export. Checked when made.

    Raises:
        UsageError: options hold values they cannot take.
    """

    formats: tuple[str, ...] | str | None = option(
        None,
        "",
        f"some of {', '.join(FORMATS)}, with commas; one that cannot be made here is an error. Or all: those that can"
        " be made here",
        metavar="LIST",
        unset="onnx, and trt where there is a GPU with TensorRT",
    )
    end_to_end: bool = option(
        False,
        "",
        "put resizing, normalisation and sigmoid into the model: uint8 RGB cut-outs of any size in, probabilities out;"
        " not for trt",
    )
    carry_samples: int = option(
        0,
        "",
        "include the cut-outs of this many people in model_onnx.zip and model_trt.zip, so that `cls package rebuild`"
        " can check a model on the machine that serves it; everyone who gets the zip can see them",
        ge=0,
    )
    sign: str | None = option(
        None, "", "sign the packages with this private key (`cls package keygen`)", is_file=True, metavar="KEY"
    )
    require: str | None = option(None, "", "fail where this format cannot be made", choices=FORMATS)

    def __post_init__(self) -> None:
        errors: list[UsageError] = []
        with noted(errors):
            check_options(self, "cls export")
        with noted(errors):
            chosen_formats(",".join(self.formats) if isinstance(self.formats, tuple) else None)
        refuse_all(errors, "cls export")

    def chosen(self) -> tuple[tuple[Format, ...], tuple[Format, ...]]:
        """The formats to make, and those of them that must not be left out."""
        asked, named = chosen_formats(None if self.formats is None else ",".join(self.formats))
        required = in_order((*named, *(name for name in FORMATS if name == self.require)))
        return in_order((*asked, *required)), required


# What can be made of the ONNX alone. Int8 is calibrated on the training people, and does not depend on the machine; the
# plan of an ONNX that is 8-bit already does.
REBUILDABLE: tuple[Format, ...] = ("onnx_fp16", "openvino", "trt", "trt_fp16", "trt_int8")


@dataclass(frozen=True)
class RebuildConfig:
    """What a rebuild makes. Checked when made: all problems are listed at once."""

    format_name: Format | None = option(
        None,
        "",
        "what to make",
        flag="--format",
        choices=REBUILDABLE,
        unset="the package's own format; trt of model_onnx.zip",
    )
    output: Path | None = option(
        None, "", "what to write; its name ends in .zip", metavar="ZIP", unset="*_rebuilt.zip beside it"
    )
    photos: Path | None = option(
        None, "", "pictures of people, one in each, to prove it on instead of those the package carries", metavar="DIR"
    )
    sign: Path | None = option(None, "", "sign what is made with this private key", metavar="KEY")

    def __post_init__(self) -> None:
        faults = []
        if self.output is not None and self.output.suffix != ".zip":
            faults.append(UsageFault(f"--output {self.output}: a package's name ends in .zip", code="not_a_zip"))
        check_options(self, "cls package rebuild", faults)


def why_not(name: Format, *, is_end_to_end: bool = False) -> str | None:
    """Why this machine cannot make a format, in a few words; None when it can."""
    if is_end_to_end and FILES[name].platform == "tensorrt_plan":
        return "a TensorRT plan is built for cut-outs of one size, without the preprocessing"
    if FILES[name].platform == "tensorrt_plan":
        from cls.runtimes.local import why_no_tensorrt

        return why_no_tensorrt()
    if FILES[name].platform == "openvino":
        from cls.runtimes.local import why_no_openvino

        return why_no_openvino()
    return None


def hint_for(name: Format, *, is_end_to_end: bool = False) -> str:
    """What to do where a format cannot be made and was asked for by name; arguments as in `why_not`."""
    if is_end_to_end and FILES[name].platform == "tensorrt_plan":
        return "leave out this format, or --end-to-end"
    if FILES[name].platform == "tensorrt_plan":
        return "export on a machine with an NVIDIA GPU and TensorRT, or leave out this format"
    return "install what is missing, or leave out this format"
