"""docs/reference/commands.md: every verb with its options, from the parsers and the fields that declare options."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module

from cls.cli.command import Command, Parser, add_common_arguments
from cls.cli.main import VERBS
from cls.collector.config import ServerConfig
from cls.demo.config import DemoOptions
from cls.exporting.formats.files import ExportRequest, RebuildConfig
from cls.loading.config import LoadConfig
from cls.model_storage.config import ServiceOptions
from cls.options import Option, options_of
from cls.prediction.config import PredictConfig
from cls.sample.config import SampleConfig
from cls.segmentation.config import GalleryConfig, SegmentConfig
from cls.settings import REPOSITORY
from cls.training.config import TrainConfig
from cls.write_back.config import SendConfig
from cls.yolo.config import DatasetConfig, YoloTraining

_SETTINGS = (
    DatasetConfig, DemoOptions, ExportRequest, GalleryConfig, LoadConfig, PredictConfig, RebuildConfig, SampleConfig,
    SegmentConfig, SendConfig, ServerConfig, ServiceOptions, TrainConfig, YoloTraining,
)  # fmt: skip
_DEFAULT = re.compile(r"\s*\(default: (.*)\)$", re.DOTALL)
_SAID_BY_METAVAR = ("a name", "a path", "names")
_LONGEST_METAVAR = 24  # choices stand under the values, too
_WITHOUT_TITLE = ("options", "positional arguments")
_INTRODUCTION = """\
# Commands

Every verb of `cls` with its options, as `cls VERB --help` shows them. This page is generated from the code:
`python -m tests.reference` writes it.

- An option is written with hyphens or with underscores: `--model-path` or `--model_path`.
- `--cat` and `--group` stand for one another.
- `…` after a value: several can be given, separated by spaces.
- `--option`, `--no-option`: on and off.

How a command ends: [exit statuses](errors.md#exit-statuses).
"""


def page() -> str:
    """The page as Markdown."""
    commands = {" ".join(words): _command(place) for words, place in VERBS.items()}
    lines = [_INTRODUCTION, "| verb | what it does |", "|---|---|"]
    for verb, command in commands.items():
        lines.append(f"| [`cls {verb}`](#cls-{verb.replace(' ', '-')}) | {command.summary} |")
    common = Parser(add_help=False)
    add_common_arguments(common)
    lines += ["", "## Options of every verb", "", *_table(common._actions)]
    for verb, command in commands.items():
        lines += ["", f"## `cls {verb}`", "", f"{_capital(command.summary)}.", "", *_usage(verb, command)]
    return "\n".join(lines).rstrip() + "\n"


def options_of_verbs() -> dict[str, list[argparse.Action]]:
    """Verb -> its options, without those of every verb."""
    found = {}
    for words, place in VERBS.items():
        parser = Parser(add_help=False)
        _command(place).add_arguments(parser)
        found[" ".join(words)] = parser._actions
    return found


def _command(place: str) -> Command:
    module, _, name = place.partition(":")
    command: Command = getattr(import_module(module), name)
    return command


@cache
def _scripts() -> dict[str, str]:
    """Name of a command -> the script that runs it."""
    files = [
        file
        for folder in ("classification", "instance_segmentation")
        for file in sorted((REPOSITORY / "cls" / folder).glob("*.py"))
    ]
    modules = {file: import_module(".".join(file.relative_to(REPOSITORY).with_suffix("").parts)) for file in files}
    return {
        value.name: str(file.relative_to(REPOSITORY))
        for file, module in modules.items()
        for value in vars(module).values()
        if isinstance(value, Command)
    }


@cache
def _declared() -> tuple[Option, ...]:
    return tuple(option for settings in _SETTINGS for option in options_of(settings).values())


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _usage(verb: str, command: Command) -> Iterator[str]:
    """How a verb is typed, and a table of each section of its options."""
    parser = Parser(prog=f"cls {verb}", add_help=False)
    command.add_arguments(parser)
    required = [action for action in parser._actions if action.required and action.option_strings]
    positional = [action for action in parser._actions if not action.option_strings]
    typed = [f"{action.option_strings[0]} {_value(action)}" for action in required]
    typed += [_value(action) if action.required else f"[{_value(action)}]" for action in positional]
    rest = ["[options]"] if len(required) + len(positional) < len(parser._actions) else []
    yield from ("```text", " ".join(["cls", verb, *typed, *rest]), "```")
    if command.name in _scripts():
        yield from ("", f"As a script: `python {_scripts()[command.name]}`.")
    sections: dict[str, list[argparse.Action]] = {}
    for group in parser._action_groups:
        title = "" if group.title in _WITHOUT_TITLE else group.title or ""
        sections.setdefault(title, []).extend(group._group_actions)
    for title, actions in sections.items():
        if actions:
            yield from ("", *([f"**{_capital(title)}**", ""] if title else []), *_table(actions))


def _table(actions: Iterable[argparse.Action]) -> Iterator[str]:
    rows = [_row(action) for action in actions]
    columns = [index for index in range(4) if index in (0, 3) or any(row[index] for row in rows)]
    for row in (("option", "values", "default", "meaning"), ("---",) * 4, *rows):
        cells = [row[index] for index in columns]
        yield f"|{'|'.join(cells)}|" if row[0] == "---" else f"| {' | '.join(cells)} |"


def _row(action: argparse.Action) -> tuple[str, str, str, str]:
    """An option: how it is typed, what it takes, its default, what it means."""
    flags = action.option_strings or [_value(action)]
    value = f" {_value(action)}" if action.option_strings and action.nargs != 0 else ""
    is_switch = isinstance(action, argparse.BooleanOptionalAction)
    typed = ", ".join(f"`{flag}{'' if is_switch else value}`" for flag in flags)
    text = (action.help or "").replace("%%", "%")
    default = _DEFAULT.search(text)
    meaning = _DEFAULT.sub("", text)
    declared = next((one for one in _declared() if one.flag in flags and one.help == meaning), None)
    takes = declared.expected if declared is not None and not is_switch else ", ".join(map(str, action.choices or ()))
    takes = "" if takes in _SAID_BY_METAVAR else takes
    cells = (typed, takes, "required" if action.required and action.option_strings else "", meaning)
    if default is not None:
        cells = (typed, takes, default[1], meaning)
    return tuple(cell.replace("|", "\\|") for cell in cells)  # type: ignore[return-value]


def _value(action: argparse.Action) -> str:
    """What stands for an option's value."""
    choices = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else ""
    metavar = action.metavar if isinstance(action.metavar, str) else choices or action.dest.upper()
    if metavar.startswith("{") and len(metavar) > _LONGEST_METAVAR:
        metavar = (action.option_strings or [action.dest])[0].lstrip("-").upper()
    return f"{metavar} …" if action.nargs in ("+", "*") else f"[{metavar}]" if action.nargs == "?" else metavar
