"""The zips of an export: model files, meta.json, conformance vectors, and what `cls package rebuild` starts from."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cls.bottle.layout import Bottle
from cls.errors import PredictionError
from cls.exporting.formats.files import FILES, Format
from cls.exporting.formats.tensorrt import gpu_in_use
from cls.exporting.meta_of_run import with_calibration_of
from cls.exporting.parity.report import ParityReport
from cls.exporting.parity.samples import Reference
from cls.files import sha256_of_file
from cls.package.keys import SigningKey
from cls.package.meta import META_FILE_NAME, ModelMeta, ParityMeta, PlanMeta, write_meta
from cls.package.packing import (
    REBUILD_ONNX,
    REBUILD_SAMPLES,
    CarriedSamples,
    PackedModel,
    samples_as_bytes,
    write_package,
)
from cls.package.plans import HEADER_BYTES, version_in_plan
from cls.package.vectors import vectors_as_files
from cls.runtimes.conformance import make_vectors
from cls.runtimes.local import tensorrt_module
from cls.runtimes.open import open_classifier

_log = logging.getLogger("cls.exporting")


@dataclass(frozen=True)
class PackageWriter:
    """Puts the formats whose model files are in a folder into zips.

    A plan's zip carries the ONNX, since plans are made where they are served; people are carried by the zips that
    `cls package rebuild` starts from, the ONNX's and the plans'. A package that was rebuilt carries what it was rebuilt
    from, so that it can be again.

    Attributes:
        bottle: the data folder, whose limits say how far answers may vary from machine to machine.
        folder: holds the model files under the names of `FILES`.
        meta: what all formats say.
        onnx_of: the ONNX from which a plan is made on the machine that serves it: float32, or 8-bit.
        people: carried along as `rebuild/samples.npz`; None: nobody is.
        signer: signs the zips that are kept; None: they are not signed.
        is_rebuilding: whether `cls package rebuild` makes the packages.
    """

    bottle: Bottle
    folder: Path
    meta: ModelMeta
    onnx_of: Callable[[Format], Path]
    people: CarriedSamples | None = None
    signer: SigningKey | None = None
    is_rebuilding: bool = False

    def write_unchecked(self, name: Format) -> Path:
        """Writes the zip of a format for the parity check; nobody else gets it."""
        archive = self.folder / FILES[name].archive
        write_package(archive, self._meta_of_zip(name), self._packed(name))
        return archive

    def write_checked(self, name: Format, report: ParityReport, archive: Path | None = None) -> ModelMeta:
        """Writes the zip of a format that passed; its meta.json describes this format alone.

        Args:
            name: a format whose unproven zip is there.
            report: how it compares; the calibration error in `metrics` is this format's.
            archive: the zip to write; the format's in the folder when not given.
        """
        meta = self._meta_of_zip(name)
        parity = {**meta.parity, name: report.to_meta()}
        meta = meta.model_copy(update={"parity": parity, "metrics": with_calibration_of(report, meta.metrics)})
        archive = archive or self.folder / FILES[name].archive
        return write_package(archive, meta, self._packed(name, self._vectors(name)), self.signer)

    def write_folder_meta(self, parity: Mapping[Format, ParityMeta]) -> ModelMeta:
        """Writes meta.json beside the zips, of all formats that have a parity report."""
        files = sorted(file for name in parity for file in FILES[name].files)
        meta = self._with_digests({file: self.folder / file for file in files})
        meta = meta.model_copy(update={"parity": dict(parity)})
        write_meta(self.folder / META_FILE_NAME, meta)
        return meta

    def remove(self, name: Format) -> None:
        """Removes what was made of a format."""
        for file in (*FILES[name].files, FILES[name].archive):
            (self.folder / file).unlink(missing_ok=True)

    def _meta_of_zip(self, name: Format) -> ModelMeta:
        files = FILES[name]
        return self._with_digests(
            {inner: self.folder / file for inner, file in zip(files.inner, files.files, strict=True)}
        )

    def _with_digests(self, files: Mapping[str, Path]) -> ModelMeta:
        digests = {name: sha256_of_file(file) for name, file in files.items()}
        return self.meta.model_copy(update={"digests": self.meta.digests.model_copy(update={"files": digests})})

    def _packed(self, name: Format, vectors: Mapping[str, bytes] | None = None) -> PackedModel:
        files = FILES[name]
        contents: dict[str, Path | bytes] = {
            inner: self.folder / file for inner, file in zip(files.inner, files.files, strict=True)
        }
        is_plan = files.platform == "tensorrt_plan"
        if (is_plan or self.is_rebuilding) and name != "onnx":
            contents[REBUILD_ONNX] = self.onnx_of(name)
        if self.people is not None and (is_plan or self.is_rebuilding or name == "onnx"):
            contents[REBUILD_SAMPLES] = samples_as_bytes(self.people)
        contents |= vectors or {}
        return PackedModel(
            name, files.platform, contents, _plan_of_this_gpu(self.folder / files.model) if is_plan else None
        )

    def _vectors(self, name: Format) -> dict[str, bytes]:
        return vectors_of_zip(name, self.folder / FILES[name].archive, self.bottle)


def vectors_of_zip(name: Format, archive: Path, bottle: Bottle) -> dict[str, bytes]:
    """What the model in a zip answers to drawn photos: the files of `vectors/`; none where it has no answer to them."""
    limit = bottle.settings.parity_limits[FILES[name].precision].batch
    classifier = open_classifier(str(archive), bottle)
    try:
        vectors = make_vectors(classifier, 1.0 if limit is None else limit)
    except PredictionError as error:
        # It is proven on people; one drawn photo that overflows half precision is no reason to lose every format.
        _log.warning("%s carries no conformance vectors: %s", archive.name, error.what)
        return {}
    return vectors_as_files(vectors)


def people_to_carry(reference: Reference, count: int, *, seed: int = 0) -> CarriedSamples:
    """Some of the people an export is proven on, chosen by a seed; all of them where there are fewer."""
    chosen = np.random.default_rng(seed).choice(len(reference), min(count, len(reference)), replace=False)
    order = np.sort(chosen)
    return CarriedSamples(
        crops_rgb=reference.crops_rgb[order],
        # The last bits depend on the number of threads: rounded, the zip is the same on every machine.
        probabilities=np.round(reference.probs[order], 6),
        truth=reference.truth[order].astype(np.float32),
        labels=tuple(reference.trained.labels),
    )


def _plan_of_this_gpu(plan: Path) -> PlanMeta:
    """What a plan that was built just now, on this machine's GPU, needs to run."""
    with plan.open("rb") as source:
        version = version_in_plan(source.read(HEADER_BYTES), plan)
    gpu = gpu_in_use()
    return PlanMeta(
        tensorrt_version=version or str(tensorrt_module().__version__),
        gpu=gpu.name,
        compute_capability=gpu.compute_capability,
    )
