"""Pages from templates: one look, one set of components; a page loads nothing from elsewhere."""

from __future__ import annotations

import base64
import datetime
import os
import re
from collections.abc import Callable, Mapping
from functools import cache
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import cv2
import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from numpy.typing import NDArray

from cls.errors import FileError
from cls.files import write_text_atomic

_JPEG_QUALITY = 86


def jpeg_bytes(image_rgb: NDArray[np.uint8]) -> bytes:
    """A picture, uint8 (height, width, 3), as a JPEG file."""
    _, encoded = cv2.imencode(
        ".jpg", cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    return encoded.tobytes()


def jpeg_url(jpeg: bytes) -> str:
    """A JPEG file as a URL that holds all of it."""
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg).decode()}"


def picture_url(image_rgb: NDArray[np.uint8], width_px: int = 160) -> str:
    """A picture as a URL that holds a copy of it, at most `width_px` wide.

    Args:
        image_rgb: uint8 (height, width, 3).
        width_px: of the copy, at most.
    """
    height_px, own_width_px = image_rgb.shape[:2]
    if own_width_px > width_px:
        size = (width_px, max(round(height_px * width_px / own_width_px), 1))
        image_rgb = np.asarray(cv2.resize(image_rgb, size, interpolation=cv2.INTER_AREA), np.uint8)
    return jpeg_url(jpeg_bytes(image_rgb))


_LINKS = re.compile(r'(?<=<nav class="related" aria-label="related pages">).*?(?=</nav>)')
_LINK = re.compile(r'<a href="([^"]*)">[^<]*</a>')


@cache
def _environment() -> Environment:
    """Templates are named by their path in the package: `pages/page.html`, `training/report/report.html`."""
    return Environment(
        loader=PackageLoader("cls", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, values: Mapping[str, Any]) -> str:
    """A page's HTML.

    Args:
        template: its path in the package, of a template that extends `pages/page.html`.
        values: what the template shows; a missing one is an error.
    """
    return _environment().get_template(template).render(values)


def write_page(path: Path, template: str, values: Mapping[str, Any]) -> None:
    """Writes a page, whole or not at all.

    Raises:
        FileError: the file cannot be written.
    """
    write_text_atomic(path, render(template, values))


def link_pages(pages: Mapping[str, Path]) -> None:
    """Links pages that belong together with each other, as far as they are there.

    Raises:
        FileError: a page cannot be read or written.
    """
    for page in pages.values():
        if page.is_file():
            set_links(page, {title: other for title, other in pages.items() if other != page})


def set_links(page: Path, others: Mapping[str, Path]) -> None:
    """Replaces the links to related pages at the head of a page by links to those of them that exist.

    Links are relative: a folder that holds the pages can be moved. A page of an earlier version has no place for them
    and stays as it is.

    Raises:
        FileError: the page cannot be read or written.
    """
    links = "".join(
        f'<a href="{quote(os.path.relpath(other, page.parent))}">{escape(title)}</a>'
        for title, other in others.items()
        if other.is_file()
    )
    _replace_links(page, lambda _: links)


def drop_dead_links(page: Path) -> None:
    """Removes the links at the head of a page to pages that are gone.

    Raises:
        FileError: the page cannot be read or written.
    """

    def kept(link: re.Match[str]) -> str:
        return link[0] if (page.parent / unquote(link[1])).is_file() else ""

    _replace_links(page, lambda links: _LINK.sub(kept, links))


def _replace_links(page: Path, change: Callable[[str], str]) -> None:
    try:
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise FileError(f"cannot be read: {error}", code="unreadable", where=page) from error
    changed = _LINKS.sub(lambda found: change(found[0]), text, count=1)
    if changed != text:
        write_text_atomic(page, changed)


def now_utc() -> str:
    """When a page is made, as it says so."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
