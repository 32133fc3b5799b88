"""Single values of packages that nothing else shows: words, orders, and what errors point at."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import onnx
import pytest

from cls.errors import PackageError
from cls.package.archive import _HINT, ReadLimits, _fault_of_entry, open_package
from cls.package.card import card_of
from cls.package.keys import PASSPHRASE_VARIABLE, make_key
from cls.package.meta import parse_meta
from cls.package.model_name import model_name_of_group
from cls.package.onnx_file import read_onnx
from cls.package.packing import atomic_folder
from cls.package.processing_steps import STEP_MEANINGS, StepsMeta, steps_of
from tests.package.metas import meta_dict
from tests.package.zips import onnx_zip


def test_a_config_for_another_model_points_at_the_zip(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in (("config.pbtxt", 'backend: "openvino"'), ("meta.json", "{}"), ("model.onnx", "")):
            archive.writestr(name, content)
    with pytest.raises(PackageError) as caught, open_package(path):
        pass
    assert caught.value.code == "package.config_mismatch"
    assert (caught.value.where, caught.value.hint) == (str(path), _HINT)
    assert "`cls export`" in _HINT


def test_the_card_says_who_does_what_in_the_order_of_the_work(tmp_path: Path) -> None:
    lines = [line.split("  ")[0].strip() for line in card_of(onnx_zip(tmp_path)).text().splitlines()]
    places = [lines.index(name) for name in ("before model", "in model", "after model")]
    assert places == list(range(places[0], places[0] + 3))


def test_the_schema_says_what_each_step_means() -> None:
    said = StepsMeta.model_fields["before"].description
    assert said is not None
    for name, meaning in STEP_MEANINGS.items():
        assert f"{name}: {meaning}" in said


def test_of_what_is_no_onnx_300_signs_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(content: bytes) -> onnx.ModelProto:
        raise ValueError(f"{'x' * 299}yz\nmore")

    monkeypatch.setattr(onnx, "load_model_from_string", fail)
    with pytest.raises(PackageError) as caught:
        read_onnx(b"", "model.onnx")
    assert caught.value.code == "package.not_onnx"
    assert caught.value.what.endswith(f": {'x' * 299}y")
    assert caught.value.where == "model.onnx"


def test_the_first_output_is_the_answer() -> None:
    steps = steps_of(is_end_to_end=False, is_background_kept=False).model_dump(mode="json")
    logits = {"name": "logits", "datatype": "FP32", "shape": [-1, 3]}
    other = {**logits, "name": "probabilities"}
    assert parse_meta(meta_dict(outputs=[logits, other], steps=steps)).outputs[0].name == "logits"
    with pytest.raises(PackageError) as caught:
        parse_meta(meta_dict(outputs=[other, logits], steps=steps))
    assert caught.value.code == "package.meta_steps"


def test_a_folder_is_made_with_those_above_it(tmp_path: Path) -> None:
    with atomic_folder(tmp_path / "a" / "b" / "model") as folder:
        (folder / "x").touch()
    assert (tmp_path / "a" / "b" / "model" / "x").exists()


def test_a_key_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda handle: sizes.append(os.fstat(handle).st_size))
    make_key(tmp_path / "key")
    assert sorted(sizes) == sorted((tmp_path / name).stat().st_size for name in ("key", "key.pub"))


def test_the_variable_of_the_passphrase() -> None:
    assert PASSPHRASE_VARIABLE == "CLS_SIGNING_PASSPHRASE"


def test_a_group_without_a_name() -> None:
    with pytest.raises(PackageError) as caught:
        model_name_of_group("")
    assert caught.value.code == "package.empty_name"
    assert "group" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("size", "packed", "is_fault"),
    [
        (2_000_000, 0, True), (2_000_000, 1999, True), (2_000_000, 2000, False), (1 << 20, 1, False),
        ((1 << 20) + 1, 1, True),
    ],
)  # fmt: skip
def test_how_much_a_file_may_unpack_to(size: int, packed: int, is_fault: bool) -> None:
    """A thousand times its size; files of a megabyte do not count."""
    entry = zipfile.ZipInfo("meta.json")
    entry.file_size, entry.compress_size = size, packed
    assert (_fault_of_entry(entry, ReadLimits(ratio=1000)) is not None) is is_fault
