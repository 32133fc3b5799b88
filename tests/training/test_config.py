from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cls.cli.command import Parser, execute
from cls.errors import TrainingError, UsageError
from cls.training.config import TrainConfig, config_of_options, training_options
from cls.training.network.build import SHORT_NAMES, timm_name
from cls.training.network.input_size import parse_size


def test_all_problems_are_listed_at_once() -> None:
    with pytest.raises(UsageError) as caught:
        TrainConfig(group="", epochs=0, batch=-1, mode="some", lr=float("nan"), valid=1.5, people="few", height_px=3)
    assert caught.value.code == "usage.invalid_options"
    line = caught.value.line()
    for part in ("--cat", "--epochs", "--batch", "--mode", "--lr", "--valid", "--people", "--size"):
        assert part in line


def test_the_size_the_backbone_and_the_weights_are_among_them() -> None:
    with pytest.raises(UsageError) as caught:
        config_of_options(group="hat", epochs=0, batch=-1, size="foo", arch="nope", weights="gone.pth")
    assert caught.value.code == "usage.invalid_options"
    line = caught.value.line()
    for part in (
        "--epochs: expected a whole number from 1, found 0",
        "--batch: expected a whole number from 1, found -1",
        "--size: expected HEIGHTxWIDTH such as 256x192 or auto, found 'foo'",
        "--arch: there is no architecture 'nope'",
        "--weights: gone.pth: there is no such weights file",
        "see `cls train --help`",
    ):
        assert line.count(part) == 1, line


def test_values_of_other_types_are_all_listed() -> None:
    wrong: dict[str, Any] = {"arch": None, "weights": None, "loggers": None, "auto_px": "x", "epochs": [1], "loss": {}}
    for size in ((256, 192, 3), (256, "192"), 256, (16, 16), ()):
        with pytest.raises(UsageError) as caught:
            config_of_options(group="hat", size=size if "auto_px" not in wrong else None, **wrong)  # type: ignore[arg-type]
        assert caught.value.code == "usage.invalid_options"
        flags = ("--arch", "--weights", "--log", "--size", "--epochs", "--loss")
        assert [caught.value.what.count(f"{flag}: ") for flag in flags] == [1] * len(flags)
        wrong.pop("auto_px", None)


def test_a_pair_paths_and_numbers_of_numpy(tmp_path: Path) -> None:
    file = tmp_path / "first.pth"
    file.touch()
    config = config_of_options(
        group="hat", size=(64, np.int64(48)), weights=file, epochs=np.int32(3), lr=np.float64(0.5), log=["tensorboard"]
    )  # type: ignore[arg-type]
    assert config == TrainConfig(
        "hat", height_px=64, width_px=48, weights=str(file), epochs=3, lr=0.5, loggers=("tensorboard",)
    )
    assert (type(config.width_px), type(config.epochs), type(config.lr)) == (int, int, float)
    assert TrainConfig("hat", pretrained=tmp_path).pretrained == str(tmp_path)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="log"):
        config_of_options(group="hat", log=["tensorboard"], loggers=["wandb"])


def test_options_as_typed() -> None:
    config = config_of_options(group="hat", size="64x48", arch="mnv3", weights="none")
    assert config == TrainConfig(group="hat", height_px=64, width_px=48, arch="mnv3", weights="none")


def test_the_folder_says_mode_backbone_batch_and_decay() -> None:
    assert TrainConfig(group="g", batch=4).folder_tail == "train_eff_4_0.001"
    assert TrainConfig(group="g", mode="all", arch="lite0", decay=1e-5).folder_tail == "all_lite0_16_1e-05"


def test_round_trip_leaves_out_keys_of_other_versions() -> None:
    config = TrainConfig(group="hair_color", subject="female", lr=0.01)
    assert TrainConfig.from_dict({**config.to_dict(), "later": 1}) == config


def test_size() -> None:
    assert parse_size("256x192") == (256, 192, 0)
    assert parse_size("AUTO:4096") == (256, 192, 4096)
    with pytest.raises(UsageError) as caught:
        parse_size("big")
    assert caught.value.code == "usage.invalid_option_value"
    assert "'big'" in caught.value.what


def test_short_names_are_timm_models() -> None:
    import timm

    assert all(timm.is_model(timm_name(name)) for name in SHORT_NAMES)
    assert timm_name("resnet18") == "resnet18"


def test_an_unknown_architecture_suggests_the_closest() -> None:
    with pytest.raises(TrainingError) as caught:
        timm_name("resnet51")
    assert caught.value.code == "training.unknown_architecture"
    assert "'resnet51'" in caught.value.what
    assert re.search(r"resnet\d+", str(caught.value.hint))


def test_help_shows_the_choices(capsys: pytest.CaptureFixture[str]) -> None:
    from cls.cli.train import COMMAND

    with pytest.raises(SystemExit) as caught:
        execute(COMMAND, ["--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    losses = "--loss {bce,weighted,focal,asymmetric,ratio}"
    for choices in ("--mode {train,all}", losses, "--people {largest,single,all}"):
        assert choices in text


def test_a_wrong_choice_is_said_with_everything_else(capsys: pytest.CaptureFixture[str]) -> None:
    from cls.cli.train import COMMAND

    assert execute(COMMAND, ["--cat", "hat", "--mode", "some", "--loss", "l2", "--people", "few", "--epochs", "0"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    for part in ("--mode: expected one of train, all", "--loss: expected one of", "--people: expected", "--epochs:"):
        assert part in line


def test_texts_that_are_no_numbers_are_said_with_everything_else(capsys: pytest.CaptureFixture[str]) -> None:
    from cls.cli.train import COMMAND

    words = ["--cat", "hat", "--epochs", "x", "--batch", "y", "--lr", "z", "--seed", "1.5", "--valid", "2"]
    assert execute(COMMAND, words) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    for found in (
        "--epochs: expected a whole number from 1, found 'x'",
        "found 'y'",
        "found 'z'",
        "found '1.5'",
        "found 2.0",
    ):
        assert found in line


def test_every_field_is_an_option_and_takes_its_default() -> None:
    options = training_options()
    assert {field.name for field in fields(TrainConfig)} - set(options) == {"width_px", "auto_px"}  # of --size
    assert all(option.takes(option.default) for name, option in options.items() if name not in ("group", "height_px"))
    assert all(option.help and option.section for option in options.values())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 1.5), ("epochs", True), ("epochs", "3"), ("epochs", None), ("valid", 0), ("valid", 1),
        ("valid", "x"), ("lr", 0.0), ("lr", float("inf")), ("decay", float("nan")), ("compile", 1), ("compile", "yes"),
        ("arch", ""), ("loss", None), ("people", 3), ("auxiliary", 3), ("loggers", ["csv"]), ("height_px", "64"),
        ("width_px", 4096), ("background_people", -1), ("auto_px", "x"), ("auto_px", None),
        ("auto_px", -5), ("auto_px", 8), ("arch", None), ("weights", None),
        ("weights", 3), ("auxiliary", None), ("seed", "1"), ("pretrained", 0),
    ],
)  # fmt: skip
def test_a_value_of_another_type_or_out_of_range_is_refused(name: str, value: object) -> None:
    with pytest.raises(UsageError) as caught:
        TrainConfig(**{"group": "hat", name: value})
    assert caught.value.code == "usage.invalid_options"
    assert caught.value.what.startswith(
        "--size" if name.endswith("_px") else f"--{name.replace('_', '-')}".replace("loggers", "log")
    )
    assert caught.value.what.count("expected") == 1


def test_options_are_parsed_to_the_fields() -> None:
    from cls.cli.train import add_arguments, config_of

    parser = Parser()
    add_arguments(parser)
    words = (
        "--group hat --size 64x48 --batch 4 --lr 0.01 --no-near_duplicates --compile --join-by --incomplete cap beanie "
        "--auxiliary top_color --log tensorboard tensorboard --loss focal --background_people 3 --weights none"
    )
    config = config_of(parser.parse_args(words.split()))
    assert config == TrainConfig(
        "hat", height_px=64, width_px=48, batch=4, lr=0.01, near_duplicates=False, compile=True, join_by=(),
        incomplete=("cap", "beanie"), auxiliary=("top_color",), loggers=("tensorboard",), loss="focal",
        background_people=3, weights="none",
    )  # fmt: skip


def test_one_text_is_a_list_of_one() -> None:
    config = config_of_options(group="hat", log="tensorboard", join_by="shoot", auxiliary="top_color", incomplete="cap")
    lists = (config.loggers, config.join_by, config.auxiliary, config.incomplete)
    assert lists == (("tensorboard",), ("shoot",), ("top_color",), ("cap",))
    with pytest.raises(UsageError) as caught:
        config_of_options(group="hat", log="paper", join_by="")
    assert [fault.partition(":")[0] for fault in caught.value.faults] == ["--join-by", "--log"]
