"""A client of a model package without CLS: NumPy, Pillow and ONNX Runtime alone. Copy it, or write it in your language.

    python reference_client.py model_onnx.zip photo.jpg people.json    # who is in the photo -> labels, as JSON
    python reference_client.py model_onnx.zip --vectors                # does this client go the package's way?

people.json is a list of {"polygons_xy_rel": [[[x, y], ...], ...], "box_xyxy_px": [left, top, right, bottom]}: outlines
as fractions of the photo's width and height; the box, in pixels, counts where there is no outline. Every rule followed
here stands in the package's meta.json, `steps.rules`.
"""

import io
import json
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def decode(content):
    """Bytes of a photo -> uint8 (height, width, 3), RGB, upright, transparent parts on white."""
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    if "A" in image.mode or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.array(image.convert("RGB"))


def in_units(points, scale_xy):
    """Points -> whole units of 1/256 pixel, int64 (points, 2)."""
    units = np.floor(np.asarray(points, np.float64).reshape(-1, 2) * scale_xy * 256 + 0.5)
    return np.clip(units, -(2**28), 2**28).astype(np.int64)


def inside(points, height, width):
    """The pixels whose centre is inside an outline (even-odd rule) or on it: bool (height, width)."""
    crossed = np.zeros((height, width + 1), bool)
    on = np.zeros((height, width), bool)
    for (x1, y1), (x2, y2) in zip(points.tolist(), np.roll(points, -1, axis=0).tolist(), strict=True):
        if y1 > y2:
            x1, y1, x2, y2 = x2, y2, x1, y1
        row = np.arange(max(-((128 - y1) // 256), 0), min((y2 - 128) // 256, height - 1) + 1)
        if y1 == y2:  # level: crosses no row of centres, lies on one or none
            left, right = min(x1, x2), max(x1, x2)
            on[row, max(-((128 - left) // 256), 0) : max((right - 128) // 256 + 1, 0)] = True
            continue
        dividend, divisor = (row * 256 + 128 - y1) * (x2 - x1) + (x1 - 128) * (y2 - y1), (y2 - y1) * 256
        column = -(-dividend // divisor)  # the first centre at the crossing or right of it
        is_on = (column * divisor == dividend) & (column >= 0) & (column < width)
        on[row[is_on], column[is_on]] = True
        counts = row * 256 + 128 < y2  # so that a corner between two edges counts once
        crossed[row[counts], np.clip(column[counts], 0, width)] ^= True
    return np.logical_xor.accumulate(crossed, axis=1)[:, :width] | on


def cut_out(photo, person, margin_rel):
    """Photo and person -> picture uint8 (height, width, 3), mask uint8 (height, width) and frame (x0, y0, x1, y1)."""
    height, width = photo.shape[:2]
    outlines = [in_units(p, (width, height)) for p in person.get("polygons_xy_rel", ()) if len(p) >= 3]
    if not outlines:
        left, top, right, bottom = person["box_xyxy_px"]
        outlines = [in_units([(left, top), (right, top), (right, bottom), (left, bottom)], (1, 1))]
    (left, top), (right, bottom) = (f(np.concatenate(outlines), axis=0).tolist() for f in (np.min, np.max))
    margin = int(np.floor(margin_rel * max(right - left, bottom - top) + 0.5))
    x0, y0 = (min(max((v - margin) // 256, 0), side - 1) for v, side in ((left, width), (top, height)))
    x1 = min(max(-(-(right + margin) // 256), x0 + 1), width)
    y1 = min(max(-(-(bottom + margin) // 256), y0 + 1), height)
    mask = np.zeros((y1 - y0, x1 - x0), bool)
    for outline in outlines:
        mask |= inside(outline - np.array([x0, y0]) * 256, *mask.shape)
    return photo[y0:y1, x0:x1], np.uint8(mask) * 255, (x0, y0, x1, y1)


def weights(source, inner, is_shrunk):
    """How much of each source pixel is in each pixel of the result: float64 (inner, source)."""
    step, i, s = source / inner, np.arange(inner)[:, None], np.arange(source)[None]
    if is_shrunk:  # the share of the covered area
        return np.clip(np.minimum((i + 1) * step, s + 1) - np.maximum(i * step, s), 0, None) / step
    return np.clip(1 - np.abs(np.clip((i + 0.5) * step - 0.5, 0, source - 1) - s), 0, None)


def letterbox(picture, mask, said):
    """Picture and mask -> uint8 (height_px, width_px, 3): resized, the background filled, in the middle of a frame."""
    (h, w), height, width = mask.shape, said["height_px"], said["width_px"]
    if height * w <= width * h:
        ih, iw = height, max(1, (2 * w * height + h) // (2 * h))
    else:
        ih, iw = max(1, (2 * h * width + w) // (2 * w)), width
    is_shrunk = ih <= h and iw <= w
    rows, columns = weights(h, ih, is_shrunk), weights(w, iw, is_shrunk)
    layers = np.moveaxis(np.dstack([picture, mask]).astype(np.float64), 2, 0)
    resized = np.moveaxis(np.floor(rows @ layers @ columns.T + 0.5), 0, 2)
    inner = resized[..., :3] if said["is_background_kept"] else fill(resized[..., :3], resized[..., 3], said)
    frame = np.empty((height, width, 3), np.uint8)
    frame[:] = said["fill_rgb"]
    top, left = (height - ih) // 2, (width - iw) // 2
    frame[top : top + ih, left : left + iw] = inner
    return frame


def fill(picture, mask, said):
    """What is outside of the mask becomes the fill colour: uint8 (height, width, 3)."""
    share = np.float64(mask)[..., None]
    return np.uint8(np.floor((picture * share + np.float64(said["fill_rgb"]) * (255 - share)) / 255 + 0.5))


class Client:
    """A package's model, and all that leads to its answers."""

    def __init__(self, package):
        self.zip = zipfile.ZipFile(package)
        self.meta = json.loads(self.zip.read("meta.json"))
        self.said = self.meta["preprocessing"]
        if self.said.get("version") != 2:
            sys.exit(f"{package}: preprocessing version {self.said.get('version', 1)}, and this client knows 2")
        self.session = onnxruntime.InferenceSession(self.zip.read("model.onnx"), providers=["CPUExecutionProvider"])

    def input_of(self, photo, person):
        """Photo uint8 (height, width, 3) and person -> the picture the model sees, its tensor, the frame."""
        picture, mask, frame = cut_out(photo, person, self.said["margin_rel"])
        if "letterbox" in self.meta["steps"]["inside"]:
            crop = picture if self.said["is_background_kept"] else fill(picture, mask, self.said)
            return crop, crop[None], frame
        crop = letterbox(picture, mask, self.said)
        mean, std = np.float32(self.said["mean_rgb"]), np.float32(self.said["std_rgb"])
        tensor = (np.float32(crop) / np.float32(255) - mean) / std
        return crop, np.ascontiguousarray(tensor.transpose(2, 0, 1)[None]), frame

    def probabilities(self, tensor):
        """The model's input, a batch of one -> a probability for each label, in the labels' order."""
        (answer,) = self.session.run(None, {self.meta["inputs"][0]["name"]: tensor})
        return (1 / (1 + np.exp(-np.float64(answer[0])))) if "activation" in self.meta["steps"]["after"] else answer[0]

    def decide(self, photo, person):
        """Photo and person -> {label: probability} and the labels chosen."""
        probabilities = self.probabilities(self.input_of(photo, person)[1])
        probs = dict(zip(self.meta["labels"], probabilities.tolist(), strict=True))
        return probs, [label for label, prob in probs.items() if prob >= self.meta["thresholds"][label]]

    def missed_vectors(self):
        """Goes through the package's vectors, printing the differences; the number that are not met."""
        said, missed = json.loads(self.zip.read("vectors/vectors.json")), 0
        for case in said["cases"]:
            crop, tensor, frame = self.input_of(decode(self.zip.read(case["photo"])), case)
            expected_crop = decode(self.zip.read(f"vectors/{case['name']}.crop.png"))
            expected = np.load(io.BytesIO(self.zip.read(f"vectors/{case['name']}.tensor.npy")))
            is_same_size = list(frame) == case["frame_xyxy_px"] and crop.shape == expected_crop.shape
            levels = int(np.abs(np.int64(crop) - expected_crop).max()) if is_same_size else 255
            due = np.array([case["probabilities"][label] for label in self.meta["labels"]])
            # Of the tensor that the package gives: differences are then the runtime's alone.
            runtime = float(np.abs(self.probabilities(expected) - due).max())
            own = float(np.abs(self.probabilities(tensor) - due).max())
            is_met = levels <= case["max_level_difference"] and runtime <= said["max_probability_difference"]
            missed += not is_met
            print(
                f"{case['name']:<18} levels {levels}, probability {own:.2g} ({runtime:.2g} of the given tensor)", end=""
            )
            print("" if is_met else "  NOT MET")
        return missed


if __name__ == "__main__":
    is_check = len(sys.argv) == 3 and sys.argv[2] == "--vectors"
    if len(sys.argv) != 4 and not is_check:
        sys.exit(__doc__)
    file, kind = sys.argv[1], "a model package"
    try:
        client = Client(file)
        if is_check:
            sys.exit(1 if client.missed_vectors() else 0)
        file, kind = sys.argv[2], "a photo"
        photo = decode(Path(file).read_bytes())
        file, kind = sys.argv[3], "JSON"
        people = json.loads(Path(file).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        sys.exit(f"error: {file}: {getattr(error, 'strerror', None) or f'is not {kind}'}")
    for person in people:
        probs, chosen = client.decide(photo, person)
        print(json.dumps({"labels": chosen, "probabilities": probs}, ensure_ascii=False))
