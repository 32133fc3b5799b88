"""What an earlier export left in the package's folder: which packages stay, and which go."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from cls.errors import ClsError
from cls.exporting.formats.files import FILES, FORMATS, Format
from cls.files import sha256_of_file
from cls.package.archive import open_package
from cls.package.meta import META_FILE_NAME, ModelMeta, ParityMeta, read_meta

_OWN_NAMES = {META_FILE_NAME, *(name for files in FILES.values() for name in (*files.files, files.archive))}


@dataclass(frozen=True)
class Earlier:
    """What an earlier export left.

    Attributes:
        parity: formats that stay -> how they compared when they were made.
        removed: formats that go -> why, in a few words.
        of_other_runs: packages that no export made, such as rebuilt ones, and that stay -> the run they are of.
    """

    parity: dict[Format, ParityMeta] = field(default_factory=dict)
    removed: dict[Format, str] = field(default_factory=dict)
    of_other_runs: dict[str, str] = field(default_factory=dict)


def keep_earlier(
    folder: Path, staged: Path, meta: ModelMeta, made: Collection[Format], refused: Collection[Format]
) -> Earlier:
    """Copies what stays: packages of the very same model that were proven before, and what others put there.

    Args:
        folder: the package's folder as it is.
        staged: the folder that will take its place.
        meta: what the packages made now say.
        made: the formats made now.
        refused: the formats refused now: what was made of them before is not offered any more.
    """
    if not folder.is_dir():
        return Earlier()
    _copy_foreign(folder, staged)
    earlier = Earlier(of_other_runs=_packages_of_other_runs(folder, meta.training.run))
    before = _meta_of(folder)
    for name in FORMATS:
        files = FILES[name]
        names = (*files.files, files.archive)
        if name in made or not any((folder / file).exists() for file in names):
            continue
        reason = "this export refuses it" if name in refused else _why_not_kept(folder, before, meta, name)
        if reason is not None or before is None:
            earlier.removed[name] = reason or "nothing says what it is of"
            continue
        for file in names:
            shutil.copy2(folder / file, staged / file)
        earlier.parity[name] = before.parity[name]
    return earlier


def _meta_of(folder: Path) -> ModelMeta | None:
    try:
        return read_meta(folder / META_FILE_NAME)
    except ClsError:
        return None  # It is written anew; what it should have spoken of goes, and is named.


def _why_not_kept(folder: Path, before: ModelMeta | None, meta: ModelMeta, name: Format) -> str | None:
    """Why a package is not one of the model exported now, as it was proven; None where it is."""
    if before is None or name not in before.parity:
        return "no meta.json says what it is of"
    if before.training.run != meta.training.run:
        return f"it is of run {before.training.run}"
    if before.is_end_to_end != meta.is_end_to_end:
        kinds = ("plain", "--end-to-end")
        return f"it is {kinds[before.is_end_to_end]}, and what is made now is {kinds[meta.is_end_to_end]}"
    if _facts(before) != _facts(meta):
        return "its meta.json says other things of the same run"
    files = FILES[name]
    try:
        digests = {inner: sha256_of_file(folder / file) for inner, file in zip(files.inner, files.files, strict=True)}
        with open_package(folder / files.archive) as package:
            packed = package.meta()
    except (ClsError, OSError):
        return "it is damaged"
    known = {inner: before.digests.files.get(file) for inner, file in zip(files.inner, files.files, strict=True)}
    is_whole = digests == known == packed.digests.files and packed.digests.weights == meta.digests.weights
    return None if is_whole else "it is not what its meta.json says"


def _facts(meta: ModelMeta) -> ModelMeta:
    """What does not depend on the formats made."""
    digests = meta.digests.model_copy(update={"files": {}})
    # Older packages do not name the steps, and mean the same.
    same = {"steps": meta.all_steps, "parity": {}, "package": None, "digests": digests, "schema_version": 1}
    return meta.model_copy(update=same)


def _packages_of_other_runs(folder: Path, run: str) -> dict[str, str]:
    found = {}
    for path in sorted(folder.glob("*.zip")):
        if path.name in _OWN_NAMES:
            continue
        try:
            with open_package(path) as package:
                found[path.name] = package.meta().training.run
        except (ClsError, OSError):
            continue  # no package: nobody takes it for one of this run
    return {name: of for name, of in found.items() if of != run}


def _copy_foreign(folder: Path, staged: Path) -> None:
    """Carries over what others put into the package's folder."""
    for entry in folder.iterdir():
        if entry.name in _OWN_NAMES or entry.name.startswith("."):
            continue
        if entry.is_dir():
            shutil.copytree(entry, staged / entry.name, symlinks=True)
        else:
            shutil.copy2(entry, staged / entry.name, follow_symlinks=False)
