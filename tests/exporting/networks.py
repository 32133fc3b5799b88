"""A network too small to wait for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper


def small_network(path: Path, *, gain: float = 1.0) -> NDArray[np.float32]:
    """Two convolutions, the first with a gain, a mean and a head; written to the file."""
    rng = np.random.default_rng(1)
    weights = {
        "first": rng.normal(size=(4, 3, 3, 3)).astype(np.float32) * np.float32(gain),
        "second": rng.normal(size=(6, 4, 3, 3)).astype(np.float32) / np.float32(gain),
        "head": rng.normal(size=(2, 6)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["images", "first"], ["a"], name="conv_first"),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "second"], ["c"], name="conv_second"),
        helper.make_node("GlobalAveragePool", ["c"], ["d"], name="pool"),
        helper.make_node("Flatten", ["d"], ["e"], name="flatten"),
        helper.make_node("Gemm", ["e", "head"], ["logits"], name="head_gemm", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 32, 24])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, {"labels": '["a", "b"]'})
    onnx.save(model, path)
    return answers(path)


def answers(path: Path) -> NDArray[np.float32]:
    given_images = np.random.default_rng(2).normal(size=(5, 3, 32, 24)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run(["logits"], {"images": given_images})[0]
    return result
