"""A plan for another machine than Triton's never reaches Triton: refused at the upload, and where it lies already."""

from __future__ import annotations

from pathlib import Path

import pytest

from cls.files import sha256_of_file
from cls.model_storage.config import ServiceOptions
from cls.model_storage.inference.engine import ModelState
from cls.model_storage.names import RefusedError
from cls.model_storage.repository import ModelRepository
from cls.model_storage.service import plan_host_of
from cls.model_storage.storage import ModelStorage
from cls.package.plans import Gpu, PlanHost
from tests.package.test_plans import with_nvidia_smi
from tests.package.zips import changed, onnx_bytes, onnx_zip, plan_zip

L4 = PlanHost((Gpu("", "8.9"),), "10.13.3", "Triton's machine (as --gpu says)")
H100 = PlanHost((Gpu("", "9.0"),), "", "Triton's machine (as --gpu says)")


class LoadedByName:
    """Stands in for a Triton with a GPU, which is not here: loads whatever it is told to."""

    description = "a server for tests"

    def __init__(self) -> None:
        self.loads: list[str] = []

    def load(self, model: str) -> None:
        self.loads.append(model)

    def unload(self, model: str) -> None:
        """Nothing to do."""

    def index(self) -> list[ModelState]:
        return []

    def close(self) -> None:
        """Nothing to do."""


def storage_for(root: Path, host: PlanHost | None) -> ModelStorage:
    return ModelStorage(ModelRepository(root), LoadedByName(), host)


def publish(storage: ModelStorage, zip_path: Path, version: str = "0.0.1") -> None:
    stage = storage.repository.new_stage()
    staged = stage / "upload.zip"
    staged.write_bytes(zip_path.read_bytes())
    try:
        storage.publish(staged, sha256_of_file(staged), "hair_color", version)
    finally:
        storage.repository.drop_stage(stage)


def test_a_plan_for_tritons_machine_is_published(tmp_path: Path) -> None:
    storage = storage_for(tmp_path, L4)
    publish(storage, plan_zip(tmp_path, people=2))
    assert storage.engine.loads == ["hair_color"]  # type: ignore[attr-defined]
    rebuild = tmp_path / "model_repository" / "hair_color" / "1" / "rebuild"
    assert [path.name for path in rebuild.iterdir()] == ["model.onnx"]  # the people stay in the zip


@pytest.mark.parametrize(
    ("host", "code", "values"),
    [
        (H100, "package.other_gpu", ["NVIDIA L4 (compute capability 8.9)", "Triton's machine", "a GPU (9.0)"]),
        (
            PlanHost((), "10.3.0", "Triton's machine"),
            "package.other_tensorrt",
            ["TensorRT 10.13.3.9,", "Triton's machine", "TensorRT 10.3.0"],
        ),
    ],
)
def test_a_plan_for_another_machine_is_refused_before_it_is_served(
    tmp_path: Path, host: PlanHost, code: str, values: list[str]
) -> None:
    storage = storage_for(tmp_path, host)
    with pytest.raises(RefusedError) as caught:
        publish(storage, plan_zip(tmp_path))
    assert (caught.value.status, caught.value.codes) == (422, ("storage.problems_found", code))
    assert all(value in caught.value.what for value in values)
    assert "cls package rebuild" in caught.value.line()
    assert storage.repository.models() == []
    assert storage.engine.loads == []  # type: ignore[attr-defined]


def test_one_that_lies_there_already_is_not_loaded(tmp_path: Path) -> None:
    """Published for one GPU; the machine got another."""
    publish(storage_for(tmp_path, None), plan_zip(tmp_path))
    publish(storage_for(tmp_path, None), onnx_zip(tmp_path), "0.0.2")
    later = storage_for(tmp_path, H100)
    with pytest.raises(RefusedError) as caught:
        later.serve_number("hair_color", 1)
    assert caught.value.code == "storage.incompatible_plan"
    assert "NVIDIA L4" in caught.value.what
    assert later.served_number("hair_color") == 2
    assert later.engine.loads == ["hair_color"]  # type: ignore[attr-defined] # what was served, again
    storage_for(tmp_path, L4).serve_number("hair_color", 1)
    with pytest.raises(RefusedError) as caught:
        later.load("hair_color")
    assert caught.value.code == "storage.incompatible_plan"
    assert "NVIDIA L4" in caught.value.what
    assert "hair_color is not served: the plan was built for a NVIDIA L4" in later.load_missing()[0]


def test_what_is_known_of_tritons_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def host(triton_url: str, gpu: str = "", tensorrt: str = "") -> PlanHost | None:
        return plan_host_of(ServiceOptions(triton_url=triton_url, gpu=gpu, tensorrt=tensorrt))

    with_nvidia_smi(tmp_path, monkeypatch, "NVIDIA L4, 8.9\n")
    assert host("") is None
    here = host("http://localhost:8000")
    assert here is not None
    assert here.gpus == (Gpu("NVIDIA L4", "8.9"),)
    elsewhere = host("http://triton:8000", tensorrt="10.13.3")
    assert elsewhere is not None
    assert (elsewhere.gpus, elsewhere.tensorrt_version) == ((), "10.13.3")
    named = host("http://triton:8000", "9.0")
    assert named is not None
    assert named.gpus == (Gpu("", "9.0"),)


def test_other_faults_of_a_package_are_refused_too(tmp_path: Path) -> None:
    storage = storage_for(tmp_path, None)
    tampered = changed(onnx_zip(tmp_path), "model.onnx", lambda _: onnx_bytes(tmp_path, 2))
    with pytest.raises(RefusedError) as caught:
        publish(storage, tampered)
    assert caught.value.code == "storage.problems_found"
    assert "model.onnx " in caught.value.what
    assert storage.repository.models() == []
