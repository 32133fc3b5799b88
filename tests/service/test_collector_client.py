"""The client against our own collector in another process: every method, and the whole script."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from cls.bottle.dataset_file import read_dataset
from cls.collector.client import CollectorClient, Login, PictureMissingError, RetryPolicy
from cls.collector.listing import ListedPhoto
from cls.collector.payloads import picset_of
from cls.errors import CollectorError
from tests.collector.photos import PICSET_A, PICSET_B, small_set, tagged_set
from tests.collector.servers import run_script, serving

FILEPATH_A = f"d/9/e/{PICSET_A}/p/a.jpeg"


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_set(tmp_path_factory.mktemp("set"))


@pytest.fixture(scope="module")
def url(photos: Path) -> Iterator[str]:
    with serving(photos, "--login", "ann", CLS_COLLECTOR_PASSWORD="secret") as address:
        yield address


@pytest.fixture
def client(url: str) -> Iterator[CollectorClient]:
    with CollectorClient(url + "/", login=Login("ann", "secret")) as opened:
        yield opened


def test_listing(client: CollectorClient) -> None:
    listed = client.list_pictures("hair_color")
    assert listed["black hair"][0] == ListedPhoto(FILEPATH_A, PICSET_A)
    with pytest.raises(CollectorError) as caught:
        client.list_pictures("hat")
    assert caught.value.code == "collector.no_photos"
    assert "'hat'" in caught.value.what


def test_picsets(client: CollectorClient) -> None:
    found = list(client.picsets([PICSET_A, "unknown", PICSET_B]))
    assert [picset.guid for picset in found] == [PICSET_A, PICSET_B]
    assert found[0].groups == ("accessories", "hair_color")
    assert found[0].filepaths[0] == FILEPATH_A
    assert list(client.picsets([])) == []


def test_modes_and_predictions(client: CollectorClient, url: str) -> None:
    def move(mode: str, scheme: str) -> None:
        token = httpx.post(f"{url}/v1/login", json={"login": "ann", "password": "secret"}).json()["token"]
        headers = {"Authorization": f"{scheme} {token}"}
        assert httpx.post(f"{url}/v1/picset/{mode}", json={"guids": [PICSET_B]}, headers=headers).status_code == 200

    picset = json.loads(json.dumps(dict(next(client.picsets([PICSET_B])).content)))
    picset["items"][0]["trained"] = [{"gender": "male", "bbox": [0, 0, 1, 1], "groups": []}]
    picset["picset"]["neural_version"] = {"hair_color": "v__0_train_eff_4_0.001"}
    client.change_trained(partial(picset_of, picset, where="test"))
    move("checking", "token")
    shown = next(client.picsets([PICSET_B])).content
    assert shown["items"][0]["trained"] == picset["items"][0]["trained"]
    assert shown["picset"]["mode"] == "CHECKING"
    move("preparing", "bearer")
    assert next(client.picsets([PICSET_B])).content["picset"]["mode"] == "PREPARING"
    with pytest.raises(CollectorError) as caught:
        client.change_trained(partial(picset_of, {"picset": {"guid": "no"}}, where="test"))
    assert caught.value.code == "collector.unexpected_status"
    assert "HTTP 404 (there is no picset no" in caught.value.what, "the collector's own words"


def test_pictures(client: CollectorClient, photos: Path) -> None:
    assert client.read(FILEPATH_A) == (photos / "images" / "a.jpeg").read_bytes()
    with pytest.raises(PictureMissingError) as caught:
        client.read("0/0/0/none.jpeg")
    assert caught.value.code == "collector.picture_missing"
    assert "HTTP 404" in caught.value.what
    assert str(caught.value.where).endswith("/0/0/0/none.jpeg")


def test_wrong_password_is_told_once_without_retries(url: str) -> None:
    client = CollectorClient(url, login=Login("ann", "wrong-secret"))
    with pytest.raises(CollectorError) as caught:
        client.login()
    client.close()
    assert caught.value.code == "collector.login_refused"
    assert "'ann'" in caught.value.what
    assert "wrong-secret" not in caught.value.line()


def test_addresses_are_shown_without_login_and_password(url: str) -> None:
    client = CollectorClient(url.replace("http://", "http://user:hidden@").replace("127.0.0.1:", "127.0.0.1:1"))
    with pytest.raises(CollectorError) as caught:
        client.list_pictures("hat")
    client.close()
    assert caught.value.code == "collector.unreachable"
    assert "hidden" not in caught.value.line()
    assert "hidden" not in client.url


def test_many_threads_share_one_login(url: str) -> None:
    with CollectorClient(url, connections=4, login=Login("ann", "secret")) as client:
        failures: list[Exception] = []

        def fetch() -> None:
            try:
                for _ in range(10):
                    client.read(FILEPATH_A)
            except CollectorError as error:
                failures.append(error)

        threads = [threading.Thread(target=fetch) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failures == []


def test_tokens_of_our_own_collector_are_renewed(photos: Path) -> None:
    import time

    with serving(photos, "--token-ttl-s", "0.2") as address, CollectorClient(address, policy=RetryPolicy()) as client:
        for _ in range(4):
            assert client.read(FILEPATH_A)
            assert len(list(client.picsets([PICSET_A]))) == 1
            assert client.change_trained(lambda: next(client.picsets([PICSET_A])))
            time.sleep(0.15)


def test_the_script_with_odd_names(tmp_path: Path, configuration: Callable[..., Path]) -> None:
    """Spaces, other alphabets and signs in group, category and file names, from the listing to the dataset."""
    group = "цвет волос & 100% 'real'"
    rows = [("фото 1#?.jpeg", "тёмные;light & fair", ""), ("a+b%20c.jpeg", "", ""), ("b=1;2.jpeg", "тёмные", "shoot 1")]
    folder = tagged_set(tmp_path / "set", rows, {group: ["тёмные", "light & fair"]})
    with serving(folder) as address:
        done = run_script("load_group.py", "--group", group, "--cfg", str(configuration(collector_url=address)))
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "classification_data" / "datasets").glob("*.json")
    dataset = read_dataset(file)
    assert dataset.group == group
    assert dataset.labels == ("light & fair", "тёмные")
    assert {row.path: row.labels for row in dataset.rows} == {
        "фото 1#?.jpeg": (1.0, 1.0),
        "a+b%20c.jpeg": (0.0, 0.0),
        "b=1;2.jpeg": (0.0, 1.0),
    }


def test_the_script_loads_picsets_by_guid(tmp_path: Path, configuration: Callable[..., Path], photos: Path) -> None:
    listed = tmp_path / "picsets.json"
    listed.write_text(json.dumps({"picsets": [[PICSET_A], [PICSET_B]]}))
    with serving(photos, "--state", str(tmp_path / "state")) as address:
        cfg = configuration(collector_url=address)
        done = run_script("load_json.py", "--json_path", str(listed), "--cfg", str(cfg))
        assert done.returncode == 0, done.stderr
        with CollectorClient(address) as client:
            modes = {picset.content["picset"]["mode"] for picset in client.picsets([PICSET_A, PICSET_B])}
    assert modes == {"VALIDATED"}
    assert done.stdout.splitlines()[:3] == [
        "pictures: 4 fetched, 0 already there",
        "  accessories: 2 picsets",
        "  hair_color: 2 picsets",
    ]
    assert len(list((tmp_path / "classification_data" / "meta" / "hair_color").iterdir())) == 2


def test_pictures_from_another_address(tmp_path: Path, configuration: Callable[..., Path], photos: Path) -> None:
    """Some collectors keep their pictures on a plain web server, which asks for no token."""
    root = tmp_path / "static"
    for guid, names in ((PICSET_A, "ab"), (PICSET_B, "cd")):
        (root / "/".join(guid[:3]) / guid / "p").mkdir(parents=True)
        for name in names:
            content = (photos / "images" / f"{name}.jpeg").read_bytes()
            (root / "/".join(guid[:3]) / guid / "p" / f"{name}.jpeg").write_bytes(content)
    handler = partial(SimpleHTTPRequestHandler, directory=str(root))
    static = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=static.serve_forever, daemon=True).start()
    with serving(photos, "--state", str(tmp_path / "state")) as address:
        cfg = configuration(collector_url=address, collector_static_url=f"http://127.0.0.1:{static.server_address[1]}/")
        done = run_script("load_group.py", "--group", "hair_color", "--cfg", str(cfg))
    static.shutdown()
    static.server_close()
    assert done.returncode == 0, done.stderr
    assert "4 pictures fetched" in done.stdout


def test_a_static_address_of_another_collector(
    tmp_path: Path, configuration: Callable[..., Path], photos: Path, url: str
) -> None:
    """A token of one collector is not good at another: told once, not picture by picture."""
    with serving(photos, "--state", str(tmp_path / "state")) as address:
        cfg = configuration(collector_url=address, collector_static_url=url)
        done = run_script("load_group.py", "--group", "hair_color", "--cfg", str(cfg))
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert "collector_static_url" in lines[0]
