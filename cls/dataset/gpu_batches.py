"""The views of `compose` made by torch on a batch at once, for GPUs: the same draws, nearly the same pixels."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, pad
from torch.utils.data import Dataset

from cls.dataset.augment import Views
from cls.dataset.backgrounds import Backgrounds
from cls.dataset.batches import Batch, BatchKey, TrainBatches
from cls.dataset.compose import background_of
from cls.people.preprocess import Preprocessing


class WideBatches(Dataset[Batch]):
    """Batches before augmentation: `images` are uint8 (batch, height, width, 4), picture and mask of the cache.

    Args:
        batches: what they become.
    """

    def __init__(self, batches: TrainBatches) -> None:
        self._batches = batches

    def __getitem__(self, key: BatchKey) -> Batch:
        wide = np.stack([self._batches.cutouts.wide(index) for index in key.indices])
        indices = np.array(key.indices, np.int64)
        return Batch(torch.from_numpy(wide), torch.from_numpy(self._batches.labels[indices]), torch.from_numpy(indices))


class GpuViews:
    """Makes augmented batches of those of `WideBatches`.

    Args:
        batches: whose views.
        device: torch's word for where; `cuda` is the process's current GPU.
    """

    def __init__(self, batches: TrainBatches, device: str = "cuda") -> None:
        self._batches = batches
        self._device = device

    def __call__(self, batch: Batch, epoch: int) -> Batch:
        """The batch on the device, its images uint8 (batch, height, width, 3) as `TrainBatches` gives them."""
        views = self._batches.views(BatchKey(epoch, tuple(batch.indices.tolist())))
        wide = batch.images.to(self._device, non_blocking=True)
        preprocessing = self._batches.cutouts.format.preprocessing
        images = compose_at_once(wide, views, preprocessing, self._batches.backgrounds)
        return Batch(images, batch.labels.to(self._device), batch.indices.to(self._device))


def compose_at_once(
    wide: Tensor, views: Views, preprocessing: Preprocessing, backgrounds: Sequence[Backgrounds]
) -> Tensor:
    """What `compose` does, on the device of `wide`.

    Args:
        wide: uint8 (batch, height, width, 4), picture and mask.
        views: what was drawn.
        preprocessing: size, colour around the person.
        backgrounds: sources of pictures to put behind people.

    Returns:
        uint8 (batch, preprocessing.height_px, preprocessing.width_px, 3).
    """
    device, shape = wide.device, (preprocessing.height_px, preprocessing.width_px)
    fill = torch.tensor((*preprocessing.fill_rgb, 0), device=device, dtype=torch.float32).view(1, 4, 1, 1)
    # Outside the picture is the fill: what is sampled is the difference from it, and outside is zero.
    source = pad(wide.permute(0, 3, 1, 2).float() - fill, (1, 1, 1, 1))
    theta = torch.from_numpy(_theta(views, wide.shape[1], wide.shape[2], *shape)).to(device)
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
) -> np.ndarray[tuple[int, int, int], np.dtype[np.float32]]:
    """The views' matrices as torch wants them: output -> padded input, both from -1 to 1; float32 (batch, 2, 3)."""

    def pixels_of_unit(height: int, width: int) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
        half_x, half_y = (width - 1) / 2, (height - 1) / 2
        return np.array([[half_x, 0, half_x], [0, half_y, half_y], [0, 0, 1]])

    to_target = np.zeros((len(views), 3, 3))
    to_target[:, :2], to_target[:, 2, 2] = views.matrices, 1
    moved_by_rim = np.array([[1.0, 0, 1], [0, 1, 1], [0, 0, 1]])
    to_unit = np.linalg.inv(pixels_of_unit(source_height_px + 2, source_width_px + 2)) @ moved_by_rim
    theta = to_unit @ np.linalg.inv(to_target) @ pixels_of_unit(height_px, width_px)
    return np.ascontiguousarray(theta[:, :2].astype(np.float32))
