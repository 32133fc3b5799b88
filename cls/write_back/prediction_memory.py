"""What was predicted for photos, kept while a build goes on: one that was killed goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cls.bottle.layout import Bottle
from cls.files import sha256_of_bytes, sha256_of_file
from cls.people.person import Person
from cls.runtimes.classifier import Classifier
from cls.write_back.ret_meta import PredictedPerson
from cls.write_back.statements import box_of

FOLDER = "predictions"


class PredictionMemory:
    """Predictions of photos by everything they depend on; a file of the bottle's cache, which may be deleted.

    Args:
        path: one JSON line a photo; a line cut off by a kill does not count.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._known: dict[str, tuple[PredictedPerson, ...]] = {}
        self._is_cut = False
        if path.exists():
            text = path.read_text(encoding="utf-8", errors="replace")
            self._is_cut = bool(text) and not text.endswith("\n")
            for line in text.splitlines():
                try:
                    key, people = json.loads(line)
                    self._known[str(key)] = tuple(_person(value) for value in people)
                except (ValueError, KeyError, TypeError, AttributeError):
                    continue  # cut off by a kill: that photo is looked at again

    def get(self, key: str) -> tuple[PredictedPerson, ...] | None:
        """Who is in a photo; None when it has not been looked at in this state."""
        return self._known.get(key)

    def add(self, predictions: Mapping[str, Sequence[PredictedPerson]]) -> None:
        """Keeps the predictions of some photos, by their keys."""
        lines = [
            json.dumps([key, [[one.person_class, one.box_xyxy_rel, one.labels] for one in people]], ensure_ascii=False)
            for key, people in predictions.items()
        ]
        if not lines:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as stream:
            stream.write(("\n" if self._is_cut else "") + "\n".join(lines) + "\n")
        self._is_cut = False
        self._known.update({key: tuple(people) for key, people in predictions.items()})


def memory_of(bottle: Bottle, classifiers: Sequence[Classifier]) -> PredictionMemory:
    """The memory of these classifiers as they are: with other weights or thresholds they have another."""
    parts = [
        [
            one.group,
            one.name,
            one.labels,
            one.thresholds,
            one.preprocessing.to_dict(),
            sha256_of_file(Path(one.source)) if Path(one.source).is_file() else one.source,
        ]
        for one in classifiers
    ]
    digest = sha256_of_bytes(json.dumps(parts, ensure_ascii=False).encode())
    return PredictionMemory(bottle.cache / FOLDER / f"{digest[:32]}.jsonl")


def key_of_photo(file: Path, people: Sequence[Person] | None, segmenter_sha256: str) -> str:
    """What a photo's prediction depends on, besides the classifiers: its file, and who is said to be in it.

    Args:
        file: the photo.
        people: whom the pictures database knows in it; None when the segmentation model is asked.
        segmenter_sha256: digest of that model.
    """
    state = file.stat()
    who = segmenter_sha256
    if people is not None:
        outlines = [
            [one.cls, one.conf, one.box_xyxy_px, [polygon.tolist() for polygon in one.polygons_xy_rel]]
            for one in people
        ]
        who = sha256_of_bytes(json.dumps(outlines, default=float).encode())
    return f"{file.name}|{state.st_size}|{state.st_mtime_ns}|{who}"


def _person(value: Any) -> PredictedPerson:
    person_class, box, labels = value
    known = box_of(box)
    if known is None:
        raise ValueError("not a box")
    return PredictedPerson(person_class, known, {group: tuple(names) for group, names in labels.items()})
