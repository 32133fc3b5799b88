"""`cls doctor`: whether this machine and the configured services are ready, and what to do where they are not."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from cls.cli.command import Command
from cls.errors import MODULES_OF_EXTRAS, ClsError

if TYPE_CHECKING:
    from cls.settings import Settings

_OK, _NOTE, _PROBLEM = "ok", "note", "PROBLEM"
_LOW_DISK_BYTES = 5 << 30
_TIMEOUT_S = 5.0


@dataclass(frozen=True)
class Finding:
    """What was found of one thing.

    Attributes:
        about: what was looked at.
        status: ok; note, where something is missing that not everybody needs; PROBLEM.
        what: the finding, in one line.
        hint: what to do; empty where all is well.
    """

    about: str
    status: str
    what: str
    hint: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `cls doctor`."""
    parser.add_argument("--json", action="store_true", help="as JSON, for programs")


def run(options: argparse.Namespace) -> None:
    """Prints a line for everything that was looked at.

    Raises:
        ClsError: there are problems.
    """
    findings: list[Finding] = []
    for finding in _findings(options):
        findings.append(finding)
        if not options.json:
            print(f"{finding.status:7}  {finding.about}: {finding.what}")
            if finding.hint:
                print(f"{'':9}{finding.hint}")
    if options.json:
        print(json.dumps([asdict(finding) for finding in findings], ensure_ascii=False, indent=2))
    problems = [finding.about for finding in findings if finding.status == _PROBLEM]
    if problems:
        raise ClsError(f"not ready: {', '.join(problems)}", code="not_ready", hint="see above what to do")


def _findings(options: argparse.Namespace) -> Iterator[Finding]:
    yield _python()
    yield from _extras()
    yield _gpu()
    from cls.settings import load_settings

    try:
        settings = load_settings(options.cfg)
    except ClsError as error:
        yield _problem("configuration", error)
        return
    yield Finding("configuration", _OK, str(settings.file))
    yield _disk(settings)
    for about, look in _SERVICES.items():
        try:
            yield look(settings)
        except ClsError as error:
            yield _problem(about, error)
        except ModuleNotFoundError as error:
            yield Finding(about, _NOTE, f"not looked at: {error.name} is not installed", "pip install 'cls[predict]'")


def _problem(about: str, error: ClsError) -> Finding:
    return Finding(about, _PROBLEM, " ".join(error.what.split()), error.hint or "")


def _python() -> Finding:
    version = ".".join(str(part) for part in sys.version_info[:3])
    if sys.version_info[:3] == (3, 14, 1):
        return Finding("Python", _PROBLEM, version, "torchvision does not work with it: install another version")
    return Finding("Python", _OK, f"{version} at {sys.executable}")


def _extras() -> Iterator[Finding]:
    for extra, modules in MODULES_OF_EXTRAS.items():
        missing = [module for module in modules if find_spec(module) is None]
        if missing:
            yield Finding(
                f"extra '{extra}'", _NOTE, f"not installed: {', '.join(missing)}", f"pip install 'cls[{extra}]'"
            )
        else:
            yield Finding(f"extra '{extra}'", _OK, "installed")


def _gpu() -> Finding:
    if find_spec("torch") is None:
        return Finding("GPU", _NOTE, "not looked at: torch is not installed")
    import torch

    if not torch.cuda.is_available():
        built = torch.version.cuda
        hint = "install NVIDIA's driver, if there is a GPU" if built else "this PyTorch is built for CPUs alone"
        return Finding("GPU", _NOTE, "none that PyTorch can use; everything runs on the CPU", hint)
    return Finding("GPU", _OK, ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())))


def _disk(settings: Settings) -> Finding:
    folder = settings.data_path
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    what = f"{free / 1e9:.0f} GB free for {settings.data_path}"
    if free < _LOW_DISK_BYTES:
        return Finding("disk", _PROBLEM, what, "make room, or set data_path to another disk")
    return Finding("disk", _OK, what)


def _database(settings: Settings) -> Finding:
    from cls.bottle.layout import Bottle
    from cls.pictures.database import PicturesDatabase
    from cls.pictures.engine import parse_url, redacted_url

    url = Bottle(settings).database_url
    with PicturesDatabase.open_for_reading(url) as database:
        return Finding("pictures database", _OK, f"{database.count()} pictures in {redacted_url(parse_url(url))}")


def _collector(settings: Settings) -> Finding:
    from cls.collector.client import CollectorClient, redacted_url

    about, url = "collector", redacted_url(settings.collector_url)
    if not settings.collector_login:
        hint = "set collector_url, start one with `cls collector serve FOLDER`, or load a folder with --source"
        return _answer_of(about, settings.collector_url, url, hint)
    with CollectorClient.from_settings(settings) as client:
        client.login()
    return Finding(about, _OK, f"{url} lets {settings.collector_login} in")


def _storage(settings: Settings) -> Finding:
    hint = "set model_storage_url, or start one with `cls storage serve`"
    return _answer_of("model storage", f"{settings.model_storage_url}/docs", settings.model_storage_url, hint)


def _inference(settings: Settings) -> Finding:
    about, url = "inference server", settings.inference_url
    if not url:
        return Finding(about, _NOTE, "none is configured", "set inference_url for predictions by a server")
    if urlsplit(url).scheme.startswith("grpc"):
        return Finding(about, _NOTE, f"{url} is not looked at: it speaks gRPC alone")
    return _answer_of(about, f"{url}/v2/health/ready", url, "start it, or correct inference_url")


def _answer_of(about: str, address: str, shown: str, hint: str) -> Finding:
    """Whether a service answers; what it answers is not looked at, but a server's own error."""
    import httpx

    try:
        answer = httpx.get(address, timeout=_TIMEOUT_S, trust_env=False)
    except httpx.HTTPError as error:
        return Finding(about, _NOTE, f"{shown} does not answer: {type(error).__name__}", hint)
    if answer.is_server_error:
        return Finding(about, _PROBLEM, f"{shown} answers {answer.status_code}", "look into its log")
    return Finding(about, _OK, f"{shown} answers")


_SERVICES: dict[str, Callable[[Settings], Finding]] = {
    "pictures database": _database,
    "collector": _collector,
    "model storage": _storage,
    "inference server": _inference,
}

COMMAND = Command("doctor", "check this machine, the configuration and the services", add_arguments, run)
