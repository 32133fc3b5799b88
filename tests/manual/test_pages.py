"""Every page of the documentation: the commands it shows can be typed, and its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import pytest

from cls.cli.command import Command, Parser, add_common_arguments
from cls.cli.main import VERBS, build_parser
from cls.files import parse_yaml
from cls.settings import PARITY_LIMITS, REPOSITORY
from tests.manual.commands import blocks_of

DOCS = REPOSITORY / "docs"
PAGES = sorted([REPOSITORY / "README.md", *DOCS.glob("*.md"), *DOCS.glob("ru/*.md"), *DOCS.glob("reference/*.md")])
_LINK = re.compile(r"\]\(([^()\s]+)\)")


def name_of(page: Path) -> str:
    return str(page.relative_to(REPOSITORY))


def commands_of(page: Path) -> Iterator[list[str]]:
    """The words of each command of CLS in the page's `sh` blocks, from `cls` or the script's path on."""
    for block in blocks_of(page):
        for line in block.text.replace("\\\n", " ").splitlines():
            try:
                words = shlex.split(line, comments=True)
            except ValueError:  # a part of a multi-line text
                continue
            while words and (re.fullmatch(r"[A-Z_]+=.*", words[0]) or words[0] in ("python", "nohup")):
                words = words[1:]
            if words and (words[0] == "cls" or words[0].startswith("cls/")):
                ends = [index for index, word in enumerate(words) if word in ("&", "|", "&&", ">", ";")]
                yield words[: min(ends, default=len(words))]


def parser_of_script(script: str) -> Parser:
    """The parser of a script, as its command makes it."""
    command: Command = import_module(script.removesuffix(".py").replace("/", ".")).COMMAND
    parser = Parser(prog=script, description=command.summary)
    command.add_arguments(parser)
    add_common_arguments(parser)
    return parser


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_its_commands_can_be_typed(page: Path) -> None:
    for program, *words in commands_of(page):
        parser = build_parser(VERBS) if program == "cls" else parser_of_script(program)
        status: object = 0
        try:
            parser.parse_args(words)
        except SystemExit as ended:  # 0 after --help and --version
            status = ended.code
        assert status == 0, f"{name_of(page)}: {shlex.join([program, *words])}"


def test_commands_are_found() -> None:
    found = [words for page in PAGES for words in commands_of(page)]
    assert len(found) > 30
    assert {words[0] for words in found} > {"cls", "cls/classification/export.py"}


def anchors_of(page: Path) -> set[str]:
    """The anchors of a page's headings."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).replace("`", "").strip().lower() for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).replace(" ", "-") for title in plain}


@pytest.mark.parametrize("page", [*PAGES, *sorted(DOCS.glob("decisions/*.md"))], ids=name_of)
def test_its_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in _LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = (page.parent / file).resolve() if file else page
        assert target.exists(), f"{name_of(page)}: {link}"
        assert not anchor or target.suffix != ".md" or anchor in anchors_of(target), f"{name_of(page)}: {link}"


def test_the_parity_limits_are_the_defaults() -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (DOCS / "parity.md").read_text(encoding="utf-8"), re.DOTALL)
    expected = {precision: asdict(limits) for precision, limits in PARITY_LIMITS.items()}
    assert parse_yaml(block, "parity.md") == {"parity_limits": expected}
