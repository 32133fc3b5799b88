"""The verb `cls collector serve`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from cls.cli.command import Command, add_options, given
from cls.collector.config import ServerConfig
from cls.errors import CollectorError
from cls.machine import is_loopback

PASSWORD_VARIABLE = "CLS_COLLECTOR_PASSWORD"  # noqa: S105  the name of a variable, not a password


def add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `cls collector serve`."""
    parser.add_argument(
        "folder",
        type=Path,
        metavar="DIR",
        help="labelled photos: tags.csv with groups.json and images/, or GROUP/CATEGORY/*.jpg",
    )
    add_options(parser, ServerConfig)


def serve(options: argparse.Namespace) -> None:
    """Serves a folder of labelled photos until it is stopped.

    The password comes from the environment alone. Without one, anyone is let in, which is allowed on loopback only.
    """
    config = ServerConfig(folder=options.folder, **given(options, ServerConfig))
    password = os.environ.get(PASSWORD_VARIABLE, "")
    if not password and not is_loopback(config.host):
        raise CollectorError(
            f"will not listen on {config.host} without a password",
            code="missing_password",
            hint=f"set {PASSWORD_VARIABLE}, or leave --host at 127.0.0.1",
        )
    from cls.collector.server import STATE_FOLDER, CollectorState, Tokens, serve_until_stopped
    from cls.sources.folders import open_photo_set

    photo_set = open_photo_set(config.folder, config.group, limit=config.limit)
    state = CollectorState(config.state or config.folder / STATE_FOLDER)
    tokens = Tokens(config.login, password, config.token_ttl_s)
    serve_until_stopped(photo_set, state, tokens, config.host, config.port)


SERVE = Command("collector serve", "serve a folder of labelled photos as a collector", add_serve_arguments, serve)
