"""What is to become of picsets at the collector: predictions put in, or taken back; what others made stays."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import httpx

from cls.bottle.ledger import KnownModel
from cls.collector.payloads import Picset
from cls.errors import BottleError, PackageError, UsageError
from cls.files import sha256_of_bytes
from cls.package.meta import SEMANTIC_VERSION, parse_meta
from cls.package.model_name import model_name_of_group
from cls.settings import Settings
from cls.write_back.changes import PicsetChanges, PicsetState, changes_between
from cls.write_back.ret_meta import PicsetPredictions, with_predictions, without_statements
from cls.write_back.statements import OwnStatements, Sent, SentJournal, Statement, statements_of

_TIMEOUT_S = 10.0

_VERSION = re.compile(SEMANTIC_VERSION)

# So many at a time for a preview; what is sent is read one by one, right before it is sent.
_PICSETS_A_REQUEST = 20


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
        BottleError: it is not known which model the version is, or nothing of it was sent.
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
        raise BottleError(
            f"it is not known what to withdraw: {'; '.join(problems)}",
            code="model_not_known",
            hint=f"name the run: {hint}" if any(sent.values()) else hint,
        )
    if not any(journal.guids_of(group, run) for group, run in runs.items()):
        what = f"version {name} ({', '.join(runs.values())})" if is_version else f"run '{name}'"
        raise BottleError(
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


class Collector(Protocol):
    """What sending needs of a `CollectorClient`."""

    def picsets(self, guids: Sequence[str]) -> Iterator[Picset]:
        """What the collector says of picsets; unknown ones are missing."""

    def change_trained(self, build: Callable[[], Picset | None]) -> bool:
        """Sends what `build` returns, built again for every attempt; returns whether anything was sent."""


@dataclass(frozen=True)
class PicsetUpdate:
    """One picset with what is to become of it.

    Attributes:
        before: as the collector has it.
        after: as it is to be.
        sent: what will be ours in it then.
        known: what is ours in it now.
        others: a digest of what others say in it of people.
        left: statements of others about the same groups, which stay.
    """

    guid: str
    before: Picset = field(repr=False)
    after: Picset = field(repr=False)
    sent: Sent = field(repr=False)
    known: Sent = field(repr=False)
    others: str
    left: tuple[Statement, ...] = ()

    @property
    def is_change(self) -> bool:
        """Whether there is anything to send."""
        return self.before.content != self.after.content

    def changes(self) -> PicsetChanges:
        """What differs, person by person."""
        before, after = (
            PicsetState(self.before, self.known.statements_alone),
            PicsetState(self.after, self.sent.statements_alone),
        )
        return changes_between(self.guid, before, after, self.left)


@dataclass(frozen=True)
class PlannedUpdates:
    """What is to be done to picsets.

    Attributes:
        update: the picset as the collector has it -> what is to become of it.
    """

    guids: tuple[str, ...]
    update: Callable[[Picset], PicsetUpdate] = field(repr=False)


def plan_sending(
    journal: SentJournal, predictions: Sequence[PicsetPredictions], replaced_runs: Collection[str] = ()
) -> PlannedUpdates:
    """Puts predictions in.

    Args:
        journal: what is ours at the collector.
        predictions: what is predicted.
        replaced_runs: runs of other tools whose statements give way too.
    """
    wanted = {picset.guid: picset for picset in predictions}

    def update(before: Picset) -> PicsetUpdate:
        return _update_to_send(before, journal.of(before.guid), wanted[before.guid], replaced_runs)

    return PlannedUpdates(tuple(wanted), update)


def plan_withdrawal(journal: SentJournal, runs: Mapping[str, str]) -> PlannedUpdates:
    """Takes back what runs' models said.

    Args:
        journal: what is ours at the collector.
        runs: group -> the run whose words about it go.
    """
    guids = dict.fromkeys(guid for group, run in runs.items() for guid in journal.guids_of(group, run))

    def update(before: Picset) -> PicsetUpdate:
        return _update_to_withdraw(before, journal.of(before.guid), runs)

    return PlannedUpdates(tuple(guids), update)


def unsent_predictions(journal: SentJournal, predictions: Sequence[PicsetPredictions]) -> list[PicsetPredictions]:
    """Those that the collector has not been sent in this form."""
    return [picset for picset in predictions if journal.of(picset.guid).digest != picset.digest]


def updates_of(collector: Collector, plan: PlannedUpdates) -> Iterator[PicsetUpdate | str]:
    """What would become of picsets as the collector has them now.

    Yields:
        One update for each picset; the GUID of one that the collector does not have.

    Raises:
        CollectorError: the collector is gone, or answers nonsense.
    """
    for start in range(0, len(plan.guids), _PICSETS_A_REQUEST):
        batch = plan.guids[start : start + _PICSETS_A_REQUEST]
        found = {picset.guid: picset for picset in collector.picsets(batch)}
        for guid in batch:
            yield plan.update(found[guid]) if guid in found else guid


def _update_to_send(
    before: Picset, known: Sent, predicted: PicsetPredictions, replaced_runs: Collection[str]
) -> PicsetUpdate:
    after = before
    added: list[tuple[Statement, str]] = []
    for layer in predicted.layers:
        # What the layers before have added tells whose entries they are.
        ours = OwnStatements(
            [*known.statements_alone, *(statement for statement, _ in added)], before.versions, replaced_runs
        )
        merged = with_predictions(after, layer.people, layer.runs, ours)
        after = merged.picset
        added += [(statement, layer.runs[statement.group]) for statement in merged.added]
    standing = list(statements_of(after))
    new = [statement for statement, _ in added]
    kept = [row for row in known.statements if _has(standing, row[0]) and not _has(new, row[0])]
    still_ours = [*new, *(statement for statement, _ in kept)]
    left = [
        statement for statement in standing if statement.group in predicted.runs and not _has(still_ours, statement)
    ]
    first = {group: before.versions.get(group, "") for group in predicted.runs if group not in known.before}
    sent = Sent(predicted.digest, (*kept, *added), {**known.before, **first})
    return PicsetUpdate(predicted.guid, before, after, sent, known, _others_digest(before, known), tuple(left))


def _update_to_withdraw(before: Picset, known: Sent, runs: Mapping[str, str]) -> PicsetUpdate:
    rest = tuple(row for row in known.statements if runs.get(row[0].group) != row[1])
    staying = [statement for statement, _ in rest]
    gone = [
        statement for group, run in runs.items() for statement in known.of(group, run) if not _has(staying, statement)
    ]
    # An empty name says that no run predicts the group: collectors that merge what they are sent keep names left out.
    versions = {
        group: known.before.get(group, "")
        for group, run in runs.items()
        if before.versions.get(group) == run and not any(statement.group == group for statement in staying)
    }
    after = without_statements(before, runs, OwnStatements(gone), versions)
    still = {
        group: known.before[group] for group in known.before if any(statement.group == group for statement in staying)
    }
    left = [statement for statement in statements_of(after) if statement.group in runs and not _has(staying, statement)]
    return PicsetUpdate(
        before.guid, before, after, Sent("", rest, still), known, _others_digest(before, known), tuple(left)
    )


def _others_digest(picset: Picset, known: Sent) -> str:
    """The same as long as others say the same, whatever becomes of what is ours."""
    rest = without_statements(
        picset, {statement.group for statement in known.statements_alone}, OwnStatements(known.statements_alone), {}
    )
    trained = [[item.picture, [entry.source for entry in item.trained or ()]] for item in rest.items]
    return sha256_of_bytes(json.dumps(trained, sort_keys=True, default=str).encode())[:32]


def _has(statements: Sequence[Statement], wanted: Statement) -> bool:
    return any(wanted.is_same(statement) for statement in statements)
