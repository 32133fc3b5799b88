"""What previews saw of picsets: whether others have changed something since is told when they are sent."""

from __future__ import annotations

from collections.abc import Iterable

from cls.bottle.layout import Bottle
from cls.errors import FileError
from cls.files import read_json, sha256_of_bytes, write_json_atomic
from cls.write_back.steps import Step

FOLDER = "previews"


class PreviewMemory:
    """A file of the bottle's cache, one a collector, which may be deleted.

    Args:
        bottle: the data folder.
        collector_url: whose picsets.
    """

    def __init__(self, bottle: Bottle, collector_url: str) -> None:
        self._path = bottle.cache / FOLDER / f"{sha256_of_bytes(collector_url.encode())[:16]}.json"
        self._others: dict[str, str] = {}
        try:
            known = read_json(self._path)
        except FileError:
            return  # nothing was previewed; or it is damaged, and then nobody can compare
        if isinstance(known, dict):
            self._others = {str(guid): str(digest) for guid, digest in known.items()}

    def keep(self, steps: Iterable[Step]) -> None:
        """Remembers what others say in picsets that were shown."""
        self._others |= {step.guid: step.others for step in steps}
        write_json_atomic(self._path, self._others)

    def is_changed(self, step: Step) -> bool:
        """Whether others have changed something in a picset since it was shown; false when it never was."""
        return self._others.get(step.guid, step.others) != step.others

    def forget(self, guids: Iterable[str]) -> None:
        """What was sent has been compared; the next preview is another one."""
        known = set(self._others)
        for guid in guids:
            self._others.pop(guid, None)
        if known != set(self._others):
            write_json_atomic(self._path, self._others)
