"""`cls train --from`: the settings of an earlier run, or of an args.yaml, trained again."""

from __future__ import annotations

import logging
import shutil
from pathlib import Path

import pytest

from cls.bottle.layout import Bottle
from cls.cli.command import Parser, add_common_arguments, execute
from cls.cli.train import COMMAND, add_arguments, config_of_source
from cls.errors import BottleError, ClsError, UsageError
from cls.people.preprocess import Preprocessing
from cls.training.config import TrainConfig
from cls.training.runs.args import ARGS, write_args
from tests.bottles import make_empty_bottle, run_args

RUN = "v__3_train_mnv3_4_0.001"
SETTINGS = TrainConfig(
    "hat", arch="mnv3", height_px=64, width_px=48, epochs=2, batch=4, compile=True, incomplete=("cap",), join_by=(),
    weights="none",
)  # fmt: skip


@pytest.fixture
def bottle(tmp_path: Path) -> Bottle:
    return make_empty_bottle(tmp_path)


def keep(bottle: Bottle, config: TrainConfig = SETTINGS, name: str = RUN, **others: object) -> Path:
    folder = bottle.models(config.group) / name
    folder.mkdir(parents=True)
    args = run_args(config.group, "mobilenetv3_small_050", Preprocessing(64, 48), {**config.to_dict(), **others})
    write_args(folder, args)
    return folder


def settings_of(bottle: Bottle, *words: str) -> TrainConfig:
    parser = Parser()
    add_arguments(parser)
    add_common_arguments(parser)
    return config_of_source(parser.parse_args([*words, "--cfg", str(bottle.settings.file)]))


def test_a_run_by_any_of_its_names(bottle: Bottle, tmp_path: Path) -> None:
    folder = keep(bottle)
    alone = shutil.copy(folder / ARGS, tmp_path / "settings.yaml")
    for source in (RUN, "3", f"hat/{RUN}", "hat/3", str(folder), str(folder / ARGS), str(alone)):
        assert settings_of(bottle, "--from", source) == SETTINGS


def test_given_options_win_also_those_that_are_the_default(bottle: Bottle) -> None:
    keep(bottle)
    words = "--epochs 12 --no-compile --size auto:4096 --join-by shoot --mode train --group top_color"
    found = settings_of(bottle, "--from", RUN, *words.split())
    assert (found.epochs, found.compile, found.auto_px, found.join_by) == (12, False, 4096, ("shoot",))
    assert (found.group, found.batch, found.incomplete) == ("top_color", 4, ("cap",))


def test_what_cannot_be_repeated_is_logged(bottle: Bottle, caplog: pytest.LogCaptureFixture) -> None:
    folder = keep(bottle, later={"a": [1]}, old_rate=0.5)
    text = (folder / ARGS).read_text(encoding="utf-8")
    (folder / ARGS).write_text(text.replace("  near_duplicates: true\n", "").replace("  seed: 0\n", ""))
    with caplog.at_level(logging.WARNING, logger="cls"):
        assert settings_of(bottle, "--from", RUN, "--seed", "0") == SETTINGS
    left_out, unsaid = (record.getMessage() for record in caplog.records)
    assert 'later {"a": [1]}, old_rate 0.5' in left_out
    assert "near_duplicates true" in unsaid
    assert "seed" not in unsaid


def test_weights_that_were_named_without_their_folder(bottle: Bottle, tmp_path: Path) -> None:
    keep(bottle, TrainConfig("hat", weights=str(tmp_path / "away" / "first.pth")))
    with pytest.raises(BottleError) as caught:
        settings_of(bottle, "--from", RUN)
    assert caught.value.code == "bottle.invalid_settings"
    assert [fault.code for fault in caught.value.faults] == ["usage.weights_not_found"]
    assert "first.pth" in caught.value.what
    assert settings_of(bottle, "--from", RUN, "--weights", "none").weights == "none"
    assert settings_of(bottle, "--from", RUN, "--pretrained", "newest", "--arch", "lite0").weights == "auto"


def test_a_run_that_it_started_from_and_that_is_gone(bottle: Bottle) -> None:
    keep(bottle, TrainConfig("hat", pretrained="v__0_train_mnv3_4_0.001"))
    with pytest.raises(BottleError) as caught:
        settings_of(bottle, "--from", RUN)
    assert caught.value.code == "bottle.run_not_found"
    with pytest.raises(BottleError) as caught:
        settings_of(bottle, "--from", RUN, "--cat", "top_color")
    assert caught.value.code == "bottle.run_not_found"
    assert "group 'hat'" in str(caught.value.hint), "it is a run of the earlier group"
    found = settings_of(bottle, "--from", RUN, "--weights", "none")
    assert (found.pretrained, found.weights) == (None, "none")


@pytest.mark.parametrize(
    ("source", "error", "code"),
    [
        ("v__9", BottleError, "bottle.run_not_found"),
        ("bag/v__3", BottleError, "bottle.no_runs"),
        ("3", BottleError, "bottle.ambiguous_run"),
        ("/no/such/args.yaml", BottleError, "bottle.run_not_found"),
    ],
)
def test_a_source_that_is_not_there(bottle: Bottle, source: str, error: type[ClsError], code: str) -> None:
    keep(bottle)
    keep(bottle, TrainConfig("top_color"))
    with pytest.raises(error) as caught:
        settings_of(bottle, "--from", source)
    assert caught.value.code == code


def test_a_file_that_holds_no_settings(bottle: Bottle, tmp_path: Path) -> None:
    file = tmp_path / "other.yaml"
    file.write_text("data_path: somewhere\n")
    with pytest.raises(BottleError) as caught:
        settings_of(bottle, "--from", str(file))
    assert (caught.value.code, caught.value.where) == ("bottle.run_unreadable", str(file))


def test_a_file_written_by_hand_needs_settings_alone(
    bottle: Bottle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("settings: {group: hat, decay: 1e-4, lr: 2e-3, epochs: 3, weights: none, join_by: [shoot]}\n")
    expected = TrainConfig("hat", decay=1e-4, lr=2e-3, epochs=3, weights="none", join_by=("shoot",))
    assert settings_of(bottle, "--from", str(file)) == expected
    assert not caplog.records
    file.write_text("settings: {decay: 1e-4}\n")
    assert settings_of(bottle, "--from", str(file), "--cat", "hat") == TrainConfig("hat", decay=1e-4)
    file.write_text("settings: {decay: some, epochs: 3e0, loss: l2, valid: nan}\n")
    with pytest.raises(UsageError) as caught:
        settings_of(bottle, "--from", str(file), "--batch", "x")
    assert caught.value.code == "usage.invalid_options"
    assert str(file) in str(caught.value.hint)
    for found in ("--cat: ", "--decay: ", "--epochs: ", "--loss: ", "--valid: ", "--batch: "):
        assert caught.value.what.count(found) == 1


def test_a_file_written_by_hand_takes_the_options_of_the_command(bottle: Bottle, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("settings: {cat: hat, size: 64x48, background-share: 1e-1, background_people: 9, log: [wandb]}\n")
    with pytest.raises(BottleError) as caught:
        settings_of(bottle, "--from", str(file), "--epochs", "2")
    assert [fault.code for fault in caught.value.faults] == ["usage.not_installed"]
    found = settings_of(bottle, "--from", str(file), "--log", "tensorboard")
    assert found == TrainConfig(
        "hat", height_px=64, width_px=48, background_share=0.1, background_people=9, loggers=("tensorboard",)
    )


def test_names_that_are_no_options_are_refused_with_the_rest(bottle: Bottle, tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("settings: {cat: hat, group: bag, epoch: 3, size: 64x48, width_px: 48, loss: l2, arch-l: eff}\n")
    with pytest.raises(BottleError) as caught:
        settings_of(bottle, "--from", str(file))
    assert (caught.value.code, caught.value.where) == ("bottle.invalid_settings", str(file))
    assert [(str(fault).partition(":")[0], fault.code) for fault in caught.value.faults] == [
        ("--loss", "usage.invalid_option_value"),
        ("group", "usage.option_given_twice"),
        ("epoch", "usage.unknown_option"),
        ("arch-l", "usage.unknown_option"),
        ("size", "usage.option_given_twice"),
    ]
    with pytest.raises(UsageError):
        settings_of(bottle, "--from", str(file), "--batch", "x")
    file.write_text("settings:\n  cat: hat\n  cat: bag\n")
    with pytest.raises(BottleError) as caught:
        settings_of(bottle, "--from", str(file))
    assert (caught.value.code, caught.value.where) == ("bottle.run_unreadable", f"{file}:3:3")


def test_an_option_that_conflicts_with_the_settings_of_the_run(bottle: Bottle) -> None:
    keep(bottle, TrainConfig("hat", mode="all"))
    with pytest.raises(UsageError) as caught:
        settings_of(bottle, "--from", RUN, "--leak-tax")
    assert caught.value.codes == ("usage.invalid_options", "usage.options_conflict")


def test_number_texts_in_the_args_of_a_run(bottle: Bottle) -> None:
    file = keep(bottle) / ARGS
    file.write_text(file.read_text(encoding="utf-8").replace("decay: 0.001\n", "decay: 1e-5\n"))
    assert settings_of(bottle, "--from", RUN).decay == 1e-5


def test_without_a_source_a_group_is_needed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        execute(COMMAND, ["--epochs", "1"])
    assert caught.value.code == 2
    printed = capsys.readouterr().err
    assert "--cat is required" in printed
    assert "[--cat GROUP]" in printed
