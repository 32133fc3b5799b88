"""How fast does `load-group` bring photos in, beside a plain sequential httpx loop that writes what it gets?

    python benchmarks/load_rate.py [--photos 1000] [--source DIR] [--latency-ms 20]

Both fetch the same photos from `cls collector serve` in a process of its own on loopback, once as it is and once
through a relay that holds every request back as a network would. The loop checks nothing, keeps no ledger and starts
anew when killed; load-group also fetches the picset meta, decodes every photo to its end and makes every file durable.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from cls.bottle.layout import Bottle
from cls.collector.client import CollectorClient
from cls.loading.load import load_group
from cls.settings import REPOSITORY, Settings
from cls.sources.folders import open_photo_set

SERVE = "from cls.cli.collector import SERVE; from cls.cli.command import main; main(SERVE)"


@contextlib.contextmanager
def collector(folder: Path, photos: int, state: Path) -> Iterator[str]:
    words = [str(folder), "--port", "0", "--limit", str(photos), "--state", str(state)]
    process = subprocess.Popen([sys.executable, "-c", SERVE, *words], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    yield process.stdout.readline().strip().rsplit(" at ", 1)[1]
    process.terminate()
    process.wait(10)


@contextlib.contextmanager
def far_away(url: str, latency_s: float) -> Iterator[str]:
    """A relay on loopback that holds everything the collector says back for a while."""
    target = urlsplit(url)
    loop = asyncio.new_event_loop()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, wait_s: float) -> None:
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            is_new = True
            while content := await reader.read(1 << 18):
                if is_new:
                    await asyncio.sleep(wait_s)
                is_new = len(content) < 1 << 16
                writer.write(content)
                await writer.drain()
            writer.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(target.hostname, target.port)
        # The wait is on the way there: one a request, whatever the size of the answer.
        await asyncio.gather(relay(reader, far_writer, latency_s), relay(far_reader, writer, 0.0))

    server = loop.run_until_complete(asyncio.start_server(accept, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    loop.call_soon_threadsafe(loop.stop)
    thread.join()


def plain_loop(url: str, group: str, folder: Path) -> float:
    """Photos a second of the loop everyone writes first."""
    folder.mkdir()
    with httpx.Client(base_url=url, timeout=60) as client:
        started_s = time.perf_counter()
        token = client.post("/v1/login", json={"login": "a", "password": "b"}).json()["token"]
        headers = {"Authorization": f"bearer {token}"}
        body = {"listBy": 0, "categories": [], "groups": [group], "mode": ["PREPARING", "CHECKING", "VALIDATED"]}
        data = client.post("/v1/meta/pictures", json=body, headers=headers).json()["data"]
        paths = {photo["filepath"] for category in data.values() for photo in category["pictures"]}
        for path in paths:
            (folder / path.rsplit("/", 1)[1]).write_bytes(client.get(f"/{path}", headers=headers).content)
        return len(paths) / (time.perf_counter() - started_s)


def our_load(url: str, group: str, folder: Path, workers: int) -> float:
    """Photos a second of load-group, from the login to the dataset file."""
    bottle = Bottle(Settings(file=folder / "configuration.yaml", data_path=folder))
    with CollectorClient(url, connections=workers) as client:
        started_s = time.perf_counter()
        loaded = load_group(client, bottle, group, workers=workers)
        return loaded.report.pictures_stored / (time.perf_counter() - started_s)


def measure(url: str, group: str, folder: Path, repeats: int) -> None:
    plain, ours = [], []
    for _ in range(repeats):
        for name, rates, load in (
            ("plain", plain, lambda place: plain_loop(url, group, place)),
            ("ours", ours, lambda place: our_load(url, group, place, 8)),
        ):
            rates.append(load(folder / name))
            shutil.rmtree(folder / name)
    plain_rate, our_rate = sorted(plain)[repeats // 2], sorted(ours)[repeats // 2]
    ratio = our_rate / plain_rate
    print(
        f"  plain loop {plain_rate:6.0f} photos/s   load-group {our_rate:6.0f} photos/s   ratio {ratio:.2f}", flush=True
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = REPOSITORY.parent / "shared" / "data" / "street_fashion"
    parser.add_argument("--source", type=Path, default=default, help="a folder of labelled photos")
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--latency-ms", type=float, default=20.0)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    group = open_photo_set(options.source).groups[0]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        with collector(options.source, options.photos, folder / "state") as url:
            print(f"{options.photos} photos of {options.source.name}, group {group}, loopback:")
            measure(url, group, folder, options.repeats)
            with far_away(url, options.latency_ms / 1000) as far_url:
                print(f"the same, {options.latency_ms:g} ms away:")
                measure(far_url, group, folder, options.repeats)


if __name__ == "__main__":
    main()
