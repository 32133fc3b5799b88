"""docs/reference/errors.md lists the codes that the code raises."""

from __future__ import annotations

from tests.reference.error_codes import page, read_error_codes
from tests.reference.pages import FOLDER
from tests.reference.what_to_do import OF_AREA, OF_CODE


def test_the_page_is_that_of_the_code() -> None:
    assert (FOLDER / "errors.md").read_text(encoding="utf-8") == page(), "python -m tests.reference"


def test_every_class_and_every_way_to_give_a_code_is_read() -> None:
    classes, codes = read_error_codes()
    assert {"ClsError", "SignatureError", "EngineError", "PictureBusyError", "NotANumberError"} <= classes.keys()
    named = {
        "settings.not_found",  # at the raise
        "file.no_space",  # one of two
        "training.one_picset",  # in a variable
        "bottle.not_forgotten",  # handed to a function of the module
        "package.path_traversal",  # from a function of the module
        "database.too_many_connections",  # from a table
        "collector.busy",  # of a class handed over
        "network.trial_crashed",  # taken over from the outcome of another process
        "package.config_changed",  # of a fault among several
    }
    assert named <= codes.keys()


def test_only_codes_without_hints_of_their_own_are_told_what_to_do() -> None:
    _, codes = read_error_codes()
    assert [code for code in OF_CODE if code not in codes or codes[code].hints] == []
    assert OF_AREA.keys() <= {code.partition(".")[0] for code in codes}
