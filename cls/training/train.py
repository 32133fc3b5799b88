"""A training, from the dataset file to a finished run folder."""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from torch import nn

from cls.bottle.layout import Bottle
from cls.dataset.split.assign import check_split
from cls.dataset.split.file import SplitRule, read_split, write_split
from cls.errors import TrainingError
from cls.files import sha256_of_file
from cls.package.group_pages import link_group_pages
from cls.people.preprocess import Preprocessing
from cls.progress import silence_output
from cls.records import write_record
from cls.training.config import TrainConfig
from cls.training.data import Training, TrainingData, prepare, warn_of_missing_labels
from cls.training.evaluation.background_sensitivity import BackgroundTrial, people_tried
from cls.training.evaluation.calibration import shift_of_loss
from cls.training.evaluation.evaluate import Evaluation, EvaluationSettings, evaluate
from cls.training.evaluation.label_errors import LABEL_ERRORS, write_label_errors
from cls.training.evaluation.leak_tax import measure_leak_tax
from cls.training.loop.distributed import ProcessGroup, check_machine, check_process_count, prepare_process
from cls.training.loop.fit import FitResult, base_rates, batches_of, fit_network
from cls.training.loop.module import NotANumberError
from cls.training.loop.optimizer import loss_for
from cls.training.network.build import memory_format_of
from cls.training.report.figures import write_train_grids
from cls.training.report.page import ReportData, write_report
from cls.training.runs.args import ARGS, RunArgs, code_version, read_args, write_args
from cls.training.runs.folder import FINISHED, LEDGER, SPLIT, LockedRunFolder, RunTime, new_run_folder, unfinished_run
from cls.training.runs.metrics import Calibration, RunMetrics, SampleCounts
from cls.training.runs.run import MODEL_CKPT, FinishedRun, find_runs, open_run
from cls.training.runs.table import validated_on

_log = logging.getLogger("cls.training")

# Writes the network in other formats into the run folder: network, preprocessing, labels, folder -> by format, None or
# why it cannot be written.
Convert = Callable[[nn.Module, Preprocessing, tuple[str, ...], Path], dict[str, str | None]]


def train(
    bottle: Bottle, config: TrainConfig, *, convert: Convert | None = None, resume: bool | None = None
) -> FinishedRun:
    """Trains a classifier of a group, and returns the finished run.

    An interrupted training with the same settings and samples is resumed after its last whole epoch.

    Args:
        bottle: the data folder.
        config: the settings.
        convert: writes TorchScript, ONNX, … into the run folder. A format that cannot be written is logged and listed
            in metrics.json (`conversions`); the run is finished all the same.
        resume: None resumes an interrupted run if there is one; True requires one; False starts a new one.

    Raises:
        TrainingError: it cannot start (no run folder has been made then), or cannot continue.
        BottleError: the group has not been loaded.
        DatabaseError: the pictures database cannot be reached or used.
        KeyboardInterrupt: the user stopped it.
    """
    started_s = time.time()
    prepare_process()
    check_machine(config)
    processes = ProcessGroup(config)
    training = prepare(bottle, config)
    data, spec = training.data, training.network.spec
    check_process_count(config, len(data.train), len(data.valid))
    with _lock_folder(bottle, training, resume) as folder, RunTime(folder, started_s) as clock:
        _log.info("run folder %s", folder)
        processes.broadcast((folder.name, training.identity))
        _write_beginning(training, folder)
        warn_of_missing_labels(data.train.samples, data.valid.samples, spec.labels)
        batches = batches_of(training)
        pairs = write_train_grids(folder / "train_batches", batches, training.config, data.train.cutouts, spec.labels)
        result = fit_network(training, folder)
        evaluation = evaluate(folder, spec, data.valid, _evaluation_settings(bottle, training))
        metrics = _metrics(training, folder, result, evaluation)
        if config.leak_tax:
            metrics = metrics.replaced(leak_tax=measure_leak_tax(bottle, training, folder, evaluation))
        if data.valid:
            write_label_errors(folder / LABEL_ERRORS, evaluation.label_errors, data.valid.samples, spec.labels)
        write_report(folder, ReportData(training.config, spec, data, evaluation, metrics, pairs))
        link_group_pages(bottle, config.group)
        if convert is not None:
            made = convert(evaluation.network, spec.preprocessing, spec.labels, folder)
            metrics = metrics.replaced(conversions=made)
        write_record(folder / FINISHED, metrics.replaced(run_seconds=round(clock.seconds, 2)))
    return open_run(bottle, folder)


def train_in_other_rank(bottle: Bottle, config: TrainConfig, processes: ProcessGroup) -> None:
    """Runs a distributed training in the processes other than rank 0: they take part in the fit and write nothing.

    Raises:
        TrainingError: this process has other data, weights or versions than rank 0.
    """
    prepare_process()
    silence_output()
    received: tuple[str, str] = processes.broadcast(None)
    name, identity = received
    training = prepare(bottle, config)
    if training.identity != identity:
        raise TrainingError(
            f"process {processes.rank} finds other samples, weights or library versions than the first one",
            code="processes_differ",
            where=bottle.root,
            hint="give all nodes the same bottle and the same environment",
        )
    with suppress(NotANumberError):  # rank 0 reports it
        fit_network(training, bottle.models(config.group) / name, rank=processes.rank)


def _lock_folder(bottle: Bottle, training: Training, resume: bool | None) -> LockedRunFolder:
    config, identity = training.config, training.identity
    found = None if resume is False else unfinished_run(bottle, config.group, identity)
    if found is not None:
        _log.info("resuming %s, which was interrupted (--no-resume starts a new run)", found.path.name)
        return found
    if resume:
        raise TrainingError(
            f"no interrupted run of group '{config.group}' has these settings and samples",
            code="nothing_to_resume",
            where=bottle.models(config.group),
            hint="start one without --resume",
        )
    return new_run_folder(bottle, config.group, config.folder_tail, identity)


def _write_beginning(training: Training, folder: Path) -> None:
    """Writes args.yaml, split.json and ledger.json; reads the split back and checks it."""
    config, data, network = training.config, training.data, training.network
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    is_resumed = (folder / ARGS).exists()
    args = RunArgs(
        settings=config.to_dict(),
        timm_arch=network.spec.timm_arch,
        memory_format=network.memory_format,
        weights=network.source.record(),
        preprocessing=network.spec.preprocessing,
        labels=network.spec.labels,
        dataset_sha256=data.dataset_sha256,
        code_version=code_version(),
        started=read_args(folder, hint="train with --no-resume").started if is_resumed else now,
    )
    write_args(folder, args)
    rule = SplitRule(config.seed, config.valid, config.split)
    seen = data.pretraining.not_in(data.train.samples)
    write_split(folder / SPLIT, data.split, data.people.samples, rule, seen_earlier=seen)
    write_record(folder / LEDGER, data.ledger.record(), indent=1)
    check_split(data.train.samples, data.valid.samples, where=folder / SPLIT)
    if read_split(folder / SPLIT) != tuple({s.path for s in part.samples} for part in (data.train, data.valid)):
        raise TrainingError(
            "does not hold the split of this training", code="wrong_split", where=folder / SPLIT, hint="train again"
        )


def _evaluation_settings(bottle: Bottle, training: Training) -> EvaluationSettings:
    config, data = training.config, training.data
    return EvaluationSettings(
        earlier=find_runs(bottle, config.group),
        loss_shift=shift_of_loss(loss_for(config, base_rates(data.train.samples))),
        trial=_background_trial(config, data) if data.valid else None,
        seed=config.seed,
        memory_format=memory_format_of(training.network.module),
    )


def _background_trial(config: TrainConfig, data: TrainingData) -> BackgroundTrial | None:
    """The settings of the background test, with backgrounds from training photos; None if it is off."""
    people = config.background_people
    if people is None:
        people = people_tried(config.epochs, len(data.train), config.backgrounds)
    if not people or not config.backgrounds:
        return None
    return BackgroundTrial(data.backgrounds[0], people, config.backgrounds, config.seed, data.valid.units)


def _metrics(training: Training, folder: Path, result: FitResult, evaluation: Evaluation) -> RunMetrics:
    """The content of metrics.json."""
    data, names = training.data, training.network.spec.labels
    return RunMetrics(
        run=folder.name,
        group=training.config.group,
        labels=names,
        thresholds=dict(zip(names, evaluation.thresholds, strict=True)),
        thresholds_from=evaluation.thresholds_from,
        validation=evaluation.metrics,
        calibration=Calibration(**evaluation.calibration.model_dump()),  # what was not measured is null
        background_sensitivity=evaluation.background,
        samples=SampleCounts(train=len(data.train), valid=len(data.valid)),
        validated_on=validated_on(evaluation.samples) if evaluation.samples else None,
        parts=data.parts,
        pictures=data.ledger.counts(),
        weights=training.network.source.record(),
        history=tuple(result.history),
        seconds=round(result.seconds, 2),
        waiting_share=round(result.waiting_share, 5),
        dataset_sha256=data.dataset_sha256,
        split_sha256=sha256_of_file(folder / SPLIT),
        weights_sha256=sha256_of_file(folder / "checkpoints" / MODEL_CKPT),
        segmentation_models=tuple(sorted(data.ledger.segmentation_models)),
        code_version=code_version(),
        finished=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )
