"""A network as TorchScript."""

from __future__ import annotations

import copy
import io
import json
import logging
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cls.errors import ExportError, first_line
from cls.files import write_bytes_atomic
from cls.people.preprocess import Preprocessing

PREPROCESSING_ENTRY = "preprocessing.json"
Examples = Callable[[Preprocessing, int], torch.Tensor]
# A converted network that differs more than this from itself was not converted, it was changed.
TRACE_TOLERANCE = 1e-3


def write_torchscript(
    network: nn.Module, preprocessing: Preprocessing, path: Path, *, examples: Examples | None = None
) -> None:
    """Writes a network as TorchScript: float32, CPU, evaluation mode, any batch size.

    The network itself is left as it is. The preprocessing stands inside the file, as the extra file
    `preprocessing.json` (`torch.jit.load(path, _extra_files={"preprocessing.json": ""})`).

    Args:
        network: images float32 (batch, 3, height, width), normalised -> logits float32 (batch, labels).
        preprocessing: what makes the network's input.
        path: the file to write, whole or not at all.
        examples: makes inputs of a network that takes others than normalised images.

    Raises:
        ExportError: the network cannot be traced, or the trace does not follow it to another batch size.
    """
    network = frozen_copy(network)
    with quiet_export():
        try:
            trace: Any = torch.jit.trace
            load: Any = torch.jit.load
            traced = trace(network, (examples or example_images)(preprocessing, 2), check_trace=False)
        except Exception as error:
            raise ExportError(
                f"the network cannot be traced to TorchScript: {first_line(error)}",
                code="conversion_failed",
                where=path,
            ) from error
        try:
            content = _portable(torch.jit.freeze(traced), {PREPROCESSING_ENTRY: json.dumps(preprocessing.to_dict())})
            loaded = load(io.BytesIO(content), map_location="cpu")
        except RuntimeError as error:
            raise ExportError(
                f"the trace cannot be kept: {last_line(error)}", code="conversion_failed", where=path
            ) from error
    check_same(network, loaded, partial(examples or example_images, preprocessing), path, "TorchScript")
    write_bytes_atomic(path, content)


def _portable(traced: Any, extra_files: Mapping[str, str]) -> bytes:
    """A frozen trace as a file's bytes, the same for the same network wherever and however often it is traced.

    torch numbers the classes it makes through the life of a process, and keeps this machine's source paths beside the
    code for its error messages: the numbers are taken out of the names, the paths are left out.
    """
    saved = io.BytesIO()
    torch.jit.save(traced, saved, _extra_files=dict(extra_files))
    reader = torch._C.PyTorchFileReader(io.BytesIO(saved.getvalue()))  # noqa: SLF001 - torch's own zip, aligned for its reader
    target = io.BytesIO()
    writer = torch._C.PyTorchFileWriter(target)  # noqa: SLF001 - the same
    # The writer knows no operators and would give the oldest version: torch would read the code as that of its time,
    # and change what a division means.
    writer.set_min_version(int(reader.get_record("version")))
    for name in reader.get_all_records():
        # The writer adds these by itself.
        if name.endswith(".debug_pkl") or name.startswith(".data/") or name in ("version", "byteorder"):
            continue
        content = reader.get_record(name)
        if name.startswith("code/") or name == "data.pkl":
            content = re.sub(rb"\.___torch_mangle_\d+", b"", content)
        writer.write_record(re.sub(r"/___torch_mangle_\d+", "", name), content, len(content))
    writer.write_end_of_file()
    return target.getvalue()


def frozen_copy(network: nn.Module) -> nn.Module:
    """A copy of the network on the CPU, float32, in evaluation mode, without gradients."""
    frozen = copy.deepcopy(network).cpu().float().eval()
    for parameter in frozen.parameters():
        parameter.requires_grad = False
    return frozen


def example_images(preprocessing: Preprocessing, batch: int) -> torch.Tensor:
    """Deterministic network inputs, float32 (batch, 3, height, width)."""
    generator = torch.Generator().manual_seed(20)
    return torch.randn(batch, 3, preprocessing.height_px, preprocessing.width_px, generator=generator)


def check_same(
    network: nn.Module, converted: Any, examples: Callable[[int], torch.Tensor], path: Path, kind: str
) -> None:
    """Runs both at batch sizes the conversion did not see; a first guard, the proof on real photos is `parity`.

    Raises:
        ExportError: the outputs differ in shape or by more than rounding.
    """
    for batch in (1, 3):
        images = examples(batch)
        with torch.inference_mode():
            expected = network(images)
            try:
                found = torch.as_tensor(converted(images))
            except Exception as error:  # a runtime's own kinds, all of them about the shape
                raise ExportError(
                    f"the {kind} network does not take a batch of {batch}: {last_line(error)}",
                    code="fixed_batch_size",
                    where=path,
                    hint="the network keeps a batch size fixed; take another --arch",
                ) from error
        if found.shape != expected.shape:
            raise ExportError(
                f"the {kind} network answers shape {tuple(found.shape)} where {tuple(expected.shape)} is expected",
                code="wrong_output_shape",
                where=path,
                hint="the network keeps a batch size fixed; take another --arch",
            )
        difference = (found - expected).abs().max().item()
        if not difference <= TRACE_TOLERANCE * max(1.0, expected.abs().max().item()):
            raise ExportError(
                f"the {kind} network differs from its source by {difference:.3g} in a logit",
                code="output_mismatch",
                where=path,
            )


@contextmanager
def quiet_export() -> Iterator[None]:
    """Keeps torch's deprecation notes and its exporters' messages off the user's terminal."""
    loggers = [
        logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir", "torch._dynamo")
    ]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


def last_line(error: BaseException) -> str:
    """The last line of an error's text, where TorchScript puts the reason."""
    return (str(error).strip().splitlines() or [type(error).__name__])[-1]
