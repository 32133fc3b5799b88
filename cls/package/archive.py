"""The zip of a package: same content, same bytes; and reading one that somebody else made without trusting it."""

from __future__ import annotations

import hashlib
import io
import stat
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from pathlib import Path, PurePosixPath

from cls.errors import PackageError, PackageFault, SignatureError
from cls.files import ZIP_ERRORS, atomic_path
from cls.package.keys import TrustedKeys
from cls.package.meta import META_FILE_NAME, MetaDocument, ModelMeta, parse_meta, read_document
from cls.package.signature import (
    CHANGED_HINT,
    MAX_SIGNATURE_BYTES,
    SIGNATURE_FILE_NAME,
    PackageSignature,
    SignedFile,
    layout_faults,
    not_signed,
    parse_signature,
)
from cls.package.triton_config import CONFIG_FILE_NAME, MODEL_FILE_NAMES, TritonConfig, parse_config
from cls.wording import counted

# The file that is opened, at a zip's root; weights (`model.bin` of `model.xml`) may stand beside it.
MODEL_NAMES = tuple(MODEL_FILE_NAMES.values())
# The oldest moment a zip can hold: a package's bytes depend on its content alone.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_CHUNK_BYTES = 1 << 20
_HINT = "make the package again with `cls export`"


@dataclass(frozen=True)
class ReadLimits:
    """How much a foreign zip may unpack to.

    Attributes:
        total_bytes: bytes of all files together.
        text_bytes: bytes of meta.json and of config.pbtxt, each.
        ratio: unpacked to packed bytes of one file above a mebibyte; weights hardly shrink, a bomb does.
    """

    files: int = 1000
    total_bytes: int = 8 << 30
    text_bytes: int = 16 << 20
    ratio: int = 200


def pack_files(zip_path: Path, entries: Mapping[str, Path | bytes]) -> Path:
    """Packs files into a zip, whole or not at all, the same bytes for the same content.

    Args:
        zip_path: the zip to write; an older one is replaced.
        entries: path inside the zip -> the file, or its content.

    Raises:
        PackageError: a file is missing.
    """
    for source in entries.values():
        if isinstance(source, Path) and not source.is_file():
            raise PackageError("a file of the package is missing", code="missing_file", where=source, hint=_HINT)
    with atomic_path(zip_path) as part, zipfile.ZipFile(part, "w") as archive:
        for name in sorted(entries):
            info = zipfile.ZipInfo(name, _EPOCH)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3
            info.external_attr = (stat.S_IFREG | 0o644) << 16
            source = entries[name]
            content = io.BytesIO(source) if isinstance(source, bytes) else source.open("rb")
            with content, archive.open(info, "w", force_zip64=False) as target:
                while chunk := content.read(_CHUNK_BYTES):
                    target.write(chunk)
    return zip_path


@dataclass(frozen=True)
class ZipContents:
    """A zip whose entries may be unpacked; what is in them was not looked at.

    Attributes:
        signers: fingerprints of the trusted keys that signed it; empty where nobody asked.
    """

    path: Path
    names: tuple[str, ...]
    _archive: zipfile.ZipFile = field(repr=False)
    _limits: ReadLimits = field(repr=False)
    signers: tuple[str, ...] = ()
    # What trusted keys signed: the bytes that are read are held against it, whatever was in the file a moment before.
    _signed: Mapping[str, SignedFile] | None = field(default=None, repr=False)

    def read(self, name: str) -> bytes:
        """The bytes of a file inside, checked against the zip's own checksum and, if signatures are, against those.

        Raises:
            PackageError: it is not there, or damaged.
            SignatureError: it was changed since it was signed.
        """
        return b"".join(self.stream(name))

    def read_text_bytes(self, name: str) -> bytes:
        """The same of meta.json or config.pbtxt, which must not be bigger than `ReadLimits.text_bytes`."""
        return b"".join(self._checked(name, self._limits.text_bytes))

    def stream(self, name: str) -> Iterator[bytes]:
        """The bytes of a file inside, in chunks; see `read`. Whether it was changed is known after the last one."""
        return self._checked(name, self._limits.total_bytes)

    def signature(self) -> PackageSignature | None:
        """What `signature.json` says, whoever signed it; None in a package without one.

        Raises:
            SignatureError: it is damaged.
        """
        if SIGNATURE_FILE_NAME not in self.names:
            return None
        content = b"".join(_stream(self._archive, self.path, SIGNATURE_FILE_NAME, MAX_SIGNATURE_BYTES))
        return parse_signature(content, self.path)

    def _checked(self, name: str, limit_bytes: int) -> Iterator[bytes]:
        chunks = _stream(self._archive, self.path, name, limit_bytes)
        if self._signed is None or name == SIGNATURE_FILE_NAME:
            yield from chunks
            return
        digest, size_bytes = hashlib.sha256(), 0
        for chunk in chunks:
            digest.update(chunk)
            size_bytes += len(chunk)
            yield chunk
        signed = self._signed.get(name)
        if signed != SignedFile(sha256=digest.hexdigest(), size_bytes=size_bytes):
            raise SignatureError(
                "was changed since it was signed", code="changed", where=f"{self.path}!{name}", hint=CHANGED_HINT
            )

    def start(self, size_bytes: int, name: str) -> bytes:
        """The first bytes of a file inside, without the rest being unpacked where no signature is checked.

        Raises:
            PackageError: it is not there, or damaged.
            SignatureError: it was changed since it was signed.
        """
        return (next(self.stream(name), b"") if self._signed is None else self.read(name))[:size_bytes]

    def size_bytes(self, name: str) -> int:
        """How big a file inside is, as the zip's directory says."""
        return self._archive.getinfo(name).file_size

    def extract(self, folder: Path, *, leave_out: Collection[str] = ()) -> None:
        """Writes the files into a folder, each whole or not at all.

        Raises:
            PackageError: a file is damaged.
            FileError: the folder cannot be written.
        """
        for name in self.names:
            if name in leave_out:
                continue
            with atomic_path(folder / name) as part, part.open("wb") as target:
                for chunk in self.stream(name):
                    target.write(chunk)


@dataclass(frozen=True, kw_only=True)
class Package(ZipContents):
    """A package zip that passed the checks of `open_package`.

    Attributes:
        model_name: `model.onnx`, `model.plan`, `model.pt` or `model.xml`: the one that config.pbtxt names.
        document: meta.json as it came; not checked against the schema (`meta` does that).
    """

    model_name: str
    document: MetaDocument
    config_text: str
    config: TritonConfig

    def meta(self) -> ModelMeta:
        """meta.json, checked against the schema.

        Raises:
            PackageError: it does not keep the schema.
        """
        return parse_meta(self.document.content, f"{self.path}!{META_FILE_NAME}")


@contextmanager
def open_zip(
    zip_path: Path, limits: ReadLimits | None = None, *, trust: TrustedKeys | None = None
) -> Iterator[ZipContents]:
    """Opens a zip that somebody else made and checks its entries before anything is unpacked.

    Refused: absolute paths, `..`, backslashes, links, encrypted or repeated entries, more or bigger files than the
    limits allow.

    With `trust`, also a zip that none of the keys signed, one with other files than were signed, and one that another
    program could read otherwise: anything before, between or behind its entries and its directory, headers that
    contradict each other. Every file read from it afterwards is held against what was signed.

    Args:
        zip_path: the zip.
        limits: how much it may unpack to.
        trust: keys of which one must have signed it; None: signatures are not checked.

    Yields:
        The zip, readable until the block ends.

    Raises:
        PackageError: it is no zip, or one of these.
        SignatureError: a signature is asked for, and there is no good one.
    """
    limits = limits or ReadLimits()
    try:
        archive = zipfile.ZipFile(zip_path)
    except FileNotFoundError:
        raise PackageError(
            "there is no such file", code="not_found", where=zip_path, hint="give a package that `cls export` made"
        ) from None
    except (*ZIP_ERRORS, ValueError) as error:
        raise PackageError(
            f"is not a zip that can be read: {error}", code="not_a_zip", where=zip_path, hint=_HINT
        ) from error
    with archive:
        contents = ZipContents(zip_path, _checked_names(archive, zip_path, limits), archive, limits)
        yield contents if trust is None else _signed_contents(contents, archive, trust)


@contextmanager
def open_package(
    zip_path: Path, limits: ReadLimits | None = None, *, trust: TrustedKeys | None = None
) -> Iterator[Package]:
    """Opens a package zip and checks it before anything is unpacked.

    Refused: what `open_zip` refuses, a root without a model (`MODEL_NAMES`), without meta.json or without
    config.pbtxt, a config.pbtxt for a model that is not there.

    Args:
        zip_path: the zip.
        limits: how much it may unpack to.
        trust: see `open_zip`.

    Yields:
        The package, readable until the block ends.

    Raises:
        PackageError: the file is not a package; says what is wrong with it.
        SignatureError: a signature is asked for, and there is no good one.
    """
    with open_zip(zip_path, limits, trust=trust) as contents:
        models = [name for name in MODEL_NAMES if name in contents.names]
        missing = missing_at_root(contents.names)
        if missing:
            raise PackageError(
                f"lacks {', '.join(missing)} at its root", code="missing_file", where=zip_path, hint=_HINT
            )
        meta_bytes = contents.read_text_bytes(META_FILE_NAME)
        config_text = config_text_of(contents)
        config = parse_config(config_text, f"{zip_path}!{CONFIG_FILE_NAME}")
        if config.model_file_name not in models:
            raise PackageError(
                f"holds {' and '.join(models)}, and its config.pbtxt is for {config.model_file_name}",
                code="config_mismatch",
                where=zip_path,
                hint=_HINT,
            )
        yield Package(
            **{part.name: getattr(contents, part.name) for part in fields(contents)},
            model_name=config.model_file_name,
            document=read_document(meta_bytes, f"{zip_path}!{META_FILE_NAME}"),
            config_text=config_text,
            config=config,
        )


def missing_at_root(names: Sequence[str]) -> list[str]:
    """What a package needs at its root and these names lack."""
    missing = [name for name in (META_FILE_NAME, CONFIG_FILE_NAME) if name not in names]
    if not any(name in names for name in MODEL_NAMES):
        missing.insert(0, f"{', '.join(MODEL_NAMES[:-1])} or {MODEL_NAMES[-1]}")
    return missing


def config_text_of(contents: ZipContents) -> str:
    """The text of a zip's config.pbtxt.

    Raises:
        PackageError: it is damaged, too big or not UTF-8.
    """
    try:
        return contents.read_text_bytes(CONFIG_FILE_NAME).decode("utf-8")
    except UnicodeDecodeError as error:
        where = f"{contents.path}!{CONFIG_FILE_NAME}"
        raise PackageError(f"is not UTF-8: {error.reason}", code="not_utf8", where=where, hint=_HINT) from error


def _signed_contents(contents: ZipContents, archive: zipfile.ZipFile, trust: TrustedKeys) -> ZipContents:
    """The same zip, after its signature was checked; what is read from it is held against the signature."""
    signature = contents.signature()
    if signature is None:
        raise not_signed(contents.path)
    signers = signature.signers(trust, contents.path)
    signed = signature.manifest.files
    faults = [PackageFault(f"lacks {name}", code="missing_file") for name in signed if name not in contents.names]
    there = [info.filename for info in archive.infolist() if info.filename != SIGNATURE_FILE_NAME]
    faults += [
        PackageFault(f"holds {name}, which was not signed", code="not_signed") for name in there if name not in signed
    ]
    case = "changed"
    if not faults:
        case = "ambiguous_zip"
        faults = layout_faults(archive, contents.path)
    if faults:
        raise SignatureError("; ".join(faults), code=case, where=contents.path, hint=CHANGED_HINT, faults=faults)
    return replace(contents, signers=signers, _signed=signed)


def _checked_names(archive: zipfile.ZipFile, zip_path: Path, limits: ReadLimits) -> tuple[str, ...]:
    """The names of the files inside, after the checks that need no unpacking."""
    files = [info for info in archive.infolist() if not info.is_dir()]
    if len(files) > limits.files:
        raise PackageError(
            f"holds {counted(len(files), 'file')}, at most {limits.files} are taken",
            code="too_many_files",
            where=zip_path,
        )
    seen: set[str] = set()
    for info in archive.infolist():
        fault = _fault_of_entry(info, limits)
        if fault is None and info.filename.casefold() in seen:
            fault = ("duplicate_name", "stands there twice")
        if fault is not None:
            case, what = fault
            raise PackageError(f"entry {info.filename!r} {what}", code=case, where=zip_path, hint=_HINT)
        seen.add(info.filename.casefold())
    total_bytes = sum(info.file_size for info in files)
    if total_bytes > limits.total_bytes:
        raise PackageError(
            f"unpacks to {total_bytes} bytes, at most {limits.total_bytes} are taken",
            code="too_large",
            where=zip_path,
            hint=_HINT,
        )
    return tuple(info.filename for info in files)


def _fault_of_entry(info: zipfile.ZipInfo, limits: ReadLimits) -> tuple[str, str] | None:
    """The case and what is wrong, of an entry that is refused."""
    # zipfile makes backslashes and NULs harmless on some systems only: look at the name as stored.
    name = info.orig_filename
    parts = PurePosixPath(name).parts
    if not parts or name.startswith("/") or ".." in parts or "\\" in name or "\0" in name or ":" in parts[0]:
        return "path_traversal", "leaves the package's folder"
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        return "not_a_regular_file", "is a link or a device"
    if info.flag_bits & 0x1:
        return "encrypted", "is encrypted"
    if info.file_size > _CHUNK_BYTES and info.file_size > limits.ratio * info.compress_size:
        return "too_large", f"unpacks to more than {limits.ratio} times its packed size"
    return None


def _stream(archive: zipfile.ZipFile, zip_path: Path, name: str, limit_bytes: int) -> Iterator[bytes]:
    """Unpacks one file; the limit counts real bytes, not what the zip's directory claims."""
    size_bytes = 0
    try:
        with archive.open(name) as source:
            while chunk := source.read(_CHUNK_BYTES):
                size_bytes += len(chunk)
                if size_bytes > limit_bytes:
                    raise PackageError(
                        f"unpacks to more than {limit_bytes} bytes", code="too_large", where=f"{zip_path}!{name}"
                    )
                yield chunk
    except KeyError:
        raise PackageError(f"holds no {name}", code="missing_file", where=zip_path, hint=_HINT) from None
    except ZIP_ERRORS as error:
        raise PackageError(f"is damaged: {error}", code="damaged", where=f"{zip_path}!{name}", hint=_HINT) from error
