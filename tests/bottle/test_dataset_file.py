"""datasets/<group>.json: what is written is read again, by us and by existing tools."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cls.bottle.dataset_file import (
    GroupDataset,
    LabelledRow,
    loaded_groups,
    read_dataset,
    write_dataset,
    write_dataset_if_changed,
)
from cls.errors import BottleError, FileError
from cls.files import safe_name

TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)
LABEL = TEXT.filter(lambda text: text != "path")


@st.composite
def datasets(draw: st.DrawFn) -> GroupDataset:
    labels = tuple(draw(st.lists(LABEL, max_size=5, unique=True)))
    names = draw(st.lists(TEXT, max_size=8, unique=True))
    rows = tuple(
        LabelledRow(
            name,
            tuple(draw(st.lists(st.sampled_from([0.0, 1.0]), min_size=len(labels), max_size=len(labels)))),
            draw(TEXT | st.just("")),
        )
        for name in names
    )
    return GroupDataset(draw(TEXT), labels, rows, {"ledger": draw(st.dictionaries(TEXT, TEXT, max_size=2))})


@given(datasets())
def test_what_is_written_is_read_again(dataset: GroupDataset) -> None:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "d.json"
        write_dataset(file, dataset)
        assert read_dataset(file) == dataset


@given(datasets())
def test_the_four_keys_are_as_existing_tools_read_them(dataset: GroupDataset) -> None:
    """As a tool that knows nothing of us reads it: json, then the string of columns, then numpy."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "d.json"
        write_dataset(file, dataset)
        content = json.loads(file.read_text(encoding="utf-8"))
    assert content["cat"] == [dataset.group]
    assert [content["num2label"][str(n)] for n in range(len(dataset.labels))] == list(dataset.labels)
    columns = json.loads(content["data"])
    assert list(columns) == ["path", *dataset.labels]
    positives = []
    for number, row in enumerate(dataset.rows):
        assert columns["path"][str(number)] == row.path
        assert [columns[label][str(number)] for label in dataset.labels] == list(row.labels)
    for label in dataset.labels:
        assert all(type(value) is float for value in columns[label].values())
        positives.append(sum(columns[label].values()))
    total = sum(positives)
    assert content["weights"] == [total / count if count else 0.0 for count in positives]


def older_file(path: Path, **changes: Any) -> Path:
    """A file as older tools write it: four keys, `data` by pandas."""
    content = {
        "cat": ["hair_color"],
        "num2label": {"0": "black hair", "1": "blonde hair"},
        "weights": [2.0, 2.0],
        "data": json.dumps(
            {
                "path": {"0": "a.jpeg", "7": "b.jpeg"},
                "black hair": {"0": 1.0, "7": 0.0},
                "blonde hair": {"0": 0, "7": 1},
            }
        ),
        **changes,
    }
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def test_an_older_file_is_read(tmp_path: Path) -> None:
    dataset = read_dataset(older_file(tmp_path / "d.json"))
    assert dataset == GroupDataset(
        "hair_color",
        ("black hair", "blonde hair"),
        (LabelledRow("a.jpeg", (1.0, 0.0)), LabelledRow("b.jpeg", (0.0, 1.0))),
    )
    assert dataset.weights == [2.0, 2.0]


def test_a_group_named_as_text_is_read_whole(tmp_path: Path) -> None:
    assert read_dataset(older_file(tmp_path / "d.json", cat="hair_color")).group == "hair_color"


def test_labels_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """As numbers, not as text: 10 comes after 9."""
    labels = {str(n): f"label {n}" for n in reversed(range(12))}
    data = {"path": {"0": "a.jpeg"}, **{label: {"0": 0.0} for label in labels.values()}}
    file = older_file(tmp_path / "d.json", num2label=labels, data=json.dumps(data))
    assert read_dataset(file).labels == tuple(f"label {n}" for n in range(12))


def test_a_missing_value_means_not_labelled(tmp_path: Path) -> None:
    data = {"path": {"0": "a.jpeg"}, "black hair": {"0": None}, "blonde hair": {"0": 1.0}}
    assert read_dataset(older_file(tmp_path / "d.json", data=json.dumps(data))).rows[0].labels == (0.0, 1.0)


def test_unknown_labels_are_null_and_stay_unknown(tmp_path: Path) -> None:
    unknown = float("nan")
    rows = (LabelledRow("a.jpeg", (1.0, unknown)), LabelledRow("b.jpeg", (0.0, 1.0)))
    write_dataset(tmp_path / "g.json", GroupDataset("g", ("hat", "scarf"), rows))
    content = json.loads((tmp_path / "g.json").read_text())
    assert content["weights"] == [2.0, 2.0]
    assert json.loads(content["data"])["scarf"] == {"0": None, "1": 1.0}
    read = read_dataset(tmp_path / "g.json")
    assert math.isnan(read.rows[0].labels[1])
    assert (read.rows[0].labels[0], read.rows[1].labels, read.extra) == (1.0, (0.0, 1.0), {})
    assert not write_dataset_if_changed(tmp_path / "g.json", read)


def test_a_photo_in_two_rows_has_the_labels_of_both(tmp_path: Path) -> None:
    data = {
        "path": {"0": "a.jpeg", "1": "a.jpeg"},
        "black hair": {"0": 1.0, "1": 0.0},
        "blonde hair": {"0": 0.0, "1": 1.0},
    }
    rows = read_dataset(older_file(tmp_path / "d.json", data=json.dumps(data))).rows
    assert rows == (LabelledRow("a.jpeg", (1.0, 1.0)),)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"data": "{"}, "bottle.not_a_dataset"),
        ({"data": "[]"}, "bottle.not_a_dataset"),
        ({"data": '{"path": {"0": "a.jpeg"}}'}, "bottle.not_a_dataset"),
        (
            {"data": '{"path": {"0": "a.jpeg"}, "black hair": {"0": "yes"}, "blonde hair": {"0": 1.0}}'},
            "bottle.not_a_dataset",
        ),
        ({"num2label": ["black hair"]}, "bottle.not_a_dataset"),
        ({"num2label": {"first": "black hair"}}, "bottle.not_a_dataset"),
        ({"num2label": {"0": "path"}}, "bottle.not_a_dataset"),
        ({"num2label": {"0": "black hair", "1": "black hair"}}, "bottle.duplicate_label"),
        ({"cat": []}, "bottle.not_a_dataset"),
        ({"cat": None}, "bottle.not_a_dataset"),
        ({"picsets": []}, "bottle.not_a_dataset"),
    ],
)
def test_what_is_no_dataset_is_told_with_its_file(tmp_path: Path, changes: dict[str, Any], code: str) -> None:
    file = older_file(tmp_path / "d.json", **changes)
    with pytest.raises(BottleError) as caught:
        read_dataset(file)
    assert (caught.value.code, caught.value.where) == (code, str(file))
    assert len(caught.value.line().splitlines()) == 1


@pytest.mark.parametrize("content", ["[]", "5", "null", '"text"'])
def test_json_of_another_kind(tmp_path: Path, content: str) -> None:
    file = tmp_path / "d.json"
    file.write_text(content)
    with pytest.raises(BottleError) as caught:
        read_dataset(file)
    assert (caught.value.code, caught.value.where) == ("bottle.not_a_dataset", str(file))


def test_what_is_not_json(tmp_path: Path) -> None:
    file = tmp_path / "d.json"
    file.write_text("{\n 'a': 1}")
    with pytest.raises(FileError) as caught:
        read_dataset(file)
    assert (caught.value.code, caught.value.where) == ("file.not_json", f"{file}:2:2")


def test_a_missing_file_says_which_command_makes_it(tmp_path: Path) -> None:
    with pytest.raises(BottleError) as caught:
        read_dataset(tmp_path / "none.json", 'top "x"')
    assert (caught.value.code, caught.value.where) == ("bottle.group_not_loaded", str(tmp_path / "none.json"))
    assert 'top "x"' in caught.value.what
    assert '--group "top \\"x\\""' in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("labels", "rows", "code"),
    [
        (("path",), (), "bottle.reserved_label"),
        (("hat", "hat"), (), "bottle.duplicate_label"),
        (("hat",), (LabelledRow("a", (1.0,)), LabelledRow("a", (0.0,))), "bottle.duplicate_row"),
        (("hat",), (LabelledRow("a", ()),), "bottle.wrong_label_count"),
    ],
)
def test_what_columns_cannot_hold_is_refused(
    tmp_path: Path, labels: tuple[str, ...], rows: tuple[LabelledRow, ...], code: str
) -> None:
    with pytest.raises(BottleError) as caught:
        write_dataset(tmp_path / "d.json", GroupDataset("g", labels, rows))
    assert (caught.value.code, caught.value.where) == (code, str(tmp_path / "d.json"))
    assert not (tmp_path / "d.json").exists()


def test_an_unchanged_dataset_is_not_written_again(tmp_path: Path) -> None:
    file = tmp_path / "d.json"
    first = GroupDataset("g", ("hat",), (LabelledRow("a", (1.0,), "p"),), {"ledger": {"loaded_at": "1"}})
    later = GroupDataset("g", ("hat",), (LabelledRow("a", (1.0,), "p"),), {"ledger": {"loaded_at": "2"}})
    other = GroupDataset("g", ("hat",), (LabelledRow("a", (0.0,), "p"),), {"ledger": {"loaded_at": "2"}})
    assert write_dataset_if_changed(file, first, ignoring=["ledger"])
    before = file.read_bytes()
    assert not write_dataset_if_changed(file, later, ignoring=["ledger"])
    assert file.read_bytes() == before
    assert write_dataset_if_changed(file, later)
    assert write_dataset_if_changed(file, other, ignoring=["ledger"])
    file.write_text("{")
    assert write_dataset_if_changed(file, other, ignoring=["ledger"])
    assert read_dataset(file) == other


def test_loaded_groups(tmp_path: Path) -> None:
    assert loaded_groups(tmp_path / "none") == []
    groups = sorted(["hair_color", "hat & cap", "a/b", "color " * 60, "x" * 300])
    for group in groups:
        write_dataset(tmp_path / f"{safe_name(group)}.json", GroupDataset(group, ("one",), ()))
    (tmp_path / ".hat.json.part").write_text("")
    assert loaded_groups(tmp_path) == groups
