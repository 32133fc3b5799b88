"""Loading from a collector that is slow, busy, cut off, forgetful and wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from cls.bottle.dataset_file import read_dataset
from cls.bottle.layout import Bottle
from cls.collector.client import CollectorClient, Login, RetryPolicy
from cls.errors import CollectorError
from cls.loading.load import LoadedGroup, LoadReport, load_group
from cls.records import read_record
from tests.collector.servers import flaky_collector, run_script, stats

QUICK = RetryPolicy(attempts=5, timeout_s=20, wait_initial_s=0.02, wait_max_s=0.2, request_timeout_s=5)


def load(url: str, bottle: Bottle, group: str = "hair_color", policy: RetryPolicy = QUICK) -> LoadedGroup:
    with CollectorClient(url, policy=policy, login=Login("ann", "secret")) as client:
        return load_group(client, bottle, group, workers=8)


def names_in(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_everything_that_heals_is_waited_for(bottle: Bottle) -> None:
    with flaky_collector(pictures=70, faults=True, cut_silently=[0, 14, 21], busy_calls=2) as url:
        loaded = load(url, bottle)
        assert not loaded.report.skipped
        assert len(loaded.dataset.rows) == loaded.report.pictures_stored == 70
        assert stats(url)["most at once"] <= 8
    for row in loaded.dataset.rows:
        with Image.open(bottle.picture(row.path)) as image:
            image.load()
    assert names_in(bottle.pictures) == [row.path for row in loaded.dataset.rows]


def test_retry_after_is_obeyed(bottle: Bottle) -> None:
    """Picture 2 answers 429 and asks for a second: the policy alone would have come back after 0.02 s."""
    import time

    with flaky_collector(pictures=3, picsets=1, faults=True, retry_after="1") as url:
        started_s = time.monotonic()
        assert not load(url, bottle).report.skipped
        assert time.monotonic() - started_s >= 1.0


def test_a_wait_longer_than_our_patience_is_a_refusal(bottle: Bottle) -> None:
    with flaky_collector(pictures=3, picsets=1, faults=True, retry_after="86400") as url:
        loaded = load(url, bottle)
    (skipped,) = loaded.report.skipped
    assert "HTTP 429" in skipped.reason


@pytest.mark.parametrize("token_uses", [1, 3, 11])
def test_tokens_that_expire_in_the_middle_are_renewed(bottle: Bottle, token_uses: int) -> None:
    with flaky_collector(pictures=24, token_uses=token_uses) as url:
        workers = 1 if token_uses == 1 else 4
        with CollectorClient(url, policy=QUICK) as client:
            loaded = load_group(client, bottle, "hair_color", workers=workers)
        assert len(loaded.dataset.rows) == 24
        assert stats(url)["/v1/login"] >= 24 // token_uses


def test_a_token_that_is_never_good_is_an_error(bottle: Bottle) -> None:
    with flaky_collector(token_uses=0) as url:
        with pytest.raises(CollectorError) as caught:
            load(url, bottle)
        assert caught.value.code == "collector.unexpected_status"
        assert "HTTP 401" in caught.value.what
        assert stats(url)["/v1/login"] < 10


def test_what_is_no_picture_is_left_out_and_listed(bottle: Bottle) -> None:
    with flaky_collector(pictures=30, html=[3, 9], gone=[4], ill=[5], placeholders=True) as url:
        loaded = load(url, bottle)
    assert len(loaded.dataset.rows) == 26
    assert loaded.report.placeholders == 4
    reasons = sorted(picture.reason for picture in loaded.report.skipped)
    assert reasons == [
        "answered HTTP 404",
        "answered HTTP 500, also when asked again",
        "the file is not a picture (JPEG, PNG, WebP, BMP or TIFF)",
        "the file is not a picture (JPEG, PNG, WebP, BMP or TIFF)",
    ]
    assert names_in(bottle.pictures) == [row.path for row in loaded.dataset.rows]
    report = read_record(loaded.report_file, LoadReport)
    assert (report.skipped, report.photos) == (loaded.report.skipped, len(loaded.dataset.rows))
    assert (len(report.skipped), report.placeholders) == (4, 4)


def test_a_collector_that_refuses_every_picture_is_down(bottle: Bottle) -> None:
    with flaky_collector(pictures=300, all_ill=True) as url:
        with pytest.raises(CollectorError) as caught:
            load(url, bottle, policy=RetryPolicy(attempts=2, wait_initial_s=0.01, wait_max_s=0.02))
        assert caught.value.code == "collector.too_many_server_errors"
        assert stats(url)["pictures"] < 300
    assert not bottle.dataset_file("hair_color").exists()


def test_a_collector_that_goes_away_ends_the_load_and_keeps_what_is_there(bottle: Bottle) -> None:
    import threading
    import time

    with flaky_collector(pictures=200, latency_s=0.05) as url:
        failures: list[CollectorError] = []

        def run() -> None:
            try:
                load(url, bottle, policy=RetryPolicy(attempts=3, wait_initial_s=0.02, wait_max_s=0.1))
            except CollectorError as error:
                failures.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        while not bottle.pictures.exists() or len(names_in(bottle.pictures)) < 20:
            time.sleep(0.02)
    thread.join(30)
    assert len(failures) == 1
    assert failures[0].code == "collector.unreachable"
    assert not bottle.dataset_file("hair_color").exists()
    kept = names_in(bottle.pictures)
    assert 20 <= len(kept) < 200
    assert not [name for name in kept if name.endswith(".part")]


def test_a_picture_listed_twice_is_one_row_with_all_its_labels(bottle: Bottle) -> None:
    with flaky_collector(pictures=12, twice=True) as url:
        loaded = load(url, bottle)
        assert stats(url)["pictures"] == 12
    assert len({row.path for row in loaded.dataset.rows}) == len(loaded.dataset.rows) == 12
    assert loaded.dataset.labels == ("black hair", "blonde hair")
    assert sum(row.labels == (1.0, 1.0) for row in loaded.dataset.rows) == 4


def test_different_pictures_of_one_name_are_noticed(bottle: Bottle) -> None:
    with flaky_collector(pictures=6, clash=True) as url:
        first = load(url, bottle)
        again = load(url, bottle)
    assert len(first.dataset.rows) == 6
    for loaded in (first, again):
        assert [picture.filepath[:6] for picture in loaded.report.skipped] == ["f/f/f/"]
        assert loaded.report.skipped[0].filepath.rpartition("/")[2] in loaded.report.skipped[0].reason
    name = first.dataset.rows[0].path
    assert bottle.picture(name).exists()


def test_a_clash_with_another_group_s_picture_is_noticed(bottle: Bottle) -> None:
    """The pool is common: a name taken by an earlier load, from another address, keeps its picture."""
    with flaky_collector(pictures=1, picsets=2) as url:
        load(url, bottle)
    before = {name: bottle.picture(name).read_bytes() for name in names_in(bottle.pictures)}
    with flaky_collector(pictures=2, picsets=2, clash=True, gone=[0]) as url:
        loaded = load(url, bottle)
    assert {name: bottle.picture(name).read_bytes() for name in before} == before
    assert "f/f/f/" in {picture.filepath[:6] for picture in loaded.report.skipped}


def test_a_thousand_picsets_are_asked_for_in_batches(bottle: Bottle) -> None:
    with flaky_collector(pictures=1010, picsets=1010) as url:
        loaded = load(url, bottle)
        seen = stats(url)
    assert loaded.report.picsets == len(loaded.dataset.rows) == 1010
    assert seen["largest batch"] <= 200
    assert seen["/v1/meta/picsets"] == 6


def test_picset_meta_is_kept_as_it_came(bottle: Bottle) -> None:
    with flaky_collector(pictures=4, picsets=2) as url:
        load(url, bottle)
    files = sorted(bottle.meta("hair_color").glob("*/meta.json"))
    content = json.loads(files[0].read_text(encoding="utf-8"))
    assert len(files) == 2
    assert content["server"] == "flaky"
    assert content["picset"]["extra"] == {"kept": [1, None]}
    assert content["picset"]["group"] == [{"group": "hair_color", "id": 7}]
    assert content["items"][0]["origin"]["camera"] == "ünknown"


def test_a_broken_picture_in_the_pool_is_fetched_again_and_whole_ones_are_not(bottle: Bottle) -> None:
    with flaky_collector(pictures=9) as url:
        first = load(url, bottle)
        written_ns = bottle.dataset_file("hair_color").stat().st_mtime_ns
        broken = bottle.picture(first.dataset.rows[0].path)
        whole = broken.read_bytes()
        broken.write_bytes(whole[:100])
        bottle.picture(first.dataset.rows[1].path).unlink()
        again = load(url, bottle)
        assert stats(url)["pictures"] == 11
    assert (again.report.pictures_stored, again.report.pictures_kept) == (2, 7)
    assert broken.read_bytes() == whole
    assert not again.is_changed
    assert bottle.dataset_file("hair_color").stat().st_mtime_ns == written_ns


def test_a_copied_bottle_is_not_fetched_again(bottle: Bottle) -> None:
    import os

    with flaky_collector(pictures=9) as url:
        load(url, bottle)
        for name in names_in(bottle.pictures):
            os.utime(bottle.picture(name), ns=(1, 1))
        (bottle.ledger / "pictures.jsonl").write_text('{"name": "half a li', encoding="utf-8")
        assert load(url, bottle).report.pictures_kept == 9
        assert load(url, bottle).report.pictures_kept == 9
        assert stats(url)["pictures"] == 9
    assert read_dataset(bottle.dataset_file("hair_color")).group == "hair_color"


@pytest.mark.parametrize(
    ("listing", "code", "said"),
    [
        ("<html>", "not_json", "/v1/meta/pictures"),
        ("[]", "unexpected_answer", "the answer"),
        ('{"data": []}', "unexpected_answer", ": data: "),
        ('{"data": {"black hair": {"pictures": [{"filepath": 5}]}}}', "unexpected_answer", "black hair.pictures.0"),
        ('{"data": {"path": {"pictures": [{"filepath": "0/0/x.png"}]}}}', "reserved_category", "'path'"),
        ('{"data": {" ": {"pictures": [{"filepath": "0/0/x.png"}]}}}', "unnamed_category", "'hair_color'"),
        ('{"data": {"hair_color trash": {"pictures": [{"filepath": "0/0/x.png"}]}}}', "no_labels", "'hair_color'"),
        (
            '{"data": {"black hair": {"pictures": [{"filepath": "../../../x.png"}]}}}',
            "no_usable_photos",
            "../../../x.png",
        ),
    ],
)
def test_nonsense_is_one_line_and_leaves_the_bottle_alone(bottle: Bottle, listing: str, code: str, said: str) -> None:
    with flaky_collector(listing=listing) as url, pytest.raises(CollectorError) as caught:
        load(url, bottle)
    assert caught.value.code == f"collector.{code}"
    assert said in caught.value.line()
    assert "\n" not in caught.value.line()
    assert not bottle.dataset_file("hair_color").exists()
    assert not bottle.pictures.exists()


def test_a_failed_load_leaves_the_older_dataset(bottle: Bottle) -> None:
    with flaky_collector(pictures=9) as url:
        load(url, bottle)
    before = bottle.dataset_file("hair_color").read_bytes()
    gone = '{"data": {"black hair": {"pictures": [{"filepath": "0/0/none.png"}]}}}'
    with flaky_collector(listing=gone) as url, pytest.raises(CollectorError) as caught:
        load(url, bottle)
    assert caught.value.code == "collector.no_usable_photos"
    assert "0/0/none.png" in caught.value.what
    assert bottle.dataset_file("hair_color").read_bytes() == before


@pytest.mark.parametrize("script", ["load_group.py", "load_json.py"])
def test_pictures_that_cannot_be_had_for_now_make_a_load_incomplete(
    configuration: Callable[..., Path], tmp_path: Path, script: str
) -> None:
    listed = tmp_path / "picsets.json"
    listed.write_text(json.dumps({"picsets": [["00000000-0000-4000-8000-000000000000"]]}))
    words = ["--group", "hair_color"] if script == "load_group.py" else ["--json-path", str(listed)]
    # A wait longer than anybody has patience for: the picture is refused at once.
    with flaky_collector(pictures=3, picsets=1, faults=True, retry_after="86400") as url:
        cfg = str(configuration(collector_url=url))
        done = run_script(script, *words, "--cfg", cfg)
        assert done.returncode == 3, done.stderr
        assert "incomplete: run the same command again to fetch 1 picture" in done.stdout
        again = run_script(script, *words, "--cfg", cfg)
    assert again.returncode == 0, again.stderr
    assert "left out" not in again.stdout
