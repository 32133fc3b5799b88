"""Which group a stored model is of: its name may be anything, its versions answer for one group."""

from __future__ import annotations

from collections.abc import Iterable

from cls.model_storage.refusal import RefusedError
from cls.model_storage.repository import StoredVersion
from cls.package.model_name import model_name_of_group, names_model_of


def refuse_other_group(model: str, group: str | None, stored: Iterable[StoredVersion]) -> None:
    """Refuses a package of another group than the model's: whoever asks a model relies on what it answered before.

    The group that a model is named after can always be published: what somebody else put there first is in its way.

    Args:
        model: name of the model's folder.
        group: the package's; None where it does not say.
        stored: the model's versions.

    Raises:
        RefusedError: 422, it is of another one.
    """
    groups = _groups_of(model, stored)
    if group is None or not groups or group in groups or names_model_of(model, group):
        return
    raise RefusedError(
        422,
        f"the package is of group {group!r}, and model {model!r} is of group {_listed(groups)}",
        hint=f"send it as model {model_name_of_group(group)!r}, or send the package of the right group",
    )


def refuse_stray(model: str, number: int, stored: Iterable[StoredVersion]) -> None:
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
            hint=f"publish that package as model {model_name_of_group(group)!r}",
        )


def remark_on_name(model: str, group: str | None, before: Iterable[StoredVersion]) -> str | None:
    """What is to be told of a package that was published: it began a model under a strange name, or took one back.

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
    if versions or names_model_of(model, group):
        return None
    return (
        f"{model} is a new model of group {group!r}, under a name that is not the group's;"
        f" if that was not meant, publish it as {model_name_of_group(group)!r}"
    )


def _groups_of(model: str, stored: Iterable[StoredVersion]) -> set[str]:
    """What a model answers for: the group it is named after once a version is of it, any of theirs before that."""
    groups = {version.group for version in stored if version.group is not None}
    return {group for group in groups if names_model_of(model, group)} or groups


def _listed(groups: Iterable[str | None]) -> str:
    return ", ".join(sorted(map(repr, groups)))
