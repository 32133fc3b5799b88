"""One contract, two inference servers, over HTTP: NVIDIA's Triton on the CPU, and the embedded engine.

Both serve unmodified packages published through the storage service, and both are asked through the official client.
The same over gRPC: test_triton_grpc.py.
"""

from __future__ import annotations

import shutil
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from numpy.typing import NDArray
from tritonclient.utils import InferenceServerException

from cls.package.triton_config import parse_config_json
from tests.model_storage.packages import HEIGHT_PX, LABELS, WIDTH_PX, expected_logits, make_package, random_images
from tests.model_storage.services import Service, detail, tree
from tests.service.inference_servers import KINDS, MODEL, serving, until


@pytest.fixture
def client(service: Service) -> Iterator[triton.InferenceServerClient]:
    """The official client; version 0.0.2 is served."""
    httpx.post(
        f"{service.url}/set_semantic_version/?model_name={MODEL}&semantic_version=0.0.2", timeout=60
    ).raise_for_status()
    with triton.InferenceServerClient(service.infer_url.removeprefix("http://"), network_timeout=60) as made:
        yield made


@pytest.fixture(scope="module", params=KINDS)
def marred(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A storage for what makes loading fail, with version 0.0.1 of seed 1: no Triton forgets that one did."""
    folder = tmp_path_factory.mktemp(f"marred-{request.param}")
    with serving(request.param, folder, [(make_package(folder), MODEL, "0.0.1")]) as running:
        yield running


def tensor(images: NDArray[Any], *, name: str = "images", datatype: str = "FP32", binary: bool = True) -> Any:
    made = triton.InferInput(name, list(images.shape), datatype)
    made.set_data_from_numpy(images, binary_data=binary)
    return made


def state_of(service: Service, number: str) -> str:
    entries = [item for item in service.get("/index/") if item["name"] == MODEL and item.get("version") == number]
    return entries[0].get("state", "") if entries else ""


@pytest.mark.parametrize("batch", [1, 2, 64])
@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False])
def test_inference(client: triton.InferenceServerClient, batch: int, binary_in: bool, binary_out: bool) -> None:
    images = random_images(batch)
    outputs = [triton.InferRequestedOutput("logits", binary_data=binary_out)]
    result = client.infer(MODEL, [tensor(images, binary=binary_in)], outputs=outputs, request_id="an-id")
    np.testing.assert_allclose(result.as_numpy("logits"), expected_logits(images, 2), atol=1e-4)
    answer = result.get_response()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == (MODEL, "2", "an-id")
    assert answer["outputs"][0]["shape"] == [batch, len(LABELS)]
    assert answer["outputs"][0]["datatype"] == "FP32"


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_packed_requests_and_all_outputs(client: triton.InferenceServerClient, algorithm: str) -> None:
    images = random_images(2)
    result = client.infer(
        MODEL,
        [tensor(images)],
        request_compression_algorithm=algorithm,
        response_compression_algorithm=algorithm,
        model_version="2",
    )
    np.testing.assert_allclose(result.as_numpy("logits"), expected_logits(images, 2), atol=1e-4)


def test_the_server_and_the_model_describe_themselves(service: Service, client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    until(client.is_server_ready, service)
    assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
    assert client.is_model_ready(MODEL)
    assert client.is_model_ready(MODEL, "2")
    assert not client.is_model_ready(MODEL, "7")
    assert not client.is_model_ready("nope")
    assert client.get_model_metadata(MODEL) == {
        "name": MODEL,
        "versions": ["2"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, 3, HEIGHT_PX, WIDTH_PX]}],
        "outputs": [{"name": "logits", "datatype": "FP32", "shape": [-1, len(LABELS)]}],
    }


def test_the_config_carries_meta_json(service: Service, client: triton.InferenceServerClient) -> None:
    config = client.get_model_config(MODEL)
    assert config["max_batch_size"] == 64
    assert config["input"][0]["dims"] == [3, HEIGHT_PX, WIDTH_PX]
    assert config["input"][0]["data_type"] == "TYPE_FP32"
    assert config["output"][0]["dims"] == [len(LABELS)]
    assert config["version_policy"] == {"specific": {"versions": [2]}}
    meta = parse_config_json(config, service.infer_url).meta()
    assert meta.model_dump(mode="json") == service.get(f"/get_meta/{MODEL}")
    assert (meta.labels, meta.model_version) == (LABELS, "0.0.2")


def test_choosing_versions(service: Service, client: triton.InferenceServerClient) -> None:
    images = random_images(1)
    for path, number in (
        (f"/set_semantic_version/?model_name={MODEL}&semantic_version=0.0.1", "1"),
        (f"/set_version/{MODEL}?version=2", "2"),
        (f"/set_version/{MODEL}?version=1", "1"),
    ):
        assert httpx.post(service.url + path, timeout=60).json() == {"version": number}
        assert service.get(f"/get_version/{MODEL}") == {"version": number}
        result = client.infer(MODEL, [tensor(images)])
        assert result.get_response()["model_version"] == number
        np.testing.assert_allclose(result.as_numpy("logits"), expected_logits(images, int(number)), atol=1e-4)
        assert state_of(service, number) == "READY"
        other = "1" if number == "2" else "2"
        until(lambda other=other: state_of(service, other) in ("UNAVAILABLE", ""), service)


def test_load_and_unload(service: Service, client: triton.InferenceServerClient) -> None:
    for unload, load in (
        (
            lambda: httpx.post(f"{service.url}/unload_model/{MODEL}"),
            lambda: httpx.post(f"{service.url}/load_model/{MODEL}"),
        ),
        (lambda: client.unload_model(MODEL), lambda: client.load_model(MODEL)),
    ):
        unload()
        until(lambda: not client.is_model_ready(MODEL), service)
        with pytest.raises(InferenceServerException) as caught:
            client.infer(MODEL, [tensor(random_images(1))])
        assert caught.value.status() in ("400", "404")
        assert MODEL in [entry["name"] for entry in client.get_model_repository_index()]
        load()
        assert client.is_model_ready(MODEL)


def test_statistics(client: triton.InferenceServerClient) -> None:
    def counts() -> tuple[int, int, int]:
        entry = client.get_inference_statistics(MODEL, "2")["model_stats"][0]
        assert (entry["name"], entry["version"]) == (MODEL, "2")
        success = entry["inference_stats"]["success"]
        assert (success["ns"] > 0) is (success["count"] > 0)
        return entry["inference_count"], entry["execution_count"], success["count"]

    def settled() -> tuple[int, int, int]:
        """The counts once they stand still: Triton adds a request after it has answered it."""
        ends = time.monotonic() + 10
        latest = counts()
        while time.monotonic() < ends:
            time.sleep(0.2)
            previous, latest = latest, counts()
            if previous == latest:
                break
        return latest

    before = settled()
    client.infer(MODEL, [tensor(random_images(3))])
    ends = time.monotonic() + 10
    while counts() == before and time.monotonic() < ends:
        time.sleep(0.01)
    assert tuple(after - old for after, old in zip(settled(), before, strict=True)) == (3, 1, 1)


@pytest.mark.parametrize(
    ("ask", "status", "message"),
    [
        ({"model": "nope"}, "404", "Request for unknown model: 'nope' is not found"),
        ({"version": "77"}, "404", "Request for unknown model: 'hair_color' version 77 is not found"),
        ({"tensor": {"name": "pictures"}}, "400", "unexpected inference input 'pictures' for model 'hair_color'"),
        ({"images": random_images(65)}, "400", "batch-size must be <= 64 for 'hair_color'"),
        ({"images": random_images(1)[:, :, :5]}, "400", "Expected [-1,3,64,48], got [1,3,5,48]"),
        ({"images": random_images(1)[0]}, "400", "unexpected shape for input 'images' for model 'hair_color'"),
        (
            {"images": random_images(1).astype(np.float64), "tensor": {"datatype": "FP64"}},
            "400",
            "inference input 'images' data-type is 'FP64', but model 'hair_color' expects 'FP32'",
        ),
        ({"outputs": ["nope"]}, "400", "unexpected inference output 'nope' for model 'hair_color'"),
        ({"inputs": []}, "400", "expected 1 inputs but got 0 inputs for model 'hair_color'"),
    ],
)
def test_errors(client: triton.InferenceServerClient, ask: dict[str, Any], status: str, message: str) -> None:
    images = ask.get("images", random_images(1))
    inputs = ask.get("inputs", [tensor(images, **ask.get("tensor", {}))])
    outputs = [triton.InferRequestedOutput(name) for name in ask.get("outputs", [])]
    with pytest.raises(InferenceServerException) as caught:
        client.infer(ask.get("model", MODEL), inputs, model_version=ask.get("version", ""), outputs=outputs or None)
    assert caught.value.status() == status
    assert message in str(caught.value)


def test_other_errors(service: Service, client: triton.InferenceServerClient) -> None:
    for call in (
        lambda: client.get_model_metadata("nope"),
        lambda: client.get_model_config("nope"),
        lambda: client.get_inference_statistics("nope"),
        lambda: client.load_model("nope"),
    ):
        with pytest.raises(InferenceServerException, match="nope"):
            call()
    for body in (b"{", b"{}", b'{"inputs": [{"name": "images", "shape": [1, 3], "datatype": "FP32", "data": [1]}]}'):
        answer = httpx.post(f"{service.infer_url}/v2/models/{MODEL}/infer", content=body)
        assert answer.status_code >= 400
        assert answer.json()["error"]


def answers_of_seed_1(marred: Service) -> bool:
    """Whether the version that was there answers, and as it did."""
    images = random_images(1)
    with triton.InferenceServerClient(marred.infer_url.removeprefix("http://"), network_timeout=60) as client:
        result = client.infer(MODEL, [tensor(images)])
    return np.allclose(result.as_numpy("logits"), expected_logits(images, 1), atol=1e-4)


def test_a_version_that_does_not_load_keeps_the_old_one(marred: Service) -> None:
    """Found by the engine alone: the storage's own checks are passed by, as by somebody who copies files by hand."""
    folder = marred.root / "model_repository" / MODEL
    config = folder / "config.pbtxt"
    before = config.read_text()
    (folder / "9").mkdir()
    (folder / "9" / "model.onnx").write_bytes(b"broken")
    try:
        response = httpx.post(f"{marred.url}/set_version/{MODEL}?version=9", timeout=60)
        assert response.status_code == 422
        assert "what was served stays" in detail(response)
        assert config.read_text() == before
        assert answers_of_seed_1(marred)
    finally:
        (folder / "9" / "model.onnx").unlink()
        (folder / "9").rmdir()


def test_a_package_the_engine_cannot_load_is_taken_back(marred: Service, tmp_path: Path) -> None:
    """It passes the storage's own checks, and no engine has its backend."""
    before = tree(marred.root)
    for model, version in ((MODEL, "0.0.3"), ("fresh", "0.0.1")):
        odd = tmp_path / f"odd_{model}.zip"
        package = make_package(tmp_path, name=f"{model}.zip", group=model)
        with zipfile.ZipFile(package) as source, zipfile.ZipFile(odd, "w") as target:
            for name in source.namelist():
                content = source.read(name)
                if name == "config.pbtxt":
                    content = content.replace(b'platform: "onnxruntime_onnx"', b'backend: "nowhere"')
                target.writestr(name, content)
        response = marred.upload(odd, model, version)
        assert response.status_code == 422
        assert "nowhere" in detail(response)
        assert "is as it was" in detail(response)
        assert tree(marred.root) == before
    assert answers_of_seed_1(marred)


def test_a_triton_that_is_not_ready_for_good_is_told_of(marred: Service, tmp_path: Path) -> None:
    """By default it counts versions that did not load, until it is started again; what serves well goes on serving."""
    broken = marred.root / "model_repository" / "broken"
    broken.mkdir()
    shutil.copy2(marred.root / "model_repository" / MODEL / "1" / "config.pbtxt", broken)
    (broken / "1").mkdir()
    (broken / "1" / "model.onnx").write_bytes(b"broken")
    assert httpx.post(f"{marred.url}/load_model/broken", timeout=60).status_code == 422
    shutil.rmtree(broken)
    is_triton = (marred.root.parent / "triton.log").is_file()
    ready = httpx.get(f"{marred.infer_url}/v2/health/ready").status_code
    assert (ready == 200) is not is_triton
    assert ("--strict-readiness=false" in marred.log.read_text()) is is_triton
    assert answers_of_seed_1(marred)


@pytest.mark.parametrize("group", ["top color", "шляпа", "a+b&c?", "x~y"])
def test_any_groups_model_is_served(
    service: Service, client: triton.InferenceServerClient, tmp_path: Path, group: str
) -> None:
    from cls.package.model_name import model_name_of_group

    assert service.upload(make_package(tmp_path, group=group), group, "0.0.1").json() == {"version": "0.0.1"}
    images = random_images(1)
    result = client.infer(model_name_of_group(group), [tensor(images)])
    np.testing.assert_allclose(result.as_numpy("logits"), expected_logits(images, 1), atol=1e-4)


def test_the_storage_finds_the_server_again(service: Service) -> None:
    stored = service.get(f"/versions/{MODEL}")
    assert stored["inference_url"] == service.infer_url
    assert [item["semantic_version"] for item in stored["versions"]] == ["0.0.1", "0.0.2"]
