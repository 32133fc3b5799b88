"""From predictions to a real collector: cls collector serve in a process of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from cls.bottle.layout import Bottle
from cls.bottle.ledger import KnownModel, known_models, remember_models
from cls.cli.command import execute
from cls.cli.load_group import COMMAND as LOAD
from cls.cli.post_meta import COMMAND as POST
from cls.cli.segment_meta import COMMAND as BUILD
from cls.collector.client import CollectorClient
from cls.collector.payloads import picset_of
from cls.pictures.database import PicturesDatabase
from cls.write_back.statements import JOURNAL, Sent, SentJournal, Statement
from tests.bottles import GROUP, LABELS, make_tiny_bottle
from tests.collector.photos import tagged_set
from tests.collector.servers import serving
from tests.exporting.runs import ExportedBottle, fabricate_run
from tests.exporting.runs import export_run as export
from tests.model_storage.services import running_storage
from tests.prediction.inferring import error_of

GUIDS = [f"d9e3a1c2-0000-4000-8000-{number:012d}" for number in range(4)]


@pytest.fixture(scope="module")
def collector(tmp_path_factory: pytest.TempPathFactory, exported: ExportedBottle) -> Iterator[str]:
    """Serves the exported bottle's photos, in their picsets, tagged for two groups."""
    folder = tmp_path_factory.mktemp("photos")
    rows = [(f"{n:04d}.jpeg", f"{LABELS[n % 3]};cap", GUIDS[n // 3]) for n in range(12)]
    tagged_set(folder, rows, {GROUP: LABELS, "hat": ["cap"]})
    for row in rows:
        (folder / "images" / row[0]).write_bytes(exported.bottle.picture(row[0]).read_bytes())
    with serving(folder) as url:
        yield url


@pytest.fixture
def loaded(copied: ExportedBottle, collector: str, monkeypatch: pytest.MonkeyPatch) -> ExportedBottle:
    """A bottle whose group was loaded from the collector, with its people in the database and no predictions yet."""
    with CollectorClient(collector) as client:
        for picset in client.picsets(GUIDS):
            content = json.loads(json.dumps(picset.content))
            content["picset"]["neural_version"] = {GROUP: "", "hat": ""}
            for item in content["items"]:
                item["trained"] = []
            client.change_trained(partial(picset_of, content, where="test"))
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


def _give_hat_a_model(at: ExportedBottle) -> None:
    hat = make_tiny_bottle(at.cfg.parent / "hat", 12, group="hat")
    at.bottle.dataset_file("hat").write_bytes(hat.dataset_file("hat").read_bytes())
    export(at.bottle, fabricate_run(at.bottle, group="hat", seed=9))


def run(command: object, at: ExportedBottle, *arguments: str) -> int:
    return execute(command, [*arguments, "--cfg", str(at.cfg), "--quiet"])  # type: ignore[arg-type]


def ret_metas(at: ExportedBottle, group: str) -> dict[str, dict[str, object]]:
    return {path.parent.name: json.loads(path.read_text()) for path in at.bottle.meta(group).glob("*/ret_meta.json")}


def test_predictions_reach_the_collector_once(
    loaded: ExportedBottle, collector: str, capsys: pytest.CaptureFixture[str]
) -> None:
    _give_hat_a_model(loaded)
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


def test_what_changed_is_sent_again(loaded: ExportedBottle, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(BUILD, loaded, "--groups", GROUP) == 0
    assert run(POST, loaded, "--groups", GROUP) == 0
    journal = loaded.bottle.root / JOURNAL
    # Killed in the middle of writing the last line, after its picset was sent.
    journal.write_text(journal.read_text()[:-30])
    capsys.readouterr()
    assert run(POST, loaded, "--groups", GROUP) == 0
    assert "0 picsets sent to" in (printed := capsys.readouterr().out)
    assert "3 were sent before\n1 picset had nothing to change" in printed
    changed = next(loaded.bottle.meta(GROUP).glob("*/ret_meta.json"))
    content = json.loads(changed.read_text())
    content["items"][0]["trained"] = []
    changed.write_text(json.dumps(content))
    assert run(POST, loaded, "--groups", GROUP) == 0
    assert "1 picset sent to" in capsys.readouterr().out
    assert run(POST, loaded, "--groups", GROUP) == 0
    assert "0 picsets sent to" in capsys.readouterr().out


def test_people_labels_stay_and_a_run_can_be_withdrawn(
    loaded: ExportedBottle, collector: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Somebody labels one person and corrects another; sending, previewing and withdrawing leave both as they are."""
    with CollectorClient(collector) as client:
        untouched = {picset.guid: picset.content for picset in client.picsets(GUIDS)}
        assert run(BUILD, loaded, "--groups", GROUP) == 0
        preview, table = _preview(loaded, tmp_path, capsys)
        assert preview["counts"] == {"added": 12, "changed": 0, "removed": 0, "left": 0}
        assert "added" in table
        assert f"neural_version of {GROUP}: none -> {loaded.run.name}, in " in table
        assert run(POST, loaded, "--groups", GROUP) == 0
        preview, table = _preview(loaded, tmp_path, capsys)
        assert not preview["picsets"]
        shown = [line for line in table.splitlines() if not line.startswith("written: ")]
        assert shown[0] == "nobody's labels would change"
        assert shown[1].startswith("0 picsets would be sent to ")
        assert len(shown) == 2

        first, second = list(client.picsets(GUIDS))[:2]
        corrected = json.loads(json.dumps(first.content))
        (entry,) = corrected["items"][0]["trained"]
        entry["groups"][0]["category"] = ["green top"]
        client.change_trained(partial(picset_of, corrected, where="test"))
        by_hand = json.loads(json.dumps(second.content))
        by_hand["items"][1]["trained"].append({"gender": "child", "bbox": [0, 0, 0.1, 0.1], "groups": []})
        client.change_trained(partial(picset_of, by_hand, where="test"))

        # Another run of the model says something else of everybody.
        for path in loaded.bottle.meta(GROUP).glob("*/ret_meta.json"):
            content = json.loads(path.read_text())
            for item in content["items"]:
                item["trained"][0]["groups"][0]["category"] = ["blue top", "red top"]
            path.write_text(json.dumps(content))
        preview, table = _preview(loaded, tmp_path, capsys)
        assert preview["counts"] == {"added": 0, "changed": 11, "removed": 0, "left": 1}
        assert run(POST, loaded, "--groups", GROUP) == 0
        assert f"left as others made it: {GROUP} of 1 person (neural_version {loaded.run.name})" in (
            capsys.readouterr().out
        )
        now = {picset.guid: picset.content for picset in client.picsets(GUIDS)}
        assert now[first.guid]["items"][0] == corrected["items"][0]
        assert by_hand["items"][1]["trained"][1] in now[second.guid]["items"][1]["trained"]

        # Published as 0.0.2, as `cls push` notes it.
        remember_models(loaded.bottle.root, [KnownModel(GROUP, loaded.run.name, _weights(loaded), "0.0.2")])
        withdraw = ["--withdraw", f"{GROUP}/0.0.2"]
        assert run(POST, loaded, *withdraw) == 0
        printed = capsys.readouterr().out
        assert printed.startswith(f"{GROUP} 0.0.2 is {loaded.run.name}\n")
        assert "4 picsets would be changed" in printed
        assert {picset.guid: picset.content for picset in client.picsets(GUIDS)} == now
        assert run(POST, loaded, *withdraw, "--yes") == 0
        assert "withdrawn from 4 picsets" in capsys.readouterr().out
        for picset in client.picsets(GUIDS):
            expected = [item.get("trained", []) for item in untouched[picset.guid]["items"]]
            if picset.guid == first.guid:
                expected[0] = corrected["items"][0]["trained"]
            if picset.guid == second.guid:
                expected[1] = [by_hand["items"][1]["trained"][1]]
            assert [item["trained"] for item in picset.content["items"]] == expected
            assert picset.content["picset"]["neural_version"] == {GROUP: "", "hat": ""}
        error = error_of(loaded, *withdraw, "--yes", command=POST)
        assert error.code == "bottle.nothing_sent"
        assert f"0.0.2 ({loaded.run.name})" in error.what


def _weights(at: ExportedBottle) -> str:
    """What the last build noted of the model that predicted."""
    (predicted,) = (model for model in known_models(at.bottle.root) if model.has_predicted)
    assert predicted.weights_sha256 == json.loads((at.package / "meta.json").read_text())["digests"]["weights"]
    return predicted.weights_sha256


def test_a_version_published_elsewhere(
    loaded: ExportedBottle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By curl, as in the guide: the storage is asked which model it is."""
    assert run(BUILD, loaded, "--groups", GROUP) == 0
    assert run(POST, loaded, "--groups", GROUP) == 0
    withdraw = ["--groups", GROUP, "--withdraw", "0.0.2"]
    with running_storage(tmp_path / "storage") as storage:
        monkeypatch.setenv("CLS_MODEL_STORAGE_URL", storage.url)
        storage.upload(loaded.package / "model_onnx.zip", GROUP, "0.0.2").raise_for_status()
        capsys.readouterr()
        assert run(POST, loaded, *withdraw) == 0
        printed = capsys.readouterr().out
        assert f"{GROUP} 0.0.2 is {loaded.run.name}\n" in printed
        assert "4 picsets would be changed" in printed
        error = error_of(loaded, "--groups", GROUP, "--withdraw", "0.0.3", command=POST)
        assert error.code == "bottle.model_not_known"
        assert storage.url in error.what
        assert "cannot be asked" not in error.what
    error = error_of(loaded, *withdraw, command=POST)
    assert error.code == "bottle.model_not_known"
    assert f"{GROUP} 0.0.2" in error.line()
    assert "cannot be asked" in error.what


def _preview(at: ExportedBottle, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, Any], str]:
    capsys.readouterr()
    file = tmp_path / "preview.json"
    assert run(POST, at, "--groups", GROUP, "--preview", "--json", str(file)) == 0
    return json.loads(file.read_text()), capsys.readouterr().out


def _segment_again(bottle: Bottle) -> dict[str, str]:
    """Another model outlines everybody a bit to the right; returns picture -> the id of the one person in it."""
    with PicturesDatabase.open(bottle.database_url) as database:
        again = [
            replace(
                record,
                model_version="other",
                people=tuple(
                    replace(one, id="", box_xyxy_px=tuple(side + 2 for side in one.box_xyxy_px))  # type: ignore[arg-type]
                    for one in record.people or ()
                ),
            )
            for record in database.records().values()
        ]
        database.write_people(again, replace=True)
        return {name: people[0].id for name, record in database.records().items() if (people := record.people)}


def test_photos_segmented_again_between_prediction_and_sending(
    loaded: ExportedBottle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(BUILD, loaded, "--groups", GROUP) == 0
    ids = _segment_again(loaded.bottle)
    preview, table = _preview(loaded, tmp_path, capsys)
    shown = [one for picset in preview["picsets"] for one in picset["people"]]
    assert [one["change"] for one in shown] == ["added"] * 12
    assert all(one["person"] == ids[one["picture"]] for one in shown)
    assert all(one["person"] in table for one in shown)
    assert run(POST, loaded, "--groups", GROUP) == 0

    # Predicted in the new boxes, they are the same people.
    assert run(BUILD, loaded, "--groups", GROUP) == 0
    preview, _ = _preview(loaded, tmp_path, capsys)
    assert preview["counts"]["added"] == preview["counts"]["removed"] == 0
    assert preview["counts"]["changed"] == 12
    for one in (one for picset in preview["picsets"] for one in picset["people"]):
        assert one["person"] == ids[one["picture"]]
    assert run(POST, loaded, "--groups", GROUP) == 0
    for content in ret_metas(loaded, GROUP).values():
        for item in content["items"]:
            assert [set(entry) for entry in item["trained"]] == [{"gender", "bbox", "groups"}]

    # What was remembered of a photo is used again, under the id that the row has now.
    file = next(loaded.bottle.meta(GROUP).glob("*/ret_meta_people.json"))
    named = file.read_text()
    file.write_text("[")
    capsys.readouterr()
    assert run(BUILD, loaded, "--groups", GROUP) == 0
    assert "0 ret_meta.json written" in capsys.readouterr().out
    assert file.read_text() == named
    # Without the file, as an older version left it, people have no names, and nothing else differs.
    for one in loaded.bottle.meta(GROUP).glob("*/ret_meta_people.json"):
        one.unlink()
    assert run(POST, loaded, "--groups", GROUP) == 0
    assert "0 picsets sent to" in capsys.readouterr().out


@pytest.mark.usefixtures("shared_conversions")
def test_files_of_two_groups_about_one_picset_are_sent_together(
    loaded: ExportedBottle, collector: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each group predicted by itself: what the other one's file says of the picset is not lost."""
    with CollectorClient(collector) as client:
        _give_hat_a_model(loaded)
        assert run(BUILD, loaded, "--groups", GROUP) == 0
        assert run(BUILD, loaded, "--groups", "hat") == 0
        assert run(POST, loaded, "--groups", GROUP, "hat") == 0
        assert "4 picsets sent" in capsys.readouterr().out
        for picset in client.picsets(GUIDS):
            for item in picset.content["items"]:
                (entry,) = item["trained"]
                assert sorted(part["group"] for part in entry["groups"]) == ["hat", GROUP]


def test_predictions_of_another_tool_give_way_when_it_is_named(
    loaded: ExportedBottle, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(BUILD, loaded, "--groups", GROUP) == 0
    assert run(POST, loaded, "--groups", GROUP) == 0
    (loaded.bottle.root / JOURNAL).unlink()
    capsys.readouterr()
    assert run(POST, loaded, "--groups", GROUP) == 0
    assert "left as others made it: top_color of 12 people" in capsys.readouterr().out
    (loaded.bottle.root / JOURNAL).unlink()
    assert run(POST, loaded, "--groups", GROUP, "--replaces", loaded.run.name) == 0
    assert "left as" not in capsys.readouterr().out
    assert run(POST, loaded, "--groups", GROUP, "--withdraw", loaded.run.name, "--yes") == 0
    assert "withdrawn from 4 picsets" in capsys.readouterr().out


def test_options_that_do_not_go_together(exported: ExportedBottle) -> None:
    words = ("--groups", GROUP, "--yes", "--preview", "--replaces", "x", "--withdraw", "y")
    error = error_of(exported, *words, command=POST)
    assert error.code == "usage.invalid_options"
    first, second = error.faults
    assert first.code == second.code == "usage.options_conflict"
    assert all(option in first for option in ("--yes", "--preview"))
    assert all(option in second for option in ("--replaces", "--withdraw"))


def test_lines_of_the_journal(tmp_path: Path) -> None:
    said = Statement("a.jpeg", "female", (0.0, 0.0, 1.0, 1.0), GROUP, ("red top",))
    file = tmp_path / "journal"
    file.write_text(json.dumps({"collector": "http://one", "guid": "guid", "sha256": "of an older version"}) + "\n")
    SentJournal(file, "http://one").about_to_send("guid", Sent("digest", ((said, "v__0"),)))
    journal = SentJournal(file, "http://one")
    assert (journal.of("guid").digest, journal.of("guid").of(GROUP, "v__0")) == ("", (said,))
    journal.has_sent("guid", Sent("digest", ((said, "v__0"),)))
    assert SentJournal(file, "http://one").of("guid").digest == "digest"
    assert SentJournal(file, "http://two").of("guid") == Sent()
    assert SentJournal(file, "http://one").runs_of(GROUP) == ["v__0"]


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


def test_what_is_missing_is_said(exported: ExportedBottle) -> None:
    error = error_of(exported, "--groups", GROUP, command=BUILD)
    assert error.code == "bottle.no_picsets"
    assert "cls load-group" in (error.hint or "")
    error = error_of(exported, "--groups", GROUP, "hat", command=BUILD)
    assert error.code == "prediction.not_exported"
    assert "'hat'" in error.what
    error = error_of(exported, "--groups", GROUP, command=POST)
    assert error.code == "bottle.no_ret_meta"
    assert "cls segment-meta" in (error.hint or "")


def test_a_collector_that_is_down(loaded: ExportedBottle, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(BUILD, loaded, "--groups", GROUP) == 0
    monkeypatch.setenv("CLS_COLLECTOR_URL", "http://127.0.0.1:9")
    assert error_of(loaded, "--groups", GROUP, command=POST).code == "collector.unreachable"
    assert not (loaded.bottle.root / JOURNAL).exists()
