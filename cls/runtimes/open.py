"""Opens a classifier from wherever it is: a package, a run, or a server."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cls.bottle.layout import Bottle
from cls.errors import ClsError, PackageError, PackageFault, PredictionError, SignatureError
from cls.package.archive import MODEL_NAMES, open_package
from cls.package.keys import TrustedKeys
from cls.package.meta import META_FILE_NAME, ModelMeta, read_meta
from cls.package.model_name import is_model_of_group, model_name_of_group
from cls.package.plans import HEADER_BYTES, refuse_foreign_plan, this_machine
from cls.package.vectors import has_vectors, read_vectors
from cls.package.verifying import Verification, refuse_foreign_files, verify_zip
from cls.runtimes.classifier import Classifier, Runtime
from cls.runtimes.conformance import check_vectors
from cls.runtimes.local import (
    OnnxRuntime,
    TorchRuntime,
    available_cores,
    torchscript_runtime,
    why_no_openvino,
    why_no_tensorrt,
)
from cls.runtimes.served_runtime import SERVED_SCHEMES, ServedAddress, open_served, parse_address
from cls.wording import counted

if TYPE_CHECKING:
    from cls.training.runs.run import FinishedRun

_log = logging.getLogger("cls.prediction")

_BATCHES = (1, 3)

_KINDS = (
    "a package (.zip, its folder, model.onnx, model.xml, model.pt), a run's folder or one of its models,"
    " or a served model's URL"
)
_TOGETHER = "keep the package together"
_MODEL_SUFFIXES = tuple(Path(name).suffix for name in MODEL_NAMES)

# By the suffix of a model file in a package's folder: what its zip is called after.
_ZIP_KINDS = {".onnx": "onnx", ".plan": "trt", ".pt": "torchscript", ".xml": "openvino"}
_SIGNED_HINT = "give the package's zip, or leave out --trust (`package_trust` in the configuration)"


def try_package(found: Verification, trust: TrustedKeys | None = None) -> None:
    """Opens a package and runs grey pictures through it; enters whether it runs, which says nothing of how well.

    Args:
        found: of `verify_zip`, without problems.
        trust: keys of which one must have signed it; None: signatures are not checked.
    """
    with open_package(found.path, trust=trust) as package:
        model_name = package.model_name
        vectors = read_vectors(package, package.meta()) if has_vectors(package) else None
    reason = why_not_run(model_name)
    if reason is not None:
        found.not_checked.append(f"{model_name} was not run: {reason}")
        return
    try:
        classifier = open_verified_zip(found.path, trust)
        size = classifier.preprocessing
        for batch in _BATCHES:
            classifier.probabilities(np.full((batch, size.height_px, size.width_px, 3), 127, np.uint8), batch=batch)
        results = [] if vectors is None else check_vectors(classifier, vectors)
    except ClsError as error:
        found.problems.append(PackageFault.of(error, f"{model_name} cannot be run:"))
    else:
        batches = " and ".join(str(batch) for batch in _BATCHES)
        missed = [result.name for result in results if not result.is_met]
        if missed:
            what = f"conformance vectors are not met: {', '.join(missed)}; see cls package vectors"
            found.problems.append(PackageFault(what, code="vectors_failed"))
        elif results:
            found.checked.append(f"{counted(len(results), 'conformance vector')} met, from photo to probabilities")
        found.checked.append(f"{model_name} answers at batch {batches} in {classifier.runtime.description}")


def why_not_run(model_name: str) -> str | None:
    """Why a model file cannot be run on this machine; None when it can."""
    suffix = Path(model_name).suffix
    if suffix == ".plan":
        return why_no_tensorrt()
    return why_no_openvino() if suffix == ".xml" else None


def check_group(classifier: Classifier, group: str | None, *, is_of_photos: bool = False) -> None:
    """Holds an opened model against the group that was named with it.

    Args:
        classifier: what was opened.
        group: what the caller named; None: nothing.
        is_of_photos: the group selects the photos to predict. Any model may predict them, so one of another group is
            used with a warning.
    """
    if group is None or classifier.group == group:
        return
    if not is_of_photos:
        raise PredictionError(
            f"the model is of group '{classifier.group}', and group '{group}' was asked for",
            code="wrong_group",
            where=classifier.source,
            hint=f"give the model of '{group}', or name the group '{classifier.group}'",
        )
    _log.warning("the model is of group '%s', and looks at the photos of group '%s'", classifier.group, group)


def check_served_name(classifier: Classifier, address: ServedAddress, group: str | None) -> None:
    """Holds a served model against the name it is served under.

    Args:
        classifier: what was opened.
        address: where it is served.
        group: what the caller named; None: nothing.
    """
    if classifier.group != group and address.is_of_group:
        raise PredictionError(
            f"the model served as '{address.model}' is of group '{classifier.group}',"
            f" and group '{group}' was asked for",
            code="wrong_group",
            where=classifier.source,
            hint=f"publish that of '{group}' there, or give this one by its whole address, {address.url}",
        )
    # On other people's servers models may have any name. `check_group` reports a group other than the caller's.
    if group in (None, classifier.group) and not is_model_of_group(address.model, classifier.group):
        _log.warning(
            "the model served as '%s' is of group '%s', whose model would be '%s'",
            address.model,
            classifier.group,
            model_name_of_group(classifier.group),
        )


def open_classifier(
    model: str,
    bottle: Bottle,
    *,
    group: str | None = None,
    is_group_of_photos: bool = False,
    trust: TrustedKeys | None = None,
) -> Classifier:
    """Opens a classifier. Of a package, every file is held against meta.json first: nothing decides by others' labels.

    With `trust`, nothing is opened but what one of the keys signed: a package's zip, or the zip in a package's folder;
    the signature is checked before anything else of the package is read, on the very bytes that are then run.

    Args:
        model: a package's zip, its unpacked folder or a model file in it (ONNX, TorchScript, OpenVINO's .xml, TensorRT
            plan); a training run's folder, or its ONNX, TorchScript or checkpoint file;
            `http://HOST:PORT/v2/models/NAME` or `grpc://HOST:PORT/NAME`, or without the name, with a group.
        bottle: the data folder that runs belong to.
        group: what the model must be of; also names the model on a server when the URL does not.
        is_group_of_photos: the group says which photos the model is for, so one of another group is used, with a
            warning; unless it was found by the group's name.
        trust: keys of which one must have signed it; None: signatures are not checked.

    Raises:
        SignatureError: no such key signed it, it was changed since, or it is nothing that can be signed.
        PredictionError: it is none of these, cannot be loaded, cannot be reached, or is of another group.
        PackageError: the package is broken or contradicts itself, or its plan was built for another GPU or TensorRT.
        BottleError: the run is not finished.
    """
    if model.startswith(SERVED_SCHEMES):
        if trust is not None:
            raise SignatureError(
                "what a server answers is not signed", code="unsupported_source", where=model, hint=_SIGNED_HINT
            )
        classifier = _of_server(model, group, bottle)
    else:
        classifier = _of_path(Path(model), bottle, trust)
    check_group(classifier, group, is_of_photos=is_group_of_photos)
    return classifier


def open_verified_zip(path: Path, trust: TrustedKeys | None = None) -> Classifier:
    """Opens a package's zip that the caller has verified; see `open_classifier`."""
    return _of_zip(path, trust, is_verified=True)


def _of_path(path: Path, bottle: Bottle, trust: TrustedKeys | None) -> Classifier:
    if path.is_dir():
        return _of_folder(path, bottle, trust)
    if not path.is_file():
        raise PredictionError("there is no such model", code="not_found", where=path, hint=f"give {_KINDS}")
    if path.suffix == ".zip":
        return _of_zip(path, trust, is_verified=False)
    if trust is not None:
        raise SignatureError(
            "is not a package's zip, and nothing else is signed",
            code="unsupported_source",
            where=path,
            hint=_SIGNED_HINT,
        )
    if (path.parent / META_FILE_NAME).is_file() and path.suffix in _MODEL_SUFFIXES:
        return _of_package_file(path)
    if _is_run(path.parent.parent):
        return _of_run(path.parent.parent, path, bottle)
    if path.suffix in _MODEL_SUFFIXES:
        raise PackageError(f"lacks a {META_FILE_NAME} beside it", code="missing_file", where=path, hint=_TOGETHER)
    raise PredictionError(
        "is not a model that can be opened", code="unsupported_model", where=path, hint=f"give {_KINDS}"
    )


def open_exported(bottle: Bottle, group: str, trust: TrustedKeys | None = None) -> Classifier:
    """The classifier that `cls export` made of a group.

    Args:
        bottle: the data folder.
        group: the group.
        trust: see `open_classifier`.

    Raises:
        SignatureError: a signature is asked for, and its zip has no good one.
        PredictionError: there is none, or another group's lies there.
        PackageError: it is broken.
    """
    folder = bottle.inference_model(group)
    if not (folder / META_FILE_NAME).is_file():
        raise PredictionError(
            f"group '{group}' has no exported model",
            code="not_exported",
            where=folder,
            hint=f'run `cls export --group "{group}"` first',
        )
    classifier = _of_folder(folder, bottle, trust)
    check_group(classifier, group)
    return classifier


def classifier_of_meta(meta: ModelMeta, runtime: Runtime, source: object) -> Classifier:
    """A classifier as a meta.json describes it."""
    return Classifier(
        group=meta.group,
        name=meta.training.run,
        labels=meta.labels,
        thresholds=meta.threshold_values,
        preprocessing=meta.preprocessing_object(),
        runtime=runtime,
        source=str(source),
        is_end_to_end=meta.is_end_to_end,
        weights_sha256=meta.digests.weights,
        version=meta.model_version or "",
    )


def runtime_of_file(path: Path, meta: ModelMeta) -> Runtime:
    """What runs a package's model file; the weights of an .xml stand beside it.

    Args:
        path: model.onnx, model.pt, model.xml or model.plan.
        meta: the package's meta.json, which names input and output.
    """
    weights = path.with_suffix(".bin")
    if path.suffix == ".xml" and not weights.is_file():
        raise PredictionError(
            f"lacks its weights, {weights.name}, beside it", code="missing_weights", where=path, hint=_TOGETHER
        )
    return _runtime(path.suffix, path.read_bytes(), lambda: weights.read_bytes(), path, meta)


def _runtime(suffix: str, content: bytes, weights: Callable[[], bytes], source: Path, meta: ModelMeta) -> Runtime:
    """What runs the bytes of a model file of this suffix."""
    names = {"input_name": meta.inputs[0].name, "output_name": meta.outputs[0].name}
    if suffix == ".plan":
        from cls.runtimes.local import TensorrtRuntime

        plan = meta.package.plan if meta.package else None
        refuse_foreign_plan(plan, content[:HEADER_BYTES], this_machine(), source)
        return TensorrtRuntime(content, source)
    if suffix == ".xml":
        from cls.runtimes.local import OpenvinoRuntime

        return OpenvinoRuntime((content, weights()), source, threads=available_cores(), **names)
    if suffix == ".pt":
        return torchscript_runtime(source, content)
    return OnnxRuntime(content, source, **names)


def _of_server(url: str, group: str | None, bottle: Bottle) -> Classifier:
    address = parse_address(url, group)
    runtime = open_served(address, bottle.settings)
    classifier = classifier_of_meta(runtime.meta, runtime, runtime.url)
    check_served_name(classifier, address, group)
    return classifier


def _of_folder(folder: Path, bottle: Bottle, trust: TrustedKeys | None) -> Classifier:
    if _is_run(folder):
        if trust is not None:
            raise SignatureError(
                "is a training run, which is not signed", code="unsupported_source", where=folder, hint=_SIGNED_HINT
            )
        return _of_run(folder, None, bottle)
    named = [folder / name for name in MODEL_NAMES]
    # A package of other precisions alone holds model_fp16.onnx and the like.
    others = sorted(path for path in folder.glob("model_*") if path.suffix in _MODEL_SUFFIXES)
    models = [path for path in (*named, *others) if path.is_file()]
    if not models or not (folder / META_FILE_NAME).is_file():
        raise PredictionError(
            "holds neither a package nor a finished run", code="no_model", where=folder, hint=f"give {_KINDS}"
        )
    if trust is None:
        return _of_package_file(models[0])
    # Files of a folder are not signed, and its meta.json describes several zips: the zip has all that is needed.
    zip_path = folder / f"model_{_ZIP_KINDS[models[0].suffix]}{models[0].stem.removeprefix('model')}.zip"
    if not zip_path.is_file():
        hint = "give the signed zip that the files came in"
        raise SignatureError(
            f"holds no {zip_path.name}, and its files are not signed",
            code="unsupported_source",
            where=folder,
            hint=hint,
        )
    return _of_zip(zip_path, trust, is_verified=False)


def _of_package_file(path: Path) -> Classifier:
    meta = read_meta(path.parent / META_FILE_NAME)
    refuse_foreign_files(path, meta)
    return classifier_of_meta(meta, runtime_of_file(path, meta), path)


def _of_zip(path: Path, trust: TrustedKeys | None, *, is_verified: bool) -> Classifier:
    if not is_verified:
        verify_zip(path, trust=trust).raise_if_bad()
    with open_package(path, trust=trust) as package:
        meta = package.meta()
        name = Path(package.model_name)
        content = package.read(package.model_name)
        runtime = _runtime(name.suffix, content, lambda: package.read(name.with_suffix(".bin").name), path, meta)
    return classifier_of_meta(meta, runtime, path)


def _is_run(folder: Path) -> bool:
    return (folder / "args.yaml").is_file() and (folder / "checkpoints").is_dir()


def _of_run(folder: Path, file: Path | None, bottle: Bottle) -> Classifier:
    """A run by its folder (the kept checkpoint), or by one of its model files."""
    from cls.training.runs.folder import FINISHED
    from cls.training.runs.run import open_run

    if not (folder / FINISHED).is_file():
        raise PredictionError(
            "the run is not finished", code="unfinished_run", where=folder, hint="finish it with `cls train`"
        )
    run = open_run(bottle, folder)
    if file is None:
        return classifier_of_run(run)
    runtime: Runtime
    if file.suffix == ".ckpt":
        runtime = TorchRuntime(run.load_network(file))
    elif file.suffix == ".onnx":
        runtime = OnnxRuntime(file.read_bytes(), file)
    elif file.suffix == ".pt":
        runtime = torchscript_runtime(file)
    else:
        raise PredictionError(
            "is not a model that can be opened", code="unsupported_model", where=file, hint=f"give {_KINDS}"
        )
    return classifier_of_run(run, runtime, file)


def classifier_of_run(run: FinishedRun, runtime: Runtime | None = None, source: Path | None = None) -> Classifier:
    """A network with a run's labels and thresholds: by default the run's own as it was trained."""
    runtime, source = runtime or TorchRuntime(run.load_network()), source or run.folder
    return Classifier(run.group, run.name, run.labels, run.thresholds, run.preprocessing, runtime, str(source))
