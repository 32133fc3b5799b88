from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from cls.cli.command import execute
from cls.cli.yolo import TRAIN
from cls.errors import UsageError, YoloError
from cls.yolo.coco import list_archives, open_archives
from cls.yolo.config import DatasetConfig, YoloTraining
from cls.yolo.dataset import DatasetReport, create_dataset
from cls.yolo.merging import merge_archives
from cls.yolo.yolo_files import find_datasets, label_file_of, read_data_file, subset_of_key
from tests.yolo.zips import annotation, picture, write_zip

CONFIG = DatasetConfig(val_share=0.3)

# Small as a text, and ten thousand million names once its aliases are written out.
ALIASES = "names: &a0 [x]\n" + "".join(f"a{n + 1}: &a{n + 1} [{', '.join([f'*a{n}'] * 10)}]\n" for n in range(10))


def source_of(folder: Path, picsets: int, *, first: int = 0, is_picset_known: bool = True) -> Path:
    """A merged folder of three pictures a picset."""
    names = {f"s{n}_{k}.jpg": f"picset-{n}" for n in range(first, first + picsets) for k in range(3)}
    write_zip(
        folder / "zips" / "1.zip",
        {name: picture(number + 1000 * first) for number, name in enumerate(names)},
        {name: [annotation(name="girl" if number % 2 else "man")] for number, name in enumerate(names)},
        picsets=names if is_picset_known else None,
    )
    merge_archives(open_archives(list_archives(folder / "zips")), folder / "merged")
    return folder / "merged"


def parts(dataset: Path) -> dict[str, str]:
    split = json.loads((dataset / "split.json").read_text())["pictures"]
    for name, entry in split.items():
        assert (dataset / "images" / entry["part"] / name).is_file()
        assert (dataset / "labels" / entry["part"] / name).with_suffix(".txt").is_file()
    files = sorted(path.name for path in (dataset / "images").rglob("*.jpg"))
    assert files == sorted(split)
    return {name: entry["part"] for name, entry in split.items()}


def make(source: Path, destination: Path, config: DatasetConfig = CONFIG) -> DatasetReport:
    return create_dataset(source, destination, [], config)


def test_no_picset_is_in_both_parts_and_more_pictures_move_none(tmp_path: Path) -> None:
    few = source_of(tmp_path / "few", 8)
    make(few, tmp_path / "dataset")
    before = parts(tmp_path / "dataset")
    by_picset: dict[str, set[str]] = {}
    for name, part in before.items():
        by_picset.setdefault(name.split("_")[0], set()).add(part)
    assert all(len(found) == 1 for found in by_picset.values())
    assert set(before.values()) == {"train", "val"}

    many = source_of(tmp_path / "many", 8, first=8)
    write_zip_of_both = tmp_path / "both" / "zips"
    write_zip_of_both.mkdir(parents=True)
    shutil.copy(tmp_path / "few" / "zips" / "1.zip", write_zip_of_both / "1.zip")
    shutil.copy(tmp_path / "many" / "zips" / "1.zip", write_zip_of_both / "2.zip")
    merge_archives(open_archives(list_archives(write_zip_of_both)), tmp_path / "both" / "merged")
    make(tmp_path / "both" / "merged", tmp_path / "dataset")
    after = parts(tmp_path / "dataset")
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + len(list((many / "images").iterdir()))


def test_copies_of_a_picture_stay_together_where_no_picset_is_known(tmp_path: Path) -> None:
    pictures = {f"{n}_{kind.lower()}": picture(n, kind=kind) for n in range(12) for kind in ("JPEG", "PNG")}
    names = {f"{stem}.{'jpg' if stem.endswith('jpeg') else 'png'}": data for stem, data in pictures.items()}
    write_zip(tmp_path / "zips" / "1.zip", names, {name: [annotation()] for name in names})
    merge_archives(open_archives(list_archives(tmp_path / "zips")), tmp_path / "merged")
    make(tmp_path / "merged", tmp_path / "dataset")
    split = json.loads((tmp_path / "dataset" / "split.json").read_text())["pictures"]
    together = [split[f"{n}_jpeg.jpg"]["part"] == split[f"{n}_png.png"]["part"] for n in range(12)]
    assert all(together)


def test_labels_are_the_outlines(tmp_path: Path) -> None:
    make(source_of(tmp_path, 5), tmp_path / "dataset")
    data = yaml.safe_load((tmp_path / "dataset" / "data.yaml").read_text())
    assert data == {"train": "images/train", "val": "images/val", "names": {0: "girl", 1: "man"}}
    dataset = read_data_file(tmp_path / "dataset" / "data.yaml")
    found = [label for part in ("train", "val") for path in dataset.pictures(part) for label in dataset.labels(path)]
    assert sorted(label.class_name for label in found) == ["girl"] * 7 + ["man"] * 8
    for label in found:
        assert np.allclose(label.outline_xy_rel.min(axis=0), (0.25, 0), atol=1e-4)
        assert np.allclose(label.outline_xy_rel.max(axis=0), (0.5, 0.75), atol=1e-4)


def test_existing_datasets_are_merged_by_class_names(tmp_path: Path) -> None:
    old = tmp_path / "old" / "people"
    make(source_of(tmp_path / "a", 6), old, DatasetConfig(0.3, ("man", "girl")))  # numbers the other way round
    before = parts(old)
    source = source_of(tmp_path / "b", 7)  # the same six picsets and one more
    report = create_dataset(source, tmp_path / "new", find_datasets(tmp_path / "old"), CONFIG)
    after = parts(tmp_path / "new")
    assert {name: after[name] for name in before} == before
    assert len(report.duplicates) == len(before)
    assert read_data_file(tmp_path / "new" / "data.yaml").class_names == ("girl", "man")
    assert sum(sum(count.values()) for count in report.people.values()) == 21
    assert sum(count["girl"] for count in report.people.values()) == 10


def test_a_picset_follows_a_picture_of_it_in_another_tools_dataset(tmp_path: Path) -> None:
    source = source_of(tmp_path / "a", 6)
    images = sorted((source / "images").iterdir())
    chosen = next(path for path in images if subset_of_key(f"picset picset-{path.name[1]}", val_share=0.3) == "train")
    other = tmp_path / "other"
    for part, path in (("valid", chosen), ("train", next(p for p in images if p.name[1] != chosen.name[1]))):
        (other / part / "images").mkdir(parents=True)
        (other / part / "labels").mkdir()
        shutil.copy(path, other / part / "images" / path.name)
        (other / part / "labels" / path.name).with_suffix(".txt").write_text("0 0.1 0.1 0.5 0.1 0.5 0.5\n")
    # As other tools write it: relative to somewhere else.
    (other / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['woman']\n")
    report = create_dataset(source, tmp_path / "new", find_datasets(other), CONFIG)
    after = parts(tmp_path / "new")
    picset = chosen.name.split("_")[0]
    assert {part for name, part in after.items() if name.startswith(f"{picset}_")} == {"val"}
    assert len(report.duplicates) == 2
    assert read_data_file(tmp_path / "new" / "data.yaml").class_names == ("girl", "man", "woman")


def test_a_part_is_never_left_empty(tmp_path: Path) -> None:
    make(source_of(tmp_path, 2), tmp_path / "dataset", DatasetConfig(val_share=0.0001))
    assert sorted(set(parts(tmp_path / "dataset").values())) == ["train", "val"]
    with pytest.raises(YoloError) as caught:
        make(source_of(tmp_path / "one", 1), tmp_path / "other")
    assert caught.value.code == "yolo.not_enough_picsets"
    assert not (tmp_path / "other" / "data.yaml").exists()


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    source = source_of(tmp_path, 3)
    with pytest.raises(YoloError) as caught:
        make(tmp_path, tmp_path / "dataset")
    assert caught.value.code == "yolo.no_annotations"
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("mine")
    with pytest.raises(YoloError) as caught:
        make(source, full)
    assert (caught.value.code, caught.value.where) == ("yolo.folder_not_empty", str(full))
    with pytest.raises(YoloError) as caught:
        make(source, tmp_path / "dataset", DatasetConfig(0.3, ("cat",)))
    assert caught.value.code == "yolo.unknown_classes"
    assert "cat" in caught.value.what
    with pytest.raises(UsageError) as refused:
        DatasetConfig(val_share=1.5)
    assert refused.value.code == "usage.invalid_options"
    assert not (tmp_path / "dataset").exists()


def test_wrong_options_of_a_training_are_told_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wrong = ("--epochs", "0", "--batch", "x", "--image-size", "16", "--seed", "-1", "--patience", "-1")
    words = ["--data", str(tmp_path / "data.yaml"), "--model", "none.pt", *wrong, "--nominal-batch", "0"]
    cfg = tmp_path / "configuration.yaml"
    cfg.write_text("data_path: data\n")
    assert execute(TRAIN, [*words, "--cfg", str(cfg)]) == 2
    line = capsys.readouterr().err
    assert all(f"{name}: expected " in line for name in (*wrong[::2], "--nominal-batch"))
    with pytest.raises(UsageError) as refused:
        YoloTraining(tmp_path / "data.yaml", "none.pt", 0, 0)
    assert [fault.partition(":")[0] for fault in refused.value.faults] == ["--epochs", "--batch"]


def test_pictures_that_changed_or_went_are_left_out_and_told(tmp_path: Path) -> None:
    source = source_of(tmp_path, 4)
    images = sorted((source / "images").iterdir())
    images[0].unlink()
    images[1].write_bytes(b"broken")
    images[2].write_bytes(picture(77, 30, 30))
    report = make(source, tmp_path / "dataset")
    assert [problem.split(":")[0] for problem in report.problems] == [path.name for path in images[:3]]
    assert len(parts(tmp_path / "dataset")) == 9


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("0 0.1 0.1 0.5 0.5", "yolo.box_label"),
        ("0 0.1 0.1 0.5", "yolo.invalid_outline"),
        ("9 0 0 1 0 1 1", "yolo.invalid_label"),
        ("x 0 0 1 0 1 1", "yolo.invalid_label"),
    ],
)
def test_labels_that_are_no_outlines_are_refused_with_their_line(tmp_path: Path, line: str, code: str) -> None:
    make(source_of(tmp_path, 3), tmp_path / "dataset")
    dataset = read_data_file(tmp_path / "dataset" / "data.yaml")
    path = next(dataset.pictures("train"))
    label_file_of(path).write_text(f"\n{line}\n")
    with pytest.raises(YoloError) as caught:
        dataset.labels(path)
    assert (caught.value.code, caught.value.where) == (code, f"{label_file_of(path)}:2")


@pytest.mark.parametrize(
    ("text", "place"),
    [("", ""), ("names: 3", ""), ("- a", ""), ("names: [a]\ntrain: [", ":2:9"), ("train: x", ""), (ALIASES, "")],
)
def test_a_data_file_that_is_none(tmp_path: Path, text: str, place: str) -> None:
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(YoloError) as caught:
        read_data_file(tmp_path / "data.yaml")
    assert (caught.value.code, caught.value.where) == ("yolo.invalid_data_file", f"{tmp_path / 'data.yaml'}{place}")
    with pytest.raises(YoloError) as caught:
        read_data_file(tmp_path / "other.yaml")
    assert (caught.value.code, caught.value.where) == ("yolo.not_found", str(tmp_path / "other.yaml"))
