"""Which copies of a photo are found, who is joined wrongly, and how long it takes.

`python benchmarks/duplicate_rate.py FOLDER [--model best.pt] [--originals 120] [--seed 2]`: FOLDER holds `images/` and
COCO masks in `annotations/instances_default.json`, as `cls sample make` writes them. With a model, people are looked
for anew in every copy; without, the masks are carried over. `--pairs 20000` instead of a folder: all pairs among so
many people of random pixels. Times are processor time of one thread.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cls.dataset.near_duplicates import near_pairs
from cls.dataset.person_signature import SIDE_PX, VIEW_BYTES, VIEWS
from cls.dataset.picture_signatures import signatures_in
from cls.people.choice import choose_people
from cls.people.person import Person
from cls.people.photos import decode_photo
from cls.people.polygons import draw_polygons
from cls.segmentation.segmenter import PersonSegmenter, load_segmenter

Image = NDArray[np.uint8]
# Scale and shift, across and down: where a pixel of the photo is in the copy.
Place = tuple[float, float, float, float]
_BACKDROP_PX = (600, 800)
_HEIGHT_PX = 680
_PEOPLE = 40


@dataclass(frozen=True)
class Photo:
    """A file's bytes and the person in it."""

    content: bytes
    person: Person


def saved(image_rgb: Image, quality: int = 85) -> bytes:
    """The picture as a JPEG."""
    bgr = cv2.cvtColor(image_rgb, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def mirrored(image: Image, _: np.random.Generator) -> tuple[Image, Place]:
    return np.ascontiguousarray(image[:, ::-1]), (-1, image.shape[1], 1, 0)


def half(image: Image, _: np.random.Generator) -> tuple[Image, Place]:
    small = np.asarray(cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA), np.uint8)
    return small, (small.shape[1] / image.shape[1], 0, small.shape[0] / image.shape[0], 0)


def mirrored_and_half(image: Image, rng: np.random.Generator) -> tuple[Image, Place]:
    small, place = half(image, rng)
    return np.ascontiguousarray(small[:, ::-1]), (-place[0], small.shape[1], place[2], 0)


def padded(image: Image, rng: np.random.Generator) -> tuple[Image, Place]:
    height_px, width_px = image.shape[:2]
    side = max(height_px, width_px)
    top, left = (side - height_px) // 2, (side - width_px) // 2
    kind = int(rng.integers(4))
    square = np.full((side, side, 3), (255, 0, int(rng.integers(30, 220)), 0)[kind], np.uint8)
    if kind == 3:
        square = np.asarray(cv2.GaussianBlur(cv2.resize(image, (side, side)), (0, 0), side / 25), np.uint8).copy()
    square[top : top + height_px, left : left + width_px] = image
    return square, (1, left, 1, top)


def written(bar: Image, rng: np.random.Generator) -> None:
    """White or black, with a line of text."""
    color = 255 * int(rng.integers(2))
    bar[:] = color
    text = "".join(chr(code) for code in rng.integers(97, 123, 20))
    scale = bar.shape[0] / 60
    place = (int(bar.shape[1] * 0.05), int(bar.shape[0] * 0.7))
    cv2.putText(bar, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, (255 - color,) * 3, max(1, round(2 * scale)))


def bar_below(image: Image, rng: np.random.Generator) -> tuple[Image, Place]:
    height_px = image.shape[0]
    longer = np.vstack([image, image[: round(height_px * 0.12)]])
    written(longer[height_px:], rng)
    return longer, (1, 0, 1, 0)


def bar_above(image: Image, rng: np.random.Generator) -> tuple[Image, Place]:
    bar_px = round(image.shape[0] * 0.12)
    longer = np.vstack([image[:bar_px], image])
    written(longer[:bar_px], rng)
    return longer, (1, 0, 1, bar_px)


def captioned(image: Image, rng: np.random.Generator) -> tuple[Image, Place]:
    image = image.copy()
    written(image[-round(image.shape[0] * 0.08) :], rng)
    return image, (1, 0, 1, 0)


def cropped(image: Image, _: np.random.Generator) -> tuple[Image, Place]:
    down, across = (round(size * 0.05) for size in image.shape[:2])
    return np.ascontiguousarray(image[down:-down, across:-across]), (1, -across, 1, -down)


def unchanged(image: Image, _: np.random.Generator) -> tuple[Image, Place]:
    return image, (1, 0, 1, 0)


COPIES: dict[str, tuple[Callable[[Image, np.random.Generator], tuple[Image, Place]], int]] = {
    "mirrored": (mirrored, 85),
    "mirrored, half the size": (mirrored_and_half, 60),
    "padded to a square (white, black, grey, blurred)": (padded, 85),
    "caption in a bar below, 12 percent": (bar_below, 85),
    "caption in a bar above, 12 percent": (bar_above, 85),
    "caption over the lowest 8 percent": (captioned, 85),
    "cropped by 5 percent on each side": (cropped, 85),
    "saved at quality 30": (unchanged, 30),
    "half the size": (half, 85),
}


def carried(person: Person, place: Place, size_px: Sequence[int], new_px: Sequence[int]) -> Person:
    """The person where a copy has it."""
    (height_px, width_px), (new_height_px, new_width_px) = size_px[:2], new_px[:2]
    polygons = tuple(
        np.clip(
            (one * (width_px * place[0], height_px * place[2]) + (place[1], place[3])) / (new_width_px, new_height_px),
            0, 1,
        )
        for one in person.polygons_xy_rel
    )  # fmt: skip
    points = np.concatenate(polygons) * (new_width_px, new_height_px)
    return Person(person.cls, person.conf, (*points.min(axis=0), *points.max(axis=0)), polygons)


def people_of(folder: Path) -> dict[str, Person]:
    """File name -> the largest person of its masks."""
    content = json.loads((folder / "annotations" / "instances_default.json").read_text(encoding="utf-8"))
    images = {image["id"]: image for image in content["images"]}
    found: dict[str, list[Person]] = {}
    for entry in content["annotations"]:
        image = images[entry["image_id"]]
        size = (image["width"], image["height"])
        polygons = tuple(np.array(one, np.float64).reshape(-1, 2) / size for one in entry["segmentation"])
        left, top, across, down = entry["bbox"]
        person = Person("person", 1.0, (left, top, left + across, top + down), polygons)
        found.setdefault(image["file_name"], []).append(person)
    return {name: choose_people(people)[0] for name, people in sorted(found.items())}


def identities(folder: Path, names: Sequence[str]) -> list[str]:
    """Who is in each photo: its picset where `tags.csv` says it, as in sample sets; otherwise nobody is there twice."""
    with (folder / "tags.csv").open(encoding="utf-8") as file:
        picsets = {row["file"]: row.get("picset") or row["file"] for row in csv.DictReader(file)}
    return [picsets.get(name, name) for name in names]


def wrong_pairs(first: Sequence[int], who: Sequence[str]) -> int:
    """How many pairs of different people are joined."""
    members: dict[int, Counter[str]] = defaultdict(Counter)
    for cluster, name in zip(first, who, strict=True):
        members[cluster][name] += 1
    return sum((count.total() ** 2 - sum(one**2 for one in count.values())) // 2 for count in members.values())


def signed(photos: Sequence[Photo], segmenter: PersonSegmenter | None) -> list[Image | None]:
    """Signatures; of whom the model finds, where there is one."""
    signatures: list[Image | None] = []
    for photo in photos:
        person: Person | None = photo.person
        if segmenter is not None:
            (people,) = segmenter.predict([decode_photo(photo.content)])
            person = choose_people(people)[0] if people else None
        signatures += [None] if person is None else signatures_in(photo.content, [person])
    return signatures


def clusters(signatures: Sequence[Image | None]) -> list[int]:
    """For each photo the first one it is joined with."""
    first = list(range(len(signatures)))
    rows = [row for row, one in enumerate(signatures) if one is not None]
    for pair in near_pairs(np.stack([signatures[row] for row in rows])).tolist():  # type: ignore[misc]
        left, right = sorted(first[rows[one]] for one in pair)
        first = [left if one == right else one for one in first]
    return first


def before_backdrop(
    photos: Sequence[Photo], backdrop: Image, rng: np.random.Generator, *, is_moving: bool
) -> list[Photo]:
    """The people of photos, cut out, in the middle of one backdrop; of a scene that is seen a little differently."""
    made = []
    width_px, height_px = _BACKDROP_PX
    for photo in photos:
        image = decode_photo(photo.content)
        size = (image.shape[1], image.shape[0])
        outlines = [one * size for one in photo.person.polygons_xy_rel]
        mask = draw_polygons(outlines, image.shape[0], image.shape[1])
        left, top, across, down = cv2.boundingRect(mask)
        factor = min(_HEIGHT_PX / down, 560 / across)
        new_px = (max(round(across * factor), 4), max(round(down * factor), 4))
        inner = (slice(top, top + down), slice(left, left + across))
        person, alpha = (cv2.resize(one[inner], new_px, interpolation=cv2.INTER_AREA) for one in (image, mask))
        scene = backdrop.copy()
        if is_moving:
            edges = rng.integers(0, 20, 4)
            part = backdrop[edges[0] : height_px - edges[1], edges[2] : width_px - edges[3]]
            scene = np.asarray(cv2.resize(part, _BACKDROP_PX), np.uint8)
            scene = np.asarray(
                cv2.convertScaleAbs(scene, alpha=rng.uniform(0.9, 1.1), beta=rng.uniform(-10, 10)), np.uint8
            )
        x, y = (width_px - new_px[0]) // 2, height_px - new_px[1] - 30
        place = scene[y : y + new_px[1], x : x + new_px[0]]
        weight = alpha[..., None] / 255.0
        place[:] = (place * (1 - weight) + person * weight).astype(np.uint8)
        polygons = tuple(((one - (left, top)) * factor + (x, y)) / _BACKDROP_PX for one in outlines)
        made.append(Photo(saved(scene), Person("person", 1.0, (x, y, x + new_px[0], y + new_px[1]), polygons)))
    return made


def empty_scene(photo: Photo) -> Image:
    """A photo without its person, whose place is filled from around it."""
    image = decode_photo(photo.content)
    outlines = [one * (image.shape[1], image.shape[0]) for one in photo.person.polygons_xy_rel]
    mask = cv2.dilate(draw_polygons(outlines, image.shape[0], image.shape[1]), np.ones((25, 25), np.uint8))
    return np.asarray(cv2.resize(cv2.inpaint(image, mask, 5, cv2.INPAINT_TELEA), _BACKDROP_PX), np.uint8)


def main(folder: Path, model: Path | None, originals: int, seed: int, image_size_px: int | None) -> None:
    """Print recall by kind of copy, wrong joins, and times."""
    cv2.setNumThreads(1)
    segmenter = None if model is None else load_segmenter(model, people_classes={}, image_size_px=image_size_px)
    people = people_of(folder)
    photos = {name: Photo((folder / "images" / name).read_bytes(), person) for name, person in people.items()}
    rng = random.Random(seed)
    chosen = rng.sample(sorted(photos), originals)
    who = identities(folder, list(photos))
    started_s = time.process_time()
    pool = signed(list(photos.values()), segmenter)
    signed_s = time.process_time() - started_s
    started_s = time.process_time()
    firsts = clusters(pool)
    paired_s = time.process_time() - started_s
    what = "a signature" if model is None else "a segmentation and a signature"
    print(
        f"{len(pool)} photos: {1000 * signed_s / len(pool):.2f} ms {what}, {1000 * paired_s / len(pool):.2f} ms each "
        f"for all pairs; {wrong_pairs(firsts, who)} pairs of different people joined"
    )
    names = list(photos)
    for number, (kind, (make, quality)) in enumerate(COPIES.items()):
        copies = []
        for row, name in enumerate(chosen):
            image = decode_photo(photos[name].content)
            copy, place = make(image, np.random.default_rng([seed, number, row]))
            copies.append(Photo(saved(copy, quality), carried(photos[name].person, place, image.shape, copy.shape)))
        together = clusters([*pool, *signed(copies, segmenter)])
        found = sum(together[len(pool) + row] == together[names.index(name)] for row, name in enumerate(chosen))
        wrong = wrong_pairs(together, [*who, *identities(folder, chosen)])
        print(f"{kind}: {found} of {len(copies)} found ({found / len(copies):.3f}), {wrong} wrong pairs")
    for seen in range(3):
        shuffled = rng.sample(sorted(photos), len(photos))
        others = list(
            {person: name for name, person in zip(shuffled, identities(folder, shuffled), strict=True)}.values()
        )
        others = others[: _PEOPLE + 1]
        some, scene = [photos[name] for name in others[1:]], empty_scene(photos[others[0]])
        flat = np.full_like(scene, rng.randrange(30, 230))
        for kind, backdrop, is_moving in (
            ("one flat grey", flat, False),
            ("one photo", scene, False),
            ("one scene", scene, True),
        ):
            made = before_backdrop(some, backdrop, np.random.default_rng([seed, seen]), is_moving=is_moving)
            together = clusters(signed(made, segmenter))
            joined = wrong_pairs(together, others[1:])
            print(f"{_PEOPLE} people before {kind}: {joined} of {_PEOPLE * (_PEOPLE - 1) // 2} pairs joined")


def main_of_pairs(count: int) -> None:
    """Print how long all pairs among people of random pixels take, of whom every hundredth is there twice."""
    cv2.setNumThreads(1)
    rng = np.random.default_rng(0)
    smooth = rng.integers(0, 256, (count, len(VIEWS), 10, 10), np.uint8)
    shown = [[cv2.resize(one, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC) for one in each] for each in smooth]
    grey = np.asarray(shown, np.uint8).reshape(count, len(VIEWS), -1)
    signatures = np.concatenate([grey, np.full((count, len(VIEWS), VIEW_BYTES - grey.shape[2]), 255, np.uint8)], axis=2)
    signatures[-(count // 100) :] = signatures[: count // 100]
    started_s = time.process_time()
    pairs = near_pairs(signatures)
    taken_s = time.process_time() - started_s
    print(f"{count} people: {len(pairs)} pairs in {taken_s:.1f} s, {1000 * taken_s / count:.2f} ms each")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--originals", type=int, default=120)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--image_size", type=int)
    parser.add_argument("--pairs", type=int)
    options = parser.parse_args()
    if options.pairs is not None:
        main_of_pairs(options.pairs)
    else:
        main(options.folder, options.model, options.originals, options.seed, options.image_size)
