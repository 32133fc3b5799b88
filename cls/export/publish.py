"""From a training run to a proven package in the bottle."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from cls.bottle.layout import Bottle
from cls.errors import ExportError
from cls.export.convert import Conversions
from cls.export.formats import DEFAULT_FORMATS, FILES, Format, hint_for, in_order, why_not
from cls.export.meta_of_run import meta_of_run
from cls.export.onnx import write_onnx
from cls.export.packed import people_to_carry
from cls.export.parity_gate import REPORT_NAME, prove
from cls.export.parity_report import ParityReport
from cls.export.parity_samples import ParitySample, choose_samples, reference_of
from cls.export.precision_steps import Packing, make_proven
from cls.package.carried import samples_as_bytes
from cls.package.folder import atomic_folder
from cls.package.meta import META_FILE_NAME, ModelMeta, write_meta
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
        kept_in_float: format -> the layers that stay in float32 in it, where its precision is another.
    """

    folder: Path
    meta: ModelMeta
    reports: dict[Format, ParityReport]
    not_made: dict[Format, str]
    kept_in_float: dict[Format, tuple[str, ...]] = field(default_factory=dict)


def export_run(
    bottle: Bottle,
    run: Run,
    formats: Sequence[Format] = DEFAULT_FORMATS,
    *,
    required: Sequence[Format] = (),
    carry_samples: int = 0,
    is_end_to_end: bool = False,
) -> Exported:
    """Converts a run, proves the conversions and replaces the group's package with them.

    Everything is made in a folder beside the package's; the old package stays until the new one is proven.

    Args:
        bottle: the data folder.
        run: a finished run.
        formats: what to make; a format this machine cannot make is left out.
        required: formats that must not be left out.
        carry_samples: how many people's cut-outs go into the zips that can be rebuilt elsewhere; personal data.
        is_end_to_end: put preprocessing and activation inside: uint8 RGB cut-outs in, probabilities out.

    Raises:
        ExportError: a conversion fails, a required format cannot be made here, or another export of the group runs.
        ParityError: a conversion disagrees with the trained network.
    """
    not_made = _not_made(formats, is_end_to_end)
    for name in required:
        if name in not_made:
            files = FILES[name]
            raise ExportError(
                f"{files.model} and {files.archive} cannot be made: {not_made[name]}",
                hint=hint_for(name),
            )
    made = [name for name in in_order(formats) if name not in not_made]
    if not made:
        raise ExportError(f"nothing can be made: {'; '.join(not_made.values())}", hint="add onnx to --formats")
    folder = bottle.inference_model(run.group)
    samples = _samples(bottle, run)
    with _locked(folder, run.group), atomic_folder(folder) as staged:
        meta = meta_of_run(run, bottle.segments, is_end_to_end=is_end_to_end)
        with Conversions(bottle, run, staged, is_end_to_end=is_end_to_end, first=write_onnx) as conversions:
            reference = reference_of(classifier_of_run(run), samples)
            people = samples_as_bytes(people_to_carry(reference, carry_samples)) if carry_samples else None
            packing = Packing(meta, staged, conversions.carried, people)
            steps = {name: make_proven(conversions, name, reference, bottle, packing) for name in made}
            candidates = [packing.candidate(name, conversions.source_of(name), steps[name]) for name in made]
            report_file = folder.parent / REPORT_NAME
            proven = prove(reference, candidates, bottle, report_file, bottle.settings.parity_limits)
            parity = {name: proven[name].to_meta() for name in made}
            for name in made:
                packing.write(name, {name: parity[name]})
        meta = packing.folder_meta(parity)
        write_meta(staged / META_FILE_NAME, meta)
        _keep_foreign(folder, staged)
    reports = {name: proven[name] for name in made}
    kept = {name: step.kept_in_float for name, step in steps.items() if step.kept_in_float}
    return Exported(folder, meta, reports, not_made, kept)


def _not_made(formats: Sequence[Format], is_end_to_end: bool) -> dict[Format, str]:
    reasons = {name: why_not(name, is_end_to_end=is_end_to_end) for name in formats}
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


def _keep_foreign(folder: Path, staged: Path) -> None:
    """Carries over what others put into the package's folder."""
    for entry in folder.iterdir() if folder.is_dir() else ():
        if entry.name in _OWN_NAMES or entry.name.startswith("."):
            continue
        if entry.is_dir():
            shutil.copytree(entry, staged / entry.name, symlinks=True)
        else:
            shutil.copy2(entry, staged / entry.name, follow_symlinks=False)
