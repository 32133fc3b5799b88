"""Batches of augmented or exact cut-outs, made ahead of the training on the CPU."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from cls.dataset.augment import Augmentation, Views, draw_views
from cls.dataset.backgrounds import Backgrounds
from cls.dataset.compose import compose
from cls.dataset.cutouts.cutouts import Cutouts

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
        rank: which of several processes this is, from 0.
        world: how many processes there are: each sample is one's alone, and all have equally many batches, none of them
            empty as long as there are `world` samples.
    """

    def __init__(
        self, count: int, batch: int, *, seed: int = 0, is_shuffled: bool = True, rank: int = 0, world: int = 1
    ) -> None:
        self._count = count
        self._rank = rank
        self._world = world
        self._batches = max(min(-(-count // (batch * world)), count // world), 1)
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
        for part in np.array_split(order, self._batches * self._world)[self._rank :: self._world]:
            yield BatchKey(self._epoch, tuple(part.tolist()))


class TrainBatches(Dataset[Batch]):
    """Augmented batches. Asked for a `BatchKey`, it gives the whole batch.

    Args:
        cutouts: of the training samples.
        labels: float32 (samples, labels).
        augmentation: how strongly.
        seed: another seed gives other views.
        backgrounds: sources of pictures to put behind people; each source counts alike.

    Attributes:
        cutouts: as given.
        labels: as given.
        backgrounds: as given.
    """

    def __init__(
        self,
        cutouts: Cutouts,
        labels: NDArray[np.float32],
        augmentation: Augmentation,
        *,
        seed: int,
        backgrounds: Sequence[Backgrounds] = (),
    ) -> None:
        self.cutouts = cutouts
        self.labels = labels
        self._augmentation = augmentation
        self._seed = seed
        self.backgrounds = backgrounds

    def views(self, key: BatchKey) -> Views:
        """What happens to the samples of a batch."""
        format_ = self.cutouts.format
        return draw_views(
            self._augmentation, format_.preprocessing, format_.wide_shape,
            seed=self._seed, epoch=key.epoch, indices=key.indices,
        )  # fmt: skip

    def __getitem__(self, key: BatchKey) -> Batch:
        wide = [self.cutouts.wide(index) for index in key.indices]
        boxes = [self.cutouts.box(index) for index in key.indices]
        images = compose(wide, boxes, self.views(key), self.cutouts.format.preprocessing, self.backgrounds)
        indices = np.array(key.indices, np.int64)
        return Batch(torch.from_numpy(images), torch.from_numpy(self.labels[indices]), torch.from_numpy(indices))


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

    Args:
        dataset: gives whole batches.
        sampler: says which.
        workers: processes that make batches; 0: a thread.
        finish: batch and epoch -> the batch as it is handed over; called where the batches are read.

    Attributes:
        sampler: the trainer calls its `set_epoch`.
        batch_sampler: None: the sampler's items are whole batches, as in a DataLoader with `batch_size=None`.
    """

    def __init__(
        self,
        dataset: Dataset[Batch],
        sampler: EpochSampler,
        *,
        workers: int = 0,
        finish: Callable[[Batch, int], Batch] | None = None,
    ) -> None:
        self.sampler = sampler
        self._finish = finish
        self.batch_sampler = None
        self._dataset = dataset
        self._workers = workers

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Batch]:
        keys = list(self.sampler)
        made = self._made(keys)
        if self._finish is None:
            return made
        finish = self._finish
        return (finish(batch, key.epoch) for key, batch in zip(keys, made, strict=True))

    def _made(self, keys: list[BatchKey]) -> Iterator[Batch]:
        if self._workers > 0:
            # A generator of its own: drawing from torch's would make dropout depend on the number of workers.
            loader: DataLoader[Batch] = DataLoader(
                self._dataset,
                batch_size=None,
                sampler=keys,
                num_workers=self._workers,
                generator=torch.Generator().manual_seed(0),
            )
            return iter(loader)
        return _made_ahead(self._dataset, keys)


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
