"""Pictures sorted into a folder a label: hard links where the file system allows, copies elsewhere."""

from __future__ import annotations

import filecmp
import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from cls.errors import FileError
from cls.files import safe_name, write_text_atomic

NO_LABEL = "none of them"
_LIST_NAME = ".sorted_by_cls.jsonl"


@dataclass
class Sorter:
    """Puts pictures into folders, and takes away what an earlier sorting of its own put there.

    Files of others are never touched: one in the way is left, and the picture is counted in `blocked`.

    Attributes:
        folder: holds a folder a label.
        placed: pictures put there, or there already.
        blocked: places that somebody else's file holds.
    """

    folder: Path
    placed: int = 0
    blocked: list[str] = field(default_factory=list)
    _old: dict[str, list[int]] = field(default_factory=dict)
    _new: dict[str, list[int]] = field(default_factory=dict)

    def start(self) -> None:
        """Reads what was put there before.

        Raises:
            FileError: the folder cannot be made.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            lines = (self.folder / _LIST_NAME).read_text(encoding="utf-8").splitlines()
        except FileNotFoundError:
            return
        except OSError as error:
            raise FileError(f"cannot be used: {error.strerror}", where=self.folder) from error
        for line in lines:
            with suppress(ValueError, TypeError):  # a damaged line: that file counts as somebody else's
                name, state = json.loads(line)
                self._old[str(name)] = list(state)

    def place(self, source: Path, name: str, labels: Sequence[str]) -> None:
        """Puts a picture into the folders of its labels, or of none.

        Args:
            source: the picture's file.
            name: what it is called below each label's folder, `/` between folders.
            labels: of the people in it, each once.

        Raises:
            FileError: there is no space, or no permission.
        """
        for label in labels or (NO_LABEL,):
            place = f"{safe_name(label)}/{name}"
            target = self.folder / place
            if target.is_symlink() or target.exists():
                if place in self._old and not _is_same(source, target) and _state(target) == self._old[place]:
                    target.unlink()
                elif not _is_same(source, target):
                    self.blocked.append(place)
                    continue
            try:
                if not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    _link(source, target)
                self._new[place] = _state(target)
            except OSError as error:
                raise FileError(f"cannot be written: {error.strerror}", where=target) from error
            self.placed += 1

    def finish(self) -> None:
        """Takes away what was put there before and has no place there any more, and keeps the list for the next."""
        for place, state in self._old.items():
            target = self.folder / place
            if place not in self._new and target.is_file() and _state(target) == state:
                target.unlink()
                with suppress(OSError):  # not empty
                    target.parent.rmdir()
        lines = (json.dumps([name, state], ensure_ascii=False) + "\n" for name, state in self._new.items())
        write_text_atomic(self.folder / _LIST_NAME, "".join(lines))


def _state(path: Path) -> list[int]:
    state = path.stat()
    return [state.st_size, state.st_mtime_ns]


def _is_same(source: Path, target: Path) -> bool:
    if not target.is_file() or not source.is_file():
        return False
    return source.samefile(target) or filecmp.cmp(source, target, shallow=False)


def _link(source: Path, target: Path) -> None:
    try:
        # A link to a link would follow the wrong one when the source moves: take the file itself.
        os.link(source.resolve(), target)
    except OSError:
        part = target.with_name(f".{target.name[:80]}.part")
        shutil.copy2(source, part)
        part.replace(target)
