"""Small packages: a network of one matrix over the mean colour, packed as `cls export` packs."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from cls.package.archive import pack_files
from cls.package.meta import write_meta
from cls.package.model_name import model_name_of_group
from cls.package.triton_config import build_config
from tests.package.metas import make_meta

LABELS = ("black hair", "blonde hair", "red hair")
HEIGHT_PX, WIDTH_PX = 64, 48


def weights_of(seed: int, width: int = len(LABELS)) -> NDArray[np.float32]:
    """The matrix of the model of a seed, float32 (3, width)."""
    return np.random.default_rng(seed).normal(size=(3, width)).astype(np.float32)


def expected_logits(images: NDArray[np.float32], seed: int, width: int = len(LABELS)) -> NDArray[np.float32]:
    """What the model of a seed answers to images, float32 (batch, width)."""
    logits: NDArray[np.float32] = images.mean(axis=(2, 3)) @ weights_of(seed, width)
    return logits


def random_images(batch: int, seed: int = 0) -> NDArray[np.float32]:
    """Float32 (batch, 3, height, width)."""
    return np.random.default_rng(seed).normal(size=(batch, 3, HEIGHT_PX, WIDTH_PX)).astype(np.float32)


def make_onnx(path: Path, seed: int = 1, width: int = len(LABELS), *, ballast_bytes: int = 0) -> Path:
    """Writes the model of a seed; ballast makes the file big without making it slow."""
    mean = helper.make_node("ReduceMean", ["images", "axes"], ["colour"], keepdims=0)
    matrix = helper.make_node("MatMul", ["colour", "weights"], ["logits"])
    tensors = [
        numpy_helper.from_array(np.array([2, 3], np.int64), "axes"),
        numpy_helper.from_array(weights_of(seed, width), "weights"),
    ]
    nodes = [mean, matrix]
    if ballast_bytes:
        noise = np.random.default_rng(0).integers(0, 255, ballast_bytes, np.uint8)
        tensors.append(numpy_helper.from_array(noise, "ballast"))
        nodes.append(helper.make_node("Shape", ["ballast"], ["ballast_shape"]))
    graph = helper.make_graph(
        nodes,
        "colours",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, HEIGHT_PX, WIDTH_PX])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", width])],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def pack(folder: Path, zip_path: Path, names: Sequence[str]) -> Path:
    """The zip of some files of a folder."""
    return pack_files(zip_path, {name: folder / name for name in names})


def make_package(folder: Path, seed: int = 1, *, name: str = "model_onnx.zip", **meta: Any) -> Path:
    """A good package of the model of a seed."""
    work = folder / f"package-{name}-{seed}"
    work.mkdir(parents=True)
    make_onnx(work / "model.onnx", seed)
    return pack_folder(work, folder / name, **meta)


def of_group(zip_path: Path, group: str) -> Path:
    """The package of `make_package` as another group's, beside it."""
    work = zip_path.with_name(f"{zip_path.stem}-{model_name_of_group(group)}")
    target = work.with_suffix(".zip")
    if not target.is_file():
        with zipfile.ZipFile(zip_path) as source:
            source.extract("model.onnx", work)
        pack_folder(work, target, group=group)
    return target


def pack_folder(work: Path, zip_path: Path, labels: tuple[str, ...] = LABELS, **meta: Any) -> Path:
    """Packs the model.onnx of a folder with a meta.json and a config.pbtxt for it."""
    made = make_meta(labels, **meta)
    write_meta(work / "meta.json", made)
    (work / "config.pbtxt").write_text(build_config(made), encoding="utf-8")
    return pack(work, zip_path, ["model.onnx", "meta.json", "config.pbtxt"])
