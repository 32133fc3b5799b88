"""The peers of `format_speed.py`: the same network in timm, ONNX Runtime and ultralytics; and the way's bare parts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from cls.machine import cores
from cls.people.photos import Person
from cls.people.preprocess import Preprocessing
from cls.training.runs.run import FinishedRun

Images = NDArray[np.float32]
Crops = NDArray[np.uint8]
BATCH = 16  # of the bare session, as `Classifier.probabilities` takes by default


def timm_eager(run: FinishedRun) -> Callable[[Images], object]:
    """The trained network as timm made it, PyTorch in eager mode, on prepared tensors."""
    network = run.load_network().eval()

    def answer(images: Images) -> object:
        with torch.inference_mode():
            return network(torch.from_numpy(images)).numpy()

    return answer


def bare_session(model: Path, threads: int | None = None) -> Callable[[Images], NDArray[np.float32]]:
    """Plain ONNX Runtime on prepared tensors."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or cores()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: session.run(None, {name: images})[0]


@contextmanager
def as_many_threads_as_cores() -> Iterator[None]:
    """Sessions made meanwhile have the threads that everybody has: left alone, they count the machine's cores."""
    made = onnxruntime.InferenceSession

    def make(model: object, options: Any = None, **arguments: Any) -> Any:
        options = arguments.pop("sess_options", options) or onnxruntime.SessionOptions()
        options.intra_op_num_threads = cores()
        return made(model, options, **arguments)

    onnxruntime.InferenceSession = make
    try:
        yield
    finally:
        onnxruntime.InferenceSession = made


def ultralytics_classifier(
    model: Path, labels: Sequence[str], size: Preprocessing, folder: Path
) -> Callable[[Crops], object]:
    """The same ONNX through ultralytics' classification `predict()`, on cut-outs; its notes are added to the file."""
    from cls.segmentation.networks import prepare_ultralytics

    prepare_ultralytics()
    from ultralytics.models import YOLO

    network = onnx.load(model)
    notes = {
        "task": "classify",
        "stride": "1",
        "batch": "1",
        "channels": "3",
        "imgsz": str([size.height_px, size.width_px]),
        "names": str(dict(enumerate(labels))),
        "args": str({"dynamic": True}),
    }
    onnx.helper.set_model_props(network, notes)
    path = folder / "ultralytics.onnx"
    onnx.save(network, path)
    yolo = YOLO(str(path), task="classify")

    def answer(crops: Crops) -> object:
        pictures = [crop[..., ::-1] for crop in crops]
        results = yolo.predict(pictures, imgsz=[size.height_px, size.width_px], batch=len(crops), verbose=False)
        torch.set_num_threads(cores())  # it takes one less
        return [result.probs.data for result in results]

    with as_many_threads_as_cores():
        answer(np.zeros((1, size.height_px, size.width_px, 3), np.uint8))
    return answer


class BareParts:
    """Photo bytes to labels by hand: decode, cut, resize, normalise, session; each part's seconds are kept.

    The least code that does the same to a sound photo: nothing is checked, read ahead or reported. One thing after
    another, one photo at a time, the people of all photos in batches of 16.
    """

    def __init__(
        self, model: Path, size: Preprocessing, thresholds: Sequence[float], clock: Callable[[], float]
    ) -> None:
        self.session, self.size, self.clock = bare_session(model), size, clock
        self.thresholds = np.array(thresholds, np.float32)
        self.seconds: dict[str, float] = {}

    def run(self, files: Sequence[Path], people: Sequence[Sequence[Person]]) -> NDArray[np.bool_]:
        """Decisions of all people, (people, labels)."""
        self.seconds = dict.fromkeys(("decode", "cut and resize", "normalise", "session", "labels"), 0.0)
        crops: list[Crops] = []
        for file, those in zip(files, people, strict=True):
            image = self._timed("decode", decode, file)
            crops += [self._timed("cut and resize", cut, image, person, self.size) for person in those]
        decisions = []
        for start in range(0, len(crops), BATCH):
            images = self._timed("normalise", normalise, crops[start : start + BATCH], self.size)
            logits = self._timed("session", self.session, images)
            decisions.append(self._timed("labels", lambda found: 1 / (1 + np.exp(-found)) >= self.thresholds, logits))
        return np.concatenate(decisions)

    def _timed(self, part: str, call: Callable[..., Any], *arguments: Any) -> Any:
        started_s = self.clock()
        answer = call(*arguments)
        self.seconds[part] += self.clock() - started_s
        return answer


def decode(file: Path) -> Crops:
    return cv2.cvtColor(cv2.imdecode(np.fromfile(file, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)  # type: ignore[arg-type]


def cut(image: Crops, person: Person, size: Preprocessing) -> Crops:
    """Box with margin, mask of the polygons, both resized, blended with the fill colour, centred in a frame."""
    height, width = image.shape[:2]
    outlines = [polygon * (width, height) for polygon in person.polygons_xy_rel]
    points = np.concatenate(outlines)
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    margin = size.margin_rel * max(right - left, bottom - top)
    x0, y0 = max(int(np.floor(left - margin)), 0), max(int(np.floor(top - margin)), 0)
    x1, y1 = min(int(np.ceil(right + margin)), width), min(int(np.ceil(bottom + margin)), height)
    mask = np.zeros((y1 - y0, x1 - x0), np.uint8)
    cv2.fillPoly(mask, [np.round(outline - (x0, y0)).astype(np.int32) for outline in outlines], 255)
    scale = min(size.height_px / (y1 - y0), size.width_px / (x1 - x0))
    inner = (min(round((x1 - x0) * scale), size.width_px), min(round((y1 - y0) * scale), size.height_px))
    how = cv2.INTER_AREA if scale <= 1 else cv2.INTER_LINEAR
    pixels = cv2.resize(image[y0:y1, x0:x1], inner, interpolation=how).astype(np.uint16)
    alpha = cv2.cvtColor(cv2.resize(mask, inner, interpolation=how), cv2.COLOR_GRAY2RGB).astype(np.uint16)
    blended = ((pixels * alpha + np.array(size.fill_rgb, np.uint16) * (255 - alpha)) // 255).astype(np.uint8)
    frame = np.empty((size.height_px, size.width_px, 3), np.uint8)
    frame[:] = size.fill_rgb
    top, left = (size.height_px - inner[1]) // 2, (size.width_px - inner[0]) // 2
    frame[top : top + inner[1], left : left + inner[0]] = blended
    return frame


def normalise(crops: Sequence[Crops], size: Preprocessing) -> Images:
    """As torchvision does it, in NumPy."""
    levels = np.stack(crops).astype(np.float32) / 255
    normal = (levels - np.array(size.mean_rgb, np.float32)) / np.array(size.std_rgb, np.float32)
    return np.ascontiguousarray(normal.transpose(0, 3, 1, 2))


def ultralytics_photos(
    segmenter: Path, model: Callable[[Crops], object], size: Preprocessing, image_size_px: int
) -> Callable[[Sequence[Path]], int]:
    """Photos to classified people as one does it with ultralytics: `predict()` for people, then for their labels."""
    from ultralytics.models import YOLO

    yolo = YOLO(str(segmenter))

    def answer(files: Sequence[Path]) -> int:
        count = 0
        names = [str(file) for file in files]
        for start in range(0, len(names), BATCH):
            found = yolo.predict(
                names[start : start + BATCH], imgsz=image_size_px, conf=0.4, batch=BATCH, verbose=False
            )
            torch.set_num_threads(cores())
            crops = []
            for result in found:
                for x0, y0, x1, y1 in result.boxes.xyxy.round().int().tolist():
                    crop = result.orig_img[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1), ::-1]
                    crops.append(cv2.resize(crop, (size.width_px, size.height_px)))
            if crops:
                model(np.stack(crops))
            count += len(crops)
        return count

    return answer
