"""From a training run to a proven package in the bottle."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from cls.bottle.layout import Bottle
from cls.bottle.ledger import known_models
from cls.errors import ClsError, ExportError
from cls.export.convert import Conversions, people_to_carry, vectors_of_zip
from cls.export.formats.files import DEFAULT_FORMATS, FILES, FORMATS, Format, hint_for, in_order, why_not
from cls.export.formats.onnx import write_onnx
from cls.export.meta_of_run import meta_of_run
from cls.export.parity.check import REPORT_NAME, keep_reports, refused_report
from cls.export.parity.report import ParityReport
from cls.export.parity.samples import ParitySample, choose_samples, reference_of
from cls.export.precision_steps import Packing, make_all
from cls.files import sha256_of_file
from cls.package.archive import open_package
from cls.package.folder import atomic_folder
from cls.package.keys import SigningKey
from cls.package.meta import META_FILE_NAME, ModelMeta, ParityMeta, PeoplePart, read_meta, write_meta
from cls.package.model_name import next_version
from cls.package.packing import samples_as_bytes
from cls.runtimes.classifier import Classifier
from cls.runtimes.local import TorchRuntime
from cls.wording import counted

if TYPE_CHECKING:
    from cls.training.runs.run import Run

_OWN_NAMES = {META_FILE_NAME, *(name for files in FILES.values() for name in (*files.files, files.archive))}


@dataclass(frozen=True)
class Earlier:
    """What an earlier export left.

    Attributes:
        parity: formats that stay -> how they compared when they were made.
        removed: formats that go -> why, in a few words.
        of_other_runs: packages that no export made, such as rebuilt ones, and that stay -> the run they are of.
    """

    parity: dict[Format, ParityMeta] = field(default_factory=dict)
    removed: dict[Format, str] = field(default_factory=dict)
    of_other_runs: dict[str, str] = field(default_factory=dict)


def keep_earlier(
    folder: Path, staged: Path, meta: ModelMeta, made: Collection[Format], refused: Collection[Format]
) -> Earlier:
    """Copies what stays: packages of the very same model that were proven before, and what others put there.

    Args:
        folder: the package's folder as it is.
        staged: the folder that will take its place.
        meta: what the packages made now say.
        made: the formats made now.
        refused: the formats refused now: what was made of them before is not offered any more.
    """
    if not folder.is_dir():
        return Earlier()
    _copy_foreign(folder, staged)
    earlier = Earlier(of_other_runs=_packages_of_other_runs(folder, meta.training.run))
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


def _meta_of(folder: Path) -> ModelMeta | None:
    try:
        return read_meta(folder / META_FILE_NAME)
    except ClsError:
        return None  # It is written anew; what it should have spoken of goes, and is named.


def _why_not_kept(folder: Path, before: ModelMeta | None, meta: ModelMeta, name: Format) -> str | None:
    """Why a package is not one of the model exported now, as it was proven; None where it is."""
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


def _facts(meta: ModelMeta) -> dict[str, Any]:
    """What does not depend on the formats made."""
    facts = {**meta.to_dict(), "steps": meta.all_steps}  # older packages do not name them, and mean the same
    del facts["parity"], facts["package"], facts["digests"]["files"], facts["schema_version"]
    return facts


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


def _copy_foreign(folder: Path, staged: Path) -> None:
    """Carries over what others put into the package's folder."""
    for entry in folder.iterdir():
        if entry.name in _OWN_NAMES or entry.name.startswith("."):
            continue
        if entry.is_dir():
            shutil.copytree(entry, staged / entry.name, symlinks=True)
        else:
            shutil.copy2(entry, staged / entry.name, follow_symlinks=False)


def push_lines(bottle: Bottle, group: str, which: str = "onnx") -> str:
    """The `cls push` of a package, under the next version, as lines that can be pasted as they are.

    Args:
        bottle: the data folder, which knows what was published from it.
        group: the package's.
        which: the package, as `--format` names it.
    """
    published = [one.version for one in known_models(bottle.root) if one.group == group and one.version]
    chosen = "" if which == "onnx" else f" --format {quote(which)}"
    return (
        f"next: cls push --group {quote(group)}{chosen} --version {next_version(published)}\n"
        "      # the next version for all this bottle knows; a model storage with more says which one is free"
    )


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
                code="format_unavailable",
                hint=hint_for(name, is_end_to_end=is_end_to_end),
            )
    made = [name for name in in_order(formats) if name not in not_made]
    if not made:
        raise ExportError(
            f"nothing can be made: {'; '.join(not_made.values())}",
            code="format_unavailable",
            hint="add onnx to --formats",
        )
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
            f"group '{group}' is being exported by another process",
            code="locked",
            where=folder,
            hint="wait until it is done",
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
            code="no_photos",
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
