"""`cls storage serve` and `cls push`."""

from __future__ import annotations

import argparse
from pathlib import Path

from cls.command import Command

_MEGABYTE = 1 << 20


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: give a number from 0 (any free one) to 65535")
    return int(text)


def _megabytes(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text!r} is not a size: give a number of megabytes")
    return int(text) * _MEGABYTE


def _add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--root", type=Path, default=Path("storage"), metavar="DIR", help="where everything is kept (default: storage)"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen on; any but loopback needs CLS_MODEL_STORAGE_TOKEN (default: 127.0.0.1)",
    )
    parser.add_argument(
        "--port", type=_port, default=8300, help="port of the storage's HTTP interface, 0 for any (default: 8300)"
    )
    parser.add_argument("--ssh-port", type=_port, default=4000, help="port of SFTP and SCP, 0 for any (default: 4000)")
    parser.add_argument(
        "--infer-port", type=_port, default=8100, help="port of the embedded engine, 0 for any (default: 8100)"
    )
    parser.add_argument(
        "--triton",
        default="",
        metavar="URL",
        help="address of a Triton Inference Server (explicit model control, same model repository) to use "
        "instead of the embedded engine",
    )
    parser.add_argument(
        "--max-upload-mb",
        type=_megabytes,
        default=2048 * _MEGABYTE,
        metavar="MB",
        dest="max_upload_bytes",
        help="how big an uploaded package may be (default: 2048)",
    )


def _serve(options: argparse.Namespace) -> None:
    from cls.errors import UsageError
    from cls.settings import load_settings

    settings = load_settings(options.cfg)
    if options.triton and not options.triton.startswith(("http://", "https://")):
        raise UsageError(f"--triton {options.triton} is not an address", hint="give one such as http://127.0.0.1:8000")

    from cls.model_storage.service import ServiceOptions, run_service

    run_service(
        ServiceOptions(
            root=options.root,
            host=options.host,
            port=options.port,
            ssh_port=options.ssh_port,
            infer_port=options.infer_port,
            triton_url=options.triton.rstrip("/"),
            token=settings.model_storage_token,
            max_upload_bytes=options.max_upload_bytes,
        )
    )


def _add_push_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--group", required=True, help="group whose exported model is published")
    parser.add_argument("--version", required=True, help="semantic version to publish it under, such as 0.0.1")
    parser.add_argument("--format", choices=("onnx", "trt"), default="onnx", help="which package (default: onnx)")


def _push(options: argparse.Namespace) -> None:
    from cls.bottle.layout import Bottle
    from cls.errors import StorageError
    from cls.model_storage.client import StorageClient
    from cls.model_storage.names import SemanticVersion
    from cls.package.model_name import model_name_of_group
    from cls.settings import load_settings

    settings = load_settings(options.cfg)
    SemanticVersion(options.version)
    zip_path = Bottle(settings).inference_model(options.group) / f"model_{options.format}.zip"
    if not zip_path.is_file():
        raise StorageError(
            "there is no package to publish",
            where=zip_path,
            hint=f"make it with: cls export --group {_quoted(options.group)}"
            + (" --require trt" if options.format == "trt" else ""),
        )
    model = model_name_of_group(options.group)
    with StorageClient(settings.model_storage_url, settings.model_storage_token) as client:
        published = client.publish(zip_path, model, options.version)
    print(f"{options.group} {published.version} is published as version {published.number} of model {model}")
    print(f"served at {published.url}" if published.is_served else "another version is served at the moment")


def _quoted(text: str) -> str:
    from shlex import quote

    return quote(text)


SERVE = Command("storage serve", "serve a model storage: HTTP, inference, files over SSH", _add_serve_arguments, _serve)
PUSH = Command("push", "publish a group's exported model in the model storage", _add_push_arguments, _push)
