"""A checkpoint that names no folder of the machine it was made on, so that it can be handed to others."""

from __future__ import annotations

import io
import pickle
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

from cls.errors import YoloError
from cls.files import write_bytes_atomic
from cls.segmentation.offline import quiet_ultralytics

# Where the run lay and what the repository beside it was: nothing that using the model needs.
_DROPPED_ARGUMENTS = ("project", "name", "save_dir", "resume")
_DROPPED_PARTS = ("git",)
_FAILURES = (OSError, RuntimeError, ValueError, KeyError, AttributeError, pickle.UnpicklingError, EOFError)


def make_portable(checkpoint: Path) -> None:
    """Rewrites a finished checkpoint without the machine's paths; its weights, names, task and size stay as they are.

    Files it names (the dataset, the model it began with) are left with their last part. Only for checkpoints of this
    machine's own trainings, since reading one whole runs code from it. Doing it again changes nothing.

    Args:
        checkpoint: best.pt or last.pt of a finished run, without an optimizer; replaced whole or not at all.

    Raises:
        YoloError: it cannot be read as a checkpoint.
        FileError: it cannot be written.
    """
    with quiet_ultralytics():
        import torch

        try:
            content = torch.load(checkpoint, map_location="cpu", weights_only=False)
            content = {key: _without_folders(value) for key, value in content.items() if key not in _DROPPED_PARTS}
            content["train_args"] = _arguments(content.get("train_args") or {})
            for network in (content["model"], content.get("ema")):
                if network is not None:
                    _clean_network(network)
        except _FAILURES as error:
            raise YoloError(f"cannot be read as a checkpoint: {error}", where=checkpoint) from error
        # Into memory first: torch writes a file's own name into it, and a temporary name is different every time.
        buffer = io.BytesIO()
        torch.save(content, buffer)
    write_bytes_atomic(checkpoint, buffer.getvalue())


def _clean_network(network: Any) -> None:
    for name in ("yaml", "yaml_file", "pt_path"):
        if hasattr(network, name):
            setattr(network, name, _without_folders(getattr(network, name)))
    arguments = getattr(network, "args", None)
    if arguments is not None:
        network.args = _arguments(arguments if isinstance(arguments, dict) else vars(arguments))


def _arguments(arguments: dict[str, Any]) -> dict[str, Any]:
    return {key: _without_folders(value) for key, value in arguments.items() if key not in _DROPPED_ARGUMENTS}


def _without_folders(value: Any) -> Any:
    """The value with every absolute path in it cut to its last part."""
    if isinstance(value, dict):
        return {key: _without_folders(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_folders(part) for part in value]
    if isinstance(value, tuple):
        return tuple(_without_folders(part) for part in value)
    if isinstance(value, (str, PurePath)):
        text = str(value)
        for kind in (PurePosixPath, PureWindowsPath):
            if kind(text).is_absolute():
                return kind(text).name
        return text
    return value
