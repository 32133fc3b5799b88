"""Opens a page in the user's browser, where there is one."""

from __future__ import annotations

import logging
import os
import sys
import webbrowser
from pathlib import Path

_log = logging.getLogger("cls.training")


def open_page(page: Path) -> bool:
    """Opens a page in the browser; says so where there is no screen or no browser.

    On a machine without a screen nothing is started: a text browser would take over the terminal.

    Args:
        page: an HTML file.

    Returns:
        Whether a browser was asked to open it.
    """
    has_screen = sys.platform in ("darwin", "win32") or bool({"DISPLAY", "WAYLAND_DISPLAY"} & os.environ.keys())
    if has_screen:
        try:
            if webbrowser.open(page.resolve().as_uri()):
                return True
        except webbrowser.Error as error:
            _log.debug("no browser: %s", error)
    _log.info("no browser can be opened here: open the file above in one")
    return False
