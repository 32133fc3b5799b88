"""Every verb explains itself, from its script and from `cls`, without importing anything heavy."""

from __future__ import annotations

import subprocess
import sys
from argparse import ArgumentParser
from importlib import import_module

import pytest

from cls.cli.command import Command
from cls.cli.main import VERBS
from cls.settings import REPOSITORY

HEAVY = {
    "torch",
    "cv2",
    "numpy",
    "sqlalchemy",
    "httpx",
    "fastapi",
    "onnx",
    "onnxruntime",
    "ultralytics",
    "PIL",
    "pydantic",
}
SCRIPTS = sorted(
    str(file.relative_to(REPOSITORY))
    for room in ("classification", "instance_segmentation")
    for file in (REPOSITORY / "cls" / room).glob("*.py")
    if file.name != "__init__.py"
)
SPECIFIED = [
    "cls/classification/load_group.py",
    "cls/classification/segment_builder.py",
    "cls/classification/train.py",
    "cls/classification/export.py",
    "cls/classification/load_json.py",
    "cls/classification/push_badlist.py",
    "cls/classification/mask_builder.py",
    "cls/classification/inference.py",
    "cls/classification/segment_meta_builder.py",
    "cls/classification/post_ret_meta.py",
    "cls/instance_segmentation/parse_archives.py",
    "cls/instance_segmentation/create_yolo_dataset.py",
    "cls/instance_segmentation/train_yolo_seg.py",
    "cls/instance_segmentation/export_to_trt.py",
]


def help_of(*words: str) -> tuple[str, set[str]]:
    """The help text of a program, and the top-level modules it imported for it."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *words, "--help"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    imported = {line.rsplit("|", 1)[-1].strip().split(".")[0] for line in done.stderr.splitlines() if "|" in line}
    return done.stdout, imported


def test_every_script_of_the_guide_is_there() -> None:
    assert set(SPECIFIED) <= set(SCRIPTS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_script_explains_itself_without_heavy_imports(script: str) -> None:
    text, imported = help_of(script)
    assert "usage:" in text
    assert "--cfg" in text
    assert not imported & HEAVY


def test_cls_lists_its_verbs_without_heavy_imports() -> None:
    text, imported = help_of("-m", "cls")
    assert all(words[0] in text for words in VERBS)
    assert not imported & HEAVY


@pytest.mark.parametrize("words", sorted(VERBS), ids=" ".join)
def test_verb_explains_itself(words: tuple[str, ...]) -> None:
    text, _ = help_of("-m", "cls", *words)
    assert f"usage: cls {' '.join(words)}" in text


def test_every_script_is_a_verb_too() -> None:
    verbs = [
        getattr(import_module(module), name) for module, _, name in (place.partition(":") for place in VERBS.values())
    ]
    for script in SCRIPTS:
        module = import_module(script.removesuffix(".py").replace("/", "."))
        (command,) = (value for value in vars(module).values() if isinstance(value, Command))
        assert command in verbs


def test_no_option_is_listed_twice() -> None:
    for module, _, name in (place.partition(":") for place in VERBS.values()):
        parser = ArgumentParser()
        getattr(import_module(module), name).add_arguments(parser)
        for action in parser._actions:
            assert len(set(action.option_strings)) == len(action.option_strings), (module, action.option_strings)
