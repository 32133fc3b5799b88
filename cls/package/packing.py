"""A proven model as the zip that carries it: its files under the names servers expect, all of them digested."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cls.files import sha256_of_bytes, sha256_of_file
from cls.package.archive import pack_files
from cls.package.keys import SigningKey
from cls.package.meta import META_FILE_NAME, SCHEMA_VERSION, ModelMeta, PackageMeta, PlanMeta, TensorMeta, parse_meta
from cls.package.signature import SIGNATURE_FILE_NAME, sign
from cls.package.triton_config import CONFIG_FILE_NAME, Platform, build_config, digest_of_config

REBUILD_ONNX = "rebuild/model.onnx"
REBUILD_SAMPLES = "rebuild/samples.npz"
VECTORS_FOLDER = "vectors/"


@dataclass(frozen=True)
class PackedModel:
    """What goes into a zip beside meta.json and config.pbtxt.

    Attributes:
        format: name of the format, e.g. `onnx_fp16`.
        platform: what Triton runs it with.
        files: path inside the zip -> the file, or its content: the model, and what `cls package rebuild` needs.
        plan: where it runs, for a TensorRT plan.
    """

    format: str
    platform: Platform
    files: Mapping[str, Path | bytes]
    plan: PlanMeta | None = None


def write_package(zip_path: Path, meta: ModelMeta, model: PackedModel, signer: SigningKey | None = None) -> ModelMeta:
    """Writes a package: the same bytes for the same content.

    Args:
        zip_path: the zip to write, whole or not at all; an older one is replaced.
        meta: what is said of the model; `package` is filled in here, and `steps` where it lacks them; tensors
            get the names that the platform knows.
        model: its files.
        signer: signs the zip's files; None: the package is not signed.

    Returns:
        The zip's own meta.json.

    Raises:
        PackageError: a file is missing.
    """
    digests = {
        name: sha256_of_bytes(source) if isinstance(source, bytes) else sha256_of_file(source)
        for name, source in model.files.items()
    }
    changes = {
        "schema_version": SCHEMA_VERSION,
        "steps": meta.all_steps.model_dump(mode="json"),
        "inputs": [_named(tensor, model.platform) for tensor in meta.inputs],
        "outputs": [_named(tensor, model.platform) for tensor in meta.outputs],
    }
    plain = parse_meta({**meta.to_dict(), **changes, "package": None}, zip_path)
    digests[CONFIG_FILE_NAME] = digest_of_config(build_config(plain, model.platform))
    contents = PackageMeta(format=model.format, files=dict(sorted(digests.items())), plan=model.plan)
    own = parse_meta({**plain.to_dict(), "package": contents.model_dump(mode="json")}, zip_path)
    entries = {
        **model.files,
        META_FILE_NAME: own.to_json().encode(),
        CONFIG_FILE_NAME: build_config(own, model.platform).encode(),
    }
    if signer is not None:
        entries[SIGNATURE_FILE_NAME] = sign(entries, signer)
    pack_files(zip_path, entries)
    return own


def _named(tensor: TensorMeta, platform: Platform) -> dict[str, object]:
    """A tensor under the name its platform knows: Triton takes the inputs and outputs of TorchScript by number."""
    content: dict[str, object] = tensor.model_dump(mode="json")
    if platform == "pytorch_libtorch" and "__" not in tensor.name:
        content["name"] = f"{tensor.name}__0"
    return content
