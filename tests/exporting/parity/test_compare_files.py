"""What the parity check says and writes: sentences, reports, the page's numbers, and where a network departs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import cv2
import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from cls.bottle.layout import Bottle
from cls.dataset.samples import Sample
from cls.errors import ExportError, FileError, ParityError
from cls.exporting.parity.check import ParityVerdict, keep_reports, refused_report
from cls.exporting.parity.compare import compare_with
from cls.exporting.parity.layers import divergence_from_onnx, divergence_from_torch
from cls.exporting.parity.page import write_page
from cls.exporting.parity.report import (
    Divergence,
    NotCompared,
    OtherFormat,
    ParityFile,
    ParityReport,
    RefusedTry,
    WorstSample,
)
from cls.exporting.parity.results import LabelResult, SizeResult
from cls.exporting.parity.samples import MAX_SAMPLES, ParitySample, choose_samples, reference_of, samples_of_run
from cls.package.meta import ParityMeta
from cls.people.photos import Person
from cls.records import read_record
from cls.settings import ParityLimits
from tests.exporting.networks import small_network
from tests.exporting.tables import PIXEL, Table, classifier, reference

if TYPE_CHECKING:
    from cls.training.runs.run import FinishedRun

PROBS = np.array([[0.9, 0.2], [0.6, 0.52], [0.1, 0.8]])
TRUTH = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])


@pytest.fixture
def report() -> ParityReport:
    """One decision of six differs, by 0.2 at most, at batch 7."""
    other = PROBS.copy()
    other[1, 0] = 0.4
    people = replace(reference(PROBS, TRUTH), part="validation")
    found = compare_with(people, classifier(Table(PROBS, {7: other})), limits=ParityLimits(), precision="int8")
    return replace(found, causes=(), faults=())


def test_a_sample_in_words() -> None:
    sample = WorstSample("a.jpeg", "hat", 7, 0.61, 0.59, 0.6)
    assert sample.is_flip
    assert sample.text() == (
        "'hat' in a.jpeg at batch 7: 0.610000 from the trained network, 0.590000 from the conversion (threshold 0.6000)"
    )
    assert not replace(sample, found=0.6).is_flip
    assert not replace(sample, expected=0.59).is_flip
    assert replace(sample, expected=0.6).is_flip
    assert replace(sample, found=None).is_flip
    # Two people may look different in the same sample: the numbers are compared.
    seen, other = (replace(sample, crop_rgb=np.full((2, 2, 3), level, np.uint8)) for level in (1, 2))
    assert seen == other == sample
    assert ", no number from the conversion" in replace(sample, found=None).text()


def test_a_departure_in_words() -> None:
    found = Divergence("conv", "Conv", "blocks.2.conv1", 0.31234, 7.0, 0.1)
    assert found.text() == (
        "the first layer that departs is conv (Conv) of layer blocks.2.conv1: off by 0.312 of its values' size"
    )
    assert replace(found, layer="", difference=None).text() == (
        "the first layer that departs is conv (Conv): it answers infinity or no number where the right values reach 7"
    )


def test_a_report_in_words(report: ParityReport) -> None:
    assert report.in_words() == "largest difference of a probability 0.2000, 1 of 6 decisions differ, F1 -0.1667"
    assert replace(report, f1_change=0.0).in_words().endswith("differ, F1 unchanged")
    assert replace(report, f1_change=None).in_words().endswith("6 decisions differ")
    faulty = replace(
        report, faults=("one", "two"), causes=("three",), divergence=Divergence("n", "Conv", "", 0.5, 1.0, 0.1),
        tries=(RefusedTry(0, ("f",)), RefusedTry(2, ("f",))), kept_in_float=("a", "b", "c"),
    )  # fmt: skip
    assert faulty.sentence() == (
        "the conversion disagrees with the trained network: one; two; looks like: three; the first layer that departs"
        " is n (Conv): off by 0.5 of its values' size; 3 layers in float32, and with 0, 2 of them it was refused"
        f" before; worst: {report.worst.text()}"
    )
    with pytest.raises(ParityError) as refused:
        faulty.raise_if_refused("run", Path("page.html"))
    assert refused.value.code == "parity.out_of_tolerance"
    assert (refused.value.what, refused.value.where) == (faulty.sentence(), "run")
    assert refused.value.hint is not None
    assert refused.value.hint.endswith(" page.html")
    report.raise_if_refused("run", Path("page.html"))


def test_a_report_in_meta_json(report: ParityReport, tmp_path: Path) -> None:
    exact = replace(
        report, max_probability_difference=1.2e-7, mean_probability_difference=2e-6, p999_probability_difference=0.0,
        f1_change=-0.12345678, ma_change=0.00000049,
    )  # fmt: skip
    meta = exact.to_meta()
    assert (meta.max_probability_difference, meta.mean_probability_difference) == (1e-6, 2e-6)
    assert meta.p999_probability_difference == 0
    assert (meta.f1_change, meta.ma_change) == (-0.123457, 0.0)
    assert (meta.samples, meta.batch_sizes, meta.label_flips, meta.label_flips_beyond_limit) == (3, (1, 7, 64), 1, 1)
    assert (meta.limit, meta.precision, meta.part, meta.runtime) == (1e-3, "int8", "validation", "a table")
    nothing = replace(report, f1_change=None, ma_change=None, ece=None).to_meta()
    assert (nothing.f1_change, nothing.ma_change, nothing.ece) == (None, None, None)
    plain = ParityFile(run="v__0", formats={"onnx": report}).to_json_values()["formats"]["onnx"]
    assert "crop_rgb" not in plain["worst"]
    assert all("crop_rgb" not in sample for sample in plain["worst_samples"])
    assert plain["labels"][0]["label"] == "hat"
    assert read_back(ParityFile(run="v__0", formats={"onnx": report}).to_json_values(), tmp_path) == replace(
        report, worst=replace(report.worst, crop_rgb=None),
        worst_samples=tuple(replace(sample, crop_rgb=None) for sample in report.worst_samples),
    )  # fmt: skip


def read_back(content: dict[str, Any], folder: Path) -> ParityReport | NotCompared:
    """The report of `onnx` in a parity_report.json."""
    (folder / "parity_report.json").write_text(json.dumps(content), encoding="utf-8")
    return read_record(folder / "parity_report.json", ParityFile).formats["onnx"]


EARLIER = sorted((Path(__file__).parent / "earlier_reports").glob("*.json"))


@pytest.mark.parametrize("file", EARLIER, ids=lambda file: file.stem)
def test_reports_of_earlier_versions_are_read(file: Path, tmp_path: Path) -> None:
    said = json.loads(file.read_text(encoding="utf-8"))["formats"]["onnx"]
    report = read_back({"run": "v__0", "formats": {"onnx": said}}, tmp_path)
    assert isinstance(report, ParityReport)
    assert (report.samples, report.label_flips, report.batch_sizes) == (12, said["label_flips"], (1, 7, 64))
    assert (len(report.by_batch), len(report.labels)) == (len(said.get("by_batch", ())), len(said.get("labels", ())))
    assert report.worst.expected == said["worst"]["expected"]
    for measure in ("not_a_number", "batch_difference", "neighbour_difference"):
        assert getattr(report, measure) == said.get(measure, 0)
    assert (report.precision, report.truth) == (said.get("precision", "fp32"), said.get("truth", ""))
    assert report.decisions == said.get("decisions", 0)
    assert report.to_meta().samples == 12
    assert report.worst.text()


def test_what_could_not_be_compared_and_what_is_no_report(tmp_path: Path) -> None:
    failed = {"run": "v__0", "formats": {"onnx": {"faults": ["it cannot be opened"]}}, "others": {}}
    assert read_back(failed, tmp_path) == NotCompared(faults=("it cannot be opened",))
    with pytest.raises(FileError) as caught:
        read_back({"run": "v__0", "formats": {"onnx": {"samples": 12}}}, tmp_path)
    assert caught.value.code == "file.invalid_content"


@pytest.mark.parametrize("changes", [{"samples": "many"}, {"worst": None}, {"faults": 3}])
def test_a_report_with_a_wrong_value_is_an_error(tmp_path: Path, changes: dict[str, Any]) -> None:
    said = json.loads(EARLIER[-1].read_text(encoding="utf-8"))["formats"]["onnx"]
    with pytest.raises(FileError) as caught:
        read_back({"run": "v__0", "formats": {"onnx": said | changes}}, tmp_path)
    assert caught.value.code == "file.invalid_content"
    assert next(iter(changes)) in caught.value.what


def label(**values: object) -> LabelResult:
    given: dict[str, object] = {
        "known": 3, "positives": 2, "label_flips": 1, "farthest_flip": 0.1, "f1": 0.9, "f1_change": -0.05,
        "f1_of_one_decision": 0.01, "ece": 0.02, "ece_change": 0.0, "logit_shift": 0.25, "logit_error": 0.125, **values,
    }  # fmt: skip
    return LabelResult(label="hat", **given)  # type: ignore[arg-type]


def page_of(folder: Path, report: ParityReport) -> str:
    write_page(folder / "page.html", "headwear", "v__0", {"onnx_int8": report})
    return (folder / "page.html").read_text()


def cells(page: str, title: str) -> list[str]:
    """What stands under a title in the tables of the page."""
    return [part.split("</td>")[0] for part in page.split(f'data-name="{title}">')[1:]]


def rows(page: str, title: str) -> list[str]:
    """The values of a row of the table by batch size."""
    row = page.split(f'<tr><th scope="row">{title}</th>')[1].split("</tr>")[0]
    return [part.split("</td>")[0].partition(">")[2] for part in row.split("<td data-name=")[1:]]


def test_small_differences_do_not_read_as_zero_nor_zero_as_one(tmp_path: Path, report: ParityReport) -> None:
    small = label(ece=0.02, ece_change=2e-7, logit_shift=-4e-6, logit_error=5e-6)
    none = label(ece=0.1 + 0.2, ece_change=-1e-17, logit_shift=0.0, logit_error=0.0)
    page = page_of(tmp_path, replace(report, labels=(small, none)))
    assert cells(page, "calibration error (ECE)") == ["0.0200 (+2.0\u00a0×\u00a010⁻⁷)", "0.3000"]
    assert cells(page, "mean logit difference") == ["-4.0\u00a0×\u00a010⁻⁶", "0"]
    assert cells(page, "RMS logit difference, in standard deviations") == ["5.0\u00a0×\u00a010⁻⁶", "0"]


def test_the_numbers_of_the_page(tmp_path: Path, report: ParityReport) -> None:
    sizes = (SizeResult("larger than the input", 5, 0.4, 2, 0.03, 0.0123),)
    page = page_of(tmp_path, replace(report, labels=(label(), label(label_flips=0, f1=None, known=0)), sizes=sizes))
    assert cells(page, "precision") == ["int8"]
    assert cells(page, "max difference") == ["0.2000"]
    assert cells(page, "max difference of probabilities") == ["0.4000"]
    assert cells(page, "changed decisions") == ["1 of 6", "1", "0", "2"]
    assert cells(page, "max distance to threshold") == ["0.1000", "0.1000", "-", "0.0300"]
    assert cells(page, "change in F1") == ["-0.1667"]
    assert cells(page, "change in mA") == ["-0.1250"]
    assert cells(page, "F1") == ["0.8500 (-0.0500)", "-"]
    assert cells(page, "people") == ["5"]
    assert cells(page, "positives") == ["2 of 3", "-"]
    assert cells(page, "calibration error (ECE)") == ["0.0200", "0.0200"]
    assert cells(page, "mean logit difference")[0] == "+0.250"
    assert cells(page, "RMS logit difference, in standard deviations")[0] == "0.125"
    assert cells(page, "RMS logit difference from resizing, in standard deviations") == ["0.0123"]
    assert rows(page, "max difference of probabilities")[1] == "0.2000"
    assert rows(page, "99.9th percentile of differences")[1] == "0.1990"
    assert rows(page, "mean difference of probabilities")[1] == "0.0333"
    assert rows(page, "changed decisions") == ["0", "1", "0"]
    assert rows(page, "max distance to threshold") == ["-", "0.1000", "-"]
    assert rows(page, "F1 (trained network: 0.8333)") == ["0.8333", "0.6667 (-0.1667)", "0.8333"]
    assert rows(page, "mA (trained network: 0.8750)") == ["0.8750", "0.7500 (-0.1250)", "0.8750"]
    assert "<dd>labels of 3 people of the validation part</dd>" in page
    assert "1 of 6 at any batch size, 1 of them more than 0.001 from their thresholds" in page
    assert "<dd>probabilities differ by at most 0.2000</dd>" in page
    assert "<dt>effect of other images in a batch</dt><dd>probabilities differ by at most 0</dd>" in page
    assert "<dt>NaN or infinite outputs</dt><dd>0</dd>" in page
    assert "<dt>tolerances</dt><dd>none</dd>" in page
    assert ">agrees</b>" in page
    assert page.count('<div class="person">') == 3


def test_small_numbers_and_no_difference(tmp_path: Path, report: ParityReport) -> None:
    same = replace(
        report, max_probability_difference=2.4e-7, label_flips=0, f1_change=0.0, ma_change=None,
        limits=ParityLimits(batch=0.05), batch_difference=0.001, neighbour_difference=0.00099,
        kept_in_float=("a", "b"), tries=(RefusedTry(2, ("x", "y")),),
    )  # fmt: skip
    page = page_of(tmp_path, same)
    assert cells(page, "max difference") == ["2.4\u00a0×\u00a010⁻⁷"]
    assert cells(page, "max distance to threshold")[0] == "-"
    assert (cells(page, "change in F1"), cells(page, "change in mA")) == (["0"], ["-"])
    assert "or of other images in it on a probability: 0.05<" in page
    assert "<dd>probabilities differ by at most 0.0010</dd>" in page
    assert "<dd>probabilities differ by at most 9.9\u00a0×\u00a010⁻⁴</dd>" in page
    assert "<dt>kept in float32</dt><dd>2 layers: a, b</dd>" in page
    assert "<dt>refused with 2 layers in float32</dt><dd>x; y</dd>" in page
    assert '<div class="person">' not in page  # nobody would see a difference
    assert '<div class="person">' in page_of(tmp_path, replace(same, faults=("x",)))
    assert '<div class="person">' not in page_of(tmp_path, replace(same, max_probability_difference=1e-3))
    assert '<div class="person">' in page_of(tmp_path, replace(same, max_probability_difference=1.1e-3))


def test_a_measure_that_is_not_defined_at_a_batch_size(tmp_path: Path, report: ParityReport) -> None:
    first, *others = report.by_batch
    page = page_of(tmp_path, replace(report, by_batch=(replace(first, f1=None), *others), ma=None))
    assert rows(page, "F1 (trained network: 0.8333)")[0] == "-"
    assert rows(page, "mA (trained network: -)") == ["-", "-", "-"]


def test_people_on_the_page(tmp_path: Path, report: ParityReport) -> None:
    flip = WorstSample("a.jpeg", "hat", 7, 0.61, 0.5905, 0.6)
    page = page_of(tmp_path, replace(report, worst_samples=(flip, replace(flip, found=None))))
    assert "0.6100 → 0.5905, threshold 0.6000" in page
    assert "0.6100 → NaN, threshold 0.6000" in page
    assert 'style="width:61.0%"' in page
    assert 'style="width:59.0%"' in page or 'style="width:59.1%"' in page
    assert 'style="left:60.0%"' in page
    assert 'style="width:0.0%"' in page
    assert page.count('class="no"') == 2


def test_formats_elsewhere_and_not_compared(tmp_path: Path, report: ParityReport) -> None:
    others = {
        "openvino": OtherFormat(state="not made", reason="no OpenVINO"),
        "onnx": OtherFormat(state="agrees", reason="", page="other.html"),
    }
    formats = {"onnx_int8": report, "trt": NotCompared(faults=("no GPU",))}
    write_page(tmp_path / "page.html", "headwear", "v__0", formats, others)
    page = (tmp_path / "page.html").read_text()
    assert "<dt>openvino</dt><dd><b>not made</b>: no OpenVINO</dd>" in page
    assert '<dt>onnx</dt><dd><b>agrees</b> (<a href="other.html#onnx">more</a>)</dd>' in page
    assert "<b>no GPU</b>" in page
    nav = page.split('<nav class="contents"')[1].split("</nav>")[0]
    anchors = [part.split('"')[0] for part in nav.split('href="#')[1:]]
    assert anchors == ["onnx_int8", "trt", "others"]
    assert all(f'id="{anchor}"' in page for anchor in anchors)
    assert page.count(">refused</b>") == 1


def test_reports_of_what_passed_and_of_what_did_not(tmp_path: Path, report: ParityReport) -> None:
    file = tmp_path / "parity_report.json"
    other = tmp_path / "parity_report_refused.json"
    assert refused_report(file) == other
    people = reference(PROBS, TRUTH)
    faulty = replace(report, faults=("one", "two"))
    failed = ParityVerdict(None, ParityError("cannot run", where="run, x.onnx"))
    refused = ParityVerdict(faulty, ParityError("x"))
    earlier = {
        "openvino": ParityMeta(
            runtime="r", samples=3, batch_sizes=(1,), max_probability_difference=2e-6, mean_probability_difference=0,
            label_flips=0, label_flips_beyond_limit=0, limit=0.1, f1_change=-0.0012,
        )
    }  # fmt: skip
    verdicts = {"onnx": ParityVerdict(report), "onnx_int8": refused, "torchscript": failed}
    keep_reports(file, people, verdicts, {"trt": "no GPU"}, earlier)  # type: ignore[arg-type]
    passed = json.loads(file.read_text())
    assert (passed["run"], list(passed["formats"])) == ("v__0", ["onnx"])
    assert passed["formats"]["onnx"]["label_flips"] == 1
    assert passed["others"] == {
        "onnx_int8": {"state": "refused", "reason": "one; two"},
        "torchscript": {"state": "failed", "reason": "cannot run"},
        "trt": {"state": "not made", "reason": "no GPU"},
        "openvino": {
            "state": "agrees",
            "reason": "made by an earlier export of this run and still there: 3 people, largest difference of a"
            " probability at most 2.0\u00a0×\u00a010⁻⁶, F1 -0.0012",
        },
    }
    left = json.loads(other.read_text())
    assert list(left["formats"]) == ["onnx_int8", "torchscript"]
    assert left["formats"]["torchscript"] == {"faults": ["run, x.onnx: cannot run"]}
    assert left["others"]["onnx"] == {"state": "agrees", "reason": ""}
    assert 'href="parity_report.html#onnx"' in other.with_suffix(".html").read_text()
    assert 'href="parity_report_refused.html#onnx_int8"' in file.with_suffix(".html").read_text()
    # Nothing passes: what is said of the older package stays. Nothing is refused: the refusals go.
    before = file.read_bytes()
    keep_reports(file, people, {"onnx": refused})
    assert file.read_bytes() == before
    assert list(json.loads(other.read_text())["formats"]) == ["onnx"]
    unknown = {"openvino": earlier["openvino"].model_copy(update={"f1_change": None})}
    keep_reports(file, people, {"onnx": ParityVerdict(report)}, None, unknown)  # type: ignore[arg-type]
    assert not other.exists()
    assert not other.with_suffix(".html").exists()
    assert json.loads(file.read_text())["others"]["openvino"]["reason"].endswith("at most 2.0\u00a0×\u00a010⁻⁶")


def test_where_nothing_was_refused_nothing_is_removed(tmp_path: Path, report: ParityReport) -> None:
    keep_reports(tmp_path / "parity_report.json", reference(PROBS, TRUTH), {"onnx": ParityVerdict(report)})
    assert sorted(file.name for file in tmp_path.iterdir()) == ["parity_report.html", "parity_report.json"]


def test_the_people_of_a_comparison() -> None:
    people = [ParitySample(Path(f"{number}.jpeg"), Person("f", 0.9, (0, 0, 1, 1), ())) for number in range(600)]
    assert MAX_SAMPLES == 512
    assert choose_samples(people[:512]) == people[:512]
    chosen = choose_samples(people)
    assert len(set(chosen)) == 512
    assert chosen == sorted(chosen, key=people.index)
    assert chosen == choose_samples(people) != choose_samples(people, seed=1)
    bare = reference(PROBS)
    assert len(bare) == 3
    assert bare.crops_of(PIXEL) is bare.crops_rgb
    with pytest.raises(ParityError) as caught:
        bare.crops_of(replace(PIXEL, margin_rel=0.2))
    assert caught.value.code == "parity.preprocessing_mismatch"


def photo(folder: Path, name: str, level: int) -> ParitySample:
    file = folder / name
    if level >= 0:
        cv2.imwrite(str(file), np.full((1, 1, 3), level, np.uint8))
    return ParitySample(file, Person("f", 0.9, (0.0, 0.0, 1.0, 1.0), ()), (1.0, 0.0))


def test_photos_that_cannot_be_read_are_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    trained = classifier(Table(PROBS))
    people = [photo(tmp_path, "a.png", -1), photo(tmp_path, "b.png", 1), photo(tmp_path, "c.png", 2)]
    found = reference_of(trained, people, part="photos")
    assert (found.pictures, found.samples, found.part) == (("b.png", "c.png"), tuple(people[1:]), "photos")
    np.testing.assert_allclose(found.probs, PROBS[1:], atol=1e-6)
    assert found.truth.tolist() == [[1.0, 0.0]] * 2
    (warning,) = caplog.records
    assert warning.name == "cls.exporting"
    assert warning.args is not None
    assert tuple(warning.args)[:2] == (1, "3 people")
    assert "a.png" in warning.message
    said = reference_of(trained, people, np.array([[0.0, 1.0], [1.0, 1.0], [np.nan, 0.0]]))
    np.testing.assert_array_equal(said.truth, [[1.0, 1.0], [np.nan, 0.0]])
    assert np.isnan(reference_of(trained, [replace(people[1], labels=())]).truth).all()
    with pytest.raises(ExportError) as caught:
        reference_of(trained, people[:1])
    assert caught.value.code == "export.unreadable_photos"
    with pytest.raises(ExportError) as caught:
        reference_of(trained, [people[0], people[0]])
    assert caught.value.code == "export.unreadable_photos"
    assert "2 photos" in caught.value.what


class Split:
    """What `samples_of_run` asks of a run: two validation pictures with three people, and a training picture."""

    name = "v__3"

    def __init__(self, *, is_validated: bool = True) -> None:
        people = [(name, Person("f", 0.9, (0.0, 0.0, 1.0, 1.0), ()), (float(n), 0.0)) for n, name in enumerate("aabt")]
        samples = [Sample(f"{name}.png", "", person, labels) for name, person, labels in people]
        self.parts = {"valid": samples[:3] if is_validated else [], "train": samples[3:]}

    def samples(self, subset: str) -> list[Sample]:
        return self.parts[subset]

    def pictures(self, subset: str) -> list[str]:
        return sorted({sample.path for sample in self.parts[subset]})


def run_samples(bottle: Bottle, split: Split) -> tuple[list[tuple[str, tuple[float, ...]]], str]:
    samples, part = samples_of_run(bottle, cast("FinishedRun", split))
    assert all(sample.file == bottle.picture(sample.file.name) for sample in samples)
    return [(sample.file.name, sample.labels) for sample in samples], part


def test_the_people_of_a_run(bottle: Bottle, caplog: pytest.LogCaptureFixture) -> None:
    bottle.pictures.mkdir(parents=True)
    for name in ("a.png", "b.png", "t.png"):
        bottle.picture(name).touch()
    everybody = [("a.png", (0.0, 0.0)), ("a.png", (1.0, 0.0)), ("b.png", (2.0, 0.0))]
    assert run_samples(bottle, Split()) == (everybody, "validation")
    assert run_samples(bottle, Split(is_validated=False)) == ([("t.png", (3.0, 0.0))], "training")
    assert not caplog.records
    bottle.picture("b.png").unlink()
    assert run_samples(bottle, Split()) == (everybody[:2], "validation")
    (warning,) = caplog.records
    assert warning.args == (1, "2 photos", "validation", "v__3")
    bottle.picture("a.png").unlink()
    with pytest.raises(ExportError) as caught:
        run_samples(bottle, Split())
    assert (caught.value.code, caught.value.where) == ("export.no_photos", str(bottle.pictures))
    assert all(value in caught.value.what for value in ("2 photos", "validation", "v__3"))
    bottle.picture("t.png").unlink()
    with pytest.raises(ExportError) as caught:
        run_samples(bottle, Split(is_validated=False))
    assert caught.value.code == "export.no_photos"
    assert all(value in caught.value.what for value in ("1 photo ", "training", "v__3"))


IMAGES = np.random.default_rng(2).normal(size=(4, 3, 32, 24)).astype(np.float32)


def scaled(path: Path, target: Path, name: str, factor: float) -> None:
    model = onnx.load(path)
    (tensor,) = [one for one in model.graph.initializer if one.name == name]
    tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), name))
    onnx.save(model, target)


def test_the_first_value_that_departs_from_the_onnx(tmp_path: Path) -> None:
    source, other = tmp_path / "source.onnx", tmp_path / "other.onnx"
    small_network(source)
    assert divergence_from_onnx(source, IMAGES, source, IMAGES, "fp32") is None
    assert divergence_from_onnx(source, IMAGES, source, IMAGES, "int8") is None
    scaled(source, other, "second", 1.25)
    found = divergence_from_onnx(source, IMAGES, other, IMAGES, "fp32")
    assert found is not None
    assert (found.node, found.operator, found.layer, found.limit) == ("conv_second", "Conv", "", 1e-4)
    assert found.difference == pytest.approx(0.25, abs=1e-5)
    largest = helper_value(source, "c")
    assert found.largest_value == pytest.approx(float(np.abs(largest).max()))
    # Below the limit of a precision nothing departs, unless it is half of what the answers are off by.
    scaled(source, other, "second", 1.00005)
    assert divergence_from_onnx(source, IMAGES, other, IMAGES, "fp32") is None
    half = divergence_from_onnx(source, IMAGES, other, IMAGES, "fp16")
    assert half is not None
    assert half.node == "conv_second"
    assert half.limit == pytest.approx(2.5e-5, rel=0.05)
    scaled(source, other, "second", float("inf"))
    for precision, limit in (("fp16", 0.02), ("int8", 0.3)):
        infinite = divergence_from_onnx(source, IMAGES, other, IMAGES, precision)
        assert infinite is not None
        assert (infinite.node, infinite.difference, infinite.limit) == ("conv_second", None, limit)
    renamed = onnx.compose.add_prefix(onnx.load(source), "x_")
    onnx.save(renamed, other)
    assert divergence_from_onnx(source, IMAGES, other, IMAGES, "fp32") is None
    inside = onnx.compose.add_prefix(onnx.load(source), "network/")
    onnx.save(inside, other)
    scaled(other, other, "network/head", 2.0)
    found = divergence_from_onnx(source, IMAGES, other, IMAGES, "fp32")
    assert found is not None
    assert (found.node, found.difference) == ("network/head_gemm", pytest.approx(1.0, abs=1e-5))
    other.write_bytes(b"")
    with pytest.raises(ExportError) as caught:
        divergence_from_onnx(source, IMAGES, other, IMAGES, "fp32")
    assert caught.value.code == "export.run_failed"
    assert caught.value.where == str(other)


def helper_value(path: Path, name: str) -> NDArray[np.float32]:
    import onnxruntime

    model = onnx.load(path)
    model.graph.output.append(onnx.ValueInfoProto(name=name))
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    result: NDArray[np.float32] = session.run([name], {"images": IMAGES})[0]
    return result


class Layers(nn.Module):
    """Linear layers with an activation between them."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.relu, self.head = nn.ReLU(inplace=True), nn.Linear(4, 2)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.head(self.relu(self.second(self.relu(self.first(values)))))
        return result


def layers_as_onnx(network: Layers, path: Path, changed: Sequence[str] = ()) -> None:
    weights = {name: value.detach().numpy().copy() for name, value in network.named_parameters()}
    for name in changed:
        weights[name] = weights[name] * np.float32(1.5)
    gemm = [
        helper.make_node("Gemm", [given, f"{layer}.weight", f"{layer}.bias"], [made], name=f"node_{layer}", transB=1)
        for given, layer, made in (("images", "first", "a"), ("b", "second", "c"), ("d", "head", "logits"))
    ]
    relu = [helper.make_node("Relu", [given], [made], name=f"relu_{made}") for given, made in (("a", "b"), ("c", "d"))]
    graph = helper.make_graph(
        [gemm[0], relu[0], gemm[1], relu[1], gemm[2]],
        "layers",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)


@pytest.mark.parametrize("layer", ["first", "second"])
def test_the_first_layer_that_departs_from_the_trained_network(tmp_path: Path, layer: str) -> None:
    network, path = Layers().eval(), tmp_path / "layers.onnx"
    rows = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    layers_as_onnx(network, path)
    assert divergence_from_torch(network, rows, path, rows) is None
    layers_as_onnx(network, path, [f"{layer}.weight"])
    found = divergence_from_torch(network, rows, path, rows)
    assert found is not None
    assert (found.node, found.operator, found.layer, found.limit) == (f"node_{layer}", "Gemm", layer, 1e-4)
    assert found.difference is not None
    assert 0.01 < found.difference < 1


def test_a_layer_that_is_folded_into_the_next_is_no_departure(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.Hardtanh(-9, 9), nn.Linear(4, 2)).eval()
    norm = network[1]
    norm.running_mean.copy_(torch.arange(4.0))
    norm.running_var.copy_(torch.arange(1.0, 5.0))
    with torch.no_grad():
        scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
        weight = (network[0].weight * scale[:, None]).numpy()
        bias = ((network[0].bias - norm.running_mean) * scale + norm.bias).numpy()
    tensors = {"w": weight, "b": bias, "hw": network[3].weight.detach().numpy(), "hb": network[3].bias.detach().numpy()}
    path = tmp_path / "folded.onnx"

    def written(**changed: NDArray[np.float32]) -> None:
        graph = helper.make_graph(
            [
                helper.make_node("Gemm", ["images", "w", "b"], ["a"], name="folded", transB=1),
                helper.make_node("Gemm", ["a", "hw", "hb"], ["logits"], name="head", transB=1),
            ],
            "folded",
            [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 4])],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
            [numpy_helper.from_array(value, name) for name, value in {**tensors, **changed}.items()],
        )
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)

    images = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    written()
    assert divergence_from_torch(network, images, path, images) is None
    written(w=weight * np.float32(2))
    found = divergence_from_torch(network, images, path, images)
    assert found is not None
    assert (found.node, found.layer) == ("folded", "0")
    # Nothing there has the shape of the layer's output.
    written(w=weight[:3], b=bias[:3], hw=tensors["hw"][:, :3])
    found = divergence_from_torch(network, images, path, images)
    assert found is not None
    assert (found.node, found.difference) == ("folded", 1.0)
    # The last layer's output is compared with nothing behind it.
    written(hb=tensors["hb"] + np.float32(1))
    found = divergence_from_torch(network, images, path, images)
    assert found is not None
    assert (found.node, found.layer) == ("head", "3")


def test_a_departure_is_looked_for_behind_the_last_value_that_is_right(tmp_path: Path) -> None:
    network, path = Layers().eval(), tmp_path / "layers.onnx"
    rows = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    layers_as_onnx(network, path, ["second.weight"])
    model = onnx.load(path)
    # Values of no layer's, computed before, after and beside those of the layers.
    model.graph.node.insert(0, helper.make_node("Neg", ["images"], ["beside"], name="beside"))
    onnx.save(model, path)
    found = divergence_from_torch(network, rows, path, rows)
    assert found is not None
    assert (found.node, found.layer) == ("node_second", "second")


def test_two_layers_that_are_folded_into_one_are_compared_behind_both(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.BatchNorm1d(4), nn.Linear(4, 2)).eval()
    weight, bias = (value.detach().double() for value in (network[0].weight, network[0].bias))
    for norm in network[1:3]:
        norm.running_mean.copy_(torch.linspace(-1, 2, 4))
        norm.running_var.copy_(torch.linspace(0.2, 3, 4))
        scale = 1 / torch.sqrt(norm.running_var.double() + norm.eps)
        weight, bias = weight * scale[:, None], (bias - norm.running_mean) * scale
    tensors = {"w": weight * 1.25, "b": bias * 1.25, "hw": network[3].weight, "hb": network[3].bias}
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["images", "w", "b"], ["a"], name="folded", transB=1),
            helper.make_node("Gemm", ["a", "hw", "hb"], ["logits"], name="head", transB=1),
        ],
        "folded",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 2])],
        [numpy_helper.from_array(value.detach().float().numpy(), name) for name, value in tensors.items()],
    )
    path = tmp_path / "folded.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    images = np.random.default_rng(1).normal(size=(5, 4)).astype(np.float32)
    found = divergence_from_torch(network, images, path, images)
    assert found is not None
    assert (found.node, found.layer) == ("folded", "0")
    assert found.difference == pytest.approx(0.25, abs=1e-5)
