"""NVIDIA's Triton Inference Server on the CPU, for tests: from a package of the registry, kept in `.cache/triton`.

The wheel nvidia-pytriton holds the server with its Python backend only; a small backend written in Python
(triton_backend.py) stands in for those that our packages name, so that they are served unmodified. See docs of Triton,
"Python-based backends".
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from filelock import FileLock

from cls.settings import REPOSITORY
from tests.processes import default_signals

WHEEL = "nvidia-pytriton==0.7.0"
CACHE = REPOSITORY / ".cache" / "triton"
_DOWNLOAD_S = 300
_START_S = 60.0
# What runs `platform: "onnxruntime_onnx"`, `backend: "openvino"`, `platform: "pytorch_libtorch"`; names are Triton's.
_STAND_INS = ("onnxruntime", "openvino", "pytorch")
_STAND_IN_FILE = Path(__file__).with_name("triton_backend.py")


class NoTritonError(Exception):
    """Triton cannot be had here; says why."""


def triton_files() -> Path:
    """The unpacked server: `bin/tritonserver`, `libs/`, `backends/`. Fetched from the registry the first time.

    Raises:
        NoTritonError: this machine cannot run it, or the registry does not give it.
    """
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise NoTritonError(f"{WHEEL} is for Linux on x86_64")
    files = CACHE / "server"
    CACHE.mkdir(parents=True, exist_ok=True)
    with FileLock(CACHE / ".lock"):
        if not files.is_dir():
            part = CACHE / "server.part"
            shutil.rmtree(part, ignore_errors=True)
            _unpack(_wheel(), part)
            part.rename(files)
        for backend in _STAND_INS:
            target = files / "backends" / backend / "model.py"
            target.parent.mkdir(exist_ok=True)
            if not target.is_file() or target.read_bytes() != _STAND_IN_FILE.read_bytes():
                shutil.copyfile(_STAND_IN_FILE, target)
    return files


def _wheel() -> Path:
    folder = CACHE / "wheel"
    if not list(folder.glob("*.whl")):
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder), WHEEL]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise NoTritonError(f"the package registry did not give {WHEEL} in {_DOWNLOAD_S} s") from error
        if done.returncode != 0:
            raise NoTritonError(f"the package registry does not give {WHEEL}: {done.stderr.strip()[-200:]}")
    return next(folder.glob("*.whl"))


def _unpack(wheel: Path, target: Path) -> None:
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    wanted = {
        "pytriton/tritonserver/bin/": "bin",
        "nvidia_pytriton.libs/": "libs",
        "pytriton/tritonserver/backends/python/": "backends/python",
        f"pytriton/tritonserver/python_backend_stubs/{version}/": "backends/python",
    }
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            for prefix, folder in wanted.items():
                if name.startswith(prefix) and not name.endswith("/"):
                    path = target / folder / name.removeprefix(prefix)
                    path.parent.mkdir(parents=True, exist_ok=True)
                    path.write_bytes(archive.read(name))
                    path.chmod(0o755)
    if not (target / "backends/python/triton_python_backend_stub").exists():
        raise NoTritonError(f"{WHEEL} has no backend for Python {version}")


@contextmanager
def running_triton(repository: Path, log: Path) -> Iterator[tuple[str, str]]:
    """Triton in explicit model control over a model repository; yields its HTTP address and `host:port` of its gRPC.

    Raises:
        NoTritonError: it cannot be had, or does not start on this machine.
    """
    files = triton_files()
    http_port, grpc_port = _free_port(), _free_port()
    libraries = [str(files / "libs"), str(sysconfig.get_config_var("LIBDIR"))]
    environment = {
        **os.environ,
        # The backend's helper process finds this environment's packages through the first `python3` on PATH.
        "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}",
        "LD_LIBRARY_PATH": ":".join(libraries),
    }
    with log.open("w") as stream, default_signals():
        process = subprocess.Popen(
            [
                str(files / "bin" / "tritonserver"),
                f"--model-repository={repository}",
                f"--backend-directory={files / 'backends'}",
                "--model-control-mode=explicit",
                *("--http-address=127.0.0.1", f"--http-port={http_port}"),
                *("--grpc-address=127.0.0.1", f"--grpc-port={grpc_port}"),
                "--allow-metrics=false",
                "--exit-timeout-secs=5",
            ],
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
    url = f"http://127.0.0.1:{http_port}"
    try:
        _wait_until_live(process, url, log)
        yield url, f"127.0.0.1:{grpc_port}"
    finally:
        process.terminate()
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


def _wait_until_live(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    give_up_s = time.monotonic() + _START_S
    while time.monotonic() < give_up_s:
        if process.poll() is not None:
            raise NoTritonError(f"Triton ended with status {process.returncode}: {log.read_text()[-500:]}")
        try:
            if httpx.get(f"{url}/v2/health/live", timeout=1).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise NoTritonError(f"Triton is not live after {_START_S:.0f} s")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
