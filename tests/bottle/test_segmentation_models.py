from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cls.bottle.ledger import digests_of_models, read_models, remember_model
from cls.errors import BottleError, FileError
from cls.files import sha256_of_file


def model_of(folder: Path, content: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "best.pt"
    file.write_text(content)
    return file


def test_each_file_of_a_version_is_kept_once(tmp_path: Path) -> None:
    segments = tmp_path / "segments"
    assert digests_of_models(segments, ["best"]) == {"best": []}
    first, second = model_of(tmp_path / "a", "one"), model_of(tmp_path / "b", "two")
    remember_model(segments, "best", first)
    before = (segments / "models.json").read_bytes()
    remember_model(segments, "best", first)
    assert (segments / "models.json").read_bytes() == before
    remember_model(segments, "best", second)
    files = read_models(segments)["best"]
    assert [(file.sha256, file.file) for file in files] == [
        (sha256_of_file(first), "best.pt"),
        (sha256_of_file(second), "best.pt"),
    ]
    assert all(file.first_used.endswith("Z") for file in files)
    wanted = sorted(file.sha256 for file in files)
    assert digests_of_models(segments, ["best", "foreign"]) == {"best": wanted, "foreign": []}


def test_builders_side_by_side_lose_nothing(tmp_path: Path) -> None:
    segments = tmp_path / "segments"
    models = [model_of(tmp_path / str(number), str(number)) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda file: remember_model(segments, "best", file), models))
    assert len(read_models(segments)["best"]) == 8


@pytest.mark.parametrize("content", [[], {"best": [{"sha256": 1}]}, {"best": [{"sha256": 1, "file": 2}]}, {"best": 3}])
def test_a_foreign_file_is_refused(tmp_path: Path, content: object) -> None:
    (tmp_path / "models.json").write_text(json.dumps(content))
    with pytest.raises(BottleError) as caught:
        read_models(tmp_path)
    assert caught.value.code == "bottle.damaged_model_list"
    assert caught.value.where == str(tmp_path / "models.json")
    (tmp_path / "models.json").write_text("{")
    with pytest.raises(FileError) as refused:
        read_models(tmp_path)
    assert refused.value.code == "file.not_json"
