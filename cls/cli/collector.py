"""The verb `cls collector serve`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from cls.cli.command import Command
from cls.errors import CollectorError, UsageFault
from cls.machine import is_loopback
from cls.options import refuse

PASSWORD_VARIABLE = "CLS_COLLECTOR_PASSWORD"  # noqa: S105  the name of a variable, not a password


def add_serve_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `cls collector serve`."""
    parser.add_argument(
        "folder",
        type=Path,
        metavar="DIR",
        help="labelled photos: tags.csv with groups.json and images/, or GROUP/CATEGORY/*.jpg",
    )
    parser.add_argument("--group", help="the folders in DIR are the categories of this one group")
    parser.add_argument("--limit", type=int, metavar="N", help="serve N of the photos, spread evenly over the set")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument(
        "--port", type=int, default=8200, help="port to listen on; 0: a free one (default: %(default)s)"
    )
    parser.add_argument("--login", default="", help="the login that is let in (default: any)")
    parser.add_argument(
        "--state", type=Path, metavar="DIR", help="where predictions and modes are kept (default: DIR/.collector)"
    )
    parser.add_argument(
        "--token-ttl-s", type=float, default=3600.0, metavar="S", help="seconds a token lives (default: %(default)g)"
    )


def serve(options: argparse.Namespace) -> None:
    """Serves a folder of labelled photos until it is stopped.

    The password comes from the environment alone. Without one, anyone is let in, which is allowed on loopback only.
    """
    from cls.collector.server import STATE_FOLDER, CollectorState, Tokens, serve_until_stopped
    from cls.sources.folders import open_photo_set

    password = os.environ.get(PASSWORD_VARIABLE, "")
    _check(options, password)
    photo_set = open_photo_set(options.folder, options.group, limit=options.limit)
    state = CollectorState(options.state or options.folder / STATE_FOLDER)
    serve_until_stopped(
        photo_set, state, Tokens(options.login, password, options.token_ttl_s), options.host, options.port
    )


def _check(options: argparse.Namespace, password: str) -> None:
    expected = (
        ("limit", options.limit is None or options.limit >= 1, "a whole number from 1"),
        ("port", 0 <= options.port <= 65535, "a whole number from 0 to 65535"),
        ("token-ttl-s", options.token_ttl_s > 0, "a number above 0"),
        ("group", options.group is None or options.group.strip(), "the name of a group"),
    )
    faults = []
    for name, is_right, what in expected:
        if not is_right:
            found = getattr(options, name.replace("-", "_"))
            faults.append(UsageFault(f"--{name}: expected {what}, found {found!r}", code="invalid_option_value"))
    refuse(faults, "cls collector serve")
    if not password and not is_loopback(options.host):
        raise CollectorError(
            f"will not listen on {options.host} without a password",
            code="missing_password",
            hint=f"set {PASSWORD_VARIABLE}, or leave --host at 127.0.0.1",
        )


SERVE = Command("collector serve", "serve a folder of labelled photos as a collector", add_serve_arguments, serve)
