"""Is an uploaded zip a package that can be served? All that can be found out before the repository is touched."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from cls.errors import FileError, PackageError, PackageFault, first_line
from cls.files import write_json_atomic, write_text_atomic
from cls.model_storage.inference.tensors import batch_of_zeros, open_session
from cls.model_storage.names import RefusedError, SemanticVersion
from cls.model_storage.repository import UPLOAD_FILE_NAME, StoredVersion, UploadRecord
from cls.package.archive import open_package
from cls.package.meta import META_FILE_NAME, MetaDocument, ModelMeta, PlanMeta, parse_meta, read_meta
from cls.package.model_name import is_model_of_group, model_name_of_group
from cls.package.onnx_file import external_weights, read_onnx
from cls.package.packing import REBUILD_SAMPLES, VECTORS_FOLDER
from cls.package.plans import HEADER_BYTES, PlanHost, refuse_foreign_plan
from cls.package.triton_config import (
    CONFIG_FILE_NAME,
    META_PARAMETER,
    MODEL_FILE_NAMES,
    TritonConfig,
    parse_config,
    with_meta,
)
from cls.package.verifying import verify_zip
from cls.wording import counted


def refuse_other_group(model: str, group: str | None, stored: Iterable[StoredVersion]) -> None:
    """Refuses a package of another group than the model's, whose clients rely on the labels it has answered so far.

    The group that a model is named after can always be published, also where versions of another one came first.

    Args:
        model: name of the model's folder.
        group: the package's; None where it does not say.
        stored: the model's versions.

    Raises:
        RefusedError: 422, it is of another one.
    """
    groups = _groups_of(model, stored)
    if group is None or not groups or group in groups or is_model_of_group(model, group):
        return
    raise RefusedError(
        422,
        f"the package is of group {group!r}, and model {model!r} is of group {_listed(groups)}",
        code="wrong_group",
        hint=f"send it as model {model_name_of_group(group)!r}, or send the package of the right group",
    )


def refuse_misplaced_version(model: str, number: int, stored: Iterable[StoredVersion]) -> None:
    """Refuses to serve a version of another group, stored under the name of a group that has come since.

    Raises:
        RefusedError: 422, it is one.
    """
    versions = tuple(stored)
    groups = _groups_of(model, versions)
    group = next((version.group for version in versions if version.number == number), None)
    if group is not None and group not in groups:
        raise RefusedError(
            422,
            f"version folder {number} of {model} is of group {group!r}, and the model is of group {_listed(groups)}:"
            " what was served stays",
            code="wrong_group",
            hint=f"publish that package as model {model_name_of_group(group)!r}",
        )


def name_warning(model: str, group: str | None, before: Iterable[StoredVersion]) -> str | None:
    """The warning about a package that was published under a name not its group's, or replaced another group's.

    Args:
        model: name of the model's folder.
        group: the package's; None where it does not say.
        before: the versions before it.
    """
    versions = tuple(before)
    groups = {version.group for version in versions}
    if group is None or group in groups:
        return None
    others = groups - {None}
    if others:
        return (
            f"{model} held versions of group {_listed(others)}, which are not served any more:"
            f" it is of group {group!r} now, which it is named after"
        )
    if versions or is_model_of_group(model, group):
        return None
    return (
        f"{model} is a new model of group {group!r}, under a name that is not the group's;"
        f" if that was not meant, publish it as {model_name_of_group(group)!r}"
    )


def _groups_of(model: str, stored: Iterable[StoredVersion]) -> set[str]:
    """What a model answers for: the group it is named after once a version is of it, any of theirs before that."""
    groups = {version.group for version in stored if version.group is not None}
    return {group for group in groups if is_model_of_group(model, group)} or groups


def _listed(groups: Iterable[str | None]) -> str:
    return ", ".join(sorted(map(repr, groups)))


@dataclass(frozen=True)
class CheckedUpload:
    """A package unpacked beside its zip and found to be in order.

    Attributes:
        folder: holds the model file, meta.json, config.pbtxt, upload.json; becomes the version folder.
        model_name: `model.onnx` or `model.plan`.
        group: what the model classifies; None where an older tool wrote meta.json, which may mean something else by it.
    """

    folder: Path
    meta: MetaDocument
    config_text: str
    model_name: str
    group: str | None


def check_upload(
    zip_path: Path, sha256: str, *, is_meta_strict: bool, plan_host: PlanHost | None = None
) -> CheckedUpload:
    """Checks an uploaded zip and unpacks it beside itself, without the people it may carry.

    Args:
        zip_path: the zip, in its stage.
        sha256: digest of the zip, to be remembered with the version.
        is_meta_strict: refuse a meta.json that does not keep the published schema. The older upload takes any JSON
            object, because older tools wrote theirs.
        plan_host: what the inference server's plans must be for; None: not known.

    Raises:
        RefusedError: 422, it cannot be served; says why, also what `cls package verify` finds without running it.
            507, there is no space to unpack it.
    """
    folder = zip_path.with_name("version")
    try:
        with open_package(zip_path) as package:
            meta = parse_meta(package.document.content) if is_meta_strict or package.document.is_ours else None
            # Serving needs neither people's cut-outs (for rebuilding, from the zip) nor vectors (for testing clients).
            vectors = [name for name in package.names if name.startswith(VECTORS_FOLDER)]
            package.extract(folder, leave_out=(REBUILD_SAMPLES, *vectors))
            group = None if meta is None else meta.group
            checked = CheckedUpload(folder, package.document, package.config_text, package.model_name, group)
    except PackageError as error:
        raise RefusedError(
            422,
            f"the package {_without_place(error)}",
            code="invalid_package",
            hint=error.hint,
            faults=(PackageFault.of(error),),
        ) from error
    except FileError as error:
        if error.case == "no_space":
            raise RefusedError(507, "no space is left to unpack the package", code="no_space") from error
        raise RefusedError(422, f"the package cannot be unpacked: {error.what}", code="unpack_failed") from error
    if checked.model_name == "model.onnx":
        _check_onnx(folder / checked.model_name, parse_config(checked.config_text), meta)
    if meta is not None:
        problems = verify_zip(zip_path, plan_host).problems
        if problems:
            raise RefusedError(
                422,
                f"the package is not in order: {'; '.join(problems)}",
                code="problems_found",
                hint=_hint_of(checked),
                faults=problems,
            )
    elif checked.model_name == "model.plan":
        refuse_plan(folder, plan_host)
    uploaded = UploadRecord(sha256=sha256, uploaded_at=datetime.now(UTC).isoformat(timespec="seconds"))
    write_json_atomic(folder / UPLOAD_FILE_NAME, uploaded.model_dump())
    return checked


def name_version(upload: CheckedUpload, version: SemanticVersion) -> CheckedUpload:
    """The upload with its semantic version written into meta.json, and into the copy config.pbtxt carries."""
    meta = upload.meta.with_model_version(version.text)
    text = meta.text()
    write_text_atomic(upload.folder / META_FILE_NAME, text)
    config_text = upload.config_text
    if META_PARAMETER in parse_config(config_text).parameters:
        config_text = with_meta(config_text, text)
        write_text_atomic(upload.folder / CONFIG_FILE_NAME, config_text)
    return replace(upload, meta=meta, config_text=config_text)


def _without_place(error: PackageError) -> str:
    """The error without the place of our temporary file: only the name inside the zip is of use to the sender."""
    inside = (error.where or "").partition("!")[2]
    return f"holds a file {inside} that {error.what}" if inside else error.what


def _check_onnx(path: Path, config: TritonConfig, meta: ModelMeta | None) -> None:
    """Loads the model, runs it once on zeros, and compares it with what the package says of it."""
    _refuse_external_data(path)
    session = open_session(path)
    inputs = {item.name for item in session.get_inputs()}
    outputs = {item.name for item in session.get_outputs()}
    for kind, named, there in (("input", config.inputs, inputs), ("output", config.outputs, outputs)):
        absent = [tensor.name for tensor in named if tensor.name not in there]
        if absent:
            raise RefusedError(
                422,
                f"config.pbtxt names the {kind} {absent[0]!r}, and model.onnx has {', '.join(sorted(there))}",
                code="tensor_not_in_model",
                hint="make the package again with `cls export`",
            )
    if meta is None:
        return
    height_px, width_px = meta.preprocessing.height_px, meta.preprocessing.width_px
    output = meta.outputs[0].name
    shape = (1, height_px, width_px, 3) if meta.is_end_to_end else (1, 3, height_px, width_px)
    try:
        zeros = {meta.inputs[0].name: batch_of_zeros(session, meta.inputs[0].name, shape)}
        answer = session.run([output], zeros)[0]
    except Exception as error:
        # ONNX Runtime raises classes of its own without a common root, for whatever a foreign graph does.
        raise RefusedError(
            422,
            f"model.onnx fails on one picture of {height_px}x{width_px} pixels: {first_line(error)}",
            code="model_run_failed",
        ) from error
    if answer.shape != (1, len(meta.labels)):
        raise RefusedError(
            422,
            f"output {output!r} of model.onnx has shape {list(answer.shape)} for one picture, "
            f"and meta.json names {counted(len(meta.labels), 'label')}",
            code="wrong_output_shape",
            hint="make the package again with `cls export`",
        )


def _refuse_external_data(path: Path) -> None:
    """A model that reads weights from other files could read any file of this machine."""
    try:
        is_whole = not external_weights(read_onnx(path.read_bytes(), path.name))
    except PackageError as error:
        raise RefusedError(422, f"{path.name} {error.what}", code="invalid_model") from error
    if not is_whole:
        raise RefusedError(
            422, "model.onnx keeps weights in other files", code="external_weights", hint="export it as a single file"
        )


def refuse_plan(folder: Path, plan_host: PlanHost | None) -> None:
    """Refuses a version folder whose plan cannot run on the inference server's machine; others pass.

    Compared is what is known of both: TensorRT's version, from the plan itself, and the GPU's compute capability, from
    meta.json.

    Args:
        folder: holds the model, and meta.json where there is one.
        plan_host: what is known of the inference server's machine; None: nothing.

    Raises:
        RefusedError: 422, it was built for another GPU or by another TensorRT; says which.
    """
    path = folder / MODEL_FILE_NAMES["tensorrt_plan"]
    if plan_host is None or not path.is_file():
        return
    plan: PlanMeta | None = None
    # Folders put there by hand may hold anything: without a readable meta.json only the plan itself is looked at.
    with suppress(PackageError):
        package = read_meta(folder / META_FILE_NAME).package
        plan = package.plan if package else None
    try:
        with path.open("rb") as source:
            refuse_foreign_plan(plan, source.read(HEADER_BYTES), plan_host, path.name)
    except PackageError as error:
        raise RefusedError(422, error.what, code="incompatible_plan", hint=error.hint) from error


def _hint_of(upload: CheckedUpload) -> str:
    if upload.model_name == "model.plan":
        return "make the plan where it is served: cls package rebuild"
    return "make the package again with `cls export`"
