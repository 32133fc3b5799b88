from __future__ import annotations

from cls.training.runs.metrics import LeakTax
from cls.training.runs.summary import leak_tax_line, left_out_text, summary_of
from tests.training.made_metrics import run_metrics


def test_the_means_have_no_number_of_positives() -> None:
    label = {"positives": 5, "base_rate": 0.1, "ap": 0.9, "auroc": 0.8, "threshold": 0.5}
    scores = {"precision": 0.7, "recall": 0.6, "f1": 0.65}
    macro = {"base_rate": 0.1, "ap": 0.9, "auroc": 0.8, **scores}
    validation = {"labels": {"hat": {**label, **scores}}, "macro": macro, "samples": 48}
    first, header, hat, mean, key = summary_of(run_metrics(validation=validation)).splitlines()
    assert first == "cross-validated F1 not measured"
    assert mean.startswith("mean over 1 label  ")
    assert "48" not in mean
    assert key.endswith("threshold, precision, recall and F1: thresholds chosen on these people")
    assert header.index("base rate") + len("base rate") == hat.index("0.100") + 5 == mean.index("0.100") + 5


def test_how_far_to_trust_the_means() -> None:
    label = {"positives": 5, "base_rate": 0.1, "ap": 0.9, "auroc": 0.8, "threshold": 0.5}
    scores = {"precision": 0.7, "recall": 0.6, "f1": 0.65}
    validation = {
        "labels": {"hat": {**label, **scores}},
        "macro": {"base_rate": 0.1, "ap": 0.9, "auroc": 0.8, **scores},
        "samples": 90,
        "intervals": {"level": 0.95, "units": 40, "macro": {"ap": (0.85, 0.94), "f1": [0.6, 0.7]}},
        "cross_fitted": {
            "macro": {"f1": 0.61, "ma": 0.77},
            "instance": {"accuracy": 0.5, "f1": None},
            "intervals": {"f1": [0.55, 0.66]},
        },
    }
    text = summary_of(
        run_metrics(
            validation=validation,
            calibration={"temperature": 1.3, "ece_before": 0.08, "ece_cross_fitted": 0.05},
            background_sensitivity={
                "backgrounds": 8, "people": 64,
                "as_served": {
                    "share": 0.008, "interval": [0.0, 0.05], "people": 0.09375, "people_interval": [0.03, 0.2],
                },
                "background_left_in": {"share": 0.2, "people": 0.5},
            },
        )
    )  # fmt: skip
    lines = text.splitlines()
    assert lines[0] == (
        "cross-validated F1 0.610 (0.550–0.660), mean over 1 label, 90 people of 40 picsets; mA 0.770;"
        " label sets: accuracy 0.500, F1 -"
    )
    assert lines[5:] == [
        "95% intervals over 40 picsets: mAP 0.850–0.940, F1 with thresholds chosen on these people 0.600–0.700",
        (
            "calibration error of all decisions together 0.050 cross-validated, 0.080 before calibration"
            " (temperature 1.30)"
        ),
        (
            "before 8 other backgrounds answers change for 6 of 64 people (9.4%, 3.0–20.0%), 0.8% (0.0–5.0%) of all"
            " answers; with the background left in for 50.0% of people, 20.0% of all answers"
        ),
    ]


def test_a_mean_over_some_labels_says_over_how_many() -> None:
    hat = {"positives": 5, "base_rate": 0.1, "ap": 0.9965, "auroc": 0.8, "threshold": 0.5, "precision": 0.7,
           "recall": 0.6, "f1": 0.65}  # fmt: skip
    empty = {**hat, "positives": 0, "ap": None, "auroc": None, "precision": 0.0, "recall": None, "f1": None}
    names = ["hat", *(f"label {number}" for number in range(7))]
    labels = dict.fromkeys(names, empty) | {"hat": hat}
    validation = {"labels": labels, "macro": {**hat, "precision": 0.0875}, "samples": 48}
    lines = summary_of(run_metrics(tuple(names), validation=validation)).splitlines()
    assert lines[-2].startswith("mean over 1 of 8 labels  ")
    assert "0.996" in lines[-2]
    assert lines[-1].endswith("; precision mean over 8 labels")


def test_trained_on_all() -> None:
    metrics = run_metrics(validation=None, samples={"train": 24}, thresholds_from="default", calibration=None)
    assert summary_of(metrics) == "trained on all 24 people; thresholds from default"


def test_labels_of_too_few_picsets_are_named_wherever_a_mean_is_without_them() -> None:
    assert left_out_text(["hat", "bag"], 7) == (", over 5 of 7 labels (positives in fewer than 3 picsets: hat, bag)")
    assert left_out_text(list("abcdefg"), 9).endswith("a, b, c, d, e and 2 more)")
    assert left_out_text((), 7) == ""


def test_a_leak_tax_says_when_it_is_not_significant() -> None:
    tax = LeakTax(
        by_picset={"mAP": 0.6, "F1": 0.62}, random_split={"mAP": 0.7, "F1": 0.6}, difference={"mAP": 0.1, "F1": -0.02},
        units=40, intervals={"mAP": (0.02, 0.18), "F1": (-0.1, 0.06)}, labels=("hat",), left_out=("bag",),
    )  # fmt: skip
    assert leak_tax_line(tax) == (
        "leak tax: on a random split it would look like mAP 0.700 (+0.100, +0.020 to +0.180),"
        " F1 0.600 (-0.020, -0.100 to +0.060), over 1 of 2 labels (positives in fewer than 3 picsets: bag);"
        " over 40 picsets more than chance: mAP"
    )
    assert leak_tax_line(tax.replaced(intervals={"mAP": (-0.1, 0.2), "F1": None})).endswith(
        "over 40 picsets none of these differences is significant"
    )
    older = LeakTax(by_picset={"mAP": 0.6}, random_split={"mAP": 0.7}, difference={"mAP": 0.1})
    assert leak_tax_line(older) == "leak tax: on a random split it would look like mAP 0.700 (+0.100)"
