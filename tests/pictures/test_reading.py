"""Reading a pictures database that is not there yet: it is empty, and stays absent."""

from __future__ import annotations

from pathlib import Path

import pytest

from cls.bottle.layout import Bottle
from cls.cli.command import Command, execute
from cls.errors import DatabaseError
from cls.pictures.database import PicturesDatabase
from tests.bottles import GROUP, make_tiny_bottle
from tests.pictures.people import record


def _tree(bottle: Bottle) -> dict[str, int]:
    return {str(path.relative_to(bottle.root)): path.stat().st_mtime_ns for path in bottle.root.rglob("*")}


def test_a_file_that_does_not_exist_reads_as_empty_and_is_not_made(tmp_path: Path) -> None:
    file = tmp_path / "not yet" / "pictures.sqlite"
    with PicturesDatabase.open_for_reading(f"sqlite:///{file}") as database:
        assert database.count() == 0
        assert database.known_paths(["a.jpeg"]) == set()
        assert database.records() == {}
        assert database.records(["a.jpeg", "b.jpeg"]) == {}
        with pytest.raises(DatabaseError) as caught:
            database.set_status(["a.jpeg"], "approved")
        assert caught.value.code == "database.opened_read_only"
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_exists_is_read_and_not_written(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'pictures.sqlite'}"
    with PicturesDatabase.open(url) as database:
        database.write_people([record("a.jpeg")], replace=False)
    with PicturesDatabase.open_for_reading(url) as database:
        assert database.count() == 1
        with pytest.raises(DatabaseError) as caught:
            database.write_people([record("b.jpeg")], replace=False)
        assert caught.value.code == "database.opened_read_only"


def test_a_path_that_is_no_file_is_still_refused(tmp_path: Path) -> None:
    with pytest.raises(DatabaseError) as caught:
        PicturesDatabase.open_for_reading(f"sqlite:///{tmp_path}")
    assert caught.value.code == "database.file_not_opened"


def _commands() -> list[tuple[str, Command, list[str]]]:
    from cls.cli import export, train
    from cls.cli import infer as inference
    from cls.cli import masks as mask_builder
    from cls.cli import segment_meta as segment_meta_builder

    return [
        ("train", train.COMMAND, ["--cat", GROUP]),
        ("masks", mask_builder.COMMAND, ["--group", GROUP]),
        ("export", export.COMMAND, ["--group", GROUP]),
        ("inference", inference.COMMAND, ["--group", GROUP]),
        ("segment-meta", segment_meta_builder.COMMAND, ["--groups", GROUP]),
    ]


@pytest.mark.parametrize(("name", "command", "words"), _commands())
def test_a_refused_command_leaves_the_bottle_as_it_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, command: Command, words: list[str]
) -> None:
    bottle = make_tiny_bottle(tmp_path)
    (bottle.root / "pictures.sqlite").unlink()
    before = _tree(bottle)
    assert execute(command, [*words, "--cfg", str(bottle.settings.file)]) == 1
    assert "error: " in capsys.readouterr().err
    assert _tree(bottle) == before, name
