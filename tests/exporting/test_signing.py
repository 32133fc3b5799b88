"""Signing as its users do it: keygen, export --sign, package sign, verify, rebuild."""

from __future__ import annotations

import re
import shutil
import stat
from pathlib import Path
from types import SimpleNamespace

import pytest

from cls.cli.command import Command, execute
from cls.cli.export import COMMAND as EXPORT
from cls.cli.export import _not_signed_by
from cls.cli.package import KEYGEN, REBUILD, SHOW, SIGN, VERIFY
from cls.package.archive import open_zip
from cls.package.keys import read_signing_key
from tests.bottles import GROUP
from tests.exporting.runs import ExportedBottle

PASSPHRASE = "correct horse battery"


def run(at: ExportedBottle, command: Command, *arguments: object) -> int:
    return execute(command, [*(str(argument) for argument in arguments), "--cfg", str(at.cfg)])


def keygen(at: ExportedBottle, path: Path) -> str:
    """Makes a key; its fingerprint."""
    assert run(at, KEYGEN, path) == 0
    return read_signing_key(path).fingerprint


def test_keygen_says_what_to_keep_and_what_to_give(
    copied: ExportedBottle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fingerprint = keygen(copied, tmp_path / "team.key")
    printed = capsys.readouterr()
    assert f"private key: {tmp_path / 'team.key'} (not encrypted: CLS_SIGNING_PASSPHRASE is not set)" in printed.out
    assert f"{tmp_path / 'team.key'}.pub" in printed.out
    assert f"fingerprint: {fingerprint}" in printed.out
    body = (tmp_path / "team.key").read_text().splitlines()[1]
    assert body not in printed.out + printed.err
    before = (tmp_path / "team.key").read_bytes()
    assert run(copied, KEYGEN, tmp_path / "team.key", "--debug") == 1
    assert capsys.readouterr().err.strip().endswith("[file.already_exists]")
    assert (tmp_path / "team.key").read_bytes() == before


def test_a_private_key_never_lies_in_the_data_folder(
    copied: ExportedBottle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "link").symlink_to(copied.bottle.root)
    for path in (copied.bottle.root / "team.key", copied.package / "team.key", tmp_path / "link" / "team.key"):
        assert run(copied, KEYGEN, path, "--debug") == 2
        assert capsys.readouterr().err.strip().endswith("[usage.inside_data_folder]")
        assert not path.exists()


def test_a_passphrase_from_the_environment(
    copied: ExportedBottle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "team.key"
    monkeypatch.setenv("CLS_SIGNING_PASSPHRASE", PASSPHRASE)
    assert run(copied, KEYGEN, path) == 0
    assert "(encrypted)" in capsys.readouterr().out
    package = copied.package / "model_onnx.zip"
    assert run(copied, SIGN, package, "--key", path) == 0
    monkeypatch.delenv("CLS_SIGNING_PASSPHRASE")
    before = package.read_bytes()
    assert run(copied, SIGN, package, "--key", path, "--debug") == 1
    printed = capsys.readouterr()
    assert "CLS_SIGNING_PASSPHRASE" in printed.err.splitlines()[-1]
    assert printed.err.strip().endswith("[file.passphrase_missing]")
    assert PASSPHRASE not in printed.out + printed.err
    assert package.read_bytes() == before


@pytest.mark.usefixtures("shared_conversions")
def test_export_signs_and_verify_checks(
    copied: ExportedBottle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = keygen(copied, tmp_path / "team.key")
    other = keygen(copied, tmp_path / "other.key")
    arguments = ("--group", GROUP, "--formats", "onnx", "--sign", tmp_path / "team.key")
    assert run(copied, EXPORT, *arguments) == 0
    assert f"signed by {fingerprint}" in capsys.readouterr().out
    package = copied.package / "model_onnx.zip"
    first = package.read_bytes()
    with open_zip(package) as contents:
        names = sorted(name for name in contents.names if not name.startswith("vectors/"))
        assert names == ["config.pbtxt", "meta.json", "model.onnx", "signature.json"]
    # The private key is nowhere in the data folder.
    secret = (tmp_path / "team.key").read_bytes().splitlines()[1]
    assert not [path for path in copied.bottle.root.rglob("*") if path.is_file() and secret in path.read_bytes()]
    assert not list(copied.bottle.root.rglob("*.key*"))

    assert run(copied, VERIFY, package) == 0
    assert f"signature: signed by {fingerprint}: not checked" in capsys.readouterr().out
    assert run(copied, VERIFY, package, "--trust", tmp_path / "team.key.pub") == 0
    printed = capsys.readouterr().out
    assert f"signature: signed by {fingerprint}, which is trusted" in printed
    assert "ok: every file is as it was signed" in printed
    assert "answers at batch 1 and 3" in printed
    assert run(copied, VERIFY, package, "--trust", tmp_path / "other.key.pub", "--debug") == 1
    printed = capsys.readouterr()
    assert re.search(rf"PROBLEM: .*{re.escape(fingerprint)}", printed.out)
    assert printed.err.strip().endswith("[package.problems_found, signature.untrusted]")
    assert "answers at batch" not in printed.out
    keys = ("--trust", tmp_path / "other.key.pub", "--trust", tmp_path / "team.key.pub")
    assert run(copied, VERIFY, package, *keys) == 0
    assert run(copied, VERIFY, package, "--trust", tmp_path) == 0  # a folder of public keys
    capsys.readouterr()
    assert run(copied, SHOW, package) == 0
    assert f"signature      signed by {fingerprint}" in capsys.readouterr().out

    # The same run and the same key: the same bytes, though this export is told to ask for signatures elsewhere.
    monkeypatch.setenv("CLS_PACKAGE_TRUST", str(tmp_path / "other.key.pub"))
    assert run(copied, EXPORT, *arguments) == 0
    monkeypatch.delenv("CLS_PACKAGE_TRUST")
    assert package.read_bytes() == first
    # Rotation adds a signature and changes no file.
    capsys.readouterr()
    assert run(copied, SIGN, copied.package, "--key", tmp_path / "other.key") == 0
    assert capsys.readouterr().out == f"{package}: signed by {' and '.join(sorted((fingerprint, other)))}\n"
    assert run(copied, VERIFY, package, "--trust", tmp_path / "other.key.pub") == 0
    assert run(copied, VERIFY, package, "--trust", tmp_path / "team.key.pub") == 0


@pytest.mark.usefixtures("shared_conversions")
def test_what_was_made_before_and_is_not_signed_is_named(
    copied: ExportedBottle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keygen(copied, tmp_path / "team.key")
    arguments = ("--group", GROUP, "--formats", "torchscript", "--sign", tmp_path / "team.key")
    assert run(copied, EXPORT, *arguments) == 0
    printed = capsys.readouterr().out
    assert "made before and still there: model_onnx.zip" in printed
    assert "not signed by it: model_onnx.zip" in printed
    with open_zip(copied.package / "model_onnx.zip") as contents:
        assert contents.signature() is None
    assert run(copied, SIGN, copied.package / "model_onnx.zip", "--key", tmp_path / "team.key") == 0
    signer = read_signing_key(tmp_path / "team.key")
    again = SimpleNamespace(folder=copied.package, earlier=SimpleNamespace(parity=("onnx", "torchscript")))
    assert _not_signed_by(signer, again) == []  # type: ignore[arg-type]


def test_a_key_that_cannot_be_used_stops_an_export_before_it_starts(
    copied: ExportedBottle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = copied.files()
    keygen(copied, tmp_path / "team.key")
    (tmp_path / "team.key").chmod(0o644)
    for path, code in (
        (tmp_path / "team.key", "file.insecure_permissions"),
        (tmp_path / "team.key.pub", "file.public_key_given"),
        (tmp_path / "none", "file.not_found"),
    ):
        assert run(copied, EXPORT, "--group", GROUP, "--sign", path, "--debug") == 1
        assert capsys.readouterr().err.strip().endswith(f"[{code}]")
    assert copied.files() == before


def test_a_team_s_keys_in_the_configuration(
    copied: ExportedBottle, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keygen(copied, tmp_path / "team.key")
    package = copied.package / "model_onnx.zip"
    monkeypatch.setenv("CLS_PACKAGE_TRUST", str(tmp_path / "team.key.pub"))
    assert run(copied, VERIFY, package, "--debug") == 1
    assert capsys.readouterr().err.strip().endswith("[package.problems_found, signature.missing]")
    # What is signed is the user's own: no signature is asked for.
    assert run(copied, SIGN, package, "--key", tmp_path / "team.key") == 0
    assert run(copied, VERIFY, package) == 0
    (tmp_path / "team.key.pub").unlink()
    assert run(copied, VERIFY, package, "--debug") == 1
    assert capsys.readouterr().err.strip().endswith("[file.not_found]")


def test_rebuild_checks_what_it_takes_and_signs_what_it_makes(
    copied: ExportedBottle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keygen(copied, tmp_path / "team.key")
    host = keygen(copied, tmp_path / "host.key")
    source = copied.package / "model_onnx.zip"
    photos = tmp_path / "photos"
    photos.mkdir()
    for path in sorted(copied.bottle.pictures.iterdir())[:8]:
        shutil.copy(path, photos)
    output = tmp_path / "made.zip"
    arguments = (source, "--format", "openvino", "--photos", photos, "--output", output)
    assert run(copied, REBUILD, *arguments, "--trust", tmp_path / "team.key.pub", "--debug") == 1
    assert capsys.readouterr().err.strip().endswith("[signature.missing]")
    assert not output.exists()
    assert run(copied, SIGN, source, "--key", tmp_path / "team.key") == 0
    signed = (*arguments, "--trust", tmp_path / "team.key.pub", "--sign", tmp_path / "host.key")
    assert run(copied, REBUILD, *signed) == 0
    with open_zip(output) as contents:
        signature = contents.signature()
    assert signature is not None
    assert signature.key_ids == (host,)
    assert run(copied, VERIFY, output, "--trust", tmp_path / "host.key.pub") == 0
    assert run(copied, REBUILD, *arguments) == 0  # without --sign, what is made is not signed
    with open_zip(output) as contents:
        assert contents.signature() is None
    assert stat.S_IMODE((tmp_path / "host.key").stat().st_mode) == 0o600
