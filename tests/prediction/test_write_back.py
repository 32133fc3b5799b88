"""From predictions to a real collector: cls collector serve in a process of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from cls.bottle.layout import Bottle
from cls.classification.load_group import COMMAND as LOAD
from cls.classification.post_ret_meta import COMMAND as POST
from cls.classification.segment_meta_builder import COMMAND as BUILD
from cls.collector.client import CollectorClient
from cls.command import execute
from cls.prediction.write_back import JOURNAL, RetMeta, SentJournal
from tests.bottles import GROUP, LABELS, make_tiny_bottle
from tests.collector.photos import tagged_set
from tests.collector.servers import serving
from tests.export.runs import ExportedBottle, fabricate_run
from tests.export.runs import export_run as export


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory, exported: ExportedBottle) -> Iterator[str]:
    """Serves the exported bottle's photos, in their picsets, tagged for two groups."""
    folder = tmp_path_factory.mktemp("photos")
    rows = [(f"{n:04d}.jpeg", f"{LABELS[n % 3]};cap", f"d9e3a1c2-0000-4000-8000-{n // 3:012d}") for n in range(12)]
    tagged_set(folder, rows, {GROUP: LABELS, "hat": ["cap"]})
    for row in rows:
        (folder / "images" / row[0]).write_bytes(exported.bottle.picture(row[0]).read_bytes())
    with serving(folder) as url:
        yield url


@pytest.fixture
def loaded(copied: ExportedBottle, collector: str, monkeypatch: pytest.MonkeyPatch) -> ExportedBottle:
    """A bottle whose group was loaded from the collector, with its people in the database."""
    monkeypatch.setenv("CLS_COLLECTOR_URL", collector)
    for group in (GROUP, "hat"):
        assert run(LOAD, copied, "--group", group) == 0
    _know_everybody(copied.bottle)
    return copied


def _know_everybody(bottle: Bottle) -> None:
    """Gives every loaded photo the people of the drawn photo with the same pixels."""
    from cls.pictures.database import PictureRecord, PicturesDatabase

    with PicturesDatabase.open(bottle.database_url) as database:
        known = database.records()
        drawn = {bottle.picture(name).read_bytes(): record for name, record in known.items()}
        new = [
            PictureRecord(path.name, record.model_version, "unchecked", record.people)
            for path in bottle.pictures.iterdir()
            if (record := drawn.get(path.read_bytes())) is not None
        ]
        database.write_people(new, replace=False)


def run(command: object, at: ExportedBottle, *arguments: str) -> int:
    return execute(command, [*arguments, "--cfg", str(at.cfg), "--quiet"])  # type: ignore[arg-type]


def ret_metas(at: ExportedBottle, group: str) -> dict[str, dict[str, object]]:
    return {path.parent.name: json.loads(path.read_text()) for path in at.bottle.meta(group).glob("*/ret_meta.json")}


def test_predictions_reach_the_collector_once(
    loaded: ExportedBottle, collector: str, capsys: pytest.CaptureFixture[str]
) -> None:
    hat = make_tiny_bottle(loaded.cfg.parent / "hat", 12, group="hat")
    loaded.bottle.dataset_file("hat").write_bytes(hat.dataset_file("hat").read_bytes())
    export(loaded.bottle, fabricate_run(loaded.bottle, group="hat", seed=9))
    capsys.readouterr()

    assert run(BUILD, loaded, "--groups", GROUP, "hat") == 0
    printed = capsys.readouterr().out
    assert "12 people in 12 photos of 8 picsets" in printed
    assert "8 ret_meta.json written, 0 unchanged" in printed
    assert ret_metas(loaded, GROUP) == ret_metas(loaded, "hat")
    for content in ret_metas(loaded, GROUP).values():
        assert content["picset"]["neural_version"] == {GROUP: loaded.run.name, "hat": loaded.run.name}
        for item in content["items"]:
            (entry,) = item["trained"]
            assert entry["gender"] == "female"
            assert [part["group"] for part in entry["groups"]] == [GROUP, "hat"]

    assert run(BUILD, loaded, "--groups", GROUP, "hat") == 0
    assert "0 ret_meta.json written, 8 unchanged" in capsys.readouterr().out

    assert run(POST, loaded, "--groups", GROUP, "hat", "--dry-run") == 0
    assert "4 picsets would be sent" in capsys.readouterr().out
    assert run(POST, loaded, "--groups", GROUP, "hat") == 0
    assert "4 picsets sent to" in capsys.readouterr().out
    assert run(POST, loaded, "--groups", "hat", GROUP) == 0
    assert "0 picsets sent to" in capsys.readouterr().out

    sent = ret_metas(loaded, GROUP)
    with CollectorClient(collector) as client:
        for picset in client.picsets(list(sent)):
            expected = {i["origin"]["filepath"]: i["trained"] for i in sent[picset.guid]["items"]}
            assert {i["origin"]["filepath"]: i["trained"] for i in picset.content["items"]} == expected
            assert picset.content["picset"]["neural_version"] == sent[picset.guid]["picset"]["neural_version"]


def test_a_killed_sending_goes_on_and_sends_changes_again(
    loaded: ExportedBottle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(BUILD, loaded, "--groups", GROUP) == 0
    assert run(POST, loaded, "--groups", GROUP) == 0
    journal = loaded.bottle.root / JOURNAL
    lines = journal.read_text().splitlines(keepends=True)
    assert len(lines) == 4
    # Killed in the middle of writing the third line.
    journal.write_text("".join(lines[:2]) + lines[2][:20])
    capsys.readouterr()
    assert run(POST, loaded, "--groups", GROUP) == 0
    assert "2 picsets sent to" in capsys.readouterr().out
    changed = next(loaded.bottle.meta(GROUP).glob("*/ret_meta.json"))
    content = json.loads(changed.read_text())
    content["items"][0]["trained"] = []
    changed.write_text(json.dumps(content))
    assert run(POST, loaded, "--groups", GROUP) == 0
    assert "1 picset sent to" in capsys.readouterr().out
    assert run(POST, loaded, "--groups", GROUP) == 0
    assert "0 picsets sent to" in capsys.readouterr().out


def test_another_collector_is_sent_everything(tmp_path: Path) -> None:
    ret_meta = RetMeta(tmp_path / "x", "guid", "digest", {})
    SentJournal(tmp_path / "journal", "http://one").add(ret_meta)
    assert SentJournal(tmp_path / "journal", "http://one").has(ret_meta)
    assert not SentJournal(tmp_path / "journal", "http://two").has(ret_meta)


def test_pictures_that_cannot_be_used_are_listed_and_left_alone(
    loaded: ExportedBottle, capsys: pytest.CaptureFixture[str]
) -> None:
    meta_files = sorted(loaded.bottle.meta(GROUP).glob("*/meta.json"))
    items = json.loads(meta_files[0].read_text())["items"]
    names = [item["origin"]["filepath"].rsplit("/", 1)[-1] for item in items]
    loaded.bottle.picture(names[0]).unlink()
    loaded.bottle.picture(names[1]).write_bytes(b"no")
    meta_files[1].write_text("{}")
    capsys.readouterr()
    assert run(BUILD, loaded, "--groups", GROUP) == 0
    printed = capsys.readouterr().out
    assert "3 skipped:" in printed
    assert f"{names[0]}: not in the pool of pictures" in printed
    assert f"{names[1]}: is not a picture" in printed
    assert "meta.json: " in printed
    result = json.loads(meta_files[0].with_name("ret_meta.json").read_text())["items"]
    assert result[:2] == items[:2]
    assert result[2]["trained"]


def test_what_is_missing_is_said(exported: ExportedBottle, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(BUILD, exported, "--groups", GROUP) == 1
    assert "has no picsets; run `cls load-group" in capsys.readouterr().err.replace("; see", "").splitlines()[-1]
    assert run(BUILD, exported, "--groups", GROUP, "hat") == 1
    assert "group 'hat' has no exported model; run `cls export" in capsys.readouterr().err
    assert run(POST, exported, "--groups", GROUP) == 1
    assert "has no ret_meta.json; run `cls segment-meta" in capsys.readouterr().err


def test_a_collector_that_is_down(
    loaded: ExportedBottle, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(BUILD, loaded, "--groups", GROUP) == 0
    monkeypatch.setenv("CLS_COLLECTOR_URL", "http://127.0.0.1:9")
    assert run(POST, loaded, "--groups", GROUP) == 1
    assert "the collector cannot be reached" in capsys.readouterr().err.splitlines()[-1]
    assert not (loaded.bottle.root / JOURNAL).exists()
