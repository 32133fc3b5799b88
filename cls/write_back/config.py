"""The settings of sending predictions to the collector. An option is declared once, at its field."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cls.errors import UsageFault
from cls.options import check_options, option


@dataclass(frozen=True, kw_only=True)
class SendConfig:
    """What is sent, shown or taken back. Checked when made: all problems are listed at once."""

    groups: tuple[str, ...] = option((), "", "groups whose picsets are sent, or withdrawn from", metavar="G")
    is_preview: bool = option(
        False,
        "",
        "show what would change for every person, compared with what the collector has now; send nothing",
        flag="--preview",
        aliases=("--dry-run",),
        is_switch=True,
    )
    preview_file: Path | None = option(
        None, "", "write the preview to a file too, all of it", flag="--json", metavar="FILE"
    )
    withdraw: str | None = option(
        None,
        "",
        "take back what a model said of the groups: by the version it was published under (0.0.2), by its run"
        " (v__0_train_eff_4_0.001), or either after the group (hat/0.0.2); shows what would go, and does it with --yes",
        metavar="VERSION|RUN",
    )
    yes: bool = option(False, "", "with --withdraw: do it", is_switch=True)
    replaces: tuple[str, ...] = option(
        (),
        "",
        "runs of another tool or machine (as `neural_version` names them) whose predictions are replaced",
        metavar="RUN",
    )

    def __post_init__(self) -> None:
        faults = []
        if not self.groups and not self.withdraw:
            faults.append(UsageFault("say of which groups: --groups G", code="missing_option"))
        if self.yes and not self.withdraw:
            faults.append(UsageFault("--yes goes with --withdraw", code="missing_option"))
        if self.yes and self.is_preview:
            faults.append(UsageFault("--yes and --preview exclude each other", code="options_conflict"))
        if self.replaces and self.withdraw:
            faults.append(UsageFault("--replaces and --withdraw exclude each other", code="options_conflict"))
        if self.preview_file and not self.only_shows:
            faults.append(UsageFault("--json goes with --preview", code="missing_option"))
        check_options(self, "cls post-meta", faults)

    @property
    def only_shows(self) -> bool:
        """Whether nothing is sent or taken back."""
        return self.is_preview or (self.withdraw is not None and not self.yes)
