"""What a verification enters: problems, warnings, what was checked, and what could not be."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from cls.errors import PackageError, PackageFault
from cls.files import sha256_of_bytes
from cls.package.meta import ModelMeta
from cls.package.packing import REBUILD_ONNX, PackedModel, write_package
from cls.package.plans import Gpu, PlanHost
from cls.package.triton_config import build_config, with_meta, with_name, with_versions
from cls.package.verifying import Verification, refuse_foreign_files, verify_zip
from tests.model_storage.packages import make_package
from tests.package.metas import make_meta, meta_dict
from tests.package.zips import changed, onnx_bytes, onnx_zip, plan_zip


def test_one_check() -> None:
    found = Verification(Path("a.zip"))
    found.raise_if_bad()
    found.take("good", [])
    found.take("bad", [PackageFault("one", code="x"), PackageFault("two", code="y")])
    assert (found.checked, found.problems) == (["good"], ["one", "two"])
    assert found.meta is None
    with pytest.raises(PackageError) as caught:
        found.raise_if_bad()
    assert caught.value.code == "package.invalid"
    assert (caught.value.where, caught.value.what) == ("a.zip", "one; two")
    assert caught.value.codes == ("package.invalid", "package.x", "package.y")


def test_what_is_checked(tmp_path: Path) -> None:
    assert verify_zip(onnx_zip(tmp_path, people=2)).checked == [
        "every file unpacks",
        "the files a package needs",
        "meta.json: schema version 3, 3 labels for 3 outputs, a threshold for each",
        "config.pbtxt agrees with meta.json",
        "digests of 2 files",
        "model.onnx: one file; inputs, outputs and the metadata inside agree with meta.json",
    ]
    plan = verify_zip(plan_zip(tmp_path)).checked
    assert plan[-2] == f"{REBUILD_ONNX}: one file; inputs, outputs and the metadata inside agree with meta.json"
    assert plan[-1] == "model.plan: a plan, for what meta.json says"


def test_a_storage_may_change_what_is_its_own(tmp_path: Path) -> None:
    path = onnx_zip(tmp_path)
    for edit in (lambda text: with_name(text, "hair"), lambda text: with_versions(text, (3,))):
        again = changed(path, "config.pbtxt", lambda content, edit=edit: edit(content.decode()).encode())
        assert verify_zip(again).problems == []


def test_configs_of_older_tools_may_leave_tensors_and_meta_out(tmp_path: Path) -> None:
    path = make_package(tmp_path)
    for text in ('platform: "onnxruntime_onnx"', build_config(make_meta())):
        again = changed(path, "config.pbtxt", lambda _, text=text: text.encode())
        assert verify_zip(again).problems == []
    other = make_meta(group="hat")
    again = changed(path, "config.pbtxt", lambda content: with_meta(content.decode(), other.to_json()).encode())
    (problem,) = verify_zip(again).problems
    assert problem.code == "package.config_meta_mismatch"
    assert "'hat', run v__0_train_eff_4_0.001;" in problem
    assert problem.endswith(" group")
    only_output = b'output { name: "logits" data_type: TYPE_FP32 dims: [-1, 4] }'
    (problem,) = verify_zip(changed(path, "config.pbtxt", lambda _: only_output)).problems
    assert problem.code == "package.config_tensor_mismatch"
    assert " outputs logits FP32 [-1, 4], " in problem
    assert problem.endswith(" logits FP32 [-1, 3]")


def test_digests_of_schema_version_1(tmp_path: Path) -> None:
    files = {"model.onnx": "e" * 64, "model.plan": "f" * 64, "model.onnx.md": "f" * 64}
    path = make_package(tmp_path, digests={**meta_dict()["digests"], "files": files})
    found = verify_zip(path)
    assert found.not_checked == []
    assert len(found.problems) == 1
    assert found.problems[0].code == "package.digest_mismatch"
    assert found.problems[0].endswith(" eeeeeeeeeeee…")
    none = make_package(tmp_path, name="b.zip", digests={**meta_dict()["digests"], "files": {"model.plan": "f" * 64}})
    assert len(verify_zip(none).not_checked) == 1


def test_a_file_that_is_damaged_is_no_other_file(tmp_path: Path) -> None:
    path = onnx_zip(tmp_path)
    content = bytearray(path.read_bytes())
    place = content.index(b"model.onnx") + len("model.onnx") + 40
    content[place : place + 8] = bytes(8)
    path.write_bytes(content)
    found = verify_zip(path)
    assert [problem for problem in found.problems if "model.onnx" in problem] == found.problems
    assert len(found.problems) == 1
    assert found.problems[0].code == "package.damaged"
    assert "every file unpacks" not in found.checked


def test_openvino_needs_its_weights(tmp_path: Path) -> None:
    files: dict[str, Path | bytes] = {"model.xml": b"<net/>", "model.bin": b"weights"}
    write_package(tmp_path / "a.zip", make_meta(), PackedModel("openvino", "openvino", files))
    assert verify_zip(tmp_path / "a.zip").problems == []
    del files["model.bin"]
    write_package(tmp_path / "b.zip", make_meta(), PackedModel("openvino", "openvino", files))
    (problem,) = verify_zip(tmp_path / "b.zip").problems
    assert problem.code == "package.missing_weights"
    assert "model.bin" in problem


def test_a_plan_on_what_is_known_of_a_machine(tmp_path: Path) -> None:
    path = plan_zip(tmp_path)
    assert verify_zip(path, None).not_checked == []
    assert verify_zip(path, PlanHost(place="there")).not_checked == [
        "model.plan's GPU: there has none that is known",
        "model.plan's TensorRT: there has none that is known",
    ]
    assert len(verify_zip(path, PlanHost((Gpu("", "8.9"),))).not_checked) == 1
    assert len(verify_zip(path, PlanHost((), "10.13")).not_checked) == 1
    found = verify_zip(path, PlanHost((Gpu("x", "7.5"),), "9.0"))
    assert len(found.problems) == 2
    assert "model.plan: a plan, for what meta.json says" not in found.checked
    nameless = plan_zip(tmp_path, plan=None)
    assert verify_zip(nameless).not_checked == ["model.plan's GPU: its meta.json does not name it"]


def packaged(folder: Path) -> ModelMeta:
    own = write_package(
        folder / "a.zip", make_meta(), PackedModel("onnx", "onnxruntime_onnx", {"model.onnx": onnx_bytes(folder)})
    )
    (folder / "model.onnx").write_bytes(onnx_bytes(folder))
    return own


def test_a_model_beside_its_own_meta_json(tmp_path: Path) -> None:
    own = packaged(tmp_path)
    refuse_foreign_files(tmp_path / "model.onnx", own)
    refuse_foreign_files(tmp_path / "model.onnx", make_meta())
    for meta in (own, make_meta(digests={**meta_dict()["digests"], "files": {"model.onnx": "e" * 64}})):
        (tmp_path / "model.onnx").write_bytes(onnx_bytes(tmp_path, 2))
        with pytest.raises(PackageError) as caught:
            refuse_foreign_files(tmp_path / "model.onnx", meta)
        assert caught.value.code == "package.digest_mismatch"
        assert set(caught.value.codes) == {"package.digest_mismatch"}
        assert "model.onnx" in caught.value.what
        assert caught.value.line().startswith(f"{tmp_path / 'model.onnx'}: ")
    other = make_meta(("a", "b", "c"))
    with pytest.raises(PackageError) as caught:
        refuse_foreign_files(tmp_path / "model.onnx", other)
    assert caught.value.code == "package.other_model"


def test_weights_beside_an_xml(tmp_path: Path) -> None:
    for name in ("model.xml", "model.bin"):
        (tmp_path / name).write_bytes(name.encode())
    digests = {name: sha256_of_bytes(name.encode()) for name in ("model.xml", "model.bin")}
    assert digests["model.xml"] == hashlib.sha256(b"model.xml").hexdigest()

    def meta(**changes: str) -> ModelMeta:
        return make_meta(digests={**meta_dict()["digests"], "files": {**digests, **changes}})

    refuse_foreign_files(tmp_path / "model.xml", meta())
    for name in digests:
        with pytest.raises(PackageError) as caught:
            refuse_foreign_files(tmp_path / "model.xml", meta(**{name: "e" * 64}))
        assert caught.value.code == "package.digest_mismatch"
        assert name in caught.value.what
    (tmp_path / "model.bin").unlink()
    refuse_foreign_files(tmp_path / "model.xml", meta(**{"model.bin": "e" * 64}))
    (tmp_path / "model.pt").write_bytes(b"x")
    (tmp_path / "model.bin").write_bytes(b"other")
    refuse_foreign_files(tmp_path / "model.pt", meta(**{"model.bin": "e" * 64}))
