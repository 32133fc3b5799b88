"""`--trust`: nothing runs that was not signed, whichever way a model is given."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import cls
from cls.errors import SignatureError
from cls.package.archive import pack_files
from cls.package.keys import SigningKey, TrustedKeys, make_key, read_trusted_keys
from cls.package.verifying import sign_package
from cls.runtimes import open as opening
from cls.runtimes.open import open_classifier, open_exported
from tests.bottles import GROUP
from tests.exporting.runs import ExportedBottle
from tests.package.test_signature import entries_of
from tests.prediction.inferring import infer, last_error, rows_of
from tests.required_tools import need_module


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a key that signed the packages below, and one that did not."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("team.key", "other.key"):
        make_key(folder / name)
    return folder


@pytest.fixture
def trust(keys: Path) -> TrustedKeys:
    return read_trusted_keys([keys / "team.key.pub"])


@pytest.fixture
def signed(copied: ExportedBottle, keys: Path) -> ExportedBottle:
    """A bottle whose package is signed."""
    sign_package(copied.package / "model_onnx.zip", key_of(keys))
    return copied


def key_of(keys: Path) -> SigningKey:
    from cls.package.keys import read_signing_key

    return read_signing_key(keys / "team.key")


def refused(signed: ExportedBottle, model: object, trust: TrustedKeys) -> SignatureError:
    with pytest.raises(SignatureError) as caught:
        open_classifier(str(model), signed.bottle, trust=trust, group=GROUP)
    return caught.value


def test_a_signed_zip_predicts_as_ever(
    signed: ExportedBottle, keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = signed.package / "model_onnx.zip"
    photos = ("--source", signed.bottle.pictures, "--whole", "--model", package)
    assert infer(signed, *photos, "--out", tmp_path / "plain") == 0
    assert infer(signed, *photos, "--out", tmp_path / "trusted", "--trust", keys / "team.key.pub") == 0
    assert rows_of(tmp_path / "trusted") == rows_of(tmp_path / "plain")
    assert len(rows_of(tmp_path / "plain")) == 24
    out = tmp_path / "refused"
    assert infer(signed, *photos, "--out", out, "--trust", keys / "other.key.pub", "--debug") == 1
    assert last_error(capsys).endswith("[signature.untrusted]")
    assert not out.exists()
    both = ("--trust", keys / "other.key.pub", "--trust", keys / "team.key.pub")
    assert infer(signed, *photos, "--out", out, *both) == 0


def test_the_group_s_exported_model_is_opened_from_its_zip(
    signed: ExportedBottle, keys: Path, tmp_path: Path, trust: TrustedKeys
) -> None:
    # The loose files are not signed, and are not read: whatever stands in them decides nothing.
    (signed.package / "model.onnx").write_bytes(b"not signed")
    meta = signed.package / "meta.json"
    meta.write_text(meta.read_text().replace("0.4", "0.9"))
    classifier = open_exported(signed.bottle, GROUP, trust)
    assert classifier.thresholds == tuple(signed.run.thresholds)
    assert open_classifier(str(signed.package), signed.bottle, trust=trust).source == classifier.source
    arguments = ("--group", GROUP, "--whole", "--out", tmp_path / "out", "--trust", keys / "team.key.pub")
    assert infer(signed, *arguments) == 0


def test_what_is_not_signed_is_refused(
    copied: ExportedBottle, keys: Path, trust: TrustedKeys, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    package = copied.package / "model_onnx.zip"
    run = copied.run.folder
    assert refused(copied, package, trust).code == "signature.missing"
    assert refused(copied, copied.package, trust).code == "signature.missing"
    for model in (copied.package / "model.onnx", run, run / "checkpoints" / "best.ckpt"):
        assert "--trust" in (refused(copied, model, trust).hint or "")
    (copied.package / "model_onnx.zip").unlink()
    error = refused(copied, copied.package, trust)
    assert error.code == "signature.unsupported_source"
    assert "model_onnx.zip" in error.what
    with pytest.raises(SignatureError) as caught:
        open_exported(copied.bottle, GROUP, trust)
    assert caught.value.code == "signature.unsupported_source"
    for url in ("http://127.0.0.1:9/v2/models/x", "grpc://127.0.0.1:9/x"):
        assert refused(copied, url, trust).code == "signature.unsupported_source"
        arguments = ("--source", copied.bottle.pictures, "--whole", "--out", tmp_path / "out", "--debug")
        assert infer(copied, *arguments, "--model", url, "--trust", keys) == 1
        assert last_error(capsys).endswith("[signature.unsupported_source]")


def test_the_zip_of_every_format_in_a_folder(signed: ExportedBottle, trust: TrustedKeys, tmp_path: Path) -> None:
    names = {
        "model.onnx": "model_onnx.zip",
        "model_fp16.onnx": "model_onnx_fp16.zip",
        "model_int8.onnx": "model_onnx_int8.zip",
        "model.xml": "model_openvino.zip",
        "model_int8.xml": "model_openvino_int8.zip",
        "model.pt": "model_torchscript.zip",
        "model.plan": "model_trt.zip",
        "model_fp16.plan": "model_trt_fp16.zip",
        "model_int8.plan": "model_trt_int8.zip",
    }
    from cls.exporting.formats.files import FILES

    assert {files.model: files.archive for files in FILES.values()} == names
    for model, archive in names.items():
        folder = tmp_path / archive
        folder.mkdir()
        (folder / model).write_bytes(b"")
        shutil.copy(signed.package / "meta.json", folder)
        error = refused(signed, folder, trust)
        assert error.code == "signature.unsupported_source"
        assert f" {archive}," in error.what
        shutil.copy(signed.package / "model_onnx.zip", folder / archive)
        assert open_classifier(str(folder), signed.bottle, trust=trust).source == str(folder / archive)


def test_no_runtime_sees_a_changed_model(
    signed: ExportedBottle, trust: TrustedKeys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither protobuf nor ONNX Runtime parses a byte before the signature was checked."""

    def parsed(*arguments: object, **options: object) -> None:
        raise AssertionError("an untrusted model was parsed")

    entries = entries_of(signed.package / "model_onnx.zip")
    entries["model.onnx"] = entries["model.onnx"][:-1] + b"\0"
    path = pack_files(tmp_path / "changed.zip", entries)
    monkeypatch.setattr("cls.package.verifying.read_onnx", parsed)
    monkeypatch.setattr("cls.package.verifying.parse_config", parsed)
    monkeypatch.setattr(opening, "OnnxRuntime", parsed)
    error = refused(signed, path, trust)
    assert error.code == "signature.changed"
    assert error.what.startswith("model.onnx ")


def test_a_zip_swapped_after_it_was_verified(
    signed: ExportedBottle, trust: TrustedKeys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is loaded is checked by itself, not by what was there when the package was verified."""
    path = tmp_path / "model_onnx.zip"
    shutil.copy(signed.package / "model_onnx.zip", path)
    entries = entries_of(path)
    verify = opening.verify_zip

    def swapped(zip_path: Path, **options: object) -> object:
        found = verify(zip_path, **options)  # type: ignore[arg-type]
        changed = entries["model.onnx"][:-1] + bytes([entries["model.onnx"][-1] ^ 1])
        pack_files(zip_path, {**entries, "model.onnx": changed})
        return found

    monkeypatch.setattr(opening, "verify_zip", swapped)
    error = refused(signed, path, trust)
    assert error.code == "signature.changed"
    assert error.where == f"{path}!model.onnx"


def test_from_python_and_by_configuration(
    signed: ExportedBottle, keys: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    package = signed.package / "model_onnx.zip"
    model = cls.open_model(package, whole=True, trust=keys / "team.key.pub", cfg=signed.cfg)
    assert model.labels == tuple(signed.run.labels)
    cls.open_model(package, whole=True, trust=[keys / "other.key.pub", keys / "team.key.pub"], cfg=signed.cfg)
    with pytest.raises(SignatureError):
        cls.open_model(package, whole=True, trust=str(keys / "other.key.pub"), cfg=signed.cfg)
    monkeypatch.setenv("CLS_PACKAGE_TRUST", str(keys / "other.key.pub"))
    with pytest.raises(SignatureError):
        cls.open_model(package, whole=True, cfg=signed.cfg)
    cls.open_model(package, whole=True, trust=keys / "team.key.pub", cfg=signed.cfg)
    assert infer(signed, "--group", GROUP, "--whole", "--out", tmp_path / "out") == 1
    from cls.cli.command import execute
    from cls.cli.segment_meta import COMMAND

    assert execute(COMMAND, ["--groups", GROUP, "--cfg", str(signed.cfg)]) == 1


@pytest.mark.long
def test_every_worker_of_a_cluster_checks(
    signed: ExportedBottle, keys: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    need_module("distributed")
    arguments = ("--source", signed.bottle.pictures, "--whole", "--model", signed.package / "model_onnx.zip")
    trusted = ("--trust", keys / "team.key.pub")
    assert infer(signed, *arguments, *trusted, "--out", tmp_path / "out", "--cluster") == 0
    assert len(rows_of(tmp_path / "out")) == 24
