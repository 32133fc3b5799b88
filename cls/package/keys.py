"""Keys that packages are signed with: the private key that signs, and the public keys that are trusted."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import stat
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cls.errors import FileError
from cls.files import write_error
from cls.settings import Settings

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

PASSPHRASE_VARIABLE = "CLS_SIGNING_PASSPHRASE"  # noqa: S105 - the variable's name
PUBLIC_SUFFIX = ".pub"
MAX_KEY_FILE_BYTES = 64 << 10
MAX_TRUSTED_KEYS = 256
_KEY_TYPE = "ssh-ed25519"
# The wire format of an OpenSSH public key: the type and 32 bytes, each after its length.
_BLOB_START = len(_KEY_TYPE).to_bytes(4, "big") + _KEY_TYPE.encode() + (32).to_bytes(4, "big")
_MAX_PASSPHRASE_BYTES = 1023
_MAKE_HINT = "make a key with `cls package keygen FILE`"
_PUBLIC_HINT = "give public keys as `cls package keygen` writes them: ssh-ed25519 AAAA…"
# Points of small order, without the sign bit: signatures for them can be made without any private key. RFC 8032 leaves
# them to the verifier, and OpenSSL takes them.
_SMALL_ORDER = {
    bytes.fromhex(text)
    for text in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
}
_OTHERS = stat.S_IRWXG | stat.S_IRWXO


@dataclass(frozen=True)
class SigningKey:
    """A private key. Its text form shows the fingerprint alone.

    Attributes:
        fingerprint: of its public key, as `ssh-keygen -l` prints it: `SHA256:` and 43 signs.
        public_line: its public key in OpenSSH's format, without a comment.
    """

    fingerprint: str
    public_line: str
    _key: Ed25519PrivateKey = field(repr=False)

    def sign(self, message: bytes) -> bytes:
        """The signature of a message, 64 bytes: the same for the same message."""
        return self._key.sign(message)


@dataclass(frozen=True)
class TrustedKeys:
    """Public keys whose signatures are accepted.

    Attributes:
        keys: pairs of a fingerprint and a public key of 32 bytes.
    """

    keys: tuple[tuple[str, bytes], ...]

    def find(self, fingerprint: str) -> bytes | None:
        """The public key with this fingerprint; None where it is not trusted."""
        return dict(self.keys).get(fingerprint)


def is_signed_by(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether a signature of 64 bytes is that of a message by the owner of a public key of 32 bytes."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except InvalidSignature:
        return False
    return True


def make_key(path: Path, *, passphrase: str = "") -> SigningKey:
    """Makes a key pair: the private key at `path` (PEM, PKCS#8, mode 0600), the public key beside it with `.pub`.

    Args:
        path: the private key's file; neither file may be there yet.
        passphrase: encrypts the private key; empty: it is not encrypted.

    Raises:
        FileError: a file is there already or cannot be written, or the passphrase is too long.
    """
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    secret = passphrase.encode()
    if len(secret) > _MAX_PASSPHRASE_BYTES:
        raise FileError(
            f"the passphrase is longer than {_MAX_PASSPHRASE_BYTES} bytes",
            code="passphrase_too_long",
            hint="choose a shorter one",
        )
    private = Ed25519PrivateKey.generate()
    encryption = serialization.BestAvailableEncryption(secret) if secret else serialization.NoEncryption()
    pem = private.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    key = _signing_key(private)
    public_path = path.with_name(path.name + PUBLIC_SUFFIX)
    for file in (path, public_path):
        if file.exists() or file.is_symlink():
            raise FileError(
                "is there already, and a key is never overwritten",
                code="already_exists",
                where=file,
                hint="give another name",
            )
    _write_new(path, pem, 0o600)
    try:
        comment = b" ".join(os.fsencode(path.name).split())
        _write_new(public_path, key.public_line.encode() + b" " + comment + b"\n", 0o644)
    except FileError:
        path.unlink()
        raise
    return key


def read_signing_key(path: Path, *, passphrase: str = "") -> SigningKey:
    """Reads a private key.

    Args:
        path: a file that `make_key` wrote, or another Ed25519 key in PEM (PKCS#8).
        passphrase: decrypts it where it is encrypted.

    Raises:
        FileError: it is missing, others may read it, it is no such key, or the passphrase does not decrypt it. The
            message shows nothing of its content.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content, mode = _read_key_file(path)
    if content.lstrip().startswith(_KEY_TYPE.encode()):
        raise FileError(
            "is a public key, and a private one signs",
            code="public_key_given",
            where=path,
            hint="give the file without .pub",
        )
    if os.name != "nt" and mode & _OTHERS:
        raise FileError(
            f"is a private key that others may read (mode {mode:04o})",
            code="insecure_permissions",
            where=path,
            hint=f"run: chmod 600 {path}",
        )
    is_encrypted = b"BEGIN ENCRYPTED" in content
    if is_encrypted and not passphrase:
        raise FileError(
            "is encrypted", code="passphrase_missing", where=path, hint=f"give its passphrase in {PASSPHRASE_VARIABLE}"
        )
    try:
        private = load_pem_private_key(content, passphrase.encode() if is_encrypted else None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        reason = "cannot be decrypted: the passphrase is wrong, or the file is damaged"
        raise FileError(
            reason if is_encrypted else "is no private key in PEM (PKCS#8)",
            code="wrong_passphrase" if is_encrypted else "not_a_private_key",
            where=path,
            hint=f"set {PASSPHRASE_VARIABLE} to its passphrase" if is_encrypted else _MAKE_HINT,
        ) from None
    if not isinstance(private, Ed25519PrivateKey):
        raise FileError(
            "is a private key of another kind than Ed25519", code="unsupported_key_type", where=path, hint=_MAKE_HINT
        )
    return _signing_key(private)


def trusted_keys(paths: Sequence[Path] | None, settings: Settings) -> TrustedKeys | None:
    """The keys that signatures are checked with.

    Args:
        paths: files and folders with public keys; they take the place of the configuration's `package_trust`.
        settings: the configuration.

    Returns:
        The keys; None where no path is given and none is configured: signatures are not checked.

    Raises:
        FileError: a file cannot be read or holds something else, or there are no keys.
    """
    if not paths:
        paths = [] if settings.package_trust is None else [settings.package_trust]
    return read_trusted_keys(paths) if paths else None


def read_trusted_keys(paths: Sequence[Path]) -> TrustedKeys:
    """Reads public keys in OpenSSH's format, one a line; empty lines and those that start with `#` are skipped.

    Args:
        paths: files; of a folder, the files in it that end in `.pub`.
    """
    found: dict[str, bytes] = {}
    for path in paths:
        files = sorted(path.glob(f"*{PUBLIC_SUFFIX}")) if path.is_dir() else [path]
        of_path: dict[str, bytes] = {}
        for file in files:
            of_path.update(_keys_of_lines(file))
            if len({*found, *of_path}) > MAX_TRUSTED_KEYS:
                raise FileError(
                    f"more than {MAX_TRUSTED_KEYS} keys are to be trusted",
                    code="too_many_keys",
                    where=file,
                    hint="give those in use alone",
                )
        if not of_path:
            what = f"no file *{PUBLIC_SUFFIX} with a public key" if path.is_dir() else "no public key"
            raise FileError(f"holds {what}", code="no_public_keys", where=path, hint=_PUBLIC_HINT)
        found.update(of_path)
    return TrustedKeys(tuple(found.items()))


def fingerprint_of(public_key: bytes) -> str:
    """The fingerprint of a public key of 32 bytes, as `ssh-keygen -l` prints it."""
    digest = hashlib.sha256(_BLOB_START + public_key).digest()
    return "SHA256:" + base64.b64encode(digest).decode().rstrip("=")


def _keys_of_lines(path: Path) -> dict[str, bytes]:
    content, _ = _read_key_file(path)
    found = {}
    for number, line in enumerate(content.splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith(b"#"):
            continue
        if b"PRIVATE KEY-----" in line:
            raise FileError(
                "is a private key, and public ones are trusted", code="private_key_given", where=path, hint=_PUBLIC_HINT
            )
        public_key = _public_key(words)
        if public_key is None:
            # The line itself is not shown: whoever mixes up files may have given a secret.
            raise FileError(
                "is no Ed25519 public key", code="not_a_public_key", where=f"{path}:{number}", hint=_PUBLIC_HINT
            )
        if public_key[:-1] + bytes([public_key[-1] & 0x7F]) in _SMALL_ORDER:
            raise FileError(
                "is a key in whose name anybody can sign",
                code="weak_key",
                where=f"{path}:{number}",
                hint="do not trust its sender",
            )
        found[fingerprint_of(public_key)] = public_key
    return found


def _public_key(words: Sequence[bytes]) -> bytes | None:
    """The 32 bytes of `ssh-ed25519 BASE64 [comment]`; None for anything else."""
    if words[0] != _KEY_TYPE.encode() or len(words) == 1:
        return None
    try:
        blob = base64.b64decode(words[1], validate=True)
    except binascii.Error:
        return None
    key = blob.removeprefix(_BLOB_START)
    return key if len(key) == 32 and len(blob) == len(_BLOB_START) + 32 else None


def _read_key_file(path: Path) -> tuple[bytes, int]:
    """The content of a key file and the mode it was read under."""
    try:
        with path.open("rb") as stream:
            mode = stat.S_IMODE(os.fstat(stream.fileno()).st_mode)
            content = stream.read(MAX_KEY_FILE_BYTES + 1)
    except FileNotFoundError:
        raise FileError(
            "there is no such key file", code="not_found", where=path, hint=f"check the path; {_MAKE_HINT}"
        ) from None
    except OSError as error:
        raise FileError(
            f"cannot be read: {error.strerror}", code="unreadable", where=path, hint="give a key file"
        ) from None
    if len(content) > MAX_KEY_FILE_BYTES:
        raise FileError(
            f"is longer than {MAX_KEY_FILE_BYTES} bytes: no key file", code="too_large", where=path, hint=_MAKE_HINT
        )
    return content, mode


def _write_new(path: Path, content: bytes, mode: int) -> None:
    """Writes a file that was not there, whole or not at all, never readable by more than its mode says."""
    part = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.part")
    try:
        try:
            with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            # Unlike a rename, a link never takes the place of a file.
            path.hardlink_to(part)
        finally:
            part.unlink(missing_ok=True)
    except OSError as error:
        raise write_error(path, error, hint="give a new name in a folder that is there") from None


def _signing_key(private: Ed25519PrivateKey) -> SigningKey:
    public_key = private.public_key().public_bytes_raw()
    line = f"{_KEY_TYPE} {base64.b64encode(_BLOB_START + public_key).decode()}"
    return SigningKey(fingerprint_of(public_key), line, private)
