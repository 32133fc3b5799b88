"""Each bound of a package at its edge: what is just allowed, and what is one beyond."""

from __future__ import annotations

import hashlib
import json
import re
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from cls.errors import PackageError
from cls.package import plans
from cls.package.archive import (
    ReadLimits,
    _fault_of_entry,
    config_text_of,
    missing_at_root,
    open_package,
    open_zip,
    pack_files,
)
from cls.package.card import card_of, people_in_words
from cls.package.keys import MAX_KEY_FILE_BYTES, MAX_TRUSTED_KEYS
from cls.package.meta import (
    END_TO_END_OUTPUT_NAME,
    INPUT_NAME,
    META_FILE_NAME,
    OUTPUT_NAME,
    PlanMeta,
    parse_meta,
    read_document,
    read_meta,
    schema_faults,
    write_meta,
)
from cls.package.model_name import is_model_name
from cls.package.onnx_file import external_faults, external_weights, onnx_faults, read_onnx
from cls.package.packing import (
    REBUILD_ONNX,
    REBUILD_SAMPLES,
    CarriedSamples,
    PackedModel,
    _exchange,
    people_in,
    read_samples,
    samples_as_bytes,
    write_package,
)
from cls.package.plans import Gpu, PlanHost, gpus_of_this_machine, plan_faults, plan_warnings, version_in_plan
from cls.package.processing_steps import steps_fault, steps_of
from cls.package.signature import MAX_SIGNATURE_BYTES, MAX_SIGNATURES, MAX_SIGNED_BYTES, SIGNATURE_FILE_NAME
from cls.package.triton_config import (
    CONFIG_FILE_NAME,
    MODEL_FILE_NAMES,
    Platform,
    build_config,
    parse_config,
    parse_config_json,
)
from cls.package.verifying import refuse_foreign_files, verify_zip
from tests.package.metas import make_meta, meta_dict
from tests.package.zips import PLAN, changed, fault_of, onnx_bytes, onnx_zip, plan_bytes, plan_zip, some_samples

MIB = 1 << 20


def entry(name: str = "a", **changes: Any) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    for key, value in changes.items():
        setattr(info, key, value)
    return info


# Reading a zip.


def test_what_a_foreign_zip_may_unpack_to() -> None:
    assert ReadLimits() == ReadLimits(files=1000, total_bytes=8 * 1024**3, text_bytes=16 * 1024**2, ratio=200)


def test_the_number_of_files(tmp_path: Path) -> None:
    path = pack_files(tmp_path / "a.zip", dict.fromkeys("abc", b"x"))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("folder/", b"")  # no file
    with open_zip(path, ReadLimits(files=3)) as contents:
        assert contents.names == ("a", "b", "c")
    with pytest.raises(PackageError) as caught, open_zip(path, ReadLimits(files=2)):
        pass
    assert caught.value.code == "package.too_many_files"
    assert re.findall(r"\d+", caught.value.what) == ["3", "2"]


def test_the_bytes_of_all_files(tmp_path: Path) -> None:
    path = pack_files(tmp_path / "a.zip", {"a": b"x" * 60, "b": b"y" * 40})
    with open_zip(path, ReadLimits(total_bytes=100)) as contents:
        assert contents.read("a") == b"x" * 60
        assert contents.size_bytes("b") == 40
    with (
        pytest.raises(PackageError) as caught,
        open_zip(path, ReadLimits(total_bytes=99)),
    ):
        pass
    assert caught.value.code == "package.too_large"
    assert re.findall(r"\d+", caught.value.what) == ["100", "99"]


def test_the_bytes_of_a_text(tmp_path: Path) -> None:
    path = pack_files(tmp_path / "a.zip", {"meta.json": b"x" * 100})
    with open_zip(path, ReadLimits(text_bytes=100)) as contents:
        assert contents.read_text_bytes("meta.json") == b"x" * 100
    with open_zip(path, ReadLimits(text_bytes=99)) as contents:
        with pytest.raises(PackageError) as caught:
            contents.read_text_bytes("meta.json")
        assert caught.value.code == "package.too_large"
        assert "99 bytes" in caught.value.what
        assert len(contents.read("meta.json")) == 100


@pytest.mark.parametrize(
    ("size", "packed", "is_bomb"),
    [
        (MIB, 1, False),  # small files may shrink as they like
        (MIB + 1, 1, True),
        (MIB + 1, 0, True),
        (2000 * MIB, 10 * MIB, False),
        (2000 * MIB + 1, 10 * MIB, True),
        (200 * 6000, 6000, False),
        (200 * 6000 + 1, 6000, True),
    ],
)
def test_how_much_a_file_may_shrink(size: int, packed: int, is_bomb: bool) -> None:
    fault = _fault_of_entry(entry(file_size=size, compress_size=packed), ReadLimits())
    assert (fault and fault[0]) == ("too_large" if is_bomb else None)


@pytest.mark.parametrize(
    ("name", "is_safe"),
    [
        ("a", True),
        ("a/b/c.txt", True),
        ("..a", True),
        ("a..", True),
        (".../a", True),
        ("a/b:c", True),
        ("", False),
        (".", False),
        ("/", False),
        ("/a", False),
        ("..", False),
        ("a/..", False),
        ("a\\b", False),
        ("C:/a", False),
        ("C:", False),
        ("a\0b", False),
    ],
)
def test_names(name: str, is_safe: bool) -> None:
    fault = _fault_of_entry(entry("x", orig_filename=name), ReadLimits())
    assert (fault and fault[0]) == (None if is_safe else "path_traversal")


@pytest.mark.parametrize(
    ("kind", "is_file"),
    [
        (0, True),
        (stat.S_IFREG, True),
        (stat.S_IFDIR, True),
        (stat.S_IFLNK, False),
        (stat.S_IFSOCK, False),
        (stat.S_IFBLK, False),
        (stat.S_IFCHR, False),
        (stat.S_IFIFO, False),
    ],
)
def test_kinds_of_entries(kind: int, is_file: bool) -> None:
    fault = _fault_of_entry(entry(external_attr=(kind | 0o644) << 16), ReadLimits())
    assert (fault and fault[0]) == (None if is_file else "not_a_regular_file")


@pytest.mark.parametrize(("flags", "is_encrypted"), [(0, False), (0x8, False), (0x800, False), (1, True), (0x9, True)])
def test_encrypted_entries(flags: int, is_encrypted: bool) -> None:
    fault = _fault_of_entry(entry(flag_bits=flags), ReadLimits())
    assert (fault and fault[0]) == ("encrypted" if is_encrypted else None)


@pytest.mark.parametrize("names", [("meta.json", "META.json"), ("Meta.json", "mETA.json"), ("a/ß", "a/SS")])
def test_names_that_differ_in_case_alone(tmp_path: Path, names: tuple[str, str]) -> None:
    path = pack_files(tmp_path / "a.zip", dict.fromkeys(names, b"1"))
    with pytest.raises(PackageError) as caught, open_zip(path):
        pass
    assert caught.value.code == "package.duplicate_name"


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (["meta.json", "config.pbtxt", "model.onnx"], []),
        (["meta.json", "config.pbtxt", "model.plan"], []),
        (["meta.json", "config.pbtxt", "model.pt"], []),
        (["meta.json", "config.pbtxt", "model.xml"], []),
        (["meta.json", "config.pbtxt", "model.bin"], ["model.onnx, model.plan, model.pt or model.xml"]),
        (["model.onnx", "config.pbtxt"], ["meta.json"]),
        (["model.onnx", "meta.json"], ["config.pbtxt"]),
        ([], ["model.onnx, model.plan, model.pt or model.xml", "meta.json", "config.pbtxt"]),
    ],
)
def test_what_a_package_needs(names: list[str], missing: list[str]) -> None:
    assert missing_at_root(names) == missing


@pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB + 1])
def test_files_of_every_size_are_read_whole(tmp_path: Path, size: int) -> None:
    content = np.random.default_rng(0).bytes(size)
    (tmp_path / "file").write_bytes(content)
    path = pack_files(tmp_path / "a.zip", {"a": tmp_path / "file", "b": content})
    with open_zip(path) as contents:
        assert contents.read("a") == contents.read("b") == content
        assert max((len(chunk) for chunk in contents.stream("a")), default=0) <= MIB
        assert contents.start(5, "a") == content[:5]
        with pytest.raises(PackageError) as caught:
            contents.read("c")
        assert caught.value.code == "package.missing_file"
        assert caught.value.what.endswith(" c")
        assert caught.value.where == str(path)
        contents.extract(tmp_path / "out", leave_out=["b"])
    assert {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir()} == {"a": content}


def test_how_files_are_packed(tmp_path: Path) -> None:
    path = pack_files(tmp_path / "a.zip", {"b": b"x" * 1000, "a": b""})
    with zipfile.ZipFile(path) as archive:
        assert archive.namelist() == ["a", "b"]
        for info in archive.infolist():
            assert info.date_time == (1980, 1, 1, 0, 0, 0)
            assert info.compress_type == zipfile.ZIP_DEFLATED
            assert info.create_system == 3
            assert info.external_attr >> 16 == stat.S_IFREG | 0o644
        assert archive.getinfo("b").compress_size < 100


def test_errors_of_a_zip_name_the_file_in_it(tmp_path: Path) -> None:
    path = pack_files(tmp_path / "a.zip", {"config.pbtxt": b"\xff"})
    with open_zip(path) as contents, pytest.raises(PackageError) as caught:
        config_text_of(contents)
    assert caught.value.code == "package.not_utf8"
    assert caught.value.where == f"{path}!config.pbtxt"
    broken = changed(onnx_zip(tmp_path), "meta.json", lambda _: b"{")
    with pytest.raises(PackageError) as caught, open_package(broken):
        pass
    assert caught.value.code == "package.not_json"
    assert caught.value.where == f"{broken}!meta.json"
    broken = changed(onnx_zip(tmp_path), "config.pbtxt", lambda _: b"nonsense {")
    with pytest.raises(PackageError) as caught, open_package(broken):
        pass
    assert caught.value.code == "package.invalid_config"
    assert caught.value.where == f"{broken}!config.pbtxt"


# People carried along.


def edited(samples: CarriedSamples, **changes: Any) -> bytes:
    return samples_as_bytes(replace(samples, **changes))


def test_samples_are_read_back_as_they_were() -> None:
    samples = some_samples(3)
    truth = samples.truth.copy()
    truth[0, 0] = np.nan  # nobody knows
    again = read_samples(edited(samples, truth=truth), make_meta(), "x")
    assert np.array_equal(again.crops_rgb, samples.crops_rgb)
    assert np.array_equal(again.probabilities, samples.probabilities)
    assert np.array_equal(again.truth, truth, equal_nan=True)
    assert again.labels == samples.labels
    assert (again.crops_rgb.dtype, again.probabilities.dtype, again.truth.dtype) == (np.uint8, np.float32, np.float32)


@pytest.mark.parametrize(
    "change",
    [
        lambda samples: {"crops_rgb": samples.crops_rgb.astype(np.int16)},
        lambda samples: {"crops_rgb": samples.crops_rgb[:, 1:]},
        lambda samples: {"crops_rgb": samples.crops_rgb[:, :, 1:]},
        lambda samples: {"crops_rgb": samples.crops_rgb[..., :1]},
        lambda samples: {"crops_rgb": samples.crops_rgb.transpose(0, 2, 1, 3)},
        lambda samples: {"crops_rgb": samples.crops_rgb[1:]},
        lambda samples: {"probabilities": samples.probabilities[1:]},
        lambda samples: {"probabilities": samples.probabilities[:, 1:]},
        lambda samples: {"truth": samples.truth[1:]},
        lambda samples: {"truth": samples.truth[:, 1:]},
        lambda samples: {"probabilities": np.full_like(samples.probabilities, np.nan)},
        lambda samples: {"probabilities": np.full_like(samples.probabilities, np.inf)},
        lambda samples: {
            "crops_rgb": samples.crops_rgb[:0],
            "probabilities": samples.probabilities[:0],
            "truth": samples.truth[:0],
        },
    ],
)
def test_samples_that_are_not_people_with_answers(change: Callable[[CarriedSamples], dict[str, Any]]) -> None:
    samples = some_samples(3)
    with pytest.raises(PackageError) as caught:
        read_samples(edited(samples, **change(samples)), make_meta(), "x")
    assert caught.value.code == "package.wrong_shape"
    assert "64x48 pixels" in caught.value.what


def test_one_person_is_enough(tmp_path: Path) -> None:
    assert len(read_samples(samples_as_bytes(some_samples(1)), make_meta(), "x").crops_rgb) == 1
    assert people_in(plan_zip(tmp_path, people=1)) == 1
    assert people_in(plan_zip(tmp_path)) == 0
    assert people_in(onnx_zip(tmp_path)) == 0


def test_labels_of_another_model_are_named_four_at_most() -> None:
    labels = ("a", "b", "c", "d", "e")
    with pytest.raises(PackageError) as caught:
        read_samples(samples_as_bytes(some_samples(2, labels)), make_meta(), "x")
    assert caught.value.code == "package.other_model"
    assert caught.value.what.endswith(" a, b, c, d")
    swapped = ("blonde hair", "black hair", "red hair")
    with pytest.raises(PackageError) as caught:
        read_samples(samples_as_bytes(some_samples(2, swapped)), make_meta(), "x")
    assert caught.value.code == "package.other_model"


@pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY"])
def test_what_is_no_samples(content: bytes) -> None:
    with pytest.raises(PackageError) as caught:
        read_samples(content, make_meta(), "x")
    assert caught.value.code == "package.invalid_samples"


# Plans.


def test_the_shortest_plan() -> None:
    header = plan_bytes("1.2.3.4", b"")
    assert len(header) == plans.HEADER_BYTES == 28
    assert version_in_plan(header, "x") == "1.2.3.4"
    with pytest.raises(PackageError) as caught:
        version_in_plan(header[:-1], "x")
    assert caught.value.code == "package.not_a_plan"


@pytest.mark.parametrize(
    ("host", "is_known"),
    [
        (PlanHost(), False),
        (PlanHost((Gpu("", "8.9"),)), True),
        (PlanHost((), "10.13.3"), True),
        (PlanHost((Gpu("", "8.9"),), "10.13.3"), True),
    ],
)
def test_whether_anything_is_known_of_a_machine(host: PlanHost, is_known: bool) -> None:
    assert host.is_known is is_known
    assert host.place == "this machine"


def test_every_fault_of_a_plan_is_named() -> None:
    host = PlanHost((Gpu("", "9.0"), Gpu("NVIDIA A100", "8.0")), "10.3.0", "the server")
    version, gpu = plan_faults(PLAN, None, host)
    assert (version.code, gpu.code) == ("package.other_tensorrt", "package.other_gpu")
    assert re.findall(r"[\d.]+\d", version) == ["10.13.3", "10.3.0"]
    assert "NVIDIA L4 (compute capability 8.9)," in gpu
    assert gpu.endswith("the server has NVIDIA A100 (8.0), a GPU (9.0)")
    assert plan_faults(PLAN, None, replace(host, gpus=(*host.gpus, Gpu("x", "8.9")), tensorrt_version="")) == []
    assert plan_faults(None, "10.13.3.9", replace(host, tensorrt_version="10.13.3")) == []
    assert len(plan_faults(None, "10.13.3.9", host)) == 1


@pytest.mark.parametrize(
    ("plan", "gpus", "is_warned"),
    [
        (PLAN, (Gpu("NVIDIA L4", "8.9"),), False),
        (PLAN, (Gpu("RTX 4090", "8.9"),), True),
        (PLAN, (Gpu("NVIDIA L4", "8.9"), Gpu("RTX 4090", "8.9")), False),
        (PLAN, (Gpu("RTX 4090", "9.0"),), False),
        (PLAN, (Gpu("", "8.9"),), False),
        (PLAN, (Gpu("", "8.9"), Gpu("RTX 4090", "8.9")), False),
        (PLAN, (), False),
        (None, (Gpu("RTX 4090", "8.9"),), False),
    ],
)
def test_what_is_warned_of(plan: PlanMeta | None, gpus: tuple[Gpu, ...], is_warned: bool) -> None:
    warnings = plan_warnings(plan, PlanHost(gpus))
    assert len(warnings) == is_warned
    if is_warned:
        assert warnings == ["the plan was timed on a NVIDIA L4; on a RTX 4090 it may be slower, or not load"]


def test_nvidia_smi_is_asked_for_twenty_seconds_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def run(command: list[str], **options: Any) -> Any:
        asked.append({"command": command, **options})
        raise subprocess.TimeoutExpired(command, options["timeout"])

    monkeypatch.setattr(plans.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(plans.subprocess, "run", run)
    assert gpus_of_this_machine() == ()
    (options,) = asked
    assert options["command"] == ["/usr/bin/nvidia-smi", "--query-gpu=name,compute_cap", "--format=csv,noheader"]
    assert options["timeout"] == 20


# What an ONNX says of itself.


def network(**changes: Any) -> onnx.ModelProto:
    """The network that `make_meta` describes, with other inputs or outputs."""
    shapes = {"images": ["batch", 3, 64, 48], "logits": ["batch", 3], **changes.pop("shapes", {})}
    kinds = {"images": TensorProto.FLOAT, "logits": TensorProto.FLOAT, **changes.pop("kinds", {})}
    extra = changes.pop("extra_inputs", [])
    graph = helper.make_graph(
        [helper.make_node("Identity", ["images"], ["logits"])],
        "graph",
        [*(helper.make_tensor_value_info("images", kinds["images"], shapes["images"]) for _ in [0]), *extra],
        [helper.make_tensor_value_info("logits", kinds["logits"], shapes["logits"])],
        **changes,
    )
    return helper.make_model(graph)


def said(model: onnx.ModelProto, **properties: str) -> onnx.ModelProto:
    helper.set_model_props(model, properties)
    return model


def test_a_network_as_described() -> None:
    assert onnx_faults(network(), make_meta(), "m") == []
    assert onnx_faults(network(shapes={"images": ["a", "b", "c", "d"]}), make_meta(), "m") == []
    weights = helper.make_tensor("weights", TensorProto.FLOAT, [1], [0.0])
    listed = helper.make_tensor_value_info("weights", TensorProto.FLOAT, [1])
    # Older ONNX files list their weights among the inputs.
    assert onnx_faults(network(initializer=[weights], extra_inputs=[listed]), make_meta(), "m") == []
    (fault,) = onnx_faults(network(extra_inputs=[listed]), make_meta(), "m")
    assert fault.code == "package.further_inputs"
    assert re.findall(r"\d", fault) == ["2", "1"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"shapes": {"images": ["batch", 3, 64, 47]}},
            ("'images' is FP32 [-1, 3, 64, 48]", "FP32 [-1, 3, 64, 47]"),
        ),
        (
            {"shapes": {"images": ["batch", 3, 64]}},
            ("'images' is FP32 [-1, 3, 64, 48]", "FP32 [-1, 3, 64]"),
        ),
        (
            {"kinds": {"images": TensorProto.FLOAT16}},
            ("'images' is FP32 [-1, 3, 64, 48]", "FP16 [-1, 3, 64, 48]"),
        ),
        (
            {"kinds": {"images": TensorProto.UINT8}},
            ("'images' is FP32 [-1, 3, 64, 48]", "UINT8 [-1, 3, 64, 48]"),
        ),
        (
            {"kinds": {"logits": TensorProto.DOUBLE}},
            ("'logits' is FP32 [-1, 3]", "ONNX type 11 [-1, 3]"),
        ),
        (
            {"shapes": {"logits": [4, 3]}},
            None,
        ),
    ],
)
def test_tensors(changes: dict[str, Any], expected: tuple[str, str] | None) -> None:
    faults = onnx_faults(network(**changes), make_meta(), "m")
    if expected is None:
        assert faults == []
    else:
        (fault,) = faults
        assert fault.code == "package.tensor_mismatch"
        assert expected[0] in fault
        assert fault.endswith(f" in m it is {expected[1]}")


def test_names_of_tensors() -> None:
    outputs = [{"name": "scores", "datatype": "FP32", "shape": [-1, 3]}]
    (fault,) = onnx_faults(network(), make_meta(outputs=outputs), "m")
    assert fault.code == "package.tensor_not_in_model"
    assert "'scores'" in fault
    assert fault.endswith(" logits")


def test_labels_are_named_four_at_most() -> None:
    five = tuple("abcde")
    for count, shown in ((4, "a, b, c, d"), (5, "a, b, c, d and 1 more")):
        meta = make_meta(five[:count])
        faults = onnx_faults(said(network(shapes={"logits": ["batch", count]}), labels='["x"]'), meta, "m")
        (fault,) = faults
        assert fault.code == "package.label_mismatch"
        assert f"'hair_color' with the labels {shown}, and " in fault
        assert fault.endswith(" x")


def test_what_a_network_says_of_its_run_and_weights() -> None:
    weights, run = "c" * 64, "v__0_train_eff_4_0.001"
    for properties in ({}, {"run": run}, {"weights": weights}, {"run": run, "weights": weights}, {"labels": "{"}):
        assert onnx_faults(said(network(), **properties), make_meta(), "m") == []
    for properties, shown in (
        ({"run": "v__1"}, "run v__1 (weights ?)"),
        ({"weights": "e" * 64}, f"run ? (weights {'e' * 12})"),
        ({"run": run, "weights": "e" * 64}, f"run {run} (weights {'e' * 12})"),
    ):
        (fault,) = onnx_faults(said(network(), **properties), make_meta(), "m")
        assert fault.code == "package.other_model"
        assert f"run {run} (weights {'c' * 12})," in fault
        assert fault.endswith(f" {shown}")


def test_thresholds_and_preprocessing_of_a_network() -> None:
    import json

    labels = json.dumps(list(make_meta().labels))
    thresholds = {"black hair": 0.5, "blonde hair": 0.5, "red hair": 0.25}
    (fault,) = onnx_faults(said(network(), labels=labels, thresholds=json.dumps(thresholds)), make_meta(), "m")
    assert fault.code == "package.threshold_mismatch"
    assert fault.endswith(" m: red hair 0.5 instead of 0.25")
    # Without labels nobody knows whose the thresholds are.
    assert onnx_faults(said(network(), thresholds=json.dumps(thresholds)), make_meta(), "m") == []
    same = json.dumps(meta_dict()["preprocessing"])
    assert onnx_faults(said(network(), preprocessing=same), make_meta(), "m") == []
    other = json.dumps({**meta_dict()["preprocessing"], "margin_rel": 0.1, "height_px": 65})
    (fault,) = onnx_faults(said(network(), preprocessing=other), make_meta(), "m")
    assert fault.code == "package.preprocessing_mismatch"
    assert fault.endswith(" m: height_px 64 instead of 65; margin_rel 0.05 instead of 0.1")


def outside(location: str, **entries: str) -> TensorProto:
    tensor = TensorProto(name=location, data_type=TensorProto.FLOAT, dims=[9])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        item = tensor.external_data.add()
        item.key, item.value = key, value
    return tensor


def test_weights_outside_wherever_they_are_named() -> None:
    model = network(initializer=[outside("a", offset="4", length="36"), outside("a", length="8"), outside("b")])
    model.graph.sparse_initializer.add().values.CopyFrom(outside("sparse", length="1"))
    model.graph.sparse_initializer.add().indices.CopyFrom(outside("indices", offset="2", length="junk"))
    node = model.graph.node[0]
    node.attribute.add(name="one").t.CopyFrom(outside("attribute", length="3"))
    node.attribute.add(name="many").tensors.append(outside("attributes", length="4"))
    inner = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "inner", [], [], [outside("inner")])
    node.attribute.add(name="graph").g.CopyFrom(inner)
    inner = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "inner", [], [], [outside("inners")])
    node.attribute.add(name="graphs").graphs.append(inner)
    function = helper.make_node("Constant", [], ["c"], value=outside("function", length="5"))
    model.functions.add(name="f").node.append(function)
    assert external_weights(model) == {
        "a": 40,
        "b": 0,
        "sparse": 1,
        "indices": 2,
        "attribute": 3,
        "attributes": 4,
        "inner": 0,
        "inners": 0,
        "function": 5,
    }


@pytest.mark.parametrize(
    ("sizes", "code", "numbers"),
    [
        ({}, "package.missing_weights", []),
        ({"a": 39}, "package.cut_short", ["39", "40"]),
        ({"a": 40}, "package.external_weights", []),
        ({"a": 41}, "package.external_weights", []),
    ],
)
def test_sizes_of_weights_outside(sizes: dict[str, int], code: str, numbers: list[str]) -> None:
    model = network(initializer=[outside("a", offset="4", length="36")])
    (fault,) = external_faults(model, "m", sizes)
    assert fault.code == code
    assert "'a'" in fault
    assert re.findall(r"\d+", fault) == numbers


def test_weights_outside_of_a_carried_onnx_are_looked_for_beside_it(tmp_path: Path) -> None:
    model = onnx.load_model_from_string(onnx_bytes(tmp_path))
    model.graph.initializer.append(outside("rest.bin", length="4"))
    files: dict[str, Path | bytes] = {
        "model.plan": plan_bytes(),
        "rebuild/model.onnx": model.SerializeToString(),
        "rest.bin": bytes(4),
    }
    for name, code in (("rest.bin", "package.missing_weights"), ("rebuild/rest.bin", "package.external_weights")):
        entries = {**files, name: files["rest.bin"]}
        if name != "rest.bin":
            del entries["rest.bin"]
        write_package(tmp_path / "a.zip", make_meta(), PackedModel("trt", "tensorrt_plan", entries, PLAN))
        assert "rest.bin" in fault_of(verify_zip(tmp_path / "a.zip").problems, code)


def test_a_file_that_is_no_network() -> None:
    with pytest.raises(PackageError) as caught:
        read_onnx(b"", "m")
    assert caught.value.code == "package.not_onnx"
    assert caught.value.where == "m"
    with pytest.raises(PackageError) as caught:
        read_onnx(b"\xff" * 1000, "m")
    assert caught.value.code == "package.not_onnx"
    assert caught.value.where == "m"
    assert len(caught.value.what.partition(": ")[2]) <= 300


# The whole package.


def test_what_each_check_says_where_all_is_well(tmp_path: Path) -> None:
    assert verify_zip(onnx_zip(tmp_path)).checked == [
        "every file unpacks",
        "the files a package needs",
        "meta.json: schema version 3, 3 labels for 3 outputs, a threshold for each",
        "config.pbtxt agrees with meta.json",
        "digests of 1 file",
        "model.onnx: one file; inputs, outputs and the metadata inside agree with meta.json",
    ]
    found = verify_zip(plan_zip(tmp_path, people=2), PlanHost((Gpu("NVIDIA L4", "8.9"),), "10.13.3"))
    assert found.checked[-3:] == [
        "digests of 3 files",
        "rebuild/model.onnx: one file; inputs, outputs and the metadata inside agree with meta.json",
        "model.plan: a plan, for what meta.json says",
    ]
    assert found.warnings == ["holds cut-outs of 2 people (rebuild/samples.npz)"]


def test_openvino_needs_its_weights(tmp_path: Path) -> None:
    files: dict[str, Path | bytes] = {"model.xml": b"<net/>", "model.bin": b""}
    write_package(tmp_path / "a.zip", make_meta(), PackedModel("openvino", "openvino", files))
    assert verify_zip(tmp_path / "a.zip").problems == []
    path = changed(tmp_path / "a.zip", "model.bin", lambda _: None)
    problems = verify_zip(path).problems
    assert [problem.code for problem in problems] == ["package.missing_file", "package.missing_weights"]
    assert all("model.bin" in problem for problem in problems)


def test_config_that_leaves_the_tensors_to_the_model(tmp_path: Path) -> None:
    """An older tool's config.pbtxt may name no inputs and outputs: Triton reads them from the model."""
    meta = make_meta()
    text = 'platform: "onnxruntime_onnx"\nmax_batch_size: 8\n'
    entries: dict[str, Path | bytes] = {
        "model.onnx": onnx_bytes(tmp_path, 1, meta),
        "meta.json": meta.to_json().encode(),
        "config.pbtxt": text.encode(),
    }
    assert verify_zip(pack_files(tmp_path / "a.zip", entries)).problems == []
    wrong = build_config(meta).replace('name: "logits"', 'name: "scores"')
    entries["config.pbtxt"] = wrong.encode()
    problems = verify_zip(pack_files(tmp_path / "a.zip", entries)).problems
    assert [problem.code for problem in problems] == ["package.config_tensor_mismatch"]
    assert " outputs scores FP32 [-1, 3], " in problems[0]
    assert problems[0].endswith(" logits FP32 [-1, 3]")


def test_digests_of_a_package_of_schema_version_1(tmp_path: Path) -> None:
    content = onnx_bytes(tmp_path)
    digests = {**meta_dict()["digests"], "files": {"model.onnx": "e" * 64, "model.plan": "f" * 64}}
    meta = make_meta(digests=digests)
    entries: dict[str, Path | bytes] = {
        "model.onnx": content,
        "meta.json": meta.to_json().encode(),
        "config.pbtxt": build_config(meta).encode(),
        "more.txt": b"what version 1 names nowhere",
    }
    problems = verify_zip(pack_files(tmp_path / "a.zip", entries)).problems
    assert len(problems) == 1
    assert problems[0].code == "package.digest_mismatch"
    assert problems[0].startswith("model.onnx ")
    assert problems[0].endswith(f" {'e' * 12}…")


# A model file beside a meta.json.


def unpacked(zip_path: Path, folder: Path) -> Path:
    with open_package(zip_path) as package:
        package.extract(folder)
    return folder


def test_a_file_beside_its_meta_json_and_beside_another_s(tmp_path: Path) -> None:
    folder = unpacked(onnx_zip(tmp_path), tmp_path / "out")
    model, meta = folder / "model.onnx", read_meta(folder / "meta.json")
    refuse_foreign_files(model, meta)
    # What meta.json does not name is judged by what the ONNX says of itself.
    model.rename(folder / "model_fp16.onnx")
    refuse_foreign_files(folder / "model_fp16.onnx", meta)
    model.write_bytes(onnx_bytes(tmp_path, 2))
    with pytest.raises(PackageError) as caught:
        refuse_foreign_files(model, meta)
    assert caught.value.code == "package.digest_mismatch"
    assert caught.value.where == str(model)
    other = make_meta(("fedora", "cap", "beret"), group="hat")
    model.write_bytes(onnx_bytes(tmp_path, 3, other))
    with pytest.raises(PackageError) as caught:
        refuse_foreign_files(model, make_meta())
    assert caught.value.code == "package.other_model"
    assert "'hair_color'" in caught.value.what
    assert "model.onnx" in caught.value.what
    # Of the run's own folder, `digests.files` says it.
    named = make_meta(digests={**meta_dict()["digests"], "files": {"model.onnx": "e" * 64}})
    with pytest.raises(PackageError) as caught:
        refuse_foreign_files(model, named)
    assert caught.value.code == "package.digest_mismatch"


def test_weights_beside_openvino_s_xml(tmp_path: Path) -> None:
    files: dict[str, Path | bytes] = {"model.xml": b"<net/>", "model.bin": b"weights"}
    write_package(tmp_path / "a.zip", make_meta(), PackedModel("openvino", "openvino", files))
    folder = unpacked(tmp_path / "a.zip", tmp_path / "out")
    meta = read_meta(folder / "meta.json")
    refuse_foreign_files(folder / "model.xml", meta)
    (folder / "model.bin").write_bytes(b"others")
    with pytest.raises(PackageError) as caught:
        refuse_foreign_files(folder / "model.xml", meta)
    assert caught.value.code == "package.digest_mismatch"
    assert "model.bin" in caught.value.what
    assert "model.xml" not in caught.value.what
    (folder / "model.bin").unlink()
    refuse_foreign_files(folder / "model.xml", meta)  # that it lacks is said by who opens it


# Names that servers, other programs and older packages know.


def test_names_that_others_rely_on() -> None:
    assert (INPUT_NAME, OUTPUT_NAME, END_TO_END_OUTPUT_NAME) == ("images", "logits", "probabilities")
    assert (META_FILE_NAME, CONFIG_FILE_NAME, SIGNATURE_FILE_NAME) == ("meta.json", "config.pbtxt", "signature.json")
    assert (REBUILD_ONNX, REBUILD_SAMPLES) == ("rebuild/model.onnx", "rebuild/samples.npz")
    assert MODEL_FILE_NAMES == {
        "onnxruntime_onnx": "model.onnx",
        "tensorrt_plan": "model.plan",
        "pytorch_libtorch": "model.pt",
        "openvino": "model.xml",
    }


def test_how_much_of_keys_and_signatures_is_read() -> None:
    assert (MAX_SIGNATURE_BYTES, MAX_SIGNATURES) == (1 << 20, 16)
    assert (MAX_KEY_FILE_BYTES, MAX_TRUSTED_KEYS) == (64 << 10, 256)
    # Beyond 2^31 - 1 bytes the zip's headers are others; compression may add a little to what does not shrink.
    assert MAX_SIGNED_BYTES == (1 << 31) - (4 << 20)


@pytest.mark.parametrize(
    ("name", "is_name"),
    [("a" * 200, True), ("a" * 201, False), ("con", False), ("con.x", False), ("console", True), ("", False)],
)
def test_the_length_of_a_model_s_name(name: str, is_name: bool) -> None:
    assert is_model_name(name) is is_name


@pytest.mark.parametrize(
    ("is_end_to_end", "platform", "dims"),
    [
        (False, "onnxruntime_onnx", [3, 64, 48]),
        (True, "onnxruntime_onnx", [64, 48, 3]),
        (False, "openvino", [1, 3, 64, 48]),
        (True, "openvino", [1, 64, 48, 3]),
    ],
)
def test_the_picture_that_a_server_warms_up_with(is_end_to_end: bool, platform: Platform, dims: list[int]) -> None:
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    changes = {
        "inputs": [{"name": "images", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}],
        "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}],
    }
    text = build_config(make_meta(**(changes if is_end_to_end else {})), platform)
    config = text_format.Parse(text, model_config_pb2.ModelConfig())
    (warmup,) = config.model_warmup
    assert warmup.batch_size == 1
    assert list(warmup.inputs["images"].dims) == dims
    assert warmup.inputs["images"].zero_data


def test_labels_that_repeat() -> None:
    labels = ["black hair", "black hair", "red hair"]
    with pytest.raises(PackageError) as caught:
        parse_meta({**meta_dict(), "labels": labels, "thresholds": dict.fromkeys(labels, 0.5)})
    assert caught.value.code == "package.meta_labels"


def test_the_card_of_a_package(tmp_path: Path) -> None:
    metrics = {
        "validation": {
            "labels": {"black hair": {"f1": 0.9, "positives": 7}, "blonde hair": {"f1": 0.8}, "red hair": {"p": 1}},
            "macro": {"f1": 0.85, "ma": 0.75},
        }
    }
    path = onnx_zip(tmp_path, metrics=metrics)
    lines = card_of(path).text().splitlines()
    rows = [line.split() for line in lines]
    assert ["black", "hair", "0.5000", "-", "0.900", "of", "7"] in rows
    assert ["blonde", "hair", "0.5000", "-", "0.800", "of", "?"] in rows
    assert ["red", "hair", "0.5000", "-", "-", "of", "?"] in rows
    assert f"  dataset: {'a' * 16}…" in lines
    assert f"  split: {'b' * 16}…" in lines
    assert f"  weights: {'c' * 16}…" in lines
    assert f"  best: {'d' * 16}…" in lines
    assert any(line.startswith("  model.onnx: ") for line in lines)
    assert f"  model_onnx.zip itself: {hashlib.sha256(path.read_bytes()).hexdigest()}" in lines
    only_f1 = onnx_zip(tmp_path, metrics={"validation": {"macro": {"f1": 0.5}}})
    assert "chosen on the same people 0.500" in card_of(only_f1).text()


def test_the_card_of_a_folder(tmp_path: Path) -> None:
    write_meta(tmp_path / "meta.json", make_meta())
    (tmp_path / "model.onnx").write_bytes(b"12345")
    (tmp_path / ".hidden").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    card = card_of(tmp_path)
    assert dict(card.files) == {"meta.json": (tmp_path / "meta.json").stat().st_size, "model.onnx": 5}
    lines = card.text().splitlines()
    assert lines[:3] == [
        str(tmp_path),
        "group          hair_color, not published yet",
        "run            v__0_train_eff_4_0.001 (efficientnet_b0), 2026-01-02T03:04:05Z, CLS 0.1.0",
    ]
    assert not any(line.startswith("signature") for line in lines)  # its zips are signed
    assert json.loads(card.to_json())["signed_by"] == []


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux exchanges two folders in one step")
def test_two_folders_change_places_in_one_step(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_text("")
    assert _exchange(tmp_path / "a", tmp_path / "b")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]
    assert [path.name for path in (tmp_path / "b").iterdir()] == ["a"]
    assert not _exchange(tmp_path / "a", tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ('platform: "onnxruntime_onnx"', "model.onnx"),
        ('backend: "onnxruntime"', "model.onnx"),
        ('platform: "tensorrt_plan"', "model.plan"),
        ('backend: "tensorrt"', "model.plan"),
        ('platform: "pytorch_libtorch"', "model.pt"),
        ('backend: "pytorch"', "model.pt"),
        ('backend: "openvino"', "model.xml"),
        ("", "model.onnx"),
    ],
)
def test_which_file_a_server_opens(text: str, model: str) -> None:
    assert parse_config(text).model_file_name == model


def test_a_server_s_answer_with_what_later_versions_say() -> None:
    config = parse_config_json({"name": "hat", "max_batch_size": 4, "a_later_field": {"x": 1}}, "x")
    assert (config.name, config.max_batch_size) == ("hat", 4)


@pytest.mark.parametrize(
    ("edit", "place"),
    [
        (lambda meta: meta["digests"].update(dataset="a" * 64 + "\n"), "$.digests.dataset: "),
        (
            lambda meta: meta["digests"]["files"].update({"model.onnx": "a" * 64 + "\n"}),
            "$.digests.files['model.onnx']: ",
        ),
        (
            lambda meta: meta["digests"]["segmentation_models"].update(best=["d" * 64, "d" * 64 + "\n"]),
            "$.digests.segmentation_models.best[1]: ",
        ),
    ],
)
def test_digests_with_a_line_s_end(edit: Callable[[dict[str, Any]], None], place: str) -> None:
    """A pattern's `$` stands before it too for the schema's validator, and not for ours."""
    content = meta_dict()
    edit(content)
    with pytest.raises(PackageError) as caught:
        parse_meta(content, "x")
    assert caught.value.code == "package.invalid_meta"
    assert place in caught.value.what


def test_the_width_of_the_first_output_counts() -> None:
    outputs = [
        {"name": "logits", "datatype": "FP32", "shape": [-1, 7, 4]},
        {"name": "more", "datatype": "FP32", "shape": [-1, 3]},
    ]
    with pytest.raises(PackageError) as caught:
        parse_meta(meta_dict(outputs=outputs))
    assert caught.value.code == "package.meta_output"
    assert all(value in caught.value.what for value in ("'logits'", " 4 ", " 3 "))
    outputs[0]["shape"] = [-1, 3]
    outputs[1]["shape"] = [-1, 9]
    parse_meta(meta_dict(outputs=outputs))


def test_how_requests_are_put_together() -> None:
    text = build_config(make_meta(("schwarz", "weiß")))
    config = parse_config(text)
    assert config.max_batch_size == 64
    sizes = [line.split(":")[1].strip() for line in text.splitlines() if "preferred_batch_size" in line]
    assert sizes == ["8", "16", "32", "64"]
    assert "max_queue_delay_microseconds: 500" in text
    assert "weiß" in text  # for people to read


def test_what_is_no_configuration_and_no_meta_json_is_named_by_its_place() -> None:
    for read, code, kind in (
        (lambda: parse_config_json([], "x"), "package.invalid_config", "list"),
        (lambda: read_document("[]", "x"), "package.invalid_meta", "a list"),
    ):
        with pytest.raises(PackageError) as caught:
            read()
        assert caught.value.code == code
        assert kind in caught.value.what
        assert caught.value.where == "x"


def test_faults_of_the_schema_are_in_the_order_of_their_places() -> None:
    content = {**meta_dict(), "training": 3, "group": 3, "activation": 3, "labels": 3}
    places = [fault.split(":")[0] for fault in schema_faults(content)]
    assert places == sorted(places)
    assert list(dict.fromkeys(places)) == ["$.activation", "$.group", "$.labels", "$.training"]


@pytest.mark.parametrize(("is_kept", "word"), [(False, "filled"), (True, "kept")])
def test_steps_that_contradict_the_background(is_kept: bool, word: str) -> None:
    other = steps_of(is_end_to_end=False, is_background_kept=not is_kept)
    fault = steps_fault(other, is_end_to_end=False, is_background_kept=is_kept, output="logits")
    assert fault is not None
    assert fault.endswith(f"fill_background (the input is of floats, the background is {word})")


def test_whom_a_parity_was_measured_on() -> None:
    assert people_in_words(2, None) == "2 people"
    assert people_in_words(1, "validation") == "1 person of the validation part"
    assert people_in_words(2, "training") == "2 people of the training part"
    assert people_in_words(2, "photos") == "2 people in other photos"


def test_the_card_of_a_plan(tmp_path: Path) -> None:
    lines = card_of(plan_zip(tmp_path, people=2)).text().splitlines()
    assert "format         trt" in lines
    assert "GPU            needs compute capability 8.9 and TensorRT 10.13.3 (built on NVIDIA L4)" in lines
    assert "rebuild        includes the ONNX model: cls package rebuild" in lines
    assert "people         contains cut-outs of 2 people: personal data" in lines
    lines = card_of(plan_zip(tmp_path, plan=None)).text().splitlines()
    assert any(line.startswith("GPU            needs the GPU model") for line in lines)
    assert not any(line.startswith("people") for line in lines)
