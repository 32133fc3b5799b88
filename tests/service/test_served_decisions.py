"""Exported packages, unmodified, decide the same in process, over HTTP and over gRPC: before both servers.

Among them those with everything inside, the whole way from `cls export --end-to-end` to the answers of a server.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

import cls
from cls.cli.command import Command, execute
from cls.cli.export import COMMAND as EXPORT
from cls.cli.package import SHOW, VERIFY
from cls.cli.storage import PUSH
from cls.exporting.formats.files import FILES, FORMATS, Format
from cls.exporting.formats.onnx import load_onnx
from cls.exporting.publish import ExportConfig, export_run
from cls.package.meta import read_meta
from cls.people.photos import read_photo, whole_photo
from cls.runtimes.classifier import Classifier
from cls.runtimes.open import open_classifier
from tests.bottles import GROUP, make_tiny_bottle
from tests.exporting.runs import ExportedBottle, conversions_shared, fabricate_run
from tests.model_storage.services import Service, detail, refusal
from tests.prediction.inferring import infer, lines_of
from tests.service.inference_servers import KINDS, serving

# What needs no GPU.
MADE: tuple[Format, ...] = tuple(name for name in FORMATS if FILES[name].platform != "tensorrt_plan")
SERVED = [
    *(("plain", name) for name in MADE if name != "openvino_int8"),
    *(("whole", name) for name in MADE if name not in ("openvino_int8", "onnx_fp16")),
]


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> ExportedBottle:
    """A run exported in every format."""
    bottle = make_tiny_bottle(tmp_path_factory.mktemp("plain") / "made")
    run = fabricate_run(bottle)
    with conversions_shared(tmp_path_factory):
        return ExportedBottle(bottle, run, export_run(bottle, run, ExportConfig(MADE)))


@pytest.fixture(scope="module")
def whole(plain: ExportedBottle, tmp_path_factory: pytest.TempPathFactory) -> ExportedBottle:
    """The same run with everything inside, as its user exports it."""
    copy = plain.copy_to(tmp_path_factory.mktemp("whole") / "made")
    with conversions_shared(tmp_path_factory):
        run_command(copy, EXPORT, "--group", GROUP, "--end-to-end", "--formats", ",".join(MADE))
    return copy


@pytest.fixture
def exported(plain: ExportedBottle, whole: ExportedBottle) -> dict[str, ExportedBottle]:
    return {"plain": plain, "whole": whole}


@pytest.fixture(scope="module", params=KINDS)
def storage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with serving(request.param, tmp_path_factory.mktemp(request.param), []) as running:
        yield running


def run_command(at: ExportedBottle, command: Command, *arguments: str) -> None:
    assert execute(command, [*arguments, "--cfg", str(at.cfg)]) == 0


def opened(at: ExportedBottle, name: Format) -> Classifier:
    return open_classifier(str(at.package / FILES[name].archive), at.bottle)


def crops_for(classifier: Classifier, at: ExportedBottle) -> NDArray[np.uint8]:
    """80 cut-outs: 20 photos, each four times."""
    images = [read_photo(path) for path in sorted(at.bottle.pictures.iterdir())[:20]]
    return np.stack([classifier.preprocessing.cut(image, whole_photo(image)) for image in images] * 4)


@pytest.mark.parametrize(("form", "name"), SERVED)
def test_the_same_decisions_everywhere(
    exported: dict[str, ExportedBottle], storage: Service, form: str, name: Format
) -> None:
    at = exported[form]
    local = opened(at, name)
    version = f"1.{SERVED.index((form, name))}.0"
    response = storage.upload(at.package / FILES[name].archive, GROUP, version)
    if FILES[name].platform != "onnxruntime_onnx" and not (storage.root.parent / "triton.log").exists():
        assert refusal(response) == (422, "storage.triton_required")
        assert f"a {FILES[name].inner[0]} needs a real Triton" in detail(response)
        return
    assert response.status_code == 200, response.text
    crops = crops_for(local, at)
    expected = local.probabilities(crops)
    for url in (f"{storage.infer_url}/v2/models/{GROUP}", f"grpc://{storage.infer_grpc_url}/{GROUP}"):
        remote = open_classifier(url, at.bottle)
        assert (remote.labels, remote.thresholds) == (local.labels, local.thresholds)
        assert remote.preprocessing == local.preprocessing
        assert remote.is_end_to_end is (form == "whole")
        for batch in (1, 7, 80):
            answered = remote.probabilities(crops, batch=batch)
            np.testing.assert_allclose(answered, expected, atol=1e-5)
            assert [remote.chosen(row) for row in answered] == [local.chosen(row) for row in expected]
    # One after the other: each is a process of its own with a runtime in it.
    httpx.post(f"{storage.url}/unload_model/{GROUP}", timeout=60).raise_for_status()


def test_what_is_inside_is_said(whole: ExportedBottle, capsys: pytest.CaptureFixture[str]) -> None:
    zips = [str(whole.package / FILES[name].archive) for name in MADE]
    capsys.readouterr()
    run_command(whole, VERIFY, *zips)
    said = capsys.readouterr().out
    assert said.count(": in order") == len(zips)
    assert "PROBLEM" not in said
    for path in zips:
        assert execute(SHOW, [path]) == 0
        card = capsys.readouterr().out
        assert "uint8" in card.lower()
        assert "probabilities" in card
    meta = read_meta(whole.package / "meta.json")
    assert set(meta.parity) == set(MADE)
    assert (meta.inputs[0].datatype, meta.inputs[0].shape) == ("UINT8", (-1, -1, -1, 3))
    assert meta.steps is not None
    assert "activation" in meta.steps.inside
    said = {prop.key: prop.value for prop in load_onnx(whole.package / "model.onnx").metadata_props}
    assert said["activation"] == "sigmoid, inside the model"
    assert meta.steps.after == ("thresholds",)


@pytest.mark.parametrize("name", MADE)
def test_everything_inside_decides_as_the_plain_one(plain: ExportedBottle, whole: ExportedBottle, name: Format) -> None:
    for outside, inside in zip(read(plain, name), read(whole, name), strict=True):
        assert inside["labels"] == outside["labels"]
        assert inside["probs"] == pytest.approx(outside["probs"], abs=1e-4)


def read(at: ExportedBottle, name: Format) -> list[dict[str, object]]:
    """What `cls infer` says of all photos by a package."""
    out = at.package.parent / f"inferred_{name}"
    assert infer(at, "--source", at.bottle.pictures, "--model", at.package / FILES[name].archive, "--out", out) == 0
    return lines_of(out)


def test_three_lines_of_python(plain: ExportedBottle, whole: ExportedBottle) -> None:
    photos = sorted(plain.bottle.pictures.iterdir())[:5]
    by_form = []
    for at in (plain, whole):
        model = cls.open_model(str(at.package / "model_onnx.zip"), whole=True)
        by_form.append([person.labels for people in model(photos) for person in people])
    assert by_form[0] == by_form[1]
    assert len(by_form[0]) == len(photos)


def test_it_is_pushed_and_asked_by_its_name(
    whole: ExportedBottle, plain: ExportedBottle, storage: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CLS_MODEL_STORAGE_URL", storage.url)
    monkeypatch.setenv("CLS_INFERENCE_URL", storage.infer_url)
    run_command(whole, PUSH, "--group", GROUP, "--version", "2.0.0")
    said = {}
    for name, at, model in (("served", whole, ["--served"]), ("local", plain, [])):
        out = tmp_path / name
        assert infer(at, "--group", GROUP, *model, "--out", out) == 0
        said[name] = [(line["picture"], line["labels"]) for line in lines_of(out)]
    assert said["served"] == said["local"]


def test_a_server_takes_cut_outs_of_any_size(whole: ExportedBottle, storage: Service) -> None:
    """Twice as large, by the client alone: the letterbox is in the model."""
    response = storage.upload(whole.package / "model_onnx.zip", GROUP, "3.0.0")
    assert response.status_code == 200, response.text
    local = opened(whole, "onnx")
    crops = crops_for(local, whole)[:5].repeat(2, axis=1).repeat(2, axis=2)
    expected = local.runtime.logits(crops)
    remote = open_classifier(f"{storage.infer_url}/v2/models/{GROUP}", whole.bottle)
    np.testing.assert_allclose(remote.runtime.logits(crops), expected, atol=1e-5)
    assert np.abs(expected - local.runtime.logits(crops[:, ::2, ::2])).max() < 0.05
