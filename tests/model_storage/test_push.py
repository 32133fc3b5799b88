"""`cls push` as its user runs it."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import httpx
import pytest

from cls.bottle.ledger import known_models
from cls.files import sha256_of_file
from cls.package.keys import make_key
from cls.package.signature import parse_signature
from cls.package.verifying import sign_package
from tests.model_storage.packages import of_group
from tests.model_storage.services import Service, push
from tests.package.zips import changed, onnx_zip


@pytest.fixture
def configuration(service: Service, packages: dict[int, Path], tmp_path: Path) -> Path:
    """A bottle with an exported model of two groups."""
    for folder in ("hair_color", "top color"):
        path = tmp_path / "data" / "inference_models" / folder / "inference_model" / "model_onnx.zip"
        path.parent.mkdir(parents=True)
        path.write_bytes(of_group(packages[1], folder).read_bytes())
    path = tmp_path / "configuration.yaml"
    path.write_text(f"data_path: 'data'\nmodel_storage_url: '{service.url}'\n")
    return path


def error_of(configuration: Path, *words: str, status: int = 1) -> str:
    done = push(configuration, *words)
    assert done.returncode == status
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def test_it_publishes_and_says_where_it_is_served(service: Service, configuration: Path) -> None:
    done = push(configuration, "--group", "hair_color", "--version", "0.0.1")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "hair_color 0.0.1 is published as version 1 of model hair_color",
        f"served at {service.infer_url}/v2/models/hair_color",
    ]
    assert httpx.get(f"{service.infer_url}/v2/models/hair_color/ready").status_code == 200
    assert " 0.0.2" in error_of(configuration, "--group", "hair_color", "--version", "0.0.1")
    (known,) = known_models(configuration.parent / "data")
    assert (known.group, known.version, known.has_predicted) == ("hair_color", "0.0.1", False)
    assert known.run == httpx.get(f"{service.url}/get_meta/hair_color").json()["training"]["run"]


def test_a_package_of_another_group_is_not_published(service: Service, configuration: Path) -> None:
    folder = configuration.parent / "data" / "inference_models"
    shutil.copytree(folder / "top color", folder / "accessories")
    done = push(configuration, "--group", "accessories", "--version", "0.0.1", "--debug")
    assert (done.returncode, done.stdout) == (1, "")
    line = done.stderr.splitlines()[-1]
    assert line.endswith("[storage.wrong_group]")
    assert all(value in line for value in ("'top color'", "'accessories'", "cls export --group accessories"))
    assert not (service.root / "model_repository" / "accessories").exists()
    assert "accessories" not in [known.group for known in known_models(configuration.parent / "data")]


def test_any_groups_name(service: Service, configuration: Path) -> None:
    done = push(configuration, "--group", "top color", "--version", "0.0.1")
    assert done.returncode == 0, done.stderr
    url = done.stdout.splitlines()[1].removeprefix("served at ")
    assert url == f"{service.infer_url}/v2/models/top~20color"
    assert httpx.get(f"{url}/ready").status_code == 200


def test_a_rebuilt_package(service: Service, configuration: Path) -> None:
    command = ("--group", "hair_color", "--version", "0.7.1", "--format", "onnx_fp16_rebuilt")
    assert "cls package rebuild model_onnx.zip --format onnx_fp16;" in error_of(configuration, *command)
    folder = configuration.parent / "data" / "inference_models" / "hair_color" / "inference_model"
    shutil.copy(folder / "model_onnx.zip", folder / "model_onnx_fp16_rebuilt.zip")
    done = push(configuration, *command)
    assert (done.returncode, done.stderr) == (0, "")
    assert service.get("/latest_semantic_version/hair_color") == {"latest_version": "0.7.1"}


def test_people_in_a_package_are_named_and_not_kept(service: Service, configuration: Path) -> None:
    folder = configuration.parent / "data" / "inference_models" / "hat" / "inference_model"
    folder.mkdir(parents=True)
    onnx_zip(folder, people=3, group="hat")
    done = push(configuration, "--group", "hat", "--version", "0.0.1")
    assert done.returncode == 0, done.stderr
    (warning,) = done.stderr.splitlines()
    assert "model_onnx.zip" in warning
    assert "3 people" in warning
    version = service.root / "model_repository" / "hat" / "1"
    assert {path.name for path in version.iterdir()} == {"model.onnx", "meta.json", "config.pbtxt", "upload.json"}
    assert not [path for path in service.root.rglob("*") if path.suffix in (".npz", ".zip")]


def test_a_signature_travels_into_the_repository(service: Service, configuration: Path, tmp_path: Path) -> None:
    folder = configuration.parent / "data" / "inference_models" / "top_color" / "inference_model"
    folder.mkdir(parents=True)
    package = onnx_zip(folder, group="top_color", people=2)
    sign_package(package, make_key(tmp_path / "team.key"))
    with zipfile.ZipFile(package) as archive:
        signature = archive.read("signature.json")
    done = push(configuration, "--group", "top_color", "--version", "0.0.1")
    assert done.returncode == 0, done.stderr
    version = service.root / "model_repository" / "top_color" / "1"
    assert (version / "signature.json").read_bytes() == signature
    # The model is as it was signed; meta.json and config.pbtxt have the version in them now.
    signed = parse_signature(signature, "x").manifest.files
    assert sha256_of_file(version / "model.onnx") == signed["model.onnx"].sha256
    assert sha256_of_file(version / "meta.json") != signed["meta.json"].sha256
    # A package that is not as it was signed is not published, whoever signed it.
    path = changed(package, "meta.json", lambda text: text.replace(b"0.1.0", b"0.1.1"))
    path = changed(path, "config.pbtxt", lambda text: text.replace(b"0.1.0", b"0.1.1"))
    response = service.upload(path, "top_color", "0.0.2")
    assert response.status_code == 422
    assert response.json()["faults"] == ["package.changed", "package.changed"]
    assert all(name in response.json()["detail"] for name in ("meta.json", "config.pbtxt"))


def test_a_version_is_removed_with_its_folder(service: Service, packages: dict[int, Path]) -> None:
    for seed, semantic in ((1, "0.0.1"), (2, "0.0.2")):
        assert service.upload(of_group(packages[seed], "shoes"), "shoes", semantic).status_code == 200
    shutil.rmtree(service.root / "model_repository" / "shoes" / "1")
    assert [item["semantic_version"] for item in service.get("/versions/shoes")["versions"]] == ["0.0.2"]
    gone = httpx.post(f"{service.url}/set_semantic_version/?model_name=shoes&semantic_version=0.0.1")
    assert gone.status_code == 404
    assert httpx.get(f"{service.infer_url}/v2/models/shoes/versions/2/ready").status_code == 200


def test_what_can_go_wrong(service: Service, configuration: Path) -> None:
    assert "cls export --group hat" in error_of(configuration, "--group", "hat", "--version", "0.0.1")
    words = error_of(configuration, "--group", "hair_color", "--version", "0.0.1", "--format", "trt")
    assert "cls export --group hair_color --formats onnx,trt;" in words
    assert words.rstrip().endswith("; there is: onnx")
    words = error_of(configuration, "--group", "hair_color", "--version", "1", "--format", "xml", status=2)
    assert "--version: expected a semantic version such as 0.0.1, found '1'; --format: " in words
    text = configuration.read_text()
    configuration.write_text(text.replace(service.url, "http://127.0.0.1:9"))
    assert "cls storage serve" in error_of(configuration, "--group", "hair_color", "--version", "0.0.9")
    configuration.write_text(text.replace(service.url, service.infer_url))
    assert "check model_storage_url" in error_of(configuration, "--group", "hair_color", "--version", "0.0.9")
