"""Parts of a set in which nobody stands on two sides, in the proportions of the published ones."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from cls.attribute_sets.attribute_set import SetPicture
from cls.dataset.split.assign import TRAIN, VALID
from cls.dataset.split.parts import TEST

# PETA's: 9,500 training, 1,900 validation, 7,600 test; used where a layout has no published parts.
_SHARES = {TRAIN: 0.5, VALID: 0.1, TEST: 0.4}


def identity_parts(pictures: Sequence[SetPicture], official: Mapping[str, str]) -> dict[str, str]:
    """Picture -> side, whole people on each side.

    People are put in the order of their rarest label, at random within it, and dealt one after the other to the side
    that lags most behind its share of pictures: so every stretch of the order, and with it every label, is divided in
    proportion. Sets of tens of thousands of people, for which dealing label by label takes minutes, take a second.

    Args:
        pictures: all with an identity.
        official: the published parts, whose proportions are kept; may be empty.

    Returns:
        The same for the same pictures; empty where there are too few people for three parts.
    """
    counts = Counter(official.values())
    shares = {side: counts[side] / len(official) for side in _SHARES} if official else _SHARES
    by_person: dict[str, list[SetPicture]] = {}
    for picture in pictures:
        by_person.setdefault(picture.identity, []).append(picture)
    if not by_person:
        return {}
    dealt = dict.fromkeys(_SHARES, 0)
    sides: dict[str, str] = {}
    for person in _by_rarest_label(by_person):
        size, total = len(by_person[person]), sum(dealt.values())
        side = max(_SHARES, key=lambda name: shares[name] * (total + size) - dealt[name])
        dealt[side] += size
        sides[person] = side
    if set(sides.values()) != set(_SHARES):
        return {}
    return {picture.name: sides[picture.identity] for picture in pictures}


def _by_rarest_label(by_person: Mapping[str, Sequence[SetPicture]]) -> list[str]:
    """People by the rarest label they have, those without labels last; at random, and always alike, among equals."""
    people = list(by_person)
    has = np.array([np.nan_to_num([p.labels for p in by_person[person]]).max(axis=0) > 0.5 for person in people])
    order = np.argsort(has.sum(axis=0), kind="stable")
    ranked = np.hstack([has[:, order], np.ones((len(people), 1), bool)])
    rarest = ranked.argmax(axis=1)
    return [person for _, _, person in sorted(zip(rarest.tolist(), map(_chance, people), people, strict=True))]


def _chance(person: str) -> bytes:
    return hashlib.sha256(person.encode()).digest()
