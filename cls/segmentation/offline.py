"""ultralytics without its habits: no network, no pip, no foreign folders, no change of the process's thread count.

Left alone, importing or training ultralytics probes DNS names, looks for a newer version, downloads a font, installs
missing packages with pip, writes settings into the home folder, sets OMP_NUM_THREADS and torch's thread count for the
whole process. All of it is switched off here, before the first import; nothing else in the project imports it directly.
"""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path

from cls.files import write_bytes_atomic

_CONFIG_FOLDER = "YOLO_CONFIG_DIR"
_SWITCHES = {
    "YOLO_OFFLINE": "True",
    "YOLO_AUTOINSTALL": "False",
    "YOLO_VERBOSE": "False",
    "ULTRALYTICS_SAFE_LOAD": "True",  # checkpoints are unpickled without running code of theirs
}
_FONT = Path("mpl-data/fonts/ttf/DejaVuSans.ttf")


def prepare_ultralytics() -> Path:
    """Sets the environment ultralytics reads at import; call before importing any of it.

    Variables the user has set stay as they are.

    Returns:
        The folder ultralytics keeps its settings in: `YOLO_CONFIG_DIR`, or one of our own in the user's cache.
    """
    for name, value in _SWITCHES.items():
        os.environ.setdefault(name, value)
    folder = Path(os.environ.setdefault(_CONFIG_FOLDER, str(_own_folder())))
    font = folder / "Ultralytics" / "Arial.ttf"
    spec = find_spec("matplotlib")
    if not font.exists() and spec is not None and spec.origin is not None:
        # Without a font under this name it is downloaded for the first plot.
        write_bytes_atomic(font, (Path(spec.origin).parent / _FONT).read_bytes())
    return folder


def _own_folder() -> Path:
    """A writable folder in the user's cache, or below the temporary folder where there is none."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    folder = cache / "cls" / "ultralytics"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.gettempdir()) / f"cls-ultralytics-{os.getuid()}"


@contextmanager
def no_foreign_output() -> Iterator[None]:
    """A block in which nothing is printed: ultralytics draws progress bars on standard output, whatever it is told."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        yield


@contextmanager
def quiet_ultralytics() -> Iterator[None]:
    """A block in which ultralytics may be imported and used; afterwards the process is as it was before.

    Restores OMP_NUM_THREADS, torch's thread count and Pillow's `Image.open`, and keeps ultralytics' messages below
    warnings off the terminal.
    """
    import torch
    from PIL import Image

    prepare_ultralytics()
    open_image = Image.open
    threads = torch.get_num_threads()
    omp_threads = os.environ.get("OMP_NUM_THREADS")
    logging.getLogger("ultralytics").setLevel(logging.WARNING)
    try:
        yield
    finally:
        # At import it replaces Pillow's open by one that looks for a HEIF plugin whenever a file is no picture.
        Image.open = open_image
        if omp_threads is None:
            os.environ.pop("OMP_NUM_THREADS", None)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)
