"""The same decisions through a served model as in this process: the storage's own engine, in a process of its own."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from cls.bottle.layout import Bottle
from cls.cli.command import execute
from cls.cli.infer import COMMAND
from cls.errors import PackageError, PredictionError
from cls.package.model_name import model_name_of_group
from cls.people.photos import read_photo, whole_photo
from cls.runtimes.open import open_classifier
from cls.runtimes.served_runtime import parse_address
from tests.bottles import GROUP
from tests.exporting.runs import ExportedBottle
from tests.model_storage.services import Service, running_storage


def urls_of(service: Service, model: str = GROUP) -> tuple[str, str]:
    """A served model over HTTP and over gRPC."""
    return f"{service.infer_url}/v2/models/{model}", f"grpc://{service.infer_grpc_url}/{model}"


@pytest.fixture(scope="module")
def service(exported: ExportedBottle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_storage(tmp_path_factory.mktemp("served") / "storage") as running:
        response = running.upload(exported.package / "model_onnx.zip", GROUP, "0.0.1")
        assert response.json() == {"version": "0.0.1"}
        yield running


def test_probabilities_are_the_same(exported: ExportedBottle, service: Service) -> None:
    local = open_classifier(str(exported.package), exported.bottle)
    images = [read_photo(path) for path in sorted(exported.bottle.pictures.iterdir())[:20]]
    crops = np.stack([local.preprocessing.cut(image, whole_photo(image)) for image in images] * 5)
    for url in urls_of(service):
        served = open_classifier(url, exported.bottle)
        assert (served.labels, served.thresholds) == (local.labels, local.thresholds)
        assert served.preprocessing == local.preprocessing
        for batch in (1, 7, 100):
            np.testing.assert_allclose(
                served.probabilities(crops, batch=batch), local.probabilities(crops, batch=batch), atol=1e-5
            )


def test_inference_by_url_and_by_configuration(
    copied: ExportedBottle, service: Service, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = []
    monkeypatch.setenv("CLS_INFERENCE_URL", service.infer_url)
    url = f"{service.infer_url}/v2/models/{GROUP}"
    for options in (
        [],
        ["--model", url],
        ["--model", service.infer_url],
        ["--model", f"{url}/versions/1"],
        ["--model", urls_of(service)[1]],
        ["--served"],
    ):
        assert execute(COMMAND, ["--group", GROUP, "--cfg", str(copied.cfg), "--quiet", *options]) == 0
        tables.append((copied.bottle.inference(GROUP) / "predictions.jsonl").read_text())
    assert "Open Inference Protocol server 127.0.0.1" in capsys.readouterr().out
    labels = [[line.split('"labels"')[1] for line in table.splitlines()] for table in tables]
    assert labels[0] == labels[1] == labels[2] == labels[3] == labels[4] == labels[5]


def test_a_model_that_is_not_served(exported: ExportedBottle, service: Service) -> None:
    for url in urls_of(service, "nothing"):
        with pytest.raises(PredictionError) as caught:
            open_classifier(url, exported.bottle)
        assert caught.value.code == "prediction.refused"
        assert "'nothing'" in caught.value.what


def test_pictures_of_another_size_are_refused(exported: ExportedBottle, service: Service) -> None:
    for url in urls_of(service):
        served = open_classifier(url, exported.bottle)
        with pytest.raises(PredictionError) as caught:
            served.runtime.logits(np.zeros((1, 3, 5, 5), np.float32))
        assert caught.value.code == "prediction.refused"
        assert "unexpected shape" in caught.value.what


def test_a_server_that_was_restarted_is_found_again(exported: ExportedBottle, tmp_path: Path) -> None:
    root = tmp_path / "storage"
    images = np.zeros((1, 3, 64, 48), np.float32)
    with running_storage(root) as first:
        first.upload(exported.package / "model_onnx.zip", GROUP, "0.0.1").raise_for_status()
        ports = (first.infer_url.rpartition(":")[2], first.infer_grpc_url.rpartition(":")[2])
        runtimes = [open_classifier(url, exported.bottle).runtime for url in urls_of(first)]
        expected = [runtime.logits(images) for runtime in runtimes]
    for runtime in runtimes:
        with pytest.raises(PredictionError) as caught:
            runtime.logits(images)
        assert caught.value.code == "prediction.unreachable"
    with running_storage(root, "--infer-port", ports[0], "--infer-grpc-port", ports[1]):
        for runtime, before in zip(runtimes, expected, strict=True):
            np.testing.assert_array_equal(runtime.logits(images), before)


def test_a_token_goes_to_its_own_server_alone(exported: ExportedBottle, tmp_path: Path) -> None:
    package = exported.package / "model_onnx.zip"
    bottle = exported.bottle
    with running_storage(tmp_path / "storage", CLS_MODEL_STORAGE_TOKEN="secret") as running:
        with package.open("rb") as stream:
            httpx.post(
                f"{running.url}/upload_new_version/",
                data={"model_name": GROUP, "model_version": "0.0.1"},
                files={"src_file": (package.name, stream)},
                headers={"Authorization": "bearer secret"},
                timeout=60,
            ).raise_for_status()
        for url in urls_of(running):
            with pytest.raises(PredictionError) as caught:
                open_classifier(url, bottle)
            assert caught.value.code == "prediction.unauthorized"
            elsewhere = replace(bottle.settings, model_storage_token="secret", model_storage_url="http://elsewhere:1")
            with pytest.raises(PredictionError) as caught:
                open_classifier(url, Bottle(elsewhere))
            assert caught.value.code == "prediction.unauthorized"
            known = replace(bottle.settings, model_storage_token="secret", model_storage_url=running.url)
            assert open_classifier(url, Bottle(known)).group == GROUP


@pytest.fixture(scope="module")
def mislabelled(exported: ExportedBottle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """The model of top_color where that of hat should be: nothing that an upload lets through, but a copied folder."""
    root = tmp_path_factory.mktemp("mislabelled") / "storage"
    with running_storage(root) as running:
        running.upload(exported.package / "model_onnx.zip", GROUP, "0.0.1").raise_for_status()
    models = root / "model_repository"
    shutil.copytree(models / GROUP, models / "hat")
    config = models / "hat" / "config.pbtxt"
    config.write_text(config.read_text().replace(f'name: "{GROUP}"', 'name: "hat"'))
    with running_storage(root) as running:
        yield running


def test_a_served_model_of_another_group_is_refused(exported: ExportedBottle, mislabelled: Service) -> None:
    """Found by the group's name; its whole address, which the hint gives, opens it for any photos."""
    for url in (mislabelled.infer_url, f"grpc://{mislabelled.infer_grpc_url}"):
        for is_group_of_photos in (False, True):
            with pytest.raises(PredictionError) as caught:
                open_classifier(url, exported.bottle, group="hat", is_group_of_photos=is_group_of_photos)
            assert caught.value.code == "prediction.wrong_group"
            said = str(caught.value)
            assert f"'hat' is of group '{GROUP}'," in caught.value.what
            whole = said.rpartition(", ")[2]
            assert open_classifier(whole, exported.bottle, group="hat", is_group_of_photos=True).group == GROUP
    for url in urls_of(mislabelled, "hat"):
        with pytest.raises(PredictionError) as caught:
            open_classifier(url, exported.bottle, group="hat")
        assert caught.value.code == "prediction.wrong_group"


def test_a_served_model_under_another_name_is_told_of(
    exported: ExportedBottle, mislabelled: Service, caplog: pytest.LogCaptureFixture
) -> None:
    for url in urls_of(mislabelled, "hat"):
        caplog.clear()
        assert open_classifier(url, exported.bottle).group == GROUP
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert record.getMessage() == (
            f"the model served as 'hat' is of group '{GROUP}', whose model would be '{GROUP}'"
        )
        caplog.clear()
        open_classifier(url, exported.bottle, group="accessories", is_group_of_photos=True)
        (record,) = caplog.records
        assert "looks at the photos of group 'accessories'" in record.getMessage()
    caplog.clear()
    for url in urls_of(mislabelled):
        open_classifier(url, exported.bottle, group=GROUP)
    assert not caplog.records


def test_a_server_that_is_something_else(exported: ExportedBottle, service: Service) -> None:
    for url in (f"{service.url}/v2/models/{GROUP}", f"grpc://{service.url.removeprefix('http://')}/{GROUP}"):
        with pytest.raises(PredictionError) as caught:
            open_classifier(url, exported.bottle)
        expected = "prediction.unreachable" if url.startswith("grpc") else "prediction.invalid_response"
        assert caught.value.code == expected
        assert "\n" not in caught.value.line()


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"", "prediction.invalid_response"),
        (b"garbage\r\n\r\n", "prediction.invalid_response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}", "prediction.invalid_response"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]", "package.invalid_config"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[x", "prediction.invalid_response"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno", "prediction.invalid_response"),
    ],
)
def test_nonsense_is_one_line(exported: ExportedBottle, answer: bytes, code: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            # The client asks again when it was hung up on.
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(9999)
                    connection.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/v2/models/hair"
        with pytest.raises((PredictionError, PackageError)) as caught:
            open_classifier(url, exported.bottle)
        assert caught.value.code == code
        assert "\n" not in caught.value.line()


@pytest.mark.parametrize(
    ("url", "base", "model", "version"),
    [
        ("http://host:8100/v2/models/hair%20color/versions/3", "host:8100", "hair color", "3"),
        ("https://host/triton/v2/models/hat", "host/triton", "hat", ""),
        ("grpc://host:8101/hair%20color/3", "host:8101", "hair color", "3"),
        ("grpcs://host:8101/hat", "host:8101", "hat", ""),
    ],
)
def test_addresses(url: str, base: str, model: str, version: str) -> None:
    address = parse_address(url)
    assert (address.base, address.model, address.version) == (base, model, version)
    assert address.is_tls == url.split(":")[0].endswith("s")
    assert address.is_grpc == url.startswith("grpc")
    assert address.url == url


def test_addresses_without_a_name_are_of_the_group() -> None:
    assert parse_address("https://host/triton/v2/models/hat/infer").base == "host/triton"
    for url in ("http://host:8100/", "grpcs://host:8101"):
        assert parse_address(url, "hat / cap").model == model_name_of_group("hat / cap")
        with pytest.raises(PredictionError) as caught:
            parse_address(url)
        assert caught.value.code == "prediction.no_model_name"


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("grpc://host/x", "prediction.invalid_address"),
        ("grpc://host:x/y", "prediction.invalid_address"),
        ("grpc://host:1/a/b", "prediction.invalid_address"),
        ("ftp://host:8101/x", "prediction.invalid_address"),
        ("http:///v2/models/x", "prediction.invalid_address"),
        ("http://host/v2/modells/x", "prediction.no_model_name"),
    ],
)
def test_what_is_no_address(url: str, code: str) -> None:
    with pytest.raises(PredictionError) as caught:
        parse_address(url)
    assert (caught.value.code, caught.value.where) == (code, url)
