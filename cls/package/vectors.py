"""Conformance vectors in a package: drawn photos with outlines, and what the model gets and answers for them.

Whoever uses a package without this code sees by them whether it goes the same way: the same cut-out, the same tensor,
the same probabilities. Nobody is in the photos.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from cls.errors import PackageError, first_line
from cls.files import ZIP_ERRORS
from cls.package.archive import ZipContents
from cls.package.meta import ModelMeta, Probability
from cls.package.packing import VECTORS_FOLDER
from cls.records import faults_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VECTORS_FILE = f"{VECTORS_FOLDER}vectors.json"
MAX_CASES = 32
_MAX_JSON_BYTES = 4 << 20
_MAX_PICTURE_BYTES = 32 << 20
_MAX_PICTURE_PIXELS = 64 << 20
_MAX_TENSOR_BYTES = 256 << 20
_HINT = "export again"

_Name = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,40}$")]
_Coordinate = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]
_Polygon = Annotated[tuple[tuple[_Coordinate, _Coordinate], ...], Field(max_length=10_000)]


class _Json(BaseModel):
    model_config = ConfigDict(frozen=True, extra="allow")


class CaseJson(_Json):
    """One case of vectors.json.

    Its files stand beside vectors.json: `<name>.png` or `<name>.jpg`, the photo; `<name>.crop.png`, the picture that is
    made of it; `<name>.tensor.npy`, the model's input.
    """

    name: _Name
    photo: Annotated[str, Field(pattern=r"^vectors/[a-z0-9_]{1,40}\.(png|jpg)$")]
    polygons_xy_rel: Annotated[tuple[_Polygon, ...], Field(max_length=100)]
    box_xyxy_px: tuple[_Coordinate, _Coordinate, _Coordinate, _Coordinate]
    frame_xyxy_px: tuple[int, int, int, int]
    max_level_difference: Annotated[int, Field(ge=0, le=255)]
    probabilities: dict[str, Probability]


class VectorsJson(_Json):
    """The content of vectors.json."""

    about: str = (
        "Drawn photos and outlines, and what a client must make of them by steps.rules of meta.json. For each case:"
        " frame_xyxy_px, the cut-out's left, top, right, bottom in the upright photo; <name>.crop.png, within"
        " max_level_difference; <name>.tensor.npy, the model's input; probabilities, the model's answer to it, within"
        " max_probability_difference."
    )
    runtime: str
    max_probability_difference: Annotated[float, Field(ge=0, le=1)]
    cases: Annotated[tuple[CaseJson, ...], Field(min_length=1, max_length=MAX_CASES)]


@dataclass(frozen=True, eq=False)
class Case:
    """A drawn photo with a person's outline, and what is expected of it.

    Attributes:
        photo: the photo's bytes, PNG or JPEG.
        crop_rgb: what the preprocessing makes of it, uint8 (height, width, 3); for a model with the preprocessing
            inside, the cut-out that it takes.
        tensor: the model's input, a batch of one: float32 (1, 3, height, width), or uint8 (1, height, width, 3).
    """

    record: CaseJson
    photo: bytes = field(repr=False)
    crop_rgb: NDArray[np.uint8] = field(repr=False)
    tensor: NDArray[Any] = field(repr=False)


@dataclass(frozen=True, eq=False)
class Vectors:
    """All vectors of a package.

    Attributes:
        cases: in the order of vectors.json.
        runtime: what answered, with its version.
        max_probability_difference: how far another runtime's answer to the same tensor may be off.
    """

    cases: tuple[Case, ...]
    runtime: str
    max_probability_difference: float


def vectors_as_files(vectors: Vectors) -> dict[str, bytes]:
    """The files of a package's `vectors/`, by their path in the zip: the same bytes for the same vectors."""
    import numpy as np

    files: dict[str, bytes] = {}
    for case in vectors.cases:
        files[case.record.photo] = case.photo
        files[crop_file(case.record)] = _png(case.crop_rgb)
        buffer = io.BytesIO()
        np.save(buffer, np.ascontiguousarray(case.tensor), allow_pickle=False)
        files[tensor_file(case.record)] = buffer.getvalue()
    record = VectorsJson(
        runtime=vectors.runtime,
        max_probability_difference=vectors.max_probability_difference,
        cases=tuple(case.record for case in vectors.cases),
    )
    text = json.dumps(record.model_dump(mode="json"), ensure_ascii=False, indent=1, allow_nan=False)
    files[VECTORS_FILE] = f"{text}\n".encode()
    return files


def has_vectors(contents: ZipContents) -> bool:
    """Whether a package carries vectors; older ones do not."""
    return VECTORS_FILE in contents.names


def read_vectors(contents: ZipContents, meta: ModelMeta) -> Vectors:
    """Reads the vectors of a package; nothing in them is executed.

    Raises:
        PackageError: there are none, they are damaged, too large, or of another model than meta.json describes.
    """
    where = f"{contents.path}!{VECTORS_FILE}"
    if not has_vectors(contents):
        raise PackageError(
            f"carries no conformance vectors ({VECTORS_FILE})", code="no_vectors", where=contents.path, hint=_HINT
        )
    try:
        record = VectorsJson.model_validate(json.loads(_bytes_of(contents, VECTORS_FILE, _MAX_JSON_BYTES)))
    except (ValidationError, ValueError, RecursionError) as error:
        details = faults_of(error) if isinstance(error, ValidationError) else first_line(error)
        raise PackageError(
            f"does not hold vectors: {details}", code="invalid_vectors", where=where, hint=_HINT
        ) from error
    names = [case.name for case in record.cases]
    if len(set(names)) != len(names):
        raise PackageError("names a case twice", code="duplicate_name", where=where, hint=_HINT)
    for case in record.cases:
        if tuple(case.probabilities) != meta.labels:
            raise PackageError(
                f"holds vectors of another model: case '{case.name}'", code="other_model", where=where, hint=_HINT
            )
    cases = tuple(_case(contents, case, meta) for case in record.cases)
    return Vectors(cases, record.runtime, record.max_probability_difference)


def crop_file(case: CaseJson) -> str:
    """Where in the zip the picture stands that is made of a case's photo."""
    return f"{VECTORS_FOLDER}{case.name}.crop.png"


def tensor_file(case: CaseJson) -> str:
    """Where in the zip a case's tensor stands."""
    return f"{VECTORS_FOLDER}{case.name}.tensor.npy"


def _case(contents: ZipContents, record: CaseJson, meta: ModelMeta) -> Case:
    import numpy as np

    crop = _decode_png(
        _bytes_of(contents, crop_file(record), _MAX_PICTURE_BYTES), f"{contents.path}!{crop_file(record)}"
    )
    try:
        content = _bytes_of(contents, tensor_file(record), _MAX_TENSOR_BYTES)
        tensor = np.load(io.BytesIO(content), allow_pickle=False)
    except (*ZIP_ERRORS, ValueError) as error:
        raise PackageError(
            f"is no array: {error}", code="not_an_array", where=f"{contents.path}!{tensor_file(record)}", hint=_HINT
        ) from error
    size = (meta.preprocessing.height_px, meta.preprocessing.width_px)
    shape, kind = ((1, *crop.shape), np.uint8) if meta.is_end_to_end else ((1, 3, *size), np.float32)
    if tensor.shape != shape or tensor.dtype != kind or (not meta.is_end_to_end and crop.shape[:2] != size):
        raise PackageError(
            f"case '{record.name}' has a picture of {crop.shape} and a tensor of {tensor.shape}, {tensor.dtype}:"
            " not what the model takes",
            code="wrong_shape",
            where=contents.path,
            hint=_HINT,
        )
    return Case(record, _bytes_of(contents, record.photo, _MAX_PICTURE_BYTES), crop, tensor)


def _bytes_of(contents: ZipContents, name: str, limit_bytes: int) -> bytes:
    """A file of the zip, no larger than a limit."""
    parts, size_bytes = [], 0
    for chunk in contents.stream(name):
        size_bytes += len(chunk)
        if size_bytes > limit_bytes:
            raise PackageError(
                f"unpacks to more than {limit_bytes} bytes", code="too_large", where=f"{contents.path}!{name}"
            )
        parts.append(chunk)
    return b"".join(parts)


def _decode_png(content: bytes, where: str) -> NDArray[np.uint8]:
    """The picture in a PNG file, uint8 (height, width, 3), RGB. By Pillow: a storage host has no OpenCV."""
    import numpy as np
    from PIL import Image

    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if image.width * image.height > _MAX_PICTURE_PIXELS:
                raise PackageError(
                    f"{image.width} x {image.height} pixels are more than the limit of {_MAX_PICTURE_PIXELS}",
                    code="too_large",
                    where=where,
                    hint=_HINT,
                )
            return np.asarray(image.convert("RGB"), np.uint8)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PackageError(f"is no PNG picture: {error}", code="not_a_picture", where=where, hint=_HINT) from error


def _png(image_rgb: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image_rgb).save(buffer, "PNG", compress_level=9)
    return buffer.getvalue()
