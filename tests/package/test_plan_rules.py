"""Plans and machines, rule by rule."""

from __future__ import annotations

import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from cls.errors import PackageError
from cls.package import plans
from cls.package.meta import PlanMeta
from cls.package.plans import (
    HEADER_BYTES,
    Gpu,
    PlanHost,
    gpus_of_this_machine,
    is_same_version,
    plan_faults,
    plan_warnings,
    refuse_foreign_plan,
    this_machine,
    version_in_plan,
)
from tests.package.zips import PLAN, plan_bytes

L4, A10, T4 = Gpu("NVIDIA L4", "8.9"), Gpu("NVIDIA A10", "8.6"), Gpu("NVIDIA T4", "7.5")


def test_the_header() -> None:
    assert HEADER_BYTES == 28
    header = b"ftrt" + bytes(20) + bytes([10, 13, 3, 9])
    assert len(header) == 28
    assert version_in_plan(header, "x") == "10.13.3.9"
    assert version_in_plan(b"ftrt" + bytes(3) + b"\x01" + header[8:], "x") is None
    with pytest.raises(PackageError) as caught:
        version_in_plan(header[:-1], "x")
    assert caught.value.code == "package.not_a_plan"
    assert caught.value.where == "x"
    assert (PlanHost().place, PlanHost().gpus, PlanHost().tensorrt_version) == ("this machine", (), "")
    assert [host.is_known for host in (PlanHost(), PlanHost((L4,)), PlanHost((), "10"))] == [False, True, True]


@pytest.mark.parametrize(
    ("one", "other", "is_same"),
    [
        ("10.13.3.9", "10.13.3", True), ("10.13.3.9", "10.13.4", False), ("10", "10.13", True), ("10", "1", False),
        ("10.13.3.post1", "10.13.3.9", True), ("10.13.3rc1", "10.13.2", False), ("", "10", True), ("x", "10", True),
    ],
)  # fmt: skip
def test_versions_agree_as_far_as_both_go(one: str, other: str, is_same: bool) -> None:
    assert is_same_version(one, other) is is_same_version(other, one) is is_same


def test_faults_of_a_plan() -> None:
    assert plan_faults(PLAN, "10.13.3.9", PlanHost((L4,), "10.13.3")) == []
    assert plan_faults(PLAN, "10.13.3.9", PlanHost((A10, L4))) == []
    wrong = plan_faults(PLAN, None, PlanHost((T4, A10, A10, Gpu("", "9.0")), "10.3", "there"))
    assert [fault.code for fault in wrong] == ["package.other_tensorrt", "package.other_gpu"]
    assert re.findall(r"[\d.]+\d", wrong[0]) == ["10.13.3", "10.3"]
    assert " NVIDIA L4 (compute capability 8.9), " in wrong[1]
    assert wrong[1].endswith(" there has NVIDIA A10 (8.6), NVIDIA T4 (7.5), a GPU (9.0)")
    (fault,) = plan_faults(None, "10.3.0.1", PlanHost((T4,), "10.13"))
    assert fault.code == "package.other_tensorrt"
    assert re.findall(r"[\d.]+\d", fault) == ["10.3.0.1", "10.13"]
    assert plan_faults(None, None, PlanHost((T4,), "10.13")) == []
    assert plan_faults(PLAN, "10.3.0.1", PlanHost()) == []


def test_warnings_of_a_plan() -> None:
    other, third = Gpu("RTX 4090", "8.9"), Gpu("L40", "8.9")
    assert plan_warnings(PLAN, PlanHost((other, third, T4))) == [
        "the plan was timed on a NVIDIA L4; on a L40, RTX 4090 it may be slower, or not load"
    ]
    for host in (PlanHost(), PlanHost((T4,)), PlanHost((L4, other)), PlanHost((Gpu("", "8.9"), other))):
        assert plan_warnings(PLAN, host) == []
    assert plan_warnings(None, PlanHost((other,))) == []


def test_a_foreign_plan_is_refused() -> None:
    refuse_foreign_plan(PLAN, plan_bytes(), PlanHost((L4,), "10.13.3"), "a.zip")
    refuse_foreign_plan(None, plan_bytes(), PlanHost(), "a.zip")
    with pytest.raises(PackageError) as caught:
        refuse_foreign_plan(PLAN, plan_bytes(), PlanHost((T4,), "9.0"), "a.zip")
    assert caught.value.code == "package.incompatible_plan"
    assert caught.value.where == "a.zip"
    assert "TensorRT 10.13.3.9" in caught.value.what
    assert "NVIDIA T4" in caught.value.what
    with pytest.raises(PackageError) as caught:
        refuse_foreign_plan(PLAN, b"", PlanHost(), "a.zip")
    assert caught.value.code == "package.not_a_plan"
    other = PlanMeta(tensorrt_version="9.1", gpu="x", compute_capability="8.9")
    refuse_foreign_plan(other, plan_bytes(), PlanHost((L4,), "10.13.3"), "the plan is believed")


def test_what_the_driver_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[list[str], dict[str, Any]]] = []

    def run(command: list[str], **options: Any) -> Any:
        asked.append((command, options))
        if len(asked) == 2:
            raise subprocess.TimeoutExpired(command, 20)
        if len(asked) == 3:
            raise OSError
        return types.SimpleNamespace(stdout="NVIDIA A, B, 8.9\n\nx, 9\n, 7.5\ny, 10.0 \nz, 8.9x\n")

    monkeypatch.setattr(plans.shutil, "which", lambda name: "/bin/smi" if name == "nvidia-smi" else None)
    monkeypatch.setattr(plans.subprocess, "run", run)
    assert gpus_of_this_machine() == (Gpu("NVIDIA A, B", "8.9"), Gpu("", "7.5"), Gpu("y", "10.0"))
    command, options = asked[0]
    assert command == ["/bin/smi", "--query-gpu=name,compute_cap", "--format=csv,noheader"]
    assert options == {"capture_output": True, "text": True, "timeout": 20.0, "check": True}
    assert gpus_of_this_machine() == gpus_of_this_machine() == ()


def test_the_tensorrt_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plans, "gpus_of_this_machine", lambda: (L4,))
    module = types.ModuleType("tensorrt")
    monkeypatch.setitem(sys.modules, "tensorrt", module)
    assert this_machine() == PlanHost((L4,), "", "this machine")
    module.__version__ = "10.1"  # type: ignore[attr-defined]
    assert this_machine() == PlanHost((L4,), "10.1", "this machine")
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    assert this_machine() == PlanHost((L4,), "", "this machine")
