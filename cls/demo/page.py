"""The demonstration's page: one HTML file that shows what was made."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np
from numpy.typing import NDArray

from cls.demo.outcome import headline_numbers, products, unseen_score, unseen_truth
from cls.demo.steps import shown
from cls.demo.unseen import PredictedPhoto, read_picsets, read_predictions
from cls.demo.walk import Walk
from cls.errors import FileError
from cls.files import write_text_atomic
from cls.people.photos import read_photo
from cls.wording import score

_THUMBNAIL_HEIGHT_PX = 300
_CARD_ASPECT = 4 / 3
_MOST_PHOTOS = 12


def write_page(walk: Walk) -> Path:
    """Writes `index.html` into the demonstration's folder.

    The photos are small copies inside the page; the rest is linked by relative paths, so the folder can be moved.

    Returns:
        The page's path.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    plan = walk.plan
    sample = plan.source is None
    page = plan.folder / "index.html"
    html = environment.get_template("page.html").render(
        group=plan.group,
        version=walk.version,
        source="the sample photo set" if sample else f"the photos of {plan.photos.name}",
        numbers=headline_numbers(walk),
        photos=_photo_cards(walk),
        photos_note=_photos_note(walk),
        products=[
            {"what": what, "path": os.path.relpath(path, plan.folder), "link": os.path.relpath(path, plan.folder)}
            for what, path in products(walk)
        ],
        steps=[
            {
                "title": result.step.title,
                "command": shown(result.step.command),
                "seconds": f"{result.seconds:.1f}",
                "was_done": result.was_done,
            }
            for result in walk.results
        ],
    )
    write_text_atomic(page, html)
    return page


def _photos_note(walk: Walk) -> str:
    found = unseen_score(walk)
    who = "that were not loaded" if found is None else "of people whom neither training nor validation has seen"
    verdict = "" if found is None else f" Of {found.photos} such photos, {found.right} got exactly the right labels."
    return (
        f"Photos {who}: the people were cut out by the segmentation model, and the largest one's labels are shown. "
        f"A label is given where its probability passes its own threshold, chosen on validation photos.{verdict}"
    )


def _photo_cards(walk: Walk) -> list[dict[str, Any]]:
    """Cards of some photos; of a sample, each of another person."""
    chosen = read_predictions(walk.predictions / "predictions.jsonl")
    tags = walk.plan.folder / "new_photos" / "tags.csv"
    if walk.plan.source is None:
        picsets = read_picsets(tags)
        chosen = list({picsets[photo.name]: photo for photo in chosen}.values())
    truth = unseen_truth(walk)
    return [_card(walk, photo, None if truth is None else truth[photo.name]) for photo in chosen[:_MOST_PHOTOS]]


def _card(walk: Walk, photo: PredictedPhoto, true_labels: set[str] | None) -> dict[str, Any]:
    """A small copy, the people's boxes, the main person's labels and probabilities, and the truth where it is known."""
    image_rgb = _open(walk, photo.name)
    height_px, width_px = image_rgb.shape[:2]
    scale = _THUMBNAIL_HEIGHT_PX / height_px
    small = cv2.resize(image_rgb, (max(round(width_px * scale), 1), _THUMBNAIL_HEIGHT_PX), interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    main = photo.people[0]
    return {
        "name": photo.name,
        "image": "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode(),
        "width_percent": round(min(100.0, 100 * width_px / height_px / _CARD_ASPECT), 1),
        "boxes": [
            {
                "left": round(100 * box[0] / width_px, 2),
                "top": round(100 * box[1] / height_px, 2),
                "width": round(100 * (box[2] - box[0]) / width_px, 2),
                "height": round(100 * (box[3] - box[1]) / height_px, 2),
                "is_main": index == 0,
            }
            for index, box in enumerate(person["box_xyxy_px"] for person in photo.people)
        ],
        "labels": main["labels"],
        "truth": None if true_labels is None else " and ".join(sorted(true_labels)) or f"none of {walk.plan.group}",
        "is_right": true_labels == set(main["labels"]),
        "nothing": f"none of {walk.plan.group}",
        "bars": [
            {"label": label, "percent": round(100 * prob, 1), "text": score(prob, 2)}
            for label, prob in sorted(main["probs"].items(), key=lambda pair: -pair[1])[:3]
        ],
    }


def _open(walk: Walk, name: str) -> NDArray[np.uint8]:
    """The photo a prediction speaks of."""
    for folder in (walk.plan.folder / "new_photos" / "images", walk.plan.folder / "new_photos"):
        if (folder / name).is_file():
            return read_photo(folder / name)
    raise FileError("a predicted photo is gone", where=walk.plan.folder / "new_photos" / name)
