"""A verb ends in status 0, in one line on stderr, or in Ctrl-C's own status; errors show no traceback."""

from __future__ import annotations

import argparse
import json
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cls.cli.command import Command, Parser, execute
from cls.cli.main import main as cls_main
from cls.errors import ClsError, CollectorError, FileError, PackageError, PackageFault, ParityError
from cls.settings import REPOSITORY
from tests.processes import default_signals


def verb(run: Callable[[argparse.Namespace], None]) -> Command:
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--group", default="hat")

    return Command("try", "tries something", add_arguments, run)


def test_a_verb_receives_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    def run(options: argparse.Namespace) -> None:
        print(options.group, options.cfg, options.debug, options.quiet)

    assert execute(verb(run), ["--group", "top color", "--cfg", "f.yaml", "--quiet"]) == 0
    assert capsys.readouterr().out == "top color f.yaml False True\n"


@pytest.mark.parametrize(
    "words",
    [
        ["--cat", "hat", "--batch-size", "4", "--image-size=64"],
        ["--cat=hat", "--batch_size=4", "--image_size", "64"],
        ["--group", "hat", "--batch_size", "4", "--image-size", "64"],
        ["--gr", "hat", "--bat", "4", "--ima", "64"],
    ],
)
def test_options_have_hyphens_or_underscores(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--group")
        parser.add_argument("--batch-size", type=int)
        parser.add_argument_group("sizes").add_argument("--image_size", type=int)
        parser.add_argument("rest", nargs="*")

    def run(options: argparse.Namespace) -> None:
        print(options.group, options.batch_size, options.image_size, options.rest)

    command = Command("try", "tries something", add_arguments, run)
    assert execute(command, [*words, "--", "--cat", "a_b"]) == 0
    assert capsys.readouterr().out == "hat 4 64 ['--cat', 'a_b']\n"
    with pytest.raises(SystemExit) as caught:
        execute(command, ["--batch_sizes", "4"])
    assert caught.value.code == 2
    assert "--batch_sizes" in capsys.readouterr().err


BOTH = ("--group", "--cat")


def test_verbs_of_several_groups_take_both_names() -> None:
    for name in BOTH:
        parser = Parser()
        parser.add_argument("--groups", nargs="+")
        assert parser.parse_args([name, "hat", "top_color"]).groups == ["hat", "top_color"]


def test_an_unknown_option_shows_the_usage_of_its_verb(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["runs", "--colour"], ["sample", "make", "photos", "--colour"]):
        with pytest.raises(SystemExit) as caught:
            cls_main(words)
        assert caught.value.code == 2
        printed = capsys.readouterr().err
        assert printed.startswith(f"usage: cls {' '.join(words[:-1]).removesuffix(' photos')} [-h]")
        assert printed.endswith("error: unrecognized arguments: --colour\n")


def test_every_verb_understands_group_and_cat(capsys: pytest.CaptureFixture[str]) -> None:
    several = [[verb, name, "hat", "top_color", "--help"] for verb in ("post-meta", "segment-meta") for name in BOTH]
    for words in (["runs", "--cat", "hat", "--help"], ["train", "--group", "hat", "--help"], *several):
        with pytest.raises(SystemExit) as caught:
            cls_main(words)
        assert caught.value.code == 0
        assert capsys.readouterr().err == ""


def test_an_expected_error_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def run(_: argparse.Namespace) -> None:
        raise CollectorError("answered\nnonsense", where="http://host", hint="look at it")

    assert execute(verb(run), []) == 1
    printed = capsys.readouterr()
    assert printed.err == "error: http://host: answered nonsense; look at it\n"
    assert printed.out == ""


def test_debug_shows_where_it_happened(capsys: pytest.CaptureFixture[str]) -> None:
    def run(_: argparse.Namespace) -> None:
        raise FileError("is gone", where="a.jpeg")

    assert execute(verb(run), ["--debug"]) == 1
    printed = capsys.readouterr().err
    assert "Traceback" in printed
    assert printed.splitlines()[-1] == "error: a.jpeg: is gone [file]"


def test_an_error_of_a_verb_that_prints_json_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true")

    def run(_: argparse.Namespace) -> None:
        raise CollectorError("says no", code="login_refused", where="http://host")

    command = Command("try", "tries something", add_arguments, run)
    assert execute(command, ["--json"]) == 1
    printed = capsys.readouterr()
    expected = {"code": "collector.login_refused", "what": "says no", "where": "http://host", "hint": None}
    assert (printed.out, json.loads(printed.err)) == ("", {"error": expected})
    assert execute(command, []) == 1
    assert capsys.readouterr().err == "error: http://host: says no\n"


def test_the_faults_that_an_error_lists_have_codes(capsys: pytest.CaptureFixture[str]) -> None:
    faults = [PackageFault("one", code="missing_file"), PackageFault.of(FileError("is empty", code="empty"), "two")]

    def run(_: argparse.Namespace) -> None:
        raise PackageError("; ".join(faults), code="invalid", faults=faults)

    assert execute(verb(run), ["--debug"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line == "error: one; two is empty [package.invalid, package.missing_file, file.empty]"
    with pytest.raises(PackageError) as caught:
        run(argparse.Namespace())
    assert caught.value.to_dict()["faults"] == ["package.missing_file", "file.empty"]
    assert json.dumps(caught.value.faults) == '["one", "two is empty"]'
    assert pickle.loads(pickle.dumps(faults[1])).code == "file.empty"


def test_an_unexpected_error_is_not_hidden() -> None:
    def run(_: argparse.Namespace) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        execute(verb(run), [])


def test_unknown_options_are_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        execute(verb(lambda _: None), ["--no-such"])
    assert caught.value.code == 2
    assert "--no-such" in capsys.readouterr().err


@pytest.mark.parametrize("kind", [ClsError, ParityError])
def test_the_line_has_what_where_and_next(kind: type[ClsError]) -> None:
    assert kind("broke").line() == "broke"
    assert kind("broke", where="f").line() == "f: broke"
    assert kind("broke", where="f", hint="mend it").line() == "f: broke; mend it"
    assert str(kind("broke", hint="mend it")) == "broke; mend it"
    assert isinstance(kind("broke"), ClsError)


PROGRAM = """
import argparse, sys, time
from cls.cli.command import Command, main
def run(options):
    print("started", flush=True)
    {body}
main(Command("try", "tries", lambda parser: None, run))
"""


def test_ctrl_c_says_that_what_is_finished_is_kept() -> None:
    with default_signals():
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM.format(body="time.sleep(60)")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    time.sleep(0.1)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert errors.startswith("interrupted:")
    assert len(errors.splitlines()) == 1


def test_a_reader_that_goes_away_is_no_error() -> None:
    body = "[print('x' * 1000) for _ in range(10000)]"
    done = subprocess.run(
        f"{sys.executable} -c {_quoted(PROGRAM.format(body=body))} | head -1; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.stdout == "started\n"
    assert done.stderr == ""
    assert done.returncode == 0


def _quoted(text: str) -> str:
    import shlex

    return shlex.quote(text)


def test_ctrl_c_reaches_processes_of_tests_that_run_in_the_background() -> None:
    """As of `make test &` in a script: SIGINT is ignored, and so it would be in all that the tests start."""
    code = (
        "import subprocess, sys\n"
        "from tests.processes import default_signals\n"
        "ignored = '[signal.getsignal(one) == signal.SIG_IGN for one in (signal.SIGINT, signal.SIGTERM)]'\n"
        "command = [sys.executable, '-c', f'import signal; print({ignored})']\n"
        "subprocess.run(command)\n"
        "with default_signals():\n    subprocess.run(command)\n"
        "subprocess.run(command)\n"
    )
    done = subprocess.run(
        f"trap '' INT TERM; exec {sys.executable} -c {_quoted(code)}",
        shell=True,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["[True, True]", "[False, False]", "[True, True]"]


def test_cls_alone_lists_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cls_main([]) == 0
    assert "load-group" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "suggested"),
    [(["trian"], "`cls train`"), (["package", "verfy"], "`cls package verify`"), (["qqqq"], "`cls --help`")],
)
def test_a_verb_that_is_none_suggests_those_like_it(
    words: list[str], suggested: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        cls_main(words)
    assert ended.value.code == 2
    assert suggested in capsys.readouterr().err


def test_bash_completes_verbs_and_options(tmp_path: Path) -> None:
    script = """
eval "$(cls completion bash)"
complete_line() { COMP_LINE="$1"; COMP_POINT=${#1}; COMP_WORDS=($1); COMP_CWORD=1; COMP_TYPE=9; COMPREPLY=()
  _python_argcomplete cls; printf '%s\\n' "${COMPREPLY[@]}"; }
complete_line "cls tra"; complete_line "cls train --smo"
"""
    (tmp_path / "cls").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m cls "$@"\n')
    (tmp_path / "cls").chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)}
    run = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=60)
    assert run.stdout.split() == ["train", "--smoothing"]


def test_the_doctor_tells_what_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "configuration.yaml"
    file.write_text("data_path: b\ncollector_url: http://127.0.0.1:1\nmodel_storage_url: http://127.0.0.1:1\n")
    assert cls_main(["doctor", "--json", "--cfg", str(file)]) == 0
    found = {finding["about"]: finding for finding in json.loads(capsys.readouterr().out)}
    assert {about: finding["status"] for about, finding in found.items() if about != "GPU"} == {
        "Python": "ok", "extra 'predict'": "ok", "extra 'train'": "ok", "extra 'yolo'": "ok", "configuration": "ok",
        "disk": "ok", "pictures database": "ok", "collector": "note", "model storage": "note",
        "inference server": "note",
    }  # fmt: skip
    assert all(finding["hint"] for finding in found.values() if finding["status"] != "ok")
    file.write_text("data_path: b\npictures_info_db_url: postgresql+psycopg2://user:secret@127.0.0.1:1/pictures\n")
    assert cls_main(["doctor", "--debug", "--cfg", str(file)]) == 1
    captured = capsys.readouterr()
    assert "PROBLEM  pictures database" in captured.out
    assert captured.err.rstrip().endswith("[cls.not_ready]")
    assert "secret" not in captured.out + captured.err
