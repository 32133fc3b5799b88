"""How long near duplicates take: `python benchmarks/duplicate_rate.py [FOLDER OF PHOTOS] [--hashes 50000]`.

Processor seconds of one thread: signatures of photos (read, reduced decode, cosine transform) beside a whole decode of
the same files by OpenCV, then pairs among random signatures of which every hundredth is a copy with a few bits changed.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np


def main(folder: Path | None, hashes: int) -> None:
    """Print milliseconds a photo, and seconds for all pairs."""
    import cv2

    from cls.dataset.near_duplicates import near_pairs
    from cls.dataset.picture_signatures import _text
    from cls.sample.make import draw_photos
    from cls.sample.plan import SampleConfig

    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as drawn:
        if folder is None:
            (Path(drawn) / "images").mkdir()
            list(draw_photos(Path(drawn), SampleConfig(photos=60, seed=1), list(range(60))))
            folder = Path(drawn) / "images"
        photos = sorted(folder.iterdir())[:300]
        for photo in photos[:5]:
            _text(photo)
        started_s = time.process_time()
        for photo in photos:
            _text(photo)
        signed_s = time.process_time() - started_s
        started_s = time.process_time()
        for photo in photos:
            cv2.imdecode(np.frombuffer(photo.read_bytes(), np.uint8), cv2.IMREAD_COLOR)
        decoded_s = time.process_time() - started_s
    print(
        f"{len(photos)} photos: {1000 * signed_s / len(photos):.2f} ms a signature, "
        f"{1000 * decoded_s / len(photos):.2f} ms to decode the whole photo"
    )
    rng = np.random.default_rng(0)
    rows = rng.integers(0, 2**64, (hashes, 4), dtype=np.uint64)
    copies = hashes // 100
    rows[-copies:] = rows[:copies] ^ np.uint64(0b1011)
    started_s, started_wall_s = time.process_time(), time.perf_counter()
    pairs = near_pairs(rows)
    print(
        f"{hashes} signatures: {len(pairs)} pairs in {time.process_time() - started_s:.2f} s of processor time, "
        f"{time.perf_counter() - started_wall_s:.2f} s wall"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--hashes", type=int, default=50_000)
    options = parser.parse_args()
    main(options.folder, options.hashes)
