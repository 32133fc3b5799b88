"""Batches of augmented or exact cut-outs, made ahead of the training on the CPU."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cls.dataset.augment import Augmentation, augment
from cls.dataset.cutouts import Cutouts

_BATCHES_AHEAD = 4


class BatchKey(NamedTuple):
    """Which batch: a view of a sample is a function of seed, epoch and sample alone."""

    epoch: int
    indices: tuple[int, ...]


class Batch(NamedTuple):
    """One batch.

    Attributes:
        images: training: uint8 (batch, height, width, 3), RGB, not normalised (a quarter of the bytes to move);
            validation: float32 (batch, 3, height, width), normalised by `Preprocessing.normalise`.
        labels: float32 (batch, labels); NaN where unknown.
        indices: int64 (batch,), the samples' numbers.
    """

    images: Tensor
    labels: Tensor
    indices: Tensor


class EpochSampler(Sampler[BatchKey]):
    """Shuffles samples anew each epoch, by seed and epoch, into batches whose sizes differ by one at most.

    An even division leaves no tiny last batch, which would upset batch normalisation, and leaves no sample out.

    Args:
        count: how many samples there are.
        batch: how many a batch.
        seed: another seed gives another order.
        is_shuffled: off for validation.
    """

    def __init__(self, count: int, batch: int, *, seed: int = 0, is_shuffled: bool = True) -> None:
        self._count = count
        self._batches = max(-(-count // batch), 1)
        self._seed = seed
        self._is_shuffled = is_shuffled
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before every epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[BatchKey]:
        order = np.arange(self._count)
        if self._is_shuffled:
            np.random.default_rng([self._seed, self._epoch, 1]).shuffle(order)
        for part in np.array_split(order, self._batches):
            yield BatchKey(self._epoch, tuple(part.tolist()))


class TrainBatches(Dataset[Batch]):
    """Augmented batches. Asked for a `BatchKey`, it gives the whole batch.

    Args:
        cutouts: of the training samples.
        labels: float32 (samples, labels).
        augmentation: how strongly.
        seed: another seed gives other views.
    """

    def __init__(self, cutouts: Cutouts, labels: NDArray[np.float32], augmentation: Augmentation, *, seed: int) -> None:
        self._cutouts = cutouts
        self._labels = labels
        self._augmentation = augmentation
        self._seed = seed

    def view(self, epoch: int, index: int) -> NDArray[np.uint8]:
        """The view of a sample in an epoch, uint8 (height, width, 3)."""
        rng = np.random.default_rng([self._seed, epoch, index, 2])
        scene = self._cutouts.wide(int(rng.integers(len(self._cutouts))))
        return augment(self._cutouts.wide(index), scene, self._cutouts.format.preprocessing, self._augmentation, rng)

    def __getitem__(self, key: BatchKey) -> Batch:
        height_px, width_px, channels = self._cutouts.format.exact_shape
        images = np.empty((len(key.indices), height_px, width_px, channels), np.uint8)
        for place, index in enumerate(key.indices):
            images[place] = self.view(key.epoch, index)
        indices = np.array(key.indices, np.int64)
        return Batch(torch.from_numpy(images), torch.from_numpy(self._labels[indices]), torch.from_numpy(indices))


class ExactBatches(Dataset[Batch]):
    """Batches as inference sees them: no augmentation, `Preprocessing` to the letter.

    Args:
        cutouts: of the samples.
        labels: float32 (samples, labels).
    """

    def __init__(self, cutouts: Cutouts, labels: NDArray[np.float32]) -> None:
        self._cutouts = cutouts
        self._labels = labels

    def __getitem__(self, key: BatchKey) -> Batch:
        images = np.stack([self._cutouts.exact(index) for index in key.indices])
        indices = np.array(key.indices, np.int64)
        normal = self._cutouts.format.preprocessing.normalise(images)
        return Batch(torch.from_numpy(normal), torch.from_numpy(self._labels[indices]), torch.from_numpy(indices))


class Loader:
    """What the trainer iterates over: batches made ahead by a thread (`workers` 0) or by processes.

    One thread keeps two cores busy: OpenCV and NumPy let go of Python's lock while they work, and need a few percent
    of the time the network takes. Processes are for GPUs.

    Attributes:
        sampler: the trainer calls its `set_epoch`.
        batch_sampler: None: the sampler's items are whole batches, as in a DataLoader with `batch_size=None`.
    """

    def __init__(self, dataset: Dataset[Batch], sampler: EpochSampler, *, workers: int = 0) -> None:
        self.sampler = sampler
        self.batch_sampler = None
        self._dataset = dataset
        self._workers = workers

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        if self._workers > 0:
            loader: DataLoader[Batch] = DataLoader(
                self._dataset, batch_size=None, sampler=self.sampler, num_workers=self._workers
            )
            return iter(loader)
        return _made_ahead(self._dataset, list(self.sampler))


def _made_ahead(dataset: Dataset[Batch], keys: list[BatchKey]) -> Iterator[Batch]:
    """Batches in order, made by a thread a few ahead of the reader; an error in the thread is raised here."""
    ready: queue.Queue[Batch | Exception] = queue.Queue(_BATCHES_AHEAD)
    is_over = threading.Event()

    def make() -> None:
        for key in keys:
            made: Batch | Exception
            try:
                made = dataset[key]
            except Exception as error:  # noqa: BLE001  whatever it is, the reader raises it
                made = error
            while not is_over.is_set():
                try:
                    ready.put(made, timeout=0.2)
                    break
                except queue.Full:
                    continue
            if is_over.is_set() or isinstance(made, Exception):
                return

    thread = threading.Thread(target=make, name="batches", daemon=True)
    thread.start()
    try:
        for _ in keys:
            made = ready.get()
            if isinstance(made, Exception):
                raise made
            yield made
    finally:
        is_over.set()
        thread.join()
