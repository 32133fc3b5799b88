"""Exact binomial intervals, and where resampling alone would say that the perfect is certain."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from cls.metrics.bootstrap import LabelCounts, bootstrap, clopper_pearson, interval_of_mean
from cls.metrics.multilabel import Truth


@given(st.integers(1, 400), st.data())
def test_as_clopper_and_pearson_have_it(trials: int, data: st.DataObject) -> None:
    hits = data.draw(st.integers(0, trials))
    low, high = clopper_pearson(hits, trials)
    assert low == pytest.approx(0.0 if hits == 0 else beta.ppf(0.025, hits, trials - hits + 1), abs=1e-9)
    assert high == pytest.approx(1.0 if hits == trials else beta.ppf(0.975, hits + 1, trials - hits), abs=1e-9)


def test_values() -> None:
    assert clopper_pearson(20, 20) == (pytest.approx(0.83157, abs=1e-5), 1.0)
    assert clopper_pearson(0, 14) == (0.0, pytest.approx(0.23164, abs=1e-5))
    assert clopper_pearson(0, 0) == (0.0, 1.0)
    assert interval_of_mean(1.0, 20) == clopper_pearson(20, 20)
    assert interval_of_mean(0.97, 20) == (clopper_pearson(19, 20)[0], clopper_pearson(20, 20)[1]), "rounded outwards"
    assert interval_of_mean(1.0, 5000) == clopper_pearson(5000, 5000)
    assert interval_of_mean(0.9, 5000) is None, "resampling knows enough of so many"


def test_f1_and_ma_of_counts() -> None:
    counts = LabelCounts.of(np.array([True] * 20 + [False] * 60), np.array([1.0] * 20 + [0.0] * 40 + [np.nan] * 20))
    assert counts == LabelCounts(20, 20, 20, 40, 40)
    low = 0.025 ** (1 / 20)
    assert counts.interval("f1", 1.0) == (pytest.approx(low), 1.0)
    assert counts.interval("ma", 1.0) == (pytest.approx((low + 0.025 ** (1 / 40)) / 2), 1.0)
    assert counts.interval("auroc", 1.0) == counts.interval("ap", 1.0) == (pytest.approx(low), 1.0)
    nothing_said = LabelCounts(0, 20, 0, 40, 40)
    high = clopper_pearson(0, 20)[1]
    assert nothing_said.interval("f1", 0.0) == (0.0, pytest.approx(2 * high / (1 + high)))


def test_a_perfect_label_of_twenty_people_is_not_certain() -> None:
    """Each in a picset of their own, so that whole picsets are as good as people."""
    labels = np.zeros((80, 2))
    labels[:20, 0] = labels[20:60, 1] = 1
    probs = np.where(labels > 0, 0.9, 0.1)
    units = [str(number) for number in range(80)]
    found = bootstrap(probs, Truth(labels, units, ("few", "many")), (0.5, 0.5))
    assert found is not None
    for key in ("ap", "f1", "precision", "recall"):
        assert getattr(found.labels["few"], key) == (pytest.approx(0.8316, abs=1e-4), 1.0), key
        assert getattr(found.labels["many"], key) == (pytest.approx(0.025 ** (1 / 40)), 1.0), key
        assert getattr(found.macro, key) == (pytest.approx(0.025 ** (1 / 40)), 1.0), "two labels of 20 at least"
    assert found.instance.f1 == (pytest.approx(0.025 ** (1 / 60)), 1.0), "60 people have a label"
    assert set(found.means.to_json_values().values()) == {1.0}


def test_means_of_many_labels_are_as_resampling_has_them() -> None:
    """Where it finds that something changes: the exact intervals are of labels, and are nowhere wider in the end."""
    rng = np.random.default_rng(0)
    labels = (rng.random((300, 3)) < 0.3).astype(np.float64)
    probs = np.clip(labels * 0.4 + rng.random((300, 3)) * 0.6, 0, 1)
    found = bootstrap(probs, Truth(labels, [str(number) for number in range(300)], ("a", "b", "c")), (0.5,) * 3)
    assert found is not None
    for name in ("a", "b", "c"):
        low_high, positives = found.labels[name].recall, int(labels[:, "abc".index(name)].sum())
        assert low_high is not None
        hits = int(((probs >= 0.5) & (labels > 0))[:, "abc".index(name)].sum())
        exact = clopper_pearson(hits, positives)
        assert low_high[0] <= exact[0]
        assert low_high[1] >= exact[1]
    macro, one = found.macro.recall, found.labels["a"].recall
    assert macro is not None
    assert one is not None
    assert macro[1] - macro[0] < one[1] - one[0]
