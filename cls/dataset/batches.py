"""Batches of augmented or unaugmented cut-outs, prefetched on the CPU or composed on the GPU."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad
from torch.utils.data import DataLoader, Dataset, Sampler

from cls.dataset.backgrounds import FLAT, PICTURE, Augmentation, Backgrounds, BatchKey, Views, draw_views
from cls.dataset.cutouts import Cutouts
from cls.errors import TrainingError
from cls.people.preprocess import Preprocessing

_BATCHES_AHEAD = 4


def compose(
    rgb_and_mask: Sequence[NDArray[np.uint8]],
    boxes_xyxy_px: Sequence[tuple[int, int, int, int]],
    views: Views,
    preprocessing: Preprocessing,
    backgrounds: Sequence[Backgrounds],
) -> NDArray[np.uint8]:
    """Augments cut-outs.

    Args:
        rgb_and_mask: each uint8 (height, width, 4), picture and mask of the cut-out cache.
        boxes_xyxy_px: the person's box in each; outside, the mask is 0.
        views: the random changes.
        preprocessing: size, colour around the person.
        backgrounds: sources of pictures to put behind people; none: the flat colour of inference.

    Returns:
        uint8 (batch, preprocessing.height_px, preprocessing.width_px, 3).
    """
    height_px, width_px = preprocessing.height_px, preprocessing.width_px
    batch = np.empty((len(views), height_px, width_px, 3), np.uint8)
    plain = np.empty((height_px, width_px, 3), np.uint8)
    plain[:] = preprocessing.fill_rgb
    flats = _flat_matrices(views.flat_rgb)
    if preprocessing.is_background_kept:
        # The whole photo is drawn, and its colours change too.
        boxes_xyxy_px = [(0, 0, picture.shape[1], picture.shape[0]) for picture in rgb_and_mask]
        corners, targets = views.matrices, [[0, 0, width_px, height_px]] * len(views)
    else:
        corners, targets = _targets(views.matrices, boxes_xyxy_px, height_px, width_px)
    blender = _Blender(preprocessing)
    for number, picture in enumerate(rgb_and_mask):
        view = batch[number]
        ground = None if preprocessing.is_background_kept else background_of(views, number, backgrounds)
        if ground is not None:
            np.copyto(view, ground)
        elif views.grounds[number] == FLAT and not preprocessing.is_background_kept:
            cv2.rectangle(view, (0, 0), (width_px, height_px), views.flat_rgb[number].tolist(), cv2.FILLED)
        else:
            np.copyto(view, plain)
        left, top, right, bottom = boxes_xyxy_px[number]
        x0, y0, x1, y1 = targets[number]
        if x1 > x0 and y1 > y0 and right > left and bottom > top:
            person, target = picture[top:bottom, left:right], view[y0:y1, x0:x1]
            blender.blend(
                person, corners[number], views.colours[number], target, None if ground is not None else flats[number]
            )
        top, left, box_height_px, box_width_px = views.boxes_yxhw_px[number].tolist()
        if box_height_px:
            view[top : top + box_height_px, left : left + box_width_px] = preprocessing.fill_rgb
    return batch


class _Blender:
    """Blends people into views; holds the buffers that all views share."""

    def __init__(self, preprocessing: Preprocessing) -> None:
        self._is_background_kept = preprocessing.is_background_kept
        self._around = (*map(float, preprocessing.fill_rgb), 0.0)
        pixels = preprocessing.height_px * preprocessing.width_px
        self._warped = np.empty(pixels * 4, np.uint8)
        self._person, self._mask, self._back = (np.empty(pixels * 3, np.uint8) for _ in range(3))

    def blend(
        self,
        picture: NDArray[np.uint8],
        matrix: NDArray[np.float64],
        colour: NDArray[np.float32],
        target: NDArray[np.uint8],
        flat: NDArray[np.float32] | None,
    ) -> None:
        """Warps a picture with mask onto a part of a view.

        Args:
            picture: uint8 (height, width, 4).
            matrix: float64 (2, 3), its pixels -> those of `target`.
            colour: float32 (3, 4).
            target: uint8 (height, width, 3), holds the background; changed.
            flat: float32 (3, 4), mask -> background, where that is one colour.
        """
        height_px, width_px = target.shape[:2]
        pixels, shape = height_px * width_px, (height_px, width_px, 3)
        warped = self._warped[: pixels * 4].reshape(height_px, width_px, 4)
        person, mask, back = (part[: pixels * 3].reshape(shape) for part in (self._person, self._mask, self._back))
        cv2.warpAffine(picture, matrix, (width_px, height_px), warped, cv2.INTER_LINEAR, borderValue=self._around)
        cv2.cvtColor(warped, cv2.COLOR_RGBA2RGB, person)
        cv2.transform(person, colour, person)
        if self._is_background_kept:
            np.copyto(target, person)
            return
        cv2.cvtColor(cv2.extractChannel(warped, 3), cv2.COLOR_GRAY2RGB, mask)
        cv2.multiply(person, mask, person, 1 / 255)
        if flat is not None:
            cv2.transform(mask, flat, back)
        else:
            cv2.bitwise_not(mask, mask)
            cv2.multiply(target, mask, back, 1 / 255)
        cv2.add(person, back, target)


def background_of(views: Views, number: int, backgrounds: Sequence[Backgrounds]) -> NDArray[np.uint8] | None:
    """The picture behind a view's person, uint8 (height, width, 3); None for a flat colour."""
    sources = [source for source in backgrounds if len(source)]
    if views.grounds[number] != PICTURE or not sources:
        return None
    source = sources[int(views.pictures[number, 0] * len(sources))]
    picture = source.picture(int(views.pictures[number, 1] * len(source)))
    return np.asarray(cv2.flip(picture, 1), np.uint8) if views.is_picture_flipped[number] else picture


def _flat_matrices(flat_rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Mask -> the flat colour around the person, as a colour matrix, which is the fastest way; (batch, 3, 4)."""
    matrices = np.zeros((len(flat_rgb), 3, 4), np.float32)
    matrices[:, [0, 1, 2], [0, 1, 2]] = flat_rgb / -255
    matrices[:, :, 3] = flat_rgb
    return matrices


def _targets(
    matrices: NDArray[np.float64], boxes_xyxy_px: Sequence[tuple[int, int, int, int]], height_px: int, width_px: int
) -> tuple[NDArray[np.float64], list[list[int]]]:
    """Matrices from the boxes' own corners to the parts of the view they reach, and these parts (x0, y0, x1, y1)."""
    boxes = np.asarray(boxes_xyxy_px, np.float64).reshape(-1, 4)
    xs, ys = boxes[:, [0, 2, 2, 0]], boxes[:, [1, 1, 3, 3]]
    corners = matrices[:, :, :2] @ np.stack([xs, ys], axis=1) + matrices[:, :, 2:]
    low = np.maximum(np.floor(corners.min(axis=2)) - 1, 0)
    high = np.minimum(np.ceil(corners.max(axis=2)) + 2, (width_px, height_px))
    moved = matrices.copy()
    moved[:, :, 2] += (matrices[:, :, :2] @ boxes[:, :2, None])[:, :, 0] - low
    return moved, np.concatenate([low, high], axis=1).astype(int).tolist()


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


def _batch_of(images: NDArray[np.uint8] | NDArray[np.float32], labels: NDArray[np.float32], key: BatchKey) -> Batch:
    indices = np.array(key.indices, np.int64)
    return Batch(torch.from_numpy(images), torch.from_numpy(labels[indices]), torch.from_numpy(indices))


class EpochSampler(Sampler[BatchKey]):
    """Shuffles samples again each epoch, by seed and epoch, into batches whose sizes differ by one at most.

    An even division leaves no tiny last batch, which would upset batch normalisation, and leaves no sample out.

    Args:
        count: how many samples there are.
        batch: batch size, at most.
        seed: of the order; None: the samples' own order, for validation.
        rank: of this process, from 0.
        world: number of processes: each sample goes to one of them, and all have equally many batches, none empty as
            long as there are `world` samples.
    """

    def __init__(self, count: int, batch: int, *, seed: int | None = 0, rank: int = 0, world: int = 1) -> None:
        self._count = count
        self._rank = rank
        self._world = world
        self._batches = max(min(-(-count // (batch * world)), count // world), 1)
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before every epoch."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[BatchKey]:
        order = np.arange(self._count)
        if self._seed is not None:
            np.random.default_rng([self._seed, self._epoch, 1]).shuffle(order)
        for part in np.array_split(order, self._batches * self._world)[self._rank :: self._world]:
            yield BatchKey(self._epoch, tuple(part.tolist()))


class TrainBatches(Dataset[Batch]):
    """Augmented batches. Asked for a `BatchKey`, it gives the whole batch.

    Args:
        cutouts: of the training samples.
        labels: float32 (samples, labels).
        augmentation: its strength.
        seed: of the augmentation.
        backgrounds: sources of pictures to put behind people, drawn equally often.
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
        """The random changes of a batch."""
        format_ = self.cutouts.format
        return draw_views(self._augmentation, format_.preprocessing, format_.rgb_and_mask_shape, key, seed=self._seed)

    def __getitem__(self, key: BatchKey) -> Batch:
        rgb_and_mask = [self.cutouts.rgb_and_mask(index) for index in key.indices]
        boxes = [self.cutouts.box(index) for index in key.indices]
        images = compose(rgb_and_mask, boxes, self.views(key), self.cutouts.format.preprocessing, self.backgrounds)
        return _batch_of(images, self.labels, key)


class ValidationBatches(Dataset[Batch]):
    """Unaugmented batches, preprocessed as at inference; `labels` are float32 (samples, labels)."""

    def __init__(self, cutouts: Cutouts, labels: NDArray[np.float32]) -> None:
        self._cutouts = cutouts
        self._labels = labels

    def __getitem__(self, key: BatchKey) -> Batch:
        images = np.stack([self._cutouts.input_rgb(index) for index in key.indices])
        return _batch_of(self._cutouts.format.preprocessing.normalise(images), self._labels, key)


class Loader:
    """What the trainer iterates over: batches prefetched by a thread (`workers` 0) or by processes.

    A thread is enough on a CPU: OpenCV and NumPy release the GIL, and need a few percent of the network's time.
    Processes are for GPUs.

    Args:
        dataset: gives whole batches.
        sampler: of the batches' keys.
        workers: processes that make batches; 0: a thread.
        finish: batch and epoch -> the batch as it is returned; called in the trainer's process.

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
        if (finish := self._finish) is None:
            return made
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
            return _of_workers(iter(loader))
        return _made_ahead(self._dataset, keys)


def _of_workers(batches: Iterator[Batch]) -> Iterator[Batch]:
    """The batches; torch's own error of a worker that ended is long and says neither why nor what to do."""
    try:
        yield from batches
    except RuntimeError as error:
        if "exited unexpectedly" not in str(error):
            raise
        raise TrainingError(
            "a worker process that makes batches ended (out of memory?)",
            code="worker_died",
            hint='train with fewer --workers; in a script, call it under `if __name__ == "__main__":`',
        ) from None


def _made_ahead(dataset: Dataset[Batch], keys: list[BatchKey]) -> Iterator[Batch]:
    """Batches in order, prefetched by a thread, whose errors are raised here."""
    ready: queue.Queue[Batch | Exception] = queue.Queue(_BATCHES_AHEAD)
    is_over = threading.Event()

    def make() -> None:
        for key in keys:
            made: Batch | Exception
            try:
                made = dataset[key]
            except Exception as error:  # noqa: BLE001  raised by the reader
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


class UnaugmentedBatches(Dataset[Batch]):
    """Batches before augmentation: `images` are uint8 (batch, height, width, 4), picture and mask of the cache."""

    def __init__(self, batches: TrainBatches) -> None:
        self._batches = batches

    def __getitem__(self, key: BatchKey) -> Batch:
        rgb_and_mask = np.stack([self._batches.cutouts.rgb_and_mask(index) for index in key.indices])
        return _batch_of(rgb_and_mask, self._batches.labels, key)


class GpuViews:
    """Augments batches of `UnaugmentedBatches` on a device; `cuda` is the process's current GPU."""

    def __init__(self, batches: TrainBatches, device: str = "cuda") -> None:
        self._batches = batches
        self._device = device

    def __call__(self, batch: Batch, epoch: int) -> Batch:
        """The batch on the device, its images uint8 (batch, height, width, 3) as `TrainBatches` gives them."""
        views = self._batches.views(BatchKey(epoch, tuple(batch.indices.tolist())))
        rgb_and_mask = batch.images.to(self._device, non_blocking=True)
        preprocessing = self._batches.cutouts.format.preprocessing
        images = compose_on_device(rgb_and_mask, views, preprocessing, self._batches.backgrounds)
        return Batch(images, batch.labels.to(self._device), batch.indices.to(self._device))


def compose_on_device(
    rgb_and_mask: Tensor, views: Views, preprocessing: Preprocessing, backgrounds: Sequence[Backgrounds]
) -> Tensor:
    """Does what `compose` does on the device of `rgb_and_mask`, uint8 (batch, height, width, 4).

    Returns:
        uint8 (batch, preprocessing.height_px, preprocessing.width_px, 3).
    """
    device, shape = rgb_and_mask.device, (preprocessing.height_px, preprocessing.width_px)
    fill = torch.tensor((*preprocessing.fill_rgb, 0), device=device, dtype=torch.float32).view(1, 4, 1, 1)
    # `grid_sample` pads with zeros, so the difference from the fill is sampled.
    source = pad(rgb_and_mask.permute(0, 3, 1, 2).float() - fill, (1, 1, 1, 1))
    theta = torch.from_numpy(_theta(views, rgb_and_mask.shape[1], rgb_and_mask.shape[2], *shape)).to(device)
    grid = affine_grid(theta, [len(views), 4, *shape], align_corners=True)
    warped = (grid_sample(source, grid, align_corners=True) + fill).round_()
    colours = torch.from_numpy(views.colours).to(device)
    flat_pixels = torch.baddbmm(colours[:, :, 3:], colours[:, :, :3], warped[:, :3].flatten(2))
    person = flat_pixels.view(-1, 3, *shape).round_().clamp_(0, 255)
    made = person
    if not preprocessing.is_background_kept:
        ground = torch.from_numpy(views.flat_rgb).to(device).float().view(-1, 3, 1, 1).repeat(1, 1, *shape)
        for number in range(len(views)):
            picture = background_of(views, number, backgrounds)
            if picture is not None:
                ground[number] = torch.tensor(picture, device=device).permute(2, 0, 1)
        made = torch.lerp(ground, person, warped[:, 3:] / 255).round_()
    ys = torch.arange(shape[0], device=device).view(1, -1, 1)
    xs = torch.arange(shape[1], device=device).view(1, 1, -1)
    top, left, height_px, width_px = torch.from_numpy(views.boxes_yxhw_px).to(device).T[:, :, None, None]
    is_covered = (ys >= top) & (ys < top + height_px) & (xs >= left) & (xs < left + width_px)
    made = torch.where(is_covered[:, None], fill[:, :3], made)
    return made.to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def _theta(
    views: Views, source_height_px: int, source_width_px: int, height_px: int, width_px: int
) -> NDArray[np.float32]:
    """The views' matrices for `affine_grid`: output -> padded input, both from -1 to 1; float32 (batch, 2, 3)."""

    def pixels_of_unit(height: int, width: int) -> NDArray[np.float64]:
        half_x, half_y = (width - 1) / 2, (height - 1) / 2
        return np.array([[half_x, 0, half_x], [0, half_y, half_y], [0, 0, 1]])

    to_target = np.zeros((len(views), 3, 3))
    to_target[:, :2], to_target[:, 2, 2] = views.matrices, 1
    moved_by_rim = np.array([[1.0, 0, 1], [0, 1, 1], [0, 0, 1]])
    to_unit = np.linalg.inv(pixels_of_unit(source_height_px + 2, source_width_px + 2)) @ moved_by_rim
    theta = to_unit @ np.linalg.inv(to_target) @ pixels_of_unit(height_px, width_px)
    return np.ascontiguousarray(theta[:, :2].astype(np.float32))
