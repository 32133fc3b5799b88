"""Links between the pages of a group: training reports, parity report, model card, mask gallery, predictions."""

from __future__ import annotations

import logging

from cls.bottle.layout import Bottle
from cls.errors import FileError, PackageError
from cls.package.meta import META_FILE_NAME, read_meta
from cls.pages.render import link_pages, set_links

_log = logging.getLogger("cls.package")
_OF_EVERY_RUN = "mask gallery"


def link_group_pages(bottle: Bottle, group: str) -> None:
    """Links the pages of a group with each other, as far as they are there; call it after one of them was written.

    The package's pages are linked with the report of the run it was exported from; reports of other runs with the mask
    gallery alone. Without a package, the newest run takes that run's place. A page that cannot be read or written is
    logged: it must not end the command that made it.
    """
    run = _run_of_pages(bottle, group)
    pages = bottle.pages(group, run)
    gallery = pages[_OF_EVERY_RUN]
    of_other_runs = {title: page if title == _OF_EVERY_RUN else None for title, page in pages.items()}
    of_gallery = {title: None if page == gallery else page for title, page in pages.items()}
    try:
        link_pages(pages)
        for page in gallery.parent.glob("index_*.html"):
            set_links(page, of_gallery)
        for report in bottle.models(group).glob("*/report.html"):
            if report.parent.name != run:
                set_links(report, of_other_runs)
    except FileError as error:
        _log.warning("the pages of group '%s' could not be linked: %s", group, error.line())


def _run_of_pages(bottle: Bottle, group: str) -> str:
    """The run of the group's package; the newest run without a package; empty without runs."""
    try:
        return read_meta(bottle.inference_model(group) / META_FILE_NAME).training.run
    except PackageError:
        reports = bottle.models(group).glob("*/report.html")
        newest = max(reports, key=lambda file: file.stat().st_mtime, default=None)
        return "" if newest is None else newest.parent.name
