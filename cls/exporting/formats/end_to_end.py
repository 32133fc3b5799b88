"""A network with its preprocessing and activation inside: uint8 RGB cut-outs in, probabilities out."""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from onnx import TensorProto, compose, helper
from torch import nn

from cls.errors import ExportError
from cls.exporting.formats.onnx import load_onnx, save_onnx, strip_source_locations
from cls.exporting.formats.torchscript import quiet_export
from cls.package.meta import END_TO_END_OUTPUT_NAME, INPUT_NAME
from cls.package.triton_config import MAX_BATCH_SIZE
from cls.people.preprocess import Preprocessing

# What the values of the network itself are called by inside the whole.
NETWORK_PREFIX = "network/"
# The value between the preprocessing and the network.
NORMALISED = "normalised"
_LARGEST_PX = 16384


class InputStage(nn.Module):
    """`Preprocessing.fit` and `normalise` as a network: letterbox, resampling, normalisation.

    Each axis is resampled by one matrix, whose rows say how much of every source pixel goes into a pixel of the frame:
    the covered area when shrinking, linear weights when enlarging, nothing in the borders. That is what OpenCV's
    INTER_AREA and INTER_LINEAR calculate; no operator of ONNX averages over areas.
    """

    mean: torch.Tensor
    std: torch.Tensor
    fill: torch.Tensor

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self._height_px, self._width_px = preprocessing.height_px, preprocessing.width_px
        self._version = preprocessing.version
        for name, value in (("mean", preprocessing.mean_rgb), ("std", preprocessing.std_rgb)):
            self.register_buffer(name, torch.tensor(value, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("fill", torch.tensor(preprocessing.fill_rgb, dtype=torch.float32).view(1, 3, 1, 1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images uint8 (batch, height, width, 3) RGB -> float32 (batch, 3, height_px, width_px), normalised."""
        # Made floats first: TensorRT takes bytes for this and nothing else.
        pixels = images.to(torch.float32).permute(0, 3, 1, 2)
        # Sizes as tensors, counted along an edge: the graph then holds for every size, also when it is traced.
        edge = torch.ones_like(pixels[0, 0])
        rows, columns = edge[:, 0].cumsum(0), edge[0].cumsum(0)
        height, width = rows[-1:].double(), columns[-1:].double()
        inner_height, inner_width = self._inner_size(height, width)
        is_shrunk = ((inner_height <= height) & (inner_width <= width)).float()
        from_rows, is_row = _resampling(rows, height, inner_height, self._height_px, is_shrunk)
        from_columns, is_column = _resampling(columns, width, inner_width, self._width_px, is_shrunk)
        resized = from_rows @ pixels @ from_columns.transpose(0, 1)
        is_inside = is_row[:, None] * is_column[None, :]
        # Halves go up, as in OpenCV's whole-number arithmetic.
        levels = (resized + 0.5).floor().clamp(0, 255) + self.fill * (1 - is_inside)
        return (levels / 255 - self.mean) / self.std

    def _inner_size(self, height: torch.Tensor, width: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """`inner_size` of float64 (1,) sizes: whole numbers, which they hold exactly."""
        if self._version == 1:
            scale = torch.minimum(self._height_px / height, self._width_px / width)
            inner_height = (height * scale).round().clamp(1, self._height_px)
            return inner_height, (width * scale).round().clamp(1, self._width_px)
        # Of the side that fills the frame, this is the frame's; the other way round it is more, and cut off.
        inner_height = ((2 * height * self._width_px + width) / (2 * width)).floor().clamp(1, self._height_px)
        inner_width = ((2 * width * self._height_px + height) / (2 * height)).floor().clamp(1, self._width_px)
        return inner_height, inner_width


def _resampling(
    ends: torch.Tensor, size: torch.Tensor, inner: torch.Tensor, frame_px: int, is_shrunk: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """How one axis is resampled.

    Args:
        ends: 1 to the size, float32 (source,): where each source pixel ends.
        size: of the source, float64 (1,).
        inner: of the resized picture in the frame, float64 (1,).
        frame_px: of the frame.
        is_shrunk: 1 where areas are averaged, 0 where values are interpolated, float32 (1,).

    Returns:
        Weights float32 (frame, source), and which of the frame's pixels are the picture's, float32 (frame,).
    """
    places = torch.arange(frame_px, dtype=torch.float64) - ((frame_px - inner) / 2).floor()
    is_inside = ((places >= 0) & (places < inner)).float()
    step = size / inner
    start = (places * step).float()[:, None]
    end = ((places + 1) * step).float()[:, None]
    covered = (torch.minimum(end, ends[None]) - torch.maximum(start, ends[None] - 1)).clamp(min=0) / step.float()
    centre = torch.minimum(((places + 0.5) * step - 0.5).clamp(min=0), size - 1).float()[:, None]
    linear = (1 - (centre - (ends[None] - 1)).abs()).clamp(min=0)
    weights = covered * is_shrunk + linear * (1 - is_shrunk)
    return weights * is_inside[:, None], is_inside


class EndToEnd(nn.Module):
    """A network with its preprocessing and activation.

    Args:
        network: float32 (batch, 3, height, width), normalised -> logits float32 (batch, labels).
        preprocessing: what makes its input.
    """

    def __init__(self, network: nn.Module, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.input_stage = InputStage(preprocessing)
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Images uint8 (batch, height, width, 3) RGB, of any size -> probabilities float32 (batch, labels)."""
        logits: torch.Tensor = self.network(self.input_stage(images))
        return logits.sigmoid()


def example_crops(preprocessing: Preprocessing, batch: int) -> torch.Tensor:
    """Deterministic cut-outs, uint8 (batch, height, width, 3), of another size than the network's input."""
    generator = torch.Generator().manual_seed(20)
    size = (preprocessing.height_px * 3 // 2 + 1, preprocessing.width_px * 2 + 1)
    return torch.randint(0, 256, (batch, *size, 3), dtype=torch.uint8, generator=generator)


def input_stage(preprocessing: Preprocessing) -> onnx.ModelProto:
    """`InputStage` as ONNX: `images` uint8 (batch, height, width, 3) -> `normalised` float32.

    Raises:
        ExportError: the exporter made nothing of it.
    """
    sides = {number: torch.export.Dim(name, min=1, max=_LARGEST_PX) for number, name in ((1, "height"), (2, "width"))}
    batch = torch.export.Dim("batch", min=1, max=MAX_BATCH_SIZE)
    with quiet_export():
        program = torch.onnx.export(
            InputStage(preprocessing),
            (torch.zeros(2, 300, 200, 3, dtype=torch.uint8),),
            input_names=[INPUT_NAME],
            output_names=[NORMALISED],
            dynamo=True,
            dynamic_shapes=({0: batch, **sides},),
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise ExportError("the preprocessing cannot be converted to ONNX", code="conversion_failed")
    model: onnx.ModelProto = program.model_proto
    strip_source_locations(model)
    return model


def write_end_to_end(source: Path, stage: onnx.ModelProto, path: Path) -> None:
    """Puts the preprocessing before an ONNX network, of any precision, and the sigmoid after it.

    Args:
        source: of `write_onnx`, `write_onnx_fp16` or `Quantiser.write`.
        stage: of `input_stage`.
        path: the file to write, whole or not at all; may be the source.

    Raises:
        ExportError: the two do not fit together.
    """
    network = compose.add_prefix(load_onnx(source), NETWORK_PREFIX)
    props = {prop.key: prop.value for prop in network.metadata_props}
    first = onnx.ModelProto()
    first.CopyFrom(stage)
    # The stage's operators mean the same in every version from the exporter's on.
    version = next(item.version for item in network.opset_import if item.domain in ("", "ai.onnx"))
    for item in first.opset_import:
        item.version = version if item.domain in ("", "ai.onnx") else item.version
    first.ir_version = network.ir_version
    try:
        model = compose.merge_models(first, network, io_map=[(NORMALISED, f"{NETWORK_PREFIX}{INPUT_NAME}")])
    except ValueError as error:
        raise ExportError(
            f"the preprocessing cannot be put into the network: {error}", code="conversion_failed", where=source
        ) from error
    labels = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    sigmoid = helper.make_node("Sigmoid", [model.graph.output[0].name], [END_TO_END_OUTPUT_NAME], name="activation")
    model.graph.node.append(sigmoid)
    del model.graph.output[:]
    shape = ["batch", labels]
    model.graph.output.append(helper.make_tensor_value_info(END_TO_END_OUTPUT_NAME, TensorProto.FLOAT, shape))
    inside = {
        "activation": "sigmoid, inside the model",
        "end_to_end": "uint8 RGB (batch, height, width, 3) in, probabilities out",
    }
    helper.set_model_props(model, {**props, **inside})
    save_onnx(model, path)
