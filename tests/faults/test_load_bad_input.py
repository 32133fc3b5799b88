"""Bad input to load_group.py and load_json.py: one line that says what, where and what next; nothing made."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cls.errors import FileError
from cls.loading.load import read_guids
from tests.collector.photos import small_set
from tests.collector.servers import flaky_collector, run_script, serving


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A collector with a password."""
    folder = small_set(tmp_path_factory.mktemp("photos"))
    with serving(folder, "--login", "ann", CLS_COLLECTOR_PASSWORD="right") as url:
        yield url


def assert_refused(done: subprocess.CompletedProcess[str], bottle: Path, *words: str, status: int = 1) -> None:
    """One line on stderr with all the words, the status, nothing on stdout, no secret, and no bottle."""
    assert done.returncode == status, done.stdout
    lines = [line for line in done.stderr.splitlines() if " INFO " not in line]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    for word in words:
        assert word in lines[0], lines[0]
    assert done.stdout == ""
    assert "wrong-secret" not in done.stderr
    assert "Traceback" not in done.stderr
    assert not bottle.exists()


def code_of(*arguments: str, **variables: str) -> str:
    """The code of the error that the load of a group ends with."""
    done = run_script("load_group.py", "--group", "hair_color", *arguments, "--debug", **variables)
    assert done.returncode == 1
    return done.stderr.splitlines()[-1].rpartition(" ")[2].strip("[]")


def test_no_configuration(tmp_path: Path) -> None:
    done = run_script("load_group.py", "--group", "hair_color", "--cfg", str(tmp_path / "none.yaml"))
    assert_refused(done, tmp_path / "classification_data", "none.yaml", "--cfg")
    assert code_of("--cfg", str(tmp_path / "none.yaml")) == "settings.not_found"


def test_an_unknown_key_and_a_wrong_type_are_told_at_once(tmp_path: Path) -> None:
    cfg = tmp_path / "configuration.yaml"
    cfg.write_text("data_path: 'bottle'\ncolector_url: 'http://127.0.0.1'\npictures_dir: 5\n")
    done = run_script("load_group.py", "--group", "hair_color", "--cfg", str(cfg))
    assert_refused(done, tmp_path / "bottle", "colector_url", "pictures_dir", str(cfg))


def test_collector_down(configuration: Callable[..., Path], tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
        cfg = str(configuration(collector_url=address))
        done = run_script("load_group.py", "--group", "hair_color", "--cfg", cfg)
        assert code_of("--cfg", cfg) == "collector.unreachable"
    assert_refused(done, tmp_path / "classification_data", address, "collector_url")


def test_wrong_password(collector: str, configuration: Callable[..., Path], tmp_path: Path) -> None:
    cfg = configuration(collector_url=collector, collector_login="ann")
    done = run_script(
        "load_group.py", "--group", "hair_color", "--cfg", str(cfg), CLS_COLLECTOR_PASSWORD="wrong-secret"
    )
    assert_refused(done, tmp_path / "classification_data", "'ann'", "CLS_COLLECTOR_PASSWORD")
    assert code_of("--cfg", str(cfg), CLS_COLLECTOR_PASSWORD="wrong-secret") == "collector.login_refused"


def test_the_password_is_never_shown(collector: str, configuration: Callable[..., Path], tmp_path: Path) -> None:
    """Not with --debug either, and not in the bottle."""
    cfg = configuration(collector_url=collector, collector_login="ann")
    variables = {"CLS_COLLECTOR_PASSWORD": "right"}
    done = run_script("load_group.py", "--group", "hair_color", "--cfg", str(cfg), "--debug", **variables)
    assert done.returncode == 0, done.stderr
    assert "right" not in done.stdout + done.stderr
    for file in (tmp_path / "classification_data").rglob("*"):
        assert not file.is_file() or b"right" not in file.read_bytes()


def test_unknown_group_names_the_groups_of_our_own_collector(
    collector: str, configuration: Callable[..., Path], tmp_path: Path
) -> None:
    cfg = configuration(collector_url=collector, collector_login="ann")
    done = run_script("load_group.py", "--group", "hat", "--cfg", str(cfg), CLS_COLLECTOR_PASSWORD="right")
    assert_refused(done, tmp_path / "classification_data", "group 'hat'", "accessories, hair_color")


def test_unknown_group_of_a_collector_that_lists_none(configuration: Callable[..., Path], tmp_path: Path) -> None:
    with flaky_collector() as url:
        done = run_script("load_group.py", "--group", "hat", "--cfg", str(configuration(collector_url=url)))
    assert_refused(done, tmp_path / "classification_data", "group 'hat'", "--group", "VALIDATED")


def test_an_address_that_is_no_collector(configuration: Callable[..., Path], tmp_path: Path) -> None:
    with flaky_collector(login_status=404) as url:
        done = run_script("load_group.py", "--group", "hat", "--cfg", str(configuration(collector_url=url)))
    assert_refused(done, tmp_path / "classification_data", "HTTP 404", "collector_url")


def test_pictures_that_are_no_pictures_are_told_of(configuration: Callable[..., Path], tmp_path: Path) -> None:
    with flaky_collector(pictures=12, html=[0, 4]) as url:
        done = run_script("load_group.py", "--group", "hair_color", "--cfg", str(configuration(collector_url=url)))
    assert done.returncode == 0, done.stderr
    assert "left out: 2 pictures" in done.stdout
    assert "2: the file is not a picture" in done.stdout
    assert len(list((tmp_path / "classification_data" / "pictures").iterdir())) == 10


@pytest.mark.parametrize(
    ("options", "words", "status"),
    [
        (["--group", " "], ["--group"], 2),
        (["--group", "hat", "--workers", "0"], ["--workers"], 2),
        (["--group", "hat", "--source", "nowhere"], ["nowhere", "there is no folder"], 2),
    ],
)
def test_options(
    configuration: Callable[..., Path], tmp_path: Path, options: list[str], words: list[str], status: int
) -> None:
    done = run_script("load_group.py", *options, "--cfg", str(configuration()))
    assert_refused(done, tmp_path / "classification_data", *words, status=status)


def test_a_folder_without_the_group_names_its_groups(configuration: Callable[..., Path], tmp_path: Path) -> None:
    folder = small_set(tmp_path / "photos")
    done = run_script("load_group.py", "--group", "hat", "--source", str(folder), "--cfg", str(configuration()))
    assert_refused(done, tmp_path / "classification_data", "hat", "accessories, hair_color")


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (None, "file.not_found", []),
        ("{", "file.not_json", [":1:"]),
        ("[]", "file.unexpected_content", ["picsets"]),
        (json.dumps({"picsets": []}), "file.no_picsets", []),
        (
            json.dumps({"picsets": [["d9e3a1c2-0000-4000-8000-000000000001"], ["a shoot"]]}),
            "file.row_without_guid",
            ["picsets.1", "GUID"],
        ),
    ],
)
def test_picset_lists(
    configuration: Callable[..., Path], tmp_path: Path, content: str | None, code: str, words: list[str]
) -> None:
    file = tmp_path / "picsets.json"
    if content is not None:
        file.write_text(content)
    with pytest.raises(FileError) as caught:
        read_guids(file)
    assert caught.value.code == code
    done = run_script("load_json.py", "--json_path", str(file), "--cfg", str(configuration()))
    assert_refused(done, tmp_path / "classification_data", "picsets.json", *words)
