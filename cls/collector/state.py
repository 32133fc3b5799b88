"""What the own collector remembers: modes of picsets and predictions posted to it, in files."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cls.collector.payloads import MODES, PicsetPayload
from cls.errors import FileError
from cls.files import read_json, safe_name, write_json_atomic

DEFAULT_MODE = "VALIDATED"
STATE_FOLDER = ".collector"


class CollectorState:
    """Modes and predictions by picset, kept in a folder: `modes.json` and `trained/<guid>.json`.

    Args:
        folder: where they are kept; made at the first write.

    Raises:
        FileError: what is kept there cannot be read.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        modes_file = folder / "modes.json"
        content = read_json(modes_file) if modes_file.exists() else {}
        if not isinstance(content, dict) or not all(mode in MODES for mode in content.values()):
            raise FileError(f"expected {{guid: one of {', '.join(MODES)}}}", where=modes_file)
        self._modes: dict[str, str] = content

    def mode(self, guid: str) -> str:
        """The mode of a picset; photos of a folder count as validated until someone says otherwise."""
        return self._modes.get(guid, DEFAULT_MODE)

    def set_mode(self, guids: Iterable[str], mode: str) -> None:
        """Moves picsets into a mode.

        Raises:
            FileError: the state cannot be written; nothing has changed.
        """
        with self._lock:
            modes = {**self._modes, **dict.fromkeys(guids, mode)}
            write_json_atomic(self._folder / "modes.json", modes)
            self._modes = modes

    def set_trained(self, posted: PicsetPayload) -> None:
        """Keeps the predictions of a picset, in place of earlier ones for the same photos.

        Raises:
            FileError: the state cannot be written; nothing has changed.
        """
        guid = posted.picset.guid
        versions = (posted.picset.model_extra or {}).get("neural_version")
        items = {
            item.origin.filepath: item.trained
            for item in posted.items
            if item.origin is not None and item.origin.filepath and item.trained is not None
        }
        with self._lock:
            kept = self._read_trained(guid)
            content = {
                "items": {**kept.get("items", {}), **items},
                "neural_version": {
                    **kept.get("neural_version", {}),
                    **(versions if isinstance(versions, dict) else {}),
                },
            }
            write_json_atomic(self._trained_file(guid), content)

    def decorate(self, content: dict[str, Any]) -> dict[str, Any]:
        """Adds mode and predictions to a PICSET of a photo set."""
        guid = content["picset"]["guid"]
        content["picset"]["mode"] = self.mode(guid)
        kept = self._read_trained(guid)
        if kept:
            content["picset"]["neural_version"] = kept["neural_version"]
            for item in content["items"]:
                item["trained"] = kept["items"].get(item["origin"]["filepath"], [])
        return content

    def _trained_file(self, guid: str) -> Path:
        return self._folder / "trained" / f"{safe_name(guid)}.json"

    def _read_trained(self, guid: str) -> dict[str, Any]:
        file = self._trained_file(guid)
        content: dict[str, Any] = read_json(file) if file.exists() else {}
        return content
