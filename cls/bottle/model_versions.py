"""journals/model_versions.jsonl: the models whose predictions left a bottle, and the versions they are published as."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

JOURNAL = Path("journals") / "model_versions.jsonl"
_TEXT_KEYS = ("group", "run", "weights_sha256", "version")


@dataclass(frozen=True)
class KnownModel:
    """A model of a group, once for every version it goes by.

    Attributes:
        group: what it classifies.
        run: name of the training run it came from.
        weights_sha256: digest of its trained weights; run names repeat from machine to machine, this does not.
        version: semantic version it was published under; empty for a model that came from no storage.
        has_predicted: whether predictions for the collector were made with it; otherwise it was published.
    """

    group: str
    run: str
    weights_sha256: str
    version: str = ""
    has_predicted: bool = False


def remember_models(root: Path, models: Iterable[KnownModel]) -> None:
    """Enters models that are not there yet.

    Args:
        root: the bottle.
        models: what predicts, or was published.
    """
    known = known_models(root)
    new = [model for model in dict.fromkeys(models) if model not in known]
    if not new:
        return
    path = root / JOURNAL
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(asdict(model), ensure_ascii=False) + "\n" for model in new)
    with path.open("ab+") as stream:
        if stream.tell() and path.read_bytes()[-1:] != b"\n":  # cut off by a kill
            text = "\n" + text
        stream.write(text.encode())
        stream.flush()
        os.fsync(stream.fileno())


def known_models(root: Path) -> list[KnownModel]:
    """The models that were entered; lines that cannot be read are passed over."""
    path = root / JOURNAL
    if not path.exists():
        return []
    found: list[KnownModel] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            content = json.loads(line)
            group, run, weights, version = (str(content[key]) for key in _TEXT_KEYS)
            found.append(KnownModel(group, run, weights, version, bool(content["has_predicted"])))
        except (ValueError, KeyError, TypeError):
            continue  # cut off by a kill, or of a later version
    return found
