"""What `--withdraw` names: a run, or the semantic version that a run's model was published under."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import httpx

from cls.bottle.ledger import KnownModel
from cls.errors import PackageError, UsageError
from cls.package.meta import SEMANTIC_VERSION, parse_meta
from cls.package.model_name import model_name_of_group
from cls.settings import Settings
from cls.write_back.sent_journal import SentJournal

_TIMEOUT_S = 10.0


def published_model(settings: Settings, group: str, version: str) -> KnownModel | str:
    """The model that a group's version is at the configured storage.

    Args:
        settings: where the storage is.
        group: what the model classifies.
        version: semantic version.

    Returns:
        The model; or in words why it is not known. Storages that tell of the served version alone are understood.
    """
    url = settings.model_storage_url
    nowhere = "it was not published from this bottle"
    headers = {"Authorization": f"bearer {settings.model_storage_token}"} if settings.model_storage_token else {}
    try:
        answer = httpx.get(
            f"{url}/get_meta/{model_name_of_group(group)}",
            params={"semantic_version": version},
            headers=headers,
            timeout=_TIMEOUT_S,
            # A proxy meant for the internet has no business between us and a storage on this machine.
            trust_env=False,
        )
        content = answer.json()
    except httpx.HTTPError as error:
        return f"{nowhere}, and the model storage {url} cannot be asked ({error or type(error).__name__})"
    except ValueError:
        return f"{nowhere}, and {url} answers nonsense"
    if answer.status_code == 404:
        return f"{nowhere}, and the model storage {url} does not have it"
    if answer.status_code != httpx.codes.OK:
        return f"{nowhere}, and the model storage {url} answers HTTP status {answer.status_code}"
    try:
        meta = parse_meta(content, url)
    except PackageError as error:
        return f"{nowhere}, and the model storage {url} has a meta.json that {error.what}"
    if meta.model_version != version:
        return f"{nowhere}, and the model storage {url} tells of {meta.model_version or 'an unnamed version'} alone"
    return KnownModel(group, meta.training.run, meta.digests.weights, version)


_VERSION = re.compile(SEMANTIC_VERSION)


@dataclass(frozen=True)
class Withdrawn:
    """What is taken back.

    Attributes:
        runs: group -> the run whose words about it go.
        notes: what the user should know before, in lines.
    """

    runs: dict[str, str]
    notes: tuple[str, ...] = ()


def split_name(text: str, groups: Sequence[str]) -> tuple[tuple[str, ...], str]:
    """Reads `NAME` or `GROUP/NAME`, where the name is a run or a semantic version.

    Args:
        text: as typed. Groups may be called anything, also with a `/`.
        groups: of `--groups`; empty where it was not given.

    Raises:
        UsageError: it names no group and neither does `--groups`, or a group that is not among those.
    """
    group, slash, name = text.rpartition("/")
    if not slash:
        if not groups:
            raise UsageError("say of which groups: --groups G, or --withdraw G/NAME", code="missing_option")
        return tuple(groups), text
    if groups and group not in groups:
        raise UsageError(
            f"--withdraw is about group '{group}', and --groups names {', '.join(groups)}", code="options_conflict"
        )
    return (group,), name


def what_to_withdraw(
    groups: Sequence[str],
    name: str,
    journal: SentJournal,
    known: Sequence[KnownModel],
    ask_storage: Callable[[str, str], KnownModel | str],
) -> Withdrawn:
    """Finds the runs behind what a user named.

    Args:
        groups: which groups.
        name: a run, or a semantic version.
        journal: what was sent.
        known: of `cls.bottle.ledger.known_models`.
        ask_storage: group and version -> the model that the storage has under it, or why that is not known.

    Raises:
        UsageError: it is not known which model the version is, or nothing of it was sent.
    """
    is_version = _VERSION.fullmatch(name) is not None
    runs: dict[str, str] = {}
    problems: list[str] = []
    notes: list[str] = []
    for group in groups:
        if not is_version:
            runs[group] = name
            continue
        found = _model_of(group, name, known, ask_storage)
        reason = found if isinstance(found, str) else _why_not_ours(found, known)
        if isinstance(found, str) or reason:
            problems.append(f"{group} {name}: {reason}")
            continue
        runs[group] = found.run
        notes.append(_note(found, name, known))
    sent = {group: journal.runs_of(group) for group in groups}
    if problems:
        hint = _sent_in_words(sent)
        raise UsageError(
            f"it is not known what to withdraw: {'; '.join(problems)}",
            code="model_not_known",
            hint=f"name the run: {hint}" if any(sent.values()) else hint,
        )
    if not any(journal.guids_of(group, run) for group, run in runs.items()):
        what = f"version {name} ({', '.join(runs.values())})" if is_version else f"run '{name}'"
        raise UsageError(
            f"nothing of {what} that this bottle sent is at {journal.collector_url}",
            code="nothing_sent",
            hint=_sent_in_words(sent),
        )
    return Withdrawn(runs, tuple(notes))


def _model_of(
    group: str, version: str, known: Sequence[KnownModel], ask_storage: Callable[[str, str], KnownModel | str]
) -> KnownModel | str:
    """The model of a version as this bottle knows it, or else as the storage does."""
    found = {model.run: model for model in known if (model.group, model.version) == (group, version)}
    if len(found) > 1:
        return f"published from this bottle were {' and '.join(found)} (to different storages)"
    return next(iter(found.values())) if found else ask_storage(group, version)


def _why_not_ours(found: KnownModel, known: Sequence[KnownModel]) -> str:
    """Why a model is another one than that which predicted here under the same run name; empty when it is not."""
    predicted = {
        model.weights_sha256
        for model in known
        if model.has_predicted and (model.group, model.run) == (found.group, found.run)
    }
    if not predicted or not found.weights_sha256 or found.weights_sha256 in predicted:
        return ""
    return f"that is a {found.run} of another machine, with other weights than the one that predicted here"


def _note(found: KnownModel, version: str, known: Sequence[KnownModel]) -> str:
    others = {
        model.version
        for model in known
        if model.version not in ("", version) and (model.group, model.run) == (found.group, found.run)
    }
    also = f", published from this bottle as {', '.join(sorted(others))} too" if others else ""
    return f"{found.group} {version} is {found.run}{also}"


def _sent_in_words(sent: dict[str, list[str]]) -> str:
    named = [f"{group}: {', '.join(runs)}" for group, runs in sent.items() if runs]
    return f"sent were {'; '.join(named)}" if named else "nothing of these groups is there: never sent, or withdrawn"
