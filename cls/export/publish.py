"""From a training run to a proven package in the bottle."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from cls.bottle.layout import Bottle
from cls.errors import ClsError, ExportError
from cls.export.convert import Conversions
from cls.export.earlier import keep_earlier
from cls.export.formats.files import DEFAULT_FORMATS, FILES, Format, hint_for, in_order, why_not
from cls.export.formats.onnx import write_onnx
from cls.export.making import make_all
from cls.export.meta_of_run import meta_of_run
from cls.export.packed import people_to_carry, vectors_of_zip
from cls.export.parity.check import REPORT_NAME, keep_reports, refused_report
from cls.export.parity.report import ParityReport
from cls.export.parity.samples import ParitySample, choose_samples, reference_of
from cls.export.precision_steps import Packing
from cls.package.carried import samples_as_bytes
from cls.package.folder import atomic_folder
from cls.package.keys import SigningKey
from cls.package.meta import META_FILE_NAME, ModelMeta, PeoplePart, write_meta
from cls.runtimes.classifier import Classifier
from cls.runtimes.local import TorchRuntime
from cls.wording import counted

if TYPE_CHECKING:
    from cls.training.runs.run import Run

_log = logging.getLogger("cls.export")


@dataclass(frozen=True)
class Exported:
    """What an export made.

    Attributes:
        folder: the package's folder.
        meta: its meta.json.
        page: the report of what was made now, for people.
        reports: format made now -> how it compares with the trained network.
        not_made: format -> why it was left out.
        kept_in_float: format -> the layers that stay in float32 in it, where its precision is another.
        refused: format -> why it failed, or was refused; nothing of it is packaged.
        stayed: formats of the same run that were made earlier and are still there.
        removed: format that was there before -> why it is not any more.
        of_other_runs: zips of others in the folder, such as rebuilt packages -> the run they are of.
    """

    folder: Path
    meta: ModelMeta
    page: Path
    reports: dict[Format, ParityReport]
    not_made: dict[Format, str]
    kept_in_float: dict[Format, tuple[str, ...]] = field(default_factory=dict)
    refused: dict[Format, ClsError] = field(default_factory=dict)
    stayed: tuple[Format, ...] = ()
    removed: dict[Format, str] = field(default_factory=dict)
    of_other_runs: dict[str, str] = field(default_factory=dict)


def export_run(
    bottle: Bottle,
    run: Run,
    formats: Sequence[Format] = DEFAULT_FORMATS,
    *,
    required: Sequence[Format] = (),
    carry_samples: int = 0,
    is_end_to_end: bool = False,
    signer: SigningKey | None = None,
) -> Exported:
    """Converts a run, proves the conversions and puts those that pass into the group's package.

    Everything is made in a folder beside the package's; the old package stays until a new one is proven. Packages of
    the same run in other formats stay; those of another run go.

    Args:
        bottle: the data folder.
        run: a finished run.
        formats: what to make; a format this machine cannot make is left out.
        required: formats that must not be left out.
        carry_samples: how many people's cut-outs go into the zips that can be rebuilt elsewhere; personal data.
        is_end_to_end: put preprocessing and activation inside: uint8 RGB cut-outs in, probabilities out.
        signer: signs the packages made now; None: they are not signed.

    Raises:
        ExportError: no conversion succeeds, a required format cannot be made here, or another export of the group runs.
        ParityError: none agrees with the trained network. Where some do, the others are `Exported.refused`.
    """
    not_made = _not_made(formats, is_end_to_end)
    for name in required:
        if name in not_made:
            files = FILES[name]
            raise ExportError(
                f"{files.model} and {files.archive} cannot be made: {not_made[name]}",
                hint=hint_for(name, is_end_to_end=is_end_to_end),
            )
    made = [name for name in in_order(formats) if name not in not_made]
    if not made:
        raise ExportError(f"nothing can be made: {'; '.join(not_made.values())}", hint="add onnx to --formats")
    folder = bottle.inference_model(run.group)
    samples, part = _people(bottle, run)
    shown = f"{counted(len(samples), 'person')} of the {part} part"
    _log.info("%s: %s, compared with it on %s", run.name, ", ".join(made), shown)
    report_file = folder.parent / REPORT_NAME
    with _locked(folder, run.group):
        with atomic_folder(folder) as staged:
            meta = meta_of_run(run, bottle.segments, is_end_to_end=is_end_to_end)
            _log.info("converting the network to ONNX")
            with Conversions(bottle, run, staged, is_end_to_end=is_end_to_end, first=write_onnx) as conversions:
                reference = reference_of(classifier_of_run(run), samples, part=part)
                people = samples_as_bytes(people_to_carry(reference, carry_samples)) if carry_samples else None
                packing = Packing(meta, staged, conversions.carried, people, signer)
                page = refused_report(report_file).with_suffix(".html")
                making = make_all(conversions, made, reference, bottle, packing, page)
                if not making.passed:
                    keep_reports(report_file, reference, making.verdicts, not_made)
                    raise _all_refused(making.refused)
                reports = {name: report for name in making.passed if (report := making.verdicts[name].report)}
                parity = {name: report.to_meta() for name, report in reports.items()}
                for name in making.passed:
                    vectors = vectors_of_zip(name, staged / FILES[name].archive, bottle)
                    packing.write(name, making.verdicts[name].report, vectors)
            earlier = keep_earlier(folder, staged, meta, making.passed, making.refused)
            parity |= earlier.parity
            meta = packing.folder_meta({name: parity[name] for name in in_order(parity)})
            write_meta(staged / META_FILE_NAME, meta)
        # Only now does the report speak of what is there.
        keep_reports(report_file, reference, making.verdicts, not_made, earlier.parity)
    kept = {name: steps.kept_in_float for name in making.passed if (steps := making.steps[name]).kept_in_float}
    return Exported(
        folder,
        meta,
        report_file.with_suffix(".html"),
        reports,
        not_made,
        kept,
        making.refused,
        tuple(earlier.parity),
        removed=earlier.removed,
        of_other_runs=earlier.of_other_runs,
    )


def _all_refused(refused: Mapping[Format, ClsError]) -> ClsError:
    """The first error; the others are told before it."""
    first, *others = refused.values()
    for error in others:
        _log.warning("%s", error.line())
    return first


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


def _people(bottle: Bottle, run: Run) -> tuple[list[ParitySample], PeoplePart]:
    """The run's validation people whose photos are still there; its training people where it held nobody out.

    Raises:
        ExportError: there are none.
    """
    part: PeoplePart = "validation" if run.pictures("valid") else "training"
    side = "valid" if part == "validation" else "train"
    samples = [sample for sample in run.samples(side) if bottle.picture(sample.path).is_file()]
    wanted, there = set(run.pictures(side)), {sample.path for sample in samples}
    if not samples:
        raise ExportError(
            f"none of the {counted(len(wanted), 'photo')} of the {part} part of run {run.name} is left to compare with",
            where=bottle.pictures,
            hint="load and segment the group again",
        )
    if wanted - there:
        _log.warning(
            "%d of the %s of the %s part of run %s are gone, or without people: it is proven on the others alone",
            len(wanted - there),
            counted(len(wanted), "photo"),
            part,
            run.name,
        )
    people = [ParitySample(bottle.picture(sample.path), sample.person, sample.labels) for sample in samples]
    return choose_samples(people), part


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
