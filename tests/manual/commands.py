"""The commands of a Markdown page, in order, with what their comments say of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_BLOCK = re.compile(r"(?:<!-- (?P<note>[^\n]*?) -->\n)?```sh\n(?P<text>.*?)```", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """One block of shell lines.

    Attributes:
        text: the lines.
        ports: ports to wait for; a block that has some is a service that stays.
        is_skipped: the page says that it is not run here.
    """

    text: str
    ports: tuple[int, ...] = ()
    is_skipped: bool = False


def blocks_of(page: Path) -> list[Block]:
    """All `sh` blocks of a page."""
    found = []
    for match in _BLOCK.finditer(page.read_text()):
        note = match["note"] or ""
        ports = (
            tuple(int(port) for port in note.removeprefix("service:").split()) if note.startswith("service:") else ()
        )
        found.append(Block(match["text"], ports, note.startswith("skip:")))
    return found
