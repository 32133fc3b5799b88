"""The same decisions through a served model as in this process: the storage's own engine, in a process of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from cls.classification.inference import COMMAND
from cls.command import execute
from cls.errors import PackageError, PredictionError
from cls.package.model_name import model_name_of_group
from cls.people.photos import read_photo
from cls.prediction.opening import open_classifier
from cls.prediction.people_of_photos import whole_photo
from cls.prediction.served import parse_address
from tests.bottles import GROUP
from tests.export.runs import ExportedBottle
from tests.model_storage.services import Service, running_storage


@pytest.fixture(scope="module")
def service(exported: ExportedBottle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_storage(tmp_path_factory.mktemp("served") / "storage") as running:
        response = running.upload(exported.package / "model_onnx.zip", GROUP, "0.0.1")
        assert response.json() == {"version": "0.0.1"}
        yield running


def test_probabilities_are_the_same(exported: ExportedBottle, service: Service) -> None:
    served = open_classifier(f"{service.infer_url}/v2/models/{GROUP}", exported.bottle)
    local = open_classifier(str(exported.package), exported.bottle)
    assert (served.labels, served.thresholds) == (local.labels, local.thresholds)
    assert served.preprocessing == local.preprocessing
    images = [read_photo(path) for path in sorted(exported.bottle.pictures.iterdir())[:20]]
    crops = np.stack([local.preprocessing.cut(image, whole_photo(image)) for image in images] * 5)
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
        ["--served"],
    ):
        assert execute(COMMAND, ["--group", GROUP, "--cfg", str(copied.cfg), "--quiet", *options]) == 0
        tables.append((copied.bottle.inference(GROUP) / "predictions.jsonl").read_text())
    assert "Open Inference Protocol server 127.0.0.1" in capsys.readouterr().out
    labels = [[line.split('"labels"')[1] for line in table.splitlines()] for table in tables]
    assert labels[0] == labels[1] == labels[2] == labels[3] == labels[4]


def test_a_model_that_is_not_served(exported: ExportedBottle, service: Service) -> None:
    with pytest.raises(PredictionError, match="the inference server refuses: "):
        open_classifier(f"{service.infer_url}/v2/models/nothing", exported.bottle)


def test_a_server_that_is_something_else(exported: ExportedBottle, service: Service) -> None:
    with pytest.raises(PredictionError):
        open_classifier(f"{service.url}/v2/models/{GROUP}", exported.bottle)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[x",
        b"HTTP/1.1 500 No\r\nContent-Length: 2\r\n\r\nno",
    ],
)
def test_nonsense_is_one_line(exported: ExportedBottle, answer: bytes) -> None:
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
        with pytest.raises((PredictionError, PackageError), match=r"answers|refuses|is not") as caught:
            open_classifier(url, exported.bottle)
        assert "\n" not in caught.value.line()


def test_addresses() -> None:
    address = parse_address("http://host:8100/v2/models/hair%20color/versions/3")
    assert (address.base, address.model, address.version) == ("host:8100", "hair color", "3")
    assert address.url == "http://host:8100/v2/models/hair%20color/versions/3"
    assert parse_address("https://host/triton/v2/models/hat/infer").base == "host/triton"
    assert parse_address("http://host:8100/", "hat / cap").model == model_name_of_group("hat / cap")
    for url in ("http://host:8100", "http:///v2/models/x", "http://host/v2/modells/x"):
        with pytest.raises(PredictionError):
            parse_address(url)
