"""Formats made until they decide as the trained network does: those of lower precision with more left in float32."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cls.bottle.layout import Bottle
from cls.errors import ClsError, ExportError, ParityError, PredictionError
from cls.export.convert import WORK, Conversions, packed_model
from cls.export.formats.files import FILES, Format
from cls.export.meta_of_run import with_calibration_of
from cls.export.parity.check import Candidate, Verdict, judge
from cls.export.parity.compare import compare_with
from cls.export.parity.report import ParityReport, RefusedTry
from cls.export.parity.samples import Reference
from cls.files import sha256_of_file
from cls.package.keys import SigningKey
from cls.package.meta import ModelMeta, ParityMeta
from cls.package.packing import write_package
from cls.runtimes.open import open_classifier
from cls.wording import counted


@dataclass
class Making:
    """What came of the formats.

    Attributes:
        verdicts: of all of them, in the order they were made.
        steps: how they were made, where they could be.
    """

    verdicts: dict[Format, Verdict] = field(default_factory=dict)
    steps: dict[Format, Steps] = field(default_factory=dict)

    @property
    def passed(self) -> tuple[Format, ...]:
        """The formats that are proven; nothing is left of the files of the others."""
        return tuple(name for name, verdict in self.verdicts.items() if verdict.error is None)

    @property
    def refused(self) -> dict[Format, ClsError]:
        """The others, and why."""
        return {name: verdict.error for name, verdict in self.verdicts.items() if verdict.error is not None}


def make_all(
    conversions: Conversions,
    names: Sequence[Format],
    reference: Reference,
    bottle: Bottle,
    packing: Packing,
    page: Path,
) -> Making:
    """Makes formats and checks the parity of each.

    Args:
        conversions: makes the model files.
        names: the formats, `onnx` before those that are made from it.
        reference: what the trained network says.
        bottle: the data folder, with the limits.
        packing: makes the zips.
        page: the report that errors point to.
    """
    making = Making()
    for number, name in enumerate(names, 1):
        started_s = time.monotonic()
        where = f"{reference.trained.name}, {FILES[name].model}"
        if FILES[name].source is not None and "onnx" in making.refused:
            verdict = Verdict(
                None,
                ExportError(
                    "it is made from the float32 ONNX, which cannot be used",
                    code="source_failed",
                    where=where,
                    hint="see what is said of model.onnx",
                ),
            )
        else:
            _log.info("%s (%d of %d): converting", FILES[name].archive, number, len(names))
            verdict = _made(making, conversions, name, reference, bottle, packing, page, where)
        making.verdicts[name] = verdict
        how = "agrees with the trained network" if verdict.error is None else "is left out"
        _log.info("%s: %s (%.1f s)", FILES[name].archive, how, time.monotonic() - started_s)
        if verdict.error is not None:
            for file in (*FILES[name].files, FILES[name].archive):
                (packing.folder / file).unlink(missing_ok=True)
    return making


def _made(
    making: Making,
    conversions: Conversions,
    name: Format,
    reference: Reference,
    bottle: Bottle,
    packing: Packing,
    page: Path,
    where: str,
) -> Verdict:
    try:
        making.steps[name] = make_proven(conversions, name, reference, bottle, packing)
    except ClsError as error:
        return Verdict(None, _for_the_user(error, name, where, packing.folder))
    candidate = packing.candidate(name, conversions.source_of(name), making.steps[name])
    return judge(reference, candidate, bottle, bottle.settings.parity_limits[candidate.precision], page)


def _for_the_user(error: ClsError, name: Format, where: str, folder: Path) -> ExportError:
    """A converter's error without the paths of files in between, which are gone when it is read."""
    what = error.what.replace(f"{folder / WORK}/", "").replace(f"{folder}/", "")
    if error.where is not None and not error.where.startswith(str(folder)):
        where = f"{where}: {error.where}"
    hint = error.hint or f"leave out {name} in --formats, or run again with --debug to see all that the converter says"
    readable = ExportError(what, code=error.case, where=where, hint=hint)
    readable.__cause__ = error
    return readable


_log = logging.getLogger("cls.export")

# Shares of the layers left in float32, one try after another; beyond half of them little would be won.
KEPT_SHARES = {"fp32": (0.0,), "fp16": (0.0, 0.1, 0.25, 0.5), "int8": (0.0, 0.1, 0.25, 0.5)}


@dataclass(frozen=True)
class Steps:
    """How a format was made.

    Attributes:
        kept_in_float: the layers that stay in float32; none in a format that is float32 altogether.
        refused: the tries before it, with fewer such layers.
    """

    kept_in_float: tuple[str, ...] = ()
    refused: tuple[RefusedTry, ...] = ()


@dataclass(frozen=True)
class Packing:
    """Puts the formats that stand in a folder into their zips.

    Attributes:
        meta: what all formats say.
        folder: holds the model files under the names of `FILES`.
        carried: the ONNX that a plan's zip carries.
        people: `rebuild/samples.npz`, where people are carried along.
        signer: signs the zips that are kept; None: they are not signed.
    """

    meta: ModelMeta
    folder: Path
    carried: Callable[[Format], Path]
    people: bytes | None
    signer: SigningKey | None = None

    def write(
        self, name: Format, report: ParityReport | None = None, vectors: Mapping[str, bytes] | None = None
    ) -> Path:
        """Writes a format's zip; its meta.json speaks of this format alone, so that its bytes depend on it alone.

        Args:
            name: the format.
            report: how it compares, once it is proven; the calibration error in `metrics` is this format's, then.
            vectors: its conformance vectors.
        """
        files = FILES[name]
        digests = {inner: self._digest(file) for inner, file in zip(files.inner, files.files, strict=True)}
        archive = self.folder / files.archive
        packed = packed_model(name, self.folder, self.carried(name), self.people, vectors=vectors)
        meta = self._meta(digests, {} if report is None else {name: report.to_meta()})
        if report is not None:
            meta = meta.model_copy(update={"metrics": with_calibration_of(report, meta.metrics)})
        # Without a report it is a try, which nobody gets.
        write_package(archive, meta, packed, None if report is None else self.signer)
        return archive

    def candidate(self, name: Format, source: Path | None, steps: Steps) -> Candidate:
        """A format as the parity check takes it.

        Args:
            name: a format whose zip is written.
            source: the ONNX it was made from.
            steps: how it was made.
        """
        files = FILES[name]
        model_files = tuple(self.folder / file for file in files.files)
        archive = self.folder / files.archive
        return Candidate(name, files.precision, archive, model_files, source, steps.kept_in_float, steps.refused)

    def folder_meta(self, parity: Mapping[Format, ParityMeta]) -> ModelMeta:
        """What meta.json beside the zips says: of all formats with a parity report."""
        names = [file for name in parity for file in FILES[name].files]
        return self._meta({name: self._digest(name) for name in sorted(names)}, parity)

    def _meta(
        self, digests: Mapping[str, str], parity: Mapping[str, ParityMeta] | Mapping[Format, ParityMeta]
    ) -> ModelMeta:
        files = self.meta.digests.model_copy(update={"files": dict(digests)})
        return self.meta.model_copy(update={"digests": files, "parity": dict(parity)})

    def _digest(self, name: str) -> str:
        return sha256_of_file(self.folder / name)


def make_proven(
    conversions: Conversions, name: Format, reference: Reference, bottle: Bottle, packing: Packing
) -> Steps:
    """Makes a format and its zip, with as few layers in float32 as its limits allow.

    The last try stands, whether or not it keeps the limits: the parity check says what is wrong with it.

    Args:
        conversions: makes the model files.
        name: the format.
        reference: what the trained network says.
        bottle: the data folder, with the limits.
        packing: makes the zips.

    Raises:
        ExportError: the network cannot be converted.
    """
    precision = FILES[name].precision
    shares = KEPT_SHARES[precision]
    kept: tuple[str, ...] = ()
    refused: list[RefusedTry] = []
    for share in shares:
        kept = conversions.make(name, share)
        archive = packing.write(name)
        if share == shares[-1]:
            break
        try:
            converted = open_classifier(str(archive), bottle)
            faults = compare_with(
                reference, converted, precision=precision, limits=bottle.settings.parity_limits[precision]
            ).faults
        except (ParityError, PredictionError) as error:
            faults = (error.what,)
        if not faults:
            break
        refused.append(RefusedTry(len(kept), tuple(faults)))
        layers = counted(len(kept), "layer")
        _log.info("%s with %s in float32: %s; another try", FILES[name].model, layers, "; ".join(faults))
    return Steps(kept, tuple(refused))
