"""The parity check of an export: every format is opened as its users will, compared, and refused when it differs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from cls.bottle.layout import Bottle
from cls.errors import ClsError, ExportError, ParityError, ParityFault, PredictionError
from cls.exporting.formats.files import Format
from cls.exporting.formats.onnx import check_model_files
from cls.exporting.parity.compare import compare_with
from cls.exporting.parity.layers import divergence_from_onnx, divergence_from_torch, weight_faults
from cls.exporting.parity.page import write_page
from cls.exporting.parity.report import Divergence, NotCompared, OtherFormat, ParityFile, ParityReport, RefusedTry
from cls.exporting.parity.results import level_faults
from cls.exporting.parity.samples import Reference
from cls.package.meta import ParityMeta
from cls.records import write_record
from cls.runtimes.classifier import Classifier
from cls.runtimes.local import TorchRuntime
from cls.runtimes.open import open_verified_zip
from cls.settings import ParityLimits
from cls.wording import change, counted, magnitude

_log = logging.getLogger("cls.exporting")

REPORT_NAME = "parity_report.json"
# People whose values inside the networks are compared: they take tens of megabytes each.
_LOOKED_INTO = 4
_LARGEST_FP16 = 65504.0


@dataclass(frozen=True)
class CandidateConversion:
    """A conversion to prove.

    Attributes:
        precision: of its numbers: fp32, fp16 or int8.
        archive: its zip, as users get it.
        files: its model files, the graph first.
        source: the ONNX it was made from; None where it comes from the trained network.
        kept_in_float: the layers that stay in float32 in it, where its precision is another.
        tries: the conversions with fewer such layers that were refused before it.
    """

    name: Format
    precision: str
    archive: Path
    files: tuple[Path, ...]
    source: Path | None = None
    kept_in_float: tuple[str, ...] = ()
    tries: tuple[RefusedTry, ...] = ()


@dataclass(frozen=True)
class ParityVerdict:
    """The result of the parity check of a conversion.

    Attributes:
        report: how it compares; None where it could not be compared.
        error: why it is refused; None where it passes.
    """

    report: ParityReport | None
    error: ClsError | None = None


class ParityCheck:
    """Holds conversions against the trained network; what it finds is kept for the report.

    Args:
        reference: what the trained network says.
        bottle: the data folder.
        report_file: where the report goes; see `keep_reports`.
        limits: by precision; those of the configuration when not given.

    Attributes:
        verdicts: format -> what was found of it last, in the order of the checks.
    """

    def __init__(
        self,
        reference: Reference,
        bottle: Bottle,
        report_file: Path,
        limits: Mapping[str, ParityLimits] | None = None,
    ) -> None:
        self.reference = reference
        self.verdicts: dict[Format, ParityVerdict] = {}
        self._report_file = report_file
        self._limits = bottle.settings.parity_limits if limits is None else limits

    @property
    def page(self) -> Path:
        """The report of what passed, for people."""
        return self._report_file.with_suffix(".html")

    @property
    def passed(self) -> dict[Format, ParityReport]:
        """The formats that are proven, and how they compare."""
        return {
            name: verdict.report
            for name, verdict in self.verdicts.items()
            if verdict.error is None and verdict.report is not None
        }

    @property
    def refused(self) -> dict[Format, ClsError]:
        """The others, and why."""
        return {name: verdict.error for name, verdict in self.verdicts.items() if verdict.error is not None}

    def judge(self, candidate: CandidateConversion) -> ParityVerdict:
        """Compares a conversion with the trained network."""
        _log.info("%s: comparing with the trained network", candidate.archive.name)
        verdict = self.verdicts[candidate.name] = self._verdict(candidate)
        return verdict

    def write_reports(
        self, not_made: Mapping[Format, str] | None = None, stayed: Mapping[Format, ParityMeta] | None = None
    ) -> None:
        """Writes the reports of all verdicts; see `keep_reports`."""
        keep_reports(self._report_file, self.reference, self.verdicts, not_made, stayed)

    def require(self, candidate: CandidateConversion) -> ParityReport:
        """Compares a conversion that must pass, and writes the report, also when it does not.

        Raises:
            ParityError: it cannot be opened, or disagrees; names what it looks like.
        """
        verdict = self.judge(candidate)
        self.write_reports()
        if verdict.error is not None:
            raise verdict.error
        return self.passed[candidate.name]

    def _verdict(self, candidate: CandidateConversion) -> ParityVerdict:
        where = f"{self.reference.trained.name}, {candidate.files[0].name}"
        page = refused_report(self._report_file).with_suffix(".html")
        try:
            report = _examined(self.reference, candidate, self._limits[candidate.precision])
        except ClsError as failure:
            error = ParityError(
                f"the conversion cannot be used: {failure.what}",
                code=failure.case,
                where=f"{where}, {Path(failure.where).name}" if failure.where else where,
                hint=f"nothing of it was packaged; the report is {page}",
            )
            error.__cause__ = failure
            return ParityVerdict(None, error)
        try:
            report.raise_if_refused(where, page)
        except ParityError as refusal:
            return ParityVerdict(report, refusal)
        return ParityVerdict(report)


def refused_report(report_file: Path) -> Path:
    """Where the report of what was refused goes: beside that of what is packaged, which it must not replace."""
    return report_file.with_name(f"{report_file.stem}_refused{report_file.suffix}")


def keep_reports(
    report_file: Path,
    reference: Reference,
    verdicts: Mapping[Format, ParityVerdict],
    not_made: Mapping[Format, str] | None = None,
    stayed: Mapping[Format, ParityMeta] | None = None,
) -> None:
    """Writes the report of the formats that passed, and separate reports of those refused.

    Args:
        report_file: parity_report.json, of what passed; stays as it is where nothing did. A page goes beside each.
        reference: what the trained network says.
        verdicts: by format.
        not_made: formats that this machine cannot make -> why.
        stayed: formats of the same run that an earlier export made -> what it found.
    """
    passed = {name: verdict for name, verdict in verdicts.items() if verdict.error is None}
    refused = {name: verdict for name, verdict in verdicts.items() if verdict.error is not None}
    other = refused_report(report_file)
    left: dict[str, OtherFormat] = {
        name: OtherFormat(state="not made", reason=reason) for name, reason in (not_made or {}).items()
    }
    left |= {name: OtherFormat(state="agrees", reason=_found_earlier(found)) for name, found in (stayed or {}).items()}
    if passed:
        page = other.with_suffix(".html").name
        _keep(report_file, reference, passed, {name: _left_out(refused[name], page) for name in refused} | left)
    if refused:
        page = report_file.with_suffix(".html").name
        _keep(
            other,
            reference,
            refused,
            {name: OtherFormat(state="agrees", reason="", page=page) for name in passed} | left,
        )
    else:
        # Of an earlier export; it shows people, too.
        other.unlink(missing_ok=True)
        other.with_suffix(".html").unlink(missing_ok=True)


def _examined(reference: Reference, candidate: CandidateConversion, limits: ParityLimits) -> ParityReport:
    check_model_files(candidate.files)
    # The comparison itself says what is wrong with a meta.json, in words about decisions.
    converted = open_verified_zip(candidate.archive)
    report = compare_with(reference, converted, precision=candidate.precision, limits=limits)
    report = replace(report, kept_in_float=candidate.kept_in_float, tries=candidate.tries)
    kind = candidate.files[0].suffix
    is_onnx = kind == ".onnx"
    if kind in (".onnx", ".xml") and candidate.source is not None and candidate.source.suffix == ".onnx":
        faults = weight_faults(candidate.source, candidate.files[0])
        if is_onnx and converted.is_end_to_end:
            faults += level_faults(candidate.files[0], reference)
        report = replace(report, faults=(*report.faults, *faults))
    if not is_onnx or not report.faults:
        return report
    try:
        divergence = _divergence(reference, converted, candidate)
    except (ExportError, PredictionError) as error:
        _log.warning("the first layer that departs could not be looked for: %s", error.line())
        return report
    causes = report.causes
    if divergence is not None and divergence.difference is None and candidate.precision == "fp16":
        reached = f"{divergence.largest_value:.6g}"
        if divergence.largest_value > _LARGEST_FP16:
            what = f"fp16 overflow: {reached} is beyond {_LARGEST_FP16:g}, the largest number of fp16"
            causes = (ParityFault(what, code="fp16_overflow"), *causes)
    return replace(report, causes=causes, divergence=divergence)


def _divergence(reference: Reference, converted: Classifier, candidate: CandidateConversion) -> Divergence | None:
    crops = reference.crops_rgb[:_LOOKED_INTO]
    normal = reference.trained.preprocessing.normalise(crops)
    graph = candidate.files[0]
    images = crops if converted.is_end_to_end else normal
    if candidate.source is not None and candidate.source.suffix == ".onnx":
        return divergence_from_onnx(candidate.source, normal, graph, images, candidate.precision)
    runtime = reference.trained.runtime
    if isinstance(runtime, TorchRuntime):
        return divergence_from_torch(runtime.network, normal, graph, images)
    return None


def _left_out(verdict: ParityVerdict, page: str) -> OtherFormat:
    """A refused format in the report of the others."""
    if verdict.report is not None:
        return OtherFormat(state="refused", reason="; ".join(verdict.report.faults), page=page)
    return OtherFormat(state="failed", reason=verdict.error.what if verdict.error is not None else "", page=page)


def _found_earlier(found: ParityMeta) -> str:
    """A format of an earlier export; its report no longer exists."""
    f1 = "" if found.f1_change is None else f", F1 {change(found.f1_change)}"
    return (
        f"made by an earlier export of this run and still there: {counted(found.samples, 'person')}, largest difference"
        f" of a probability at most {magnitude(found.max_probability_difference)}{f1}"
    )


def _keep(
    report_file: Path, reference: Reference, verdicts: Mapping[Format, ParityVerdict], others: Mapping[str, OtherFormat]
) -> None:
    reports: dict[str, ParityReport | NotCompared] = {
        name: verdict.report for name, verdict in verdicts.items() if verdict.report is not None
    }
    failures: dict[str, ParityReport | NotCompared] = {
        name: NotCompared(faults=(f"{verdict.error.where}: {verdict.error.what}",))
        for name, verdict in verdicts.items()
        if verdict.report is None and verdict.error is not None
    }
    content = ParityFile(
        run=reference.trained.name,
        formats=reports | failures,
        others=dict(others),
    )
    write_record(report_file, content)
    page = report_file.with_suffix(".html")
    write_page(page, reference.trained.group, reference.trained.name, content.formats, others)
