"""One training from the dataset file to a finished run folder."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from torch import nn

from cls.bottle.layout import Bottle
from cls.code_version import code_version
from cls.dataset.split.assign import TRAIN, VALID, check_split
from cls.dataset.split.file import read_split, write_split
from cls.errors import TrainingError
from cls.files import sha256_of_file, write_json_atomic
from cls.metrics.label_errors import LABEL_ERRORS, probable_label_errors, write_label_errors
from cls.people.preprocess import Preprocessing
from cls.progress import fall_silent
from cls.training.config import TrainConfig
from cls.training.evaluation.background_sensitivity import BackgroundTrial, people_tried
from cls.training.evaluation.calibration import shift_of_loss
from cls.training.evaluation.evaluate import Evaluation, evaluate
from cls.training.evaluation.leak_tax import measure_leak_tax
from cls.training.loop.device import check_machine, prepare_process
from cls.training.loop.distributed import Crew, check_crew
from cls.training.loop.fit import FitResult, base_rates, batches_of, fit_material
from cls.training.loop.losses import loss_for
from cls.training.loop.module import NotANumberError
from cls.training.material import Material, prepare, warn_of_missing_labels
from cls.training.network.build import memory_format_of
from cls.training.report.grids import write_train_grids
from cls.training.report.page import ReportMatter, write_report
from cls.training.runs.folder import (
    FINISHED,
    LEDGER,
    SPLIT,
    WHOLE_SECONDS,
    RunFolder,
    RunTime,
    new_run_folder,
    started_at,
    unfinished_run,
    write_args,
)
from cls.training.runs.run import MODEL_CKPT, Run, find_runs, open_run
from cls.training.runs.table import validated_on

_log = logging.getLogger("cls.training")

# Writes the network's other forms into the run folder: network, preprocessing, labels, folder -> each form's name, and
# None or why it cannot be made.
Convert = Callable[[nn.Module, Preprocessing, tuple[str, ...], Path], dict[str, str | None]]


def train(bottle: Bottle, config: TrainConfig, *, convert: Convert | None = None, resume: bool | None = None) -> Run:
    """Trains a classifier of a group and leaves a finished run folder.

    A training of the same settings on the same samples that was cut off is gone on with after its last whole epoch.

    Args:
        bottle: the data folder.
        config: what to do.
        convert: writes TorchScript, ONNX, … into the run folder once the weights are final. A form that cannot be made
            is said, in the log and in metrics.json (`conversions`), and ends nothing: the weights are what took long.
        resume: None goes on with a cut-off run if there is one; True demands one; False starts anew.

    Returns:
        The run.

    Raises:
        TrainingError: it cannot start (no run folder has been made then), or cannot go on.
        BottleError: the group has not been loaded.
        DatabaseError: the pictures database cannot be reached or used.
        KeyboardInterrupt: the user stopped it.
    """
    started_s = time.time()
    prepare_process()
    check_machine(config)
    crew = Crew(config)
    material = prepare(bottle, config)
    check_crew(config, *(len(material.part(side)[0]) for side in (TRAIN, VALID)))
    folder = _claim_folder(bottle, material, resume)
    try:
        with RunTime(folder.path, started_s) as clock:
            _log.info("run folder %s", folder.path)
            crew.tell((folder.path.name, material.identity))
            metrics, evaluation = _fit_in(bottle, material, folder)
            if convert is not None:
                network = evaluation.network
                metrics["conversions"] = convert(network, material.preprocessing, material.dataset.labels, folder.path)
            metrics[WHOLE_SECONDS] = round(clock.seconds, 2)
            write_json_atomic(folder.path / FINISHED, metrics)
    finally:
        folder.release()
    return open_run(bottle, folder.path)


def assist(bottle: Bottle, config: TrainConfig, crew: Crew) -> None:
    """What the processes beside the first one do: they take part in the fit, and write nothing.

    Args:
        bottle: the data folder, the same as the first process's.
        config: the same as the first process's.
        crew: of several processes, this one not the first.

    Raises:
        TrainingError: this process does not find what the first one found.
    """
    prepare_process()
    fall_silent()
    told: tuple[str, str] = crew.tell(None)
    name, identity = told
    material = prepare(bottle, config)
    if material.identity != identity:
        raise TrainingError(
            f"process {crew.rank} finds other samples, weights or library versions than the first one",
            where=bottle.root,
            hint="give all nodes the same bottle and the same environment",
        )
    with suppress(NotANumberError):  # the first process says it
        fit_material(material, bottle.models(config.group) / name, rank=crew.rank)


def _claim_folder(bottle: Bottle, material: Material, resume: bool | None) -> RunFolder:
    config, identity = material.config, material.identity
    found = None if resume is False else unfinished_run(bottle, config.group, identity)
    if found is not None:
        _log.info("going on with %s, which was cut off (--no-resume starts anew)", found.path.name)
        return found
    if resume:
        raise TrainingError(
            f"no cut-off run of group '{config.group}' has these settings and samples",
            where=bottle.models(config.group),
            hint="start one without --resume",
        )
    return new_run_folder(bottle, config.group, config.folder_tail, identity)


def _fit_in(bottle: Bottle, material: Material, folder: RunFolder) -> tuple[dict[str, Any], Evaluation]:
    """Fits, measures and reports in a run folder; returns what metrics.json will say."""
    config = material.config
    _write_beginning(material, folder.path)
    # What is trained on is what split.json says: it is read back and checked.
    train_paths, valid_paths = read_split(folder.path / SPLIT)
    (train_samples, train_cutouts), (valid_samples, valid_cutouts) = material.part(TRAIN), material.part(VALID)
    check_split(train_samples, valid_samples, where=folder.path / SPLIT)
    if {s.path for s in train_samples} != train_paths or {s.path for s in valid_samples} != valid_paths:
        raise TrainingError("does not hold the split of this training", where=folder.path / SPLIT, hint="train again")
    warn_of_missing_labels(train_samples, valid_samples, material.dataset.labels)
    pairs = write_train_grids(
        folder.path / "train_batches", batches_of(material), config, train_cutouts, material.dataset.labels
    )
    result = fit_material(material, folder.path)
    evaluation = evaluate(
        folder.path, material.timm_arch, material.preprocessing, material.dataset.labels, valid_samples, valid_cutouts,
        earlier=find_runs(bottle, config.group), loss_shift=shift_of_loss(loss_for(config, base_rates(train_samples))),
        trial=_background_trial(material) if valid_samples else None, seed=config.seed,
        memory_format=memory_format_of(material.network),
    )  # fmt: skip
    metrics = _metrics(material, folder.path, result, evaluation)
    if config.leak_tax:
        metrics["leak_tax"] = measure_leak_tax(bottle, material, folder.path, evaluation)
    errors = probable_label_errors(evaluation.probs, evaluation.labels)
    if valid_samples:
        write_label_errors(folder.path / LABEL_ERRORS, errors, valid_samples, material.dataset.labels)
    matter = ReportMatter(
        config, material.timm_arch, material.dataset.labels, train_samples, material.ledger, material.preprocessing,
        evaluation, metrics, pairs, errors,
    )  # fmt: skip
    write_report(folder.path, matter)
    return metrics, evaluation


def _background_trial(material: Material) -> BackgroundTrial | None:
    """People before other photos' backgrounds, those of training; None where it is switched off."""
    config, people = material.config, material.config.background_people
    if people is None:
        people = people_tried(config.epochs, len(material.part(TRAIN)[0]), config.backgrounds)
    if not people or not config.backgrounds:
        return None
    return BackgroundTrial(material.backgrounds[0], people, config.backgrounds)


def _write_beginning(material: Material, folder: Path) -> None:
    """args.yaml, split.json and ledger.json."""
    config = material.config
    write_args(
        folder,
        {
            "settings": config.to_dict(),
            "timm_arch": material.timm_arch,
            "memory_format": material.memory_format,
            "weights": material.source.to_dict(),
            "preprocessing": material.preprocessing.to_dict(),
            "labels": list(material.dataset.labels),
            "dataset_sha256": material.dataset_sha256,
            "code_version": code_version(),
            "started": started_at(folder) or datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        },
    )
    write_split(
        folder / SPLIT, material.split, material.samples, seed=config.seed, valid_share=config.valid, by=config.split,
        seen_earlier=material.seen.beside(material.part(TRAIN)[0]),
    )  # fmt: skip
    write_json_atomic(folder / LEDGER, material.ledger.to_dict(), indent=1)


def _metrics(material: Material, folder: Path, result: FitResult, evaluation: Evaluation) -> dict[str, Any]:
    """What metrics.json says."""
    sides = {side: len(material.part(side)[0]) for side in (TRAIN, VALID)}
    names = material.dataset.labels
    return {
        "run": folder.name,
        "group": material.config.group,
        "labels": list(names),
        "thresholds": dict(zip(names, evaluation.thresholds, strict=True)),
        "thresholds_from": evaluation.thresholds_from,
        "validation": None if evaluation.metrics is None else evaluation.metrics.to_dict(),
        "calibration": evaluation.calibration.to_dict(),
        "background_sensitivity": None if evaluation.background is None else evaluation.background.to_dict(),
        "samples": sides,
        "validated_on": validated_on(evaluation.samples) if evaluation.samples else None,
        "parts": None if material.parts is None else material.parts.to_dict(),
        "pictures": {key: value for key, value in material.ledger.to_dict().items() if key != "left_out"},
        "weights": material.source.to_dict(),
        "history": result.history,
        "seconds": round(result.seconds, 2),
        "waiting_share": round(result.waiting_share, 5),
        "dataset_sha256": material.dataset_sha256,
        "split_sha256": sha256_of_file(folder / SPLIT),
        "weights_sha256": sha256_of_file(folder / "checkpoints" / MODEL_CKPT),
        "segmentation_models": sorted(material.ledger.segmentation_models),
        "code_version": code_version(),
        "finished": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


__all__ = ["Convert", "Material", "prepare", "train"]
