"""Uploads over real HTTP: good ones are served at once, bad ones change nothing."""

from __future__ import annotations

import json
import stat
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import httpx
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cls.package.triton_config import parse_config
from tests.model_storage.packages import (
    LABELS,
    expected_logits,
    make_onnx,
    make_package,
    of_group,
    pack,
    pack_folder,
    random_images,
)
from tests.model_storage.services import Service, detail, refusal, tree

OLDER_CONFIG = """
platform: "onnxruntime_onnx"
max_batch_size: 8
input [{ name: "images" data_type: TYPE_FP32 dims: [3, 64, 48] }]
output [{ name: "logits" data_type: TYPE_FP32 dims: [3] }]
"""


def infer(service: Service, model: str, seed: int) -> float:
    """How far the served model's answer is from the model of a seed."""
    import tritonclient.http as triton

    images = random_images(2)
    tensor = triton.InferInput("images", list(images.shape), "FP32")
    tensor.set_data_from_numpy(images)
    with triton.InferenceServerClient(service.infer_url.removeprefix("http://")) as client:
        logits = client.infer(model, [tensor]).as_numpy("logits")
    return float(np.abs(logits - expected_logits(images, seed)).max())


def test_versions_are_stored_served_and_chosen(service: Service, packages: dict[int, Path]) -> None:
    model = "hair_color"
    for seed, version in ((1, "0.0.2"), (2, "0.0.10"), (3, "0.0.9")):
        response = service.upload(packages[seed], model, version)
        assert (response.status_code, response.json()) == (200, {"version": version})
        assert infer(service, model, seed) < 1e-5
        assert service.get(f"/get_meta/{model}")["model_version"] == version
    assert service.get(f"/get_meta/{model}?semantic_version=0.0.2")["model_version"] == "0.0.2"
    assert service.get(f"/latest_semantic_version/{model}") == {"latest_version": "0.0.10"}
    assert service.get(f"/get_version/{model}") == {"version": "3"}
    chosen = httpx.post(f"{service.url}/set_semantic_version/?model_name={model}&semantic_version=0.0.2")
    assert chosen.json() == {"version": "1"}
    assert infer(service, model, 1) < 1e-5
    assert httpx.post(f"{service.url}/set_version/{model}?version=2").json() == {"version": "2"}
    assert infer(service, model, 2) < 1e-5
    folder = service.root / "model_repository" / model
    assert {path.name for path in (folder / "2").iterdir()} == {
        "model.onnx",
        "meta.json",
        "config.pbtxt",
        "upload.json",
    }
    config = parse_config((folder / "config.pbtxt").read_text())
    assert (config.name, config.version_numbers, config.max_batch_size) == (model, (2,), 64)
    assert json.loads((folder / "2" / "meta.json").read_text())["model_version"] == "0.0.10"
    assert config.meta().model_version == "0.0.10"
    entry = next(item for item in service.get("/index/") if item["name"] == model)
    assert entry == {"name": model, "version": "2", "state": "READY"}


def test_an_existing_version_stays_as_it_is(service: Service, packages: dict[int, Path]) -> None:
    assert service.upload(of_group(packages[1], "hat"), "hat", "1.0.0").status_code == 200
    before = tree(service.root)
    response = service.upload(of_group(packages[2], "hat"), "hat", "1.0.0")
    assert refusal(response) == (409, "storage.version_taken")
    assert "version 1.0.0 of hat (group 'hat')" in detail(response)
    assert "1.0.1" in detail(response)
    assert tree(service.root) == before
    assert infer(service, "hat", 1) < 1e-5


def test_a_package_of_another_group_than_the_model_is_refused(service: Service, packages: dict[int, Path]) -> None:
    service.upload(of_group(packages[1], "hat"), "hat", "1.0.0")
    sent = of_group(packages[2], "top_color")
    before = tree(service.root)
    response = service.upload(sent, "hat", "3.0.0")
    assert refusal(response) == (422, "storage.wrong_group")
    assert all(value in detail(response) for value in ("'top_color'", "model 'hat'", "group 'hat'"))
    with sent.open("rb") as stream:
        older = httpx.post(f"{service.url}/upload_model", data={"model_name": "hat"}, files={"file": stream})
    assert (refusal(older), detail(older)) == (refusal(response), detail(response))
    assert tree(service.root) == before
    assert not list((service.root / ".incoming").iterdir())


def test_a_model_may_be_called_anything(service: Service, packages: dict[int, Path]) -> None:
    """The small one of a group beside the exact one; from then on it is of that group."""
    for version in ("0.0.1", "0.0.2"):
        answer = service.upload(of_group(packages[1], "accessories"), "accessories_small", version)
        assert (answer.status_code, answer.json()) == (200, {"version": version})
    assert infer(service, "accessories_small", 1) < 1e-5
    refused = service.upload(of_group(packages[2], "top_color"), "accessories_small", "0.0.3")
    assert refusal(refused) == (422, "storage.wrong_group")
    assert "'accessories_small'" in detail(refused)
    assert "'accessories'" in detail(refused)


def test_the_group_a_model_is_named_after_takes_it_back(service: Service, packages: dict[int, Path]) -> None:
    """Somebody else's package came first under its name: that is told, and never served again."""
    strange, own = of_group(packages[1], "top_color"), of_group(packages[2], "coat")
    assert service.upload(strange, "coat", "0.0.1").status_code == 200
    assert "coat is a new model of group 'top_color', under a name that is not the group's" in service.log.read_text()
    taken = service.upload(own, "coat", "0.0.1")
    assert refusal(taken) == (409, "storage.version_taken")
    assert all(value in detail(taken) for value in ("version 0.0.1 of coat", "'top_color'", "0.0.2"))
    assert f"POST /upload_new_version/ refused with 409: {detail(taken)}" in service.log.read_text()
    assert service.upload(own, "coat", "0.0.2").status_code == 200
    assert "coat held versions of group 'top_color', which are not served any more" in service.log.read_text()
    back = httpx.post(f"{service.url}/set_semantic_version/?model_name=coat&semantic_version=0.0.1")
    assert refusal(back) == (422, "storage.wrong_group")
    assert all(value in detail(back) for value in (" 1 of coat ", "'top_color'", "'coat'"))
    assert httpx.post(f"{service.url}/set_version/coat?version=1").status_code == 422
    assert service.upload(strange, "coat", "0.0.3").status_code == 422
    assert infer(service, "coat", 2) < 1e-5
    assert service.get("/get_version/coat") == {"version": "2"}


def test_what_older_tools_wrote_is_taken_under_any_name(
    service: Service, packages: dict[int, Path], tmp_path: Path
) -> None:
    """Their models were named as somebody liked, and their meta.json keeps no schema."""
    meta = json.dumps({"group": ["top color"], "labels": list(LABELS)}).encode()
    with zipfile.ZipFile(packages[1]) as source, zipfile.ZipFile(tmp_path / "older.zip", "w") as target:
        for entry in ("model.onnx", "meta.json"):
            target.writestr(entry, meta if entry == "meta.json" else source.read(entry))
        target.writestr("config.pbtxt", OLDER_CONFIG)
    with (tmp_path / "older.zip").open("rb") as stream:
        answer = httpx.post(f"{service.url}/upload_model", data={"model_name": "tops"}, files={"file": stream})
    assert answer.json() == {"version": "1"}


def test_any_group_can_be_published_by_its_name(service: Service, packages: dict[int, Path]) -> None:
    for group, model in (("top color", "top~20color"), ("шляпа", "~D1~88~D0~BB~D1~8F~D0~BF~D0~B0")):
        assert service.upload(of_group(packages[1], group), group, "0.0.1").json() == {"version": "0.0.1"}
        assert service.get(f"/latest_semantic_version/{group}") == {"latest_version": "0.0.1"}
        assert service.get(f"/latest_semantic_version/{model}") == {"latest_version": "0.0.1"}
        assert infer(service, model, 1) < 1e-5


Make = Callable[[Path], Path]


def broken_zip(folder: Path) -> Path:
    whole = make_package(folder, group=folder.name).read_bytes()
    (folder / "cut.zip").write_bytes(whole[: len(whole) // 2])
    return folder / "cut.zip"


def no_zip(folder: Path) -> Path:
    (folder / "text.zip").write_text("not a zip")
    return folder / "text.zip"


def empty(folder: Path) -> Path:
    (folder / "empty.zip").write_bytes(b"")
    return folder / "empty.zip"


def with_entry(name: str, kind: int = stat.S_IFREG) -> Make:
    def make(folder: Path) -> Path:
        path = make_package(folder, group=folder.name)
        info = zipfile.ZipInfo(name)
        info.external_attr = (kind | 0o777) << 16
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(info, "/etc/passwd")
        return path

    return make


def without(name: str) -> Make:
    def make(folder: Path) -> Path:
        with (
            zipfile.ZipFile(make_package(folder, group=folder.name)) as source,
            zipfile.ZipFile(folder / "less.zip", "w") as target,
        ):
            for entry in source.namelist():
                if entry != name:
                    target.writestr(entry, source.read(entry))
        return folder / "less.zip"

    return make


def replacing(name: str, content: bytes) -> Make:
    def make(folder: Path) -> Path:
        with (
            zipfile.ZipFile(make_package(folder, group=folder.name)) as source,
            zipfile.ZipFile(folder / "other.zip", "w") as target,
        ):
            for entry in source.namelist():
                target.writestr(entry, content if entry == name else source.read(entry))
        return folder / "other.zip"

    return make


def bomb(folder: Path) -> Path:
    path = make_package(folder, group=folder.name)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros.bin", bytes(50 << 20))
    return path


def too_narrow(folder: Path) -> Path:
    make_onnx(folder / "model.onnx", 1, len(LABELS) - 1)
    return pack_folder(folder, folder / "narrow.zip", group=folder.name)


def other_size(folder: Path) -> Path:
    return pack_folder_with_size(folder)


def pack_folder_with_size(folder: Path) -> Path:
    from tests.package.metas import meta_dict

    preprocessing = {**meta_dict()["preprocessing"], "height_px": 32}
    make_onnx(folder / "model.onnx", 1)
    return pack_folder(
        folder,
        folder / "size.zip",
        group=folder.name,
        preprocessing=preprocessing,
        inputs=[{"name": "images", "datatype": "FP32", "shape": [-1, 3, 32, 48]}],
    )


def weights_elsewhere(folder: Path) -> Path:
    path = make_package(folder, group=folder.name)
    work = next(folder.glob("package-*"))
    model = onnx.load(work / "model.onnx")
    tensor = model.graph.initializer[1]
    tensor.data_location = TensorProto.EXTERNAL
    tensor.ClearField("raw_data")
    tensor.external_data.add(key="location", value="../../../ssh/host_key")
    onnx.save(model, work / "model.onnx")
    return pack(work, path, ["model.onnx", "meta.json", "config.pbtxt"])


def fails_when_run(folder: Path) -> Path:
    nodes = [
        helper.make_node("Reshape", ["images", "shape"], ["flat"]),
        helper.make_node("Identity", ["flat"], ["logits"]),
    ]
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [7, 13])
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 64, 48])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "width"])],
        [shape],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, folder / "model.onnx")
    return pack_folder(folder, folder / "fails.zip", group=folder.name)


@pytest.mark.parametrize(
    ("make", "value", "case", "fault"),
    [
        (broken_zip, "", "invalid_package", "not_a_zip"),
        (no_zip, "", "invalid_package", "not_a_zip"),
        (empty, "", "invalid_package", "not_a_zip"),
        (with_entry("../evil.txt"), "'../evil.txt'", "invalid_package", "path_traversal"),
        (with_entry("/etc/evil.txt"), "'/etc/evil.txt'", "invalid_package", "path_traversal"),
        (with_entry("a/../../evil.txt"), "'a/../../evil.txt'", "invalid_package", "path_traversal"),
        (with_entry("..\\evil.txt"), "evil.txt", "invalid_package", "path_traversal"),
        (with_entry("link", stat.S_IFLNK), "'link'", "invalid_package", "not_a_regular_file"),
        (with_entry("META.JSON"), "'META.JSON'", "invalid_package", "duplicate_name"),
        (bomb, "", "invalid_package", "too_large"),
        (without("meta.json"), " meta.json", "invalid_package", "missing_file"),
        (without("config.pbtxt"), " config.pbtxt", "invalid_package", "missing_file"),
        (without("model.onnx"), " model.onnx, model.plan", "invalid_package", "missing_file"),
        (replacing("meta.json", b"{"), "meta.json", "invalid_package", "not_json"),
        (replacing("meta.json", b"[]"), " a list,", "invalid_package", "invalid_meta"),
        (replacing("meta.json", b'{"group": "x"}'), "$: ", "invalid_package", "invalid_meta"),
        (replacing("config.pbtxt", b"platform: {"), "config.pbtxt", "invalid_package", "invalid_config"),
        (replacing("config.pbtxt", b'platform: "tensorrt_plan"'), "model.plan", "invalid_package", "config_mismatch"),
        (replacing("model.onnx", b"not a model"), "model.onnx", "invalid_model", None),
        (replacing("model.onnx", b""), "no graph", "invalid_model", None),
        (too_narrow, "3 labels", "wrong_output_shape", None),
        (other_size, "32x48 pixels", "model_run_failed", None),
        (weights_elsewhere, "model.onnx", "external_weights", None),
        (fails_when_run, "model.onnx", "model_run_failed", None),
    ],
)
def test_a_package_that_cannot_be_served_is_refused(
    service: Service, packages: dict[int, Path], tmp_path: Path, make: Make, value: str, case: str, fault: str | None
) -> None:
    assert service.upload(of_group(packages[1], "accessories"), "accessories", "0.0.1").status_code in (200, 409)
    before = tree(service.root)
    for model in ("accessories", "new_model"):
        folder = tmp_path / model
        folder.mkdir()
        response = service.upload(make(folder), model, "0.0.2")
        assert refusal(response) == (422, f"storage.{case}")
        assert value in detail(response)
        assert response.json().get("faults") == (None if fault is None else [f"package.{fault}"])
        assert str(service.root) not in detail(response)
    assert tree(service.root) == before
    assert not (service.root / "model_repository" / "new_model").exists()
    assert not list((service.root / ".incoming").iterdir())
    assert not list(service.root.rglob("evil*"))
    assert infer(service, "accessories", 1) < 1e-5


def test_a_plan_needs_a_triton(service: Service, tmp_path: Path) -> None:
    from cls.package.meta import write_meta
    from cls.package.triton_config import build_config
    from tests.package.metas import make_meta
    from tests.package.zips import plan_bytes

    (tmp_path / "model.plan").write_bytes(plan_bytes())
    write_meta(tmp_path / "meta.json", make_meta(group="plan"))
    (tmp_path / "config.pbtxt").write_text(build_config(make_meta(group="plan"), "tensorrt_plan"))
    path = pack(tmp_path, tmp_path / "model_trt.zip", ["model.plan", "meta.json", "config.pbtxt"])
    response = service.upload(path, "plan", "0.0.1")
    assert refusal(response) == (422, "storage.triton_required")
    assert "--triton URL" in detail(response)
    assert not (service.root / "model_repository" / "plan").exists()


@pytest.mark.parametrize(
    ("model", "version", "code", "value"),
    [
        ("../evil", "0.0.1", "storage.invalid_model_name", "'~2E.~2Fevil'"),
        ("a/b", "0.0.1", "storage.invalid_model_name", "'a/b'"),
        ("..", "0.0.1", "storage.invalid_model_name", "'..'"),
        ("hat", "1", "storage.invalid_version", "'1'"),
        ("hat", "v1.0.0", "storage.invalid_version", "'v1.0.0'"),
        ("hat", "", "storage.missing_field", "model_version"),
        ("", "0.0.1", "storage.missing_field", "model_name"),
    ],
)
def test_names_and_versions_that_cannot_be(
    service: Service, packages: dict[int, Path], model: str, version: str, code: str, value: str
) -> None:
    before = tree(service.root)
    response = service.upload(packages[1], model, version)
    assert refusal(response) == (422, code)
    assert value in detail(response)
    assert tree(service.root) == before


@pytest.mark.parametrize(
    ("content", "content_type", "code"),
    [
        (b"", "multipart/form-data", "storage.not_a_form"),
        (b"{}", "application/json", "storage.not_a_form"),
        (b"no form", "multipart/form-data; boundary=x", "storage.invalid_form"),
        (
            b'--x\r\nContent-Disposition: form-data; name="src_file"\r\n\r\nabc',
            "multipart/form-data; boundary=x",
            "storage.cut_short",
        ),
        (
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n',
            "multipart/form-data; boundary=x",
            "storage.missing_file",
        ),
    ],
)
def test_bodies_that_are_no_form(service: Service, content: bytes, content_type: str, code: str) -> None:
    response = httpx.post(f"{service.url}/upload_new_version/", content=content, headers={"content-type": content_type})
    assert refusal(response) == (422, code)
    assert detail(response)
    assert not list((service.root / ".incoming").iterdir())


def test_of_two_uploads_of_one_version_one_wins(service: Service, packages: dict[int, Path]) -> None:
    answers: list[int] = []
    sent = [of_group(packages[seed], "race") for seed in (1, 2, 3, 1)]
    threads = [
        threading.Thread(target=lambda one=one: answers.append(service.upload(one, "race", "0.0.1").status_code))
        for one in sent
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200, 409, 409, 409]
    assert {path.name for path in (service.root / "model_repository" / "race").iterdir()} == {"1", "config.pbtxt"}


def test_the_older_upload(service: Service, packages: dict[int, Path]) -> None:
    def upload(seed: int, **fields: str) -> httpx.Response:
        with of_group(packages[seed], "older").open("rb") as stream:
            data = {"model_name": "older", **fields}
            return httpx.post(f"{service.url}/upload_model", data=data, files={"file": stream}, timeout=60)

    assert upload(1).json() == {"version": "1"}
    assert upload(2, version="7").json() == {"version": "7"}
    assert infer(service, "older", 2) < 1e-5
    assert upload(3, version="7").status_code == 409
    assert upload(3, version="x").status_code == 422
    assert upload(3, version="0").status_code == 422
    assert upload(3).json() == {"version": "8"}
    assert httpx.get(f"{service.url}/latest_semantic_version/older").status_code == 404
    assert httpx.post(f"{service.url}/set_version/older?version=1").json() == {"version": "1"}
    assert infer(service, "older", 1) < 1e-5


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/get_meta/nope", 404),
        ("GET", "/get_meta/hair_color?semantic_version=9.9.9", 404),
        ("GET", "/get_meta/hair_color?semantic_version=newest", 422),
        ("GET", "/get_version/nope", 404),
        ("GET", "/latest_semantic_version/nope", 404),
        ("GET", "/versions/nope", 404),
        ("POST", "/load_model/nope", 404),
        ("POST", "/unload_model/nope", 404),
        ("POST", "/set_version/nope?version=1", 404),
        ("POST", "/set_version/hair_color?version=99", 404),
        ("POST", "/set_version/hair_color?version=..", 422),
        ("POST", "/set_version/hair_color", 422),
        ("POST", "/set_semantic_version/?model_name=hair_color&semantic_version=9.9.9", 404),
        ("POST", "/set_semantic_version/?model_name=hair_color", 422),
        ("POST", "/set_semantic_version/?model_name=..%2Fx&semantic_version=0.0.1", 422),
        ("GET", "/get_meta/..%2F..%2Fssh", 404),
        ("GET", "/nope", 404),
        ("GET", "/upload_new_version/", 405),
    ],
)
def test_refusals_are_json(service: Service, packages: dict[int, Path], method: str, path: str, status: int) -> None:
    service.upload(packages[1], "hair_color", "0.0.2")
    before = tree(service.root)
    response = httpx.request(method, service.url + path)
    assert response.status_code == status
    assert detail(response)
    assert tree(service.root) == before


def test_unload_and_load(service: Service, packages: dict[int, Path]) -> None:
    service.upload(of_group(packages[1], "there"), "there", "0.0.1")
    assert httpx.post(f"{service.url}/unload_model/there").json() == {"model": "there", "state": "UNAVAILABLE"}
    assert {"name": "there"} in service.get("/index/")
    assert httpx.post(f"{service.url}/load_model/there").json() == {"model": "there", "state": "READY"}
    assert infer(service, "there", 1) < 1e-5
