"""What `--withdraw` names: runs, and semantic versions as journals or the model storage know them."""

from __future__ import annotations

from pathlib import Path

import pytest

from cls.bottle.ledger import KnownModel
from cls.errors import BottleError, UsageError
from cls.write_back.picset_updates import split_name, what_to_withdraw
from cls.write_back.statements import Sent, SentJournal, Statement

RUN = "v__0_train_eff_4_0.001"
WEIGHTS, OTHER_WEIGHTS = "a" * 64, "b" * 64
PREDICTED = KnownModel("hat", RUN, WEIGHTS, has_predicted=True)


@pytest.fixture
def journal(tmp_path: Path) -> SentJournal:
    """Says that a run's words about hats were sent."""
    journal = SentJournal(tmp_path / "journal", "http://collector")
    said = Statement("a.jpeg", "female", (0.0, 0.0, 1.0, 1.0), "hat", ("cap",))
    journal.has_sent("guid", Sent("digest", ((said, RUN),)))
    return journal


def nobody(group: str, version: str) -> str:
    return "it was not published from this bottle, and the model storage does not have it"


def test_names() -> None:
    assert split_name("0.0.2", ["hat", "top_color"]) == (("hat", "top_color"), "0.0.2")
    assert split_name("hat / cap/0.0.2", []) == (("hat / cap",), "0.0.2")
    assert split_name(f"hat/{RUN}", ["hat", "top_color"]) == (("hat",), RUN)
    with pytest.raises(UsageError) as caught:
        split_name("0.0.2", [])
    assert caught.value.code == "usage.missing_option"
    with pytest.raises(UsageError) as caught:
        split_name("hat/0.0.2", ["top_color"])
    assert caught.value.code == "usage.options_conflict"
    assert "'hat'" in caught.value.what
    assert "top_color" in caught.value.what


def test_a_run(journal: SentJournal) -> None:
    assert what_to_withdraw(["hat"], RUN, journal, [], nobody).runs == {"hat": RUN}
    with pytest.raises(BottleError) as caught:
        what_to_withdraw(["hat"], "v__7", journal, [], nobody)
    assert caught.value.code == "bottle.nothing_sent"
    assert "'v__7'" in caught.value.what
    assert (caught.value.hint or "").endswith(f" hat: {RUN}")


def test_a_version_that_was_published_from_here(journal: SentJournal) -> None:
    known = [PREDICTED, KnownModel("hat", RUN, WEIGHTS, "0.0.1"), KnownModel("hat", RUN, WEIGHTS, "0.0.2")]
    found = what_to_withdraw(["hat"], "0.0.2", journal, known, nobody)
    assert found.runs == {"hat": RUN}
    assert found.notes == (f"hat 0.0.2 is {RUN}, published from this bottle as 0.0.1 too",)


def test_a_version_that_the_storage_knows(journal: SentJournal) -> None:
    found = what_to_withdraw(
        ["hat"], "0.0.2", journal, [PREDICTED], lambda *_: KnownModel("hat", RUN, WEIGHTS, "0.0.2")
    )
    assert (found.runs, found.notes) == ({"hat": RUN}, (f"hat 0.0.2 is {RUN}",))


def test_a_run_of_the_same_name_on_another_machine(journal: SentJournal) -> None:
    foreign = KnownModel("hat", RUN, OTHER_WEIGHTS, "0.0.2")
    with pytest.raises(BottleError) as caught:
        what_to_withdraw(["hat"], "0.0.2", journal, [PREDICTED], lambda *_: foreign)
    assert caught.value.code == "bottle.model_not_known"
    assert f"hat: {RUN}" in (caught.value.hint or "")
    # Predictions of a CLS that kept no digests: the run's name is all there is.
    assert what_to_withdraw(["hat"], "0.0.2", journal, [], lambda *_: foreign).runs == {"hat": RUN}


def test_a_version_that_nobody_knows(journal: SentJournal) -> None:
    known = [PREDICTED, KnownModel("hat", RUN, WEIGHTS, "0.0.2")]
    with pytest.raises(BottleError) as caught:
        what_to_withdraw(["hat", "top_color"], "0.0.2", journal, known, nobody)
    assert caught.value.code == "bottle.model_not_known"
    assert f"top_color 0.0.2: {nobody('top_color', '0.0.2')}" in caught.value.what
    assert "\n" not in caught.value.line()


def test_a_version_of_which_nothing_was_sent(journal: SentJournal) -> None:
    known = [KnownModel("hat", "v__3_train_eff_4_0.001", OTHER_WEIGHTS, "0.0.3")]
    with pytest.raises(BottleError) as caught:
        what_to_withdraw(["hat"], "0.0.3", journal, known, nobody)
    assert caught.value.code == "bottle.nothing_sent"
    assert "0.0.3 (v__3_train_eff_4_0.001)" in caught.value.what
