"""How many augmented training samples a core-second, from files on disk to a normalised batch?

Ours reads the cut-out cache, in each of its forms. The peers, in the same run, on the same people and the same number
of pixels, each with the augmentation of its kind:

- whole photo: for every sample the photo is decoded, its person cut out by the polygon with OpenCV, resized, and
  augmented by albumentations 2.0.8 (flip, affine, colour, erase).
- timm: `create_loader` with its default training augmentation on JPEGs already cropped to 1.25 times the input.
- ultralytics: `ClassificationDataset` with its default training augmentation on the same JPEGs, 224x224.

Everything runs in one process with one thread, and processor time counts (`process_time`), so that other processes
disturb little; rounds alternate, medians are printed. Files are in the page cache for all. Albumentations is no
dependency of the project; this lends it to the run (without it, that peer is left out):

    uv pip install --no-deps --target DIR albumentations==2.0.8 albucore==0.0.24 stringzilla==3.12.6 simsimd scipy
    PYTHONPATH=DIR .venv/bin/python benchmarks/loader_rate.py COCO_FOLDER [--photos 300] [--rounds 5] [--size 256x192]

COCO_FOLDER holds images/ and annotations/instances_default.json.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cls.bottle.layout import Bottle
from cls.dataset.backgrounds import Augmentation, scenes_of
from cls.dataset.batches import EpochSampler, TrainBatches
from cls.dataset.cutouts import STORAGES, CutoutFormat, load_cutouts
from cls.dataset.samples import Sample
from cls.files import read_json
from cls.people.photos import Person, read_photo
from cls.people.polygons import draw_polygons
from cls.people.preprocess import Cutout, Preprocessing, cut_out
from cls.segmentation.networks import quiet_ultralytics
from cls.settings import Settings
from cls.training.loop.module import normalised
from cls.training.network.input_size import parse_size
from cls.yolo.coco import parse_coco

BATCH = 32
# A round of a peer: makes normalised batches of every sample once.
Epoch = Callable[[], Iterator[Tensor]]


def people_of(folder: Path, photos: int) -> list[Sample]:
    """The largest annotated person of each photo."""
    file = folder / "annotations" / "instances_default.json"
    samples = []
    for picture in parse_coco(read_json(file), where=file).pictures:
        if len(samples) < photos and picture.annotations:
            shape = max(
                picture.annotations, key=lambda one: float(np.prod(np.ptp(np.concatenate(one.polygons_xy_px), 0)))
            )
            size_px = np.array([picture.width_px, picture.height_px], np.float64)
            outlines = tuple(polygon / size_px for polygon in shape.polygons_xy_px)
            points = np.concatenate(shape.polygons_xy_px)
            left, top, right, bottom = (float(v) for v in (*points.min(axis=0), *points.max(axis=0)))
            samples.append(Sample(picture.file_name, "", Person("", 1.0, (left, top, right, bottom), outlines), (1.0,)))
    return samples


def ours(bottle: Bottle, samples: list[Sample], preprocessing: Preprocessing, storage: str) -> tuple[Epoch, int]:
    """The cut-out cache and our augmentation; and how many bytes a person takes."""
    format_ = CutoutFormat(preprocessing, storage=storage)
    cutouts, _ = load_cutouts(bottle, samples, format_, workers=1)
    scenes = scenes_of(cutouts, preprocessing)
    batches = TrainBatches(
        cutouts, np.ones((len(samples), 1), np.float32), Augmentation(), seed=0, backgrounds=[scenes]
    )
    sampler = EpochSampler(len(samples), BATCH, seed=0)
    mean, std = _mean_std(preprocessing)

    def epoch() -> Iterator[Tensor]:
        for key in sampler:
            yield normalised(batches[key].images, mean, std)

    size = sum(file.stat().st_size for file in (bottle.cache / "cutouts" / format_.digest).iterdir())
    return epoch, size // len(samples)


def whole_photos(folder: Path, samples: list[Sample], preprocessing: Preprocessing) -> Epoch | None:
    """Decode, cut out by polygon with OpenCV, albumentations; None where it is not installed."""
    if importlib.util.find_spec("albumentations") is None:
        return None
    import albumentations

    strength = Augmentation()
    augment = albumentations.Compose(
        [
            albumentations.HorizontalFlip(p=strength.p_flip),
            albumentations.Affine(
                scale=(1 - strength.zoom, 1 + strength.zoom),
                translate_percent=(-strength.shift, strength.shift),
                rotate=(-strength.rotation_deg, strength.rotation_deg),
                fill=preprocessing.fill_rgb,
                p=1.0,
            ),
            albumentations.ColorJitter(
                brightness=strength.brightness, contrast=strength.contrast, saturation=strength.saturation, hue=0, p=1.0
            ),
            albumentations.CoarseDropout(num_holes_range=(1, 1), fill=preprocessing.fill_rgb, p=strength.p_erase),
            albumentations.Normalize(preprocessing.mean_rgb, preprocessing.std_rgb),
        ],
        seed=0,
    )

    class Photos(Dataset[NDArray[np.float32]]):
        def __len__(self) -> int:
            return len(samples)

        def __getitem__(self, index: int) -> NDArray[np.float32]:
            sample = samples[index]
            image = cv2.cvtColor(cv2.imread(str(folder / "images" / sample.path)), cv2.COLOR_BGR2RGB)  # type: ignore[arg-type]
            height_px, width_px = image.shape[:2]
            outlines = [part * (width_px, height_px) for part in sample.person.polygons_xy_rel]
            mask = draw_polygons(outlines, height_px, width_px)
            left, top, right, bottom = (int(v) for v in sample.person.box_xyxy_px)
            inside = mask[top : bottom + 1, left : right + 1] > 0
            person = np.where(inside[..., None], image[top : bottom + 1, left : right + 1], preprocessing.fill_rgb)
            framed = letterboxed(person.astype(np.uint8), preprocessing)
            return np.ascontiguousarray(augment(image=framed)["image"].transpose(2, 0, 1))

    loader = DataLoader(Photos(), batch_size=BATCH, shuffle=True, num_workers=0)
    return lambda: iter(loader)


def letterboxed(image_rgb: NDArray[np.uint8], preprocessing: Preprocessing) -> NDArray[np.uint8]:
    """A whole picture in the frame of a preprocessing."""
    everything = np.full(image_rgb.shape[:2], 255, np.uint8)
    return replace(preprocessing, is_background_kept=True).fit(Cutout(image_rgb, everything))


def write_crops(folder: Path, samples: list[Sample], preprocessing: Preprocessing, crops: Path) -> None:
    """People as JPEGs at 1.25 times the input size, in the folder layout of classification datasets."""
    height_px, width_px, _ = CutoutFormat(preprocessing).rgb_and_mask_shape
    wide = replace(preprocessing, height_px=height_px, width_px=width_px)
    for number, sample in enumerate(samples):
        cutout = cut_out(read_photo(folder / "images" / sample.path), sample.person)
        image = letterboxed(cutout.image_rgb, wide)
        path = crops / ("a", "b")[number % 2] / sample.path
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 95])


def of_timm(crops: Path, preprocessing: Preprocessing) -> Epoch:
    """Timm's loader as its train.py sets it up, without worker processes."""
    from timm.data import create_loader  # type: ignore[attr-defined]
    from timm.data.dataset import ImageDataset

    loader = create_loader(
        ImageDataset(str(crops)),
        input_size=(3, preprocessing.height_px, preprocessing.width_px),
        batch_size=BATCH,
        is_training=True,
        num_workers=0,
        persistent_workers=False,
        pin_memory=False,
        device=torch.device("cpu"),
    )
    return lambda: (images for images, _ in loader)


def of_ultralytics(crops: Path) -> Epoch:
    """Ultralytics' classification loader, without worker processes."""
    quiet_ultralytics()
    from ultralytics.cfg import get_cfg
    from ultralytics.data import ClassificationDataset

    dataset = ClassificationDataset(str(crops), get_cfg(overrides={"imgsz": 224}), augment=True)  # type: ignore[arg-type]
    loader = DataLoader(dataset, batch_size=BATCH, shuffle=True, num_workers=0)  # type: ignore[arg-type]
    return lambda: (batch["img"] for batch in loader)


def _mean_std(preprocessing: Preprocessing) -> tuple[Tensor, Tensor]:
    mean = torch.tensor(preprocessing.mean_rgb).view(1, 3, 1, 1)
    return mean, torch.tensor(preprocessing.std_rgb).view(1, 3, 1, 1)


def rate_of(epoch: Epoch, samples: int) -> float:
    """Samples a core-second of one round."""
    started_s, seen = time.process_time(), 0
    for images in epoch():
        seen += len(images)
        assert images.dtype == torch.float32
    # timm leaves the last, smaller batch out.
    assert samples - BATCH < seen <= samples
    return seen / (time.process_time() - started_s)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", default="256x192")
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    preprocessing = Preprocessing(*parse_size(options.size)[:2])
    samples = people_of(options.folder, options.photos)
    with tempfile.TemporaryDirectory() as work:
        bottle = Bottle(Settings(file=Path(work) / "none.yaml", data_path=Path(work) / "bottle"))
        bottle.root.mkdir()
        bottle.pictures.symlink_to((options.folder / "images").resolve())
        write_crops(options.folder, samples, preprocessing, Path(work) / "crops")
        contenders: dict[str, Epoch] = {}
        for storage in STORAGES:
            contenders[f"cut-out cache, {storage}"], size = ours(bottle, samples, preprocessing, storage)
            print(f"--cache {storage}: {size:,} bytes a person")
        if (photos := whole_photos(options.folder, samples, preprocessing)) is not None:
            contenders["whole photo, OpenCV, albumentations"] = photos
        contenders["timm create_loader on crops"] = of_timm(Path(work) / "crops", preprocessing)
        contenders["ultralytics on crops"] = of_ultralytics(Path(work) / "crops")
        rates = {name: [] for name in contenders}
        for number in range(options.rounds + 1):
            for name, epoch in contenders.items():
                rate = rate_of(epoch, len(samples))
                if number:  # the first round fills caches
                    rates[name].append(rate)
    print(f"{len(samples)} people, {options.size}, {options.rounds} rounds; samples a core-second, and how many times")
    print("as many the cache gives, raw, jpeg and png")
    medians = {name: float(np.median(values)) for name, values in rates.items()}
    for name, median in medians.items():
        ratios = "  ".join(f"{medians[f'cut-out cache, {storage}'] / median:5.2f}" for storage in STORAGES)
        print(f"{name:40s} {median:8.0f}   {ratios}")


if __name__ == "__main__":
    main()
