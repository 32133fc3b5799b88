"""docs/reference/configuration.md: the keys of configuration.yaml, from `Settings`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import fields

from cls.settings import PARITY_LIMITS, SECRETS_FILE_NAME, ParityLimits, Settings

_SECRETS = ("collector_password", "model_storage_token", "signing_passphrase")
_OWN_SECTION = "parity_limits"
_INTRODUCTION = f"""\
# Configuration

The file `cls/classification/cfg/configuration.yaml` of a checkout; of an installed package, `configuration.yaml` in the
current folder. Keys that are left out have the defaults below. This page is generated from the code:
`python -m tests.reference` writes it.

| where | what it is for |
|---|---|
| `configuration.yaml` | the project's own settings |
| `--cfg FILE` | another file instead, for every verb |
| `CLS_<KEY>` | one key, from the environment: `CLS_DATA_PATH=/data/bottle`. It is stronger than the file |
| `{SECRETS_FILE_NAME}` beside the file | passwords; git ignores it |

Relative paths start at the root of the checkout, in an installed package at the current folder, in a file given with
`--cfg` at the folder of that file. An unknown key, a wrong type or a missing value is an error that lists all problems
at once, before any work starts. `cls doctor` checks the configuration and the services that it names.
"""
_DATABASE = """\
## Use PostgreSQL

Without `pictures_info_db_url`, the pictures database is an SQLite file in the bottle. A team shares one on PostgreSQL
14 or newer:

```yaml
pictures_info_db_url: 'postgresql+psycopg2://user:password@host:5432/database'
```

The password can stay out of the file: set `CLS_PICTURES_INFO_DB_URL` in the environment. `cls doctor` says whether the
database can be reached. Tables that are missing are made by the first command that writes.
"""


def meanings_of(kind: type) -> dict[str, str]:
    """What the docstring of a class says of its attributes."""
    _, _, listed = (kind.__doc__ or "").partition("Attributes:\n")
    found = re.finditer(r"^ {8}(\w+): (.*(?:\n {12}.*)*)", listed, re.MULTILINE)
    return {match[1]: " ".join(match[2].split()).rstrip(".") for match in found}


def page() -> str:
    """The page as Markdown."""
    return "\n".join([_INTRODUCTION, *_keys(), _DATABASE, *_limits(), "", *_secrets()]) + "\n"


def _keys() -> Iterator[str]:
    meanings = meanings_of(Settings)
    yield "## Keys\n\n| key | default | meaning |\n|---|---|---|"
    for one in fields(Settings):
        if one.name in ("file", *_SECRETS):
            continue
        yield f"| `{one.name}` | {_default(one.name)} | {meanings[one.name]} |"
    yield "\nThe environment variable of `data_path` is `CLS_DATA_PATH`, and so on for the others. There, mappings are"
    yield "written `CLS_PEOPLE_CLASSES=girl=female,man=male` and `CLS_PARITY_LIMITS='{int8: {f1: 0.01}}'`.\n"


def _default(key: str) -> str:
    if key == "data_path":
        return "required"
    if key == _OWN_SECTION:
        return "[below](#parity-limits)"
    (value,) = (one.default_factory() if callable(one.default_factory) else one.default for one in fields(Settings)
                if one.name == key)  # fmt: skip
    if isinstance(value, Mapping):
        return ", ".join(f"`{name}: '{kind}'`" for name, kind in value.items())
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`" if value else "empty"


def _limits() -> Iterator[str]:
    meanings = meanings_of(ParityLimits)
    yield "## Parity limits\n"
    yield "How far a conversion may depart from the trained network before `cls export` refuses it. A key that is left"
    yield "out of `parity_limits` keeps its default; `null` is no limit.\n"
    yield f"| limit | {' | '.join(PARITY_LIMITS)} | meaning |\n|---|{'---|' * len(PARITY_LIMITS)}---|"
    for one in fields(ParityLimits):
        values = [getattr(limits, one.name) for limits in PARITY_LIMITS.values()]
        cells = ["none" if value is None else f"{value:g}" for value in values]
        yield f"| `{one.name}` | {' | '.join(cells)} | {meanings[one.name]} |"


def _secrets() -> Iterator[str]:
    meanings = meanings_of(Settings)
    yield "## Secrets\n"
    yield f"They come from the environment or from `{SECRETS_FILE_NAME}` beside the configuration, and are an error in"
    yield "the configuration itself. They are never printed, logged or written to a bottle.\n"
    yield "| key | environment variable | meaning |\n|---|---|---|"
    for key in _SECRETS:
        yield f"| `{key}` | `CLS_{key.upper()}` | {meanings[key]} |"
