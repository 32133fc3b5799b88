"""Photos looked at by the workers of a Dask cluster: chunks go out, what was found comes back."""

from __future__ import annotations

import importlib
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from cls.errors import ClsError, PredictionError
from cls.machine import cores
from cls.package.keys import TrustedKeys
from cls.people.photos import Person
from cls.prediction.contact_sheet import MAX_CARDS
from cls.prediction.journal import Job, JournalEntry
from cls.prediction.predict import PeopleFinder
from cls.runtimes.classifier import Classifier
from cls.settings import Settings

# Chunks of 8 photos that go out together: a message costs little beside them, a killed worker loses few.
_CHUNKS_A_TASK = 4
# Tasks waiting at the workers: enough that none idles, few enough that 100,000 photos need no memory.
_TASKS_AHEAD = 4
_CONNECT_TIMEOUT_S = 15
_HINT = "pip install -e '.[cluster]'"

_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class _WorkerSetup:
    """What a worker opens once: it travels with every task as a few paths."""

    model: str
    settings: str
    segmenter: str | None
    is_whole: bool
    trust: TrustedKeys | None = None


def cluster_runner(
    address: str | None,
    settings: Settings,
    classifier: Classifier,
    finder: PeopleFinder,
    trust: TrustedKeys | None = None,
) -> Callable[[Sequence[Sequence[Job]]], Iterator[list[JournalEntry]]]:
    """What `predict_to_files` hands photos to.

    The results are those of one process: chunks stay together, and every photo's record is taken once. A worker that
    dies is replaced, and what it was doing is done again by another.

    Args:
        address: of the cluster's scheduler, e.g. `tcp://HOST:8786`; None: processes of this machine, one a core.
        settings: of the data folder.
        classifier: opened from a file or a URL that all workers know under the same name.
        finder: says who is in a photo.
        trust: as the classifier was opened with: each worker checks the model's signature by itself.

    Raises:
        PredictionError: Dask is not installed.
    """
    _dask()
    is_path = Path(classifier.source).exists()
    setup = _WorkerSetup(
        str(Path(classifier.source).absolute()) if is_path else classifier.source,
        str(settings.file.absolute()),
        str(finder.segmenter_file.absolute()) if finder.segmenter_file is not None else None,
        finder.is_whole,
        trust,
    )

    def run(chunks: Sequence[Sequence[Job]]) -> Iterator[list[JournalEntry]]:
        if chunks:
            with _client(address) as client:
                yield from _spread(client, setup, finder, chunks)

    return run


def _spread(
    client: Any, setup: _WorkerSetup, finder: PeopleFinder, chunks: Sequence[Sequence[Job]]
) -> Iterator[list[JournalEntry]]:
    """Keeps a few tasks waiting at each worker until all chunks are done."""
    tasks = (chunks[start : start + _CHUNKS_A_TASK] for start in range(0, len(chunks), _CHUNKS_A_TASK))

    def submit(task: Sequence[Sequence[Job]]) -> Any:
        absolute = [[replace(job, file=job.file.absolute()) for job in chunk] for chunk in task]
        known = {
            new.file: finder.known[job.file]
            for chunk, moved in zip(task, absolute, strict=True)
            for job, new in zip(chunk, moved, strict=True)
            if job.file in finder.known
        }
        return client.submit(_predict_in_worker, setup, absolute, known, cards, pure=False)

    cards = MAX_CARDS
    ahead = _TASKS_AHEAD * max(len(client.scheduler_info()["workers"]), 1)
    done = _dask().as_completed([submit(task) for task in islice(tasks, ahead)])
    for future in done:
        for records in _result(future):
            cards = max(cards - sum(len(record.cards) for record in records), 0)
            yield records
        following = next(tasks, None)
        if following is not None:
            done.add(submit(following))


def _result(future: Any) -> list[list[JournalEntry]]:
    dask = _dask()
    try:
        result: list[list[JournalEntry]] = future.result()
    except ClsError:
        raise
    except (dask.KilledWorker, dask.CancelledError) as error:
        raise PredictionError(
            "the cluster's workers died again and again over the same photos",
            code="workers_died",
            hint="look at their memory; what is done is kept, the same command goes on from there",
        ) from error
    except Exception as error:
        # Whatever a worker on another machine can run into: another version of CLS, a folder it does not have.
        raise PredictionError(
            f"a worker of the cluster failed: {type(error).__name__}: {error}",
            code="worker_failed",
            hint="all workers need this version of CLS, and the photos and the model under the same paths",
        ) from error
    return result


def _predict_in_worker(
    setup: _WorkerSetup, chunks: Sequence[Sequence[Job]], known: dict[Path, tuple[Person, ...]], cards: int
) -> list[list[JournalEntry]]:
    """Runs at a worker."""
    from cls.prediction.predict import read_ahead
    from cls.prediction.session import records_of_chunk

    # A network uses all cores the worker was given; two at a time would only wait for each other.
    with _one_at_a_time:
        classifier, segmenter = _opened(setup)
        finder = PeopleFinder(known, segmenter, is_whole=setup.is_whole)
        files = [[job.file for job in chunk] for chunk in chunks]
        found = []
        for chunk, read in zip(chunks, read_ahead(files), strict=True):
            records = records_of_chunk(read, [job.key for job in chunk], classifier, finder, cards)
            cards -= sum(len(record.cards) for record in records)
            found.append(records)
        return found


@lru_cache(maxsize=1)
def _opened(setup: _WorkerSetup) -> tuple[Classifier, Any]:
    """Model and segmenter, opened once a worker, with the cores the worker was given."""
    from cls.bottle.layout import Bottle
    from cls.runtimes.local import use_cores
    from cls.runtimes.open import open_classifier
    from cls.settings import load_settings

    use_cores(_dask().get_worker().state.nthreads)
    settings = load_settings(Path(setup.settings))
    classifier = open_classifier(setup.model, Bottle(settings), trust=setup.trust)
    if setup.segmenter is None:
        return classifier, None
    from cls.segmentation.segmenter import load_segmenter

    return classifier, load_segmenter(Path(setup.segmenter), people_classes=settings.people_classes)


def _dask() -> Any:
    """The module `distributed`, untyped as it is."""
    try:
        return importlib.import_module("distributed")
    except ImportError as error:
        raise PredictionError(
            "--cluster needs Dask, which is not installed", code="dask_not_installed", hint=_HINT
        ) from error


def _quieten() -> None:
    """Runs at a worker of this machine: stopped, it would log at length that its scheduler is gone."""
    for name in ("distributed", "distributed.worker"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


@contextmanager
def _client(address: str | None) -> Iterator[Any]:
    """A client of the cluster; without an address, of one on this machine that ends with the block."""
    dask = _dask()
    logging.getLogger("distributed").setLevel(logging.ERROR)
    if address is None:
        with (
            dask.LocalCluster(
                n_workers=cores(),
                threads_per_worker=1,
                host="127.0.0.1",
                dashboard_address=None,
                silence_logs=logging.CRITICAL,
                memory_limit=0,
            ) as cluster,
            dask.Client(cluster) as client,
        ):
            client.register_worker_callbacks(setup=_quieten)
            yield client
        return
    try:
        client = dask.Client(address, timeout=_CONNECT_TIMEOUT_S)
    except (OSError, ValueError) as error:
        raise PredictionError(
            "the cluster cannot be reached",
            code="cluster_unreachable",
            where=address,
            hint="start it (`dask scheduler`) or correct the address",
        ) from error
    with client:
        if not client.scheduler_info()["workers"]:
            raise PredictionError(
                "the cluster has no workers", code="no_workers", where=address, hint="start one (`dask worker ADDRESS`)"
            )
        yield client
