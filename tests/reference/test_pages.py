"""The pages of docs/reference are those of the code, and say something of everything."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

import cls
from cls.cli.main import VERBS
from cls.settings import ParityLimits, Settings
from tests.reference.commands import options_of_verbs
from tests.reference.configuration import meanings_of
from tests.reference.error_codes import read_error_codes
from tests.reference.pages import FOLDER, PAGES


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_a_page_is_that_of_the_code(path: Path) -> None:
    assert path.read_text(encoding="utf-8") == PAGES[path](), "python -m tests.reference"


def text_of(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


def test_every_verb_and_option_has_a_meaning() -> None:
    text = text_of("commands.md")
    for words in VERBS:
        assert f"## `cls {' '.join(words)}`\n" in text
    for verb, actions in options_of_verbs().items():
        section = text.partition(f"## `cls {verb}`\n")[2].partition("\n## ")[0]
        for action in actions:
            for flag in action.option_strings:
                assert re.search(rf"`{re.escape(flag)}[` ]", section), (verb, flag)
            assert action.help, (verb, action.dest)


def test_options_are_found_by_their_usual_names() -> None:
    text = text_of("commands.md").partition("## `cls train`\n")[2].partition("\n## ")[0]
    for name in ("seed", "epochs", "batch size", "weight decay", "warm-up", "gradient clipping", "label smoothing",
                 "freeze", "EMA", "fine-tune", "dropout", "learning rate", "gradient accumulation"):  # fmt: skip
        assert name in text, name


def test_every_key_and_limit_of_the_configuration_has_a_meaning() -> None:
    for kind in (Settings, ParityLimits):
        assert [one.name for one in fields(kind)] == list(meanings_of(kind))


def test_every_public_name_is_on_the_page_of_the_python_interface() -> None:
    text = text_of("python.md")
    assert [
        name
        for name in cls.__all__
        if not re.search(rf":: cls\.{name}(\(\))?\n", text) and name not in ("errors", "ClsError")
    ] == []


def test_every_call_of_the_model_storage_is_on_its_page() -> None:
    text = text_of("http.md")
    for call in ("POST /upload_new_version/", "GET /latest_semantic_version/{model}", "GET /index/",
                 "POST /v2/models/{model}/infer"):  # fmt: skip
        assert f"`{call}`" in text
    assert "| 409 | `storage.version_taken` |" in text


def test_every_code_that_the_pages_name_exists() -> None:
    _, codes = read_error_codes()
    areas = {code.partition(".")[0] for code in codes}
    text = (FOLDER.parent / "troubleshooting.md").read_text(encoding="utf-8")
    named = {match for match in re.findall(r"`([a-z_]+\.[a-z_]+)`", text) if match.partition(".")[0] in areas}
    assert len(named) > 25
    assert named <= codes.keys()
