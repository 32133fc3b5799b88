"""People carried along in a package, so that a conversion made elsewhere can be proven there."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cls.errors import PackageError
from cls.files import ZIP_ERRORS
from cls.package.archive import open_package
from cls.package.meta import ModelMeta
from cls.package.packing import REBUILD_SAMPLES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ARRAYS = ("crops_rgb", "probabilities", "truth", "labels")
_HINT = "export again with --carry-samples"


@dataclass(frozen=True, eq=False)
class CarriedSamples:
    """Cut-outs of people, and what the trained network says of them.

    Attributes:
        crops_rgb: as the preprocessing of meta.json makes them, uint8 (people, height, width, 3).
        probabilities: of the trained network, PyTorch float32, float32 (people, labels).
        truth: what people said of them, float32 (people, labels): 1, 0, NaN for unknown.
        labels: in the columns' order.
    """

    crops_rgb: NDArray[np.uint8] = field(repr=False)
    probabilities: NDArray[np.float32] = field(repr=False)
    truth: NDArray[np.float32] = field(repr=False)
    labels: tuple[str, ...]


def people_in(zip_path: Path) -> int:
    """How many people's cut-outs a package holds; 0 for most.

    Raises:
        PackageError: it is not a package, or its samples are damaged.
    """
    with open_package(zip_path) as package:
        if REBUILD_SAMPLES not in package.names:
            return 0
        where = f"{zip_path}!{REBUILD_SAMPLES}"
        return len(read_samples(package.read(REBUILD_SAMPLES), package.meta(), where).crops_rgb)


def samples_as_bytes(samples: CarriedSamples) -> bytes:
    """`rebuild/samples.npz`: the same bytes for the same samples."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        crops_rgb=samples.crops_rgb,
        probabilities=samples.probabilities,
        truth=samples.truth,
        labels=np.array(samples.labels, np.str_),
    )
    return buffer.getvalue()


def read_samples(content: bytes, meta: ModelMeta, where: object) -> CarriedSamples:
    """Reads what `samples_as_bytes` made; nothing in it is executed.

    Raises:
        PackageError: it is damaged, or made for another model than meta.json describes.
    """
    import numpy as np

    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in _ARRAYS}
    except (*ZIP_ERRORS, zipfile.BadZipFile, ValueError, KeyError) as error:
        raise PackageError(f"does not hold samples: {error}", where=where, hint=_HINT) from error
    crops, probabilities, truth = arrays["crops_rgb"], arrays["probabilities"], arrays["truth"]
    labels = tuple(str(label) for label in arrays["labels"].ravel().tolist())
    if labels != meta.labels:
        raise PackageError(
            f"holds samples of another model: its labels are {', '.join(labels[:4])}", where=where, hint=_HINT
        )
    size = (meta.preprocessing.height_px, meta.preprocessing.width_px, 3)
    table = (len(crops), len(labels))
    if (
        crops.dtype != np.uint8
        or crops.shape[1:] != size
        or not len(crops)
        or probabilities.shape != table
        or truth.shape != table
        or not np.isfinite(probabilities).all()
    ):
        raise PackageError(
            f"does not hold people of {size[0]}x{size[1]} pixels with a probability for each label (of {len(labels)})",
            where=where,
            hint=_HINT,
        )
    return CarriedSamples(crops, probabilities.astype(np.float32), truth.astype(np.float32), labels)
