"""Scores of the demonstration's page, counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

from cls.demo.page import read_predictions, read_truth, score_predictions

LABELS = ("red top", "blue top")


def write_case(folder: Path) -> tuple[Path, Path]:
    tags = folder / "tags.csv"
    tags.write_text("file,tags,picset\na.jpg,red top;bag,1\nb.jpg,blue top,2\nc.jpg,hat,3\nd.jpg,red top,4\n")
    small, large = [0, 0, 10, 10], [0, 0, 50, 90]
    people = [
        # Arms spread wide give a large box, not a large outline: the table lists the largest outline first.
        {"picture": "a.jpg", "person": "0", "box_xyxy_px": small, "probs": {}, "labels": ["red top"]},
        {"picture": "a.jpg", "person": "1", "box_xyxy_px": large, "probs": {}, "labels": ["blue top"]},
        {"picture": "b.jpg", "person": "0", "box_xyxy_px": large, "probs": {}, "labels": ["blue top"]},
        {"picture": "c.jpg", "person": "0", "box_xyxy_px": large, "probs": {}, "labels": ["red top"]},
    ]
    predictions = folder / "predictions.jsonl"
    predictions.write_text("".join(json.dumps(person) + "\n" for person in people))
    return tags, predictions


def test_the_largest_person_speaks_for_a_photo(tmp_path: Path) -> None:
    _, predictions = write_case(tmp_path)
    photos = read_predictions(predictions)
    assert [photo.name for photo in photos] == ["a.jpg", "b.jpg", "c.jpg"]
    assert photos[0].people[0].labels == ["red top"]


def test_a_photo_without_people_counts_as_missed(tmp_path: Path) -> None:
    tags, predictions = write_case(tmp_path)
    score = score_predictions(read_predictions(predictions), read_truth(tags, LABELS), LABELS)
    # red top: said of a and c, true of a and d -> 2*1/(2+2); blue top: 1
    assert score.f1 == (0.5 + 1.0) / 2
    assert (score.right, score.photos) == (2, 4)
