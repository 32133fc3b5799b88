"""Runs the own collector as a process: binds, says where it is, serves until it is stopped."""

from __future__ import annotations

import logging
import socket

import uvicorn

from cls.collector.photo_set import PhotoSet
from cls.collector.server import create_app
from cls.collector.state import CollectorState
from cls.collector.tokens import Tokens
from cls.errors import CollectorError
from cls.wording import counted


class _AnnouncingServer(uvicorn.Server):
    """Prints one line when requests are answered."""

    line = ""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            print(self.line, flush=True)


def serve_until_stopped(photo_set: PhotoSet, state: CollectorState, tokens: Tokens, host: str, port: int) -> None:
    """Serves a set until SIGINT or SIGTERM.

    Args:
        photo_set: what is served.
        state: where modes and predictions are kept.
        tokens: who is let in.
        host: address to listen on.
        port: port to listen on; 0 takes a free one.

    Raises:
        CollectorError: the address is taken or cannot be listened on.
    """
    listener = _bind(host, port)
    server = _AnnouncingServer(
        uvicorn.Config(create_app(photo_set, state, tokens), log_level="warning", access_log=False, lifespan="off")
    )
    shown_host = f"[{host}]" if ":" in host else host
    groups = len(photo_set.groups)
    server.line = (
        f"collector: {counted(len(photo_set.photos), 'photo')}, {counted(groups, 'group')} "
        f"({', '.join(photo_set.groups)}) at http://{shown_host}:{listener.getsockname()[1]}"
    )
    missing = sum(not photo.file.is_file() for photo in photo_set.photos)
    if missing:
        logging.getLogger("cls.collector").warning("%d listed photos are not in the folder", missing)
    with listener:
        server.run(sockets=[listener])


def _bind(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(512)
    except OSError as error:
        raise CollectorError(
            f"cannot listen on {host}:{port}: {error.strerror or error}",
            hint="stop what uses the port, or choose another with --port",
        ) from error
    return listener
