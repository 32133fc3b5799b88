"""configuration.yaml, CLS_* environment variables and secrets.yaml -> one frozen `Settings`."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cls.errors import FileError, SettingsError
from cls.files import parse_yaml, read_yaml

REPOSITORY = Path(__file__).resolve().parent.parent
DEFAULT_FILE = Path(__file__).resolve().parent / "classification" / "cfg" / "configuration.yaml"
SECRETS_FILE_NAME = "secrets.yaml"
_ENVIRONMENT_PREFIX = "CLS_"
_FOLDER_KEYS = (
    "datasets_dir",
    "pictures_dir",
    "meta_dir",
    "models_dir",
    "inference_models_dir",
    "segments_dir",
    "inference_dir",
    "masks_dir",
)
_URL_KEYS = ("collector_url", "collector_static_url", "model_storage_url", "inference_url")
_TRUST_KEY = "package_trust"
_OPTIONAL_TEXT_KEYS = (
    "pictures_info_db_url",
    "collector_static_url",
    "collector_login",
    "inference_url",
    _TRUST_KEY,
)
_SIZE_KEY = "cache_limit_gb"
_LIMITS_KEY = "parity_limits"
_SECRET_KEYS = ("collector_password", "model_storage_token", "signing_passphrase")


@dataclass(frozen=True)
class ParityLimits:
    """How far a conversion may depart from the trained network; None stands for no limit.

    Attributes:
        flip_distance: a decision may differ where the trained probability is this near its threshold, no further.
        probability: largest difference of a probability.
        f1: largest change of F1, the mean over labels, in either direction.
        batch: largest difference that the batch size, or the other people in the batch, may make to a probability.
        label_f1: largest change of one label's F1, or what two decisions may be worth likewise.
        label_ece: largest change of one label's expected calibration error, or two by the number of people likewise.
        logit_shift: largest mean difference of one label's logits, in either direction.
        logit_error: largest root mean square difference of one label's logits, in their standard deviations.
        own_size: of an end-to-end model: largest root mean square difference of a label's logits, likewise, that it
            may make whether the model or `Preprocessing.fit` resizes cut-outs.
    """

    flip_distance: float | None = None
    probability: float | None = None
    f1: float | None = None
    batch: float | None = None
    label_f1: float | None = None
    label_ece: float | None = None
    logit_shift: float | None = None
    logit_error: float | None = None
    own_size: float | None = None


# By a conversion's precision.
PARITY_LIMITS: Mapping[str, ParityLimits] = {
    "fp32": ParityLimits(
        flip_distance=0.001, probability=0.001, batch=0.001, logit_shift=0.01, logit_error=0.01, own_size=0.04
    ),
    "fp16": ParityLimits(
        flip_distance=0.02, probability=0.05, f1=0.002, batch=0.01,
        label_f1=0.01, label_ece=0.01, logit_shift=0.05, logit_error=0.03, own_size=0.05,
    ),
    "int8": ParityLimits(
        flip_distance=0.2, f1=0.005, batch=0.05,
        label_f1=0.02, label_ece=0.025, logit_shift=0.4, logit_error=0.2, own_size=0.15,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """Where data lives and which services are spoken to. Made by `load_settings`.

    Secrets are left out of the text form, so that printing or logging settings never shows them.

    Attributes:
        file: the configuration file they come from.
        data_path: the bottle, the data folder of a project.
        datasets_dir: folder in the bottle: the dataset file of each group.
        pictures_dir: folder in the bottle: every photo.
        meta_dir: folder in the bottle: what the collector said of each picset.
        models_dir: folder in the bottle: training runs.
        inference_models_dir: folder in the bottle: packages that `cls export` makes.
        segments_dir: folder in the bottle: segmentation.
        inference_dir: folder in the bottle: predictions.
        masks_dir: folder in the bottle: what `cls masks` draws.
        pictures_info_db_url: the pictures database; empty: an SQLite file in the bottle.
        collector_url: the collector that photos and labels come from, and that predictions are written back to.
        collector_static_url: where the collector's photos are fetched from; empty: the same address.
        collector_login: user name at the collector.
        model_storage_url: where `cls push` publishes.
        inference_url: Triton or another Open Inference Protocol server that answers predictions, `http://`, `https://`,
            `grpc://` or `grpcs://`; empty: none.
        package_trust: public keys whose signatures packages need before they are used, a file or a folder of *.pub;
            empty: signatures are checked only where a command is given `--trust`.
        cache_limit_gb: how large the cut-outs that trainings keep in the bottle may grow, in GiB; those used longest
            ago are removed first.
        parity_limits: how far a conversion may depart from the trained network, by its precision.
        people_classes: classes of a segmentation model -> people classes of the pictures database; others keep their
            names.
        collector_password: password at the collector.
        model_storage_token: token of the model storage, of `cls storage serve` and of those who publish to it.
        signing_passphrase: passphrase of the private key that signs packages.
    """

    file: Path
    data_path: Path
    datasets_dir: str = "datasets"
    pictures_dir: str = "pictures"
    meta_dir: str = "meta"
    models_dir: str = "models"
    inference_models_dir: str = "inference_models"
    segments_dir: str = "segments"
    inference_dir: str = "inference"
    masks_dir: str = "masks"
    pictures_info_db_url: str = field(default="", repr=False)
    collector_url: str = "http://127.0.0.1:8200"
    collector_static_url: str = ""
    collector_login: str = ""
    model_storage_url: str = "http://127.0.0.1:8300"
    inference_url: str = ""
    package_trust: Path | None = None
    cache_limit_gb: float = 50.0
    parity_limits: Mapping[str, ParityLimits] = field(default_factory=lambda: dict(PARITY_LIMITS))
    people_classes: Mapping[str, str] = field(default_factory=lambda: {"girl": "female", "man": "male"})
    collector_password: str = field(default="", repr=False)
    model_storage_token: str = field(default="", repr=False)
    signing_passphrase: str = field(default="", repr=False)

    @property
    def static_url(self) -> str:
        """Address pictures are fetched from: the collector's own unless another is configured."""
        return self.collector_static_url or self.collector_url


def project_folder() -> Path:
    """Where relative paths of the default configuration start: a checkout's root; installed, the current folder."""
    return REPOSITORY if (REPOSITORY / "pyproject.toml").is_file() else Path.cwd()


def _places(file: Path | None) -> tuple[Path, Path, Path]:
    """The configuration file, the folder its relative paths start at, and the file with the secrets."""
    path, base = (DEFAULT_FILE if file is None else file).absolute(), project_folder()
    if path != DEFAULT_FILE:
        return path, path.parent, path.parent / SECRETS_FILE_NAME
    if base == REPOSITORY:
        return path, base, path.parent / SECRETS_FILE_NAME
    # Of an installed package: what users keep lies in the current folder, never beside the code.
    own = base / DEFAULT_FILE.name
    return (own if own.is_file() else path), base, base / SECRETS_FILE_NAME


def load_settings(file: Path | None = None, environment: Mapping[str, str] | None = None) -> Settings:
    """Reads the configuration, checks all of it, and reports every problem at once.

    Args:
        file: configuration file; the project's own when not given (of an installed package: configuration.yaml of the
            current folder, if there is one).
        environment: variables to look for `CLS_<KEY>` in; the process's own when not given.

    Returns:
        Settings with an absolute `data_path`.

    Raises:
        SettingsError: the file is missing or not YAML, or holds an unknown key, a wrong type or a missing value.
    """
    variables = os.environ if environment is None else environment
    path, base, secrets_file = _places(file)
    problems: list[str] = []
    values = _read_mapping(path)
    known = {*_FOLDER_KEYS, *_URL_KEYS, *_OPTIONAL_TEXT_KEYS, "data_path", "people_classes", _SIZE_KEY, _LIMITS_KEY}
    for key in values:
        if key in _SECRET_KEYS:
            problems.append(
                f"key '{key}' is a secret: move it to {SECRETS_FILE_NAME} beside the file, or to {_variable(key)}"
            )
        elif key not in known:
            problems.append(f"unknown key '{key}' (known: {', '.join(sorted(known))})")
    secrets = _read_secrets(secrets_file, problems)
    sources = {key: f"key '{key}'" for key in values}
    for name, value in sorted(variables.items()):
        if not name.startswith(_ENVIRONMENT_PREFIX):
            continue
        key = name.removeprefix(_ENVIRONMENT_PREFIX).lower()
        if key in _SECRET_KEYS:
            secrets[key] = value
        elif key in known:
            values[key] = _READ_VARIABLE.get(key, str)(value)
            sources[key] = f"environment variable {name}"
        else:
            problems.append(
                f"unknown environment variable {name} (known: {', '.join(_variable(k) for k in sorted(known))})"
            )
    checked = {key: _checked(key, values[key], sources[key], problems) for key in values if key in known}
    if "data_path" not in values:
        problems.append("missing key 'data_path': expected the path of the data folder, e.g. 'classification_data'")
    _check_folders_differ({key: str(checked.get(key, getattr(Settings, key))) for key in _FOLDER_KEYS}, problems)
    if problems:
        raise SettingsError(
            "; ".join(problems), code="invalid", where=path, hint="correct the file or the environment and run again"
        )
    data_path = (base / Path(checked.pop("data_path")).expanduser()).resolve()
    if "pictures_info_db_url" in checked:
        checked["pictures_info_db_url"] = _with_absolute_file(checked["pictures_info_db_url"], base)
    trusted = checked.pop(_TRUST_KEY, "")
    checked[_TRUST_KEY] = (base / Path(trusted).expanduser()).resolve() if trusted else None
    values = {**checked, **secrets}
    return Settings(file=path, data_path=data_path, **values)


def _variable(key: str) -> str:
    return _ENVIRONMENT_PREFIX + key.upper()


def _with_absolute_file(url: str, base: Path) -> str:
    """An SQLite URL of a relative file, as any relative path: from the repository, or from the --cfg file's folder."""
    prefix, separator, file = url.partition(":///")
    if not prefix.startswith("sqlite") or not separator or not file or file == ":memory:":
        return url
    return f"{prefix}:///{(base / Path(file).expanduser()).resolve()}"


def _read_mapping(path: Path) -> dict[str, Any]:
    """The key-value pairs of a YAML file."""
    try:
        content = read_yaml(path)
    except FileError as error:
        if error.code == "file.not_found":
            raise SettingsError(
                "there is no configuration file",
                code="not_found",
                where=path,
                hint="give one with --cfg FILE or restore the project's",
            ) from None
        raise SettingsError(error.what, code=error.case, where=error.where) from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SettingsError(
            f"expected lines of `key: value`, found {type(content).__name__}", code="not_a_mapping", where=path
        )
    return {str(key): value for key, value in content.items()}


def _read_secrets(path: Path, problems: list[str]) -> dict[str, str]:
    """Secrets from their own file, when there is one."""
    if not path.exists():
        return {}
    found: dict[str, str] = {}
    for key, value in _read_mapping(path).items():
        if key not in _SECRET_KEYS:
            problems.append(f"unknown key '{key}' in {path.name} (known: {', '.join(_SECRET_KEYS)})")
        elif not isinstance(value, str):
            problems.append(f"key '{key}' in {path.name}: expected text in quotes")
        else:
            found[key] = value
    return found


def _mapping_of_variable(text: str) -> Any:
    """`girl=female,man=male` -> {'girl': 'female', 'man': 'male'}; other text is returned as it came, to be refused."""
    pairs = [part.split("=") for part in text.split(",") if part.strip()]
    if any(len(pair) != 2 for pair in pairs):
        return text
    return {name.strip(): people_class.strip() for name, people_class in pairs}


def _limits_of_variable(text: str) -> Any:
    """`{int8: {f1: 0.01}}` -> the mapping; other text is returned as it came, to be refused."""
    try:
        return parse_yaml(text, "environment variable")
    except FileError:
        return text


# What is not plain text in the environment.
_READ_VARIABLE = {"people_classes": _mapping_of_variable, _LIMITS_KEY: _limits_of_variable}


def _checked(key: str, value: Any, source: str, problems: list[str]) -> Any:
    """The value of one key; a wrong one is added to the problems."""
    if key == "people_classes":
        if isinstance(value, dict) and all(isinstance(part, str) and part for pair in value.items() for part in pair):
            return dict(value)
        problems.append(f"{source}: expected pairs of names such as girl: 'female', found {value!r}")
        return {}
    if key == _SIZE_KEY:
        return _checked_size(value, source, problems)
    if key == _LIMITS_KEY:
        return _checked_limits(value, source, problems)
    if value is None and key in _OPTIONAL_TEXT_KEYS:
        return ""
    if not isinstance(value, str):
        problems.append(f"{source}: expected text in quotes, found {type(value).__name__}")
        return ""
    if not value and key not in _OPTIONAL_TEXT_KEYS:
        problems.append(f"{source}: a value is missing")
        return ""
    if key in _FOLDER_KEYS and (value != Path(value).name or value in (".", "..")):
        problems.append(f"{source}: expected the name of a folder inside the bottle, found '{value}'")
    is_grpc = key == "inference_url" and value.startswith(("grpc://", "grpcs://"))
    if key in _URL_KEYS and value and not is_grpc and not _is_http_url(value):
        problems.append(f"{source}: expected an address such as http://host:8200, found '{value}'")
    if key in _URL_KEYS:
        return value.rstrip("/")
    if key == "pictures_info_db_url" and value and "://" not in value:
        problems.append(
            f"{source}: expected a database URL such as postgresql+psycopg2://user:password@host:5432/database"
        )
    return value


def _checked_size(value: Any, source: str, problems: list[str]) -> float:
    """A size in GiB, from the file a number, from the environment its text."""
    try:
        size = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        size = math.nan
    if not (math.isfinite(size) and size > 0):
        problems.append(f"{source}: expected a size in GiB above 0, e.g. 50, found {value!r}")
    return size


def _checked_limits(value: Any, source: str, problems: list[str]) -> dict[str, ParityLimits]:
    """Limits by precision; what is not said keeps its default."""
    limits = dict(PARITY_LIMITS)
    if not isinstance(value, dict):
        problems.append(f"{source}: expected limits by precision such as int8: {{f1: 0.005}}, found {value!r}")
        return limits
    known = [part.name for part in fields(ParityLimits)]
    for precision, wanted in value.items():
        if precision not in limits or not isinstance(wanted, dict):
            problems.append(
                f"{source}: expected {', '.join(limits)}, each with some of {', '.join(known)}, found {precision!r}:"
                f" {wanted!r}"
            )
            continue
        wrong = [name for name, limit in wanted.items() if name not in known or not _is_limit(limit)]
        problems += [
            f"{source}: {precision}.{name}: expected one of {', '.join(known)} and a number from 0 to 1 or null,"
            f" found {wanted[name]!r}"
            for name in wrong
        ]
        limits[precision] = replace(limits[precision], **{k: v for k, v in wanted.items() if k not in wrong})
    return limits


def _is_limit(value: Any) -> bool:
    if value is None:
        return True
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1


def _check_folders_differ(names: Mapping[str, str], problems: list[str]) -> None:
    """Two folders of one name would write over each other's files."""
    keys_by_name: dict[str, list[str]] = {}
    for key, name in names.items():
        keys_by_name.setdefault(name, []).append(key)
    for name, keys in keys_by_name.items():
        if name and len(keys) > 1:
            problems.append(f"keys {' and '.join(repr(key) for key in keys)}: both name the folder '{name}'")


def _is_http_url(value: str) -> bool:
    parts = urlsplit(value)
    try:
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
