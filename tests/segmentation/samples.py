"""The model kept in the repository, its ONNX export, and sample photos to run them on."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cls.sample.config import SampleConfig
from cls.sample.make import make_sample
from cls.settings import REPOSITORY
from cls.yolo.exporting import export_model
from tests.preloaded import run_program

MODEL = REPOSITORY / "cls" / "sample" / "person_model" / "best.pt"
SCRIPT = REPOSITORY / "cls" / "classification" / "segment_builder.py"
PEOPLE = {"girl": "female", "man": "male"}


def sample_photos(folder: Path, photos: int, *, seed: int = 7) -> Path:
    """Draws a sample set; returns its folder."""
    make_sample(folder, SampleConfig(photos, seed, workers=1))
    return folder


def exported_model(folder: Path) -> Path:
    """The model as ONNX."""
    return export_model(MODEL, folder, [], is_engine_required=False).onnx


def run_builder(cfg: Path, model: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs segment_builder.py as users do."""
    return run_program([str(SCRIPT), "--cfg", str(cfg), "--model_path", str(model), *options], 120)
