from __future__ import annotations

from pathlib import Path

from cls.bottle.ledger import JOURNAL, KnownModel, known_models, remember_models

PREDICTED = KnownModel("hat / cap", "v__0_train_eff_4_0.001", "a" * 64, has_predicted=True)
PUBLISHED = KnownModel("hat / cap", "v__0_train_eff_4_0.001", "a" * 64, "0.0.2")


def test_each_is_entered_once(tmp_path: Path) -> None:
    assert known_models(tmp_path) == []
    remember_models(tmp_path, [])
    assert not (tmp_path / JOURNAL).exists()
    remember_models(tmp_path, [PREDICTED, PREDICTED])
    remember_models(tmp_path, [PUBLISHED, PREDICTED])
    assert known_models(tmp_path) == [PREDICTED, PUBLISHED]
    assert len((tmp_path / JOURNAL).read_text().splitlines()) == 2


def test_a_line_that_was_cut_off(tmp_path: Path) -> None:
    remember_models(tmp_path, [PREDICTED])
    path = tmp_path / JOURNAL
    with path.open("a") as stream:
        stream.write('{"of a later version": 1}\n[1]\n{"group": "hat", "ru')
    remember_models(tmp_path, [PUBLISHED])
    assert known_models(tmp_path) == [PREDICTED, PUBLISHED]
