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
from cls.files import safe_name, write_error, write_text_atomic

NO_LABEL = "none of them"
_LIST_NAME = ".sorted_by_cls.jsonl"


@dataclass
class Sorter:
    """Puts pictures into folders, and takes away what an earlier sorting put there of the same pictures.

    Files of others are never touched: one in the way is left, and the picture is counted in `blocked`. What is there of
    pictures that this sorting does not look at stays, too: it may be all that is left of them.

    Attributes:
        folder: holds a folder a label.
        placed: pictures put there, or there already.
        removed: places that a picture had before and has no more.
        blocked: places that somebody else's file, or another picture, holds.
    """

    folder: Path
    placed: int = 0
    removed: int = 0
    blocked: list[str] = field(default_factory=list)
    _old: dict[str, _Placed] = field(default_factory=dict)
    _new: dict[str, _Placed] = field(default_factory=dict)
    _origins: dict[str, Path] = field(default_factory=dict)

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
            raise FileError(
                f"cannot be used: {error.strerror}",
                code="unwritable",
                where=self.folder,
                hint="give another folder as --sort-into",
            ) from error
        for line in lines:
            with suppress(ValueError, TypeError):  # a damaged line: that file counts as somebody else's
                place, state, *rest = json.loads(line)
                origin, is_link = rest or ("", False)
                self._old[str(place)] = _Placed(list(state), str(origin), bool(is_link))

    def place(self, source: Path, name: str, labels: Sequence[str], *, origin: Path | None = None) -> None:
        """Puts a picture into the folders of its labels, or of none.

        Args:
            source: the picture's file.
            name: what it is called below each label's folder, `/` between folders.
            labels: of the people in it, each once.
            origin: the file it is from, where that is another one: a frame's video.

        Raises:
            FileError: there is no space, or no permission.
        """
        is_own_file = origin is not None  # of a frame
        origin = origin or source
        self._origins[name] = origin
        for folder in map(_folder_of, labels) if labels else (NO_LABEL,):
            place = f"{folder}/{name}"
            target = self.folder / place
            if target.is_symlink() or target.exists():
                if not _is_same(source, target) and self._is_earlier_state(place, origin):
                    target.unlink()
                elif not _is_same(source, target):
                    self.blocked.append(place)
                    continue
            try:
                if not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    _link(source, target)
                is_link = not is_own_file and target.stat().st_nlink > 1
                self._new[place] = _Placed(_state(target), str(origin.resolve()), is_link)
            except OSError as error:
                raise write_error(target, error) from error
            self.placed += 1

    def finish(self) -> None:
        """Takes away the places that the pictures had before and have no more, and keeps the list for the next."""
        kept: dict[str, _Placed] = {}
        looked_at = {str(origin.resolve()): origin for origin in self._origins.values()}
        for place, placed in self._old.items():
            if place in self._new:
                continue
            origin = looked_at.get(placed.origin) or self._origins.get(place.partition("/")[2])
            if origin is None or not self._is_earlier_state(place, origin):
                kept[place] = placed
                continue
            (self.folder / place).unlink()
            self.removed += 1
            with suppress(OSError):  # not empty
                (self.folder / place).parent.rmdir()
        lines = (
            json.dumps([place, placed.state, placed.origin, placed.is_link], ensure_ascii=False) + "\n"
            for place, placed in {**kept, **self._new}.items()
            if (self.folder / place).exists()
        )
        write_text_atomic(self.folder / _LIST_NAME, "".join(lines))

    def _is_earlier_state(self, place: str, origin: Path) -> bool:
        """Whether a place holds what an earlier sorting put there of the very file: nothing is lost with it."""
        before, target = self._old.get(place), self.folder / place
        if before is None or not target.is_file() or _state(target) != before.state:
            return False
        if _is_same(origin, target):
            return True  # also in lists of older versions, which do not say where a file is from
        if before.is_link and target.stat().st_nlink == 1:
            return False  # another photo has taken the name since, and this is all that is left of the old one
        return before.origin == str(origin.resolve())


@dataclass(frozen=True)
class _Placed:
    """A file that was put somewhere: its size and time then, where it is from, and whether it is a link to that."""

    state: list[int]
    origin: str
    is_link: bool


def _folder_of(label: str) -> str:
    """The folder of a label; `none of them` is that of pictures without one."""
    name = safe_name(label)
    return f"{name} (label)" if name == NO_LABEL else name


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
