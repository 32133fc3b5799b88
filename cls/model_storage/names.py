"""Which model names and which versions the storage takes, and how versions are ordered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cls.errors import Fault, StorageError
from cls.package.model_name import MAX_VERSION_SIGNS, VersionKey, is_model_name, model_name_of_group, version_key


class RefusedError(StorageError):
    """A refused request; nothing was changed.

    Args:
        status: HTTP status of the answer (404 unknown, 409 exists already, 413 too big, 422 cannot be used,
            502 the inference server fails, 507 no space).
        what: what is wrong, in one sentence without a final stop.
        code: the case, see `ClsError`.
        hint: what the user can do next.
        faults: see `ClsError`.

    Attributes:
        status: as given; whoever raises a refusal again, with more words, keeps it and the case.
    """

    def __init__(
        self, status: int, what: str, *, code: str = "", hint: str | None = None, faults: Sequence[Fault] = ()
    ) -> None:
        self.status = status
        super().__init__(what, code=code, hint=hint, faults=faults)


def model_folder_name(name: str, models_folder: Path) -> str:
    """The folder of a model, by its folder's name or by its group's name.

    Args:
        name: as typed by a client.
        models_folder: folders there, made by hand or by older tools, keep whatever name they have.

    Raises:
        RefusedError: 422, the text is empty, or would be a path.
    """
    if not name or not name.isprintable() or "/" in name or "\\" in name or name in (".", ".."):
        hint = f"write it as {model_name_of_group(name)!r}, as `cls push` does" if name else "give the group's name"
        raise RefusedError(422, f"model name {name[:80]!r} cannot name a folder", code="invalid_model_name", hint=hint)
    is_there = not name.startswith(".") and len(name.encode()) <= 255 and (models_folder / name).is_dir()
    return name if is_there or is_model_name(name) else model_name_of_group(name)


@dataclass(frozen=True, order=True)
class SemanticVersion:
    """A version such as 0.0.2 or 1.0.0-rc.1, ordered as semver.org says; what follows a `+` does not count.

    Raises:
        RefusedError: 422, the text is not a semantic version, or is too long for one.
    """

    text: str = field(compare=False)
    _key: VersionKey = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if len(self.text) > MAX_VERSION_SIGNS:
            raise RefusedError(
                422,
                f"version {self.text[:80]!r}... has {len(self.text)} signs",
                code="version_too_long",
                hint=f"write a semantic version of at most {MAX_VERSION_SIGNS}",
            )
        key = version_key(self.text)
        if key is None:
            raise RefusedError(
                422,
                f"version {self.text[:80]!r} is not a semantic version",
                code="invalid_version",
                hint="write three numbers, such as 0.0.1",
            )
        object.__setattr__(self, "_key", key)

    def __str__(self) -> str:
        return self.text


def readable_version(text: object) -> SemanticVersion | None:
    """The version of a stored meta.json, or None when it has none that can be read."""
    if not isinstance(text, str):
        return None
    try:
        return SemanticVersion(text)
    except RefusedError:
        return None
