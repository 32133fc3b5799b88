"""`signature.json` of a package: the digests of the zip's files, signed by one key or several (Ed25519).

What is signed is the manifest as JSON in UTF-8 with sorted keys and without spaces: every file of the zip but
`signature.json`, by its exact bytes. The file itself has one form only, so that not a byte of it can be changed unseen.
"""

from __future__ import annotations

import base64
import hashlib
import json
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cls.errors import PackageFault, SignatureError
from cls.package.keys import SigningKey, TrustedKeys, is_signed_by

SIGNATURE_FILE_NAME = "signature.json"
MAX_SIGNATURE_BYTES = 1 << 20
MAX_SIGNATURES = 16
# Above it, a zip has headers of another kind, which `layout_faults` refuses.
MAX_SIGNED_BYTES = (2 << 30) - (4 << 20)
_CHUNK_BYTES = 1 << 20
# The record a zip ends with: two disk numbers, two counts of entries, the directory's size and place, a comment's size.
_DIRECTORY_ENTRY_BYTES = 46
_DIRECTORY_END = struct.Struct("<4s4H2LH")
_SIGN_HINT = "sign it with `cls package sign`, or get a signed one from whoever made it"
CHANGED_HINT = "do not use it: get the package again from whoever made it"


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class SignedFile(_Part):
    """One file of the zip: its size in bytes and the SHA-256 of its content."""

    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    size_bytes: Annotated[int, Field(ge=0)]


class Manifest(_Part):
    """What is signed: every file of the zip but the signature, by its name there."""

    files: Annotated[dict[str, SignedFile], Field(min_length=1)]
    type: Literal["cls-model-package"] = "cls-model-package"

    def message(self) -> bytes:
        """The bytes that are signed."""
        text = json.dumps(self.model_dump(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return text.encode()


class KeySignature(_Part):
    """The signature by one key: the fingerprint of its public key, and 64 bytes in Base64."""

    key_id: Annotated[str, Field(pattern=r"^SHA256:[A-Za-z0-9+/]{43}$")]
    signature: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{86}==$")]

    @field_validator("signature")
    @classmethod
    def _has_one_form(cls, text: str) -> str:
        # The last sign holds four bits that decoding ignores.
        if base64.b64encode(base64.b64decode(text)).decode() != text:
            raise ValueError("is not the Base64 of its bytes")
        return text


class PackageSignature(_Part):
    """The content of `signature.json`."""

    version: Literal[1] = 1
    algorithm: Literal["Ed25519"] = "Ed25519"
    manifest: Manifest
    signatures: Annotated[list[KeySignature], Field(min_length=1, max_length=MAX_SIGNATURES)]

    @property
    def key_ids(self) -> tuple[str, ...]:
        """The fingerprints of the keys that signed it as it claims, sorted."""
        return tuple(entry.key_id for entry in self.signatures)

    def to_bytes(self) -> bytes:
        """The text of `signature.json`: one form for one content."""
        content = self.model_dump()
        content["manifest"]["files"] = dict(sorted(content["manifest"]["files"].items()))
        content["signatures"].sort(key=lambda entry: entry["key_id"])
        return (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode()

    def signers(self, trust: TrustedKeys, where: object) -> tuple[str, ...]:
        """The trusted keys that signed the manifest: at least one, and none whose signature is wrong.

        Args:
            trust: the keys that are accepted; signatures by others count neither for nor against the package.
            where: the package, for the error.

        Raises:
            SignatureError: none of them signed it, or a signature in the name of one is not of this manifest.
        """
        message = self.manifest.message()
        trusted = []
        for entry in self.signatures:
            public_key = trust.find(entry.key_id)
            if public_key is None:
                continue
            if not is_signed_by(public_key, base64.b64decode(entry.signature), message):
                raise SignatureError(
                    f"the signature by {entry.key_id} is not of these files",
                    code="invalid",
                    where=where,
                    hint=CHANGED_HINT,
                )
            trusted.append(entry.key_id)
        if not trusted:
            raise SignatureError(
                f"is signed by {' and '.join(self.key_ids)}, which is not trusted",
                code="untrusted",
                where=where,
                hint="compare the fingerprint with its owner's; if it is right, add the public key to --trust",
            )
        return tuple(trusted)


def sign(entries: Mapping[str, Path | bytes], key: SigningKey, earlier: PackageSignature | None = None) -> bytes:
    """The `signature.json` of a package.

    Args:
        entries: path inside the zip -> the file, or its content; without `signature.json`.
        key: signs it.
        earlier: a signature of the same files, whose other keys stay.

    Raises:
        SignatureError: the earlier signature is of other files, there are `MAX_SIGNATURES` already, or the files have
            more than `MAX_SIGNED_BYTES`.
    """
    manifest = Manifest(files={name: _signed_file(source) for name, source in sorted(entries.items())})
    total_bytes = sum(file.size_bytes for file in manifest.files.values())
    if total_bytes > MAX_SIGNED_BYTES:
        raise SignatureError(
            f"has {total_bytes} bytes, and packages of at most {MAX_SIGNED_BYTES} are signed", code="too_large"
        )
    others: list[KeySignature] = []
    if earlier is not None:
        if earlier.manifest != manifest:
            raise SignatureError("the signature in it is of other files", code="changed", hint=CHANGED_HINT)
        others = [entry for entry in earlier.signatures if entry.key_id != key.fingerprint]
    if len(others) >= MAX_SIGNATURES:
        raise SignatureError(
            f"has {len(others)} signatures, which is the limit",
            code="too_many",
            hint="export it again, signed by the keys in use",
        )
    signature = base64.b64encode(key.sign(manifest.message())).decode()
    own = KeySignature(key_id=key.fingerprint, signature=signature)
    return PackageSignature(manifest=manifest, signatures=[*others, own]).to_bytes()


def parse_signature(content: bytes, where: object) -> PackageSignature:
    """Reads a `signature.json`; its keys are not asked (`PackageSignature.signers` does that).

    Raises:
        SignatureError: it is not one, or not in the one form that `PackageSignature.to_bytes` writes.
    """
    try:
        signature = PackageSignature.model_validate_json(content)
    except ValidationError:
        signature = None
    if signature is None or signature.to_bytes() != content or len(set(signature.key_ids)) != len(signature.key_ids):
        raise SignatureError(
            f"is no {SIGNATURE_FILE_NAME} that this version of CLS knows, or was changed",
            code="malformed",
            where=where,
            hint="get the package again from whoever made it, or update CLS",
        )
    return signature


def layout_faults(archive: zipfile.ZipFile, zip_path: Path) -> list[PackageFault]:
    """What another program could read otherwise in a zip; empty for one as `cls.package.archive` packs it.

    There the entries stand one behind the other from the first byte on, each with the header that the directory
    implies; the directory follows at once, and its end is the file's.
    """
    entries = archive.infolist()
    position = 0
    with zip_path.open("rb") as stream:
        for info in sorted(entries, key=lambda entry: entry.header_offset):
            header = info.FileHeader(zip64=False)
            stream.seek(position)
            is_plain = not (info.extra or info.comment or info.volume)
            if info.header_offset != position or stream.read(len(header)) != header or not is_plain:
                what = f"its entry {info.filename!r} can be read in more than one way"
                return [PackageFault(what, code="ambiguous_entry")]
            position += len(header) + info.compress_size
        directory_bytes = sum(_DIRECTORY_ENTRY_BYTES + len(info.orig_filename.encode()) for info in entries)
        stream.seek(position + directory_bytes)
        sizes = (0, 0, len(entries), len(entries), directory_bytes, position, 0)
        if stream.read(_DIRECTORY_END.size + 1) != _DIRECTORY_END.pack(b"PK\5\6", *sizes):
            return [PackageFault("holds bytes that belong to none of its files", code="stray_bytes")]
    return []


def not_signed(where: object) -> SignatureError:
    """The error for a package without a signature where one is asked for."""
    return SignatureError("is not signed", code="missing", where=where, hint=_SIGN_HINT)


def _signed_file(source: Path | bytes) -> SignedFile:
    if isinstance(source, bytes):
        return SignedFile(sha256=hashlib.sha256(source).hexdigest(), size_bytes=len(source))
    digest, size_bytes = hashlib.sha256(), 0
    with source.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
            size_bytes += len(chunk)
    return SignedFile(sha256=digest.hexdigest(), size_bytes=size_bytes)
