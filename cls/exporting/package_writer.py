"""Model files of a run as packages: zips with meta.json, conformance vectors and signature."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from cls.bottle.layout import Bottle
from cls.bottle.ledger import digests_of_models
from cls.errors import PredictionError
from cls.exporting.formats.files import FILES, Format
from cls.exporting.formats.tensorrt import gpu_in_use
from cls.exporting.parity.report import ParityReport
from cls.exporting.parity.results import CALIBRATION_MEASURES
from cls.exporting.parity.samples import Reference
from cls.files import sha256_of_file
from cls.metrics.scores import Measures, Metrics
from cls.package.keys import SigningKey
from cls.package.meta import (
    END_TO_END_OUTPUT_NAME,
    INPUT_NAME,
    META_FILE_NAME,
    OUTPUT_NAME,
    SCHEMA_VERSION,
    ModelMeta,
    ParityMeta,
    PlanMeta,
    parse_meta,
    write_meta,
)
from cls.package.packing import (
    REBUILD_ONNX,
    REBUILD_SAMPLES,
    CarriedSamples,
    PackedModel,
    samples_as_bytes,
    write_package,
)
from cls.package.plans import HEADER_BYTES, version_in_plan
from cls.package.processing_steps import steps_of
from cls.package.vectors import vectors_as_files
from cls.runtimes.conformance import make_vectors
from cls.runtimes.local import tensorrt_module
from cls.runtimes.open import open_classifier

if TYPE_CHECKING:
    from cls.exporting.parity.report import ParityReport
    from cls.training.runs.run import FinishedRun

_log = logging.getLogger("cls.exporting")


_Measures = TypeVar("_Measures", bound=Measures)

# Keys of metrics.json that have a place of their own in meta.json.
_SAID_ELSEWHERE = {
    "labels", "thresholds", "dataset_sha256", "split_sha256", "weights_sha256", "segmentation_models",
    "code_version", "finished",
}  # fmt: skip
# How the training went; that is in the run's own report.
_OF_THE_RUN = {"history", "seconds", "run_seconds", "waiting_share"}


def meta_of_run(run: FinishedRun, segments: Path, *, is_end_to_end: bool = False) -> ModelMeta:
    """The metadata of a package, without the parity reports and model files.

    Nothing in it depends on when or where the export runs: the same run of the same bottle gives the same text.

    Args:
        run: a finished run.
        segments: the bottle's segments folder, which knows the files of the segmentation models.
        is_end_to_end: preprocessing and activation are inside the network.
    """
    size = (run.preprocessing.height_px, run.preprocessing.width_px)
    datatype, shape, answered = "FP32", [-1, 3, *size], OUTPUT_NAME
    if is_end_to_end:
        datatype, shape, answered = "UINT8", [-1, -1, -1, 3], END_TO_END_OUTPUT_NAME
    steps = steps_of(
        is_end_to_end=is_end_to_end,
        is_background_kept=run.preprocessing.is_background_kept,
        version=run.preprocessing.version,
    )
    return parse_meta(
        {
            "schema_version": SCHEMA_VERSION,
            "group": run.group,
            "labels": list(run.labels),
            "thresholds": dict(zip(run.labels, run.thresholds, strict=True)),
            "activation": "sigmoid",
            "steps": steps.model_dump(mode="json"),
            # In words, for people who use the package without this code; the numbers stand under `preprocessing`.
            "person": {
                "source": "outline by instance segmentation of the photo as displayed (EXIF orientation applied)",
                "frame": (
                    "box around the outline's points (the segmentation's box where there is no outline), widened on"
                    f" each side by {run.preprocessing.margin_rel:g} of its longer side, rounded outwards to whole"
                    " pixels, cut off at the photo's edge"
                ),
                "background": run.preprocessing.to_dict()["background"],
                "segmentation_models": list(run.metrics.segmentation_models),
            },
            "preprocessing": run.preprocessing.to_dict(),
            "inputs": [{"name": INPUT_NAME, "datatype": datatype, "shape": shape}],
            "outputs": [{"name": answered, "datatype": "FP32", "shape": [-1, len(run.labels)]}],
            "metrics": run.metrics.model_dump(mode="json", exclude_unset=True, exclude=_SAID_ELSEWHERE | _OF_THE_RUN),
            "parity": {},
            "digests": {
                "dataset": run.metrics.dataset_sha256,
                "split": run.metrics.split_sha256,
                "weights": run.metrics.weights_sha256,
                "files": {},
                "segmentation_models": digests_of_models(segments, run.metrics.segmentation_models),
            },
            "training": {"run": run.name, "arch": run.arch, "arguments": _plain(run.args.as_read)},
            "code_version": run.metrics.code_version or run.args.code_version,
            "created_at": _ended_at(run),
        },
        where=run.folder,
    )


def with_calibration_of(report: ParityReport, meta: ModelMeta) -> ModelMeta:
    """The metadata with the calibration errors of one format's own answers in the place of the trained network's.

    Where the format was asked about other people than those that were validated on, they are left out instead: what is
    there would be the trained network's.
    """
    validation = meta.validation
    if validation is None:
        return meta
    is_same = report.part == "validation" and report.samples == validation.samples
    own = report.calibration if is_same else Metrics()
    changed = validation.replaced(
        macro=_calibrated(validation.macro, own.macro),
        micro=_calibrated(validation.micro, own.micro),
        labels={label: _calibrated(values, own.labels.get(label)) for label, values in validation.labels.items()},
    )
    return meta.model_copy(update={"metrics": {**meta.metrics, "validation": changed.to_json_values()}})


def _calibrated(values: _Measures, own: Measures | None) -> _Measures:
    known, found = values.to_json_values(), {} if own is None else own.to_json_values()
    kept = {
        key: found.get(key, value) for key, value in known.items() if key not in CALIBRATION_MEASURES or key in found
    }
    return type(values).model_validate(kept)


def _plain(value: Any) -> Any:
    """YAML's values as JSON's: dates become text, numbers that JSON does not know become null."""
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _ended_at(run: FinishedRun) -> str:
    """When the training ended, in UTC: as metrics.json says, else the file's own time."""
    try:
        ended = datetime.fromisoformat(run.metrics.finished).astimezone(UTC)
    except ValueError:
        ended = datetime.fromtimestamp((run.folder / "metrics.json").stat().st_mtime, UTC)
    return ended.replace(microsecond=0).isoformat().replace("+00:00", "Z")


@dataclass(frozen=True)
class PackageWriter:
    """Puts the formats whose model files are in a folder into zips.

    A plan's zip carries the ONNX, since plans are made where they are served; people are carried by the zips that
    `cls package rebuild` starts from, the ONNX's and the plans'. A package that was rebuilt carries what it was rebuilt
    from, so that it can be again.

    Attributes:
        bottle: the data folder, whose limits say how far answers may vary from machine to machine.
        folder: holds the model files under the names of `FILES`.
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
        meta = with_calibration_of(report, self._meta_of_zip(name))
        meta = meta.model_copy(update={"parity": {**meta.parity, name: report.to_meta()}})
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
