"""The labels of each photo: the true ones, and the ones the annotators of the set gave."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cls.sample.figure.wardrobe import GROUPS, MULTI_LABEL_GROUPS, draw_person, labels
from cls.sample.plan import PERSON, WRONG_LABEL

if TYPE_CHECKING:
    from cls.sample.figure.wardrobe import Person
    from cls.sample.plan import Plan, SampleConfig


def main_person(config: SampleConfig, picset: int) -> Person:
    """The person a picset is about."""
    return draw_person(config.stream(PERSON, picset))


def true_tags(person: Person) -> list[str]:
    """A person's labels of all groups, in the groups' order."""
    return [label for given in labels(person).values() for label in given]


def given_tags(plan: Plan, index: int, truth: list[str]) -> tuple[list[str], str]:
    """The tags of a photo as annotated, and the group they are wrong in ("" when they are right).

    A wrong label of a one-label group becomes another of its labels (or none); of a multi-label group, one label is
    added or dropped.
    """
    if index not in plan.wrong:
        return truth, ""
    rng = plan.config.stream(WRONG_LABEL, index)
    group = list(GROUPS)[int(rng.integers(len(GROUPS)))]
    names = GROUPS[group]
    mine = [tag for tag in truth if tag in names]
    if group in MULTI_LABEL_GROUPS:
        flipped = names[int(rng.integers(len(names)))]
        wrong = [name for name in names if (name in mine) != (name == flipped)]
    else:
        others = [[name] for name in names if name not in mine] + ([[]] if mine else [])
        wrong = others[int(rng.integers(len(others)))]
    given = [tag for name in GROUPS for tag in (wrong if name == group else [t for t in truth if t in GROUPS[name]])]
    return given, group
