"""Options of a command: each is declared once, at its field of a settings class."""

from __future__ import annotations

import math
import operator
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, field, fields
from functools import cache
from numbers import Integral, Real
from pathlib import Path
from types import NoneType
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from cls.errors import Fault, UsageError, UsageFault

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Option:
    """A field of a settings class as an option of the command line.

    Attributes:
        help: what it does, for `--help` and the reference.
        section: the heading it stands under; empty: none of its own.
        flag: its name on the command line.
        dest: its name in parsed options.
        aliases: other names on the command line.
        metavar: stands for its value in `--help`.
        values: what it takes, in words, where neither a range nor choices say it.
        unset: its default in words, where the value itself does not say it.
        choices: the values it takes.
        pattern: regular expression that a whole text matches; `values` has it in words.
        ge, gt, le, lt: bounds of a number: from, above, to, below.
        may_be_empty: whether a list may be given without values.
        is_file: whether its value names a file or folder.
        is_required: whether the command line must have it.
        is_switch: of a bool: whether it has no `--no-` form, as its default is no.
        kind: type of its value as typed, without None.
        is_optional: whether None is a value.
        default: the field's default.
    """

    help: str
    section: str
    flag: str
    dest: str
    aliases: tuple[str, ...] = ()
    metavar: str = ""
    values: str = ""
    unset: str = ""
    choices: tuple[str, ...] = ()
    pattern: str = ""
    ge: float | None = None
    gt: float | None = None
    le: float | None = None
    lt: float | None = None
    may_be_empty: bool = False
    is_file: bool = False
    is_required: bool = False
    is_switch: bool = False
    kind: type = str
    is_optional: bool = False
    default: Any = None

    @property
    def expected(self) -> str:
        """The values it takes, in words."""
        if self.choices:
            return f"one of {', '.join(self.choices)}"
        kinds = {int: "a whole number", float: "a number", bool: "true or false", tuple: "names", Path: "a path"}
        at_most = " to" if self.ge is not None else ", at most"
        bounds = ((" from", self.ge), (" above", self.gt), (at_most, self.le), (", below", self.lt))
        limits = [f"{word} {bound:g}" for word, bound in bounds if bound is not None]
        return self.values or kinds.get(self.kind, "a name") + "".join(limits)

    @property
    def default_text(self) -> str:
        """Its default, as typed or in words; empty where there is none."""
        if self.unset or self.default is None:
            return self.unset
        if isinstance(self.default, bool):
            return "yes" if self.default else "no"
        return " ".join(map(str, self.default)) if isinstance(self.default, tuple) else f"{self.default}"

    def has_type_of(self, value: Any) -> bool:
        """Whether the value has the field's type, whatever the choices and bounds are."""
        if value is None:
            return self.is_optional
        if value == "":
            return bool(self.default == "")
        is_of_kind = isinstance(value, (int, float) if self.kind is float else self.kind)
        is_finite = not isinstance(value, float) or math.isfinite(value)
        return is_of_kind and is_finite and isinstance(value, bool) == (self.kind is bool)

    def takes(self, value: Any) -> bool:
        """Whether new settings can have the value."""
        if value is None or not self.has_type_of(value):
            return self.has_type_of(value)
        if self.choices:
            return set([value] if isinstance(value, str) else value) <= set(self.choices)
        if self.pattern:
            return value == "" or re.fullmatch(self.pattern, value) is not None
        bounds = ((operator.ge, self.ge), (operator.gt, self.gt), (operator.le, self.le), (operator.lt, self.lt))
        return all(holds(value, bound) for holds, bound in bounds if bound is not None)

    def fault(self, value: Any) -> UsageFault:
        """What is wrong with a value that it does not take."""
        wrong = [one for one in value if one not in self.choices] if isinstance(value, tuple) else [value]
        what = f"{self.flag}: expected {self.expected}, found {', '.join(map(repr, wrong))}"
        return UsageFault(what, code="invalid_option_value")


def option(default: T, section: str, help: str, **how: Any) -> T:  # noqa: A002 - argparse's own word
    """A field of a settings class; `how` has the other attributes of its `Option`."""
    made: T = field(default=default, metadata={"section": section, "help": help, **how})
    return made


@cache
def options_of(settings: type) -> dict[str, Option]:
    """Field of a settings class -> its option, in the order of the fields; fields without metadata have none."""
    hints = get_type_hints(settings)
    found = {}
    for one in fields(settings):
        if not one.metadata:
            continue
        parts = get_args(hints[one.name])
        kind = parts[0] if NoneType in parts else hints[one.name]
        kind = str if get_origin(kind) is Literal else get_origin(kind) or kind
        choices = f"{{{','.join(one.metadata.get('choices', ()))}}}"
        how: dict[str, Any] = {
            "kind": kind,
            "flag": f"--{one.name.replace('_', '-')}",
            "dest": one.name,
            "metavar": {int: "N", float: "X"}.get(kind, choices),
            **one.metadata,
        }
        default = None if one.default is MISSING else one.default
        found[one.name] = Option(**how, is_optional=NoneType in parts, default=default)
    return found


def by_field(settings: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by field of a settings class, of values by field or by name of the option (`log` for `--log`)."""
    found = dict(values)
    for name, known in options_of(settings).items():
        spoken = known.flag[2:].replace("-", "_")
        if spoken in found and name not in found:
            found[name] = found.pop(spoken)
    return found


def settings_of(settings: type[T], config: T | None, options: Mapping[str, Any]) -> T:
    """The settings given at once, or those of options by field or name.

    Raises:
        UsageError: options hold values they cannot take; lists them all. Or `config` is something else.
        TypeError: there is no such option, or options are given beside the settings.
    """
    if config is None:
        return settings(**by_field(settings, options))
    if not isinstance(config, settings):
        raise UsageError(f"expected a {settings.__name__}, found {config!r}", code="invalid_argument")
    if options:
        raise TypeError(f"{', '.join(options)}: give options in the {settings.__name__}")
    return config


def plain(value: Any) -> Any:
    """A value as files keep it: paths as text, numbers of numpy as Python's, lists as tuples without repeats."""
    if isinstance(value, (list, tuple, set, frozenset)):
        return tuple(dict.fromkeys(map(str, value)))
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if type(value) in (bool, int, float) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


def make_plain(settings: Any) -> None:
    """Makes the values of new settings plain, in a dataclass that may be frozen; one text is a list of one.

    Paths in fields of paths, and in those that are no options, stay paths.
    """
    kind: type = type(settings)
    options = options_of(kind)
    for one in fields(settings):
        given = getattr(settings, one.name)
        if (one.name not in options or options[one.name].kind is Path) and isinstance(given, os.PathLike):
            continue
        value = plain(given)
        is_list = one.name in options and options[one.name].kind is tuple
        is_one_of_list = is_list and isinstance(value, str) and value != ""
        object.__setattr__(settings, one.name, (value,) if is_one_of_list else value)


def check_options(settings: Any, command: str, conflicts: Sequence[Fault] = ()) -> None:
    """Makes the values of new settings plain and checks them.

    Args:
        settings: of a class with options; may be frozen.
        command: named in the hint.
        conflicts: what several of them say together.

    Raises:
        UsageError: options hold values they cannot take; lists them all.
    """
    make_plain(settings)
    kind: type = type(settings)
    found = [(known, getattr(settings, name)) for name, known in options_of(kind).items()]
    refuse([*(known.fault(value) for known, value in found if not known.takes(value)), *conflicts], command)


def refuse(faults: Sequence[Fault], command: str) -> None:
    """Raises one error of all the faults of a command's options; without any, it does nothing.

    Raises:
        UsageError: there are some.
    """
    if faults:
        hint = f"see `{command} --help`"
        raise UsageError("; ".join(faults), code="invalid_options", hint=hint, faults=faults)


@contextmanager
def noted(errors: list[UsageError]) -> Iterator[None]:
    """Adds an error of options that the block ends with to the others, for `refuse_all`, instead of raising it."""
    try:
        yield
    except UsageError as error:
        errors.append(error)


def refuse_all(errors: Sequence[UsageError], command: str) -> None:
    """Raises the only error as it is, or one of what all of them list; without any, it does nothing.

    Raises:
        UsageError: there are some.
    """
    if len(errors) == 1:
        raise errors[0]
    refuse([fault for error in errors for fault in error.faults or (UsageFault.of(error),)], command)
