"""The demonstration's page: one HTML file that shows what was made."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import cv2
import jinja2
import numpy as np

from cls.demo.outcome import headline_numbers, products
from cls.demo.steps import shown
from cls.demo.walk import Walk
from cls.errors import ClsError, FileError
from cls.files import write_text_atomic
from cls.people.photos import read_photo

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
    who = (
        "of people whom neither training nor validation has seen"
        if walk.plan.source is None
        else "that were not trained on"
    )
    return (
        f"Photos {who}: the people were cut out by the segmentation model, and the largest one's labels are shown. "
        "A label is given where its probability passes its own threshold, chosen on validation photos."
    )


def _photo_cards(walk: Walk) -> list[dict[str, Any]]:
    """One card a photo: a small copy, the people's boxes, the main person's labels and probabilities."""
    file = walk.predictions / "predictions.jsonl"
    people: dict[str, list[dict[str, Any]]] = {}
    try:
        for line in file.read_text().splitlines():
            person = json.loads(line)
            people.setdefault(person["picture"], []).append(person)
    except (OSError, ValueError, KeyError) as error:
        raise ClsError(f"the predictions cannot be read: {error!r}", where=file) from error
    return [_card(walk, name, found) for name, found in sorted(people.items())[:_MOST_PHOTOS]]


def _card(walk: Walk, name: str, people: list[dict[str, Any]]) -> dict[str, Any]:
    image_rgb = _open(walk, name)
    height_px, width_px = image_rgb.shape[:2]
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (person["box_xyxy_px"] for person in people)]
    main = int(np.argmax(areas))
    scale = _THUMBNAIL_HEIGHT_PX / height_px
    small = cv2.resize(image_rgb, (max(round(width_px * scale), 1), _THUMBNAIL_HEIGHT_PX), interpolation=cv2.INTER_AREA)
    _, jpeg = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    probs = people[main]["probs"]
    return {
        "name": name,
        "image": "data:image/jpeg;base64," + base64.b64encode(jpeg.tobytes()).decode(),
        "width_percent": round(min(100.0, 100 * width_px / height_px / _CARD_ASPECT), 1),
        "boxes": [
            {
                "left": round(100 * box[0] / width_px, 2),
                "top": round(100 * box[1] / height_px, 2),
                "width": round(100 * (box[2] - box[0]) / width_px, 2),
                "height": round(100 * (box[3] - box[1]) / height_px, 2),
                "is_main": index == main,
            }
            for index, box in enumerate(person["box_xyxy_px"] for person in people)
        ],
        "labels": people[main]["labels"],
        "nothing": f"none of {walk.plan.group}",
        "bars": [
            {"label": label, "percent": round(100 * prob, 1), "text": f"{prob:.2f}"}
            for label, prob in sorted(probs.items(), key=lambda pair: -pair[1])[:3]
        ],
    }


def _open(walk: Walk, name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The photo a prediction speaks of."""
    for folder in (walk.plan.folder / "new_photos" / "images", walk.plan.folder / "new_photos"):
        if (folder / name).is_file():
            return read_photo(folder / name)
    raise FileError("a predicted photo is gone", where=walk.plan.folder / "new_photos" / name)
