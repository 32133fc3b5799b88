"""Signs packages that are there already: those of before, and all of them when a key takes another's place."""

from __future__ import annotations

from pathlib import Path

from cls.errors import PackageError, SignatureError
from cls.files import atomic_path
from cls.package.archive import open_zip, pack_files
from cls.package.keys import SigningKey
from cls.package.signature import SIGNATURE_FILE_NAME, PackageSignature, parse_signature, sign
from cls.package.verifying import verify_zip


def sign_package(zip_path: Path, signer: SigningKey) -> PackageSignature:
    """Signs a package that is there, beside those who signed it before; its files stay as they are.

    Args:
        zip_path: the package; replaced by the signed one, whole or not at all.
        signer: signs it.

    Returns:
        All its signatures.

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
                "; ".join(problems), code="invalid", where=zip_path, hint="only packages that are in order are signed"
            )
    return parse_signature(signature, zip_path)
