"""args.yaml: written, read back, and read as earlier versions wrote it."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from pydantic import JsonValue

from cls.errors import BottleError, UsageError
from cls.exporting.package_writer import meta_of_run
from cls.people.preprocess import Preprocessing
from cls.training.config import TrainConfig, config_of_options
from cls.training.runs.args import ARGS, read_args, read_settings, write_args
from cls.training.runs.listing import DAMAGED, list_runs
from cls.training.runs.run import find_runs, open_run
from tests.bottles import make_empty_bottle, run_args

EARLIER = sorted((Path(__file__).parent / "earlier_args").glob("*.yaml"))


@pytest.mark.parametrize("file", EARLIER, ids=lambda file: file.stem)
def test_earlier_forms_are_read_and_nothing_is_added_to_what_they_say(file: Path, tmp_path: Path) -> None:
    text = file.read_text(encoding="utf-8")
    (tmp_path / ARGS).write_text(text, encoding="utf-8")
    args, said = read_args(tmp_path), yaml.safe_load(text)
    assert args.config == TrainConfig("hair_color", epochs=3, batch=4, arch="lite0", lr=0.002, subject="female")
    assert args.settings == said["settings"]
    assert args.preprocessing == Preprocessing(version=said["preprocessing"].get("version", 1))
    assert (args.timm_arch, args.labels) == ("tf_efficientnet_lite0", ("black hair", "blonde hair"))
    assert (args.weights.kind, args.weights.sha256) == ("package", said["weights"]["sha256"])
    assert args.memory_format == "channels_last"
    assert args.as_read == said


@pytest.mark.parametrize("file", EARLIER, ids=lambda file: file.stem)
def test_a_package_says_what_args_yaml_says_and_nothing_more(file: Path, tmp_path: Path) -> None:
    """An export keeps the packages of earlier exports of the run only where both say the same of it."""
    bottle = make_empty_bottle(tmp_path)
    folder = bottle.models("hair_color") / "v__0_train_lite0_4_0.001"
    folder.mkdir(parents=True)
    shutil.copy(Path(__file__).parent / "earlier_metrics" / "1_first.json", folder / "metrics.json")
    text = file.read_text(encoding="utf-8")
    (folder / ARGS).write_text(f"{text}noted: 2026-11-22 10:00:00\nshare: .nan\n", encoding="utf-8")
    meta = meta_of_run(open_run(bottle, folder), bottle.segments)
    assert meta.training.arguments == {**yaml.safe_load(text), "noted": "2026-11-22 10:00:00", "share": None}


def test_what_is_written_is_read_back_with_keys_of_later_versions(tmp_path: Path) -> None:
    args = run_args("Цвет: верх", "resnet18", Preprocessing(64, 48), {"epochs": 2, "later": [1, None]})
    write_args(tmp_path, args)
    (tmp_path / ARGS).write_text((tmp_path / ARGS).read_text(encoding="utf-8") + "added: 5\n", encoding="utf-8")
    again = read_args(tmp_path)
    assert again.to_json_values() == {**args.to_json_values(), "added": 5}
    assert again.config == TrainConfig("Цвет: верх", epochs=2)


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("[1, 2]", ""),
        ("settings: 3", "settings"),
        ("settings: {}", "timm_arch"),
        ("a: [", "expected the node content"),
        ("x: 2026-13-45", "month"),
        ("x: !!int two", "two"),
        ("x: !!bool maybe", "tag"),
        ("x: !!timestamp now", "tag"),
        ("[" * 1_000, "nested"),
        ("#" * 2**20 + "\n", "1048576"),
    ],
)
def test_what_is_no_args_file_is_one_error(tmp_path: Path, content: str, named: str) -> None:
    (tmp_path / ARGS).write_text(content, encoding="utf-8")
    with pytest.raises(BottleError) as caught:
        read_args(tmp_path)
    assert caught.value.code == "bottle.run_unreadable"
    assert named in caught.value.what
    assert caught.value.where in (str(tmp_path / ARGS), f"{tmp_path / ARGS}:1:5")


@pytest.mark.parametrize("content", ["x: 2026-13-45", "[" * 1_000])
def test_a_run_with_such_a_file_is_listed_as_damaged_and_passed_over(tmp_path: Path, content: str) -> None:
    bottle = make_empty_bottle(tmp_path)
    folder = bottle.models("hat") / "v__0_train_lite0_4_0.001"
    folder.mkdir(parents=True)
    shutil.copy(Path(__file__).parent / "earlier_metrics" / "1_first.json", folder / "metrics.json")
    (folder / ARGS).write_text(content, encoding="utf-8")
    assert [entry.state for entry in list_runs(bottle, "hat")] == [DAMAGED]
    assert find_runs(bottle, "hat") == []


@pytest.mark.parametrize(
    "wrong", [{"people": 3}, {"epochs": 1.5, "dropout": "much"}, {"lr": float("nan")}, {"compile": 1, "arch": ""}]
)
def test_settings_of_another_type_are_named(tmp_path: Path, wrong: dict[str, str | float]) -> None:
    args = run_args("hat", "resnet18", Preprocessing(64, 48), {}).to_json_values()
    args["settings"].update(wrong)
    (tmp_path / ARGS).write_text(yaml.safe_dump(args), encoding="utf-8")
    with pytest.raises(BottleError) as caught:
        read_args(tmp_path)
    assert caught.value.code == "bottle.run_unreadable"
    assert all(f"--{key}" in caught.value.what for key in wrong)


def test_settings_out_of_todays_choices_and_ranges_are_read(tmp_path: Path) -> None:
    """A finished run stays readable where a later version takes fewer values; only a new training refuses them."""
    settings = {"people": "tallest", "dropout": 0.95, "height_px": 16, "loggers": ["paper"], "leak_tax": True}
    write_args(tmp_path, run_args("hat", "resnet18", Preprocessing(64, 48), {**settings, "mode": "all"}))
    args = read_args(tmp_path)
    config = args.config
    assert (config.people, config.dropout, config.size_px, config.loggers) == ("tallest", 0.95, (16, 192), ("paper",))
    with pytest.raises(UsageError) as caught:
        config_of_options(**read_settings(tmp_path).settings_with({}))
    assert caught.value.code == "usage.invalid_options"
    assert all(flag in caught.value.what for flag in ("--people", "--dropout", "--size", "--log", "--leak-tax"))
    with pytest.raises(UsageError):
        replace(config)


@pytest.mark.parametrize("wrong", [{"height_px": "64"}, {"width_px": 64.5}, {"auto_px": True}])
def test_a_size_that_is_no_number_is_refused(tmp_path: Path, wrong: dict[str, JsonValue]) -> None:
    args = run_args("hat", "resnet18", Preprocessing(64, 48), {}).to_json_values()
    args["settings"].update(wrong)
    (tmp_path / ARGS).write_text(yaml.safe_dump(args), encoding="utf-8")
    with pytest.raises(BottleError) as caught:
        read_args(tmp_path)
    assert "--size" in caught.value.what
