"""Which machine a TensorRT plan is for: read from the plan and its meta.json, compared with what a machine has.

A plan runs on the version of TensorRT that built it, and on GPUs of the compute capability it was built on (TensorRT
documentation, "Engine Compatibility"); both are checked by TensorRT itself, with an error that names neither package
nor remedy. Here they are compared before anything is served.
"""

from __future__ import annotations

import importlib
import re
import shutil
import struct
import subprocess
from dataclasses import dataclass

from cls.errors import PackageError, PackageFault
from cls.package.meta import PlanMeta

# NVIDIA's open source of `trtexec --getPlanVersionOnly` (samples/common/sampleEngines.cpp): a tag, the version of the
# serialization, and, where that is 0, TensorRT's version in four bytes at 24.
_PLAN_TAG = b"ftrt"
_VERSION_PLACE = 24
HEADER_BYTES = 28
_NVIDIA_SMI_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Gpu:
    """A GPU.

    Attributes:
        name: e.g. `NVIDIA L4`; empty where only the compute capability is known.
        compute_capability: e.g. `8.9`.
    """

    name: str
    compute_capability: str


@dataclass(frozen=True)
class PlanHost:
    """What runs plans somewhere.

    Attributes:
        gpus: its GPUs; empty when not known.
        tensorrt_version: e.g. `10.13.3`; empty when not known.
        place: which machine it is, and how this is known.
    """

    gpus: tuple[Gpu, ...] = ()
    tensorrt_version: str = ""
    place: str = "this machine"

    @property
    def is_known(self) -> bool:
        """Whether there is anything to compare a plan with."""
        return bool(self.gpus or self.tensorrt_version)


def this_machine() -> PlanHost:
    """This machine: its GPUs as `nvidia-smi` lists them, TensorRT's version as its Python package says."""
    try:
        version = str(importlib.import_module("tensorrt").__version__)
    except (ImportError, AttributeError):
        version = ""
    return PlanHost(gpus_of_this_machine(), version, "this machine")


def gpus_of_this_machine() -> tuple[Gpu, ...]:
    """The NVIDIA GPUs here, by `nvidia-smi`; none where there is no such command or it fails."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return ()
    try:
        done = subprocess.run(  # noqa: S603 - the driver's own tool, without any input of ours
            [command, "--query-gpu=name,compute_cap", "--format=csv,noheader"],
            capture_output=True,
            text=True,
            timeout=_NVIDIA_SMI_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return ()
    found = []
    for line in done.stdout.splitlines():
        name, _, capability = (part.strip() for part in line.rpartition(","))
        if re.fullmatch(r"\d+\.\d+", capability):
            found.append(Gpu(name, capability))
    return tuple(found)


def version_in_plan(content: bytes, where: object) -> str | None:
    """The version of TensorRT that built a plan, from its first `HEADER_BYTES` bytes.

    Returns:
        E.g. `10.13.3.9`; None for a serialization whose header is not known.

    Raises:
        PackageError: this is not a plan.
    """
    if len(content) < HEADER_BYTES or content[:4] != _PLAN_TAG:
        raise PackageError(
            "is not a TensorRT plan", code="not_a_plan", where=where, hint="make the package again with `cls export`"
        )
    (serialization,) = struct.unpack_from("<I", content, 4)
    if serialization != 0:
        return None
    return ".".join(str(part) for part in content[_VERSION_PLACE:HEADER_BYTES])


def plan_faults(plan: PlanMeta | None, header_version: str | None, host: PlanHost) -> list[PackageFault]:
    """Why a plan cannot run on a machine; empty when nothing that is known speaks against it.

    Args:
        plan: what meta.json says of it; None in packages that say nothing.
        header_version: of `version_in_plan`; believed before meta.json.
        host: what it is to run on.
    """
    faults = []
    version = header_version or (plan.tensorrt_version if plan else "")
    if version and host.tensorrt_version and not is_same_version(version, host.tensorrt_version):
        what = f"the plan was built by TensorRT {version}, and {host.place} has TensorRT {host.tensorrt_version}"
        faults.append(PackageFault(what, code="other_tensorrt"))
    capabilities = {gpu.compute_capability for gpu in host.gpus}
    if plan is not None and capabilities and plan.compute_capability not in capabilities:
        theirs = ", ".join(sorted({f"{gpu.name or 'a GPU'} ({gpu.compute_capability})" for gpu in host.gpus}))
        faults.append(
            PackageFault(
                f"the plan was built for a {plan.gpu} (compute capability {plan.compute_capability}),"
                f" and {host.place} has {theirs}",
                code="other_gpu",
            )
        )
    return faults


def plan_warnings(plan: PlanMeta | None, host: PlanHost) -> list[str]:
    """What may make a plan slower, or fail, on a machine it is not refused on."""
    names = {gpu.name for gpu in host.gpus if plan and gpu.compute_capability == plan.compute_capability}
    if plan is None or not all(names) or not names or plan.gpu in names:
        return []
    return [f"the plan was timed on a {plan.gpu}; on a {', '.join(sorted(names))} it may be slower, or not load"]


def is_same_version(one: str, other: str) -> bool:
    """Whether two versions agree as far as both go: `10.13.3.9` and `10.13.3` do."""
    pairs = zip(_numbers(one), _numbers(other), strict=False)
    return all(first == second for first, second in pairs)


def _numbers(version: str) -> list[int]:
    """The leading numbers: `10.13.3.post1` -> [10, 13, 3]."""
    leading = re.match(r"\d+(\.\d+)*", version)
    return [int(part) for part in leading.group().split(".")] if leading else []


def refuse_foreign_plan(plan: PlanMeta | None, header: bytes, host: PlanHost, where: object) -> None:
    """Refuses a plan that cannot run on a machine.

    Raises:
        PackageError: it was built for another GPU or by another TensorRT, or is no plan; says which.
    """
    faults = plan_faults(plan, version_in_plan(header, where), host)
    if faults:
        raise PackageError(
            "; ".join(faults),
            code="incompatible_plan",
            where=where,
            hint="make the plan where it is served: cls package rebuild model_trt.zip",
            faults=faults,
        )
