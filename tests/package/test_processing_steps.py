"""What is inside of a model, and what its caller does: said, and never against its tensors."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import pytest

from cls.errors import PackageError
from cls.exporting.publish import _facts
from cls.package.archive import open_package
from cls.package.card import card_of
from cls.package.meta import parse_meta, read_meta, write_meta
from cls.package.packing import PackedModel, write_package
from cls.package.processing_steps import STEP_MEANINGS, steps_of
from tests.package.metas import make_meta, meta_dict
from tests.package.zips import onnx_bytes

PLAIN: dict[str, Any] = {}
WHOLE: dict[str, Any] = {
    "inputs": [{"name": "images", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}],
    "outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [-1, 3]}],
}
KEPT = {"preprocessing": {**meta_dict()["preprocessing"], "is_background_kept": True, "background": "kept"}}


def steps(is_end_to_end: bool, *, kept: bool = False, **changes: list[str]) -> dict[str, Any]:
    said = steps_of(is_end_to_end=is_end_to_end, is_background_kept=kept)
    return {**said.model_dump(mode="json"), **changes}


@pytest.mark.parametrize(("is_end_to_end", "kept"), [*itertools.product((False, True), repeat=2)])
def test_every_step_is_done_by_one(is_end_to_end: bool, kept: bool) -> None:
    parts = steps_of(is_end_to_end=is_end_to_end, is_background_kept=kept)
    done = (*parts.before, *parts.inside, *parts.after)
    assert sorted(done) == sorted(set(STEP_MEANINGS) - ({"fill_background"} if kept else set()))
    content = meta_dict(
        **(WHOLE if is_end_to_end else PLAIN), **(KEPT if kept else {}), steps=parts.model_dump(mode="json")
    )
    assert parse_meta(content).steps == parts


@pytest.mark.parametrize("tensors", [PLAIN, WHOLE])
def test_a_package_without_them_means_the_same(tensors: dict[str, Any], tmp_path: Path) -> None:
    old, new = make_meta(**tensors), make_meta(**tensors, steps=steps(bool(tensors)))
    assert old.steps is None
    assert old.all_steps == new.steps == new.all_steps
    assert _facts(old) == _facts(new)  # an export keeps packages of the same run that do not say it yet
    write_meta(tmp_path / "meta.json", old)
    assert read_meta(tmp_path / "meta.json") == old
    files: dict[str, Path | bytes] = {"model.onnx": onnx_bytes(tmp_path)}
    write_package(tmp_path / "model_onnx.zip", old, PackedModel("onnx", "onnxruntime_onnx", files))
    with open_package(tmp_path / "model_onnx.zip") as package:
        assert package.meta().steps == package.config.meta().steps == new.steps


def test_torchscript_behind_triton_is_not_mistaken() -> None:
    outputs = [{**WHOLE["outputs"][0], "name": "probabilities__0"}]
    assert parse_meta(meta_dict(inputs=WHOLE["inputs"], outputs=outputs, steps=steps(True))).is_end_to_end


@pytest.mark.parametrize(
    ("change", "case", "words"),
    [
        # Those of the other kind of model.
        ({"steps": steps(True)}, "meta_steps", r"steps.before lacks letterbox, scale, normalise, channels_first "),
        ({**WHOLE, "steps": steps(False)}, "meta_steps", r"steps.before .* letterbox, .*channels_first .*UINT8"),
        # Done twice, and by nobody.
        ({"steps": steps(False, inside=["network", "activation"])}, "meta_steps", "steps.inside has also activation "),
        (
            {**WHOLE, "steps": steps(True, after=["activation", "thresholds"])},
            "meta_steps",
            "steps.after has also activation ",
        ),
        ({"steps": steps(False, after=[])}, "meta_steps", "steps.after lacks activation, thresholds "),
        # In another order.
        (
            {"steps": steps(False, inside=["network"], after=["thresholds", "activation"])},
            "meta_steps",
            "steps.after .* activation, thresholds",
        ),
        # Against the preprocessing.
        ({**KEPT, "steps": steps(False)}, "meta_steps", "steps.before has also fill_background "),
        # Against the output.
        ({"outputs": WHOLE["outputs"], "steps": steps(False)}, "meta_steps", "'probabilities'"),
        ({"inputs": WHOLE["inputs"], "steps": steps(True)}, "meta_steps", "'logits'"),
        # Not known, not whole.
        ({"steps": steps(False, inside=["network", "magic"])}, "invalid_meta", r"\$\.steps"),
        ({"steps": {"inside": ["network"]}}, "invalid_meta", r"\$\.steps"),
    ],
)
def test_what_contradicts_the_model_is_refused(change: dict[str, Any], case: str, words: str) -> None:
    with pytest.raises(PackageError) as caught:
        parse_meta(meta_dict(**change))
    assert caught.value.code == f"package.{case}"
    assert re.search(words, caught.value.what)


def test_the_card_says_who_does_what(tmp_path: Path) -> None:
    write_meta(tmp_path / "meta.json", make_meta())
    text = card_of(tmp_path).text()
    assert "\nin model       network\n" in text
    assert "\nafter model    activation, thresholds\n" in text
    write_meta(tmp_path / "meta.json", make_meta(**WHOLE, steps=steps(True)))
    text = card_of(tmp_path).text()
    assert "\nbefore model   decode, cut_out, fill_background\n" in text
    assert "\nin model       letterbox, scale, normalise, channels_first, network, activation\n" in text
    assert "\nafter model    thresholds\n" in text
