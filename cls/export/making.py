"""The formats of an export, each made and proven by itself: one that fails takes no other one with it."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cls.bottle.layout import Bottle
from cls.errors import ClsError, ExportError
from cls.export.convert import WORK, Conversions
from cls.export.formats.files import FILES, Format
from cls.export.parity.check import Verdict, judge
from cls.export.parity.samples import Reference
from cls.export.precision_steps import Packing, Steps, make_proven

_log = logging.getLogger("cls.export")


@dataclass
class Making:
    """What came of the formats.

    Attributes:
        verdicts: of all of them, in the order they were made.
        steps: how they were made, where they could be.
    """

    verdicts: dict[Format, Verdict] = field(default_factory=dict)
    steps: dict[Format, Steps] = field(default_factory=dict)

    @property
    def passed(self) -> tuple[Format, ...]:
        """The formats that are proven; nothing is left of the files of the others."""
        return tuple(name for name, verdict in self.verdicts.items() if verdict.error is None)

    @property
    def refused(self) -> dict[Format, ClsError]:
        """The others, and why."""
        return {name: verdict.error for name, verdict in self.verdicts.items() if verdict.error is not None}


def make_all(
    conversions: Conversions,
    names: Sequence[Format],
    reference: Reference,
    bottle: Bottle,
    packing: Packing,
    page: Path,
) -> Making:
    """Makes formats and sends each through the gate.

    Args:
        conversions: makes the model files.
        names: the formats, `onnx` before those that are made from it.
        reference: what the trained network says.
        bottle: the data folder, with the limits.
        packing: makes the zips.
        page: the report that errors point to.
    """
    making = Making()
    for number, name in enumerate(names, 1):
        started_s = time.monotonic()
        where = f"{reference.trained.name}, {FILES[name].model}"
        if FILES[name].source is not None and "onnx" in making.refused:
            verdict = Verdict(
                None,
                ExportError(
                    "it is made from the float32 ONNX, which cannot be used",
                    where=where,
                    hint="see what is said of model.onnx",
                ),
            )
        else:
            _log.info("%s (%d of %d): converting", FILES[name].archive, number, len(names))
            verdict = _made(making, conversions, name, reference, bottle, packing, page, where)
        making.verdicts[name] = verdict
        how = "agrees with the trained network" if verdict.error is None else "is left out"
        _log.info("%s: %s (%.1f s)", FILES[name].archive, how, time.monotonic() - started_s)
        if verdict.error is not None:
            for file in (*FILES[name].files, FILES[name].archive):
                (packing.folder / file).unlink(missing_ok=True)
    return making


def _made(
    making: Making,
    conversions: Conversions,
    name: Format,
    reference: Reference,
    bottle: Bottle,
    packing: Packing,
    page: Path,
    where: str,
) -> Verdict:
    try:
        making.steps[name] = make_proven(conversions, name, reference, bottle, packing)
    except ClsError as error:
        return Verdict(None, _for_the_user(error, name, where, packing.folder))
    candidate = packing.candidate(name, conversions.source_of(name), making.steps[name])
    return judge(reference, candidate, bottle, bottle.settings.parity_limits[candidate.precision], page)


def _for_the_user(error: ClsError, name: Format, where: str, folder: Path) -> ExportError:
    """A converter's error without the paths of files in between, which are gone when it is read."""
    what = error.what.replace(f"{folder / WORK}/", "").replace(f"{folder}/", "")
    if error.where is not None and not error.where.startswith(str(folder)):
        where = f"{where}: {error.where}"
    hint = error.hint or f"leave out {name} in --formats, or run again with --debug to see all that the converter says"
    readable = ExportError(what, where=where, hint=hint)
    readable.__cause__ = error
    return readable
