"""The report's charts, tables and texts."""

from __future__ import annotations

import re
import time
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cls.bottle.dataset_file import GroupDataset, LabelledRow, read_dataset, write_dataset
from cls.dataset.cutouts import CutoutFormat, Cutouts, Subset
from cls.dataset.samples import Ledger, Sample
from cls.dataset.split.assign import TRAIN, Split
from cls.metrics.multilabel import measure
from cls.metrics.scores import Metrics
from cls.pages.render import Chart, nice_ticks, whole_ticks
from cls.people.photos import Person
from cls.people.preprocess import Preprocessing
from cls.settings import REPOSITORY
from cls.training.config import TrainConfig
from cls.training.data import TrainingData
from cls.training.evaluation.evaluate import Evaluation
from cls.training.network.build import NetworkSpec
from cls.training.report.figures import (
    Pair,
    caption,
    loss_figure,
    precision_recall_svg,
    reliability_figure,
    scores_figure,
    scores_svg,
)
from cls.training.report.labels import confusions, given_together, label_rows, predicted_of
from cls.training.report.page import (
    ReportData,
    backgrounds_of_run,
    calibration_of_run,
    cards,
    leak_tax_of_run,
    measured_text,
    overall,
    write_report,
)
from cls.training.runs.listing import finished_run
from cls.training.runs.metrics import BackgroundSensitivity, Calibration, Epoch, LeakTax
from tests.bottles import make_tiny_bottle
from tests.preloaded import run_program
from tests.training.made_metrics import run_metrics

GROUP = "hat"


class Balanced(HTMLParser):
    """Fails where a page's tags do not close."""

    _VOID = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [found["href"] or ""] if "href" in found else []
        if tag not in self._VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        # HTML lets rows, cells and terms close themselves; the page's own are all closed, but for these.
        assert self.open.pop() == tag


def check_page(page: str) -> Balanced:
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    inside = {link for link in parser.links if link.startswith("#")}
    assert {f"#{name}" for name in parser.ids} == inside, "every section is in the table of contents"
    return parser


def test_one_epoch_without_positives_in_validation(tmp_path: Path) -> None:
    bottle = make_tiny_bottle(tmp_path, group=GROUP, labels=("red top",))
    file = bottle.dataset_file(GROUP)
    rows = (LabelledRow(row.path, (float(row.picset == "picset-000"),), row.picset) for row in read_dataset(file).rows)
    write_dataset(file, GroupDataset(GROUP, ("hat",), tuple(rows)))
    words = ["--cfg", str(bottle.settings.file), "--cat", GROUP, "--arch", "test_resnet", "--size", "64x48"]
    words += ["--weights", "none", "--epochs", "1", "--batch", "4"]
    done = run_program(["cls/classification/train.py", *words], cwd=REPOSITORY)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert "WARNING label 'hat' (" in done.stderr
    folder = finished_run(bottle, "newest", GROUP).folder
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "Nobody in validation has hat: it cannot be evaluated." in page
    assert "None: nobody in validation has a label." in page
    assert "None: no label of the people in validation is confidently contradicted." in page
    assert "each-label" not in check_page(page).ids, "no empty precision and recall"
    assert page.count("<svg") == 2, "loss and reliability"
    assert not re.search(r'<div class="card people">\s*</div>', page)
    assert (folder / "label_errors.csv").read_text() == "picture,label,given,probability,person,picset\n"


def circles(svg: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r'<circle[^>]* cx="([-\d.]+)" cy="([-\d.]+)"', svg)]


def test_a_single_epoch_is_a_dot_in_the_middle() -> None:
    loss = loss_figure([Epoch(epoch=0, train_loss=0.7, valid_loss=0.6)])
    assert loss.legend == (("c0", "training"), ("c1", "validation"))
    assert len(circles(loss.svg)) == 2
    assert "line c" not in loss.svg
    assert len({x for x, _ in circles(loss.svg)}) == 1
    assert re.findall(r'text-anchor="middle">([^<]*)<', loss.svg) == ["1", "epoch"]
    assert scores_figure([Epoch(epoch=0, train_loss=0.7)], None) is None
    scores = scores_figure([Epoch(epoch=0, train_loss=0.7, valid_map=0.5, valid_auroc=0.6)], 0.3)
    assert scores is not None
    assert [text for _, text in scores.legend] == ["mean AP", "mean AUROC", "AP at chance level"]


def test_a_loss_that_is_not_a_number_leaves_a_gap() -> None:
    values = [0.9, float("nan"), 0.5, 0.4, float("inf")]
    svg = loss_figure([Epoch(epoch=n, train_loss=value) for n, value in enumerate(values)]).svg
    assert "nan" not in svg
    assert "inf" not in svg
    assert len(circles(svg)) == 3
    (path,) = re.findall(r'class="line c0" d="([^"]*)"', svg)
    assert path.count("M") == 1, "the lonely first point is a dot alone"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.data())
def test_what_is_drawn_lies_inside(values: list[float], data: st.DataObject) -> None:
    truth = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    threshold = data.draw(st.floats(0.05, 0.95))
    scores = np.array(values)
    drawn = [scores_svg(scores, truth, threshold), precision_recall_svg(scores, truth, threshold)]
    assert (drawn[1] is None) == (not truth.any())
    reliability = reliability_figure(scores[:, None], truth[:, None].astype(float))
    assert reliability is not None
    for svg in [*filter(None, drawn), reliability.svg]:
        numbers = [float(text) for text in re.findall(r'(?:x|y|cx|cy|width|height)="([-\d.]+)"', svg)]
        assert all(-1 <= number <= 450 for number in numbers)
        assert "nan" not in svg


def test_nothing_to_draw() -> None:
    assert precision_recall_svg(np.array([0.2]), np.array([False]), 0.5) is None
    assert reliability_figure(np.array([[0.5]]), np.array([[np.nan]])) is None


def test_the_curve_of_many_samples_stays_small() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random(50_000) < 0.5
    svg = precision_recall_svg(rng.random(50_000), truth, 0.5)
    assert svg is not None
    assert len(svg) < 20_000


def test_names_cannot_break_out_of_a_chart() -> None:
    chart = Chart(100, 80, (0, 1), (0, 1), x_title='<b> & "x"', label='"><script>')
    chart.axes((0,), (0,))
    chart.dot(0.5, 0.5, "c0", "<i>")
    assert "<script>" not in chart.svg()
    assert "<b>" not in chart.svg()
    assert "<i>" not in chart.svg()


@given(st.floats(0, 1e6), st.floats(1e-6, 1e6))
def test_ticks_are_round_few_and_inside(low: float, span: float) -> None:
    ticks = nice_ticks(low, low + span)
    assert len(ticks) <= 7
    assert all(low - 1e-6 * span - 1e-9 * low <= tick <= (low + span) * (1 + 1e-9) + 1e-9 for tick in ticks)


@pytest.mark.parametrize(("last", "expected"), [(1, [1]), (3, [1, 2, 3]), (12, [1, 3, 5, 7, 9, 11])])
def test_epochs_are_whole(last: int, expected: list[float]) -> None:
    assert whole_ticks(1, last) == expected


PROBS = np.array([[0.9, 0.1], [0.8, 0.7], [0.2, 0.3], [0.1, 0.6]])
LABELS = np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [np.nan, 1.0]])


def test_who_is_taken_for_what() -> None:
    taken = confusions(("cap", "bag"), PROBS / 0.5, LABELS)
    assert taken.columns == ("cap", "bag", "none")
    assert [[cell.text for cell in cells] for _, cells in taken.rows] == [
        ["2", "", ""],
        ["1", "1", ""],
        ["", "", "1"],
    ]
    assert taken.rows[0][1][0].title == "cap is the most probable label of 2 of the 2 people with cap"
    said = predicted_of(("cap", "bag"), (0.5, 0.5), PROBS, LABELS)
    assert [[cell.text for cell in cells] for _, cells in said.rows] == [["2", "1", ""], ["1", "2", ""], ["", "", "1"]]


def test_what_is_not_known_is_not_none() -> None:
    """Somebody without a known label may well have one: not in the row of those who have none."""
    labels = np.array([[1.0, np.nan], [0.0, 0.0], [0.0, np.nan], [np.nan, np.nan]])
    for matrix in (
        confusions(("cap", "bag"), PROBS / 0.5, labels), predicted_of(("cap", "bag"), (0.5, 0.5), PROBS, labels)
    ):  # fmt: skip
        assert matrix.columns == ("cap", "bag", "none")
        assert [name for name, _ in matrix.rows] == ["cap", "bag", "none", "unknown"]
        assert [sum(int(cell.text or 0) for cell in cells) >= count for (_, cells), count in zip(
            matrix.rows, (1, 0, 1, 2), strict=True
        )] == [True] * 4  # fmt: skip
        assert "of the 1 people with none" in matrix.rows[2][1][0].title
        assert "of the 2 people with unknown" in matrix.rows[3][1][0].title
    together = given_together(("cap", "bag"), np.array([[1.0, np.nan], [1.0, 1.0], [1.0, 0.0]]))
    assert together is not None
    assert together.rows[0][1][1].title == "1 of the 2 people with cap for whom it is known have bag"
    assert together.rows[0][1][1].share == 0.5
    nan = float("nan")
    assert caption((1.0, 0.0), ("cap", "bag")) == "cap"
    assert caption((0.0, 0.0), ("cap", "bag")) == "none of them"
    assert caption((1.0, nan), ("cap", "bag")) == "cap (bag unknown)"
    assert caption((0.0, nan), ("cap", "bag")) == "none known (bag unknown)"
    assert caption((nan,) * 3, ("cap", "bag", "hat")) == "none known (3 labels unknown)"


def test_labels_that_are_given_together() -> None:
    together = given_together(("cap", "bag"), LABELS)
    assert together is not None
    assert [[cell.text for cell in cells] for _, cells in together.rows] == [["2", "1"], ["1", "2"]]
    assert together.rows[0][1][1].share == 0.5
    assert given_together(("cap", "bag"), LABELS[[0, 2, 3]]) is None


def test_rows_of_an_older_run_have_no_intervals() -> None:
    label = dict.fromkeys(("base_rate", "ap", "auroc", "threshold", "precision", "recall", "f1"), 0.5)
    validation = {"labels": {"cap": {**label, "positives": 3, "f1": None}}, "macro": {**label, "f1": None}}
    rows = label_rows(("cap",), np.ones((4, 1), np.float32), Metrics.model_validate(validation))
    assert [row["name"] for row in rows] == ["cap", "mean over 1 label"]
    assert (rows[0]["train"], rows[0]["f1"], rows[0]["ap_interval"], rows[0]["ma"]) == ("4", "-", "", "-")
    assert rows[1]["threshold"] == ""
    validation |= {"intervals": {"macro": {"ap": [0.25, 0.75]}, "labels": {"cap": {"ap": [0.1, 0.9], "f1": None}}}}
    rows = label_rows(("cap",), np.ones((4, 1), np.float32), Metrics.model_validate(validation))
    assert (rows[0]["ap_interval"], rows[0]["f1_interval"], rows[1]["ap_interval"]) == ("0.10–0.90", "", "0.25–0.75")


def test_cross_validated_scores_stand_in_the_place_of_flattering_ones() -> None:
    label = dict.fromkeys(("base_rate", "ap", "auroc", "threshold", "precision", "recall", "f1", "ma"), 1.0)
    honest = {"precision": 1.0, "recall": 0.9965, "f1": 0.9965, "ma": 0.7, "ece": 0.0002}
    bounds = {"f1": [0.83156, 1.0], "ma": None}
    validation = {
        "labels": {"cap": {**label, "positives": 20}, "bag": {**label, "positives": 0, "ap": None, "f1": None}},
        "macro": label,
        "intervals": {"labels": {"cap": {"ap": [0.83156, 1.0]}}, "macro": {"ap": [0.9, 1.0]}, "left_out": ["bag"]},
        "cross_fitted": {"labels": {"cap": honest, "bag": {"f1": None}}, "macro": honest, "left_out": ["bag"],
                         "label_intervals": {"cap": bounds, "bag": {"f1": None}}, "intervals": {"f1": [0.8, 0.9965]}},
    }  # fmt: skip
    cap, bag, mean = label_rows(("cap", "bag"), np.ones((4, 2), np.float32), Metrics.model_validate(validation))
    assert (cap["f1"], cap["f1_interval"], cap["f1_in_sample"], cap["ece"]) == ("0.996", "0.83–1.00", "1.000", "0.001")
    assert (cap["ap"], cap["ap_interval"]) == ("1.000", "0.83–1.00, n = 20")
    assert (bag["ap"], bag["f1"]) == ("-", "-")
    assert (mean["name"], mean["f1"], mean["f1_interval"]) == ("mean over 1 of 2 labels", "0.996", "0.80–0.99")
    assert mean["ap_interval"] == "", "an interval of another mean"


def test_one_is_not_called_many() -> None:
    assert measured_text(Metrics(), 1, 1).startswith("Measured on 1 person of 1 picset not in")
    assert measured_text(Metrics(), 1200, 30).startswith("Measured on 1200 people of 30 picsets not in")


def test_sections_of_what_was_measured() -> None:
    flips = {"share": 0.01, "people": 0.2, "labels": {"cap": 0.0123}, "probability": 0.02}
    sensitivity = {"people": 10, "backgrounds": 4, "origin": "other photos", "as_served": flips,
                   "background_left_in": {**flips, "share": 0.5}}  # fmt: skip
    table = backgrounds_of_run(BackgroundSensitivity.model_validate(sensitivity), ("cap",))
    assert table is not None
    assert table.text.startswith(
        "Predictions change for 2 of 10 people (20.0%). 10 people of validation, each on 4 other backgrounds (other"
    )
    assert table.rows[0] == ("people with a changed prediction", "20.0%", "20.0%")
    assert table.rows[1] == ("decisions, all labels", "1.0%", "50.0%")
    assert table.rows[2] == ("decisions, cap", "1.2%", "1.2%")
    assert backgrounds_of_run(None, ("cap",)) is None
    sensitivity["as_served"] = {**flips, "interval": [0.0, 0.06], "people_interval": [0.05, 0.5]}
    with_interval = backgrounds_of_run(BackgroundSensitivity.model_validate(sensitivity), ("cap",))
    assert with_interval is not None
    assert with_interval.rows[0] == ("people with a changed prediction", "20.0% (5.0–50.0%)", "20.0%")
    assert with_interval.rows[1] == ("decisions, all labels", "1.0% (0.0–6.0%)", "50.0%")
    assert "95% intervals over resampled picsets" in with_interval.text
    bounds = {"mAP": (0.02, 0.18), "F1": (-0.01, 0.3), "mA": None}
    tax = {
        "by_picset": {"mAP": 0.8, "F1": 0.7, "mA": None}, "random_split": {"mAP": 0.9, "F1": 0.85, "mA": 0.5},
        "difference": {"mAP": 0.1, "F1": 0.15, "mA": None}, "intervals": bounds, "units": 40, "labels": ["cap"],
        "left_out": ["bag"], "validation_people_whose_picset_is_in_training": 0.93,
    }  # fmt: skip
    leak = leak_tax_of_run(LeakTax.model_validate(tax))
    assert leak is not None
    assert leak.rows == (
        ("mAP", "0.800", "0.900", "+0.100", "+0.020 to +0.180", "yes"),
        ("F1", "0.700", "0.850", "+0.150", "-0.010 to +0.300", "no"),
        ("mA", "-", "0.500", "-", "-", "no"),
    )
    assert leak.columns[4:] == ("95% interval", "significant")
    assert "93% of the people in validation" in leak.text
    assert "over 1 of 2 labels (positives in fewer than 3 picsets: bag)" in leak.text
    assert "is significant" not in leak.text
    nothing = {**tax, "intervals": {"mAP": [-0.1, 0.2]}}
    found_text = leak_tax_of_run(LeakTax.model_validate(nothing))
    assert found_text is not None
    assert found_text.text.endswith("this run shows no leak tax, which does not prove that there is none.")
    older = {key: value for key, value in tax.items() if key not in ("intervals", "labels", "left_out")}
    of_older = leak_tax_of_run(LeakTax.model_validate(older))
    assert of_older is not None
    assert of_older.rows[0] == ("mAP", "0.800", "0.900", "+0.100")
    assert leak_tax_of_run(None) is None
    found = {"temperature": 1.3, "logit_shift": [0.0, 1.2], "source": "validation", "ece_before": 0.09}
    assert calibration_of_run(Calibration.model_validate(found)).rows == (
        ("temperature", "1.300, from validation"),
        ("shift of logits by the loss", "0.00 to 1.20, removed"),
        ("ECE before calibration", "0.090"),
    )
    nothing = {**found, "temperature": 1.0, "logit_shift": [0.0], "source": "nothing is changed: too few"}
    assert calibration_of_run(Calibration.model_validate(nothing)).rows[0] == (
        "calibration",
        "nothing is changed: too few",
    )
    assert calibration_of_run(None).rows == ()
    metrics = run_metrics(samples={"train": 5, "valid": 0}, seconds=3.0, waiting_share=0.01)
    assert cards(metrics)[0] == ("5", "people in training")


def many_labels(folder: Path, names: tuple[str, ...], people: int = 400, left_out: int = 3000) -> Path:
    """Writes the report of a made-up run of many labels; some nobody has, some are not known of everybody."""
    rng = np.random.default_rng(3)
    preprocessing = Preprocessing(64, 48)
    form = CutoutFormat(preprocessing)
    pictures = [rng.integers(0, 255, form.record_bytes, np.uint8) for _ in range(12)]
    cutouts = Cutouts(form, [pictures[number % 12] for number in range(people)])
    truth = rng.random((people, len(names))) < 0.15
    truth[:, 1] = False
    labels = np.where(rng.random(truth.shape) < 0.05, np.nan, truth)
    probs = 1 / (1 + np.exp(-(np.where(truth, 2, -2) + rng.normal(0, 1.5, truth.shape))))
    person = Person("female", 0.9, (0, 0, 9, 9), ())
    samples = [
        Sample(f"{number:032x}.jpeg", f"set-{number // 5}", person, tuple(row.tolist()))
        for number, row in enumerate(labels)
    ]
    thresholds = (0.5,) * len(names)
    metrics = measure(probs, labels, names, thresholds)
    calibration = Calibration.identity(len(names), "made up")
    evaluation = Evaluation(
        nn.Identity(), thresholds, "validation", metrics, samples, cutouts, labels, probs, calibration, None
    )
    values = run_metrics(
        names, weights={"kind": "none", "origin": "random weights"}, validation=metrics, calibration=calibration,
        samples={"train": people, "valid": people}, seconds=75.0, waiting_share=0.01, thresholds_from="validation",
        history=[{"epoch": n, "train_loss": 1 / (n + 1), "valid_loss": 0.6, "valid_map": 0.5, "valid_auroc": 0.7}
                 for n in range(90)],
        parts={"name": "official", "note": "parts 'official' LEAK", "is_leaking": True, "picsets": 9,
               "picsets_in_two_subsets": 2},
    )  # fmt: skip
    pairs = [Pair(cutouts.input_rgb(n), cutouts.input_rgb(n + 1), names[n % len(names)]) for n in range(10)]
    ledger = Ledger(people, {f"{n:032x}.jpeg": "not segmented yet" for n in range(left_out)})
    spec, config = NetworkSpec("lite0", names, preprocessing), TrainConfig("Цвет: «верх» 色")
    split = Split({sample.split_unit: TRAIN for sample in samples})
    data = TrainingData(GroupDataset(config.group, names, ()), "", Subset(samples, cutouts), split, ledger)
    report_data = ReportData(config, spec, data, evaluation, values, pairs)
    write_report(folder, report_data)
    return folder / "report.html"


def test_many_labels_of_any_alphabet_and_length(tmp_path: Path) -> None:
    scripts = ("чёрные волосы", "黒い髪", "شعر أسود", "μαύρα μαλλιά", "<b>bold</b> & $x$", "wide-brim hat " * 8)
    names = (*scripts, *(f"label {number}" for number in range(24)))
    started_s = time.monotonic()
    page = many_labels(tmp_path, names)
    assert time.monotonic() - started_s < 20, "a fraction of a second on a quiet machine"
    text = page.read_text(encoding="utf-8")
    parser = check_page(text)
    assert "label-errors" in parser.ids
    assert "together" in parser.ids
    assert "<b>bold" not in text
    assert text.count("<b>parts &#39;official&#39; LEAK</b>") == 1
    assert "3000 pictures left out, the first 2,000 of them" in text
    assert "Nobody in validation has 黒い髪" in text
    assert len(text.encode()) < 3_000_000
    # On a narrow page every number of the table stands under its name: nothing scrolls sideways.
    (table,) = re.findall(r'<table class="rows">.*?</table>', text, re.DOTALL)
    assert "" not in re.findall(r"<td( data-name=)?", table)
    assert table.count('<th scope="row">') == len(names) + 1, "the labels' own names, and the mean's"
    assert "content:attr(data-name)" in text


def test_means_that_labels_are_left_out_of_say_so() -> None:
    intervals = {
        "level": 0.95, "resamples": 1000, "units": 30, "left_out": ["cap"], "labels": {}, "instance": {},
        "macro": {"ap": [0.6, 0.8], "f1": [0.5, 0.7]}, "means": {"ap": 0.7, "f1": 0.6, "ma": None},
    }  # fmt: skip
    macro = {"ap": 0.4, "f1": 0.3, "auroc": 0.9, "base_rate": 0.2, "ma": 0.8}
    cross = {"macro": {"f1": 0.55, "ma": 0.8}, "intervals": {"f1": [0.5, 0.6]},
             "labels": {"cap": {}, "bag": {"f1": 0.55}}, "folds": 5, "left_out": ["cap"]}  # fmt: skip
    label = dict.fromkeys(("base_rate", "ap", "auroc", "threshold", "precision", "recall", "f1"), 0.5)
    validation = Metrics.model_validate(
        {"macro": macro, "intervals": intervals, "labels": {"cap": label, "bag": label}, "cross_fitted": cross}
    )
    said = "over 1 of 2 labels (positives in fewer than 3 picsets: cap)"
    text = measured_text(validation, 60, 30)
    assert f"Intervals of means are {said}; their mean average precision is 0.700" in text
    assert f"chosen on the others, and means are {said}." in text
    assert overall(validation) == [("thresholds chosen on the same people", "F1 0.300, mA 0.800; mean over 2 labels")]
    metrics = run_metrics(validation=validation, samples={"train": 5, "valid": 5}, seconds=3.0, waiting_share=0.01)
    first, second, *_ = cards(metrics)
    assert first == ("0.550", "cross-validated F1, 0.50–0.60; mean over 1 of 2 labels")
    assert second == ("0.400", "mean average precision; mean over 2 labels; chance level: 0.200"), (
        "no interval of another mean"
    )
    assert label_rows(("cap", "bag"), np.ones((4, 2), np.float32), validation)[-1]["ap_interval"] == ""
