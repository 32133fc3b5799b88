"""What of a format goes into its zip: the model, and what is needed to make it again elsewhere."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from cls.bottle.layout import Bottle
from cls.errors import PredictionError
from cls.export.formats.files import FILES, Format
from cls.export.formats.tensorrt import gpu_in_use
from cls.export.parity.samples import Reference
from cls.package.carried import CarriedSamples
from cls.package.meta import PlanMeta
from cls.package.packing import REBUILD_ONNX, REBUILD_SAMPLES, PackedModel
from cls.package.plans import HEADER_BYTES, version_in_plan
from cls.package.vectors import vectors_as_files
from cls.runtimes.conformance import make_vectors
from cls.runtimes.open import open_classifier
from cls.runtimes.tensorrt import tensorrt_module

_log = logging.getLogger("cls.export")


def packed_model(
    name: Format,
    folder: Path,
    onnx: Path,
    samples: bytes | None = None,
    *,
    is_rebuilt: bool = False,
    vectors: Mapping[str, bytes] | None = None,
) -> PackedModel:
    """The files of one format.

    A plan's zip carries the ONNX, since plans are made where they are served; people are carried by the zips that
    `cls package rebuild` starts from, the ONNX's and the plans'. A package that was rebuilt carries what it was rebuilt
    from, so that it can be again.

    Args:
        name: the format.
        folder: holds its files under the names of `FILES`.
        onnx: what a plan is made from on the machine that serves it: the float32 ONNX, or an 8-bit one.
        samples: `rebuild/samples.npz`, where people are carried along.
        is_rebuilt: whether `cls package rebuild` makes it.
        vectors: of `vectors_of_zip`, once the model is proven.
    """
    files = FILES[name]
    contents: dict[str, Path | bytes] = {
        inner: folder / file for inner, file in zip(files.inner, files.files, strict=True)
    }
    is_plan = files.platform == "tensorrt_plan"
    if (is_plan or is_rebuilt) and name != "onnx":
        contents[REBUILD_ONNX] = onnx
    if samples is not None and (is_plan or is_rebuilt or name == "onnx"):
        contents[REBUILD_SAMPLES] = samples
    contents |= vectors or {}
    return PackedModel(name, files.platform, contents, plan_of_this_gpu(folder / files.model) if is_plan else None)


def vectors_of_zip(name: Format, archive: Path, bottle: Bottle) -> dict[str, bytes]:
    """What the model in a zip answers to drawn photos: the files of `vectors/`; none where it has no answer to them.

    Args:
        name: the format.
        archive: the zip, still without vectors.
        bottle: the data folder, whose limits say how far a model's answers may vary from machine to machine.
    """
    limit = bottle.settings.parity_limits[FILES[name].precision].batch
    classifier = open_classifier(str(archive), bottle)
    try:
        vectors = make_vectors(classifier, 1.0 if limit is None else limit)
    except PredictionError as error:
        # It is proven on people; one drawn photo that overflows half precision is no reason to lose every format.
        _log.warning("%s carries no conformance vectors: %s", archive.name, error.what)
        return {}
    return vectors_as_files(vectors)


def plan_of_this_gpu(plan: Path) -> PlanMeta:
    """What a plan that was built just now, on this machine's GPU, needs to run."""
    with plan.open("rb") as source:
        version = version_in_plan(source.read(HEADER_BYTES), plan)
    gpu = gpu_in_use()
    return PlanMeta(
        tensorrt_version=version or str(tensorrt_module().__version__),
        gpu=gpu.name,
        compute_capability=gpu.compute_capability,
    )


def people_to_carry(reference: Reference, count: int, *, seed: int = 0) -> CarriedSamples:
    """Some of the people an export is proven on, chosen by a seed; all of them where there are fewer.

    Args:
        reference: the people, and what the trained network says of them.
        count: how many, at least 1.
        seed: of the choice.
    """
    chosen = np.random.default_rng(seed).choice(len(reference), min(count, len(reference)), replace=False)
    order = np.sort(chosen)
    return CarriedSamples(
        crops_rgb=reference.crops_rgb[order],
        # The last bits depend on the number of threads: rounded, the zip is the same on every machine.
        probabilities=np.round(reference.probs[order], 6),
        truth=reference.truth[order].astype(np.float32),
        labels=tuple(reference.trained.labels),
    )
