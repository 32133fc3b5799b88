"""An ONNX network as OpenVINO's intermediate representation: model.xml and model.bin."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

from cls.errors import ExportError, first_line
from cls.exporting.formats.onnx import check_model_files
from cls.files import write_bytes_atomic
from cls.runtimes.local import openvino_core, openvino_module


def write_openvino(source: Path, xml_path: Path) -> None:
    """Converts an ONNX network, float32 or quantised, with its numbers as they are.

    The ONNX is read by `Core.read_model`, not by `convert_model`: that one reports its use to Intel's analytics
    (openvino-telemetry), this one to nobody. The ONNX's metadata stand in the file under `rt_info/framework`.

    Args:
        source: the ONNX.
        xml_path: the graph to write; the weights go beside it, under the same name with `.bin`.

    Raises:
        ExportError: OpenVINO does not know the network.
    """
    openvino = openvino_module()
    check_model_files([source])
    with tempfile.TemporaryDirectory(dir=xml_path.parent, prefix=".openvino-") as folder:
        made = Path(folder) / "model.xml"
        try:
            model = openvino_core().read_model(str(source))
            _name_by_place(model)
            openvino.save_model(model, str(made), compress_to_fp16=False)
        except RuntimeError as error:
            raise ExportError(
                f"OpenVINO cannot convert the network: {first_line(error)}", code="conversion_failed", where=source
            ) from error
        # The weights first: a graph that is there has its weights.
        write_bytes_atomic(xml_path.with_suffix(".bin"), made.with_suffix(".bin").read_bytes())
        write_bytes_atomic(xml_path, made.read_bytes())


def _name_by_place(model: Any) -> None:
    """Names the layers that OpenVINO adds by their place: its own numbers count through the life of the process."""
    for number, layer in enumerate(model.get_ordered_ops()):
        kind = layer.get_type_name()
        if re.fullmatch(rf"{kind}_\d+", layer.get_friendly_name()):
            layer.set_friendly_name(f"{kind}_at_{number}")
