"""The Python interface: the commands as functions. `import cls` offers all of it, and loads each part when it is used.

import cls

cls.load_group("hair_color", source="photos")
cls.segment("person_models/best.pt")
run = cls.train("hair_color", epochs=10)
cls.export(run, formats=["onnx"])
people = run.predict("photo.jpg")

A script calls them under `if __name__ == "__main__":`. Python imports it again in worker processes that it does not
fork: those of a training on Windows, on macOS and from Python 3.14 on.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, fields
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Unpack, overload
from urllib.parse import quote

from cls.bottle.layout import Bottle
from cls.errors import UsageError
from cls.exporting.formats.files import ExportRequest
from cls.loading.config import LoadConfig
from cls.machine import refuse_unguarded_script, wait_passively
from cls.options import settings_of
from cls.segmentation.config import SegmentConfig
from cls.settings import load_settings
from cls.training.runs.run import FinishedRun

if TYPE_CHECKING:
    from cls.exporting.publish import Exported
    from cls.loading.load import LoadedGroup
    from cls.metrics.scores import Metrics
    from cls.option_types import ExportOptions, PredictOptions, SegmentOptions, TrainOptions
    from cls.prediction.people_model import People, Photo
    from cls.segmentation.builder import BuildReport
    from cls.training.config import TrainConfig

AnyPath = str | os.PathLike[str]


@dataclass(frozen=True)
class Run(FinishedRun):
    """A finished training run; see `train` and `open_run`.

    Beside the attributes of the run: `report`, its page, and `predict`.
    """

    @property
    def report(self) -> Path:
        """The page that says how the training went and how good the network is."""
        return self.folder / "report.html"

    @overload
    def predict(self, photos: Photo, **options: Unpack[PredictOptions]) -> People: ...  # type: ignore[overload-overlap]  # a path is a sequence too

    @overload
    def predict(self, photos: Sequence[Photo], **options: Unpack[PredictOptions]) -> list[People]: ...

    def predict(self, photos: Photo | Sequence[Photo], **options: Unpack[PredictOptions]) -> People | list[People]:
        """Finds the people of photos and their labels by the trained network.

        The network is loaded at each call: for many photos, give all of them at once, or use `cls.open_model`.

        Args:
            photos: one photo or a list; see `cls.PeopleModel`.
            options: `segmenter`, `whole` and `threshold`, as of `cls.open_model`.

        Raises:
            FileError: a photo cannot be read.
            PredictionError: the network or the segmentation model cannot be used.

        Example:
            `run.predict("photo.jpg", whole=True)[0].labels`
        """
        from cls.prediction.people_model import open_model

        return open_model(self, **options)(photos)

    def _repr_html_(self) -> str:
        """The run in a notebook."""
        title = f"run {self.name} of group {self.group}"
        report, here = self.report.resolve(), Path.cwd()
        # A notebook's page resolves relative links in its own folder; a browser may refuse to follow file URLs from it.
        link = quote(report.relative_to(here).as_posix()) if report.is_relative_to(here) else report.as_uri()
        return (
            f"<p><b>{escape(title)}</b></p><pre>{escape(self.summary())}</pre>"
            f'<p><a href="{escape(link)}">{escape(str(self.report))}</a></p>'
        )


def load_group(
    group: str, *, source: AnyPath | None = None, workers: int = LoadConfig.workers, cfg: AnyPath | None = None
) -> LoadedGroup:
    """Loads a labelled group of photos into the bottle, as `cls load-group` does.

    Args:
        group: its name, as the annotators typed it.
        source: a folder of labelled photos; the collector of the configuration when not given.
        workers: how many pictures are fetched at once.
        cfg: configuration file; the project's by default.

    Raises:
        CollectorError: the source cannot be used, has no such group, or no usable photo of it.
        FileError: the bottle cannot be written.
        UsageError: an argument's value cannot be used.

    Example:
        `cls.load_group("hair_color", source="photos").dataset.labels`
    """
    refuse_unguarded_script()
    from cls.loading.load import load_group_from

    folder = None if source is None else _path(source, "source")
    return load_group_from(_bottle(cfg), group, folder=folder, workers=workers)


def segment(
    model_path: AnyPath,
    config: SegmentConfig | None = None,
    *,
    cfg: AnyPath | None = None,
    **options: Unpack[SegmentOptions],
) -> BuildReport:
    """Finds the people in every photo of the bottle, as `cls segment` does; photos that were done are skipped.

    Args:
        model_path: segmentation model: best.pt, or its ONNX export.
        config: all settings at once, instead of options.
        cfg: configuration file; the project's by default.
        options: options of `cls segment` by name, with underscores: `confidence`, `batch`, `process_all`, …

    Raises:
        UsageError: options hold values they cannot take; lists them all.
        BottleError: there are no photos.
        SegmentationError: the model cannot be used.
        DatabaseError: the pictures database cannot be reached or used.

    Example:
        `cls.segment("person_models/best.pt", confidence=0.5).people`
    """
    refuse_unguarded_script()
    wait_passively()
    from cls.segmentation.builder import segment_photos

    config = settings_of(SegmentConfig, config, options)
    model = _path(model_path, "model_path")
    return segment_photos(_bottle(cfg), model, config)


def train(
    group: str | TrainConfig,
    *,
    resume: bool | None = None,
    cfg: AnyPath | None = None,
    **options: Unpack[TrainOptions],
) -> Run:
    """Trains a classifier of a loaded group, as `cls train` does.

    With several devices or nodes the other processes take part in here, and end when the training does.

    Args:
        group: the group; or all settings at once.
        resume: None resumes an interrupted run of the same settings if there is one; True demands one; False starts
            again.
        cfg: configuration file; the project's by default.
        options: options of `cls train` by name, with underscores: `epochs`, `batch`, `arch`, `log`, …, or the fields of
            `cls.TrainConfig`; `size` may be a pair, height and width in pixels.

    Raises:
        UsageError: options hold values they cannot take; lists them all.
        TrainingError: it cannot start, or cannot be resumed.
        BottleError: the group has not been loaded.

    Example:
        `cls.train("hair_color", epochs=10, arch="res").metrics`
    """
    refuse_unguarded_script()
    wait_passively()
    from cls.exporting.convert import write_run_formats
    from cls.training.config import TrainConfig, config_of_options
    from cls.training.loop.distributed import ProcessGroup
    from cls.training.train import train as train_in
    from cls.training.train import train_in_other_rank

    bottle = _bottle(cfg)
    if isinstance(group, TrainConfig):
        config = settings_of(TrainConfig, group, options)
    else:
        config = config_of_options(group=group, **options)
    processes = ProcessGroup(config)
    if not processes.is_first:
        train_in_other_rank(bottle, config, processes)
        raise SystemExit(0)
    return _public(train_in(bottle, config, convert=write_run_formats, resume=resume))


def evaluate(run: Run | AnyPath | int, *, group: str | None = None, cfg: AnyPath | None = None) -> Metrics:
    """Measures a run, as it decides, on labelled photos of its data folder.

    Args:
        run: of `train` or `open_run`; or a finished run's folder, name or number, as for `open_run`: `hair_color/3`.
        group: a loaded group with the run's labels: measured on its photos, without those, and without the picsets,
            that the run or its initial weights were trained on. The run's own validation part when not given, with the
            labels it had then.
        cfg: configuration file where `run` is a name; the project's by default.

    Returns:
        Measures of each label and over all of them, with intervals, at the run's thresholds. Thresholds and temperature
        were chosen on the validation part: on it, `run.metrics.validation.cross_fitted` flatters less.

    Raises:
        TrainingError: there is nobody to measure it on, or the group lacks labels of the run.
        BottleError: the group has not been loaded, or there is no such run, or its files cannot be read.
        DatabaseError: the pictures database cannot be used.
        UsageError: `run` is no run, path, name or number.

    Example:
        `cls.evaluate(run, group="hair_color_of_may").macro.f1`
    """
    refuse_unguarded_script()
    wait_passively()
    run = _opened(run, cfg)
    from cls.training.evaluation.evaluate import evaluate_run, unseen_samples

    return evaluate_run(run, run.validation_samples() if group is None else unseen_samples(run, group))


def open_run(run: AnyPath | int = "newest", *, group: str | None = None, cfg: AnyPath | None = None) -> Run:
    """Opens a finished training run.

    Args:
        run: its folder's path or name, its number, or `newest`, the finished run with the highest number.
        group: of this group; of whichever group has such a run when not given.
        cfg: configuration file of the run's data folder; the project's by default.

    Raises:
        BottleError: there is none, it is not finished, or it is of another group or data folder.
        UsageError: `run` is no path, name or number.

    Example:
        `cls.open_run("newest", group="hair_color").report`
    """
    from cls.training.runs.listing import finished_run

    name = str(run) if isinstance(run, int) and not isinstance(run, bool) else run
    if not isinstance(name, str | os.PathLike):
        raise _unusable("run", run, "a run, or its folder, name or number")
    return _public(finished_run(_bottle(cfg), os.fspath(name), group))


def export(
    run: Run | AnyPath | int,
    request: ExportRequest | None = None,
    *,
    cfg: AnyPath | None = None,
    **options: Unpack[ExportOptions],
) -> Exported:
    """Converts a run, checks that the conversions decide as it does, and packages them, as `cls export` does.

    Args:
        run: of `train` or `open_run`; or a finished run's folder, name or number, as for `open_run`: `hair_color/3`.
        request: all options at once.
        cfg: configuration file where `run` is a name; the project's by default.
        options: options of `cls export` by name, with underscores: `formats`, `end_to_end`, `carry_samples`, `sign`,
            `require`.

    Raises:
        UsageError: `run` is no run, path, name or number, or options hold values they cannot take.
        BottleError: there is no such run, it is not finished, or its files cannot be read.
        ExportError: a format that was asked for cannot be made.
        ParityError: a format that was asked for does not decide as the trained network does.

    Example:
        `cls.export(run, formats=["onnx", "openvino"]).folder`
    """
    refuse_unguarded_script()
    from cls.exporting.publish import ExportConfig, export_run

    run = _opened(run, cfg)
    config = ExportConfig.of(settings_of(ExportRequest, request, options), run.bottle.settings)
    exported = export_run(run.bottle, run, config)
    exported.raise_if_refused(config.required)
    return exported


def _bottle(cfg: AnyPath | None) -> Bottle:
    return Bottle(load_settings(None if cfg is None else _path(cfg, "cfg")))


def _path(path: AnyPath, argument: str) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise _unusable(argument, path, "a path")
    return Path(path)


def _opened(run: Run | AnyPath | int, cfg: AnyPath | None) -> Run:
    """A run as it is, or the finished run of this name."""
    if not isinstance(run, FinishedRun):
        return open_run(run, cfg=cfg)
    if cfg is not None:
        raise _unusable("cfg", cfg, "none beside a run, which has its own configuration")
    return run


def _unusable(argument: str, value: object, expected: str) -> UsageError:
    return UsageError(f"{argument}: expected {expected}, found {value!r}", code="invalid_argument")


def _public(run: FinishedRun) -> Run:
    return Run(**{field.name: getattr(run, field.name) for field in fields(FinishedRun)})
