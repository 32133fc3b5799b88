"""Exports a run: converts it, compares the conversions with the trained network and packages those that agree."""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Collection
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Self

from cls.bottle.layout import Bottle
from cls.errors import ClsError, ExportError, FileError, ParityFault
from cls.exporting.convert import Conversions, readable_error
from cls.exporting.formats.files import (
    DEFAULT_FORMATS,
    FILES,
    FORMATS,
    ExportRequest,
    Format,
    hint_for,
    in_order,
    why_not,
)
from cls.exporting.package_writer import PackageWriter, meta_of_run, people_to_carry
from cls.exporting.parity.check import REPORT_NAME, CandidateConversion, ParityCheck, ParityVerdict
from cls.exporting.parity.report import ParityReport, RefusedTry
from cls.exporting.parity.samples import reference_of, samples_of_run
from cls.files import locked, sha256_of_file
from cls.package.archive import open_package
from cls.package.card import card_of
from cls.package.group_pages import link_group_pages
from cls.package.keys import SigningKey, read_signing_key
from cls.package.meta import META_FILE_NAME, ModelMeta, ParityMeta, read_meta
from cls.package.packing import atomic_folder
from cls.runtimes.open import classifier_of_run
from cls.settings import Settings
from cls.wording import counted

if TYPE_CHECKING:
    from cls.training.runs.run import FinishedRun

_log = logging.getLogger("cls.exporting")

_OWN_NAMES = {META_FILE_NAME, *(name for files in FILES.values() for name in (*files.files, files.archive))}

# Shares of the layers left in float32, one try after another; beyond half of them little would be won.
_KEPT_SHARES = {"fp32": (0.0,), "fp16": (0.0, 0.1, 0.25, 0.5), "int8": (0.0, 0.1, 0.25, 0.5)}


def export_run(bottle: Bottle, run: FinishedRun, config: ExportConfig | None = None) -> Exported:
    """Converts a run, checks the conversions and puts those that agree with the trained network into the package.

    Everything is made in a folder beside the package's; the old package stays until a new one has been
    checked. Packages of the same run in other formats stay; those of another run are removed.

    Args:
        bottle: the data folder.
        run: a finished run.
        config: what to make; the default formats when not given.

    Raises:
        ExportError: no conversion succeeds, a required format cannot be made here, or another export of the group runs.
        ParityError: none agrees with the trained network. Where some do, the others are `Exported.refused`.
    """
    config = config or ExportConfig()
    not_made = config.unavailable()
    names = [name for name in in_order(config.formats) if name not in not_made]
    folder = bottle.inference_model(run.group)
    samples, part = samples_of_run(bottle, run)
    people = f"{counted(len(samples), 'person')} of the {part} part"
    _log.info("%s: %s, compared with it on %s", run.name, ", ".join(names), people)
    busy = ExportError(
        f"group '{run.group}' is being exported by another process",
        code="locked",
        where=folder,
        hint="wait until it is done",
    )
    # Two exports of one group at a time would take each other's folders away.
    with locked(folder.parent / ".export.lock", busy):
        with (
            atomic_folder(folder) as staged,
            Conversions(bottle, run, staged, is_end_to_end=config.is_end_to_end) as conversions,
        ):
            conversions.convert_to_onnx()
            reference = reference_of(classifier_of_run(run), samples, part=part)
            check = ParityCheck(reference, bottle, folder.parent / REPORT_NAME)
            carried = people_to_carry(reference, config.carry_samples) if config.carry_samples else None
            meta = meta_of_run(run, bottle.segments, is_end_to_end=config.is_end_to_end)
            writer = PackageWriter(bottle, staged, meta, conversions.onnx_for_plan, carried, config.signer)
            for number, name in enumerate(names, 1):
                _convert_and_check(name, f"{number} of {len(names)}", conversions, writer, check)
            if not check.passed:
                check.write_reports(not_made)
                raise _first_error(check.refused)
            for name, report in check.passed.items():
                writer.write_checked(name, report)
            earlier = keep_earlier_packages(folder, staged, meta, check.passed, check.refused)
            parity = {name: report.to_meta() for name, report in check.passed.items()} | earlier.parity
            meta = writer.write_folder_meta({name: parity[name] for name in in_order(parity)})
        # After the new package is in place: the report describes it.
        check.write_reports(not_made, earlier.parity)
        _write_and_link_pages(bottle, run)
    return Exported(folder, meta, check.page, check.passed, not_made, check.refused, earlier)


@dataclass(frozen=True)
class ExportConfig:
    """What an export makes.

    Attributes:
        formats: what to make; a format this machine cannot make is left out.
        required: those of them that must not be left out.
        carry_samples: how many people's cut-outs go into the zips that can be rebuilt elsewhere; personal data.
        is_end_to_end: put preprocessing and activation inside: uint8 RGB cut-outs in, probabilities out.
        signer: signs the packages made now; None: they are not signed.
    """

    formats: tuple[Format, ...] = DEFAULT_FORMATS
    required: tuple[Format, ...] = ()
    carry_samples: int = 0
    is_end_to_end: bool = False
    signer: SigningKey | None = None

    @classmethod
    def of(cls, request: ExportRequest, settings: Settings) -> Self:
        """What is asked for, with the key that signs it.

        Raises:
            FileError: the key cannot be read.
        """
        formats, required = request.chosen()
        signer = None
        if request.sign is not None:
            signer = read_signing_key(Path(request.sign), passphrase=settings.signing_passphrase)
        return cls(formats, required, request.carry_samples, request.end_to_end, signer)

    def unavailable(self) -> dict[Format, str]:
        """The formats that this machine cannot make, and why.

        Raises:
            ExportError: one of them is required, or nothing is left.
        """
        reasons = {name: why_not(name, is_end_to_end=self.is_end_to_end) for name in in_order(self.formats)}
        not_made = {name: reason for name, reason in reasons.items() if reason is not None}
        for name in self.required:
            if name in not_made:
                raise ExportError(
                    f"{FILES[name].model} and {FILES[name].archive} cannot be made: {not_made[name]}",
                    code="format_unavailable",
                    hint=hint_for(name, is_end_to_end=self.is_end_to_end),
                )
        if len(not_made) == len(reasons):
            raise ExportError(
                f"nothing can be made: {'; '.join(not_made.values())}",
                code="format_unavailable",
                hint="add onnx to --formats",
            )
        return not_made


@dataclass(frozen=True)
class Exported:
    """What an export made.

    Attributes:
        page: the report of what was made now, for people.
        reports: format made now -> how it compares with the trained network.
        not_made: format -> why it was left out.
        refused: format -> why it failed, or was refused; nothing of it is packaged.
        earlier: what earlier exports left in the folder.
    """

    folder: Path
    meta: ModelMeta
    page: Path
    reports: dict[Format, ParityReport]
    not_made: dict[Format, str]
    refused: dict[Format, ClsError]
    earlier: EarlierExport

    def raise_if_refused(self, required: Collection[Format]) -> None:
        """Raises the first error of the formats that were required; all other errors become warnings."""
        failed = next((name for name in self.refused if name in required), None)
        for name, error in self.refused.items():
            if name != failed:
                _log.warning("%s is left out: %s", FILES[name].archive, error.line())
        if failed is not None:
            raise self.refused[failed]

    def __repr__(self) -> str:
        """Where it is, and which formats were made and refused."""
        return f"Exported({str(self.folder)!r}, made={list(self.reports)}, refused={list(self.refused)})"

    def _repr_html_(self) -> str:
        """The export in a notebook."""
        made = {FILES[name].archive: report.in_words() for name, report in self.reports.items()}
        left_out = {FILES[name].archive: f"left out: {error.what}" for name, error in self.refused.items()}
        rows = "".join(
            f"<tr><td>{escape(name)}</td><td>{escape(text)}</td></tr>" for name, text in (made | left_out).items()
        )
        return f"<p><b>{escape(str(self.folder))}</b></p><table>{rows}</table>"


@dataclass(frozen=True)
class EarlierExport:
    """What an earlier export left.

    Attributes:
        parity: formats that stay -> how they compared when they were made.
        removed: formats that go -> why, in a few words.
        of_other_runs: packages that no export made, such as rebuilt ones, and that stay -> the run they are of.
    """

    parity: dict[Format, ParityMeta] = field(default_factory=dict)
    removed: dict[Format, str] = field(default_factory=dict)
    of_other_runs: dict[str, str] = field(default_factory=dict)


def _convert_and_check(
    name: Format, place: str, conversions: Conversions, writer: PackageWriter, check: ParityCheck
) -> None:
    """Makes a format and checks it; nothing is left of the files of one that is refused."""
    started_s = time.monotonic()
    where = f"{check.reference.trained.name}, {FILES[name].model}"
    try:
        if FILES[name].source is not None and "onnx" in check.refused:
            raise ExportError(
                "it is made from the float32 ONNX, which cannot be used",
                code="source_failed",
                hint="see what is said of model.onnx",
            )
        _log.info("%s (%s): converting", FILES[name].archive, place)
        verdict = _convert_within_limits(name, conversions, writer, check)
    except ClsError as error:
        verdict = ParityVerdict(None, readable_error(error, name, where, writer.folder))
    check.verdicts[name] = verdict
    if verdict.error is not None:
        writer.remove(name)
    how = "agrees with the trained network" if verdict.error is None else "is left out"
    _log.info("%s: %s (%.1f s)", FILES[name].archive, how, time.monotonic() - started_s)


def _convert_within_limits(
    name: Format, conversions: Conversions, writer: PackageWriter, check: ParityCheck
) -> ParityVerdict:
    """Makes a format with as few layers in float32 as its limits allow; the last try stands in any case."""
    files = FILES[name]
    shares = _KEPT_SHARES[files.precision]
    tries: list[RefusedTry] = []
    for share in shares:
        kept = conversions.make(name, share)
        archive = writer.write_unchecked(name)
        model_files = tuple(writer.folder / file for file in files.files)
        source = conversions.source_of(name)
        verdict = check.judge(
            CandidateConversion(name, files.precision, archive, model_files, source, kept, tuple(tries))
        )
        if verdict.error is None or share == shares[-1]:
            break
        faults = verdict.report.faults if verdict.report is not None else (ParityFault.of(verdict.error),)
        tries.append(RefusedTry(len(kept), faults))
        layers = counted(len(kept), "layer")
        _log.info("%s with %s in float32: %s; another try", files.model, layers, "; ".join(faults))
    return verdict


def _first_error(refused: dict[Format, ClsError]) -> ClsError:
    """The first error; the others are logged before it is raised."""
    first, *others = refused.values()
    for error in others:
        _log.warning("%s", error.line())
    return first


def keep_earlier_packages(
    folder: Path, staged: Path, meta: ModelMeta, made: Collection[Format], refused: Collection[Format]
) -> EarlierExport:
    """Copies what stays: checked packages of the same model from earlier exports, and files that others put there.

    Args:
        folder: the package's folder as it is.
        staged: the folder that will take its place.
        meta: what the packages made now say.
        made: the formats made now.
        refused: the formats refused now: what was made of them before is not offered any more.
    """
    if not folder.is_dir():
        return EarlierExport()
    _copy_foreign(folder, staged)
    earlier = EarlierExport(of_other_runs=_packages_of_other_runs(folder, meta.training.run))
    before = _meta_of(folder)
    for name in FORMATS:
        files = FILES[name]
        names = (*files.files, files.archive)
        if name in made or not any((folder / file).exists() for file in names):
            continue
        reason = "this export refuses it" if name in refused else _why_not_kept(folder, before, meta, name)
        if reason is not None or before is None:
            earlier.removed[name] = reason or "nothing says what it is of"
            continue
        for file in names:
            shutil.copy2(folder / file, staged / file)
        earlier.parity[name] = before.parity[name]
    return earlier


def _copy_foreign(folder: Path, staged: Path) -> None:
    """Carries over what others put into the package's folder."""
    for entry in folder.iterdir():
        if entry.name in _OWN_NAMES or entry.name.startswith("."):
            continue
        if entry.is_dir():
            shutil.copytree(entry, staged / entry.name, symlinks=True)
        else:
            shutil.copy2(entry, staged / entry.name, follow_symlinks=False)


def _packages_of_other_runs(folder: Path, run: str) -> dict[str, str]:
    found = {}
    for path in sorted(folder.glob("*.zip")):
        if path.name in _OWN_NAMES:
            continue
        try:
            with open_package(path) as package:
                found[path.name] = package.meta().training.run
        except (ClsError, OSError):
            continue  # no package: nobody takes it for one of this run
    return {name: of for name, of in found.items() if of != run}


def _meta_of(folder: Path) -> ModelMeta | None:
    try:
        return read_meta(folder / META_FILE_NAME)
    except ClsError:
        return None  # It is written again; the packages it should have described are removed, and named.


def _why_not_kept(folder: Path, before: ModelMeta | None, meta: ModelMeta, name: Format) -> str | None:
    """Why a package of an earlier export is not kept; None if it is a checked package of the same model."""
    if before is None or name not in before.parity:
        return "no meta.json says what it is of"
    if before.training.run != meta.training.run:
        return f"it is of run {before.training.run}"
    if before.is_end_to_end != meta.is_end_to_end:
        kinds = ("plain", "--end-to-end")
        return f"it is {kinds[before.is_end_to_end]}, and what is made now is {kinds[meta.is_end_to_end]}"
    if _facts(before) != _facts(meta):
        return "its meta.json says other things of the same run"
    files = FILES[name]
    try:
        digests = {inner: sha256_of_file(folder / file) for inner, file in zip(files.inner, files.files, strict=True)}
        with open_package(folder / files.archive) as package:
            packed = package.meta()
    except (ClsError, OSError):
        return "it is damaged"
    known = {inner: before.digests.files.get(file) for inner, file in zip(files.inner, files.files, strict=True)}
    is_whole = digests == known == packed.digests.files and packed.digests.weights == meta.digests.weights
    return None if is_whole else "it is not what its meta.json says"


def _facts(meta: ModelMeta) -> ModelMeta:
    """The metadata that do not depend on the formats exported."""
    digests = meta.digests.model_copy(update={"files": {}})
    # Older packages do not name the steps, and mean the same.
    same = {"steps": meta.all_steps, "parity": {}, "package": None, "digests": digests, "schema_version": 1}
    return meta.model_copy(update=same)


def _write_and_link_pages(bottle: Bottle, run: FinishedRun) -> None:
    """Writes the package's card and links the group's pages with each other."""
    try:
        card_of(bottle.inference_model(run.group)).write_page(bottle.pages(run.group, run.name)["model card"])
    except FileError as error:
        _log.warning("the model card could not be written: %s", error.line())
    link_group_pages(bottle, run.group)
