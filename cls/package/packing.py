"""Packages written: a folder that takes another's place in one step, and the zip that carries a proven model."""

from __future__ import annotations

import ctypes
import io
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cls.errors import FileError, PackageError
from cls.files import ZIP_ERRORS, sha256_of_bytes, sha256_of_file, write_error
from cls.package.archive import open_package, pack_files
from cls.package.keys import SigningKey
from cls.package.meta import META_FILE_NAME, SCHEMA_VERSION, ModelMeta, PackageMeta, PlanMeta, TensorMeta
from cls.package.signature import SIGNATURE_FILE_NAME, sign
from cls.package.triton_config import CONFIG_FILE_NAME, Platform, build_config, digest_of_config

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ARRAYS = ("crops_rgb", "probabilities", "truth", "labels")
_HINT = "export again with --carry-samples"

REBUILD_ONNX = "rebuild/model.onnx"
REBUILD_SAMPLES = "rebuild/samples.npz"
VECTORS_FOLDER = "vectors/"
_PART = ".part"
_OLD = ".old"
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@dataclass(frozen=True, eq=False)
class CarriedSamples:
    """Cut-outs of people with the outputs of the trained network.

    Attributes:
        crops_rgb: as the preprocessing of meta.json makes them, uint8 (people, height, width, 3).
        probabilities: of the trained network, PyTorch float32, float32 (people, labels).
        truth: their annotations, float32 (people, labels): 1, 0, NaN for unknown.
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
    except (*ZIP_ERRORS, ValueError, KeyError) as error:
        raise PackageError(
            f"does not hold samples: {error}", code="invalid_samples", where=where, hint=_HINT
        ) from error
    crops, probabilities, truth = arrays["crops_rgb"], arrays["probabilities"], arrays["truth"]
    labels = tuple(str(label) for label in arrays["labels"].ravel().tolist())
    if labels != meta.labels:
        raise PackageError(
            f"holds samples of another model: its labels are {', '.join(labels[:4])}",
            code="other_model",
            where=where,
            hint=_HINT,
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
            code="wrong_shape",
            where=where,
            hint=_HINT,
        )
    return CarriedSamples(crops, probabilities.astype(np.float32), truth.astype(np.float32), labels)


@dataclass(frozen=True)
class PackedModel:
    """What goes into a zip beside meta.json and config.pbtxt.

    Attributes:
        format: name of the format, e.g. `onnx_fp16`.
        platform: what Triton runs it with.
        files: path inside the zip -> the file, or its content: the model, and what `cls package rebuild` needs.
        plan: where it runs, for a TensorRT plan.
    """

    format: str
    platform: Platform
    files: Mapping[str, Path | bytes]
    plan: PlanMeta | None = None


def write_package(zip_path: Path, meta: ModelMeta, model: PackedModel, signer: SigningKey | None = None) -> ModelMeta:
    """Writes a package: the same bytes for the same content.

    Args:
        zip_path: the zip to write, whole or not at all; an older one is replaced.
        meta: describes the model; `package` is filled in here, and `steps` where it lacks them; tensors
            get the platform's names.
        model: its files.
        signer: signs the zip's files; None: the package is not signed.

    Raises:
        PackageError: a file is missing.
    """
    digests = {
        name: sha256_of_bytes(source) if isinstance(source, bytes) else sha256_of_file(source)
        for name, source in model.files.items()
    }
    plain = meta.changed(
        schema_version=SCHEMA_VERSION,
        steps=meta.all_steps,
        inputs=tuple(_named(tensor, model.platform) for tensor in meta.inputs),
        outputs=tuple(_named(tensor, model.platform) for tensor in meta.outputs),
        package=None,
    )
    digests[CONFIG_FILE_NAME] = digest_of_config(build_config(plain, model.platform))
    contents = PackageMeta(format=model.format, files=dict(sorted(digests.items())), plan=model.plan)
    own = plain.changed(package=contents)
    entries = {
        **model.files,
        META_FILE_NAME: own.to_json().encode(),
        CONFIG_FILE_NAME: build_config(own, model.platform).encode(),
    }
    if signer is not None:
        entries[SIGNATURE_FILE_NAME] = sign(entries, signer)
    pack_files(zip_path, entries)
    return own


def _named(tensor: TensorMeta, platform: Platform) -> TensorMeta:
    """A tensor under its platform's name: Triton takes the inputs and outputs of TorchScript by number."""
    if platform == "pytorch_libtorch" and "__" not in tensor.name:
        return tensor.model_copy(update={"name": f"{tensor.name}__0"})
    return tensor


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A new folder beside `folder` that takes its place when the block ends well, and vanishes when it does not.

    Call it with a lock held: it removes what killed processes left behind.

    Args:
        folder: the final folder; an older one is replaced as a whole.

    Yields:
        Where to write.

    Raises:
        FileError: the folder cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise FileError(
            "is a file, where a folder is to be written",
            code="not_a_folder",
            where=folder,
            hint="move it somewhere else",
        )
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        _finish_swap(folder)
        staged = folder.with_name(f".{folder.name}.{os.getpid()}-{secrets.token_hex(4)}{_PART}")
        staged.mkdir()
    except OSError as error:
        raise write_error(folder, error, hint="check space and permissions") from error
    try:
        yield staged
        _swap(staged, folder)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _finish_swap(folder: Path) -> None:
    """Puts back an old folder that was moved aside by a process killed in the middle, and removes leftovers."""
    old = folder.with_name(f".{folder.name}{_OLD}")
    if old.exists() and not folder.exists():
        old.rename(folder)
    for left in (old, *folder.parent.glob(f".{folder.name}.*{_PART}")):
        shutil.rmtree(left, ignore_errors=True)


def _swap(staged: Path, folder: Path) -> None:
    if not folder.exists():
        staged.rename(folder)
    elif not _exchange(staged, folder):
        # Two steps where the system has no exchange: `_finish_swap` mends what a kill between them leaves.
        old = folder.with_name(f".{folder.name}{_OLD}")
        folder.rename(old)
        staged.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
    with suppress(OSError):
        descriptor = os.open(folder.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _exchange(first: Path, second: Path) -> bool:
    """Exchanges two folders in one step (Linux); False where the system cannot."""
    if not sys.platform.startswith("linux"):
        return False
    renameat2 = getattr(ctypes.CDLL(None), "renameat2", None)
    if renameat2 is None:
        return False
    names = (_AT_FDCWD, os.fsencode(first), _AT_FDCWD, os.fsencode(second), _RENAME_EXCHANGE)
    return bool(renameat2(*names) == 0)
