"""Plans, and the machines they run on. `nvidia-smi` is a script that prints what the real one prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cls.errors import PackageError
from cls.package.plans import (
    Gpu,
    PlanHost,
    gpus_of_this_machine,
    is_same_version,
    plan_faults,
    refuse_foreign_plan,
    this_machine,
    version_in_plan,
)
from tests.package.zips import PLAN, plan_bytes

numbers = st.lists(st.integers(0, 255), min_size=4, max_size=4)


def with_nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, prints: str, status: int = 0) -> None:
    script = folder / "nvidia-smi"
    script.write_text(f"#!/bin/sh\ncat <<'END'\n{prints}END\nexit {status}\n")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


@given(numbers)
def test_the_version_is_read_out_of_the_plan(parts: list[int]) -> None:
    version = ".".join(map(str, parts))
    assert version_in_plan(plan_bytes(version), "a.plan") == version
    assert is_same_version(version, ".".join(map(str, parts[:3])))


def test_later_serializations_are_not_guessed_and_other_files_refused() -> None:
    later = bytearray(plan_bytes())
    later[4] = 1
    assert version_in_plan(bytes(later), "a.plan") is None
    for content in (b"", plan_bytes()[:27], b"ptrt" + plan_bytes()[4:]):
        with pytest.raises(PackageError) as caught:
            version_in_plan(content, "a.plan")
        assert caught.value.code == "package.not_a_plan"


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("10.13.3", "10.13.3.9", True),
        ("10.13", "10.3", False),
        ("10.13.3", "10.13.3.post1", True),
        ("8.6", "10", False),
    ],
)
def test_versions(one: str, other: str, is_same: bool) -> None:
    assert is_same_version(one, other) is is_same_version(other, one) is is_same


def test_the_gpus_of_a_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_nvidia_smi(tmp_path, monkeypatch, "NVIDIA L4, 8.9\nNVIDIA H100 80GB HBM3, 9.0\nold, [N/A]\n")
    assert gpus_of_this_machine() == (Gpu("NVIDIA L4", "8.9"), Gpu("NVIDIA H100 80GB HBM3", "9.0"))
    assert plan_faults(PLAN, None, this_machine()) == []


def test_machines_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_nvidia_smi(tmp_path, monkeypatch, "NVIDIA-SMI has failed\n", status=9)
    assert gpus_of_this_machine() == ()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    assert not this_machine().is_known


def test_the_plan_is_believed_before_its_meta_json() -> None:
    here = PlanHost((), "10.13.3")
    (fault,) = plan_faults(PLAN, "10.3.0.1", here)
    assert fault.code == "package.other_tensorrt"
    assert re.findall(r"[\d.]+\d", fault) == ["10.3.0.1", "10.13.3"]
    assert plan_faults(None, None, here) == []


def test_refusal_says_what_to_do() -> None:
    with pytest.raises(PackageError) as caught:
        refuse_foreign_plan(PLAN, plan_bytes(), PlanHost((Gpu("", "9.0"),)), "a.zip")
    assert caught.value.code == "package.incompatible_plan"
    assert caught.value.where == "a.zip"
    assert "NVIDIA L4" in caught.value.what
    assert "cls package rebuild" in (caught.value.hint or "")
