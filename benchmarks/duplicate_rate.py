"""Which copies of a photo are found, who is joined wrongly, and how long it takes.

    OMP_NUM_THREADS=1 python benchmarks/duplicate_rate.py --work FOLDER [--originals 120] [--seed 3]

Street photos come from `--street` with `--model`; 400 sample photos are drawn into FOLDER, and come with the sample
set's own model. People are looked for anew, by the model, in every photo, every copy, and everybody who is put before a
backdrop. Who was found is kept in FOLDER, so that a run that was cut off is gone on with; FOLDER must lie outside the
repository: it holds outlines of people. `--people 1000 10000 100000` then measures the search among so many: signatures
of these photos, and more that are made of them. Times are processor time of one thread.

Thresholds were chosen on street photos that have masks; originals are drawn from those that have none.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.photo_copies import COPIES, KEPT_ASIDE, Image, before_backdrop, empty_scene, flat, saved
from cls.dataset.split.assign import connected
from cls.dataset.split.near_duplicates import near_pairs
from cls.dataset.split.signatures import SIDE_PX, VIEWS, signatures_in, unpack_signatures
from cls.people.photos import Person, decode_photo
from cls.people.polygons import choose_people
from cls.sample import PERSON_MODEL
from cls.sample.config import SampleConfig
from cls.sample.make import make_sample
from cls.segmentation.segmenter import PersonSegmenter, load_segmenter

_PEOPLE = 40
_TRIALS = 3
_SAMPLE_SEED = 31


@dataclass
class Finder:
    """The largest person of photos, found by a model once and remembered in a file, a JSON line a photo."""

    file: Path
    segmenter: PersonSegmenter

    def __post_init__(self) -> None:
        lines = self.file.read_text(encoding="utf-8").splitlines(keepends=True) if self.file.exists() else []
        self._known = dict(json.loads(line) for line in lines if line.endswith("\n"))

    def person(self, content: bytes) -> Person | None:
        """Whom the model finds in a photo's bytes."""
        key = hashlib.sha256(content).hexdigest()
        if key not in self._known:
            (people,) = self.segmenter.predict([decode_photo(content)])
            found = [
                {"box": one.box_xyxy_px, "polygons": [polygon.tolist() for polygon in one.polygons_xy_rel]}
                for one in choose_people(people)
            ]
            self._known[key] = found
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps([key, found]) + "\n")
        for one in self._known[key]:
            polygons = tuple(np.array(polygon, np.float64) for polygon in one["polygons"])
            return Person("person", 1.0, tuple(one["box"]), polygons)
        return None

    def signatures(self, photos: Iterable[bytes]) -> list[Image | None]:
        """The signature of the person in each photo; None where nobody is found."""
        people = ((content, self.person(content)) for content in photos)
        return [None if person is None else signatures_in(content, [person])[0] for content, person in people]


def clusters(signatures: Sequence[Image | None]) -> list[str]:
    """For each photo the name of what it is joined with."""
    rows = [row for row, one in enumerate(signatures) if one is not None]
    pairs = near_pairs(np.stack([one for one in signatures if one is not None])).tolist()
    together = connected((str(rows[left]), str(rows[right])) for left, right in pairs)
    return [together.get(str(row), str(row)) for row in range(len(signatures))]


def wrong_pairs(joined: Sequence[str], who: Sequence[str]) -> int:
    """How many pairs of different people are joined."""
    members: dict[str, Counter[str]] = defaultdict(Counter)
    for cluster, name in zip(joined, who, strict=True):
        members[cluster][name] += 1
    return sum((count.total() ** 2 - sum(one**2 for one in count.values())) // 2 for count in members.values())


@dataclass
class PhotoSet:
    """Photos that copies are looked for among.

    Attributes:
        name: of the set.
        photos: file name -> bytes.
        who: file name -> who is in it; where nobody knows, the file itself.
        fresh: names that nothing was chosen on.
        finder: finds people in them.
    """

    name: str
    photos: dict[str, bytes]
    who: dict[str, str]
    fresh: list[str]
    finder: Finder


def measure(photo_set: PhotoSet, originals: int, seed: int) -> tuple[list[Image], list[Image], list[Image]]:
    """Prints recall by kind of copy, wrong joins and times.

    Returns:
        Signatures: of originals, of one copy of each, of any kind; and of all other photos.
    """
    names = list(photo_set.photos)
    finder, photos = photo_set.finder, photo_set.photos
    people = {name: person for name in names if (person := finder.person(photos[name])) is not None}
    started_s = time.process_time()
    found = {name: signatures_in(photos[name], [person])[0] for name, person in people.items()}
    signed_s = time.process_time() - started_s
    pool = [found.get(name) for name in names]
    started_s = time.process_time()
    joined = clusters(pool)
    paired_s = time.process_time() - started_s
    print(
        f"{photo_set.name}: {len(names)} photos, {len(people)} people; {1000 * signed_s / len(people):.2f} ms a "
        f"signature, {1000 * paired_s / len(people):.2f} ms each for all pairs"
    )
    members: dict[str, list[str]] = defaultdict(list)
    for name, cluster in zip(names, joined, strict=True):
        members[cluster].append(name)
    for some in members.values():
        if len({photo_set.who[name] for name in some}) > 1:
            print(f"  joined among the photos themselves: {' '.join(some)}")
    rng = random.Random(seed)
    chosen = rng.sample([name for name in photo_set.fresh if name in people], originals)
    # Photos that are joined already are one for what follows.
    identity = [photo_set.who[members[cluster][0]] for cluster in joined]
    of_chosen = [identity[names.index(name)] for name in chosen]
    copies_of: dict[str, list[Image]] = defaultdict(list)
    for number, (kind, (change, quality)) in enumerate((COPIES | KEPT_ASIDE).items()):
        copies = [
            saved(change(decode_photo(photos[name]), np.random.default_rng([seed, number, row])), quality)
            for row, name in enumerate(chosen)
        ]
        signed = finder.signatures(copies)
        together = clusters([*pool, *signed])
        hits = sum(together[len(pool) + row] == together[names.index(name)] for row, name in enumerate(chosen))
        wrong = wrong_pairs(together, identity + of_chosen)
        aside = "kept aside: " if kind in KEPT_ASIDE else ""
        nobody = sum(one is None for one in signed)
        print(
            f"  {aside}{kind}: {hits} of {originals} found ({hits / originals:.3f}), in {nobody} nobody was found; "
            f"{wrong} wrong pairs",
            flush=True,
        )
        for name, one in zip(chosen, signed, strict=True):
            copies_of[name] += [] if one is None else [one]
    _measure_backdrops(photo_set, people, rng, seed)
    picked = {name: rng.choice(some) for name, some in copies_of.items() if some and found[name] is not None}
    rest = [one for name, one in zip(names, pool, strict=True) if one is not None and name not in picked]
    return [one for name in picked if (one := found[name]) is not None], list(picked.values()), rest


def _measure_backdrops(photo_set: PhotoSet, people: dict[str, Person], rng: random.Random, seed: int) -> None:
    """Prints how many pairs of different people before one backdrop are joined."""
    photos = photo_set.photos
    sums: Counter[str] = Counter()
    compared: Counter[str] = Counter()
    taken_s: dict[str, float] = defaultdict(float)
    for trial in range(_TRIALS):
        shuffled = [name for name in photo_set.fresh if name in people]
        rng.shuffle(shuffled)
        others = list({photo_set.who[name]: name for name in shuffled}.values())[: _PEOPLE + 1]
        scene = empty_scene(photos[others[0]], people[others[0]])
        some = [(photos[name], people[name]) for name in others[1:]]
        backdrops = {f"flat {level}": (flat(level), False) for level in (0, 128, 255)}
        backdrops |= {"one photo": (scene, False), "one scene": (scene, True)}
        for kind, (backdrop, is_moving) in backdrops.items():
            made = before_backdrop(some, backdrop, np.random.default_rng([seed, trial]), is_moving=is_moving)
            signed = photo_set.finder.signatures(made)
            started_s = time.process_time()
            sums[kind] += wrong_pairs(clusters(signed), others[1:])
            taken_s[kind] += time.process_time() - started_s
            count = sum(one is not None for one in signed)
            compared[kind] += count * (count - 1) // 2
    for kind, joined in sums.items():
        each_ms = 1000 * taken_s[kind] / (_TRIALS * _PEOPLE)
        print(f"  different people before {kind}: {joined} of {compared[kind]} pairs joined; {each_ms:.2f} ms each")


def street_photos(folder: Path, work: Path, model: Path) -> PhotoSet:
    """All photos; nobody is known to be in two."""
    photos = {path.name: path.read_bytes() for path in sorted((folder / "images").iterdir())}
    content = json.loads((folder / "annotations" / "instances_default.json").read_text(encoding="utf-8"))
    annotated = {entry["image_id"] for entry in content["annotations"]}
    used = {image["file_name"] for image in content["images"] if image["id"] in annotated}
    finder = Finder(work / "street_people.jsonl", load_segmenter(model, people_classes={}))
    fresh = [name for name in photos if name not in used]
    return PhotoSet("street", photos, {name: name for name in photos}, fresh, finder)


def sample_photos(folder: Path, work: Path) -> PhotoSet:
    """Drawn people: one a picset."""
    make_sample(folder, SampleConfig(400, _SAMPLE_SEED))
    photos = {path.name: path.read_bytes() for path in sorted((folder / "images").iterdir())}
    with (folder / "tags.csv").open(encoding="utf-8") as file:
        who = {row["file"]: row.get("picset") or row["file"] for row in csv.DictReader(file)}
    finder = Finder(work / "sample_people.jsonl", load_segmenter(PERSON_MODEL, people_classes={}))
    return PhotoSet("sample", photos, {name: who.get(name, name) for name in photos}, list(photos), finder)


def made_of(signatures: Sequence[Image], count: int, rng: np.random.Generator) -> list[Image]:
    """Signatures of people who do not exist: two of given people, turned, scaled, shifted and laid over each other."""
    return [
        np.stack([_mixed(signatures[one][view], signatures[other][view], rng) for view in VIEWS])
        for one, other in rng.integers(len(signatures), size=(count, 2)).tolist()
    ]


def _mixed(first: Image, second: Image, rng: np.random.Generator) -> Image:
    layers = []
    for grey, inside in zip(*unpack_signatures(np.stack([first, second])), strict=True):
        warp = cv2.getRotationMatrix2D((SIDE_PX / 2,) * 2, rng.uniform(-15, 15), rng.uniform(0.85, 1.2))
        warp[:, 2] += rng.uniform(-3, 3, 2)  # type: ignore[arg-type]
        both = np.ascontiguousarray(np.dstack([grey, inside])[:, :: int(rng.choice([-1, 1]))])
        layers.append(cv2.warpAffine(both, warp, (SIDE_PX, SIDE_PX), borderMode=cv2.BORDER_REPLICATE))
    weight = rng.uniform(0.35, 0.65)
    mixed = weight * layers[0][..., 0] + (1 - weight) * layers[1][..., 0]
    mixed = (mixed - mixed.mean()) * (layers[0][..., 0].std() / max(float(mixed.std()), 1.0)) + mixed.mean()
    return np.concatenate([np.clip(mixed, 0, 255).astype(np.uint8).ravel(), np.packbits(layers[0][..., 1] > 127)])


def _peak_mb() -> float:
    """The highest use of memory (Linux)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def measure_many(originals: Sequence[Image], copies: Sequence[Image], others: Sequence[Image], count: int) -> None:
    """Prints time, memory and recall of a search among originals, a copy of each, other photos, people made up."""
    rng = np.random.default_rng(1)
    real = [*originals, *copies, *others][:count]
    everybody = np.stack([*real, *made_of(others, count - len(real), rng)])
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the highest use so far is forgotten
    before_mb = _peak_mb()
    started_s = time.process_time()
    pairs = near_pairs(everybody)
    taken_s = time.process_time() - started_s
    more_mb = _peak_mb() - before_mb
    together = connected((str(left), str(right)) for left, right in pairs.tolist())
    ends = ((str(row), str(len(originals) + row)) for row in range(len(originals)))
    found = sum(together.get(left, left) == together.get(right, right) for left, right in ends)
    print(
        f"{count} people, {len(real)} real: {1000 * taken_s / count:.2f} ms each, {more_mb:.0f} MB more memory; "
        f"{found} of {len(originals)} copies found, {len(pairs)} pairs joined",
        flush=True,
    )


def main() -> None:
    """Measures both sets, and the search among many."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    shared = Path(__file__).resolve().parents[2] / "shared"
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--street", type=Path, default=shared / "data" / "street_fashion")
    parser.add_argument("--model", type=Path, default=shared / "models" / "person_real.pt")
    parser.add_argument("--originals", type=int, default=120)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--people", type=int, nargs="*", default=[1000, 10_000, 100_000])
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    originals: list[Image] = []
    copies: list[Image] = []
    others: list[Image] = []
    for photo_set in (
        street_photos(options.street, options.work, options.model),
        sample_photos(options.work / "sample", options.work),
    ):
        of_set = measure(photo_set, options.originals, options.seed)
        originals += of_set[0]
        copies += of_set[1]
        others += of_set[2]
    for count in options.people:
        measure_many(originals, copies, others, count)


if __name__ == "__main__":
    main()
