"""The storage service as a process: the guide's curl, starting, stopping, starting again."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import httpx
import pytest

from cls.settings import REPOSITORY
from tests.model_storage.packages import expected_logits, make_package, random_images
from tests.model_storage.services import Service, detail, environment, refusal, running_storage, start_arguments, tree
from tests.preloaded import run_program
from tests.required_tools import need_program


def start_and_fail(*arguments: str, status: int = 1, **variables: str) -> str:
    """Starts a storage that cannot start; returns the one line it says."""
    done = run_program(list(arguments), 30, cwd=REPOSITORY, env=environment(**variables))
    assert done.returncode == status
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("error: ")
    return done.stderr


def start_and_fail_in_detail(*arguments: str) -> str:
    """Likewise with --debug; returns the last line, which ends with the code."""
    done = run_program([*arguments, "--debug"], 30, cwd=REPOSITORY, env=environment())
    assert done.returncode == 1
    return done.stderr.splitlines()[-1]


def test_the_guides_curl(tmp_path: Path) -> None:
    need_program("curl", "curl")
    folder = tmp_path / "classification_data" / "inference_models" / "hair_color" / "inference_model"
    folder.mkdir(parents=True)
    make_package(folder, name="model_trt.zip")
    with running_storage(tmp_path / "storage") as service:
        port = service.url.rpartition(":")[2]
        done = subprocess.run(
            f"""curl -sS -X POST http://localhost:{port}/upload_new_version/ -H 'accept: application/json' \
     -H 'Content-Type: multipart/form-data' \
     -F 'src_file=@classification_data/inference_models/hair_color/inference_model/model_trt.zip;type=application/x-zip-compressed' \
     -F 'model_name=hair_color' -F 'model_version=0.0.2'""",  # noqa: E501 (the guide's own line)
            shell=True,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.stdout, done.stderr) == ('{"version":"0.0.2"}', "")


def test_what_was_published_is_served_after_a_restart(tmp_path: Path) -> None:
    one, two = (make_package(tmp_path, seed, name=f"{seed}.zip", group="hat") for seed in (1, 2))
    root = tmp_path / "storage"
    with running_storage(root) as service:
        assert service.upload(one, "hat", "0.0.1").status_code == 200
        assert service.upload(two, "hat", "0.0.2").status_code == 200
        httpx.post(f"{service.url}/set_semantic_version/?model_name=hat&semantic_version=0.0.1").raise_for_status()
        (root / "model_repository" / "broken" / "1").mkdir(parents=True)
        (root / "model_repository" / "broken" / "config.pbtxt").write_text('platform: "onnxruntime_onnx"')
        (root / "model_repository" / "broken" / "1" / "model.onnx").write_text("broken")
    images = random_images(1)
    with running_storage(root) as service:
        answer = httpx.post(
            f"{service.infer_url}/v2/models/hat/infer",
            json={
                "inputs": [
                    {"name": "images", "shape": list(images.shape), "datatype": "FP32", "data": images.ravel().tolist()}
                ]
            },
        ).json()
        assert answer["model_version"] == "1"
        assert answer["outputs"][0]["data"] == pytest.approx(expected_logits(images, 1).ravel().tolist(), abs=1e-5)
        broken = next(item for item in service.get("/index/") if item["name"] == "broken")
        assert broken["state"] == "UNAVAILABLE"
        assert "does not load in ONNX Runtime" in broken["reason"]
        assert "broken is not served" in service.log.read_text()


def test_a_broken_model_put_there_by_hand_does_not_replace_the_served_one(tmp_path: Path) -> None:
    package = make_package(tmp_path, group="hat")
    with running_storage(tmp_path / "storage") as service:
        service.upload(package, "hat", "0.0.1")
        folder = service.root / "model_repository" / "hat"
        shutil.copytree(folder / "1", folder / "2")
        (folder / "2" / "model.onnx").write_text("broken")
        before = tree(service.root)
        for path in ("/set_version/hat?version=2", "/set_semantic_version/?model_name=hat&semantic_version=0.0.3"):
            assert httpx.post(service.url + path).status_code in (404, 422)
        assert tree(service.root) == before
        assert httpx.get(f"{service.infer_url}/v2/models/hat/versions/1/ready").status_code == 200
        assert service.get("/get_version/hat") == {"version": "1"}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_at_once(tmp_path: Path, number: signal.Signals) -> None:
    with running_storage(tmp_path / "storage") as service, httpx.Client() as client:
        client.get(f"{service.url}/index/").raise_for_status()
        client.get(f"{service.infer_url}/v2").raise_for_status()
        # Connections kept alive would hold it for 30 s.
        assert seconds_to_stop(service, number) < 8.0


def test_an_upload_that_never_ends_does_not_keep_it_up(tmp_path: Path) -> None:
    with running_storage(tmp_path / "storage") as service, socket.socket() as half:
        half.connect(("127.0.0.1", int(service.url.rpartition(":")[2])))
        half.sendall(b"POST /upload_new_version/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n")
        half.sendall(b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n")
        time.sleep(0.2)
        assert seconds_to_stop(service, signal.SIGTERM) < 8.0


def seconds_to_stop(service: Service, number: signal.Signals) -> float:
    """How long the service takes to end well, saying nothing it should not."""
    started_s = time.monotonic()
    service.process.send_signal(number)
    assert service.process.wait(20) == 0
    assert "Traceback" not in service.log.read_text()
    return time.monotonic() - started_s


def test_one_service_a_root(tmp_path: Path) -> None:
    with running_storage(tmp_path / "storage"):
        line = start_and_fail_in_detail(*start_arguments(tmp_path / "storage"))
        assert line.endswith("[storage.root_in_use]")
        assert "--root" in line


@pytest.mark.parametrize("option", ["--port", "--ssh-port", "--infer-port", "--infer-grpc-port"])
def test_a_port_in_use(tmp_path: Path, option: str) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        line = start_and_fail_in_detail(*start_arguments(tmp_path / "storage", option, port))
    assert line.endswith("[storage.port_in_use]")
    assert f"{port} of 127.0.0.1 " in line
    assert option in line


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7"])
def test_other_addresses_need_a_token(tmp_path: Path, host: str) -> None:
    line = start_and_fail(*start_arguments(tmp_path / "storage", "--host", host), status=2)
    assert "CLS_MODEL_STORAGE_TOKEN" in line
    assert not (tmp_path / "storage").exists()


def test_a_root_that_cannot_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    assert "--root" in start_and_fail(*start_arguments(tmp_path / "file" / "storage"))


def test_an_address_that_is_not_a_tritons(tmp_path: Path) -> None:
    wrong = ("--triton", "localhost:8000", "--gpu", "new", "--tensorrt", "8")
    line = start_and_fail(*start_arguments(tmp_path / "storage", *wrong), status=2)
    assert all(f"{name}: expected " in line for name in ("--triton", "--gpu", "--tensorrt"))


def test_a_triton_that_is_not_there(tmp_path: Path) -> None:
    package = make_package(tmp_path, group="hat")
    with running_storage(tmp_path / "storage", "--triton", "http://127.0.0.1:9") as service:
        response = service.upload(package, "hat", "0.0.1")
        assert refusal(response) == (502, "storage.triton_unreachable")
        assert "http://127.0.0.1:9" in detail(response)
        assert tree(service.root) == {}
        assert httpx.get(f"{service.url}/index/").status_code == 502


def test_the_interface_is_browsable_without_the_internet(tmp_path: Path) -> None:
    with running_storage(tmp_path / "storage") as service:
        page = httpx.get(f"{service.url}/docs").text
        assert "://" not in page
        paths = service.get("/openapi.json")["paths"]
        assert {
            "/upload_new_version/",
            "/set_semantic_version/",
            "/latest_semantic_version/{model}",
            "/get_meta/{model}",
            "/get_version/{model}",
            "/set_version/{model}",
            "/load_model/{model}",
            "/unload_model/{model}",
            "/index/",
            "/upload_model",
        } <= set(paths)
