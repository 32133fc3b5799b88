"""Makes a whole sample set: draws photos in parallel, survives being killed, writes truth, tags and annotations."""

from __future__ import annotations

import json
import os
import signal
import threading
import zipfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import groupby
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel

from cls.errors import SampleError
from cls.files import atomic_path, remove_parts, write_bytes_atomic, write_json_atomic
from cls.machine import refuse_unguarded_script
from cls.progress import progress
from cls.records import JsonLines, read_record
from cls.sample.config import SampleConfig
from cls.sample.plan import (
    CATEGORIES,
    GENERATOR_VERSION,
    AnnotatedImage,
    Annotation,
    Category,
    Coco,
    Info,
    Plan,
    Profile,
    write_labels,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from multiprocessing.synchronize import Event

PHOTOS_PER_ARCHIVE = 100
_NO_TIME = (1980, 1, 1, 0, 0, 0)

ANNOTATIONS_PATH = Path("annotations", "instances_default.json")
_JPEG_QUALITY = 90
_JOURNAL = "journal.jsonl"
_PROFILE = "sample.json"

_NOT_A_PICTURE = (
    b"<!DOCTYPE html>\n<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>\n"
)


def write_archives(directory: Path, annotations_path: Path) -> int:
    """Write archives/part_NNN.zip, each with annotations/instances_default.json and its images; returns how many.

    Parts already there are kept: they appear whole or not at all, and never change.
    """
    document = read_record(annotations_path, Coco)
    by_image: dict[int, list[Annotation]] = {}
    for entry in document.annotations:
        by_image.setdefault(entry.image_id, []).append(entry)
    written = 0
    for number, first in enumerate(range(0, len(document.images), PHOTOS_PER_ARCHIVE)):
        path = directory / "archives" / f"part_{number:03d}.zip"
        if path.exists():
            continue
        part = document.images[first : first + PHOTOS_PER_ARCHIVE]
        with atomic_path(path) as draft, zipfile.ZipFile(draft, "w", zipfile.ZIP_STORED) as archive:
            archive.writestr(
                zipfile.ZipInfo("annotations/instances_default.json", _NO_TIME),
                json.dumps(_part_of(document, part, by_image).model_dump()),
            )
            for image in part:
                content = (directory / "images" / image.file_name).read_bytes()
                archive.writestr(zipfile.ZipInfo(f"images/{image.file_name}", _NO_TIME), content)
        written += 1
    return written


def _part_of(document: Coco, images: list[AnnotatedImage], by_image: dict[int, list[Annotation]]) -> Coco:
    """The document of some images only, numbered from 1 as each export is."""
    entries = [(number, entry) for number, image in enumerate(images, 1) for entry in by_image.get(image.id, [])]
    renumbered = {
        "images": [image.model_copy(update={"id": number}) for number, image in enumerate(images, 1)],
        "annotations": _numbered(entries),
    }
    return document.model_copy(update=renumbered)


def _numbered(entries: Iterable[tuple[int, Annotation]]) -> list[Annotation]:
    """Annotations with their images' ids, counted from 1."""
    return [
        entry.model_copy(update={"id": number, "image_id": image_id})
        for number, (image_id, entry) in enumerate(entries, 1)
    ]


@dataclass(frozen=True)
class SampleReport:
    """What `make_sample` did: photos the set holds, photos drawn now, picsets, archives written."""

    directory: Path
    photos: int
    drawn: int
    picsets: int
    archives: int


def make_sample(directory: Path, config: SampleConfig) -> SampleReport:
    """Make a sample set, or finish one that was interrupted.

    Args:
        directory: Where; it must not exist yet, be empty, or hold a set of the same parameters.
        config: What is drawn.

    Raises:
        SampleError: The folder holds something else, or a process that draws ended.
    """
    refuse_unguarded_script()
    plan = Plan(config)
    is_finished = _claim(directory, config)
    remove_parts(directory / "images")
    journal = {} if is_finished else _read_journal(directory)
    missing = [
        index
        for index in range(config.photos)
        if (not is_finished and index not in journal) or not (directory / "images" / plan.file_name(index)).exists()
    ]
    _draw_all(directory, config, missing, config.workers or os.cpu_count() or 1)
    if not is_finished:
        journal = _read_journal(directory)
        write_json_atomic(
            directory / ANNOTATIONS_PATH, coco(plan, journal, range(config.photos)).model_dump(), indent=None
        )
        write_labels(directory, plan)
        write_json_atomic(directory / _PROFILE, Profile.of(config, finished=True).model_dump())
    (directory / _JOURNAL).unlink(missing_ok=True)
    written = write_archives(directory, directory / ANNOTATIONS_PATH) if config.archives else 0
    return SampleReport(directory, config.photos, len(missing), len(plan.picsets), written)


def _claim(directory: Path, config: SampleConfig) -> bool:
    """Make sure the folder is ours to write in; whether the set in it is finished already."""
    profile = directory / _PROFILE
    if profile.exists():
        found = read_record(profile, Profile)
        other = [
            f"{key} {was} instead of {value}"
            for (key, was), (_, value) in zip(found, Profile.of(config, finished=found.finished), strict=True)
            if was != value
        ]
        if other:
            raise SampleError(
                f"holds a sample set of other parameters ({', '.join(other)})",
                code="other_parameters",
                where=directory,
                hint="choose another folder, delete this one, or repeat its parameters",
            )
        return found.finished
    if directory.is_file():
        raise SampleError("is a file, not a folder", code="not_a_folder", where=directory, hint="choose another name")
    if directory.exists() and any(not entry.name.startswith(".") for entry in directory.iterdir()):
        raise SampleError(
            "is not empty and holds no sample set",
            code="folder_not_empty",
            where=directory,
            hint="choose an empty or new folder",
        )
    (directory / "images").mkdir(parents=True, exist_ok=True)
    write_json_atomic(profile, Profile.of(config, finished=False).model_dump())
    return False


class _MadePhoto(BaseModel):
    """A line of the journal: a photo that was drawn."""

    index: int
    annotations: list[Annotation]


def _read_journal(directory: Path) -> dict[int, list[Annotation]]:
    """Annotations of the photos drawn so far, by index; a line cut short by a kill is as if never written."""
    return {line.index: line.annotations for line in JsonLines(directory / _JOURNAL, _MadePhoto).read()}


def _draw_all(directory: Path, config: SampleConfig, indices: list[int], workers: int) -> None:
    """Draw the photos of these indices; those of one picset by one process, which keeps their place in memory."""
    plan = Plan(config)
    chunks = [list(chunk) for _, chunk in groupby(indices, key=plan.picset_of)]
    with progress("photos drawn", len(indices)) as ticker:
        if workers == 1 or len(chunks) < 2:
            for chunk in chunks:
                for _ in draw_photos(directory, config, chunk):
                    ticker.advance()
            return
        # Forked children would share OpenCV's thread pool with a parent that may have used it.
        context = get_context("spawn")
        has_started = context.Event()
        with ProcessPoolExecutor(
            min(workers, len(chunks)), mp_context=context, initializer=_set_up_worker, initargs=(has_started,)
        ) as pool:
            jobs = [pool.submit(_draw_chunk, directory, config, chunk) for chunk in chunks]
            try:
                for job in as_completed(jobs):
                    ticker.advance(job.result())
            except BrokenProcessPool:
                if not has_started.is_set():
                    raise SampleError(
                        "the drawing processes could not start",
                        code="worker_not_started",
                        where=directory,
                        hint='in a script, call it under `if __name__ == "__main__":`, or draw with workers=1',
                    ) from None
                raise SampleError(
                    "a drawing process ended before its time (out of memory?)",
                    code="worker_died",
                    where=directory,
                    hint="the same command goes on from here; fewer --workers need less memory",
                ) from None
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise


def _set_up_worker(has_started: Event) -> None:
    """A worker ends with its parent: killed with -9, the parent cannot tell it to; Ctrl-C is the parent's to answer."""
    has_started.set()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = parent_process()
    if parent is None:
        return

    def follow() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _draw_chunk(directory: Path, config: SampleConfig, indices: list[int]) -> int:
    return sum(1 for _ in draw_photos(directory, config, indices))


def draw_photos(directory: Path, config: SampleConfig, indices: list[int]) -> Iterator[int]:
    """Draw and write the photos of these indices one by one, each followed by its line in the journal."""
    import cv2

    cv2.setNumThreads(1)
    plan = Plan(config)
    journal = JsonLines(directory / _JOURNAL, _MadePhoto)
    for index in indices:
        content, annotations = encoded_photo(config, plan, index)
        write_bytes_atomic(directory / "images" / plan.file_name(index), content)
        journal.append(_MadePhoto(index=index, annotations=annotations))
        yield index


def encoded_photo(config: SampleConfig, plan: Plan, index: int) -> tuple[bytes, list[Annotation]]:
    """The bytes of a photo's file and its annotations (none for a corrupt file)."""
    kind = plan.corrupt_kind(index)
    if kind == "empty":
        return b"", []
    if kind == "html":
        return _NOT_A_PICTURE, []
    import cv2

    from cls.sample.photo import render_photo

    photo = render_photo(config, plan, index)
    _, encoded = cv2.imencode(
        ".jpeg", cv2.cvtColor(photo.image_rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    )
    content = encoded.tobytes()
    if kind == "truncated":
        return content[: len(content) // 3], []
    return content, photo.annotations()


def coco(plan: Plan, annotations: dict[int, list[Annotation]], indices: range) -> Coco:
    """The COCO document of some photos; corrupt ones are left out, as an annotation service cannot open them."""
    config = plan.config
    readable = [index for index in indices if index not in plan.corrupt]
    return Coco(
        info=Info(description="CLS sample photo set", version=str(GENERATOR_VERSION)),
        categories=[Category(id=number, name=name) for name, number in CATEGORIES.items()],
        images=[
            AnnotatedImage(
                id=index + 1,
                width=config.width_px,
                height=config.height_px,
                file_name=plan.file_name(index),
                picset=plan.guid(plan.picset_of(index)),
            )
            for index in readable
        ],
        annotations=_numbered((index + 1, entry) for index in readable for entry in annotations[index]),
    )
