from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from cls.attribute_sets.attribute_set import some_pictures
from cls.attribute_sets.layouts import EVALUATED, read_set
from cls.errors import AttributeSetError, UsageError
from tests.attribute_sets.published import (
    PA100K_LABELS,
    RAP_ATTRIBUTES,
    RAP_SELECTED,
    cell,
    labels_of_picture,
    write_pa100k,
    write_peta,
    write_peta_archives,
    write_rapv2,
)


def subsets_of(official: object) -> list[str]:
    assert isinstance(official, dict)
    return sorted(official.values())


def test_pa100k_is_read(tmp_path: Path) -> None:
    read = read_set("pa100k", write_pa100k(tmp_path))
    assert read.labels == PA100K_LABELS
    assert subsets_of(read.official) == ["test"] * 8 + ["train"] * 16 + ["valid"] * 6
    assert [p.labels for p in read.pictures] == [tuple(map(float, labels_of_picture(n, 4))) for n in range(1, 31)]
    assert all(p.file.is_file() for p in read.pictures)
    assert read.official[read.pictures[16].name] == "valid"
    assert not read.has_identities
    assert not read.problems


def test_pa100k_in_the_folders_others_use(tmp_path: Path) -> None:
    write_pa100k(tmp_path)
    (tmp_path / "annotation").mkdir()
    (tmp_path / "annotation.mat").rename(tmp_path / "annotation" / "annotation.mat")
    (tmp_path / "release_data" / "release_data").rename(tmp_path / "data")
    (tmp_path / "release_data").rmdir()
    assert all(p.file.is_file() for p in read_set("pa100k", tmp_path).pictures)


def test_peta_is_read(tmp_path: Path) -> None:
    read = read_set("peta", write_peta(tmp_path))
    assert read.labels == ("personalLess30", "upperBodyCasual", "hairLong", "personalMale")
    assert len(read.pictures) == 36
    assert [p.identity for p in read.pictures[:4]] == ["person 1"] * 3 + ["person 2"]
    assert read.pictures[3].labels == tuple(map(float, labels_of_picture(2, 4)))
    assert read.has_identities
    assert subsets_of(read.official) == ["test"] * 12 + ["train"] * 18 + ["valid"] * 6


def test_another_published_partition_is_another_one(tmp_path: Path) -> None:
    write_peta(tmp_path)
    first, second = (read_set("peta", tmp_path, partition=number) for number in (1, 5))
    assert first.official != second.official
    with pytest.raises(UsageError) as caught:
        read_set("peta", tmp_path, partition=6)
    assert caught.value.code == "usage.out_of_range"
    assert "--partition" in caught.value.what
    assert "from 1 to 5" in caught.value.what
    assert "found 6" in caught.value.what
    with pytest.raises(UsageError) as caught:
        read_set("pa100k", write_pa100k(tmp_path / "other"), partition=2)
    assert caught.value.code == "usage.out_of_range"
    assert "--partition" in caught.value.what
    assert "PA-100K" in caught.value.what
    assert "found 2" in caught.value.what


def test_peta_as_its_authors_published_it(tmp_path: Path) -> None:
    read = read_set("peta", write_peta_archives(tmp_path))
    assert read.labels == EVALUATED
    assert len(EVALUATED) == len(set(EVALUATED)) == 35
    by_name = {picture.name: picture for picture in read.pictures}
    assert len(by_name) == 8
    first = by_name["3DPeS-100_3_FRAME_26_RGB.bmp"]
    assert first.identity == by_name["3DPeS-100_3_FRAME_4_RGB.bmp"].identity == "3DPeS 100"
    assert {EVALUATED[i] for i, value in enumerate(first.labels) if value} == {"personalLess30", "hairLong"}
    second = by_name["3DPeS-2_3_FRAME_4_RGB.bmp"]
    assert {EVALUATED[i] for i, value in enumerate(second.labels) if value} == {"personalMale", "footwearSneaker"}
    # The subset that names files instead of people.
    assert by_name["MIT-00001.jpg"].labels[EVALUATED.index("personalMale")] == 1
    assert by_name["MIT-00002.jpg"].labels[EVALUATED.index("personalMale")] == 0
    assert read.official == {}
    assert read_set("peta", tmp_path / "PETA dataset").labels == EVALUATED


def test_peta_archives_say_what_has_no_labels(tmp_path: Path) -> None:
    write_peta_archives(tmp_path)
    labels = tmp_path / "PETA dataset" / "3DPeS" / "archive" / "Label.txt"
    labels.write_text("1 hairLong\nnobody hairLong\n1 personalMale\n100 hairLong\n")
    read = read_set("peta", tmp_path)
    assert len(read.pictures) == 6
    assert len(read.problems) == 4
    assert "3DPeS/archive/Label.txt:2: 'nobody' is not the number of a person" in read.problems
    assert "3DPeS/archive/Label.txt:3: '1' has other attributes in line 1" in read.problems
    assert "3DPeS/archive/2_3_FRAME_4_RGB.bmp: Label.txt has no line for it" in read.problems
    labels.write_text("")
    (tmp_path / "PETA dataset" / "MIT" / "archive" / "Label.txt").write_text("")
    with pytest.raises(AttributeSetError) as caught:
        read_set("peta", tmp_path)
    assert caught.value.code == "attribute_set.no_labelled_pictures"


def test_rapv2_is_read(tmp_path: Path) -> None:
    read = read_set("rapv2", write_rapv2(tmp_path))
    assert read.labels == tuple(RAP_ATTRIBUTES[column - 1] for column in RAP_SELECTED)
    assert math.isnan(read.pictures[0].labels[1])  # 2: uncertain
    assert not any(math.isnan(value) for p in read.pictures[1:] for value in p.labels)
    assert [p.identity for p in read.pictures[:4]] == ["person 1"] * 3 + ["person 2"]
    # Nobody annotated who it is: the tracklet counts as one person.
    assert read.pictures[-1].identity == read.pictures[-2].identity != read.pictures[-4].identity
    assert read.pictures[-1].identity == "CAM02-2014-02-15-20140215161032-20140215162620-tarid11"
    assert subsets_of(read.official) == ["test"] * 8 + ["train"] * 21 + ["valid"] * 7


def test_a_tracklet_that_is_half_annotated_is_one_person(tmp_path: Path) -> None:
    identities = np.array([7, -1, -1] + [-1] * 33, np.int16)[:, None]
    read = read_set("rapv2", write_rapv2(tmp_path, person_identity=identities))
    assert [p.identity for p in read.pictures[:3]] == ["person 7"] * 3
    assert read.pictures[3].identity.startswith("CAM")


def test_rapv2_without_identities(tmp_path: Path) -> None:
    read = read_set("rapv2", write_rapv2(tmp_path, person_identity=None))
    assert len({p.identity for p in read.pictures}) == 12
    assert read.has_identities


@pytest.mark.parametrize(
    ("layout", "wanted"),
    [("pa100k", "annotation.mat"), ("peta", "PETA.mat"), ("rapv2", "RAP_annotation/RAP_annotation.mat")],
)
def test_another_folder_says_what_was_looked_for(tmp_path: Path, layout: str, wanted: str) -> None:
    (tmp_path / "holiday").mkdir()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(AttributeSetError) as caught:
        read_set(layout, tmp_path)
    assert caught.value.code == "attribute_set.wrong_layout"
    assert wanted in caught.value.line()
    assert caught.value.line().endswith(" holiday/, notes.txt")
    with pytest.raises(AttributeSetError) as caught:
        read_set(layout, tmp_path / "nowhere")
    assert caught.value.code == "attribute_set.not_found"
    assert caught.value.where == str(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("layout", "write", "folder"),
    [("pa100k", write_pa100k, "release_data"), ("peta", write_peta, "images"), ("rapv2", write_rapv2, "RAP_dataset")],
)
def test_missing_pictures_folder(tmp_path: Path, layout: str, write: object, folder: str) -> None:
    assert callable(write)
    write(tmp_path)
    (tmp_path / folder).rename(tmp_path / "elsewhere")
    with pytest.raises(AttributeSetError) as caught:
        read_set(layout, tmp_path)
    assert caught.value.code == "attribute_set.wrong_layout"
    assert folder in caught.value.what


def test_unknown_layout() -> None:
    with pytest.raises(UsageError) as caught:
        read_set("voc", Path())
    assert caught.value.code == "usage.unknown_option_value"
    assert "pa100k, peta, rapv2" in caught.value.what
    assert "'voc'" in caught.value.what


def test_a_file_of_version_7_3_says_how_to_convert_it(tmp_path: Path) -> None:
    write_pa100k(tmp_path)
    header = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(116) + b"\0" * 8 + b"\x00\x02IM"
    (tmp_path / "annotation.mat").write_bytes(header.ljust(512, b"\0") + b"\x89HDF\r\n\x1a\n" + b"\0" * 100)
    with pytest.raises(AttributeSetError) as caught:
        read_set("pa100k", tmp_path)
    assert caught.value.code == "attribute_set.unsupported_version"
    assert "'-v7'" in caught.value.line()


@pytest.mark.parametrize("share", [0.0, 0.05, 0.2, 0.5, 0.99])
def test_a_file_that_is_cut_off(tmp_path: Path, share: float) -> None:
    write_pa100k(tmp_path)
    file = tmp_path / "annotation.mat"
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(AttributeSetError) as caught:
        read_set("pa100k", tmp_path)
    assert caught.value.code == "attribute_set.damaged"
    assert "annotation.mat" in str(caught.value.where)


def test_a_file_that_is_no_matlab_file(tmp_path: Path) -> None:
    write_pa100k(tmp_path)
    (tmp_path / "annotation.mat").write_bytes(b"\x80\x04\x95 this is a pickle, say" * 40)
    with pytest.raises(AttributeSetError) as caught:
        read_set("pa100k", tmp_path)
    assert caught.value.code == "attribute_set.damaged"


def test_labels_of_the_wrong_width(tmp_path: Path) -> None:
    write_pa100k(tmp_path, val_label=np.zeros((6, 3), np.uint8))
    with pytest.raises(AttributeSetError) as caught:
        read_set("pa100k", tmp_path)
    assert caught.value.code == "attribute_set.wrong_size"
    assert re.findall(r"\d", caught.value.what) == ["6", "3", "6", "4"]
    assert "val_label" in str(caught.value.where)


def test_too_few_rows_of_labels(tmp_path: Path) -> None:
    write_pa100k(tmp_path, train_label=np.zeros((15, 4), np.uint8))
    with pytest.raises(AttributeSetError) as caught:
        read_set("pa100k", tmp_path)
    assert caught.value.code == "attribute_set.wrong_size"
    assert "15 rows" in caught.value.what
    assert "train_label" in str(caught.value.where)


def test_a_missing_variable_names_those_there_are(tmp_path: Path) -> None:
    write_pa100k(tmp_path, test_label=None)
    with pytest.raises(AttributeSetError) as caught:
        read_set("pa100k", tmp_path)
    assert caught.value.code == "attribute_set.missing_variable"
    assert "'test_label'" in caught.value.what
    assert "attributes, " in str(caught.value.hint)


def test_a_missing_field_names_those_there_are(tmp_path: Path) -> None:
    write_rapv2(tmp_path, selected_attribute=None)
    with pytest.raises(AttributeSetError) as caught:
        read_set("rapv2", tmp_path)
    assert caught.value.code == "attribute_set.missing_field"
    assert "'selected_attribute'" in caught.value.what
    assert "name, data, " in str(caught.value.hint)


@pytest.mark.parametrize(
    ("changes", "code", "field", "value"),
    [
        ({"name": np.zeros((36, 1))}, "not_a_cell_array", "name", ""),
        ({"data": cell(["a"] * 36)}, "not_a_matrix", "data", ""),
        ({"attribute": np.arange(6.0)[:, None]}, "not_a_cell_array", "attribute", ""),
        ({"attribute": cell([1.0] * 6)}, "not_a_text", "attribute{1}", ""),
        ({"selected_attribute": np.array([[1, 7]])}, "index_out_of_range", "selected_attribute", "row 7 of 6"),
        ({"partition_attribute": cell([1.0])}, "not_a_structure", "partition_attribute{1}", ""),
        ({"data": np.zeros((36, 5), np.uint8)}, "wrong_size", "data", "36 pictures of 6 labels"),
    ],
)
def test_values_of_another_kind(tmp_path: Path, changes: dict[str, object], code: str, field: str, value: str) -> None:
    write_rapv2(tmp_path, **changes)
    with pytest.raises(AttributeSetError) as caught:
        read_set("rapv2", tmp_path)
    assert caught.value.code == f"attribute_set.{code}"
    assert str(caught.value.where).endswith(f".{field}")
    assert value in caught.value.what


def test_a_partition_that_points_outside_or_twice(tmp_path: Path) -> None:
    def partition(test: list[float]) -> object:
        parts = {"train": [1.0, 2.0], "val": [3.0], "test": test}
        return cell([{name: np.array(numbers)[:, None] for name, numbers in parts.items()}])

    write_peta(tmp_path, partion_attribute=partition([4.0, 37.0]))
    with pytest.raises(AttributeSetError) as caught:
        read_set("peta", tmp_path)
    assert caught.value.code == "attribute_set.index_out_of_range"
    assert "row 37 of 36" in caught.value.what
    assert "partion_attribute{1}.test" in str(caught.value.where)
    write_peta(tmp_path, partion_attribute=partition([4.0, 2.0]))
    with pytest.raises(AttributeSetError) as caught:
        read_set("peta", tmp_path)
    assert caught.value.code == "attribute_set.overlapping_parts"
    assert "picture 2" in caught.value.what
    assert "'train'" in caught.value.what


def test_peta_whose_columns_do_not_fit(tmp_path: Path) -> None:
    write_peta(tmp_path, data=np.zeros((36, 5), np.uint16))
    with pytest.raises(AttributeSetError) as caught:
        read_set("peta", tmp_path)
    assert caught.value.code == "attribute_set.wrong_size"
    assert "5 columns" in caught.value.what
    write_peta(tmp_path, selected_attribute=np.array([[1, 2]]))
    with pytest.raises(AttributeSetError) as caught:
        read_set("peta", tmp_path)
    assert caught.value.code == "attribute_set.wrong_column"
    assert "column 1 " in caught.value.what


def test_names_that_lead_elsewhere_are_left_out(tmp_path: Path) -> None:
    names = ["../../secret.jpg", "/etc/passwd", "000018.jpg", "000018.jpg", "", "000022.jpg"]
    read = read_set("pa100k", write_pa100k(tmp_path, val_images_name=cell(names)))
    assert [p.name for p in read.pictures if read.official[p.name] == "valid"] == ["000018.jpg", "000022.jpg"]
    assert len(read.problems) == 4
    assert "annotation.mat: val_images_name row 4: '000018.jpg' stands there twice" in read.problems


def test_a_sample_of_a_set_keeps_its_parts_in_proportion(tmp_path: Path) -> None:
    whole = read_set("peta", write_peta(tmp_path))
    some = some_pictures(whole, 12)
    assert subsets_of(some.official) == ["test"] * 4 + ["train"] * 6 + ["valid"] * 2
    assert {p.name for p in some.pictures} == set(some.official)
    assert some_pictures(whole, 36) is whole
    assert set(some_pictures(whole, 1).official.values()) == {"train", "valid", "test"}


def test_a_set_of_one_picture_reads_like_any(tmp_path: Path) -> None:
    read = read_set("pa100k", write_pa100k(tmp_path, counts=(1, 1, 1)))
    assert [read.official[p.name] for p in read.pictures] == ["train", "valid", "test"]
