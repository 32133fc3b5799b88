"""`cls collector serve` in a process of its own speaks the collector's interface, and lets nothing else out."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from cls.collector.server import CollectorState, _bind
from cls.errors import CollectorError, FileError
from cls.settings import REPOSITORY
from tests.collector.photos import PICSET_A, PICSET_B, small_set, write_photo
from tests.collector.servers import SERVE, environment, serving
from tests.preloaded import Program, run_program
from tests.processes import default_signals

ALL_MODES = ["PREPARING", "CHECKING", "VALIDATED"]
FILEPATH_A = f"d/9/e/{PICSET_A}/p/a.jpeg"


class Caller:
    """Speaks the interface as written in the specification, without our client."""

    def __init__(self, url: str, login: str = "ann", password: str = "any") -> None:
        self.http = httpx.Client(base_url=url)
        answer = self.http.post("/v1/login", json={"login": login, "password": password})
        assert answer.status_code == 200, answer.text
        assert set(answer.json()) == {"token"}
        self.token = answer.json()["token"]

    def post(self, path: str, body: Any, scheme: str = "bearer") -> httpx.Response:
        return self.http.post(path, json=body, headers={"Authorization": f"{scheme} {self.token}"})

    def pictures(self, group: str, modes: list[str] | None = None) -> dict[str, Any]:
        body = {"listBy": 0, "categories": [], "groups": [group], "mode": modes or ALL_MODES}
        answer = self.post("/v1/meta/pictures", body)
        assert answer.status_code == 200, answer.text
        data: dict[str, Any] = answer.json()["data"]
        return data

    def picset(self, guid: str) -> dict[str, Any]:
        answer = self.post("/v1/meta/picsets", {"guids": [guid]})
        found: dict[str, Any] = answer.json()["data"][0]
        return found


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_set(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def url(photos: Path) -> Iterator[str]:
    with serving(photos) as address:
        yield address


@pytest.fixture
def caller(url: str) -> Caller:
    return Caller(url)


def test_pictures_by_category(caller: Caller) -> None:
    data = caller.pictures("hair_color")
    assert list(data) == ["black hair", "blonde hair", "hair_color trash"]
    entries = data["black hair"]["pictures"]
    assert entries[0] == {"filepath": FILEPATH_A, "picsetGuid": PICSET_A, "filename": "a.jpeg"}
    assert [entry["picsetGuid"] for entry in data["hair_color trash"]["pictures"]] == [PICSET_B]


def test_an_unknown_group_has_no_pictures_and_a_message(caller: Caller) -> None:
    answer = caller.post("/v1/meta/pictures", {"listBy": 0, "categories": [], "groups": ["hat"], "mode": ALL_MODES})
    assert answer.json()["data"] == {}
    assert "accessories, hair_color" in answer.json()["message"]


def test_no_group_and_named_categories(caller: Caller) -> None:
    every = caller.post("/v1/meta/pictures", {"listBy": 0, "categories": [], "groups": [], "mode": ALL_MODES})
    assert set(every.json()["data"]) >= {"black hair", "bag", "accessories trash"}
    one = caller.post("/v1/meta/pictures", {"listBy": 0, "categories": ["bag"], "groups": [], "mode": ALL_MODES})
    assert list(one.json()["data"]) == ["bag"]


@pytest.mark.parametrize("body", [{"listBy": 1}, {"mode": ["SLEEPING"]}, {"groups": "hat"}, [], "x"])
def test_requests_that_are_not_the_interface(caller: Caller, body: Any) -> None:
    assert caller.post("/v1/meta/pictures", body).status_code in (400, 422)


def test_picsets(caller: Caller) -> None:
    answer = caller.post("/v1/meta/picsets", {"guids": [PICSET_B, "unknown", PICSET_A, PICSET_A]})
    data = answer.json()["data"]
    assert [entry["picset"]["guid"] for entry in data] == [PICSET_B, PICSET_A]
    assert data[1]["picset"]["group"] == [{"group": "accessories"}, {"group": "hair_color"}]
    assert data[1]["items"][0]["origin"]["width"] == 32


def test_a_picture_with_its_content_type(caller: Caller, photos: Path) -> None:
    answer = caller.http.get(f"/{FILEPATH_A}", headers={"Authorization": f"bearer {caller.token}"})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "image/jpeg"
    assert answer.content == (photos / "images" / "a.jpeg").read_bytes()
    head = caller.http.head(f"/{FILEPATH_A}")
    assert (head.status_code, head.content) == (200, b"")
    assert int(head.headers["content-length"]) == len(answer.content)


@pytest.mark.parametrize(
    "path",
    [
        "/../tags.csv",
        "/images/../tags.csv",
        "/..%2f..%2fetc%2fpasswd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "//etc/passwd",
        "/etc/passwd",
        "/tags.csv",
        "/images/a.jpeg",
        f"/d/9/e/{PICSET_A}/p/../../../../../tags.csv",
        f"/d/9/e/{PICSET_A}/p/a.jpeg/",
        f"/d/9/e/{PICSET_B}/p/a.jpeg",
        "/.collector/modes.json",
        "/%00",
        "/",
    ],
)
def test_no_address_leads_out_of_the_photos(url: str, path: str) -> None:
    """Sent as they stand: an ordinary client would tidy them first."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=10)
    connection.request("GET", path)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    assert answer.status == 404
    assert b"root:" not in content
    assert b"file,tags" not in content


@pytest.mark.parametrize(
    ("path", "scheme"),
    [
        ("/v1/meta/pictures", "bearer"),
        ("/v1/meta/picsets", "bearer"),
        ("/v1/picset/preparing", "bearer"),
        ("/v1/picset/checking", "token"),
        ("/v1/picset/trained", "token"),
    ],
)
def test_every_call_but_login_needs_its_token(url: str, path: str, scheme: str) -> None:
    with httpx.Client(base_url=url) as client:
        body = {"guids": [], "picset": {"guid": PICSET_A}, "items": []}
        assert client.post(path, json=body).status_code == 401
        assert client.post(path, json=body, headers={"Authorization": f"{scheme} nonsense"}).status_code == 401
        caller = Caller(url)
        other = {"bearer": "token", "token": "bearer"}[scheme]
        assert caller.post(path, body, other).status_code == 401
        assert caller.post(path, body, scheme).status_code == 200


def test_predictions_and_modes_are_shown_back_also_after_a_restart(tmp_path: Path) -> None:
    folder, state = small_set(tmp_path / "set"), tmp_path / "state"
    trained = [
        {
            "gender": "female",
            "bbox": [0.1, 0.2, 0.5, 0.9],
            "groups": [{"group": "hair_color", "category": ["black hair"]}],
            "extra": "kept",
        }
    ]
    with serving(folder, "--state", str(state)) as url:
        caller = Caller(url)
        picset = caller.picset(PICSET_A)
        assert picset["picset"]["mode"] == "VALIDATED"
        picset["items"][0]["trained"] = trained
        picset["picset"]["neural_version"] = {"hair_color": "v__0_train_eff_4_0.001"}
        assert caller.post("/v1/picset/trained", picset, "token").status_code == 200
        assert caller.post("/v1/picset/checking", {"guids": [PICSET_A]}, "token").status_code == 200
        assert list(caller.pictures("hair_color", ["CHECKING"])["black hair"]["pictures"])
        assert not caller.pictures("hair_color", ["VALIDATED"])["black hair"]["pictures"]
        again = caller.picset(PICSET_A)
        again["picset"]["neural_version"] = {"accessories": "v__3_all_eff_16_0.001"}
        assert caller.post("/v1/picset/trained", again, "token").status_code == 200
    with serving(folder, "--state", str(state)) as url:
        caller = Caller(url)
        picset = caller.picset(PICSET_A)
        assert picset["items"][0]["trained"] == trained
        assert picset["items"][1]["trained"] == []
        assert picset["picset"]["mode"] == "CHECKING"
        assert picset["picset"]["neural_version"] == {
            "hair_color": "v__0_train_eff_4_0.001",
            "accessories": "v__3_all_eff_16_0.001",
        }
        assert caller.post("/v1/picset/preparing", {"guids": [PICSET_A]}).status_code == 200
        assert caller.picset(PICSET_A)["picset"]["mode"] == "PREPARING"
    assert not (folder / ".collector").exists()


def test_predictions_for_what_it_does_not_have_are_refused(caller: Caller) -> None:
    unknown = {"picset": {"guid": "no"}, "items": []}
    assert caller.post("/v1/picset/trained", unknown, "token").status_code == 404
    strange = {"picset": {"guid": PICSET_A}, "items": [{"origin": {"filepath": "0/0/x.jpeg"}, "trained": []}]}
    assert caller.post("/v1/picset/trained", strange, "token").status_code == 422
    placeholder = {"picset": {"guid": PICSET_B}, "items": [{"origin": {"filepath": None}}, {"origin": {}}, {}]}
    assert caller.post("/v1/picset/trained", placeholder, "token").status_code == 200
    assert caller.post("/v1/picset/checking", {"guids": ["no"]}, "token").status_code == 404
    assert caller.post("/v1/picset/trained", {"items": []}, "token").status_code == 422


def test_a_state_that_cannot_be_written_is_told_and_reading_goes_on(tmp_path: Path) -> None:
    folder = small_set(tmp_path / "set")
    (folder / ".collector").write_text("a file where the folder belongs")
    with serving(folder) as url:
        caller = Caller(url)
        answer = caller.post("/v1/picset/checking", {"guids": [PICSET_A]}, "token")
        assert answer.status_code == 507
        assert "--state DIR" in answer.json()["detail"]
        assert str(tmp_path) not in answer.text
        assert caller.picset(PICSET_A)["picset"]["mode"] == "VALIDATED"


def test_a_password_is_asked_for_everywhere(photos: Path) -> None:
    with (
        serving(photos, "--login", "ann", CLS_COLLECTOR_PASSWORD="пароль") as url,
        httpx.Client(base_url=url) as client,
    ):
        for login, password in (("ann", "wrong"), ("bob", "пароль"), ("", ""), ("ann", "")):
            assert client.post("/v1/login", json={"login": login, "password": password}).status_code == 401
        assert client.get(f"/{FILEPATH_A}").status_code == 401
        caller = Caller(url, "ann", "пароль")
        assert caller.http.get(f"/{FILEPATH_A}", headers={"Authorization": f"bearer {caller.token}"}).status_code == 200


def test_tokens_expire(photos: Path) -> None:
    with serving(photos, "--token-ttl-s", "0.3") as url:
        caller = Caller(url)
        assert caller.post("/v1/meta/picsets", {"guids": []}).status_code == 200
        time.sleep(0.4)
        assert caller.post("/v1/meta/picsets", {"guids": []}).status_code == 401


def test_a_folder_a_category_and_a_limit(tmp_path: Path) -> None:
    for number in range(6):
        write_photo(tmp_path / ("cap" if number % 2 else "beret") / f"{number}.jpg", number)
    with serving(tmp_path, "--group", "hat", "--limit", "3", "--state", str(tmp_path / "state")) as url:
        data = Caller(url).pictures("hat")
        names = [entry["filename"] for category in data.values() for entry in category["pictures"]]
        assert sorted(names) == ["0.jpg", "2.jpg", "4.jpg"]


def test_the_interface_is_browsable(url: str) -> None:
    schema = httpx.get(f"{url}/openapi.json").json()
    assert {"/v1/login", "/v1/meta/pictures", "/v1/meta/picsets", "/v1/picset/trained"} <= set(schema["paths"])
    assert httpx.get(f"{url}/docs").status_code == 200


def refused(*arguments: str, status: int = 1, **variables: str) -> str:
    done = run_program(["-c", SERVE, *arguments], 30, cwd=REPOSITORY, env=environment(**variables))
    assert done.returncode == status, done.stderr
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    return done.stderr


def code_of_refusal(*arguments: str) -> str:
    done = run_program(["-c", SERVE, *arguments, "--debug"], 30, cwd=REPOSITORY, env=environment())
    assert done.returncode == 1, done.stderr
    return done.stderr.rpartition("[")[2].removesuffix("]\n")


def test_what_it_does_not_start_with(photos: Path, tmp_path: Path, url: str) -> None:
    assert code_of_refusal(str(photos), "--host", "0.0.0.0", "--port", "0") == "collector.missing_password"
    assert code_of_refusal(str(tmp_path / "none")) == "collector.folder_not_found"
    assert code_of_refusal(str(tmp_path)) == "collector.no_labelled_photos"
    wrong = ("--limit", "0", "--port", "70000", "--token-ttl-s", "0", "--group", " ")
    line = refused(str(photos), *wrong, status=2)
    assert all(f"{name}: expected " in line for name in wrong[::2])
    port = urlsplit(url).port
    assert port is not None
    assert f"127.0.0.1:{port}" in refused(str(photos), "--port", str(port))
    with pytest.raises(CollectorError) as caught:
        _bind("127.0.0.1", port)
    assert caught.value.code == "collector.cannot_listen"


@pytest.mark.parametrize("content", ["[]", '{"guid": "PERHAPS"}'])
def test_a_state_of_another_kind_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "modes.json").write_text(content)
    with pytest.raises(FileError) as caught:
        CollectorState(tmp_path)
    assert (caught.value.code, caught.value.where) == ("file.unexpected_content", str(tmp_path / "modes.json"))


def test_with_a_password_it_listens_elsewhere(photos: Path) -> None:
    with serving(photos, "--host", "0.0.0.0", CLS_COLLECTOR_PASSWORD="secret") as url:
        assert url.startswith("http://0.0.0.0:")
        Caller(url.replace("0.0.0.0", "127.0.0.1"), password="secret")


@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_it_says_one_line_and_stops_when_told(photos: Path, stop: signal.Signals) -> None:
    with default_signals():
        process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(photos), "--port", "0"],
            cwd=REPOSITORY,
            env=environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("collector: 4 photos, 2 groups (accessories, hair_color) at http://127.0.0.1:")
    os.kill(process.pid, stop)
    out, err = process.communicate(timeout=20)
    assert out == ""
    assert "Traceback" not in err
    assert process.returncode in (0, 130, -stop)


def test_a_kill_while_predictions_are_posted_leaves_no_half_state(tmp_path: Path) -> None:
    folder, state = small_set(tmp_path / "set"), tmp_path / "state"
    words = ["-c", SERVE, str(folder), "--port", "0", "--state", str(state)]
    process = Program(words, cwd=REPOSITORY, env=environment(), stdout=subprocess.PIPE)
    assert process.stdout is not None
    caller = Caller(process.stdout.readline().strip().rsplit(" at ", 1)[1])
    picset = caller.picset(PICSET_A)
    for number in range(20):
        picset["items"][0]["trained"] = [{"gender": "female", "number": number}]
        assert caller.post("/v1/picset/trained", picset, "token").status_code == 200
    os.kill(process.pid, signal.SIGKILL)
    process.wait(10)
    process.stdout.close()
    content = json.loads((state / "trained" / f"{PICSET_A}.json").read_text())
    assert content["items"][FILEPATH_A] == [{"gender": "female", "number": 19}]
