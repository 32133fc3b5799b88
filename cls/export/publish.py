"""From a training run to a proven package in the bottle."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from cls.bottle.layout import Bottle
from cls.errors import ExportError
from cls.export.formats import DEFAULT_FORMATS, FILES, Format, hint_for, why_not
from cls.export.meta_of_run import meta_of_run
from cls.export.onnx import write_onnx
from cls.export.packed import packed_model, people_to_carry
from cls.export.parity_gate import REPORT_NAME, Candidate, prove
from cls.export.parity_report import ParityReport
from cls.export.parity_samples import ParitySample, Reference, choose_samples, reference_of
from cls.package.carried import samples_as_bytes
from cls.package.folder import atomic_folder
from cls.package.meta import META_FILE_NAME, ModelMeta, write_meta
from cls.package.packing import write_package
from cls.prediction.local import TorchRuntime
from cls.prediction.runtime import Classifier

if TYPE_CHECKING:
    from cls.training.run import Run

_OWN_NAMES = {META_FILE_NAME, *(name for files in FILES.values() for name in (*files.files, files.archive))}


@dataclass(frozen=True)
class Exported:
    """What an export made.

    Attributes:
        folder: the package's folder.
        meta: its meta.json.
        reports: format -> how it compares with the trained network.
        not_made: format -> why it was left out.
    """

    folder: Path
    meta: ModelMeta
    reports: dict[Format, ParityReport]
    not_made: dict[Format, str]


def export_run(
    bottle: Bottle,
    run: Run,
    formats: Sequence[Format] = DEFAULT_FORMATS,
    *,
    required: Sequence[Format] = (),
    carry_samples: int = 0,
) -> Exported:
    """Converts a run, proves the conversions and replaces the group's package with them.

    Everything is made in a folder beside the package's; the old package stays until the new one is proven.

    Args:
        bottle: the data folder.
        run: a finished run.
        formats: what to make; a format this machine cannot make is left out.
        required: formats that must not be left out.
        carry_samples: how many people's cut-outs go into the zips that can be rebuilt elsewhere; personal data.

    Raises:
        ExportError: a conversion fails, a required format cannot be made here, or another export of the group runs.
        ParityError: a conversion disagrees with the trained network.
    """
    not_made = _not_made(formats)
    for name in required:
        if name in not_made:
            files = FILES[name]
            raise ExportError(
                f"{files.model} and {files.archive} cannot be made: {not_made[name]}",
                hint=hint_for(name),
            )
    made = [name for name in formats if name not in not_made]
    if not made:
        raise ExportError(f"nothing can be made: {'; '.join(not_made.values())}", hint="add onnx to --formats")
    folder = bottle.inference_model(run.group)
    samples = _samples(bottle, run)
    with _locked(folder, run.group), atomic_folder(folder) as staged:
        _convert(run, made, staged)
        models = {FILES[name].model: staged / FILES[name].model for name in made}
        meta = meta_of_run(run, models, bottle.segments)
        reference = reference_of(classifier_of_run(run), samples)
        people = samples_as_bytes(people_to_carry(reference, carry_samples)) if carry_samples else None
        reports = _proven(bottle, reference, meta, made, staged, people, folder.parent / REPORT_NAME)
        meta = meta.model_copy(update={"parity": {name: report.to_meta() for name, report in reports.items()}})
        for name in made:
            _write_archive(meta, name, staged, people)
        if "onnx" not in made:
            (staged / FILES["onnx"].model).unlink()
        _keep_foreign(folder, staged)
    return Exported(folder, meta, reports, not_made)


def _not_made(formats: Sequence[Format]) -> dict[Format, str]:
    reasons = {name: why_not(name) for name in formats}
    return {name: reason for name, reason in reasons.items() if reason is not None}


@contextmanager
def _locked(folder: Path, group: str) -> Iterator[None]:
    """Two exports of one group at a time would take each other's folders away."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.parent / ".export.lock")
    try:
        with lock.acquire(timeout=0):
            yield
    except Timeout:
        raise ExportError(
            f"group '{group}' is being exported by another process", where=folder, hint="wait until it is done"
        ) from None


def _samples(bottle: Bottle, run: Run) -> list[ParitySample]:
    """The run's validation people whose photos are still there; its training people where it held none out.

    Raises:
        ExportError: there are none.
    """
    held_out = run.validation_samples()
    samples = [
        ParitySample(bottle.picture(sample.path), sample.person, sample.labels)
        for sample in held_out or run.samples("train")
    ]
    present = [sample for sample in samples if sample.file.is_file()]
    if not present:
        raise ExportError(
            f"none of the photos of run {run.name} is left to compare with",
            where=bottle.pictures,
            hint="load and segment the group again",
        )
    return choose_samples(present)


def _convert(run: Run, formats: Sequence[Format], staged: Path) -> None:
    """Writes the model files; the ONNX always, since the plan is built from it."""
    onnx_path = staged / FILES["onnx"].model
    write_onnx(run.load_network(), run.preprocessing, run.labels, onnx_path)
    if "trt" in formats:
        from cls.export.tensorrt import write_plan

        write_plan(onnx_path, run.preprocessing, staged / FILES["trt"].model)


def _proven(
    bottle: Bottle,
    reference: Reference,
    meta: ModelMeta,
    formats: Sequence[Format],
    staged: Path,
    people: bytes | None,
    report_file: Path,
) -> dict[Format, ParityReport]:
    """Compares every format, opened from its zip as its users will, with the trained network; keeps the report.

    Raises:
        ParityError: one disagrees.
    """
    candidates = []
    for name in formats:
        files, source = FILES[name], FILES[name].source
        archive = _write_archive(meta, name, staged, people)
        model_files = tuple(staged / file for file in files.files)
        source_file = None if source is None else staged / FILES[source].model
        candidates.append(Candidate(name, files.precision, archive, model_files, source_file))
    reports = prove(reference, candidates, bottle, report_file, bottle.settings.parity_limits)
    return {name: reports[name] for name in formats}


def classifier_of_run(run: Run) -> Classifier:
    """The trained network itself, with its run's labels and thresholds."""
    return Classifier(
        group=run.group,
        name=run.name,
        labels=tuple(run.labels),
        thresholds=tuple(run.thresholds),
        preprocessing=run.preprocessing,
        runtime=TorchRuntime(run.load_network()),
        source=str(run.folder),
    )


def _write_archive(meta: ModelMeta, name: Format, staged: Path, people: bytes | None) -> Path:
    """meta.json and the zip of one format."""
    write_meta(staged / META_FILE_NAME, meta)
    archive = staged / FILES[name].archive
    write_package(archive, meta, packed_model(name, staged, people))
    return archive


def _keep_foreign(folder: Path, staged: Path) -> None:
    """Carries over what others put into the package's folder."""
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.name in _OWN_NAMES or entry.name.startswith("."):
            continue
        if entry.is_dir():
            shutil.copytree(entry, staged / entry.name, symlinks=True)
        else:
            shutil.copy2(entry, staged / entry.name, follow_symlinks=False)
