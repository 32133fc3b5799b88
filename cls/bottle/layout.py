"""Where everything is in a bottle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cls.files import safe_name
from cls.settings import Settings


@dataclass(frozen=True)
class Bottle:
    """The folders and files of a bottle. Group names may be any text; folders are named by `cls.files.safe_name`."""

    settings: Settings

    @property
    def root(self) -> Path:
        """The bottle itself."""
        return self.settings.data_path

    @property
    def pictures(self) -> Path:
        """Every photo, one common pool."""
        return self.root / self.settings.pictures_dir

    def picture(self, name: str) -> Path:
        """One photo by its file name (the last part of its collector path)."""
        return self.pictures / name

    def meta(self, group: str) -> Path:
        """What the collector said of a group's picsets: `<picset guid>/meta.json` below."""
        return self.root / self.settings.meta_dir / safe_name(group)

    def dataset_file(self, group: str) -> Path:
        """The labelled dataset of a group."""
        return self.datasets / f"{safe_name(group)}.json"

    @property
    def datasets(self) -> Path:
        """The labelled datasets of all groups."""
        return self.root / self.settings.datasets_dir

    def models(self, group: str) -> Path:
        """The training runs of a group: `v__<n>_<mode>_<arch>_<batch>_<decay>/` below."""
        return self.root / self.settings.models_dir / safe_name(group)

    def inference_model(self, group: str) -> Path:
        """The exported model of a group: meta.json, model.onnx, model_onnx.zip, ..."""
        return self.root / self.settings.inference_models_dir / safe_name(group) / "inference_model"

    def pages(self, group: str, run: str) -> dict[str, Path]:
        """Title -> page about a run and the package that was exported of it, whether it is there or not."""
        exported = self.inference_model(group).parent
        return {
            "training report": self.models(group) / run / "report.html",
            "parity report": exported / "parity_report.html",
            "refused conversions": exported / "parity_report_refused.html",
            "model card": exported / "model_card.html",
        }

    def inference(self, group: str) -> Path:
        """Predictions made for a group."""
        return self.root / self.settings.inference_dir / safe_name(group)

    def masks(self, group: str) -> Path:
        """Cut-out pictures of a group for annotators to look at."""
        return self.root / self.settings.masks_dir / safe_name(group)

    @property
    def segments(self) -> Path:
        """What is known of segmentation: the last report, journals, and `models.json`, the files its models were."""
        return self.root / self.settings.segments_dir

    @property
    def ledger(self) -> Path:
        """Where things came from: `pictures.jsonl`, and `load/<group>.json`, the report of a group's last load."""
        return self.root / "ledger"

    @property
    def cache(self) -> Path:
        """Derived data that may be deleted at any time."""
        return self.root / "cache"

    @property
    def database_url(self) -> str:
        """URL of the pictures database: the configured one, or an SQLite file in the bottle."""
        return self.settings.pictures_info_db_url or f"sqlite:///{self.root / 'pictures.sqlite'}"
