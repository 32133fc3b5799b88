from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from cls.dataset.samples import Sample
from cls.dataset.split.assign import TRAIN, VALID, _assign_new, check_split, split_samples
from cls.dataset.split.file import SplitRule, read_split, write_split
from cls.errors import TrainingError
from cls.files import read_json, write_json_atomic
from cls.people.photos import Person

PERSON = Person("female", 0.9, (0, 0, 10, 10), ())


def sample(number: int, picset: str, labels: tuple[float, ...]) -> Sample:
    return Sample(f"{number}.jpeg", picset, PERSON, labels)


@st.composite
def sample_sets(draw: st.DrawFn) -> list[Sample]:
    width = draw(st.integers(1, 4))
    picsets = draw(st.lists(st.text("abc", min_size=1, max_size=4), min_size=2, max_size=30, unique=True))
    count = draw(st.integers(len(picsets), 80))
    values = st.tuples(*[st.sampled_from([0.0, 1.0, float("nan")])] * width)
    # Every picset has a photo; the others fall anywhere, some of them without a picset.
    names = picsets + [draw(st.sampled_from([*picsets, ""])) for _ in range(count - len(picsets))]
    return [sample(number, name, draw(values)) for number, name in enumerate(names)]


def random_samples(picsets: int, per_picset: int, rates: tuple[float, ...], seed: int = 0) -> list[Sample]:
    rng = np.random.default_rng(seed)
    samples = []
    for number in range(picsets):
        labels = tuple((rng.random(len(rates)) < rates).astype(float).tolist())
        samples += [sample(number * per_picset + n, f"set-{number}", labels) for n in range(per_picset)]
    return samples


@settings(max_examples=80, deadline=None)
@given(sample_sets(), st.floats(0.05, 0.6), st.integers(0, 5))
def test_no_picset_on_both_sides_and_nobody_lost(samples: list[Sample], share: float, seed: int) -> None:
    split = split_samples(samples, valid_share=share, seed=seed)
    train, valid = split.select(samples, TRAIN), split.select(samples, VALID)
    check_split(train, valid)
    assert len(train) + len(valid) == len(samples)
    assert train
    assert valid


@settings(max_examples=60, deadline=None)
@given(sample_sets(), st.randoms(use_true_random=False))
def test_the_order_of_samples_does_not_matter(samples: list[Sample], random: object) -> None:
    shuffled = list(samples)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    expected = split_samples(samples, valid_share=0.2, seed=1)
    assert split_samples(shuffled, valid_share=0.2, seed=1) == expected


@settings(max_examples=60, deadline=None)
@given(sample_sets(), sample_sets())
def test_added_pictures_move_nobody(samples: list[Sample], added: list[Sample]) -> None:
    before = split_samples(samples, valid_share=0.2, seed=1)
    width = len(samples[0].labels)
    more = [
        sample(1000 + number, one.picset and f"{one.picset}-new", (*one.labels, 0.0, 0.0, 0.0)[:width])
        for number, one in enumerate(added)
    ]
    after = split_samples([*samples, *more], valid_share=0.2, seed=1, known=before.subsets)
    assert {unit: after.subsets[unit] for unit in before.subsets} == before.subsets


def test_labels_are_stratified() -> None:
    samples = random_samples(200, 5, (0.5, 0.2, 0.05, 0.02))
    split = split_samples(samples, valid_share=0.2, seed=0)
    labels = np.array([s.labels for s in samples])
    is_valid = np.array([split.subsets[s.split_unit] == VALID for s in samples])
    shares = labels[is_valid].sum(axis=0) / labels.sum(axis=0)
    assert np.all(np.abs(shares - 0.2) < 0.08), shares
    assert abs(is_valid.mean() - 0.2) < 0.03


def test_a_label_of_two_picsets_is_on_both_sides() -> None:
    samples = [*random_samples(40, 4, (0.0,)), sample(900, "rare-a", (1.0,)), sample(901, "rare-b", (1.0,))]
    split = split_samples(samples, valid_share=0.1, seed=0)
    assert {split.subsets["picset:rare-a"], split.subsets["picset:rare-b"]} == {TRAIN, VALID}


def test_another_seed_gives_another_split() -> None:
    samples = random_samples(60, 4, (0.3, 0.3))
    assert split_samples(samples, valid_share=0.2, seed=0) != split_samples(samples, valid_share=0.2, seed=1)


def test_one_picset_cannot_be_split() -> None:
    with pytest.raises(TrainingError) as caught:
        split_samples([sample(0, "only", (1.0,)), sample(1, "only", (0.0,))], valid_share=0.2, seed=0)
    assert caught.value.code == "training.one_picset"
    assert "--mode all" in str(caught.value.hint)


def test_a_leak_is_refused() -> None:
    with pytest.raises(TrainingError) as caught:
        check_split([sample(0, "a", (1.0,))], [sample(1, "a", (0.0,))])
    assert caught.value.code == "training.split_leaks"
    assert "picset:a" in caught.value.what
    with pytest.raises(TrainingError) as caught:
        check_split([sample(0, "a", (1.0,))], [sample(0, "b", (0.0,))])
    assert caught.value.code == "training.split_leaks"
    assert "picture:0.jpeg" in caught.value.what


@pytest.mark.parametrize(("count", "more"), [(3, ""), (4, " and 1 more"), (5, " and 2 more")])
def test_three_of_those_on_both_sides_are_named(count: int, more: str) -> None:
    sides = [[sample(number + side, name, (1.0,)) for number, name in enumerate("abcde"[:count])] for side in (0, 10)]
    with pytest.raises(TrainingError) as caught:
        check_split(*sides)
    assert caught.value.code == "training.split_leaks"
    assert f": picset:a, picset:b, picset:c{more} in " in caught.value.what


def test_a_leak_in_the_file_is_refused(tmp_path: Path) -> None:
    samples = random_samples(10, 3, (0.5,))
    file = tmp_path / "split.json"
    split = split_samples(samples, valid_share=0.3, seed=0)
    write_split(file, split, samples, SplitRule(0, 0.3))
    train, valid = read_split(file)
    assert train == {s.path for s in split.select(samples, TRAIN)}
    assert valid == {s.path for s in split.select(samples, VALID)}
    content = read_json(file)
    content[VALID].append(content[TRAIN][0])
    write_json_atomic(file, content)
    with pytest.raises(TrainingError) as caught:
        read_split(file)
    assert caught.value.code == "training.split_leaks"


@settings(max_examples=60, deadline=None)
@given(sample_sets(), st.data())
def test_what_was_trained_on_is_never_validated_on(samples: list[Sample], data: st.DataObject) -> None:
    """Whatever is joined later: nothing leaves training, and all of a cluster is on one side."""
    before = split_samples(samples, valid_share=0.3, seed=1)
    known = before.remembered_subsets(samples)
    clusters = {unit: data.draw(st.sampled_from(["", "joined:a", "joined:b"]), unit) for unit in sorted(before.subsets)}
    joined = [replace(one, joined=clusters[one.unjoined_unit]) for one in samples]
    if len({one.split_unit for one in joined}) < 2:
        return
    try:
        after = split_samples(joined, valid_share=0.3, seed=1, known=known)
    except TrainingError:
        # All of validation was joined with what was trained on.
        is_trained = {one.split_unit: False for one in joined}
        is_trained.update((one.split_unit, True) for one in joined if known[one.unjoined_unit] == TRAIN)
        assert all(is_trained.values())
        return
    train, valid = after.select(joined, TRAIN), after.select(joined, VALID)
    check_split(train, valid)
    trained_before = {one.path for one in before.select(samples, TRAIN)}
    assert trained_before.isdisjoint(one.path for one in valid)
    for member in after.moved:
        assert known[member] == VALID
        assert after.remembered_subsets(joined)[member] == TRAIN


def test_joined_units_leave_validation_where_one_was_trained_on() -> None:
    samples = [sample(0, "a", (1.0,)), sample(1, "b", (0.0,)), sample(2, "c", (1.0,)), sample(3, "d", (0.0,))]
    known = {"picset:a": TRAIN, "picset:b": VALID, "picset:c": TRAIN, "picset:d": VALID}
    joined = [replace(one, joined="joined:a" if one.picset in "ab" else "") for one in samples]
    split = split_samples(joined, valid_share=0.5, seed=0, known=known)
    assert split.subsets == {"joined:a": TRAIN, "picset:c": TRAIN, "picset:d": VALID}
    assert split.moved == ("picset:b",)


def test_a_picture_that_was_trained_on_stays_in_training_in_another_picset() -> None:
    samples = [sample(n, f"s{n}", (float(n % 2),)) for n in range(8)]
    split = split_samples(samples, valid_share=0.4, seed=0)
    moved = [replace(one, picset=f"new-{one.picset}") for one in samples]
    again = split_samples(moved, valid_share=0.4, seed=0, known=split.remembered_subsets(samples))
    assert {s.path for s in again.select(moved, VALID)} == {s.path for s in split.select(samples, VALID)}


def test_a_label_with_one_positive_is_in_training() -> None:
    for seed in range(20):
        samples = [*random_samples(6, 1, (0.5,), seed), sample(900, "rare", (0.0,))]
        samples = [replace(one, labels=(*one.labels, float(one.picset == "rare"))) for one in samples]
        split = split_samples(samples, valid_share=0.4, seed=seed)
        assert split.subsets["picset:rare"] == TRAIN


def test_known_absences_of_an_incomplete_label_are_on_both_sides() -> None:
    unknown = float("nan")
    samples = [sample(n, f"s{n}", (1.0, unknown)) for n in range(20)]
    samples += [sample(100 + n, f"p{n}", (0.0, 1.0)) for n in range(10)]
    samples += [sample(200, "absent-a", (1.0, 0.0)), sample(201, "absent-b", (1.0, 0.0))]
    for seed in range(10):
        split = split_samples(samples, valid_share=0.2, seed=seed)
        assert {split.subsets["picset:absent-a"], split.subsets["picset:absent-b"]} == {TRAIN, VALID}


def test_an_empty_validation_part_is_refused() -> None:
    samples = random_samples(5, 2, (0.5,))
    known = {one.unjoined_unit: TRAIN for one in samples}
    with pytest.raises(TrainingError) as caught:
        split_samples(samples, valid_share=0.2, seed=0, known=known)
    assert caught.value.code == "training.empty_part"
    assert "valid" in caught.value.what
    assert "--seed" in str(caught.value.hint)


def test_joined_picsets_on_both_sides_are_a_leak(tmp_path: Path) -> None:
    one, other = sample(0, "a", (1.0,)), sample(1, "b", (0.0,))
    joined = [replace(one, joined="joined:a"), replace(other, joined="joined:a")]
    with pytest.raises(TrainingError) as caught:
        check_split(joined[:1], joined[1:])
    assert caught.value.code == "training.split_leaks"
    assert "joined:a" in caught.value.what
    with pytest.raises(TrainingError) as caught:
        split_samples(joined, valid_share=0.5, seed=0)
    assert caught.value.code == "training.all_joined"
    assert "--no-near-duplicates" in str(caught.value.hint)
    file = tmp_path / "split.json"
    more = [*joined, sample(2, "c", (1.0,))]
    write_split(file, split_samples(more, valid_share=0.4, seed=0), more, SplitRule(0, 0.4))
    content = read_json(file)
    assert content["joined"] == {"joined:a": ["picset:a", "picset:b"]}
    assert content["join_rule"] == 3
    read_split(file)
    full, empty = (TRAIN, VALID) if len(content[TRAIN]) == 2 else (VALID, TRAIN)
    content[empty].append(content[full].pop())
    write_json_atomic(file, content)
    with pytest.raises(TrainingError) as caught:
        read_split(file)
    assert caught.value.code == "training.split_leaks"
    assert "joined:a" in caught.value.what


def deal_plainly(counts: NDArray[np.float64], sides: NDArray[np.int_], wanted: NDArray[np.float64]) -> None:
    """Iterative stratification word for word, looking through all open units at every step."""
    while (still_open := np.flatnonzero(sides < 0)).size:
        left = (counts[still_open] > 0).sum(axis=0)
        label = int(np.argmin(np.where(left[:-1] > 0, left[:-1], np.inf))) if left[:-1].any() else counts.shape[1] - 1
        having = still_open[counts[still_open, label] > 0]
        unit = int(having[np.argmax(counts[having, label])])
        side = int(np.lexsort((wanted[:, -1], wanted[:, label]))[-1])
        sides[unit] = side
        wanted[side] -= counts[unit]


@given(st.integers(0, 2**32 - 1), st.integers(2, 60), st.integers(1, 6))
def test_dealing_fast_is_dealing_plainly(seed: int, units: int, labels: int) -> None:
    rng = np.random.default_rng(seed)
    counts = np.hstack([rng.poisson(0.7, (units, labels + 1)), rng.integers(1, 9, (units, 1))]).astype(np.float64)
    known = np.where(rng.random(units) < 0.2, rng.integers(0, 2, units), -1)
    fast, plain = known.copy(), known.copy()
    _assign_new(counts, fast, np.outer([0.8, 0.2], counts.sum(axis=0)))
    deal_plainly(counts, plain, np.outer([0.8, 0.2], counts.sum(axis=0)))
    np.testing.assert_array_equal(fast, plain)
