"""What a training starts from: a checkpoint, a description of a network, or weights published by ultralytics."""

from __future__ import annotations

import logging
import os
import re
from pathlib import Path

from cls.errors import YoloError
from cls.files import atomic_path

_LOGGER = logging.getLogger("cls.yolo")
_OWN_MODELS = Path(__file__).parent / "models"
_PUBLISHED = re.compile(r"yolo(v8|11|26)[nsmlx]-seg\.pt")
_PUBLISHED_URL = "https://github.com/ultralytics/assets/releases/download/v8.4.0"
_CONNECT_S, _READ_S = 5.0, 30.0
_TRUE = {"1", "true", "yes", "on"}


def is_offline_wanted() -> bool:
    """Whether the user forbids the network (`YOLO_OFFLINE` or `HF_HUB_OFFLINE`)."""
    return any(os.environ.get(name, "").lower() in _TRUE for name in ("YOLO_OFFLINE", "HF_HUB_OFFLINE"))


def resolve_model(model: str, cache: Path, *, is_offline: bool, url: str = _PUBLISHED_URL) -> str:
    """What ultralytics can load, for what the user typed.

    Args:
        model: a checkpoint's path; the name of published weights such as `yolov8s-seg.pt`, which are downloaded once
            into the cache; a description's path, or its name in `cls/yolo/models/` or in ultralytics, such as
            `yolov8s-seg.yaml`, which starts from random weights.
        cache: folder downloaded weights are kept in.
        is_offline: never download.
        url: where published weights are.

    Raises:
        YoloError: there is no such file, and it cannot be had.
    """
    path = Path(model)
    if path.suffix in (".yaml", ".yml"):
        own = _OWN_MODELS / path.name
        return str(path if path.is_file() or not own.is_file() else own)
    if path.suffix != ".pt":
        raise YoloError(
            "is neither a checkpoint (.pt) nor a description of a network (.yaml)",
            code="unknown_suffix",
            where=model,
            hint="give e.g. --model yolov8s-seg.yaml",
        )
    if path.is_file():
        return str(path)
    scratch = f"or start from random weights with `--model {path.stem}.yaml`"
    if path.name != model or not _PUBLISHED.fullmatch(path.name):
        raise YoloError(
            "there is no such checkpoint", code="not_found", where=model, hint=f"give another one, {scratch}"
        )
    cached = cache / path.name
    if cached.is_file():
        return str(cached)
    if is_offline:
        raise YoloError(
            "these pretrained weights are not here, and the network is switched off (YOLO_OFFLINE, HF_HUB_OFFLINE)",
            code="offline",
            where=model,
            hint=f"put the file beside and give its path, {scratch}",
        )
    _download(f"{url}/{path.name}", cached, f"put the file beside and give its path, {scratch}")
    return str(cached)


def _download(url: str, path: Path, hint: str) -> None:
    """Fetches published weights, whole or not at all.

    Raises:
        YoloError: the address cannot be reached, refuses, or sends something that is not a checkpoint.
    """
    import httpx

    _LOGGER.info("fetching the pretrained weights %s", url)
    try:
        timeout = httpx.Timeout(_READ_S, connect=_CONNECT_S)
        with (
            httpx.stream("GET", url, follow_redirects=True, timeout=timeout) as answer,
            atomic_path(path) as part,
        ):
            answer.raise_for_status()
            with part.open("wb") as stream:
                for chunk in answer.iter_bytes():
                    stream.write(chunk)
            _check_is_checkpoint(part, url, hint)
    except httpx.HTTPError as error:
        reason = f"{type(error).__name__}: {error}"
        raise YoloError(
            f"these pretrained weights cannot be fetched ({reason})", code="download_failed", where=url, hint=hint
        ) from error


def _check_is_checkpoint(path: Path, url: str, hint: str) -> None:
    with path.open("rb") as stream:
        if stream.read(2) != b"PK":
            raise YoloError("what was sent is not a torch checkpoint", code="not_a_checkpoint", where=url, hint=hint)
