"""Opens a classifier from wherever it is: a package, a run, or a server."""

from __future__ import annotations

from pathlib import Path

from cls.bottle.layout import Bottle
from cls.errors import PackageError, PredictionError
from cls.package.archive import MODEL_NAMES, open_package
from cls.package.meta import META_FILE_NAME, ModelMeta, read_meta
from cls.prediction.local import OnnxRuntime, TorchRuntime, torchscript_runtime
from cls.prediction.runtime import Classifier, Runtime
from cls.prediction.served import ServedRuntime, parse_address

_KINDS = "a package (.zip, its folder, model.onnx), a run's folder or one of its models, or a served model's URL"


def open_classifier(model: str, bottle: Bottle, *, group: str | None = None) -> Classifier:
    """Opens a classifier.

    Args:
        model: a package's zip, its unpacked folder or the model.onnx in it; a training run's folder, or its ONNX,
            TorchScript or checkpoint file; `http://HOST:PORT/v2/models/NAME`, or `http://HOST:PORT` with a group.
        bottle: the data folder that runs belong to.
        group: names the model on a server when the URL does not.

    Raises:
        PredictionError: it is none of these, cannot be loaded, or cannot be reached.
        PackageError: the package is broken.
        BottleError: the run is not finished.
    """
    if model.startswith(("http://", "https://")):
        return _of_server(model, group)
    path = Path(model)
    if path.is_dir():
        return _of_folder(path, bottle)
    if not path.is_file():
        raise PredictionError("there is no such model", where=path, hint=f"give {_KINDS}")
    if path.suffix == ".zip":
        return _of_zip(path)
    if (path.parent / META_FILE_NAME).is_file() and path.suffix in (".onnx", ".plan"):
        return classifier_of_meta(read_meta(path.parent / META_FILE_NAME), runtime_of_file(path), path)
    if _is_run(path.parent.parent):
        return _of_run(path.parent.parent, path, bottle)
    if path.suffix in (".onnx", ".plan"):
        raise PackageError(f"lacks a {META_FILE_NAME} beside it", where=path, hint="keep the package together")
    raise PredictionError("is not a model that can be opened", where=path, hint=f"give {_KINDS}")


def open_exported(bottle: Bottle, group: str) -> Classifier:
    """The classifier that `cls export` made of a group.

    Raises:
        PredictionError: there is none.
        PackageError: it is broken.
    """
    folder = bottle.inference_model(group)
    if not (folder / META_FILE_NAME).is_file():
        raise PredictionError(
            f"group '{group}' has no exported model", where=folder, hint=f'run `cls export --group "{group}"` first'
        )
    return _of_folder(folder, bottle)


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
    )


def runtime_of_file(path: Path) -> Runtime:
    """What runs a model file.

    Raises:
        PredictionError: the file is not a model, or nothing here runs it.
    """
    if path.suffix == ".plan":
        from cls.prediction.tensorrt_runtime import TensorrtRuntime

        return TensorrtRuntime(path.read_bytes(), path)
    return OnnxRuntime(path.read_bytes(), path)


def _of_server(url: str, group: str | None) -> Classifier:
    address = parse_address(url, group)
    runtime = ServedRuntime(address)
    return classifier_of_meta(runtime.meta, runtime, address.url)


def _of_folder(folder: Path, bottle: Bottle) -> Classifier:
    if _is_run(folder):
        return _of_run(folder, None, bottle)
    models = [folder / name for name in MODEL_NAMES if (folder / name).is_file()]
    if not models or not (folder / META_FILE_NAME).is_file():
        raise PredictionError("holds neither a package nor a finished run", where=folder, hint=f"give {_KINDS}")
    return classifier_of_meta(read_meta(folder / META_FILE_NAME), runtime_of_file(models[0]), models[0])


def _of_zip(path: Path) -> Classifier:
    with open_package(path) as package:
        meta = package.meta()
        content = package.read(package.model_name)
    runtime: Runtime
    if package.model_name == "model.plan":
        from cls.prediction.tensorrt_runtime import TensorrtRuntime

        runtime = TensorrtRuntime(content, path)
    else:
        runtime = OnnxRuntime(content, path, input_name=meta.inputs[0].name, output_name=meta.outputs[0].name)
    return classifier_of_meta(meta, runtime, path)


def _is_run(folder: Path) -> bool:
    return (folder / "args.yaml").is_file() and (folder / "checkpoints").is_dir()


def _of_run(folder: Path, file: Path | None, bottle: Bottle) -> Classifier:
    """A run by its folder (the kept checkpoint), or by one of its model files."""
    from cls.training.checkpoint import load_network
    from cls.training.run import open_run
    from cls.training.run_folder import FINISHED

    if not (folder / FINISHED).is_file():
        raise PredictionError("the run is not finished", where=folder, hint="finish it with `cls train`")
    run = open_run(bottle, folder)
    size = run.preprocessing
    runtime: Runtime
    if file is None or file.suffix == ".ckpt":
        network = load_network(file or run.checkpoint, run.arch, len(run.labels), size.height_px, size.width_px)
        runtime = TorchRuntime(network)
    elif file.suffix == ".onnx":
        runtime = OnnxRuntime(file.read_bytes(), file)
    elif file.suffix == ".pt":
        runtime = torchscript_runtime(file)
    else:
        raise PredictionError("is not a model that can be opened", where=file, hint=f"give {_KINDS}")
    return Classifier(run.group, run.name, run.labels, run.thresholds, run.preprocessing, runtime, str(file or folder))
