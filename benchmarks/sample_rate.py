"""How many photos a second one process draws, encodes and writes at 640x480: `python benchmarks/sample_rate.py`."""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path


def main(photos: int) -> None:
    """Print photos a second of wall time and of processor time, warm."""
    from cls.sample.config import SampleConfig
    from cls.sample.make import draw_photos

    config = SampleConfig(photos=photos + 10, seed=12345)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "images").mkdir()
        list(draw_photos(Path(folder), config, list(range(photos, photos + 10))))
        wall_s, cpu_s = time.perf_counter(), time.process_time()
        list(draw_photos(Path(folder), config, list(range(photos))))
        wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    print(f"{photos} photos of 640x480: {photos / wall_s:.1f} photos/s wall, {photos / cpu_s:.1f} photos/s/core")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
