from __future__ import annotations

import csv
import json
import shlex
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch

from cls.bottle.dataset_file import GroupDataset, LabelledRow, read_dataset, write_dataset
from cls.bottle.layout import Bottle
from cls.cli.command import execute
from cls.errors import BottleError
from cls.files import sha256_of_file
from cls.people.photos import read_photo
from cls.settings import REPOSITORY, load_settings
from cls.training.runs.args import code_version
from cls.training.runs.listing import finished_run
from cls.training.runs.metrics import SampleCounts
from cls.training.runs.run import FinishedRun, find_runs, open_run
from tests.bottles import GROUP, LABELS, make_tiny_bottle, train_tiny_run


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Bottle:
    return make_tiny_bottle(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def trained(tiny: Bottle) -> FinishedRun:
    return train_tiny_run(tiny, arch="mnv3", epochs=2)


def train_script(bottle: Bottle, *options: str) -> int:
    from cls.cli.train import COMMAND

    # A small network: its conversions take less.
    words = ["--cfg", str(bottle.settings.file), "--arch", "test_resnet", "--size", "64x48", "--weights", "none"]
    return execute(COMMAND, [*words, "--epochs", "1", "--batch", "4", *options])


def change(bottle: Bottle, statement: str) -> None:
    with sqlite3.connect(bottle.root / "pictures.sqlite") as connection:
        connection.execute(statement)
    connection.close()


def test_the_run_folder_holds_what_it_should(trained: FinishedRun) -> None:
    assert trained.name == "v__0_train_mnv3_4_0.001"
    for name in (
        "checkpoints/best.ckpt", "checkpoints/last.ckpt", "checkpoints/model.ckpt", "train_batches/batch_0.jpg",
        "train_batches/before_after.jpg", "label_errors.csv", "args.yaml", "split.json", "ledger.json", "metrics.json",
        "predictions.csv", "report.html",
    ):  # fmt: skip
        assert (trained.folder / name).stat().st_size > 0, name
    assert list((trained.folder / "csv_logs").rglob("metrics.csv"))


def test_the_reference_lists_what_the_run_folder_holds(trained: FinishedRun) -> None:
    page = (REPOSITORY / "docs" / "reference" / "run-files.md").read_text(encoding="utf-8")
    listed = [*trained.folder.iterdir(), *(trained.folder / "checkpoints").iterdir()]
    missing = [
        name
        for path in listed
        if (name := str(path.relative_to(trained.folder))) != "checkpoints" and f"`{name}" not in page
    ]
    assert missing == []
    assert not [path for path in trained.folder.rglob("*") if path.name.endswith(".part")]
    assert len(trained.metrics.history) == 2
    assert trained.metrics.code_version == trained.args.code_version == code_version()


def test_a_run_is_found_and_opened(tiny: Bottle, trained: FinishedRun) -> None:
    found = finished_run(tiny, "newest", GROUP)
    assert found == trained
    assert find_runs(tiny, GROUP) == [trained]
    assert finished_run(tiny, trained.name, GROUP) == trained
    assert found.labels == LABELS
    assert found.arch == "mobilenetv3_small_100"
    assert found.metrics.segmentation_models == ("tiny_person",)
    assert all(0.01 <= value <= 0.99 for value in found.thresholds)
    assert (found.preprocessing.height_px, found.preprocessing.width_px) == (64, 48)
    with pytest.raises(BottleError) as caught:
        finished_run(tiny, "v__9", GROUP)
    assert caught.value.code == "bottle.run_not_found"
    assert "'v__9'" in caught.value.what


def test_the_network_gives_the_probabilities_that_were_measured(trained: FinishedRun) -> None:
    """From the photo's file on, as inference will do it."""
    network = trained.load_network()
    assert not network.training
    samples = trained.validation_samples()
    assert samples
    images = np.stack([
        trained.preprocessing.cut(read_photo(trained.bottle.picture(sample.path)), sample.person) for sample in samples
    ])  # fmt: skip
    with torch.inference_mode():
        probs = network(torch.from_numpy(trained.preprocessing.normalise(images))).sigmoid().numpy()
    with (trained.folder / "predictions.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["picture"] for row in rows] == [sample.path for sample in samples]
    written = [[float(row[f"prob {label}"]) for label in LABELS] for row in rows]
    np.testing.assert_allclose(probs, written, atol=1e-5)


def test_the_final_weights_are_the_calibrated_ones(trained: FinishedRun) -> None:
    assert trained.checkpoint == trained.folder / "checkpoints" / "model.ckpt"
    assert sha256_of_file(trained.checkpoint) == trained.metrics.weights_sha256
    validation = trained.metrics.validation
    assert set(validation.intervals.labels) == set(validation.cross_fitted.labels) == set(LABELS)
    assert trained.metrics.calibration.temperature > 0
    assert trained.metrics.background_sensitivity.backgrounds == 8
    assert set(trained.metrics.background_sensitivity.as_served.labels) == set(LABELS)


def copied(run: FinishedRun, folder: Path) -> FinishedRun:
    """The run in a copy of its bottle."""
    shutil.copytree(run.bottle.settings.file.parent, folder)
    bottle = Bottle(load_settings(folder / run.bottle.settings.file.name, environment={}))
    return open_run(bottle, bottle.models(run.group) / run.name)


def test_killed_between_the_fit_and_the_final_weights(tmp_path: Path, trained: FinishedRun) -> None:
    run = copied(trained, tmp_path / "copy")
    for name in ("metrics.json", "checkpoints/model.ckpt", "report.html", "predictions.csv"):
        (run.folder / name).unlink()
    again = train_tiny_run(run.bottle, arch="mnv3", epochs=2)
    assert again.name == run.name, "resumed, not started again"
    assert again.metrics.weights_sha256 == trained.metrics.weights_sha256
    assert again.thresholds == trained.thresholds
    assert len(again.metrics.history) == 2


def test_a_run_of_a_version_without_calibration_still_opens(tmp_path: Path, trained: FinishedRun) -> None:
    run = copied(trained, tmp_path / "copy")
    metrics = run.metrics.to_json_values()
    del metrics["calibration"], metrics["background_sensitivity"]
    for key in ("intervals", "cross_fitted", "instance"):
        del metrics["validation"][key]
    (run.folder / "metrics.json").write_text(json.dumps(metrics))
    (run.folder / "checkpoints" / "model.ckpt").unlink()
    older = open_run(run.bottle, run.folder)
    assert older.checkpoint.name == "best.ckpt"
    assert not older.load_network().training
    assert "mean" in older.summary()


def test_a_lost_checkpoint_is_not_replaced_by_another(tmp_path: Path, trained: FinishedRun) -> None:
    run = copied(trained, tmp_path / "copy")
    run.checkpoint.unlink()
    with pytest.raises(BottleError) as caught:
        run.load_network()
    assert caught.value.code == "bottle.checkpoint_missing"
    assert str(caught.value.where).endswith("model.ckpt")


def test_a_damaged_older_run_is_passed_over(
    tmp_path: Path, trained: FinishedRun, caplog: pytest.LogCaptureFixture
) -> None:
    spoilt = copied(trained, tmp_path / "copy")
    (spoilt.folder / "args.yaml").unlink()
    assert find_runs(spoilt.bottle, spoilt.group) == []
    assert f"left out: {spoilt.folder}" in caplog.text


def test_nobody_is_on_both_sides(trained: FinishedRun) -> None:
    train, valid = trained.samples("train"), trained.samples("valid")
    assert len(train) + len(valid) == 24
    assert not {sample.picset for sample in train} & {sample.picset for sample in valid}


def test_the_report_needs_nothing_beside_it(trained: FinishedRun) -> None:
    page = (trained.folder / "report.html").read_text(encoding="utf-8")
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert "https://" not in page
    assert page.count("<svg") == 3 + 2 * len(LABELS), "loss, scores, reliability; two a label"
    for label in LABELS:
        assert label in page
    assert str(trained.bottle.root) not in page


def test_nothing_in_a_run_names_a_path_of_this_machine(trained: FinishedRun) -> None:
    for name in ("args.yaml", "split.json", "ledger.json", "metrics.json", "predictions.csv", "report.html"):
        assert str(trained.bottle.root.parent) not in (trained.folder / name).read_text(encoding="utf-8"), name


def test_the_same_seed_gives_the_same_run(tmp_path: Path, trained: FinishedRun) -> None:
    again = train_tiny_run(make_tiny_bottle(tmp_path), arch="mnv3", epochs=2)
    for key in ("train_loss", "valid_loss", "valid_map"):
        assert [getattr(epoch, key) for epoch in again.metrics.history] == pytest.approx(
            [getattr(epoch, key) for epoch in trained.metrics.history], rel=1e-4
        )
    assert again.thresholds == pytest.approx(trained.thresholds, rel=1e-3)
    states = [torch.load(run.folder / "checkpoints" / "last.ckpt")["state_dict"] for run in (again, trained)]
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items()), "bit for bit"
    other = train_tiny_run(again.bottle, arch="mnv3", epochs=2, seed=1)
    assert other.metrics.history[0].train_loss != again.metrics.history[0].train_loss


def test_the_script_writes_torchscript_and_onnx(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bottle = make_tiny_bottle(tmp_path)
    assert train_script(bottle, "--cat", GROUP) == 0
    run = finished_run(bottle, "newest", GROUP)
    assert run.name == "v__0_train_test_resnet_4_0.001"
    printed = capsys.readouterr().out
    assert run.name in printed
    assert printed.splitlines()[-1] == f"next: python cls/classification/export.py --group {GROUP}"
    images = torch.zeros(2, 3, 64, 48)
    with torch.inference_mode():
        expected = run.load_network()(images)
        scripted = torch.jit.load(run.folder / "torchscripts" / "model.pt")(images)  # type: ignore[no-untyped-call]
    torch.testing.assert_close(scripted, expected)
    import onnxruntime

    session = onnxruntime.InferenceSession(run.folder / "onnx" / "model.onnx")
    (logits,) = session.run(["logits"], {"images": images.numpy()})
    np.testing.assert_allclose(logits, expected.numpy(), atol=1e-4)


def test_the_next_command_can_be_pasted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    group = "it's a $HOME group"
    assert train_script(make_tiny_bottle(tmp_path, group=group), "--cat", group) == 0
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert words == ["next:", "python", "cls/classification/export.py", "--group", group]


def test_mode_all_trains_on_everything(tmp_path: Path) -> None:
    bottle = make_tiny_bottle(tmp_path)
    everything = train_tiny_run(bottle, mode="all")
    assert everything.name == "v__0_all_test_efficientnet_4_0.001"
    assert everything.metrics.samples == SampleCounts(train=24, valid=0)
    assert everything.thresholds == (0.5, 0.5, 0.5)
    assert everything.validation_samples() == []
    assert (everything.folder / "report.html").exists()
    measured = train_tiny_run(bottle)
    again = train_tiny_run(bottle, mode="all", seed=3)
    assert again.thresholds == measured.thresholds
    assert again.metrics.thresholds_from == "validation of run v__1_train_test_efficientnet_4_0.001"
    # Thresholds and what they were chosen on belong together.
    assert again.metrics.calibration.temperature == measured.metrics.calibration.temperature
    assert again.metrics.background_sensitivity is None


def test_a_group_of_any_name_and_one_label_with_trash(tmp_path: Path) -> None:
    group = "../Цвет: «верх»/ $x$ <script>"
    bottle = make_tiny_bottle(tmp_path, group=group, labels=("red top",))
    run = train_tiny_run(bottle, group)
    assert run.group == group
    assert run.folder.parent.parent == bottle.root / "models"
    assert "<script>" not in (run.folder / "report.html").read_text(encoding="utf-8")


def test_rejected_and_broken_pictures_are_left_out_and_listed(tmp_path: Path) -> None:
    bottle = make_tiny_bottle(tmp_path)
    change(bottle, "UPDATE pictures SET status = 'rejected' WHERE path = '0000.jpeg'")
    bottle.picture("0001.jpeg").write_bytes(b"not a picture")
    run = train_tiny_run(bottle)
    ledger = json.loads((run.folder / "ledger.json").read_text())
    assert set(ledger["left_out"]) == {"0000.jpeg", "0001.jpeg"}
    assert run.metrics.samples.train + run.metrics.samples.valid == 22
    assert {"0000.jpeg", "0001.jpeg"}.isdisjoint(s.path for side in ("train", "valid") for s in run.samples(side))


def rows_of(bottle: Bottle) -> tuple[LabelledRow, ...]:
    return read_dataset(bottle.dataset_file(GROUP)).rows


def without_rows(bottle: Bottle) -> None:
    change(bottle, "DELETE FROM pictures")


def all_rejected(bottle: Bottle) -> None:
    change(bottle, "UPDATE pictures SET status = 'rejected'")


def one_category(bottle: Bottle) -> None:
    rows = tuple(LabelledRow(row.path, (1.0,), row.picset) for row in rows_of(bottle))
    write_dataset(bottle.dataset_file(GROUP), GroupDataset(GROUP, ("red top",), rows))


def label_without_positives(bottle: Bottle) -> None:
    change(bottle, "UPDATE pictures SET status = 'rejected' WHERE path IN ('0000.jpeg', '0001.jpeg', '0002.jpeg')")
    change(bottle, "UPDATE pictures SET status = 'rejected' WHERE path IN ('0012.jpeg', '0013.jpeg', '0014.jpeg')")


def one_picset(bottle: Bottle) -> None:
    rows = tuple(LabelledRow(row.path, row.labels, "same") for row in rows_of(bottle))
    write_dataset(bottle.dataset_file(GROUP), GroupDataset(GROUP, LABELS, rows))


def not_loaded(bottle: Bottle) -> None:
    bottle.dataset_file(GROUP).unlink()


def no_pictures(bottle: Bottle) -> None:
    for picture in bottle.pictures.iterdir():
        picture.unlink()


def leave(bottle: Bottle) -> None:
    pass


def files_of(bottle: Bottle) -> list[Path]:
    return sorted(bottle.root.rglob("*"))


@pytest.mark.parametrize(
    ("spoil", "options", "codes", "value"),
    [
        (not_loaded, (), "bottle.group_not_loaded", "'top_color'"),
        (without_rows, (), "training.no_usable_pictures", "24 not segmented"),
        (all_rejected, (), "training.no_usable_pictures", "24 rejected"),
        (no_pictures, (), "training.no_usable_pictures", "24 the picture"),
        (one_category, (), "training.no_negatives", "'red top', and all 24 "),
        (label_without_positives, (), "training.no_positives", "'red top'"),
        (one_picset, (), "training.one_picset", "24 samples"),
        (leave, ("--arch", "efficientnet_b00"), "usage.invalid_options, usage.unknown_architecture",
         "efficientnet_b0 "),
        (leave, ("--weights", "missing.pth"), "usage.invalid_options, usage.weights_not_found", "missing.pth"),
        (leave, ("--subject", "male"), "training.no_usable_pictures", "(--people largest --subject male)"),
        (leave, ("--epochs", "0", "--valid", "2"),
         "usage.invalid_options, usage.invalid_option_value, usage.invalid_option_value", "found 2.0; --epochs: "),
        (leave, ("--resume",), "training.nothing_to_resume", "'top_color'"),
        (leave, ("--size", "huge"), "usage.invalid_options, usage.invalid_option_value", "'huge'"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_said_in_one_line_and_makes_no_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], spoil: object, options: tuple[str, ...], codes: str, value: str
) -> None:
    bottle = make_tiny_bottle(tmp_path)
    spoil(bottle)  # type: ignore[operator]
    before = files_of(bottle)
    assert train_script(bottle, "--cat", GROUP, *options, "--debug") == (2 if codes.startswith("usage.") else 1)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert lines[0].endswith(f" [{codes}]")
    assert value in lines[0]
    if "--resume" not in options:  # whether a run goes on is known by its cut-outs, which are kept for the next one
        assert files_of(bottle) == before
    assert not list(bottle.models(GROUP).glob("v__*"))
    with pytest.raises(BottleError) as caught:
        finished_run(bottle, "newest", GROUP)
    assert caught.value.code == "bottle.no_finished_run"
    assert "cls train --cat" in str(caught.value.hint)
