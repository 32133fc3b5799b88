"""Who may ask."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from cls.machine import is_loopback
from tests.model_storage.packages import of_group
from tests.model_storage.services import Service, detail, push, running_storage

TOKEN = "correct horse"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A storage that asks for a token."""
    with running_storage(tmp_path_factory.mktemp("guarded") / "storage", CLS_MODEL_STORAGE_TOKEN=TOKEN) as running:
        yield running


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("::1", True),
        ("[::1]", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.5", False),
        ("example.org", False),
        ("localhost.example.org", False),
        ("", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize("header", [None, "", "bearer wrong", f"basic {TOKEN}", "bearer", f"bearer {TOKEN}x"])
def test_without_the_token_nothing_is_answered(guarded: Service, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    for method, path in (
        ("GET", "/index/"),
        ("POST", "/upload_new_version/"),
        ("GET", "/get_meta/x"),
        ("GET", "/nope"),
    ):
        response = httpx.request(method, guarded.url + path, headers=headers)
        assert response.status_code == 401
        assert "bearer TOKEN" in detail(response)
    for method, path in (("GET", "/v2"), ("POST", "/v2/repository/index"), ("POST", "/v2/models/x/infer")):
        response = httpx.request(method, guarded.infer_url + path, headers=headers)
        assert (response.status_code, list(response.json())) == (401, ["error"])


def test_with_the_token_everything_is(guarded: Service) -> None:
    for scheme in ("bearer", "Bearer"):
        headers = {"Authorization": f"{scheme} {TOKEN}"}
        assert httpx.get(f"{guarded.url}/index/", headers=headers).status_code == 200
        assert httpx.get(f"{guarded.infer_url}/v2", headers=headers).status_code == 200


def test_what_tells_nothing_is_open(guarded: Service) -> None:
    for url in (f"{guarded.url}/docs", f"{guarded.url}/health", f"{guarded.infer_url}/v2/health/ready"):
        assert httpx.get(url).status_code == 200


def test_push_sends_the_token(guarded: Service, packages: dict[int, Path], tmp_path: Path) -> None:
    configuration = tmp_path / "configuration.yaml"
    configuration.write_text(f"data_path: 'data'\nmodel_storage_url: '{guarded.url}'\n")
    folder = tmp_path / "data" / "inference_models" / "hat" / "inference_model"
    folder.mkdir(parents=True)
    (folder / "model_onnx.zip").write_bytes(of_group(packages[1], "hat").read_bytes())
    words = ("--group", "hat", "--version", "0.0.1")
    refused = push(configuration, *words)
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].startswith("error: ")
    assert "CLS_MODEL_STORAGE_TOKEN" in refused.stderr
    done = push(configuration, *words, CLS_MODEL_STORAGE_TOKEN=TOKEN)
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr + guarded.log.read_text()


def test_pages_of_others_are_refused_where_there_is_no_token(service: Service) -> None:
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Host": "evil.example:8300"},
        {"Host": ""},
    ):
        for url in (f"{service.url}/index/", f"{service.infer_url}/v2"):
            assert httpx.get(url, headers=headers).status_code == 403
    assert httpx.get(f"{service.url}/index/", headers={"Origin": service.url}).status_code == 200
    port = service.url.rpartition(":")[2]
    assert httpx.get(f"{service.url}/index/", headers={"Host": f"localhost:{port}"}).status_code == 200
