"""What a gallery folder's files are and who made them: a journal that survives a kill."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from cls.errors import FileError
from cls.files import write_text_atomic

JOURNAL_NAME = ".made.jsonl"


class MaskJournal:
    """Remembers which files of a folder were made here, and from what; a context manager.

    A line is written before a file is made (the claim) and one after (with the key of what it was made from). After a
    kill a claimed file is made again; a file without a claim is somebody else's and is never touched.
    """

    def __init__(self, folder: Path) -> None:
        self._file = folder / JOURNAL_NAME
        self._keys: dict[str, str] = {}
        for line in self._lines():
            try:
                entry = json.loads(line)
                self._keys[str(entry["file"])] = str(entry.get("key", ""))
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # the line a kill cut off: its file is claimed by the whole line before or not made at all
        self._compact()
        try:
            self._stream = self._file.open("a", encoding="utf-8")
        except OSError as error:
            raise FileError(f"cannot be written: {error.strerror}", where=self._file) from error

    def __enter__(self) -> MaskJournal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stream.close()

    @property
    def files(self) -> tuple[str, ...]:
        """Names of the files made here."""
        return tuple(self._keys)

    def is_ours(self, name: str) -> bool:
        """Whether the file was made here, or was being made when a run was killed."""
        return name in self._keys

    def is_made(self, name: str, key: str) -> bool:
        """Whether the file was finished, from exactly this."""
        return bool(key) and self._keys.get(name) == key

    def claim(self, names: Iterable[str]) -> None:
        """Says that files are about to be made; survives a power cut, too."""
        for name in names:
            self._write(name, "")
        os.fsync(self._stream.fileno())

    def finish(self, name: str, key: str) -> None:
        """Says that the file is whole, and from what it was made."""
        self._write(name, key)

    def forget(self, names: list[str]) -> None:
        """Drops files that were removed."""
        for name in names:
            self._keys.pop(name, None)
        self._stream.close()
        self._compact()
        self._stream = self._file.open("a", encoding="utf-8")

    def _write(self, name: str, key: str) -> None:
        self._keys[name] = key
        self._stream.write(_line(name, key))
        self._stream.flush()

    def _lines(self) -> list[str]:
        try:
            return self._file.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        except OSError as error:
            raise FileError(f"cannot be read: {error.strerror}", where=self._file) from error

    def _compact(self) -> None:
        write_text_atomic(self._file, "".join(_line(name, key) for name, key in self._keys.items()))


def _line(name: str, key: str) -> str:
    return json.dumps({"file": name, "key": key}, ensure_ascii=False) + "\n"
