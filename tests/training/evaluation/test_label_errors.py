from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cls.dataset.samples import Sample
from cls.people.photos import Person
from cls.training.evaluation.label_errors import LabelError, judged_labels, probable_label_errors, write_label_errors


def made_up(
    seed: int, *, people: int = 300, wrong: float = 0.05, sureness: float = 1.8, shift: float = 0.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities of a fair classifier of two labels, given labels of which a share is wrong, and which are."""
    rng = np.random.default_rng(seed)
    truth = rng.random((people, 2)) < (0.3, 0.12)
    logits = np.where(truth, sureness, -sureness) * 1.6 + rng.normal(0, 1, truth.shape) + shift
    is_wrong = rng.random(truth.shape) < wrong
    return 1 / (1 + np.exp(-logits)), (truth ^ is_wrong).astype(float), is_wrong


def found_of(errors: list[LabelError], shape: tuple[int, ...]) -> np.ndarray:
    found = np.zeros(shape, bool)
    for error in errors:
        found[error.sample, error.label] = True
    return found


@pytest.mark.parametrize("shift", [0.0, 1.5, -1.5])
def test_planted_errors_are_found_also_by_a_network_that_is_too_sure_or_too_shy(shift: float) -> None:
    hits = misses = false = 0
    for seed in range(5):
        probs, labels, is_wrong = made_up(seed, shift=shift)
        found = found_of(probable_label_errors(probs, labels), labels.shape)
        hits += int((found & is_wrong).sum())
        misses += int((~found & is_wrong).sum())
        false += int((found & ~is_wrong).sum())
    assert hits / (hits + misses) > 0.65
    assert hits / (hits + false) > 0.75


def test_right_labels_are_hardly_doubted() -> None:
    probs, labels, _ = made_up(0, wrong=0.0)
    assert len(probable_label_errors(probs, labels)) <= 0.02 * labels.size


def test_the_surest_come_first_and_say_what_was_given() -> None:
    probs = np.array([[0.95], [0.9], [0.92], [0.94], [0.02], [0.05], [0.1], [0.03], [0.04], [0.995], [0.01]])
    labels = np.array([[1.0], [1], [1], [1], [0], [0], [0], [0], [0], [0], [1]])
    errors = probable_label_errors(probs, labels)
    assert [(error.sample, error.is_given) for error in errors] == [(9, False), (10, True)]
    assert [error.score for error in errors] == pytest.approx([0.005, 0.01])


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.integers(0, 40))
def test_unknown_labels_change_nothing(seed: int, unknown: int) -> None:
    probs, labels, _ = made_up(seed, people=80)
    kept = probable_label_errors(probs[unknown:], labels[unknown:])
    masked = labels.copy()
    masked[:unknown] = np.nan
    found = probable_label_errors(probs, masked)
    assert [(error.sample - unknown, error.label) for error in found] == [(e.sample, e.label) for e in kept]


@pytest.mark.parametrize("labels", [np.zeros((9, 1)), np.ones((9, 1)), np.full((9, 1), np.nan), np.zeros((0, 1))])
@pytest.mark.filterwarnings("error")
def test_a_label_of_one_side_is_not_judged(labels: np.ndarray) -> None:
    assert probable_label_errors(np.full(labels.shape, 0.5), labels) == []


def test_a_network_that_knows_nothing_accuses_nobody() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random((300, 2)) < 0.3).astype(float)
    # The second label is known, the first is not.
    probs = np.stack([rng.beta(2, 4, 300), np.where(labels[:, 1] > 0.5, 0.8, 0.2)], axis=1)
    probs[7, 1] = 1 - probs[7, 1]
    assert judged_labels(probs, labels) == [1]
    assert [(error.sample, error.label) for error in probable_label_errors(probs, labels)] == [(7, 1)]


def test_three_positives_are_too_few() -> None:
    labels = np.zeros((40, 1))
    labels[:3] = 1
    probs = np.where(labels > 0.5, 0.9, 0.1)
    probs[20] = 0.99
    assert probable_label_errors(probs, labels) == []
    labels[3] = 1
    probs[3] = 0.9
    assert [error.sample for error in probable_label_errors(probs, labels)] == [20]


def test_the_list_for_annotators(tmp_path: Path) -> None:
    one, other = (Person("female", 0.9, (0, 0, 10, 10), (), name) for name in ("pa1", "pb2"))
    samples = [Sample("a, b.jpeg", "set-1", one, (1.0, 0.0)), Sample("«ц».jpeg", "", other, (0.0, 0.0), 1)]
    errors = [LabelError(1, 1, False, 0.98765, 0.01235), LabelError(0, 0, True, 0.1, 0.1)]
    write_label_errors(tmp_path / "label_errors.csv", errors, samples, ("cap", "wide; hat"))
    with (tmp_path / "label_errors.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert rows == [
        {"picture": "«ц».jpeg", "label": "wide; hat", "given": "no", "probability": "0.9877", "person": "pb2",
         "picset": ""},
        {"picture": "a, b.jpeg", "label": "cap", "given": "yes", "probability": "0.1000", "person": "pa1",
         "picset": "set-1"},
    ]  # fmt: skip
