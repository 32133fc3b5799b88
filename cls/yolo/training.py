"""One training of a person segmenter with ultralytics, offline, on all cores, resumed by the same command."""

from __future__ import annotations

import io
import logging
import os
import pickle
import re
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath, PureWindowsPath
from typing import Any

from cls.errors import FileError, YoloError
from cls.files import atomic_path, read_yaml, write_bytes_atomic
from cls.machine import cores, keep_memory
from cls.segmentation.networks import no_foreign_output, quiet_ultralytics
from cls.wording import score
from cls.yolo.config import YoloTraining
from cls.yolo.yolo_files import ExistingDataset, read_data_file

_log = logging.getLogger("cls.yolo")

_OWN_MODELS = Path(__file__).parent / "models"
_PUBLISHED = re.compile(r"yolo(v8|11|26)[nsmlx]-seg\.pt")
_PUBLISHED_URL = "https://github.com/ultralytics/assets/releases/download/v8.4.0"
_CONNECT_S, _READ_S = 5.0, 30.0
_TRUE = {"1", "true", "yes", "on"}

# Where the run lay and what the repository beside it was: nothing that using the model needs.
_DROPPED_ARGUMENTS = ("project", "name", "save_dir", "resume")
_DROPPED_PARTS = ("git",)
_PORTABLE_FAILURES = (OSError, RuntimeError, ValueError, KeyError, AttributeError, pickle.UnpicklingError, EOFError)

# Ultralytics writes last.pt in place: a kill can leave half of it. This copy of it appears whole, and goes at the end.
_RESUME = "weights/resume.pt"
_MAX_CACHE_BYTES = 1 << 30
_FAILURES = (RuntimeError, ValueError, TypeError, KeyError, AttributeError, AssertionError, OSError, SyntaxError)


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
    """Fetches published weights, whole or not at all."""
    import httpx

    _log.info("fetching the pretrained weights %s", url)
    try:
        timeout = httpx.Timeout(_READ_S, connect=_CONNECT_S)
        with httpx.stream("GET", url, follow_redirects=True, timeout=timeout) as answer, atomic_path(path) as part:
            answer.raise_for_status()
            with part.open("wb") as stream:
                for chunk in answer.iter_bytes():
                    stream.write(chunk)
            with part.open("rb") as stream:
                if stream.read(2) != b"PK":
                    raise YoloError(
                        "what was sent is not a torch checkpoint", code="not_a_checkpoint", where=url, hint=hint
                    )
    except httpx.HTTPError as error:
        reason = f"{type(error).__name__}: {error}"
        raise YoloError(
            f"these pretrained weights cannot be fetched ({reason})", code="download_failed", where=url, hint=hint
        ) from error


def make_portable(checkpoint: Path) -> None:
    """Rewrites a finished checkpoint without the machine's paths; its weights, names, task and size stay as they are.

    Files it names (the dataset, the model it began with) are left with their last part. Only for checkpoints of this
    machine's own trainings, since reading one whole runs code from it. Doing it again changes nothing.

    Args:
        checkpoint: best.pt or last.pt of a finished run, without an optimizer; replaced whole or not at all.
    """
    with quiet_ultralytics():
        import torch

        try:
            content = torch.load(checkpoint, map_location="cpu", weights_only=False)
            content = {key: _without_folders(value) for key, value in content.items() if key not in _DROPPED_PARTS}
            content["train_args"] = _kept_arguments(content.get("train_args") or {})
            for network in (content["model"], content.get("ema")):
                if network is not None:
                    _clean_network(network)
        except _PORTABLE_FAILURES as error:
            raise YoloError(
                f"cannot be read as a checkpoint: {error}", code="unreadable_checkpoint", where=checkpoint
            ) from error
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
        network.args = _kept_arguments(arguments if isinstance(arguments, dict) else vars(arguments))


def _kept_arguments(arguments: Any) -> Any:
    """Ultralytics' own dictionary of settings, without the machine's paths."""
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


@dataclass(frozen=True)
class TrainedModel:
    """A finished training.

    Attributes:
        best: the checkpoint of the best epoch, half precision, without the optimizer and without the machine's paths.
        folder: the run's folder with curves and pictures.
        metrics: on the validation part: mask precision, recall, mAP50, mAP50-95.
    """

    best: Path
    folder: Path
    metrics: dict[str, float]


def train_model(training: YoloTraining, *, is_fresh: bool = False) -> TrainedModel:
    """Trains, or resumes a run of the same arguments that was cut off.

    Args:
        training: what to train.
        is_fresh: begin a new run also where one was cut off.

    Raises:
        YoloError: the dataset or the model cannot be used, or the training failed.
    """
    dataset = read_data_file(training.data)
    n_pictures = _checked_parts(dataset, training.data)
    unfinished = None if is_fresh else find_unfinished(training)
    keep_memory()
    with quiet_ultralytics(), no_foreign_output():
        import torch
        from ultralytics.models import YOLO

        is_gpu = torch.cuda.is_available()
        try:
            if unfinished is not None:
                _log.info("going on with the unfinished run %s", unfinished)
                model = YOLO(str(unfinished / _RESUME), task="segment")
            else:
                model = YOLO(training.model, task="segment")
            _check_has_masks(model, training.model)
            _follow(model, is_gpu=is_gpu)
            if unfinished is not None:
                model.train(resume=True)
            else:
                picture_bytes = 3 * training.image_size_px**2
                model.train(
                    **training.arguments(),
                    project=str(training.project.resolve()),
                    name="train",
                    device=0 if is_gpu else "cpu",
                    amp=is_gpu,  # on a CPU the check for it would download a model
                    workers=min(4, cores()),
                    cache="ram" if n_pictures * picture_bytes <= _MAX_CACHE_BYTES else False,
                    verbose=False,
                )
        except _FAILURES as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise YoloError(
                f"the training failed: {reason[:300]}",
                code="training_failed",
                where=training.model,
                hint="see the whole error with --debug",
            ) from error
        return _result(model)


def _checked_parts(dataset: ExistingDataset, data: Path) -> int:
    """How many pictures the dataset has; each part must have some."""
    counts = {part: sum(1 for _ in dataset.pictures(part)) for part in ("train", "val")}
    empty = [part for part, count in counts.items() if not count]
    if empty:
        raise YoloError(
            f"there are no pictures in its part {' and '.join(empty)}",
            code="no_pictures",
            where=data,
            hint="make the dataset with create_yolo_dataset.py",
        )
    return sum(counts.values())


def _check_has_masks(model: Any, name: str) -> None:
    head = type(model.model.model[-1]).__name__
    if not head.startswith("Segment"):
        raise YoloError(
            f"is a network without masks (it ends in {head})", code="no_masks", where=name, hint="give a -seg model"
        )


def find_unfinished(training: YoloTraining) -> Path | None:
    """The newest run of the same arguments that was cut off after its first epoch."""
    wanted = training.arguments()
    runs = (path.parent.parent for path in training.project.glob(f"*/{_RESUME}"))
    for run in sorted(runs, key=lambda run: run.stat().st_mtime, reverse=True):
        try:
            arguments = read_yaml(run / "args.yaml")
        except FileError:
            continue  # another tool's folder
        if isinstance(arguments, dict) and all(arguments.get(key) == value for key, value in wanted.items()):
            return run
    return None


def _follow(model: Any, *, is_gpu: bool) -> None:
    """Makes a training on the CPU fast, logs every epoch, and keeps a whole checkpoint to go on from."""

    def use_the_machine(trainer: Any) -> None:
        import torch

        if not is_gpu:
            torch.set_num_threads(cores())  # ultralytics takes one less
            trainer.model.to(memory_format=torch.channels_last)  # a step takes 4/5 of the time

    seen: set[int] = set()

    def log_epoch(trainer: Any) -> None:
        metrics = {key: value for key, value in trainer.metrics.items() if key.endswith("(M)")}
        text = ", ".join(
            f"{key.removeprefix('metrics/').removesuffix('(M)')} {score(value)}" for key, value in metrics.items()
        )
        # The best checkpoint's final validation is reported as the last epoch again, or as one more.
        if trainer.epoch not in seen and trainer.epoch < trainer.epochs:
            _log.info("epoch %d of %d: masks %s", trainer.epoch + 1, trainer.epochs, text)
        seen.add(trainer.epoch)

    def keep_checkpoint(trainer: Any) -> None:
        # The last epoch is not kept: a run killed while it is tidied up resumes with that epoch.
        if trainer.epoch + 1 < trainer.epochs and not trainer.stop:
            with atomic_path(trainer.save_dir / _RESUME) as part:
                shutil.copyfile(trainer.last, part)

    model.add_callback("on_model_save", keep_checkpoint)
    model.add_callback("on_pretrain_routine_end", use_the_machine)
    model.add_callback("on_fit_epoch_end", log_epoch)


def _result(model: Any) -> TrainedModel:
    trainer = model.trainer
    best = Path(trainer.best)
    if not best.is_file():
        raise YoloError("the training wrote no checkpoint", code="no_checkpoint", where=trainer.save_dir)
    for checkpoint in (best, Path(trainer.last)):
        if checkpoint.is_file():
            make_portable(checkpoint)
    # Only now: a run killed before is resumed, and what it hands out is made portable then.
    (best.parent.parent / _RESUME).unlink(missing_ok=True)
    metrics = {
        key.removeprefix("metrics/").removesuffix("(M)"): float(value)
        for key, value in (trainer.metrics or {}).items()
        if key.endswith("(M)")
    }
    return TrainedModel(best, Path(trainer.save_dir), metrics)
