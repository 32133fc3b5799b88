"""Runs a verb: options in, one function called, an expected error out as one line on stderr."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cls.errors import ClsError, InstallError, UsageError
from cls.options import Option, options_of
from cls.progress import set_up_logging

if TYPE_CHECKING:
    from cls.bottle.layout import Bottle

EXIT_ERROR = 1
EXIT_WRONG_OPTIONS = 2  # as argparse ends
EXIT_INCOMPLETE = 3  # done, but some could not be had for now
EXIT_INTERRUPTED = 130


@dataclass(frozen=True)
class Command:
    """One verb: what `cls NAME` and its script run.

    Attributes:
        run: does the work; returns the exit status, None for 0.
        extra: what to install for it, where the base is not enough.
    """

    name: str
    summary: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int | None]
    extra: str = "predict"


class Parser(argparse.ArgumentParser):
    """A parser that takes options with hyphens or underscores, and `--cat` and `--group` for one another.

    Where a verb takes several groups, both stand for its `--groups`.

    Help shows the spelling that an option was added with.
    """

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """As argparse's, for any spelling; arguments that the parser does not know are an error."""
        known = {name for action in self._actions for name in action.option_strings}
        words = sys.argv[1:] if args is None else list(args)
        end = words.index("--") if "--" in words else len(words)
        spelled = [_known_spelling(word, known) for word in words[:end]]
        options, unknown = super().parse_known_args([*spelled, *words[end:]], namespace)
        if unknown:
            # Here, with the usage of the verb; `parse_args` would show that of the program.
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return options, unknown


def _known_spelling(word: str, known: Container[str]) -> str:
    name, *value = word.split("=", 1)
    if not name.startswith("--") or name in known:
        return word
    body = name[2:]
    groups = ("group", "cat", "groups") if body in ("group", "cat") else ()
    spellings = (body.replace("_", "-"), body.replace("-", "_"), *groups)
    found = next((f"--{one}" for one in spellings if f"--{one}" in known), name)
    return "=".join([found, *value])


def add_options(
    parser: argparse.ArgumentParser,
    settings: type,
    *,
    without: Sequence[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> None:
    """Adds the fields of a settings class as options; one that is not given is missing in the parsed options.

    Args:
        parser: gets them, by section.
        settings: see `cls.options`.
        without: fields that get no option.
        defaults: by name of an option, what differs from the defaults of the class.
    """
    sections: dict[str, argparse._ActionsContainer] = {"": parser}
    for name, option in options_of(settings).items():
        if name not in without:
            if option.section not in sections:
                sections[option.section] = parser.add_argument_group(option.section)
            how = _arguments_of(option, (defaults or {}).get(option.dest))
            sections[option.section].add_argument(option.flag, *option.aliases, **how)


def _arguments_of(option: Option, default: Any) -> dict[str, Any]:
    """What argparse is told of an option; values are checked later, so that all problems are listed."""
    text = option.default_text if default is None else str(default)
    how = {
        "dest": option.dest,
        "default": argparse.SUPPRESS if default is None else default,
        "help": option.help + (f" (default: {text})" if text else ""),
    }
    if option.is_required:
        how["required"] = True
    if option.kind is bool:
        return {**how, "action": "store_true" if option.is_switch else argparse.BooleanOptionalAction}
    if option.kind is tuple:
        how["nargs"] = "*" if option.may_be_empty else "+"
    elif option.kind is Path:
        how["type"] = Path
    elif option.kind is not str:
        how["type"] = partial(_number, option.kind)
    return {**how, "metavar": option.metavar}


def _number(kind: type, text: str) -> int | float | str:
    """The number as typed; another text as it is, for the settings class to refuse."""
    try:
        number: int | float = kind(text)
    except ValueError:
        return text
    return number


def given(options: argparse.Namespace, settings: type) -> dict[str, Any]:
    """Of the options of a settings class, those that were given, by name."""
    names = {option.dest for option in options_of(settings).values()}
    return {name: value for name, value in vars(options).items() if name in names}


def add_common_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options every verb has: --cfg, --debug, --quiet."""
    common = parser.add_argument_group("common options")
    common.add_argument("--cfg", type=Path, metavar="FILE", help="configuration file (default: the project's)")
    common.add_argument("--debug", action="store_true", help="show tracebacks, debug messages and codes of errors")
    common.add_argument("--quiet", action="store_true", help="no progress, warnings and errors only")


def add_trust_argument(parser: argparse._ActionsContainer) -> None:
    """Adds `--trust`, for `cls.package.keys.trusted_keys`."""
    parser.add_argument(
        "--trust",
        type=Path,
        action="append",
        metavar="KEYS",
        help="refuse a package that none of these public keys signed: a file with a key a line, or a folder of *.pub;"
        " may be given several times (default: package_trust of the configuration)",
    )


def bottle_of(options: argparse.Namespace) -> Bottle:
    """The data folder of the configuration."""
    from cls.bottle.layout import Bottle
    from cls.settings import load_settings

    return Bottle(load_settings(options.cfg))


def print_skipped(skipped: Mapping[str, str]) -> None:
    """Prints what was skipped, and why: the first ten.

    Args:
        skipped: name -> reason.
    """
    if skipped:
        print(f"{len(skipped)} skipped:")
        for name, reason in list(skipped.items())[:10]:
            print(f"  {name}: {reason}")
        if len(skipped) > 10:
            print(f"  … and {len(skipped) - 10} more")


def execute(command: Command, arguments: Sequence[str] | None = None, *, program: str | None = None) -> int:
    """Parses the arguments and runs the command.

    Args:
        command: the verb.
        arguments: the words after the program's name; the process's own by default.
        program: name shown in the usage line.

    Returns:
        The exit status: 0, 1 for an expected error, 2 for wrong options, 3 for done but incomplete, 130 for Ctrl-C.
    """
    parser = Parser(prog=program, description=command.summary)
    command.add_arguments(parser)
    add_common_arguments(parser)
    return run_parsed(command, parser.parse_args(arguments))


def run_parsed(command: Command, options: argparse.Namespace) -> int:
    """Runs a command whose options are parsed already; see `execute`."""
    set_up_logging(debug=options.debug, quiet=options.quiet)
    try:
        status = _run(command, options)
        sys.stdout.flush()
    except ClsError as error:
        if options.debug:
            logging.getLogger("cls").exception("%s failed", command.name)
        if getattr(options, "json", None) is True:
            print(json.dumps({"error": error.to_dict()}, ensure_ascii=False), file=sys.stderr)
        else:
            print(f"error: {error.line()}" + (f" [{', '.join(error.codes)}]" if options.debug else ""), file=sys.stderr)
        return EXIT_WRONG_OPTIONS if isinstance(error, UsageError) else EXIT_ERROR
    except KeyboardInterrupt:
        print("interrupted: what is finished is kept; the same command goes on from there", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output (`| head`) has gone: not an error, and nothing more can be printed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return status or 0


def _run(command: Command, options: argparse.Namespace) -> int | None:
    """Runs the command; a package that is not installed is an expected error where an extra brings it."""
    try:
        return command.run(options)
    except ModuleNotFoundError as error:
        missing = InstallError.of(error, command.extra)
        if missing is None:
            raise
        raise missing from error


def main(command: Command) -> None:
    """Entry point of a script: runs the command and ends the process with its exit status."""
    sys.exit(execute(command))
