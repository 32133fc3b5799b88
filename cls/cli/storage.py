"""`cls storage serve` and `cls push`."""

from __future__ import annotations

import argparse
import logging
import shlex
from typing import TYPE_CHECKING

from cls.cli.command import Command, add_options, bottle_of, given
from cls.model_storage.config import ServiceOptions
from cls.wording import counted

if TYPE_CHECKING:
    from cls.bottle.layout import Bottle

_REBUILT = "_rebuilt"  # in the names of the packages of `cls package rebuild`
_log = logging.getLogger("cls.model_storage")


def push_lines(bottle: Bottle, group: str, which: str = "onnx") -> str:
    """The `cls push` of a package, under the next version, as lines that can be pasted as they are."""
    from cls.bottle.ledger import known_models
    from cls.package.model_name import next_version

    published = [one.version for one in known_models(bottle.root) if one.group == group and one.version]
    chosen = "" if which == "onnx" else f" --format {shlex.quote(which)}"
    return (
        f"next: cls push --group {shlex.quote(group)}{chosen} --version {next_version(published)}\n"
        "      # the next version for all this bottle knows; a model storage with more says which one is free"
    )


def _add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    add_options(parser, ServiceOptions)


def _serve(options: argparse.Namespace) -> None:
    from cls.settings import load_settings

    settings = load_settings(options.cfg)
    config = ServiceOptions(**given(options, ServiceOptions), token=settings.model_storage_token)

    from cls.model_storage.service import run_service

    run_service(config)


def _add_push_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--group", required=True, help="group whose exported model is published")
    parser.add_argument("--version", required=True, help="semantic version to publish it under, such as 0.0.1")
    parser.add_argument(
        "--format",
        default="onnx",
        help="which package of `cls export` or `cls package rebuild`: onnx, openvino, trt_rebuilt, … (default: onnx)",
    )


def _check_push_options(options: argparse.Namespace) -> None:
    from cls.errors import UsageFault
    from cls.exporting.formats.files import FORMATS, REBUILDABLE
    from cls.model_storage.names import readable_version
    from cls.options import refuse

    faults = []
    if readable_version(options.version) is None:
        what = f"--version: expected a semantic version such as 0.0.1, found {options.version[:80]!r}"
        faults.append(UsageFault(what, code="invalid_option_value"))
    known = (*FORMATS, *(f"{name}{_REBUILT}" for name in REBUILDABLE))
    if options.format not in known:
        what = f"--format: expected one of {', '.join(known)}, found {options.format!r}"
        faults.append(UsageFault(what, code="invalid_option_value"))
    refuse(faults, "cls push")


def _push(options: argparse.Namespace) -> None:
    from cls.bottle.ledger import KnownModel, remember_models
    from cls.errors import StorageError
    from cls.model_storage.client import StorageClient
    from cls.package.archive import open_package
    from cls.package.model_name import model_name_of_group
    from cls.package.packing import people_in

    bottle = bottle_of(options)
    settings = bottle.settings
    _check_push_options(options)
    folder = bottle.inference_model(options.group)
    zip_path = folder / f"model_{options.format}.zip"
    if not zip_path.is_file():
        which = "" if options.format == "onnx" else f" --formats onnx,{options.format}"
        made = (
            f"make it with: cls package rebuild model_onnx.zip --format {options.format.removesuffix(_REBUILT)}"
            if options.format.endswith(_REBUILT)
            else f"make it with: cls export --group {shlex.quote(options.group)}{which}"
        )
        there = ", ".join(path.stem.removeprefix("model_") for path in sorted(folder.glob("model_*.zip")))
        raise StorageError(
            "there is no package to publish",
            code="package_not_found",
            where=zip_path,
            hint=made + (f"; there is: {there}" if there else ""),
        )
    with open_package(zip_path) as package:
        meta = package.meta()
    if meta.group != options.group:
        raise StorageError(
            f"the package is of group '{meta.group}', and was to be published as '{options.group}'",
            code="wrong_group",
            where=zip_path,
            hint=f"make that of '{options.group}': cls export --group {shlex.quote(options.group)}",
        )
    people = people_in(zip_path)
    if people:
        _log.warning("%s holds cut-outs of %s: whoever gets it sees them", zip_path.name, counted(people, "person"))
    model = model_name_of_group(options.group)
    with StorageClient(settings.model_storage_url, settings.model_storage_token) as client:
        published = client.publish(zip_path, model, options.version)
    known = KnownModel(options.group, meta.training.run, meta.digests.weights, published.version)
    remember_models(bottle.root, [known])
    print(f"{options.group} {published.version} is published as version {published.number} of model {model}")
    print(f"served at {published.url}" if published.is_served else "another version is served at the moment")


SERVE = Command("storage serve", "serve a model storage: HTTP, inference, files over SSH", _add_serve_arguments, _serve)
PUSH = Command("push", "publish a group's exported model in the model storage", _add_push_arguments, _push)
