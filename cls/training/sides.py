"""Who is trained on and who is validated on."""

from __future__ import annotations

import logging
from collections import Counter

from cls.bottle.layout import Bottle
from cls.dataset.samples import Sample
from cls.dataset.split.assign import TRAIN, VALID, Split, check_split
from cls.dataset.split.file import split_with_memory
from cls.dataset.split.joins import find_joins
from cls.dataset.split.parts import NamedSplit
from cls.errors import TrainingError
from cls.training.config import TrainConfig
from cls.training.loop.speed import cores
from cls.training.network.seen_people import SeenPeople
from cls.wording import counted

_log = logging.getLogger("cls.training")

_MOST_NAMED = 10


def sides_for(
    bottle: Bottle, config: TrainConfig, samples: list[Sample], named: NamedSplit | None, seen: SeenPeople
) -> Split:
    """The split: an earlier training's where there is one of the same seed and share, with new picsets added.

    Where the dataset's own parts are asked for, it is theirs. Whom the first weights were trained on is not validated
    on: they are in training.

    Args:
        bottle: the data folder.
        config: mode, seed, share, parts.
        samples: everyone; of `joined_samples` where the split is made here.
        named: the dataset's own parts.
        seen: whom the first weights were trained on.

    Raises:
        TrainingError: a side would be empty, or the dataset's own parts hold out people the first weights know.
    """
    if named is not None:
        (_log.warning if named.used.is_leaking else _log.info)("%s", named.used.line())
    if config.mode == "all":
        return Split({sample.unit: TRAIN for sample in samples})
    known = seen.among(samples)
    if known and config.leak_tax:
        raise TrainingError(
            f"--leak-tax: {seen.origin} was trained on {len(known)} of the {len(samples)} people, so a random split "
            "would be flattered by it and not by itself",
            hint="leave out --leak-tax, or --pretrained",
        )
    if named is not None:
        _check_parts(named, seen)
        return named.split
    if {sample.unit for sample in known} == {sample.unit for sample in samples}:
        raise TrainingError(
            f"{seen.origin}, which gives the first weights, was trained on all {len(samples)} people, or on pictures "
            "that belong together with theirs: nobody is left to validate on",
            where=bottle.dataset_file(config.group),
            hint="start from a run that held people out, load more picsets, or train on everything with --mode all",
        )
    older = bottle.models(config.group) / "splits.json"
    file = bottle.dataset_file(config.group)
    split = split_with_memory(
        file, older, samples, seed=config.seed, valid_share=config.valid, trained_on=seen.members if known else ()
    )
    train, valid = split.part(samples, TRAIN), split.part(samples, VALID)
    check_split(train, valid)
    _log.info("split by picset: %d people for training, %d for validation", len(train), len(valid))
    if known:
        _say_seen(seen, known, valid, wanted=config.valid * len(samples))
    if split.moved:
        _log.warning("%s", _moved_line(split.moved))
    return split


def _moved_line(moved: tuple[str, ...]) -> str:
    """Who changed sides, and what that means for earlier runs."""
    picsets, pictures = ([name for name in moved if name.startswith(kind)] for kind in ("picset:", "picture:"))
    shown = (picsets or pictures)[:_MOST_NAMED]
    others = len(picsets or pictures) - len(shown)
    return (
        f"{counted(len(picsets), 'picset')} and {counted(len(pictures), 'picture')} of validation are now in training, "
        f"as they belong together with others that were trained on: {', '.join(shown)}"
        + (f" and {others} more" if others else "")
        + ". Earlier runs were validated on them"
    )


def _say_seen(seen: SeenPeople, known: list[Sample], valid: list[Sample], *, wanted: float) -> None:
    _log.info(
        "%s was trained on %d of these people: they are in training, and nobody of validation is among them",
        seen.origin, len(known),
    )  # fmt: skip
    if len(valid) < wanted / 2:
        _log.warning(
            "that leaves %d people for validation where --valid asks for %d: its measures are rough", len(valid), wanted
        )


def _check_parts(named: NamedSplit, seen: SeenPeople) -> None:
    """Parts that a dataset brings are taken as they are: they cannot make room for what the first weights know."""
    held_out = [*named.split.part(named.samples, VALID), *named.test]
    known = seen.among(held_out)
    if known:
        raise TrainingError(
            f"{seen.origin}, which gives the first weights, was trained on {len(known)} of the {len(held_out)} people "
            f"that parts '{named.used.name}' of the dataset hold out (e.g. {known[0].path})",
            hint="start from a run trained on the same parts, or leave out --pretrained",
        )


def joined_samples(bottle: Bottle, config: TrainConfig, samples: list[Sample]) -> list[Sample]:
    """The samples, with the names of those that a split must keep together."""
    joins = find_joins(
        bottle, config.group, samples, keys=config.join_by, has_near_duplicates=config.near_duplicates, workers=cores()
    )
    if not joins.clusters:
        return samples
    _log.info("%s", joins.line())
    joined = joins.applied(samples)
    unit, largest = Counter(sample.unit for sample in joined).most_common(1)[0]
    if largest > len(joined) / 2:
        _log.warning(
            "%d of %d people belong together (%s): see --join-by and --no-near-duplicates if they should not",
            largest, len(joined), unit,
        )  # fmt: skip
    return joined
