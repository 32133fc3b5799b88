"""Is a package what it says it is? Every problem at once, without running the model (`cls.prediction` does that).

Signs packages that are there already, too.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from cls.errors import PackageError, PackageFault, SignatureError
from cls.files import atomic_path, sha256_of_file
from cls.package.archive import MODEL_NAMES, ZipContents, config_text_of, missing_at_root, open_zip, pack_files
from cls.package.keys import SigningKey, TrustedKeys
from cls.package.meta import META_FILE_NAME, ModelMeta, TensorMeta, parse_meta_text
from cls.package.onnx_file import external_faults, onnx_faults, read_onnx
from cls.package.packing import REBUILD_ONNX, REBUILD_SAMPLES, read_samples
from cls.package.plans import HEADER_BYTES, PlanHost, is_same_version, plan_faults, plan_warnings, version_in_plan
from cls.package.signature import CHANGED_HINT, SIGNATURE_FILE_NAME, PackageSignature, parse_signature, sign
from cls.package.triton_config import CONFIG_FILE_NAME, META_PARAMETER, TritonConfig, digest_of_config, parse_config
from cls.package.vectors import VECTORS_FILE, read_vectors
from cls.wording import counted


@dataclass
class Verification:
    """What was found out about a package.

    Attributes:
        problems: why it must not be used; empty for a good one.
        checked: what was looked at and found in order.
        not_checked: what could not be looked at here, and why.
        meta: meta.json, where it could be read.
        signature: who signed it, in words; empty where that could not be read.
        distrust: why nothing of it was looked at: keys were given, and the signature is not good, or is missing.
    """

    path: Path
    problems: list[PackageFault] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    not_checked: list[str] = field(default_factory=list)
    meta: ModelMeta | None = None
    signature: str = ""
    distrust: SignatureError | None = None

    def take(self, what: str, problems: list[PackageFault]) -> None:
        """Enters the outcome of one check."""
        self.problems += problems
        if not problems:
            self.checked.append(what)

    def add(self, error: PackageError, about: str = "") -> None:
        """Enters an error as a problem, after what it is about."""
        self.problems.append(PackageFault.of(error, about))

    def raise_if_bad(self) -> None:
        """Refuses a package with problems.

        Raises:
            PackageError: names all of them.
            SignatureError: keys were given, and the signature is not good or is missing.
        """
        if self.distrust is not None:
            raise self.distrust
        if self.problems:
            raise PackageError(
                "; ".join(self.problems),
                code="invalid",
                where=self.path,
                hint="make the package again: `cls export`",
                faults=self.problems,
            )


def verify_zip(zip_path: Path, host: PlanHost | None = None, trust: TrustedKeys | None = None) -> Verification:
    """Looks at everything in a package that can be looked at without running it.

    Args:
        zip_path: the zip.
        host: what a plan is to run on; None: that is not checked.
        trust: keys of which one must have signed it: without a good signature, nothing else is looked at. None: a
            signature is held against the files, and nobody is asked whose it is.
    """
    found = Verification(zip_path)
    try:
        with open_zip(zip_path, trust=trust) as contents:
            digests = _digests(found, contents)
            _check_signature(found, contents, digests)
            if trust is not None and found.problems:
                found.distrust = SignatureError(
                    "; ".join(found.problems),
                    code="changed",
                    where=zip_path,
                    hint=CHANGED_HINT,
                    faults=found.problems,
                )
                return found
            missing = missing_at_root(contents.names)
            faults = [PackageFault(f"lacks {name} at its root", code="missing_file") for name in missing]
            found.take("the files a package needs", faults)
            found.meta = _meta(found, contents) if META_FILE_NAME in digests else None
            config = _config(found, contents, found.meta) if CONFIG_FILE_NAME in digests else None
            if found.meta is not None:
                _check_digests(found, found.meta, digests, contents)
                _check_models(found, found.meta, digests, contents, host)
                _check_vectors(found, found.meta, contents)
            if config is not None and config.model_file_name not in contents.names:
                what = f"config.pbtxt is for {config.model_file_name}, which is not there"
                found.problems.append(PackageFault(what, code="config_mismatch"))
    except SignatureError as error:
        found.distrust = None if trust is None else error
        found.add(error)
    except PackageError as error:
        found.add(error)
    return found


def refuse_foreign_files(path: Path, meta: ModelMeta) -> None:
    """Refuses a model file that stands beside another model's meta.json.

    Args:
        path: a model file of a folder; the weights of an .xml stand beside it.
        meta: the meta.json there, the folder's or an unpacked package's.

    Raises:
        PackageError: a file is not the one that the meta.json was written for, or an ONNX says otherwise by itself.
    """
    known = meta.package.files if meta.package is not None else meta.digests.files
    files = (path, path.with_suffix(".bin")) if path.suffix == ".xml" else (path,)
    faults = [
        PackageFault(
            f"{file.name} is not the file that the {META_FILE_NAME} beside it was written for", code="digest_mismatch"
        )
        for file in files
        if file.name in known and file.is_file() and sha256_of_file(file) != known[file.name]
    ]
    case = "digest_mismatch"
    if path.suffix == ".onnx" and not faults:
        case = "other_model"
        faults = onnx_faults(read_onnx(path.read_bytes(), path), meta, path.name)
    if faults:
        raise PackageError(
            "; ".join(faults),
            code=case,
            where=path,
            hint="keep the package together, or export again: `cls export`",
            faults=faults,
        )


def _digests(found: Verification, contents: ZipContents) -> dict[str, str]:
    """Reads every file once, against the zip's own checksums: name -> SHA-256; damaged ones are left out."""
    digests, faults = {}, []
    for name in contents.names:
        digest = hashlib.sha256()
        try:
            for chunk in contents.stream(name):
                digest.update(chunk)
        except PackageError as error:
            faults.append(PackageFault.of(error, name))
        else:
            digests[name] = digest.hexdigest()
    found.take("every file unpacks", faults)
    return digests


def _check_signature(found: Verification, contents: ZipContents, digests: dict[str, str]) -> None:
    """Whether the files are those that were signed; whose the signature is, `open_zip` has asked."""
    signature = contents.signature()
    if signature is None:
        found.signature = "not signed"
        return
    signed = signature.manifest.files
    names = [name for name in contents.names if name != SIGNATURE_FILE_NAME]
    faults = [
        PackageFault(f"{name} is there, and was not signed", code="not_signed") for name in names if name not in signed
    ]
    faults += [
        PackageFault(f"{name} was signed, and is missing", code="missing_file") for name in signed if name not in names
    ]
    faults += [
        PackageFault(f"{name} was changed since it was signed", code="changed")
        for name, digest in digests.items()
        if name in signed and signed[name].sha256 != digest
    ]
    if faults or any(name in signed and name not in digests for name in names):
        # With trust, a file that is not the signed one cannot be read at all: that problem is reported already.
        found.signature = f"{signed_by(signature)}: of other files than these"
        found.problems.extend(faults)
        return
    found.checked.append("every file is as it was signed")
    if contents.signers:
        found.signature = f"signed by {' and '.join(contents.signers)}, which is trusted"
    else:
        found.signature = f"{signed_by(signature)}: not checked, since no --trust is given"


def signed_by(signature: PackageSignature | None) -> str:
    """The signers of a package, in words."""
    return "not signed" if signature is None else f"signed by {' and '.join(signature.key_ids)}"


def _meta(found: Verification, contents: ZipContents) -> ModelMeta | None:
    try:
        meta = parse_meta_text(contents.read_text_bytes(META_FILE_NAME))
    except PackageError as error:
        what = error.what.removeprefix(f"{META_FILE_NAME} ")
        found.problems.append(PackageFault(f"{META_FILE_NAME} {what}", code=error.case))
        return None
    found.checked.append(
        f"meta.json: schema version {meta.schema_version}, {counted(len(meta.labels), 'label')} for"
        f" {counted(len(meta.labels), 'output')},"
        " a threshold for each"
    )
    return meta


def _config(found: Verification, contents: ZipContents, meta: ModelMeta | None) -> TritonConfig | None:
    """config.pbtxt, compared with meta.json."""
    try:
        text = config_text_of(contents)
        config = parse_config(text, CONFIG_FILE_NAME)
        faults = [] if meta is None else _config_faults(config, text, meta)
    except PackageError as error:
        found.add(error, CONFIG_FILE_NAME)
        return None
    if meta is not None:
        found.take("config.pbtxt agrees with meta.json", faults)
    return config


def _config_faults(config: TritonConfig, text: str, meta: ModelMeta) -> list[PackageFault]:
    faults = []
    for kind, ours, theirs in (("input", meta.inputs, config.inputs), ("output", meta.outputs, config.outputs)):
        # An older tool's may leave them out: Triton reads them from the model.
        if theirs and _tensors(ours) != _tensors(theirs):
            what = f"config.pbtxt declares the {kind}s {_tensors(theirs)}, and meta.json {_tensors(ours)}"
            faults.append(PackageFault(what, code="config_tensor_mismatch"))
    if META_PARAMETER in config.parameters:
        carried = config.meta()
        if carried != meta:
            here, there = meta.model_dump(), carried.model_dump()
            differing = [key for key, value in here.items() if there.get(key) != value]
            faults.append(
                PackageFault(
                    f"config.pbtxt carries another meta.json: of group '{carried.group}', run {carried.training.run};"
                    f" they differ in {', '.join(differing)}",
                    code="config_meta_mismatch",
                )
            )
    if meta.package is not None and meta.package.files.get(CONFIG_FILE_NAME) != digest_of_config(text):
        faults.append(PackageFault("config.pbtxt was changed since meta.json was written", code="config_changed"))
    return faults


def _tensors(tensors: tuple[TensorMeta, ...]) -> str:
    return ", ".join(f"{tensor.name} {tensor.datatype} {list(tensor.shape)}" for tensor in tensors)


def _check_digests(found: Verification, meta: ModelMeta, digests: dict[str, str], contents: ZipContents) -> None:
    if meta.package is None:
        named = {name: digest for name, digest in meta.digests.files.items() if name in MODEL_NAMES and name in digests}
        if not named:
            found.not_checked.append("digests: a package of schema version 1, whose meta.json names none of its files")
            return
    else:
        named = {name: digest for name, digest in meta.package.files.items() if name != CONFIG_FILE_NAME}
    faults = []
    for name, digest in named.items():
        if name not in contents.names:
            faults.append(PackageFault(f"{name} is missing", code="missing_file"))
        elif name in digests and digests[name] != digest:
            faults.append(
                PackageFault(
                    f"{name} is not the file that meta.json was written for: its SHA-256 is {digests[name][:12]}…,"
                    f" and meta.json says {digest[:12]}…",
                    code="digest_mismatch",
                )
            )
    if meta.package is not None:
        known = {*named, META_FILE_NAME, CONFIG_FILE_NAME, SIGNATURE_FILE_NAME}
        faults += [
            PackageFault(f"{name} is there, and meta.json does not know it", code="unknown_file")
            for name in contents.names
            if name not in known
        ]
    found.take(f"digests of {counted(len(named), 'file')}", faults)


def _check_models(
    found: Verification, meta: ModelMeta, digests: dict[str, str], contents: ZipContents, host: PlanHost | None
) -> None:
    for name in ("model.onnx", REBUILD_ONNX):
        if name in digests:
            _check_onnx(found, meta, name, contents)
    if "model.plan" in digests:
        _check_plan(found, meta, contents, host)
    if "model.xml" in contents.names and "model.bin" not in contents.names:
        what = "model.xml is there, and its weights model.bin are not"
        found.problems.append(PackageFault(what, code="missing_weights"))
    if REBUILD_SAMPLES in digests:
        try:
            samples = read_samples(contents.read(REBUILD_SAMPLES), meta, REBUILD_SAMPLES)
        except PackageError as error:
            found.add(error, REBUILD_SAMPLES)
        else:
            found.warnings.append(f"holds cut-outs of {counted(len(samples.crops_rgb), 'person')} ({REBUILD_SAMPLES})")


def _check_vectors(found: Verification, meta: ModelMeta, contents: ZipContents) -> None:
    """That the vectors can be read and are this model's; whether it meets them takes running it."""
    if VECTORS_FILE not in contents.names:
        return
    try:
        vectors = read_vectors(contents, meta)
    except PackageError as error:
        found.add(error, "conformance vectors:")
    else:
        found.checked.append(f"{counted(len(vectors.cases), 'conformance vector')} can be read")


def _check_onnx(found: Verification, meta: ModelMeta, name: str, contents: ZipContents) -> None:
    try:
        model = read_onnx(contents.read(name), name)
    except PackageError as error:
        found.add(error, name)
        return
    folder = name.rpartition("/")[0]
    # Only names are compared: nothing is opened by a path that the file itself names.
    sizes = {entry[len(folder) :].lstrip("/"): contents.size_bytes(entry) for entry in contents.names}
    faults = external_faults(model, name, sizes) + onnx_faults(model, meta, name)
    found.take(f"{name}: one file; inputs, outputs and the metadata inside agree with meta.json", faults)


def _check_plan(found: Verification, meta: ModelMeta, contents: ZipContents, host: PlanHost | None) -> None:
    """model.plan: who built it, for which GPU, and whether `host` is such a machine."""
    plan = None if meta.package is None else meta.package.plan
    try:
        version = version_in_plan(contents.start(HEADER_BYTES, "model.plan"), "model.plan")
    except PackageError as error:
        found.add(error, "model.plan")
        return
    faults = []
    if plan is None:
        found.not_checked.append("model.plan's GPU: its meta.json does not name it")
    elif version is not None and not is_same_version(version, plan.tensorrt_version):
        what = f"model.plan was built by TensorRT {version}, and meta.json says {plan.tensorrt_version}"
        faults.append(PackageFault(what, code="tensorrt_version_mismatch"))
    if host is not None:
        faults += plan_faults(plan, version, host)
        found.warnings += plan_warnings(plan, host)
        if not host.gpus:
            found.not_checked.append(f"model.plan's GPU: {host.place} has none that is known")
        if not host.tensorrt_version:
            found.not_checked.append(f"model.plan's TensorRT: {host.place} has none that is known")
    found.take("model.plan: a plan, for what meta.json says", faults)


def sign_package(zip_path: Path, signer: SigningKey) -> PackageSignature:
    """Signs a package that is there, beside those who signed it before; its files stay as they are.

    Args:
        zip_path: the package; replaced by the signed one, whole or not at all.
        signer: signs it.

    Raises:
        PackageError: the package is not in order.
        SignatureError: it was changed since it was signed, or cannot be signed.
    """
    with open_zip(zip_path) as contents:
        entries: dict[str, Path | bytes] = {
            name: contents.read(name) for name in contents.names if name != SIGNATURE_FILE_NAME
        }
        try:
            signature = sign(entries, signer, contents.signature())
        except SignatureError as error:
            raise SignatureError(error.what, code=error.case, where=zip_path, hint=error.hint) from error
    with atomic_path(zip_path) as part:
        pack_files(part, {**entries, SIGNATURE_FILE_NAME: signature})
        problems = verify_zip(part).problems
        if problems:
            raise PackageError(
                "; ".join(problems),
                code="invalid",
                where=zip_path,
                hint="only packages that are in order are signed",
                faults=problems,
            )
    return parse_signature(signature, zip_path)
