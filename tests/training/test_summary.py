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


def test_how_far_to_trust_the_means() -> None:
    label = {"positives": 5, "base_rate": 0.1, "ap": 0.9, "auroc": 0.8, "threshold": 0.5}
    scores = {"precision": 0.7, "recall": 0.6, "f1": 0.65}
    validation = {
        "labels": {"hat": {**label, **scores}},
        "macro": {"base_rate": 0.1, "ap": 0.9, "auroc": 0.8, **scores},
        "intervals": {"level": 0.95, "units": 40, "macro": {"ap": (0.85, 0.94), "f1": [0.6, 0.7]}},
        "cross_fitted": {
            "macro": {"f1": 0.61, "ma": 0.77},
            "instance": {"accuracy": 0.5, "f1": None},
            "intervals": {"f1": [0.55, 0.66]},
        },
    }
    text = summary_of(
        {
            "labels": ["hat"],
            "validation": validation,
            "calibration": {"temperature": 1.3, "ece_before": 0.08, "ece_cross_fitted": 0.05},
            "background_sensitivity": {
                "backgrounds": 8, "as_served": {"share": 0.002}, "background_left_in": {"share": 0.2},
            },
        }
    )  # fmt: skip
    assert text.splitlines()[3:] == [
        "95% intervals over 40 picsets: mAP 0.850 to 0.940, F1 0.600 to 0.700",
        (
            "to expect of new people (thresholds chosen on others): F1 0.610 (0.550 to 0.660), mA 0.770;"
            " label sets: accuracy 0.500, F1 -"
        ),
        "calibration error 0.080, calibrated on others 0.050 (temperature 1.30)",
        "before 8 other backgrounds 0.2% of decisions change, with the background left in 20.0%",
    ]


def test_trained_on_all() -> None:
    metrics = {"validation": None, "samples": {"train": 24}, "thresholds_from": "default", "calibration": None}
    assert summary_of(metrics) == "trained on all 24 people; thresholds from default"
