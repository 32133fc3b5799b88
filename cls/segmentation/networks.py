"""The two ways a segmentation network is run: an ultralytics checkpoint in torch, an ONNX file in ONNX Runtime."""

from __future__ import annotations

import ast
import logging
import os
import pickle
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cls.errors import SegmentationError
from cls.files import write_bytes_atomic

_CONFIG_FOLDER = "YOLO_CONFIG_DIR"
_SWITCHES = {
    "YOLO_OFFLINE": "True",
    "YOLO_AUTOINSTALL": "False",
    "YOLO_VERBOSE": "False",
    "ULTRALYTICS_SAFE_LOAD": "True",  # checkpoints are unpickled without running code of theirs
}
_FONT = Path("mpl-data/fonts/ttf/DejaVuSans.ttf")

_HINT = "give an ultralytics segmentation checkpoint (best.pt) or its ONNX export (best.onnx)"
_TORCH_STARTS = (b"PK", b"\x80\x02")  # a zip, or the pickle of older versions

_UNREADABLE = (
    *(AssertionError, RuntimeError, TypeError, ValueError, KeyError, IndexError, AttributeError),
    *(EOFError, ImportError, OSError, pickle.UnpicklingError),
)


def prepare_ultralytics() -> Path:
    """Sets the environment ultralytics reads at import; call before importing any of it.

    Variables the user has set stay as they are.

    Returns:
        The folder ultralytics keeps its settings in: `YOLO_CONFIG_DIR`, or one of our own in the user's cache.
    """
    for name, value in _SWITCHES.items():
        os.environ.setdefault(name, value)
    folder = Path(os.environ.setdefault(_CONFIG_FOLDER, str(_own_folder())))
    font = folder / "Ultralytics" / "Arial.ttf"
    spec = find_spec("matplotlib")
    if not font.exists() and spec is not None and spec.origin is not None:
        # Without a font under this name it is downloaded for the first plot.
        write_bytes_atomic(font, (Path(spec.origin).parent / _FONT).read_bytes())
    return folder


def _own_folder() -> Path:
    """A writable folder in the user's cache, or below the temporary folder where there is none."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    folder = cache / "cls" / "ultralytics"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.gettempdir()) / f"cls-ultralytics-{os.getuid()}"


@contextmanager
def no_foreign_output() -> Iterator[None]:
    """A block in which nothing is printed: ultralytics draws progress bars even when it is not verbose."""
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        yield


@contextmanager
def quiet_ultralytics() -> Iterator[None]:
    """A block in which ultralytics may be imported and used; afterwards the process is as it was before.

    Restores OMP_NUM_THREADS, torch's thread count and Pillow's `Image.open`, and keeps ultralytics' messages below
    warnings off the terminal.
    """
    import torch
    from PIL import Image

    prepare_ultralytics()
    open_image = Image.open
    threads = torch.get_num_threads()
    omp_threads = os.environ.get("OMP_NUM_THREADS")
    logging.getLogger("ultralytics").setLevel(logging.WARNING)
    try:
        yield
    finally:
        # At import it replaces Pillow's open by one that looks for a HEIF plugin whenever a file is no picture.
        Image.open = open_image
        if omp_threads is None:
            os.environ.pop("OMP_NUM_THREADS", None)
        if torch.get_num_threads() != threads:
            torch.set_num_threads(threads)


class Network(Protocol):
    """A network that takes letterboxed photos and answers candidates and mask prototypes.

    Attributes:
        names: class names in output order.
        image_size_px: longer side of the photos it was trained on.
        stride_px: both sides of an input are multiples of it.
        fixed_input_px: height and width, when the network takes no other size.
    """

    names: tuple[str, ...]
    image_size_px: int
    stride_px: int
    fixed_input_px: tuple[int, int] | None

    def run(self, inputs_rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """uint8 (batch, height, width, 3) -> candidates (batch, …, …), prototypes (batch, count, height, width)."""
        ...


class UltralyticsNetwork:
    """An ultralytics checkpoint, run directly: `predict()` spends most of its time around the network.

    The file is read with torch's restricted unpickler, which builds known classes only and runs no code of the file.
    """

    fixed_input_px: tuple[int, int] | None = None

    def __init__(self, path: Path) -> None:
        import torch

        self._torch = torch
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        with quiet_ultralytics():
            model, image_size = _read_checkpoint(path)
            self._module = model.float().fuse(verbose=False).eval().to(self._device)
        self.names = _names(model.names, path)
        self.image_size_px = _image_size(image_size, path)
        self.stride_px = int(model.stride.max())

    def run(self, inputs_rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See `Network.run`."""
        with self._torch.inference_mode():
            inputs = self._torch.from_numpy(inputs_rgb).to(self._device).permute(0, 3, 1, 2).float().div_(255)
            candidates, prototypes = self._module(inputs)[0]
        return candidates.float().cpu().numpy(), prototypes.float().cpu().numpy()


def _read_checkpoint(path: Path) -> tuple[Any, Any]:
    """The network of a checkpoint, and the picture size it was trained with, as ultralytics wrote it."""
    from ultralytics.nn.modules.head import Segment
    from ultralytics.nn.tasks import torch_safe_load

    with path.open("rb") as stream:
        if stream.read(2) not in _TORCH_STARTS:
            raise SegmentationError("is not a torch checkpoint", code="not_a_checkpoint", where=path, hint=_HINT)
    try:
        checkpoint, _ = torch_safe_load(str(path), safe_only=True)  # type: ignore[no-untyped-call]
        model = checkpoint.get("ema") or checkpoint["model"]
        head = model.model[-1]
        image_size = dict(checkpoint.get("train_args") or {}).get("imgsz")
    except _UNREADABLE as error:
        raise SegmentationError(
            f"is not a segmentation model that can be read ({_first_line(error, path)})",
            code="unreadable_checkpoint",
            where=path,
            hint=_HINT,
        ) from error
    if not isinstance(head, Segment):
        raise SegmentationError(
            f"is a model without masks (it ends in {type(head).__name__})", code="no_masks", where=path, hint=_HINT
        )
    return model, image_size


class OnnxNetwork:
    """A checkpoint exported to ONNX with ultralytics' metadata, run with ONNX Runtime alone."""

    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        # Threads that wait for each other sleep: spinning ones starve everybody where cores are shared.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
        try:
            self._session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        # ONNX Runtime's exceptions have no common root below Exception.
        except Exception as error:
            raise SegmentationError(
                f"is not an ONNX model that can be read ({_first_line(error, path)})",
                code="unreadable_onnx",
                where=path,
                hint=_HINT,
            ) from error
        metadata = self._session.get_modelmeta().custom_metadata_map
        if (
            "names" not in metadata
            or metadata.get("task", "segment") != "segment"
            or len(self._session.get_outputs()) != 2
        ):
            raise SegmentationError(
                "is not an exported segmentation model (class names, task or masks are missing)",
                code="not_a_segmentation_model",
                where=path,
                hint=_HINT,
            )
        self.names = _names(_literal(metadata["names"], path), path)
        self.image_size_px = _image_size(_literal(metadata.get("imgsz", "None"), path), path)
        self.stride_px = int(_literal(metadata.get("stride", "32"), path))
        self._input = self._session.get_inputs()[0]
        height, width = self._input.shape[2:4]
        fixed = isinstance(height, int) and isinstance(width, int)
        self.fixed_input_px: tuple[int, int] | None = (height, width) if fixed else None
        batch = self._input.shape[0]
        self._batch = batch if isinstance(batch, int) else None
        self._is_half = self._input.type == "tensor(float16)"

    def run(self, inputs_rgb: NDArray[np.uint8]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """See `Network.run`; a model exported for one batch size is run in pieces of it."""
        inputs = np.ascontiguousarray(inputs_rgb.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)
        if self._is_half:
            inputs = inputs.astype(np.float16)
        size = self._batch or len(inputs)
        pieces = []
        for start in range(0, len(inputs), size):
            piece = inputs[start : start + size]
            missing = size - len(piece)
            if missing:
                piece = np.concatenate([piece, np.zeros((missing, *piece.shape[1:]), piece.dtype)])
            answer = self._session.run(None, {self._input.name: piece})
            pieces.append([np.asarray(part[: size - missing], np.float32) for part in answer])
        first, second = (np.concatenate(parts) for parts in zip(*pieces, strict=True))
        # Prototypes are the output with four axes, in whatever order the exporter put them.
        return (first, second) if second.ndim == 4 else (second, first)


def _names(names: Any, path: Path) -> tuple[str, ...]:
    """Class names in order, from ultralytics' {number: name} or a list."""
    if isinstance(names, dict) and sorted(names) == list(range(len(names))):
        return tuple(str(names[number]) for number in sorted(names))
    if isinstance(names, list | tuple) and names:
        return tuple(str(name) for name in names)
    raise SegmentationError(
        f"its class names cannot be read: {names!r}", code="invalid_class_names", where=path, hint=_HINT
    )


def _image_size(size: Any, path: Path) -> int:
    """The longer side of a training size given as a number or as [height, width]."""
    sides = size if isinstance(size, list | tuple) else [size]
    if not sides or not all(isinstance(side, int) and side > 0 for side in sides):
        raise SegmentationError(
            f"its training size cannot be read: {size!r}",
            code="invalid_image_size",
            where=path,
            hint="give --image-size",
        )
    return int(max(sides))


def _literal(text: str, path: Path) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError) as error:
        raise SegmentationError(
            f"its metadata cannot be read: {text[:80]!r}", code="invalid_metadata", where=path, hint=_HINT
        ) from error


def _first_line(error: BaseException, path: Path) -> str:
    """The start of a foreign message, without its signs and advice."""
    lines = str(error).encode("ascii", "ignore").decode().splitlines()
    text = " ".join((lines[0] if lines else "").replace("ERROR", "").replace(str(path), "the file").split())
    return (text or type(error).__name__)[:160]
