"""`import cls`: what it offers, and that it is what the commands do."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args, get_type_hints

import numpy as np
import pytest

import cls
from cls.bottle.dataset_file import read_dataset, write_dataset
from cls.cli.command import execute
from cls.cli.export import COMMAND as EXPORT
from cls.errors import BottleError, ExportError, ParityError, TrainingError, UsageError
from cls.exporting.formats.files import FORMATS, ExportRequest
from cls.exporting.publish import Exported
from cls.loading.load import LoadReport
from cls.metrics.multilabel import measure
from cls.option_types import ExportOptions, Format
from cls.people.photos import read_photo
from cls.runtimes.open import classifier_of_run
from cls.settings import REPOSITORY
from tests import option_types
from tests.bottles import make_empty_bottle
from tests.exporting.runs import ExportedBottle
from tests.preloaded import run_program


def test_every_name_is_offered_and_found() -> None:
    assert {name for name in dir(cls) if not name.startswith("__")} == set(cls.__all__)
    assert {"__all__", "__doc__", "__version__"} <= set(dir(cls))
    assert all(callable(getattr(cls, name)) for name in cls.__all__ if name != "errors")
    assert (Path(cls.__file__).parent / "py.typed").is_file()
    with pytest.raises(AttributeError, match="no_such_name"):
        cls.no_such_name  # noqa: B018


def test_importing_it_loads_nothing_else() -> None:
    code = "import sys; before = set(sys.modules); import cls; dir(cls); print(*(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True
    )
    assert {name for name in done.stdout.split() if name.startswith("cls.")} == set()


def test_errors_and_types_are_reached_after_a_fresh_import() -> None:
    code = """import cls
try:
    cls.open_run("newest", cfg="no.yaml")
except cls.errors.SettingsError as error:
    assert isinstance(error, cls.ClsError)
    print(error.code)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("settings.")
    assert issubclass(cls.errors.UsageError, cls.ClsError)
    shown = (cls.evaluate, cls.export, cls.load_group, cls.open_model, cls.open_run, cls.segment, cls.train)
    for function in shown:
        written = str(function.__annotations__)
        named = {word for word in re.findall(r"\b[A-Z]\w+", written) if word not in {"Unpack", "AnyPath", "Sequence"}}
        named = {word for word in named if not word.endswith(("Options", "PathLike", "None"))}
        assert named <= set(cls.__all__), function.__name__


def test_the_types_of_keyword_options_are_those_of_the_settings() -> None:
    assert option_types.FILE.read_text(encoding="utf-8") == option_types.text(), "run `python -m tests.option_types`"


def test_formats_are_typed_by_name() -> None:
    assert get_args(Format) == FORMATS
    hints = get_type_hints(ExportOptions)
    assert hints["require"] == Format | None
    assert hints["formats"] == Collection[Format | Literal["all"]] | Format | Literal["all"] | None


def test_a_run_is_opened_and_asked(exported: ExportedBottle) -> None:
    run = cls.open_run(exported.run.name, group=exported.run.group, cfg=exported.cfg)
    assert (run.folder, run.metrics) == (exported.run.folder, exported.run.metrics)
    assert run.report == exported.run.folder / "report.html"
    photo = exported.bottle.picture("0003.jpeg")
    (person,) = run.predict(photo, whole=True)
    expected = cls.open_model(run.folder, whole=True, cfg=exported.cfg)(photo)[0]
    assert cls.open_model(run, whole=True)(photo)[0].to_dict() == expected.to_dict()
    assert person.to_dict() == expected.to_dict()
    assert [len(people) for people in run.predict([photo, photo], whole=True, threshold=0.0)] == [1, 1]
    with pytest.raises(BottleError) as missing:
        cls.open_run("v__99", cfg=exported.cfg)
    assert missing.value.code == "bottle.run_not_found"


def test_a_run_is_evaluated_on_its_validation_part_and_on_photos_it_has_not_seen(copied: ExportedBottle) -> None:
    run, bottle, group = copied.run, copied.bottle, copied.run.group
    people = run.validation_samples()
    crops = np.stack([run.preprocessing.cut(read_photo(bottle.picture(one.path)), one.person) for one in people])
    probs = classifier_of_run(run).probabilities(crops).astype(np.float64)
    expected = measure(probs, np.array([one.labels for one in people], np.float64), run.labels, run.thresholds)
    found = cls.evaluate(run)
    assert found.macro.f1 == pytest.approx(expected.macro.f1, abs=1e-6)
    assert found.macro.ap == pytest.approx(expected.macro.ap, abs=1e-3)
    assert found.labels.keys() == set(run.labels)
    # Of the run's own group, what is left without training's photos and picsets is the validation part.
    assert cls.evaluate(f"{group}/{run.name}", group=group, cfg=copied.cfg).macro == found.macro
    dataset = read_dataset(bottle.dataset_file(group), group)
    trained_on = set(run.pictures("train"))
    seen = tuple(row for row in dataset.rows if row.path in trained_on)
    write_dataset(bottle.dataset_file("seen"), replace(dataset, group="seen", rows=seen))
    with pytest.raises(TrainingError) as nobody:
        cls.evaluate(run, group="seen")
    assert nobody.value.code == "training.nobody_to_evaluate_on"
    columns = tuple(replace(row, labels=row.labels[1:]) for row in dataset.rows)
    fewer = replace(dataset, group="fewer", labels=dataset.labels[1:], rows=columns)
    write_dataset(bottle.dataset_file("fewer"), fewer)
    with pytest.raises(TrainingError) as lacking:
        cls.evaluate(run, group="fewer")
    assert lacking.value.code == "training.labels_missing"
    assert dataset.labels[0] in lacking.value.what


@pytest.mark.parametrize("command", ["python", "export"])
def test_a_run_of_another_data_folder_or_group_is_refused(
    exported: ExportedBottle, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    def refused(run: object, group: str, cfg: Path | None) -> str:
        if command == "python":
            with pytest.raises(BottleError) as caught:
                cls.open_run(str(run), group=group, cfg=cfg)
            return caught.value.code
        words = ["--group", group, "--run", str(run), "--formats", "onnx", "--cfg", str(cfg), "--debug"]
        assert execute(EXPORT, words) == 1
        return capsys.readouterr().err.strip().splitlines()[-1].rpartition("[")[2].rstrip("]")

    other = make_empty_bottle(tmp_path)
    before = exported.files()
    group = exported.run.group
    assert refused(exported.run.folder, group, other.settings.file) == "bottle.run_elsewhere"
    assert refused(f"{group}/0", "hat", exported.cfg) == "bottle.run_of_other_group"
    assert refused(exported.run.folder, "hat", exported.cfg) == "bottle.run_of_other_group"
    folder = other.models("hat") / exported.run.name
    shutil.copytree(exported.run.folder, folder)
    (folder / "metrics.json").unlink()
    assert refused(folder, group, other.settings.file) == "bottle.unfinished_run"
    assert not list(other.root.rglob("inference_model"))
    assert exported.files() == before


def test_a_run_by_any_of_its_names(exported: ExportedBottle) -> None:
    run = exported.run
    for name in ("newest", "0", 0, "v__0", run.name, f"{run.group}/0", run.folder):
        assert cls.open_run(name, group=run.group, cfg=exported.cfg).folder == run.folder
    with pytest.raises(UsageError) as unknown:
        cls.export(f"{run.group}/0", formats="tflite", cfg=exported.cfg)  # type: ignore[arg-type]
    assert unknown.value.code == "usage.unknown_option_value"
    with pytest.raises(BottleError) as missing:
        cls.evaluate("v__99", cfg=exported.cfg)
    assert missing.value.code == "bottle.run_not_found"
    with pytest.raises(UsageError) as twice:
        cls.export(run, cfg=exported.cfg)
    assert twice.value.code == "usage.invalid_argument"


def test_a_notebook_shows_a_photo_s_people_until_the_photo_is_gone(exported: ExportedBottle, tmp_path: Path) -> None:
    photo = tmp_path / "photo.jpeg"
    shutil.copy(exported.bottle.picture("0003.jpeg"), photo)
    people = cls.open_model(exported.package, whole=True, threshold=0)(photo)
    html = people._repr_html_()
    assert 'href="data:image/jpeg;base64,' in html
    assert html.count("<polygon") == 1
    assert f"{exported.run.labels[0]} {people[0].probabilities[exported.run.labels[0]]:.2f}" in html
    photo.unlink()
    assert "<svg" not in people._repr_html_()
    assert "<td>whole photo 1.00</td>" in people._repr_html_()


def test_a_notebook_shows_names_as_text(exported: ExportedBottle) -> None:
    people = cls.open_model(exported.package, whole=True)(exported.bottle.picture("0003.jpeg"))
    people[0] = replace(people[0], person_class="<b>")
    assert "&lt;b&gt; 1.00" in people._repr_html_()


def test_what_is_returned_is_shown_in_a_few_lines(
    exported: ExportedBottle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = cls.open_run(exported.run.name, group=exported.run.group, cfg=exported.cfg)
    dataset = read_dataset(exported.bottle.dataset_file(run.group), run.group)
    report = LoadReport(
        group=run.group,
        source="test",
        loaded_at="",
        photos=len(dataset.rows),
        pictures_stored=0,
        pictures_kept=len(dataset.rows),
        picsets=1,
        placeholders=0,
    )
    loaded = cls.LoadedGroup(dataset, exported.bottle.dataset_file(run.group), False, report, tmp_path / "report.json")
    model = cls.open_model(run, whole=True)
    metrics = cls.evaluate(run)
    for shown in (run, loaded, dataset, exported.report, metrics, run.metrics, model):
        for text in (repr(shown), str(shown)):
            assert len(text) < 400
            assert type(shown).__name__ in text
            assert " at 0x" not in text
    assert repr(run.group) in repr(loaded)
    assert str(exported.report.folder) in repr(exported.report)
    assert run.name in repr(model)
    odd = metrics.replaced(labels={"<b>": next(iter(metrics.labels.values()))})
    assert "<td>&lt;b&gt;</td>" in odd._repr_html_()
    assert f'<a href="{run.report.resolve().as_uri()}">' in run._repr_html_()
    monkeypatch.chdir(run.folder)
    assert '<a href="report.html">' in run._repr_html_()


def test_options_that_cannot_be_used_are_refused(exported: ExportedBottle) -> None:
    with pytest.raises(UsageError) as refused:
        cls.train("hat", epochs=0, batch=0, cfg=exported.cfg)
    assert refused.value.code == "usage.invalid_options"
    assert all(option in refused.value.what for option in ("--epochs", "--batch"))
    with pytest.raises(TypeError, match="epochs"):
        cls.train(cls.TrainConfig(group="hat"), epochs=2, cfg=exported.cfg)
    for formats in (["onnx", "tflite"], "tflite", []):
        with pytest.raises(UsageError) as unknown:
            cls.export(exported.run, formats=formats)  # type: ignore[arg-type]
        assert unknown.value.code == "usage.unknown_option_value"


@pytest.mark.parametrize(
    ("function", "arguments", "options", "code"),
    [
        ("open_run", [None], {}, "invalid_argument"),
        ("open_run", [True], {}, "invalid_argument"),
        ("open_run", ["newest"], {"cfg": 3}, "invalid_argument"),
        ("export", [None], {}, "invalid_argument"),
        ("export", ["newest"], {"cfg": 3}, "invalid_argument"),
        ("evaluate", [True], {}, "invalid_argument"),
        ("open_model", [None], {}, "invalid_argument"),
        ("open_model", ["model_onnx.zip", "whole"], {}, "invalid_argument"),
        ("segment", [None], {}, "invalid_argument"),
        ("train", [None], {}, "invalid_options"),
        ("load_group", [None], {}, "empty_option_value"),
        ("load_group", ["hat"], {"source": 3}, "invalid_argument"),
        ("load_group", ["hat"], {"workers": "x"}, "invalid_options"),
    ],
)
def test_arguments_of_another_type_are_refused(
    exported: ExportedBottle, function: str, arguments: list[Any], options: dict[str, Any], code: str
) -> None:
    if function in {"load_group", "segment", "train"}:
        options = {"cfg": exported.cfg, **options}
    with pytest.raises(cls.errors.UsageError) as refused:
        getattr(cls, function)(*arguments, **options)
    assert refused.value.code == f"usage.{code}"


@pytest.mark.parametrize("start", ["spawn", "forkserver"])
def test_a_worker_that_runs_an_unguarded_script_again_ends_with_one_error(tmp_path: Path, start: str) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text("""import multiprocessing, sys
import cls
def work():
    for function in (cls.load_group, cls.segment, cls.train, cls.evaluate, cls.export):
        try:
            function("hat", cfg="no.yaml")
        except (cls.ClsError, SystemExit) as end:
            print(end, flush=True)
if __name__ != "__main__":
    work()
worker = multiprocessing.get_context(sys.argv[1]).Process(target=print, args=["a guarded script's work"])
if __name__ == "__main__":
    worker.start()
    worker.join()
""")
    command = [sys.executable, str(script), start]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == ["1"] * 5 + ["a guarded script's work"]
    lines = done.stderr.splitlines()
    assert len(lines) == 5
    assert all("__main__" in line and line.endswith("[usage.unguarded_script]") for line in lines)


def test_a_script_that_another_program_runs_is_no_worker(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text("import cls\ncls.load_group('hat', cfg='no.yaml')\n")
    code = f"import multiprocessing, runpy; runpy.run_path({str(script)!r}, run_name='__main__')"
    done = run_program(["-c", code])
    line = done.stderr.splitlines()[-1]
    assert line.startswith("cls.errors.SettingsError: ")
    assert "no.yaml" in line


def test_wrong_options_of_an_export_are_told_at_once() -> None:
    with pytest.raises(UsageError) as refused:
        ExportRequest(carry_samples=-1, formats="foo,bar")
    assert [(fault.partition(":")[0], fault.code) for fault in refused.value.faults] == [
        ("--carry-samples", "usage.invalid_option_value"),
        ("--formats", "usage.unknown_option_value"),
    ]


def test_a_refused_format_is_an_error_only_where_it_was_required(
    exported: ExportedBottle, caplog: pytest.LogCaptureFixture
) -> None:
    made: Exported = replace(
        exported.report, refused={"openvino": ExportError("x", code="y"), "trt": ParityError("z <b>", code="y")}
    )
    made.raise_if_refused(())
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]
    with pytest.raises(ParityError, match="z"):
        made.raise_if_refused(("trt",))
    html = made._repr_html_()
    assert "<td>model_onnx.zip</td><td>largest difference of a probability" in html
    assert "<td>model_trt.zip</td><td>left out: z &lt;b&gt;</td>" in html
