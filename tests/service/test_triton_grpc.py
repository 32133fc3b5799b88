"""One contract, two inference servers, over gRPC: NVIDIA's Triton on the CPU, and the embedded engine."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
import tritonclient.grpc as triton
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from cls.package.triton_config import parse_config_json
from tests.model_storage.packages import HEIGHT_PX, LABELS, WIDTH_PX, expected_logits, random_images
from tests.model_storage.services import Service
from tests.service.inference_servers import MODEL, until


@pytest.fixture
def client(service: Service) -> Iterator[triton.InferenceServerClient]:
    """The official client; version 0.0.2 is served."""
    httpx.post(
        f"{service.url}/set_semantic_version/?model_name={MODEL}&semantic_version=0.0.2", timeout=60
    ).raise_for_status()
    with triton.InferenceServerClient(service.infer_grpc_url) as made:
        yield made


@pytest.fixture
def stub(service: Service, client: triton.InferenceServerClient) -> Iterator[Any]:
    """The service's calls without the client around them."""
    with grpc.insecure_channel(service.infer_grpc_url) as channel:
        yield service_pb2_grpc.GRPCInferenceServiceStub(channel)


def tensor(images: NDArray[Any], *, name: str = "images", datatype: str = "FP32") -> Any:
    made = triton.InferInput(name, list(images.shape), datatype)
    made.set_data_from_numpy(images)
    return made


@pytest.mark.parametrize("batch", [1, 2, 64])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_inference(client: triton.InferenceServerClient, batch: int, compression: str | None) -> None:
    images = random_images(batch)
    outputs = [triton.InferRequestedOutput("logits")]
    result = client.infer(
        MODEL, [tensor(images)], outputs=outputs, request_id="an-id", compression_algorithm=compression
    )
    np.testing.assert_allclose(result.as_numpy("logits"), expected_logits(images, 2), atol=1e-4)
    answer = result.get_response()
    assert (answer.model_name, answer.model_version, answer.id) == (MODEL, "2", "an-id")
    assert (answer.outputs[0].datatype, list(answer.outputs[0].shape)) == ("FP32", [batch, len(LABELS)])


def test_lists_of_numbers_and_all_outputs(stub: Any) -> None:
    images = random_images(2)
    request = service_pb2.ModelInferRequest(model_name=MODEL, model_version="2")
    item = request.inputs.add(name="images", datatype="FP32", shape=images.shape)
    item.contents.fp32_contents.extend(images.ravel().tolist())
    answer = stub.ModelInfer(request)
    logits = np.frombuffer(answer.raw_output_contents[0], "<f4").reshape(answer.outputs[0].shape)
    np.testing.assert_allclose(logits, expected_logits(images, 2), atol=1e-4)


def test_the_server_and_the_model_describe_themselves(service: Service, client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    until(client.is_server_ready, service)
    assert "model_repository" in client.get_server_metadata().extensions
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, "2")
    assert not client.is_model_ready(MODEL, "7")
    assert not client.is_model_ready("nope")
    assert client.get_model_metadata(MODEL, as_json=True) == {
        "name": MODEL,
        "versions": ["2"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "images", "datatype": "FP32", "shape": ["-1", "3", str(HEIGHT_PX), str(WIDTH_PX)]}],
        "outputs": [{"name": "logits", "datatype": "FP32", "shape": ["-1", str(len(LABELS))]}],
    }


def test_the_config_carries_meta_json(service: Service, client: triton.InferenceServerClient) -> None:
    config = client.get_model_config(MODEL, as_json=True)["config"]
    assert config["max_batch_size"] == 64
    meta = parse_config_json(config, service.infer_grpc_url).meta()
    assert meta.model_dump(mode="json") == service.get(f"/get_meta/{MODEL}")
    assert (meta.labels, meta.model_version) == (LABELS, "0.0.2")


def test_load_unload_and_index(service: Service, client: triton.InferenceServerClient) -> None:
    client.unload_model(MODEL)
    until(lambda: not client.is_model_ready(MODEL), service)
    with pytest.raises(InferenceServerException) as caught:
        client.infer(MODEL, [tensor(random_images(1))])
    assert str(caught.value.status()) in ("StatusCode.UNAVAILABLE", "StatusCode.NOT_FOUND")
    assert MODEL in [entry.name for entry in client.get_model_repository_index().models]
    client.load_model(MODEL)
    assert client.is_model_ready(MODEL)
    states = {(entry.name, entry.version): entry.state for entry in client.get_model_repository_index().models}
    assert states[MODEL, "2"] == "READY"


def test_statistics(client: triton.InferenceServerClient) -> None:
    client.infer(MODEL, [tensor(random_images(3))])
    time.sleep(0.5)  # Triton adds a request after it has answered it
    (entry,) = client.get_inference_statistics(MODEL, "2").model_stats
    assert (entry.name, entry.version) == (MODEL, "2")
    assert entry.inference_count >= 3
    assert entry.inference_stats.success.ns > 0


@pytest.mark.parametrize(
    ("ask", "status", "message"),
    [
        ({"model": "nope"}, "NOT_FOUND", "Request for unknown model: 'nope' is not found"),
        ({"version": "77"}, "NOT_FOUND", "Request for unknown model: 'hair_color' version 77 is not found"),
        ({"version": "x"}, "INVALID_ARGUMENT", "model version"),
        ({"tensor": {"name": "pictures"}}, "INVALID_ARGUMENT", "unexpected inference input 'pictures'"),
        ({"images": random_images(65)}, "INVALID_ARGUMENT", "batch-size must be <= 64 for 'hair_color'"),
        ({"images": random_images(1)[:, :, :5]}, "INVALID_ARGUMENT", "Expected [-1,3,64,48], got [1,3,5,48]"),
        ({"images": random_images(1)[0]}, "INVALID_ARGUMENT", "unexpected shape for input 'images'"),
        (
            {"images": random_images(1).astype(np.float64), "tensor": {"datatype": "FP64"}},
            "INVALID_ARGUMENT",
            "inference input 'images' data-type is 'FP64', but model 'hair_color' expects 'FP32'",
        ),
        ({"outputs": ["nope"]}, "INVALID_ARGUMENT", "unexpected inference output 'nope' for model 'hair_color'"),
        ({"inputs": []}, "INVALID_ARGUMENT", "expected 1 inputs but got 0 inputs for model 'hair_color'"),
    ],
)
def test_errors(client: triton.InferenceServerClient, ask: dict[str, Any], status: str, message: str) -> None:
    inputs = ask.get("inputs", [tensor(ask.get("images", random_images(1)), **ask.get("tensor", {}))])
    outputs = [triton.InferRequestedOutput(name) for name in ask.get("outputs", [])]
    with pytest.raises(InferenceServerException) as caught:
        client.infer(ask.get("model", MODEL), inputs, model_version=ask.get("version", ""), outputs=outputs or None)
    assert str(caught.value.status()) == f"StatusCode.{status}"
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda request: request.ClearField("raw_input_contents"),
        lambda request: request.inputs[0].shape.__setitem__(0, -1),
        lambda request: request.inputs[0].__setattr__("datatype", "FP99"),
        lambda request: request.raw_input_contents.__setitem__(0, b"1234"),
        lambda request: request.inputs.append(request.inputs[0]),
    ],
)
def test_requests_that_contradict_themselves(stub: Any, change: Callable[[Any], None]) -> None:
    images = random_images(1)
    request = service_pb2.ModelInferRequest(model_name=MODEL)
    request.inputs.add(name="images", datatype="FP32", shape=images.shape)
    request.raw_input_contents.append(images.tobytes())
    change(request)
    with pytest.raises(grpc.RpcError) as caught:
        stub.ModelInfer(request)
    assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL)
    assert stub.ModelReady(service_pb2.ModelReadyRequest(name=MODEL)).ready


def test_other_errors(client: triton.InferenceServerClient) -> None:
    for call in (
        client.get_model_metadata,
        client.get_model_config,
        client.get_inference_statistics,
        client.load_model,
    ):
        with pytest.raises(InferenceServerException, match="nope"):
            call("nope")
