"""What to type after a package was made."""

from __future__ import annotations

from shlex import quote

from cls.bottle.layout import Bottle
from cls.bottle.model_versions import known_models
from cls.package.versions import next_version


def push_lines(bottle: Bottle, group: str, which: str = "onnx") -> str:
    """The `cls push` of a package, under the next version, as lines that can be pasted as they are.

    Args:
        bottle: the data folder, which knows what was published from it.
        group: the package's.
        which: the package, as `--format` names it.
    """
    published = [one.version for one in known_models(bottle.root) if one.group == group and one.version]
    chosen = "" if which == "onnx" else f" --format {quote(which)}"
    return (
        f"next: cls push --group {quote(group)}{chosen} --version {next_version(published)}\n"
        "      # the next version for all this bottle knows; a model storage with more says which one is free"
    )
