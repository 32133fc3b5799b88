from __future__ import annotations

from cls.training.summary import summary_of


def test_the_means_have_no_number_of_positives() -> None:
    label = {"positives": 5, "base_rate": 0.1, "ap": 0.9, "auroc": 0.8, "threshold": 0.5}
    scores = {"precision": 0.7, "recall": 0.6, "f1": 0.65}
    macro = {"base_rate": 0.1, "ap": 0.9, "auroc": 0.8, **scores}
    validation = {"labels": {"hat": {**label, **scores}}, "macro": macro, "samples": 48}
    header, hat, mean = summary_of({"labels": ["hat"], "validation": validation}).splitlines()
    assert "48" not in mean
    assert header.index("base rate") + len("base rate") == hat.index("0.100") + 5 == mean.index("0.100") + 5
