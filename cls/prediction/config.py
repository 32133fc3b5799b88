"""The settings of a prediction. An option is declared once, at its field."""

from __future__ import annotations

from dataclasses import dataclass

from cls.errors import UsageFault
from cls.options import check_options, option

_PEOPLE = "people (default: from the pictures database, otherwise from the segmenter)"


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """The settings of a prediction. Checked when made: all problems are listed at once."""

    segmenter: str | None = option(
        None, _PEOPLE, "segmentation model", is_file=True, metavar="FILE", unset="person_models/best.pt, if there"
    )
    whole: bool = option(False, _PEOPLE, "take every photo as one person, whole")
    threshold: float | None = option(
        None,
        "decisions",
        "one threshold for all labels, e.g. 0.5",
        flag="--conf-thresh",
        ge=0,
        le=1,
        metavar="P",
        unset="each label's own, kept with the model",
    )

    def __post_init__(self) -> None:
        conflicts = []
        if self.whole and self.segmenter is not None:
            conflicts.append(UsageFault("--whole and --segmenter exclude each other", code="options_conflict"))
        check_options(self, "cls infer", conflicts)

    @property
    def thresholds_text(self) -> str:
        """Which thresholds are used, in words."""
        if self.threshold is None:
            return "of the model, one a label"
        return f"{self.threshold:g} for all labels (--conf-thresh)"
