"""How much does the embedded engine cost over ONNX Runtime in the same process, and how fast does a package go up?

    python benchmarks/serving_latency.py [--requests 300] [--megabytes 200]

The network is a small convolutional one at the default input of 256x192, made here; the storage runs in a process of
its own, as `cls storage serve` runs it. Printed: medians and 95th percentiles of one picture's latency, in process,
over HTTP with binary and with JSON tensors and over gRPC, and the speed of an upload until it is served.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import onnx
import onnxruntime
import tritonclient.grpc as triton_grpc
import tritonclient.http as triton
from onnx import TensorProto, helper, numpy_helper

from cls.package.archive import pack_files
from cls.package.meta import parse_meta, write_meta
from cls.package.triton_config import build_config
from cls.people.preprocess import Preprocessing
from cls.settings import REPOSITORY

HEIGHT_PX, WIDTH_PX = 256, 192
ROUNDS = 10
LABELS = ("black hair", "blonde hair", "red hair")


def make_network(path: Path, ballast_bytes: int) -> None:
    """Three strided convolutions and a mean: about a millisecond a picture."""
    rng = np.random.default_rng(0)
    nodes, tensors, name, channels = [], [], "images", 3
    for layer, width in enumerate((16, 32, 64)):
        tensors.append(
            numpy_helper.from_array(rng.normal(0, 0.1, (width, channels, 3, 3)).astype(np.float32), f"w{layer}")
        )
        nodes.append(helper.make_node("Conv", [name, f"w{layer}"], [f"c{layer}"], strides=[2, 2], pads=[1, 1, 1, 1]))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"]))
        name, channels = f"r{layer}", width
    tensors.append(numpy_helper.from_array(np.array([2, 3], np.int64), "axes"))
    tensors.append(numpy_helper.from_array(rng.normal(size=(channels, len(LABELS))).astype(np.float32), "head"))
    nodes.append(helper.make_node("ReduceMean", [name, "axes"], ["mean"], keepdims=0))
    nodes.append(helper.make_node("MatMul", ["mean", "head"], ["logits"]))
    if ballast_bytes:
        tensors.append(numpy_helper.from_array(rng.integers(0, 255, ballast_bytes, np.uint8), "ballast"))
        nodes.append(helper.make_node("Shape", ["ballast"], ["ballast_shape"]))
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, HEIGHT_PX, WIDTH_PX])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", len(LABELS)])
    graph = helper.make_graph(nodes, "benchmark", [images], [logits], tensors)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)


def make_package(folder: Path, ballast_bytes: int) -> Path:
    """The network as `cls export` would pack it."""
    folder.mkdir()
    make_network(folder / "model.onnx", ballast_bytes)
    meta = parse_meta(
        {
            "group": "hair_color",
            "labels": list(LABELS),
            "thresholds": dict.fromkeys(LABELS, 0.5),
            "person": {"source": "outline", "frame": "box", "background": "flat", "segmentation_models": []},
            "preprocessing": Preprocessing(height_px=HEIGHT_PX, width_px=WIDTH_PX).to_dict(),
            "inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, 3, HEIGHT_PX, WIDTH_PX]}],
            "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, len(LABELS)]}],
            "digests": {"dataset": "0" * 64, "split": "0" * 64, "weights": "0" * 64},
            "training": {"run": "v__0_train_eff_4_0.001", "arch": "none"},
            "code_version": "0",
            "created_at": "2026-01-01T00:00:00Z",
        }
    )
    write_meta(folder / "meta.json", meta)
    (folder / "config.pbtxt").write_text(build_config(meta), encoding="utf-8")
    return pack_files(
        folder / "model_onnx.zip", {name: folder / name for name in ("model.onnx", "meta.json", "config.pbtxt")}
    )


def timed(calls: dict[str, tuple[Callable[[], object], int]]) -> dict[str, tuple[float, float]]:
    """Median and 95th percentile in milliseconds of each call; in turns, so that all meet the same load."""
    times_ms: dict[str, list[float]] = {label: [] for label in calls}
    for _ in range(ROUNDS):
        for label, (call, requests) in calls.items():
            for warm_up in [True] * 3 + [False] * (requests // ROUNDS):
                started_s = time.perf_counter()
                call()
                if not warm_up:
                    times_ms[label].append((time.perf_counter() - started_s) * 1000)
    return {label: (statistics.median(ms), statistics.quantiles(ms, n=20)[-1]) for label, ms in times_ms.items()}


def in_process(model: Path, images: np.ndarray) -> Callable[[], object]:
    """ONNX Runtime with the same options as the engine's."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(["logits"], {"images": images})


def over_http(client: triton.InferenceServerClient, images: np.ndarray, *, binary: bool) -> Callable[[], object]:
    """The official client, everything included: encoding, sending, decoding."""

    def call() -> object:
        tensor = triton.InferInput("images", list(images.shape), "FP32")
        tensor.set_data_from_numpy(images, binary_data=binary)
        outputs = [triton.InferRequestedOutput("logits", binary_data=binary)]
        return client.infer("hair_color", [tensor], outputs=outputs).as_numpy("logits")

    return call


def over_grpc(client: triton_grpc.InferenceServerClient, images: np.ndarray) -> Callable[[], object]:
    """The official client over gRPC, everything included."""

    def call() -> object:
        tensor = triton_grpc.InferInput("images", list(images.shape), "FP32")
        tensor.set_data_from_numpy(images)
        outputs = [triton_grpc.InferRequestedOutput("logits")]
        return client.infer("hair_color", [tensor], outputs=outputs).as_numpy("logits")

    return call


def upload(url: str, package: Path, version: str) -> float:
    """Seconds until an uploaded package is served."""
    started_s = time.perf_counter()
    with package.open("rb") as stream:
        answer = httpx.post(
            f"{url}/upload_new_version/",
            data={"model_name": "hair_color", "model_version": version},
            files={"src_file": stream},
            timeout=120,
        )
    answer.raise_for_status()
    return time.perf_counter() - started_s


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=300)
    parser.add_argument("--megabytes", type=int, default=200)
    options = parser.parse_args()
    images = np.random.default_rng(1).normal(size=(1, 3, HEIGHT_PX, WIDTH_PX)).astype(np.float32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small = make_package(folder / "small", 0)
        big = make_package(folder / "big", options.megabytes << 20)
        command = [sys.executable, "-m", "cls", "storage", "serve", "--root", str(folder / "storage")]
        command += ["--port", "0", "--ssh-port", "0", "--infer-port", "0", "--quiet"]
        process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        try:
            lines = [process.stdout.readline() for _ in range(4)]
            url, infer_url = (re.findall(r"http://([^\s/]+)", line)[0] for line in lines[:2])
            upload(f"http://{url}", small, "0.0.1")
            client = triton.InferenceServerClient(infer_url)
            grpc_client = triton_grpc.InferenceServerClient(re.findall(r"grpc://(\S+)", lines[1])[0])
            often = options.requests
            calls = {
                "ONNX Runtime in process": (in_process(folder / "small" / "model.onnx", images), often),
                "engine, binary tensors": (over_http(client, images, binary=True), often),
                "engine, gRPC": (over_grpc(grpc_client, images), often),
                "engine, JSON tensors": (over_http(client, images, binary=False), often // 10),
            }
            results = timed(calls)
            seconds = upload(f"http://{url}", big, "0.0.2")
        finally:
            process.terminate()
            process.wait()
        base_ms = results["ONNX Runtime in process"][0]
        print(f"one picture of {HEIGHT_PX}x{WIDTH_PX} (590 kB), {options.requests} requests")
        for label, (median_ms, high_ms) in results.items():
            over_ms = median_ms - base_ms
            print(f"{label:26} median {median_ms:6.2f} ms  p95 {high_ms:6.2f} ms  over ONNX Runtime {over_ms:+6.2f} ms")
        size_mb = big.stat().st_size / 1e6
        print(f"upload of {size_mb:.0f} MB, checked, loaded and served: {seconds:.1f} s, {size_mb / seconds:.0f} MB/s")


if __name__ == "__main__":
    main()
