"""Packages as `cls export` writes them, around a tiny network."""

from __future__ import annotations

import json
import struct
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from cls.errors import Fault
from cls.package.meta import ModelMeta, PlanMeta
from cls.package.packing import (
    REBUILD_ONNX,
    REBUILD_SAMPLES,
    CarriedSamples,
    PackedModel,
    samples_as_bytes,
    write_package,
)
from tests.model_storage.packages import HEIGHT_PX, LABELS, WIDTH_PX, make_onnx
from tests.package.metas import make_meta

PLAN = PlanMeta(tensorrt_version="10.13.3", gpu="NVIDIA L4", compute_capability="8.9")


def fault_of(faults: Sequence[Fault], code: str) -> Fault:
    """The one fault of a code."""
    (found,) = [fault for fault in faults if fault.code == code]
    return found


def onnx_bytes(folder: Path, seed: int = 1, meta: ModelMeta | None = None) -> bytes:
    """The network of a seed, with the metadata that an export writes into it."""
    model = onnx.load(make_onnx(folder / f"{seed}.onnx", seed))
    meta = meta or make_meta()
    said = {
        "labels": json.dumps(list(meta.labels)),
        "preprocessing": json.dumps(meta.preprocessing.model_dump(mode="json")),
        "activation": "sigmoid",
    }
    onnx.helper.set_model_props(model, said)
    return bytes(model.SerializeToString())


def onnx_zip(folder: Path, seed: int = 1, *, name: str = "model_onnx.zip", people: int = 0, **changes: Any) -> Path:
    """A good package of an ONNX."""
    meta = make_meta(**changes)
    path = folder / name
    files: dict[str, Path | bytes] = {"model.onnx": onnx_bytes(folder, seed, meta)}
    if people:
        files[REBUILD_SAMPLES] = samples_as_bytes(some_samples(people))
    write_package(path, meta, PackedModel("onnx", "onnxruntime_onnx", files))
    return path


def plan_bytes(version: str = "10.13.3.9", content: bytes = b"not executed here") -> bytes:
    """The header of a plan, and something that no TensorRT would take."""
    header = b"ftrt" + struct.pack("<I", 0) + bytes(16) + bytes(int(part) for part in version.split("."))
    return header + content


def plan_zip(folder: Path, *, plan: PlanMeta | None = PLAN, version: str = "10.13.3.9", people: int = 0) -> Path:
    """A package of a plan, with its ONNX, and people where asked for."""
    path = folder / "model_trt.zip"
    files: dict[str, Path | bytes] = {"model.plan": plan_bytes(version), REBUILD_ONNX: onnx_bytes(folder)}
    if people:
        files[REBUILD_SAMPLES] = samples_as_bytes(some_samples(people))
    write_package(path, make_meta(), PackedModel("trt", "tensorrt_plan", files, plan))
    return path


def some_samples(people: int, labels: tuple[str, ...] = LABELS) -> CarriedSamples:
    random = np.random.default_rng(0)
    return CarriedSamples(
        random.integers(0, 255, (people, HEIGHT_PX, WIDTH_PX, 3), np.uint8),
        random.random((people, len(labels)), np.float32),
        np.ones((people, len(labels)), np.float32),
        labels,
    )


def changed(zip_path: Path, name: str, edit: Callable[[bytes], bytes | None] | Mapping[str, bytes]) -> Path:
    """A copy of a zip with one file edited (None: left out), as somebody with a zip tool makes it."""
    target_path = zip_path.with_name(f"changed_{zip_path.name}")
    with zipfile.ZipFile(zip_path) as source, zipfile.ZipFile(target_path, "w") as target:
        for entry in source.namelist():
            content: bytes | None = source.read(entry)
            if entry == name and content is not None:
                content = edit(content) if callable(edit) else edit[name]
            if content is not None:
                target.writestr(entry, content)
    return target_path
