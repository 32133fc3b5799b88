"""A bottle in which every room has left something of its sample photos, and a search for what is left of them."""

from __future__ import annotations

import io
import json
import shutil
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars

from cls.bottle.dataset_file import read_dataset
from cls.bottle.layout import Bottle
from cls.cli import forget
from cls.cli import infer as inference
from cls.cli import segment_meta as segment_meta_builder
from cls.cli.command import execute
from cls.dataset.cache import record_folders
from cls.dataset.shards import open_shards
from cls.exporting.publish import ExportConfig, export_run
from cls.loading.load import load_group_from
from cls.people.photos import Person, read_photo
from cls.pictures.database import PictureRecord, PicturesDatabase, Status
from cls.sample.config import SampleConfig
from cls.sample.make import make_sample
from cls.segmentation.gallery import GalleryConfig, build_gallery
from cls.settings import load_settings
from cls.training.runs.folder import run_folders
from tests.bottles import train_tiny_run

GROUPS = ("top_color", "hat")
_OUTLINE = np.array([(0.3, 0.1), (0.7, 0.1), (0.7, 0.9), (0.3, 0.9)])


@dataclass(frozen=True)
class FullBottle:
    """A bottle beside the sample photos that it was loaded from.

    Attributes:
        folder: holds configuration.yaml, the bottle and `photos/`.
        bottle: it.
    """

    folder: Path
    bottle: Bottle

    @property
    def cfg(self) -> str:
        return str(self.bottle.settings.file)

    @property
    def run(self) -> Path:
        return run_folders(self.bottle, GROUPS[0])[0]

    def copy_to(self, folder: Path, database_url: str = "") -> FullBottle:
        """A copy; with a URL, its pictures database is there."""
        shutil.copytree(self.folder, folder)
        if database_url:
            with PicturesDatabase.open(self.bottle.database_url) as known, PicturesDatabase.open(database_url) as new:
                new.write_people(list(known.records().values()), replace=False)
            (folder / "classification_data" / "pictures.sqlite").unlink()
        return _opened(folder, database_url)

    def picset_of_training(self) -> str:
        """A picset that the run was trained on."""
        return str(json.loads((self.run / "split.json").read_text())["train"][0][1])

    def pictures_of(self, picset: str) -> list[str]:
        return [row.path for row in read_dataset(self.bottle.dataset_file(GROUPS[0])).rows if row.picset == picset]

    def forget(self, *words: object) -> int:
        """Runs `cls forget`; its exit status."""
        return execute(forget.COMMAND, [*map(str, words), "--cfg", self.cfg, "--quiet"])

    def load(self) -> None:
        for group in GROUPS:
            load_group_from(self.bottle, group, folder=self.folder / "photos", workers=2)

    def write_rows(self) -> None:
        """Rows for all photos of the pool, as a segmentation would; those that are there stay."""
        names = sorted(path.name for path in self.bottle.pictures.iterdir())
        records = []
        for name in names:
            height_px, width_px, _ = read_photo(self.bottle.picture(name)).shape
            box = (0.3 * width_px, 0.1 * height_px, 0.7 * width_px, 0.9 * height_px)
            person = Person("female", 0.9, box, (_OUTLINE,))
            records.append(PictureRecord(name, "best", Status.UNCHECKED, (person,)))
        with PicturesDatabase.open(self.bottle.database_url) as database:
            database.write_people(records, replace=False)

    def rows(self) -> set[str]:
        with PicturesDatabase.open(self.bottle.database_url) as database:
            return set(database.records())

    def cutouts_of(self, pictures: list[str]) -> list[bytes]:
        """Bytes out of the middle of the cached cut-outs of pictures."""
        shards = [shard for folder in record_folders(self.bottle.cache) for shard in open_shards(folder)]
        return [
            record[len(record) // 3 :][:400].tobytes()
            for shard in shards
            for entry, record in zip(shard.entries, shard.records().values(), strict=True)
            if entry.picture in pictures
        ]

    def files_with(self, *contents: str | bytes) -> set[str]:
        """Files below the bottle that hold one of these: in their name or bytes, also packed ones."""
        wanted = [one.encode() if isinstance(one, str) else one for one in contents]
        return {
            str(file.relative_to(self.bottle.root))
            for file in self.bottle.root.rglob("*")
            if any(one in part for one in wanted for part in _bytes_of(file))
        }


def _bytes_of(file: Path) -> Iterator[bytes]:
    yield file.name.encode()
    if not file.is_file():
        return
    content = file.read_bytes()
    yield content
    if file.suffix == ".parquet":
        yield polars.read_parquet(file).select("picture").write_csv().encode()
    yield from _members(content)


def _members(content: bytes) -> Iterator[bytes]:
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                inner = archive.read(name)
                yield name.encode()
                yield inner
                yield from _members(inner)


def _opened(folder: Path, database_url: str = "") -> FullBottle:
    text = "data_path: 'classification_data'\n"
    (folder / "configuration.yaml").write_text(text + f"pictures_info_db_url: '{database_url}'\n" * bool(database_url))
    return FullBottle(folder, Bottle(load_settings(folder / "configuration.yaml", environment={})))


def make_full_bottle(folder: Path) -> FullBottle:
    """Sample photos loaded as two groups, trained on, exported with people, predicted in all formats, cut out."""
    make_sample(folder / "photos", SampleConfig(24, 3, "160x120", workers=1))
    full = _opened(folder)
    full.load()
    full.write_rows()
    bottle, group = full.bottle, GROUPS[0]
    run = train_tiny_run(bottle, arch="test_efficientnet", height_px=32, width_px=32, valid=0.4, cache="png")
    (run.folder / "bad_batch").mkdir()
    np.savez(
        run.folder / "bad_batch" / "epoch_0_batch_0.npz", pictures=np.array(full.pictures_of(full.picset_of_training()))
    )
    export_run(bottle, run, ExportConfig(("onnx",), carry_samples=2))
    build_gallery(bottle, group, GalleryConfig(size_px=64))
    words = ["--group", group, "--format", "csv,jsonl,parquet", "--sort-into", str(bottle.inference(group) / "sorted")]
    assert execute(inference.COMMAND, [*words, "--cfg", full.cfg, "--quiet"]) == 0
    assert execute(segment_meta_builder.COMMAND, ["--groups", group, "--cfg", full.cfg, "--quiet"]) == 0
    return full
