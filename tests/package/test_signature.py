"""Whatever is changed in a signed package is seen by whoever knows the key, and by nobody's word but the key's."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cls.errors import PackageError, SignatureError
from cls.package import signature as signature_module
from cls.package.archive import open_package, open_zip, pack_files
from cls.package.card import card_of
from cls.package.keys import SigningKey, TrustedKeys, fingerprint_of, make_key, read_trusted_keys
from cls.package.meta import ModelMeta, parse_meta
from cls.package.packing import PackedModel, write_package
from cls.package.signature import (
    MAX_SIGNATURE_BYTES,
    MAX_SIGNATURES,
    SIGNATURE_FILE_NAME,
    KeySignature,
    Manifest,
    PackageSignature,
    SignedFile,
    layout_faults,
    parse_signature,
    sign,
)
from cls.package.triton_config import build_config, digest_of_config, with_meta
from cls.package.verifying import sign_package, verify_zip
from tests.package.metas import make_meta
from tests.package.zips import fault_of, onnx_bytes, plan_zip


class Team:
    """A key, its file, and those who trust it."""

    def __init__(self, folder: Path, name: str) -> None:
        self.file = folder / name
        self.key: SigningKey = make_key(self.file)
        self.trust: TrustedKeys = read_trusted_keys([folder / f"{name}.pub"])


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory) -> Team:
    return Team(tmp_path_factory.mktemp("keys"), "team.key")


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Team:
    return Team(tmp_path_factory.mktemp("other keys"), "other.key")


def both(*teams: Team) -> TrustedKeys:
    return TrustedKeys(tuple(pair for one in teams for pair in one.trust.keys))


def make_signed(folder: Path, signer: SigningKey | None, name: str = "model_onnx.zip", **changes: Any) -> Path:
    folder.mkdir(exist_ok=True)
    meta = make_meta(**changes)
    files: dict[str, Path | bytes] = {"model.onnx": onnx_bytes(folder, 1, meta)}
    write_package(folder / name, meta, PackedModel("onnx", "onnxruntime_onnx", files), signer)
    return folder / name


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory, team: Team) -> Path:
    """A signed package; look, do not touch."""
    return make_signed(tmp_path_factory.mktemp("signed"), team.key)


def entries_of(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def repacked(signed: Path, folder: Path, change: Callable[[dict[str, bytes]], Any]) -> Path:
    """The package with its files changed, packed as CLS packs."""
    entries = entries_of(signed)
    change(entries)
    return pack_files(folder / "changed.zip", entries)


def refusal(path: Path, trust: TrustedKeys) -> SignatureError:
    """Refused in each way a package is read, before anything in it is understood."""
    with pytest.raises(SignatureError), open_package(path, trust=trust) as package:
        for name in package.names:
            package.read(name)
    found = verify_zip(path, trust=trust)
    assert found.problems
    assert "every file is as it was signed" not in found.checked
    assert found.distrust is not None
    assert found.meta is None
    with pytest.raises(SignatureError) as caught:
        found.raise_if_bad()
    return caught.value


def test_a_signed_package_is_in_order_for_everybody(signed: Path, team: Team) -> None:
    for trust, words in ((team.trust, "which is trusted"), (None, "not checked")):
        found = verify_zip(signed, trust=trust)
        assert found.problems == []
        assert found.distrust is None
        assert team.key.fingerprint in found.signature
        assert words in found.signature
        found.raise_if_bad()
    with open_package(signed, trust=team.trust) as package:
        assert package.signers == (team.key.fingerprint,)
        assert package.meta().labels == make_meta().labels
        assert set(package.names) == {"model.onnx", "meta.json", "config.pbtxt", SIGNATURE_FILE_NAME}
    with open_package(signed) as package:
        assert package.signers == ()


def test_the_signature_is_that_of_the_documentation(signed: Path, team: Team) -> None:
    """Checked with nothing of ours: what docs/packages.md says is enough to verify a package elsewhere."""
    from cryptography.hazmat.primitives.serialization import load_ssh_public_key

    entries = entries_of(signed)
    content = json.loads(entries.pop(SIGNATURE_FILE_NAME))
    assert (content["version"], content["algorithm"]) == (1, "Ed25519")
    message = json.dumps(content["manifest"], sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    public_key: Any = load_ssh_public_key(team.file.with_name("team.key.pub").read_bytes())
    public_key.verify(base64.b64decode(content["signatures"][0]["signature"]), message)
    assert content["manifest"] == {
        "type": "cls-model-package",
        "files": {
            name: {"sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data)}
            for name, data in entries.items()
        },
    }


def test_what_is_signed_byte_by_byte(team: Team) -> None:
    manifest = Manifest(
        files={
            "é": SignedFile(sha256="b" * 64, size_bytes=2),
            "a/b": SignedFile(sha256="a" * 64, size_bytes=10),
        }
    )
    text = (
        f'{{"files":{{"a/b":{{"sha256":"{"a" * 64}","size_bytes":10}},"é":{{"sha256":"{"b" * 64}","size_bytes":2}}}},'
        '"type":"cls-model-package"}'
    )
    assert manifest.message() == text.encode()
    signature = base64.b64encode(team.key.sign(text.encode())).decode()
    written = PackageSignature(
        manifest=manifest, signatures=[KeySignature(key_id=team.key.fingerprint, signature=signature)]
    )
    assert written.signers(team.trust, "x") == written.key_ids == (team.key.fingerprint,)
    assert parse_signature(written.to_bytes(), "x") == written
    assert list(json.loads(written.to_bytes())) == ["version", "algorithm", "manifest", "signatures"]


def test_the_same_package_signed_by_the_same_key_has_the_same_bytes(tmp_path: Path, signed: Path, team: Team) -> None:
    assert make_signed(tmp_path / "again", team.key).read_bytes() == signed.read_bytes()
    unsigned = make_signed(tmp_path / "unsigned", None)
    sign_package(unsigned, team.key)
    assert unsigned.read_bytes() == signed.read_bytes()
    sign_package(unsigned, team.key)
    assert unsigned.read_bytes() == signed.read_bytes()


def test_unsigned_and_signed_by_others(tmp_path: Path, signed: Path, team: Team, other: Team) -> None:
    unsigned = make_signed(tmp_path, None)
    assert refusal(unsigned, team.trust).code == "signature.missing"
    assert verify_zip(unsigned).signature == "not signed"
    assert verify_zip(unsigned).problems == []
    assert "cls package sign" in (refusal(unsigned, team.trust).hint or "")
    assert refusal(signed, other.trust).code == "signature.untrusted"
    assert "--trust" in (refusal(signed, other.trust).hint or "")
    assert team.key.fingerprint in refusal(signed, other.trust).what


def test_keys_are_rotated(tmp_path: Path, team: Team, other: Team) -> None:
    old, new = team, other
    path = make_signed(tmp_path, old.key)
    refusal(path, new.trust)
    assert verify_zip(path, trust=both(old, new)).problems == []
    signature = sign_package(path, new.key)
    assert set(signature.key_ids) == {old.key.fingerprint, new.key.fingerprint}
    for trust in (old.trust, new.trust, both(old, new), both(new, old)):
        assert verify_zip(path, trust=trust).problems == []
    with open_package(path, trust=both(old, new)) as package:
        assert set(package.signers) == {old.key.fingerprint, new.key.fingerprint}
    twice = path.read_bytes()
    sign_package(path, old.key)
    assert path.read_bytes() == twice


def test_a_wrong_signature_in_a_trusted_name_is_not_outvoted(tmp_path: Path, team: Team, other: Team) -> None:
    path = make_signed(tmp_path, team.key)
    sign_package(path, other.key)
    content = json.loads(entries_of(path)[SIGNATURE_FILE_NAME])
    content["signatures"][0]["signature"], content["signatures"][1]["signature"] = (
        content["signatures"][1]["signature"],
        content["signatures"][0]["signature"],
    )
    path = repacked(path, tmp_path, lambda entries: entries.update(as_written(content)))
    for trust in (team.trust, other.trust, both(team, other)):
        assert refusal(path, trust).code == "signature.invalid"


def as_written(content: Any) -> dict[str, bytes]:
    return {SIGNATURE_FILE_NAME: (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode()}


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_byte_of_any_file(data: st.DataObject, signed: Path, team: Team, tmp_path: Path) -> None:
    entries = entries_of(signed)
    name = data.draw(st.sampled_from(sorted(entries)))
    place = data.draw(st.integers(0, len(entries[name]) - 1))
    change = data.draw(st.integers(1, 255))
    content = bytearray(entries[name])
    content[place] ^= change
    refusal(repacked(signed, tmp_path, lambda files: files.update({name: bytes(content)})), team.trust)


def test_the_last_sign_of_a_signature(signed: Path, team: Team, tmp_path: Path) -> None:
    """Base64 ignores its last bits: another text of the same signature is another file all the same."""
    content = json.loads(entries_of(signed)[SIGNATURE_FILE_NAME])
    text = content["signatures"][0]["signature"]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    changed = text[:-3] + alphabet[alphabet.index(text[-3]) ^ 1] + "=="
    assert base64.b64decode(changed) == base64.b64decode(text)
    content["signatures"][0]["signature"] = changed
    refusal(repacked(signed, tmp_path, lambda files: files.update(as_written(content))), team.trust)


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_byte_of_the_zip_itself(data: st.DataObject, signed: Path, team: Team, tmp_path: Path) -> None:
    """Refused, or every file is read as it was signed: compressed bytes may say one thing in two ways."""
    content = bytearray(signed.read_bytes())
    place = data.draw(st.one_of(st.integers(0, len(content) - 1), st.integers(len(content) - 320, len(content) - 1)))
    content[place] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "flipped.zip"
    path.write_bytes(content)
    try:
        with open_package(path, trust=team.trust) as package:
            read = {name: package.read(name) for name in package.names}
    except PackageError:
        return
    assert read == entries_of(signed)


def unchanged(text: str) -> str:
    return text


def forged(
    signed: Path,
    folder: Path,
    edit: Callable[[dict[str, Any]], None],
    edit_config: Callable[[str], str] = unchanged,
) -> Path:
    """meta.json changed as somebody does who knows the format: its copy in config.pbtxt and all digests with it."""
    entries = entries_of(signed)
    content = json.loads(entries["meta.json"])
    edit(content)
    config = edit_config(build_config(parse_meta({**content, "package": None})))
    content["package"]["files"]["config.pbtxt"] = digest_of_config(config)
    content["package"]["files"]["model.onnx"] = hashlib.sha256(entries["model.onnx"]).hexdigest()
    meta = parse_meta(content)
    own = json.loads(entries[SIGNATURE_FILE_NAME])
    entries["meta.json"] = meta.to_json().encode()
    entries["config.pbtxt"] = with_meta(config, meta.to_json()).encode()
    for name in ("meta.json", "config.pbtxt"):
        own["manifest"]["files"][name] = {
            "sha256": hashlib.sha256(entries[name]).hexdigest(),
            "size_bytes": len(entries[name]),
        }
    return pack_files(folder / "forged.zip", {**entries, **as_written(own)})


EDITS: dict[str, Callable[[dict[str, Any]], None]] = {
    "thresholds": lambda meta: meta["thresholds"].update({"red hair": 0.1}),
    "metrics": lambda meta: meta["metrics"].update({"f1": 0.99}),
    "group": lambda meta: meta.update(group="top_color"),
    "training.run": lambda meta: meta["training"].update(run="v__9_train_eff_4_0.001"),
    "created_at": lambda meta: meta.update(created_at="2027-01-02T03:04:05Z"),
    "code_version": lambda meta: meta.update(code_version="9"),
    "model_version": lambda meta: meta.update(model_version="1.2.3"),
    "digests": lambda meta: meta["digests"].update(dataset="e" * 64),
    "weights": lambda meta: meta["digests"].update(weights="e" * 64),
    "person": lambda meta: meta["person"].update(segmentation_models=["other"]),
    "an added key": lambda meta: meta.update(note="trust me"),
    "format": lambda meta: meta["package"].update(format="onnx_fp16"),
    "parity": lambda meta: meta.update(
        parity={
            "onnx": {
                "runtime": "x",
                "samples": 9,
                "batch_sizes": [1],
                "max_probability_difference": 0,
                "mean_probability_difference": 0,
                "label_flips": 0,
                "label_flips_beyond_limit": 0,
                "limit": 0.001,
            }
        }
    ),
}


@pytest.mark.parametrize("field", EDITS)
def test_a_forged_meta_json_passes_everything_but_the_signature(
    signed: Path, team: Team, tmp_path: Path, field: str
) -> None:
    path = forged(signed, tmp_path, EDITS[field])
    assert verify_zip(path).problems == []  # why packages are signed
    assert refusal(path, team.trust).code == "signature.invalid"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("max_batch_size: 64", "max_batch_size: 8"),
        ("count: 1", "count: 9"),
        ("preferred_batch_size: 16", "preferred_batch_size: 24"),
    ],
)
def test_a_forged_config(signed: Path, team: Team, tmp_path: Path, old: str, new: str) -> None:
    path = forged(signed, tmp_path, lambda meta: None, lambda text: text.replace(old, new))
    assert entries_of(path)["config.pbtxt"] != entries_of(signed)["config.pbtxt"]
    assert verify_zip(path).problems == []
    assert refusal(path, team.trust).code == "signature.invalid"


def leaves_of(content: Any) -> list[tuple[Any, Any]]:
    """Every value that is no list and no object: what holds it, and under which key."""
    pairs = content.items() if isinstance(content, dict) else enumerate(content)
    found: list[tuple[Any, Any]] = []
    for key, value in list(pairs):
        found += leaves_of(value) if isinstance(value, dict | list) else [(content, key)]
    return found


def other_value(value: Any) -> Any:
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, str):
        return value[:-1] + ("1" if value.endswith("0") else "0")
    return value + 1 if isinstance(value, int) else value / 2 + 0.001


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_value_of_meta_json(data: st.DataObject, signed: Path, team: Team, tmp_path: Path) -> None:
    def edit(meta: dict[str, Any]) -> None:
        # The digests of the files follow from the rest.
        leaves = [leaf for leaf in leaves_of(meta) if leaf[0] is not meta["package"]["files"]]
        holder, key = data.draw(st.sampled_from(leaves))
        holder[key] = other_value(holder[key])

    try:
        path = forged(signed, tmp_path, edit)
    except PackageError:
        return  # not even a meta.json
    refusal(path, team.trust)


def test_a_forged_meta_json_with_the_signature_left_as_it_was(signed: Path, team: Team, tmp_path: Path) -> None:
    forged_entries = entries_of(forged(signed, tmp_path, EDITS["thresholds"]))
    forged_entries[SIGNATURE_FILE_NAME] = entries_of(signed)[SIGNATURE_FILE_NAME]
    path = pack_files(tmp_path / "half.zip", forged_entries)
    error = refusal(path, team.trust)
    assert error.code == "signature.changed"
    assert "config.pbtxt" in error.what
    assert "meta.json" in error.what
    # Without a key, it is at least seen that files and signature disagree.
    changed = [problem for problem in verify_zip(path).problems if problem.code == "package.changed"]
    assert any(problem.startswith("meta.json ") for problem in changed)


def resigned(meta: ModelMeta, signed: Path, folder: Path, signer: SigningKey) -> Path:
    entries = entries_of(signed)
    files: dict[str, Path | bytes] = {"model.onnx": entries["model.onnx"]}
    write_package(folder / "by_other.zip", meta, PackedModel("onnx", "onnxruntime_onnx", files), signer)
    return folder / "by_other.zip"


def test_a_key_id_cannot_be_borrowed(signed: Path, team: Team, other: Team, tmp_path: Path) -> None:
    """Signed again by a key of one's own, in the name of the trusted one."""
    path = resigned(make_meta(code_version="9"), signed, tmp_path, other.key)
    content = json.loads(entries_of(path)[SIGNATURE_FILE_NAME])
    content["signatures"][0]["key_id"] = team.key.fingerprint
    refusal(repacked(path, tmp_path, lambda files: files.update(as_written(content))), team.trust)


@pytest.mark.parametrize(
    "name", ["extra.txt", "model.bin", "rebuild/model.onnx", "signature.json.bak", "nested/meta.json"]
)
def test_a_file_added(signed: Path, team: Team, tmp_path: Path, name: str) -> None:
    path = repacked(signed, tmp_path, lambda files: files.update({name: b"x"}))
    (fault,) = refusal(path, team.trust).faults
    assert fault.code == "package.not_signed"
    assert f" {name}," in fault
    assert fault_of(verify_zip(path).problems, "package.not_signed").startswith(f"{name} ")


@pytest.mark.parametrize("name", ["model.onnx", "meta.json", "config.pbtxt"])
def test_a_file_removed_or_renamed(signed: Path, team: Team, tmp_path: Path, name: str) -> None:
    path = repacked(signed, tmp_path, lambda files: files.pop(name))
    (fault,) = refusal(path, team.trust).faults
    assert fault.code == "package.missing_file"
    assert fault.endswith(f" {name}")
    missing = [problem for problem in verify_zip(path).problems if problem.code == "package.missing_file"]
    assert missing[0].startswith(f"{name} ")
    path = repacked(signed, tmp_path, lambda files: files.update({f"{name}x": files.pop(name)}))
    gone, added = refusal(path, team.trust).faults
    assert (gone.code, added.code) == ("package.missing_file", "package.not_signed")
    assert gone.endswith(f" {name}")
    assert f" {name}x," in added


def test_two_files_that_change_places(tmp_path: Path, team: Team) -> None:
    path = tmp_path / "a.zip"
    files: dict[str, Path | bytes] = {"a": b"1", "b": b"2"}
    pack_files(path, {**files, SIGNATURE_FILE_NAME: sign(files, team.key)})
    with open_zip(path, trust=team.trust) as contents:
        assert [contents.read(name) for name in ("a", "b")] == [b"1", b"2"]
    path = repacked(path, tmp_path, lambda entries: entries.update(a=b"2", b=b"1"))
    with open_zip(path, trust=team.trust) as contents:
        for name in ("a", "b"):
            with pytest.raises(SignatureError) as caught:
                contents.read(name)
            assert caught.value.code == "signature.changed"
            with pytest.raises(SignatureError):
                contents.start(1, name)
            with pytest.raises(SignatureError):
                contents.read_text_bytes(name)
            with pytest.raises(SignatureError):
                contents.extract(tmp_path / "out")
    assert not (tmp_path / "out" / "a").exists()


def stored(path: Path, entries: dict[str, bytes]) -> Path:
    """A zip without compression, so that its checksums can be forged in place."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in sorted(entries):
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), entries[name])
    return path


def test_a_file_that_changes_in_place_between_check_and_use(team: Team, tmp_path: Path) -> None:
    """The very bytes that are handed out are checked, not those that were there a moment before."""
    content = os.urandom(3 << 20)  # more than a reader keeps in memory
    files: dict[str, bytes] = {"a": content, "b": b"2"}
    path = stored(tmp_path / "stored.zip", {**files, SIGNATURE_FILE_NAME: sign(files, team.key)})
    with open_zip(path, trust=team.trust) as contents:
        assert contents.read("a") == content
        # CRC-32 is linear: four bytes chosen well keep it as it was.
        altered = force_crc(bytes([content[0] ^ 1]) + content[1:], zlib.crc32(content))
        with path.open("r+b") as stream:
            stream.seek(path.read_bytes().index(content))
            stream.write(altered)
        with zipfile.ZipFile(path) as archive:
            assert archive.read("a") == altered != content  # no checksum of the zip tells
        with pytest.raises(SignatureError) as caught:
            contents.read("a")
        assert caught.value.code == "signature.changed"


def force_crc(content: bytes, crc: int) -> bytes:
    """The content with its last four bytes chosen so that its CRC-32 is the given one."""
    head = content[:-4]
    # Each of the 32 bits turns fixed bits of the checksum: solved by elimination.
    base = zlib.crc32(head + bytes(4)) ^ crc
    rows = [
        (zlib.crc32(head + (1 << bit).to_bytes(4, "little")) ^ zlib.crc32(head + bytes(4)), 1 << bit)
        for bit in range(32)
    ]
    solution = 0
    for bit in range(32):
        pivot = next(row for row in rows if row[0] >> bit & 1)
        rows.remove(pivot)
        rows = [(a ^ pivot[0], b ^ pivot[1]) if a >> bit & 1 else (a, b) for a, b in rows]
        if base >> bit & 1:
            base, solution = base ^ pivot[0], solution ^ pivot[1]
    made = head + solution.to_bytes(4, "little")
    assert zlib.crc32(made) == crc
    return made


# What zip programs disagree about. Without a signature to check, most of it is harmless and stays allowed.


def disguised(signed: Path, folder: Path, change: Callable[[bytes], bytes]) -> Path:
    path = folder / "disguised.zip"
    path.write_bytes(change(signed.read_bytes()))
    return path


def with_comment(content: bytes) -> bytes:
    return content[:-2] + struct.pack("<H", 5) + b"hello"


def with_gap(content: bytes) -> bytes:
    """Bytes between the last file and the directory, whose place is corrected."""
    place = struct.unpack_from("<L", content, len(content) - 6)[0]
    moved = content[:place] + b"hidden" + content[place:]
    return moved[:-6] + struct.pack("<L", place + 6) + moved[-2:]


def with_fewer_entries(content: bytes) -> bytes:
    """An end that counts one file less than the directory holds."""
    count = struct.unpack_from("<H", content, len(content) - 12)[0]
    return content[:-14] + struct.pack("<HH", count - 1, count - 1) + content[-10:]


def with_other_disk(content: bytes) -> bytes:
    place = struct.unpack_from("<L", content, len(content) - 6)[0]
    return content[: place + 34] + b"\1\0" + content[place + 36 :]


def with_another_local_name(content: bytes) -> bytes:
    return content.replace(b"config.pbtxt", b"config.pbtxX", 1)


def with_another_local_size(content: bytes) -> bytes:
    return content[:22] + struct.pack("<L", 7) + content[26:]


@pytest.mark.parametrize(
    "change",
    [
        lambda content: b"#!/bin/sh\n" + content,
        lambda content: content + b"tail",
        lambda content: content + content,
        with_comment,
        with_gap,
        with_fewer_entries,
        with_other_disk,
        with_another_local_name,
        with_another_local_size,
    ],
    ids=["prefix", "tail", "twice", "comment", "gap", "count", "disk", "local name", "local size"],
)
def test_zips_that_can_be_read_in_two_ways(
    signed: Path, team: Team, tmp_path: Path, change: Callable[[bytes], bytes]
) -> None:
    path = disguised(signed, tmp_path, change)
    with pytest.raises(PackageError), open_package(path, trust=team.trust):
        pass
    assert verify_zip(path, trust=team.trust).problems


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_entries_of_one_name_a_folder_and_extra_fields(signed: Path, team: Team, tmp_path: Path) -> None:
    def appended(info: zipfile.ZipInfo, content: bytes) -> Path:
        path = tmp_path / "appended.zip"
        path.write_bytes(signed.read_bytes())
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(info, content)
        return path

    meta = entries_of(signed)["meta.json"]
    path = appended(zipfile.ZipInfo("meta.json"), meta.replace(b"0.5", b"0.1"))
    with pytest.raises(PackageError) as caught, open_package(path, trust=team.trust):
        pass
    assert caught.value.code == "package.duplicate_name"
    (fault,) = refusal(appended(zipfile.ZipInfo("folder/"), b""), team.trust).faults
    assert fault.code == "package.not_signed"
    assert " folder/," in fault
    entries = entries_of(signed)
    for field, value in (("extra", b"\x99\x99\0\0"), ("comment", b"hello")):
        path = tmp_path / f"{field}.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for name in sorted(entries):
                info = zipfile.ZipInfo(name)
                setattr(info, field, value)
                archive.writestr(info, entries[name])
        assert verify_zip(path).problems == []
        assert refusal(path, team.trust).code == "signature.ambiguous_zip"


def test_a_zip_written_by_another_program_is_good_if_it_hides_nothing(signed: Path, team: Team, tmp_path: Path) -> None:
    assert verify_zip(stored(tmp_path / "stored.zip", entries_of(signed)), trust=team.trust).problems == []


def test_a_zip_written_to_a_pipe_is_refused(signed: Path, team: Team, tmp_path: Path) -> None:
    """Its sizes stand behind the files, where programs look for them in different ways."""

    class Pipe:
        def __init__(self, path: Path) -> None:
            self.stream = path.open("wb")

        def write(self, content: bytes) -> int:
            return self.stream.write(content)

        def flush(self) -> None:
            self.stream.flush()

    pipe = Pipe(tmp_path / "pipe.zip")
    with zipfile.ZipFile(pipe, "w") as archive:  # type: ignore[call-overload]
        for name, content in entries_of(signed).items():
            archive.writestr(name, content)
    pipe.stream.close()
    assert refusal(tmp_path / "pipe.zip", team.trust).code == "signature.ambiguous_zip"


@pytest.mark.parametrize(
    "edit",
    [
        lambda content: content.update(version=2),
        lambda content: content.update(version=True),
        lambda content: content.update(algorithm="none"),
        lambda content: content.update(algorithm="ed25519"),
        lambda content: content.update(note=""),
        lambda content: content.update(signatures=[]),
        lambda content: content.update(signatures=content["signatures"] * 2),
        lambda content: content.update(manifest={}),
        lambda content: content["manifest"].update(files={}),
        lambda content: content["manifest"].update(type="other"),
        lambda content: content["manifest"].pop("type"),
        lambda content: content["manifest"]["files"]["meta.json"].update(size_bytes=-1),
        lambda content: content["manifest"]["files"]["meta.json"].update(size_bytes=1.0),
        lambda content: content["manifest"]["files"]["meta.json"].update(sha256="A" * 64),
        lambda content: content["manifest"]["files"]["meta.json"].update(sha256="a" * 63),
        lambda content: content["manifest"]["files"]["meta.json"].pop("sha256"),
        lambda content: content["signatures"][0].update(signature=""),
        lambda content: content["signatures"][0].update(signature="A" * 88),
        lambda content: content["signatures"][0].update(key_id="MD5:x"),
        lambda content: content["signatures"][0].update(extra=1),
    ],
)
def test_texts_that_are_no_signature(
    signed: Path, team: Team, tmp_path: Path, edit: Callable[[dict[str, Any]], Any]
) -> None:
    content = json.loads(entries_of(signed)[SIGNATURE_FILE_NAME])
    edit(content)
    path = repacked(signed, tmp_path, lambda files: files.update(as_written(content)))
    assert refusal(path, team.trust).code == "signature.malformed"
    assert verify_zip(path).problems  # without keys, too
    with pytest.raises(SignatureError):
        card_of(path)


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000, b'{"version": 1, "version": 1}'], ids=range(7)
)
def test_bytes_that_are_no_signature(text: bytes) -> None:
    with pytest.raises(SignatureError):
        parse_signature(text, "x")


def test_another_layout_of_the_same_signature(signed: Path) -> None:
    content = entries_of(signed)[SIGNATURE_FILE_NAME]
    parse_signature(content, "x")
    for changed in (content + b" ", content.replace(b"  ", b" "), content[:-1], b"\xef\xbb\xbf" + content):
        with pytest.raises(SignatureError):
            parse_signature(changed, "x")


def test_how_big_a_signature_may_be(signed: Path, team: Team, tmp_path: Path) -> None:
    for size, code in ((MAX_SIGNATURE_BYTES, "signature.malformed"), (MAX_SIGNATURE_BYTES + 1, "package.too_large")):
        path = stored(tmp_path / "big.zip", {**entries_of(signed), SIGNATURE_FILE_NAME: b"x" * size})
        with pytest.raises(PackageError) as caught, open_package(path, trust=team.trust):
            pass
        assert caught.value.code == code


def test_how_many_signatures_there_may_be(team: Team, tmp_path: Path) -> None:
    files: dict[str, Path | bytes] = {"a": b"1"}
    content = json.loads(sign(files, team.key))
    content["signatures"] += [
        {"key_id": fingerprint_of(bytes([number] * 32)), "signature": "A" * 86 + "=="}
        for number in range(MAX_SIGNATURES - 1)
    ]
    content["signatures"].sort(key=lambda entry: entry["key_id"])
    full = parse_signature(as_written(content)[SIGNATURE_FILE_NAME], "x")
    assert len(full.signatures) == MAX_SIGNATURES
    assert parse_signature(sign(files, team.key, full), "x") == full  # a key that is there takes no new place
    with pytest.raises(SignatureError) as caught:
        sign(files, make_key(tmp_path / "one more.key"), full)
    assert caught.value.code == "signature.too_many"
    assert str(MAX_SIGNATURES) in caught.value.what
    content["signatures"].append({"key_id": fingerprint_of(bytes([99] * 32)), "signature": "A" * 86 + "=="})
    content["signatures"].sort(key=lambda entry: entry["key_id"])
    with pytest.raises(SignatureError):
        parse_signature(as_written(content)[SIGNATURE_FILE_NAME], "x")


def test_how_big_a_signed_package_may_be(team: Team, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signature_module, "MAX_SIGNED_BYTES", 10)
    sign({"a": b"12345", "b": b"67890"}, team.key)
    with pytest.raises(SignatureError) as caught:
        sign({"a": b"12345", "b": b"678901"}, team.key)
    assert caught.value.code == "signature.too_large"
    assert "11 bytes" in caught.value.what
    assert "at most 10" in caught.value.what


def test_files_are_signed_as_their_content_is(tmp_path: Path, team: Team) -> None:
    for size in (0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1):
        (tmp_path / "file").write_bytes(b"x" * size)
        assert sign({"a": tmp_path / "file"}, team.key) == sign({"a": b"x" * size}, team.key)


def test_only_packages_in_order_are_signed(signed: Path, team: Team, other: Team, tmp_path: Path) -> None:
    broken = repacked(signed, tmp_path, lambda files: files.pop(SIGNATURE_FILE_NAME) and files.update({"x": b""}))
    before = broken.read_bytes()
    with pytest.raises(PackageError) as caught:
        sign_package(broken, team.key)
    assert caught.value.code == "package.invalid"
    assert [fault.code for fault in caught.value.faults] == ["package.unknown_file"]
    assert caught.value.what.startswith("x ")
    assert caught.value.where == str(broken)
    assert broken.read_bytes() == before
    changed = forged(signed, tmp_path, EDITS["thresholds"])
    entries = entries_of(changed)
    entries[SIGNATURE_FILE_NAME] = entries_of(signed)[SIGNATURE_FILE_NAME]
    path = pack_files(tmp_path / "half.zip", entries)
    with pytest.raises(SignatureError) as caught:
        sign_package(path, other.key)
    assert caught.value.code == "signature.changed"
    assert entries_of(path) == entries
    assert {file.name for file in tmp_path.iterdir()} == {"changed.zip", "forged.zip", "half.zip"}


def test_packages_of_earlier_versions_can_be_signed(tmp_path: Path, team: Team) -> None:
    from tests.model_storage.packages import make_package

    path = make_package(tmp_path)
    sign_package(path, team.key)
    found = verify_zip(path, trust=team.trust)
    assert found.problems == []
    assert "schema version 1" in found.not_checked[0]


def test_a_plan_s_zip_with_all_it_carries(tmp_path: Path, team: Team) -> None:
    path = plan_zip(tmp_path, people=2)
    sign_package(path, team.key)
    assert verify_zip(path, trust=team.trust).problems == []
    for name in ("rebuild/model.onnx", "rebuild/samples.npz", "model.plan"):
        changed = repacked(path, tmp_path, lambda files, name=name: files.update({name: files[name] + b"\0"}))
        error = refusal(changed, team.trust)
        assert error.code == "signature.changed"
        assert fault_of(error.faults, "signature.changed").startswith(f"{name} ")


def test_the_card_names_who_signed(signed: Path, team: Team, tmp_path: Path) -> None:
    card = card_of(signed)
    assert f"signature      signed by {team.key.fingerprint}, which" in card.text()
    assert json.loads(card.to_json())["signed_by"] == [team.key.fingerprint]
    unsigned = card_of(make_signed(tmp_path, None))
    assert "signature      not signed\n" in unsigned.text()
    assert json.loads(unsigned.to_json())["signed_by"] == []


def test_the_layout_of_a_zip_has_codes(tmp_path: Path) -> None:
    file = tmp_path / "package.zip"
    pack_files(file, {"meta.json": b"{}"})
    with zipfile.ZipFile(file) as archive:
        assert layout_faults(archive, file) == []
    whole = file.read_bytes()
    file.write_bytes(whole + b"more")
    with zipfile.ZipFile(file) as archive:
        assert [fault.code for fault in layout_faults(archive, file)] == ["package.stray_bytes"]
    file.write_bytes(b"more" + whole)
    with zipfile.ZipFile(file) as archive:
        assert [fault.code for fault in layout_faults(archive, file)] == ["package.ambiguous_entry"]
