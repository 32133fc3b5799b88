from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

import pytest
from pydantic import Field, ValidationError

from cls.errors import FileError
from cls.records import JsonLines, Record, read_record


class _Counts(Record):
    train: int = 0


def test_a_change_of_a_field_that_is_not_there_is_refused() -> None:
    assert _Counts(train=1).replaced(train=2) == _Counts(train=2)
    with pytest.raises(TypeError, match="trian"):
        _Counts(train=1).replaced(trian=2)


def test_a_change_is_validated_and_keeps_what_was_read() -> None:
    read = _Counts.model_validate({"later": [1]})
    assert read.replaced().to_json_values() == {"later": [1]}
    assert read.replaced(train="2").to_json_values() == {"later": [1], "train": 2}
    with pytest.raises(ValidationError):
        read.replaced(train="many")


class Visit(NamedTuple):
    place: str
    times: int = 1


class _Scores(Record):
    counts: _Counts = _Counts()
    visits: dict[str, int] = Field(default_factory=dict)
    last: Visit | None = None
    share: float = Field(0, ge=0)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (3, "expected an object"),
        ({"counts": 3}, "counts: expected an object"),
        ({"visits": []}, "visits: expected an object"),
        ({"last": 3}, "last: expected a list"),
        ({"last": []}, "last.0: missing"),
        ({"share": -1}, "share: expected a value greater than or equal to 0"),
        ({"share": "x"}, "share: expected a valid number"),
    ],
)
def test_faults_name_no_class(tmp_path: Path, content: object, said: str) -> None:
    file = tmp_path / "scores.json"
    file.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(FileError) as caught:
        read_record(file, _Scores)
    assert caught.value.code == "file.invalid_content"
    assert said in caught.value.what
    assert not re.search("Input|instance|dictionary|_Counts|_Scores|Visit", caught.value.what)


def test_lines_are_appended_and_read_again(tmp_path: Path) -> None:
    file = tmp_path / "folder" / "visits.jsonl"
    lines = JsonLines(file, Visit)
    assert list(lines.read()) == []
    lines.append(Visit("Köln"), Visit("Rome", 2))
    lines.append(Visit("Bath"), is_durable=True)
    assert list(JsonLines(file, Visit).read()) == [Visit("Köln"), Visit("Rome", 2), Visit("Bath")]
    assert file.read_text("utf-8").startswith('["Köln", 1]\n')
    lines.replace([Visit("Bath", 3)])
    assert list(lines.read()) == [Visit("Bath", 3)]


def test_a_line_cut_off_takes_no_other_with_it(tmp_path: Path) -> None:
    lines = JsonLines(tmp_path / "visits.jsonl", Visit)
    lines.append(Visit("Rome"))
    with (tmp_path / "visits.jsonl").open("ab") as stream:
        stream.write(b'["Bath", "many"]\n\xff\n["Ox')
    lines.append(Visit("York"))
    assert list(lines.read()) == [Visit("Rome"), Visit("York")]


def test_lines_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileError) as error:
        list(JsonLines(tmp_path, Visit).read())
    assert error.value.code == "file.unreadable"
    with pytest.raises(FileError) as error:
        JsonLines(tmp_path / "file" / "visits.jsonl", Visit).append(Visit("Rome"))
    assert error.value.code == "file.unwritable"
