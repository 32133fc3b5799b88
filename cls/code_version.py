"""Which code this is: the package's version, and the commit where it runs from a git checkout."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

from cls import __version__

_CHECKOUT = Path(__file__).resolve().parent.parent
_GIT_TIMEOUT_S = 3.0
# git's own file watcher is a program that a repository names: none is started for a version.
_DESCRIBE = ("-c", "core.fsmonitor=false", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*")


@cache
def code_version() -> str:
    """The version of this code, e.g. `0.1.0`, from a git checkout `0.1.0+g1a2b3c4d5e6f`.

    Changes that were not committed add `.dirty`; new files that git does not know are not seen. It is asked once a
    process, so a long training tells of the code it was started with.
    """
    return version_of_checkout(_CHECKOUT)


def version_of_checkout(folder: Path) -> str:
    """The version with the commit of a checkout; without it where the folder is none, or git cannot tell in time.

    Args:
        folder: what holds the package. A repository further up, around an installed package, is not the code's.
    """
    git = shutil.which("git")
    if git is None or not (folder / ".git").exists():
        return __version__
    # Within a git hook these name another repository.
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
