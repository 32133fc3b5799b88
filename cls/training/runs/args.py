"""args.yaml of a run folder: the settings of the training, what they led to, and the version of the code."""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import MISSING, fields
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import BeforeValidator, Field, JsonValue, PlainSerializer, PrivateAttr, ValidationError

from cls import __version__
from cls.errors import BottleError, FileError, UsageError, UsageFault
from cls.files import read_yaml, write_text_atomic
from cls.people.preprocess import Preprocessing
from cls.records import Record, faults_of
from cls.settings import REPOSITORY
from cls.training.config import TrainConfig, training_options

_log = logging.getLogger("cls.training")

_GIT_TIMEOUT_S = 3.0
# git's own file watcher is a program that a repository names: none is started for a version.
_DESCRIBE = ("-c", "core.fsmonitor=false", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")

ARGS = "args.yaml"
_SIZE_FIELDS = ("height_px", "width_px", "auto_px")


@cache
def code_version() -> str:
    """The version of this code, e.g. `0.1.0`, in a git checkout `0.1.0+g1a2b3c4d5e6f`.

    Uncommitted changes add `.dirty`; untracked files do not count. It is read once per process: the code may change
    during a long training.
    """
    return version_of_checkout(REPOSITORY)


def version_of_checkout(folder: Path) -> str:
    """The version with the commit of a checkout, if `folder` is the root of one and git answers in time."""
    git = shutil.which("git")
    if git is None or not (folder / ".git").exists():
        return __version__
    # In a git hook these name another repository.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(  # noqa: S603 - git's own program, with words of ours alone
            [git, "--no-optional-locks", "-C", str(folder), *_DESCRIBE],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_GIT_TIMEOUT_S,
            check=True,
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return __version__
    found = re.fullmatch(r"([0-9a-f]{7,64})(-dirty)?", done.stdout.strip())
    return f"{__version__}+g{found[1]}{'.dirty' if found[2] else ''}" if found else __version__


_Kind = TypeVar("_Kind", bound=Record)


def _preprocessing(value: Any) -> Any:
    return Preprocessing.from_dict(value) if isinstance(value, dict) else value


class InitialWeights(Record):
    """The weights that a training started from.

    Attributes:
        kind: `run`, `file`, `package`, `cache`, `hub` or `none`.
        origin: a description.
        sha256: digest of the file; None for random weights.
    """

    kind: str
    origin: str
    sha256: str | None = None


class RunArgs(Record):
    """The content of args.yaml; keys that this version does not know are kept.

    Attributes:
        settings: the options by field of `TrainConfig`, as written by the version that trained.
        timm_arch: name of the backbone in timm.
        memory_format: that the smoke test chose; versions that did not write it trained in channels_last.
        weights: initial weights of the training.
        preprocessing: how the network's input is made, as in `meta.json`.
        labels: names in output order.
        dataset_sha256: digest of the labelled pictures it was trained on (`GroupDataset.sha256`).
        code_version: of the code that trained; with the commit where that ran from a checkout.
        started: when the training was first started, ISO 8601, in UTC.
    """

    settings: dict[str, JsonValue]
    timm_arch: str
    memory_format: str = Field("channels_last", pattern="^(channels_last|contiguous)$")
    weights: InitialWeights
    preprocessing: Annotated[Preprocessing, BeforeValidator(_preprocessing), PlainSerializer(Preprocessing.to_dict)]
    labels: tuple[str, ...]
    dataset_sha256: str
    code_version: str
    started: str
    _config: TrainConfig = PrivateAttr()
    _read: dict[str, Any] | None = PrivateAttr(None)

    def model_post_init(self, context: Any) -> None:
        """Validates the settings; `context` is the content of the file, if one is read."""
        self._config = TrainConfig.from_dict(self.settings)
        self._read = context

    @property
    def config(self) -> TrainConfig:
        """The settings, with this version's defaults for options that the run's version did not have."""
        return self._config

    @property
    def as_read(self) -> dict[str, Any]:
        """The values of args.yaml as read from the file, or as they would be written."""
        return self.to_json_values() if self._read is None else self._read


def _with_numbers(settings: Any) -> Any:
    """The settings with floats where YAML 1.1 reads a string: `1e-4` is one, `1.0e-4` is a float."""
    if not isinstance(settings, dict):
        return settings
    options = training_options()
    found = dict(settings)
    for key, value in settings.items():
        option = options.get(str(key).replace("-", "_"))
        if isinstance(value, str) and option is not None and option.kind is float:
            with suppress(ValueError):
                found[key] = float(value)
    return found


def _by_field_or_size(settings: Mapping[str, Any]) -> tuple[dict[str, Any], list[UsageFault]]:
    """Settings by field of `TrainConfig` or `size`, for names in any spelling, and the names at fault."""
    spelled = {one.name: one.name for one in fields(TrainConfig)}
    for name, known in training_options().items():
        spelled[known.flag[2:].replace("-", "_")] = "size" if known.dest == "size" else name
    found: dict[str, Any] = {}
    faults = []
    for key, value in settings.items():
        name = spelled.get(key.replace("-", "_"), "")
        if not name:
            faults.append(UsageFault(f"{key}: there is no such option", code="unknown_option"))
        elif name in found:
            faults.append(UsageFault(f"{key}: the option is given twice", code="option_given_twice"))
        found[name] = value
    found.pop("", None)
    if "size" in found and any(name in found for name in _SIZE_FIELDS):
        faults.append(UsageFault(f"size: is given beside {', '.join(_SIZE_FIELDS)}", code="option_given_twice"))
    return found, faults


class SavedSettings(Record):
    """The part of an args.yaml that is needed to train again; a file written by hand may hold `settings` alone.

    Attributes:
        settings: as in `RunArgs`; in a file written by hand also options by their names.
        weights: the initial weights of the earlier training.
        code_version: None for a file written by hand.
    """

    settings: Annotated[dict[str, JsonValue], BeforeValidator(_with_numbers)]
    weights: InitialWeights | None = None
    code_version: str | None = None

    def unknown_names(self) -> list[UsageFault]:
        """The unknown names in a file written by hand; those of a run may be of another version."""
        return [] if self.code_version is not None else _by_field_or_size(self.settings)[1]

    def settings_with(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The fields of `TrainConfig` to train again, with values by field or `size`; logs what is not repeated."""
        if self.code_version is None:
            settings, _ = _by_field_or_size(self.settings)
        else:
            known = {one.name: None if one.default is MISSING else one.default for one in fields(TrainConfig)}
            settings = {key: value for key, value in self.settings.items() if key in known}
            left_out = {key: value for key, value in self.settings.items() if key not in known}
            missing = {key: value for key, value in known.items() if key not in {*settings, *given}}
            if left_out:
                _log.warning("settings that this version does not have are left out: %s", _listed(left_out))
            if missing:
                _log.warning("settings that the earlier version did not have get their defaults: %s", _listed(missing))
        run, group = settings.get("pretrained"), settings.get("group")
        if isinstance(run, str) and "/" not in run and group and given.get("group", group) != group:
            # Without a group, the run would be looked for in the new group.
            settings["pretrained"] = f"{group}/{run}"
        if "weights" in given:
            settings["pretrained"] = None
        elif "pretrained" in given:
            settings["weights"] = TrainConfig.weights
        return {"group": "", **settings, **given}


def _listed(settings: Mapping[str, JsonValue]) -> str:
    return ", ".join(f"{key} {json.dumps(value, ensure_ascii=False)}" for key, value in settings.items())


def write_args(folder: Path, args: RunArgs) -> None:
    """Writes args.yaml into a run folder."""
    write_text_atomic(folder / ARGS, yaml.safe_dump(args.to_json_values(), sort_keys=False, allow_unicode=True))


def read_args(path: Path, *, hint: str = "train again, or remove the folder") -> RunArgs:
    """Reads an args.yaml, or the one of a run folder, of this version or an earlier one.

    Raises:
        BottleError: it is missing or cannot be read; `hint` says what to do.
        PackageError: its preprocessing is one of a later version.
    """
    return _read(path, RunArgs, hint)


def read_settings(path: Path) -> SavedSettings:
    """Reads the settings of an args.yaml, or of a run folder's.

    Raises:
        BottleError: it is missing or cannot be read.
    """
    hint = "correct the file: `settings:` holds options of `cls train` by their names, such as `size: 256x192`"
    return _read(path, SavedSettings, hint)


def _read(path: Path, kind: type[_Kind], hint: str) -> _Kind:
    file = path / ARGS if path.is_dir() else path
    place: object = file
    try:
        content = read_yaml(file)
        return kind.model_validate(content, context=content)
    except FileError as error:
        what, place = error.what, error.where
    except ValidationError as error:
        what = f"is not the args.yaml of a run: {faults_of(error)}"
    except UsageError as error:
        what = f"holds unknown settings: {error.what}"
    raise BottleError(what, code="run_unreadable", where=place, hint=hint)
