from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cls.dataset.samples import Sample
from cls.dataset.split import TRAIN, VALID, Split, check_split, split_samples
from cls.dataset.split_file import read_split, remember_split, remembered_split, write_split
from cls.errors import TrainingError
from cls.files import read_json, write_json_atomic
from cls.people.person import Person

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
    train, valid = split.part(samples, TRAIN), split.part(samples, VALID)
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
    after = split_samples([*samples, *more], valid_share=0.2, seed=1, known=before.sides)
    assert {unit: after.sides[unit] for unit in before.sides} == before.sides


def test_labels_are_stratified() -> None:
    samples = random_samples(200, 5, (0.5, 0.2, 0.05, 0.02))
    split = split_samples(samples, valid_share=0.2, seed=0)
    labels = np.array([s.labels for s in samples])
    is_valid = np.array([split.sides[s.unit] == VALID for s in samples])
    shares = labels[is_valid].sum(axis=0) / labels.sum(axis=0)
    assert np.all(np.abs(shares - 0.2) < 0.08), shares
    assert abs(is_valid.mean() - 0.2) < 0.03


def test_a_label_of_two_picsets_is_on_both_sides() -> None:
    samples = [*random_samples(40, 4, (0.0,)), sample(900, "rare-a", (1.0,)), sample(901, "rare-b", (1.0,))]
    split = split_samples(samples, valid_share=0.1, seed=0)
    assert {split.sides["picset:rare-a"], split.sides["picset:rare-b"]} == {TRAIN, VALID}


def test_another_seed_gives_another_split() -> None:
    samples = random_samples(60, 4, (0.3, 0.3))
    assert split_samples(samples, valid_share=0.2, seed=0) != split_samples(samples, valid_share=0.2, seed=1)


def test_one_picset_cannot_be_split() -> None:
    with pytest.raises(TrainingError, match=r"one picset.*--mode all"):
        split_samples([sample(0, "only", (1.0,)), sample(1, "only", (0.0,))], valid_share=0.2, seed=0)


def test_a_leak_is_refused() -> None:
    with pytest.raises(TrainingError, match="the split leaks: picset:a"):
        check_split([sample(0, "a", (1.0,))], [sample(1, "a", (0.0,))])
    with pytest.raises(TrainingError, match=r"picture:0\.jpeg"):
        check_split([sample(0, "a", (1.0,))], [sample(0, "b", (0.0,))])


def test_a_leak_in_the_file_is_refused(tmp_path: Path) -> None:
    samples = random_samples(10, 3, (0.5,))
    file = tmp_path / "split.json"
    split = split_samples(samples, valid_share=0.3, seed=0)
    write_split(file, split, samples, seed=0, valid_share=0.3)
    train, valid = read_split(file)
    assert train == {s.path for s in split.part(samples, TRAIN)}
    assert valid == {s.path for s in split.part(samples, VALID)}
    content = read_json(file)
    content[VALID].append(content[TRAIN][0])
    write_json_atomic(file, content)
    with pytest.raises(TrainingError, match="leaks"):
        read_split(file)


def test_splits_are_remembered_by_seed_and_share(tmp_path: Path) -> None:
    file = tmp_path / "splits.json"
    assert remembered_split(file, seed=0, valid_share=0.2) == {}
    remember_split(file, Split({"picset:a": TRAIN}), seed=0, valid_share=0.2)
    remember_split(file, Split({"picset:b": VALID}), seed=0, valid_share=0.2)
    remember_split(file, Split({"picset:a": VALID}), seed=1, valid_share=0.2)
    assert remembered_split(file, seed=0, valid_share=0.2) == {"picset:a": TRAIN, "picset:b": VALID}
    assert remembered_split(file, seed=1, valid_share=0.2) == {"picset:a": VALID}
